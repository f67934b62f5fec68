(** * |x - y| has no finite-rank expansion on a continuum

    On L points its rank is L: every expansion has at least as many terms as there are points. *)

From mathcomp Require Import all_ssreflect all_algebra.
From Patchsim Require Import Windows.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import GRing.Theory Num.Theory Order.TTheory.
Local Open Scope ring_scope.

Section Independence.

Variables (F : realFieldType) (n : nat) (v : nat -> F) (c : 'I_n -> F).

Hypothesis v_incr : forall i j, (i < j < n)%N -> v i < v j.

(** Sum of the c_j with j <= i. *)
Let head (i : nat) : F := \sum_(j < n) c j * (j <= i)%N%:R.
Let all_c : F := \sum_(j < n) c j.

Let f (i : nat) : F := \sum_(j < n) c j * `|v i - v j|.

(** f(i+1) - f(i) = (v_(i+1) - v_i) (sum_(j <= i) c_j - sum_(j > i) c_j). *)
Lemma slope i : (i.+1 < n)%N -> f i.+1 - f i = (v i.+1 - v i) * (2%:R * head i - all_c).
Proof.
move=> lt_in; rewrite /f /head /all_c mulr_sumr -!sumrB mulr_sumr; apply: eq_bigr => j _.
have lt_i : v i < v i.+1 by apply: v_incr; rewrite ltnSn.
case: (leqP j i) => [le_ji | lt_ij].
  have le_v : v j <= v i.
    by case: (ltngtP j i) le_ji => // [lt_ji | ->] _; rewrite // ltW // v_incr // lt_ji ltnW.
  rewrite !ger0_norm ?subr_ge0 ?(le_trans le_v (ltW lt_i)) //.
  by rewrite -mulrBr opprB addrA subrK mulr1 mulr_natl mulr2n addrK mulrC.
have le_v : v i.+1 <= v j.
  case: (ltngtP i.+1 j) lt_ij => // [lt_ij | ->] _ //.
  by rewrite ltW // v_incr // lt_ij ltn_ord.
rewrite !ler0_norm ?subr_le0 ?(le_trans (ltW lt_i) le_v) //.
rewrite -mulrBr mulr0 mulr0 sub0r mulrN [X in _ = - X]mulrC -mulrN !opprB addrC.
by rewrite addrA subrK.
Qed.

Lemma head_step i (lt_in : (i.+1 < n)%N) : head i.+1 = head i + c (Ordinal lt_in).
Proof.
rewrite /head (bigD1 (Ordinal lt_in)) //= leqnn mulr1 addrC; congr (_ + _).
rewrite [RHS](bigD1 (Ordinal lt_in)) //= ltnn mulr0 add0r.
apply: eq_bigr => j neq_j; rewrite leq_eqVlt ltnS; case: eqP => // eq_j.
by case/eqP: neq_j; apply: val_inj.
Qed.

(** For v_0 < v_1 < ... < v_(n-1), n >= 2: if sum_j c_j |v_i - v_j| = 0 for all i, then c = 0.
    f(t) = sum_j c_j |t - v_j| is linear between neighbouring points, and zero at both; so its
    slopes 2 (c_0 + ... + c_i) - (c_0 + ... + c_(n-1)) are zero, hence c_1 = ... = c_(n-2) = 0 and
    c_0 = c_(n-1); then f(v_0) = 0 leaves c_(n-1) (v_(n-1) - v_0) = 0. *)
Theorem abs_independent : (1 < n)%N ->
  (forall i : 'I_n, \sum_(j < n) c j * `|v i - v j| = 0) -> forall j, c j = 0.
Proof.
move=> n_gt1 f0.
have f_eq0 i : (i < n)%N -> f i = 0 by move=> lt_in; exact: (f0 (Ordinal lt_in)).
have headE i : (i.+1 < n)%N -> 2%:R * head i = all_c.
  move=> lt_in; have := slope lt_in; rewrite !f_eq0 ?(ltnW lt_in) // subrr => /esym/eqP.
  by rewrite mulf_eq0 subr_eq0 gt_eqF ?v_incr ?ltnSn //= subr_eq0 => /eqP.
have inner i (lt_in : (i.+1 < n)%N) : (i.+2 < n)%N -> c (Ordinal lt_in) = 0.
  move=> lt_i2n; have := headE _ lt_i2n; rewrite (head_step lt_in) mulrDr headE //.
  by move/eqP; rewrite -subr_eq0 addrAC subrr add0r mulf_eq0 pnatr_eq0 => /eqP.
have last_lt : (n.-1 < n)%N by rewrite prednK // ltnW.
have first_lt : (0 < n)%N by rewrite ltnW.
pose first := Ordinal first_lt; pose last := Ordinal last_lt.
have middle0 j : j != first -> j != last -> c j = 0.
  case: j => -[|i] lt_in neq_first neq_last; first by case/eqP: neq_first; apply: val_inj.
  apply: inner; rewrite ltn_neqAle lt_in andbT; apply: contraNneq neq_last => eq_i.
  by apply/eqP/val_inj; rewrite /= -eq_i.
have neq_fl : last != first by rewrite -val_eqE /= -lt0n -ltnS prednK.
have last0 : c last = 0.
  have : f 0 = 0 by apply: f_eq0.
  rewrite /f (bigD1 last) //= big1 ?addr0 => [|j neq_j]; last first.
    have [-> | neq_j0] := eqVneq j first; first by rewrite subrr normr0 mulr0.
    by rewrite middle0 ?mul0r.
  have lt_v : v 0%N < v n.-1 by rewrite v_incr // last_lt andbT -ltnS prednK.
  by move/eqP; rewrite mulf_eq0 normr_eq0 subr_eq0 (lt_eqF lt_v) orbF => /eqP.
have first0 : c first = 0.
  have := headE 0%N n_gt1; rewrite /head /all_c.
  rewrite (bigD1 first) //= mulr1 big1 => [|j neq_j]; last first.
    by rewrite leqn0 -[j == _ :> nat]/(j == first) (negbTE neq_j) mulr0.
  rewrite (bigD1 first) //= addr0 [X in _ = _ + X]big1 => [|j neq_j]; last first.
    by have [-> | neq_jl] := eqVneq j last; rewrite ?last0 // middle0.
  by rewrite addr0 mulr_natl mulr2n => /eqP; rewrite -subr_eq0 addrK => /eqP.
move=> j; have [-> // | neq_jf] := eqVneq j first.
by have [-> // | neq_jl] := eqVneq j last; apply: middle0.
Qed.

End Independence.

(** ** Rank *)

Section Rank.

Variable F : realFieldType.

(** The matrix |v_i - v_j| of n >= 2 points v_0 < ... < v_(n-1) has full rank n. *)
Theorem abs_full_rank (n : nat) (v : nat -> F) :
  (1 < n)%N -> (forall i j, (i < j < n)%N -> v i < v j) ->
  \rank (\matrix_(i < n, j < n) `|v i - v j|) = n.
Proof.
move=> n_gt1 v_incr; apply/eqP; rewrite -/(row_free _); apply/inj_row_free => u uM0.
apply/rowP => j; rewrite mxE; move: j.
apply: (abs_independent v_incr n_gt1 (c := fun j => u 0 j)) => i.
move/rowP/(_ i): uM0; rewrite !mxE => uM0; rewrite -[RHS]uM0.
by apply: eq_bigr => j _; rewrite mxE distrC.
Qed.

(** A d with independent rows at v_0, ..., v_(n-1) has no expansion of fewer than n terms there:
    its n x n matrix would be a product of an n x R and an R x n matrix, of rank at most R. *)
Lemma terms_lower_bound (n R : nat) (d : F -> F -> F) (v : nat -> F) (f g : 'I_R -> F -> F) :
  (forall c : 'I_n -> F, (forall i : 'I_n, \sum_(j < n) c j * d (v i) (v j) = 0) ->
     forall j, c j = 0) ->
  (forall i j : 'I_n, d (v i) (v j) = \sum_(r < R) f r (v i) * g r (v j)) -> (n <= R)%N.
Proof.
move=> independent expansion; pose M := \matrix_(j < n, i < n) d (v i) (v j).
have <- : \rank M = n.
  apply/eqP; rewrite -/(row_free _); apply/inj_row_free => u uM0; apply/rowP => j.
  rewrite mxE; move: j; apply: independent => i; move/rowP/(_ i): uM0; rewrite !mxE => uM0.
  by rewrite -[RHS]uM0; apply: eq_bigr => j _; rewrite mxE.
have -> : M = (\matrix_(j < n, r < R) g r (v j)) *m (\matrix_(r < R, i < n) f r (v i)).
  apply/matrixP => j i; rewrite !mxE expansion.
  by apply: eq_bigr => r _; rewrite !mxE mulrC.
by rewrite (leq_trans (mxrankM_maxl _ _)) // rank_leq_col.
Qed.

(** Distinct points, sorted. *)
Lemma sorted_points (s : seq F) : uniq s ->
  exists2 v : nat -> F, (forall i, (i < size s)%N -> v i \in s)
                      & (forall i j, (i < j < size s)%N -> v i < v j).
Proof.
move=> s_uniq; pose t := sort <=%O s; exists (nth 0 t) => [i lt_i | i j /andP [lt_ij lt_j]].
  by rewrite -(mem_sort <=%O) mem_nth ?size_sort.
have := lt_sorted_ltn_nth 0 (s := t).
rewrite lt_sorted_uniq_le sort_uniq s_uniq sort_le_sorted => -> //;
  by rewrite inE size_sort // (ltn_trans lt_ij).
Qed.

(** If |x - y| = sum_(r < R) f_r(x) g_r(y) for all x, y in a list s of at least two distinct
    points, then s has at most R points: the matrix |x_i - x_j| has rank size(s). *)
Theorem abs_rank_lower_bound (s : seq F) (R : nat) (f g : 'I_R -> F -> F) :
  uniq s -> (1 < size s)%N ->
  {in s &, forall x y, `|x - y| = \sum_(r < R) f r x * g r y} -> (size s <= R)%N.
Proof.
move=> s_uniq s_size expansion; have [v v_in v_incr] := sorted_points s_uniq.
apply: (@terms_lower_bound _ R (fun x y => `|x - y|) v f g) => [c | i j].
  exact: abs_independent.
by apply: expansion; apply: v_in.
Qed.

(** On L >= 2 distinct points the rank of |x - y| is exactly L: an expansion with R terms exists
    iff R >= L. With L terms there is the table, f_r(x) = |x - s_r| and g_r(y) = [y = s_r]. *)
Theorem abs_rank (s : seq F) (R : nat) : uniq s -> (1 < size s)%N ->
  (exists f g : 'I_R -> F -> F,
     {in s &, forall x y, `|x - y| = \sum_(r < R) f r x * g r y})
  <-> (size s <= R)%N.
Proof.
move=> s_uniq s_size; split=> [[f [g expansion]] | le_sR].
  exact: (abs_rank_lower_bound s_uniq s_size expansion).
exists (fun (r : 'I_R) x => `|x - nth 0 s r|), (fun (r : 'I_R) y => (index y s == r :> nat)%:R).
move=> x y _ y_in.
have lt_y : (index y s < R)%N by rewrite (leq_trans _ le_sR) // index_mem.
rewrite (bigD1 (Ordinal lt_y)) //= eqxx mulr1 nth_index // big1 ?addr0 // => r neq_r.
case: eqP => [eq_r | _]; last by rewrite mulr0.
by case/eqP: neq_r; apply: val_inj.
Qed.

(** On an infinite set of points |x - y| has no finite-rank expansion at all. *)
Theorem abs_infinite_rank (S : pred F) (R : nat) (f g : 'I_R -> F -> F) :
  (forall n, exists s, [/\ uniq s, size s = n & all S s]) ->
  ~ {in S &, forall x y, `|x - y| = \sum_(r < R) f r x * g r y}.
Proof.
move=> S_infinite expansion; have [s [s_uniq s_size /allP s_S]] := S_infinite R.+2.
suff : (size s <= R)%N by rewrite s_size ltnNge leqnSn.
apply: (@abs_rank_lower_bound s R f g s_uniq); first by rewrite s_size.
by move=> x y x_s y_s; apply: expansion; apply: s_S.
Qed.

(** In particular on no interval [a, b], a < b. *)
Theorem abs_no_expansion (a b : F) (R : nat) (f g : 'I_R -> F -> F) : a < b ->
  ~ (forall x y, a <= x <= b -> a <= y <= b -> `|x - y| = \sum_(r < R) f r x * g r y).
Proof.
move=> lt_ab expansion; pose S : pred F := [pred x | a <= x <= b].
apply: (@abs_infinite_rank S R f g) => [n|]; last first.
  by move=> x y; rewrite !inE; apply: expansion.
have [-> | n_gt0] := posnP n; first by exists [::].
pose x (i : nat) := a + (b - a) * (i%:R / n%:R); exists [seq x i | i <- iota 0 n].
have ba_gt0 : 0 < b - a by rewrite subr_gt0.
have n_pos : 0 < n%:R :> F by rewrite ltr0n.
split; rewrite ?size_map ?size_iota //.
  rewrite map_inj_in_uniq ?iota_uniq // => i j _ _ /addrI /(mulfI (lt0r_neq0 ba_gt0)).
  by move/(divIf (lt0r_neq0 n_pos)) => /eqP; rewrite eqr_nat => /eqP.
apply/allP => _ /mapP [i i_in ->]; move: i_in; rewrite mem_iota add0n => /andP [_ lt_i].
rewrite /S /= /x ler_addl -ler_subr_addl ger_pmulr // mulr_ge0 ?divr_ge0 ?ler0n ?(ltW ba_gt0) //=.
by rewrite ler_pdivr_mulr // mul1r ler_nat ltnW.
Qed.

(** So no finite number of cross-correlations of f_r(image) with g_r(template) gives the sliding l1
    of all images and templates with values in [a, b], whatever the geometry (of at least one tap).
    On a constant image x and a constant template y it would give n |x - y| = n sum_r f_r(x) g_r(y),
    n the number of taps. *)
Theorem l1_not_conv2d (g : geometry) (a b : F) (R : nat) (f_ g_ : 'I_R -> F -> F) :
  (0 < taps g)%N -> a < b ->
  ~ (forall (p : image g F) (k : template g F) y x,
       (forall c Y X, a <= p c Y X <= b) -> (forall c i j, a <= k c i j <= b) ->
       window_sum (fun u v => `|u - v|) p k y x
       = \sum_(r < R) cross_correlation (map_image (f_ r) p) (map_template (g_ r) k) y x).
Proof.
move=> taps_gt0 lt_ab correlations.
apply: (abs_no_expansion (f := f_) (g := g_) lt_ab) => u v u_in v_in.
have n_neq0 : (taps g)%:R != 0 :> F by rewrite pnatr_eq0 -lt0n.
have := correlations (fun _ _ _ => u) (fun _ _ _ => v) 0 0 (fun _ _ _ => u_in) (fun _ _ _ => v_in).
rewrite window_sumE; under [X in _ = X -> _]eq_bigr => r _ do rewrite cross_correlationE.
rewrite exchange_big /pixel /entry /map_image /map_template /= !sumr_const card_tap.
by rewrite -[X in X = _ -> _]mulr_natl -[X in _ = X -> _]mulr_natl => /(mulfI n_neq0).
Qed.

(** ** Minimum *)

(** For 0 < v_0 < ... < v_(n-1): if sum_j c_j min(v_i, v_j) = 0 for all i, then c = 0. Between
    neighbouring points sum_j c_j min(t, v_j) has slope sum_(j > i) c_j, and v_0 times the sum of
    all c_j is its value at v_0; so all tails of the c_j are zero. *)
Theorem min_independent (n : nat) (v : nat -> F) (c : 'I_n -> F) :
  0 < v 0%N -> (forall i j, (i < j < n)%N -> v i < v j) ->
  (forall i : 'I_n, \sum_(j < n) c j * Num.min (v i) (v j) = 0) -> forall j, c j = 0.
Proof.
move=> v0_gt0 v_incr f0; pose tail i := \sum_(j < n) c j * (i <= j)%N%:R.
have v_le i j : (i <= j)%N -> (j < n)%N -> v i <= v j.
  by rewrite leq_eqVlt => /orP [/eqP -> // | lt_ij] lt_j; rewrite ltW // v_incr // lt_ij.
have tail0 i : tail i = 0.
  case: i => [|i].
    have [n0 | n_gt0] := posnP n.
      rewrite /tail big1 // => j _.
      by have : (j < 0)%N by rewrite -[X in (_ < X)%N]n0.
    apply: (mulIf (lt0r_neq0 v0_gt0)); rewrite mul0r -[RHS](f0 (Ordinal n_gt0)) mulr_suml.
    by apply: eq_bigr => j _; rewrite leq0n mulr1 (min_idPl (v_le _ _ _ _)) ?ltn_ord.
  case: (ltnP i.+1 n) => [lt_i | le_n]; last first.
    rewrite /tail big1 // => j _; rewrite leqNgt (leq_trans (ltn_ord j)) //.
    by rewrite mulr0.
  have lt_v : v i < v i.+1 by rewrite v_incr // ltnSn.
  have step_neq0 : v i.+1 - v i != 0 by rewrite subr_eq0 gt_eqF.
  apply: (mulIf step_neq0); rewrite mul0r.
  transitivity (\sum_(j < n) c j * Num.min (v i.+1) (v j)
                - \sum_(j < n) c j * Num.min (v i) (v j)); last first.
    by rewrite (f0 (Ordinal lt_i)) (f0 (Ordinal (ltnW lt_i))) subrr.
  rewrite -sumrB mulr_suml; apply: eq_bigr => j _ /=; rewrite -mulrA -mulrBr; congr (_ * _).
  case: (ltnP i j) => [lt_ij | le_ji].
    by rewrite mul1r !(min_idPl _) ?v_le ?ltn_ord // ltnW.
  have le_v : v j <= v i by rewrite v_le // ltnW.
  by rewrite mul0r !(min_idPr _) ?subrr // (le_trans le_v) // ltW.
move=> j; have : tail j - tail j.+1 = c j; last by rewrite !tail0 subrr.
rewrite /tail -sumrB (bigD1 j) //= leqnn ltnn mulr1 mulr0 subr0 big1 ?addr0 // => i neq_ij.
by rewrite -mulrBr [(j <= i)%N]leq_eqVlt eq_sym -[_ == _ :> nat]/(i == j) (negbTE neq_ij) subrr
  mulr0.
Qed.

(** If min(x, y) = sum_(r < R) f_r(x) g_r(y) on a list of distinct positive points, then it has at
    most R points. *)
Theorem min_rank_lower_bound (s : seq F) (R : nat) (f g : 'I_R -> F -> F) :
  uniq s -> {in s, forall x, 0 < x} ->
  {in s &, forall x y, Num.min x y = \sum_(r < R) f r x * g r y} -> (size s <= R)%N.
Proof.
move=> s_uniq s_gt0 expansion; have [-> // | s_neq0] := posnP (size s).
have [v v_in v_incr] := sorted_points s_uniq.
apply: (@terms_lower_bound _ R Num.min v f g) => [c | i j].
  by apply: min_independent => //; apply: s_gt0; apply: v_in.
by apply: expansion; apply: v_in.
Qed.

End Rank.

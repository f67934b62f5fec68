(** * Exact search without the whole map: bounds from block sums, and pruning by them *)

From mathcomp Require Import all_ssreflect all_algebra.
From Patchsim Require Import RingTactic Windows FiniteRank.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import GRing.Theory Num.Theory Order.TTheory.
Local Open Scope ring_scope.

(** ** Lower bounds from block sums

    T is the set of taps, b(t) the block of tap t, w >= 0 weights. *)

Section BlockSums.

Variables (F : realFieldType) (T B : finType) (b : T -> B).
Implicit Types (w p k : T -> F).
Add Ring F_ring : (comring_theory F).

(** sum_B |sum_(t in B) w p - sum_(t in B) w k| <= sum_t w |p - k|.
    The triangle inequality in every block. *)
Theorem block_l1_weighted w p k : (forall t, 0 <= w t) ->
  \sum_(B0 : B) `|\sum_(t | b t == B0) w t * p t - \sum_(t | b t == B0) w t * k t|
  <= \sum_t w t * `|p t - k t|.
Proof.
move=> w_ge0; rewrite [leRHS](partition_big b xpredT) //=; apply: ler_sum => B0 _.
rewrite -sumrB (le_trans (ler_norm_sum _ _ _)) //; apply: ler_sum => t _.
by rewrite -mulrBr normrM (ger0_norm (w_ge0 t)).
Qed.

(** sum_B |sum_(t in B) p - sum_(t in B) k| <= sum_t |p - k|. *)
Theorem block_l1 p k :
  \sum_(B0 : B) `|\sum_(t | b t == B0) p t - \sum_(t | b t == B0) k t| <= \sum_t `|p t - k t|.
Proof.
rewrite [leRHS](partition_big b xpredT) //=; apply: ler_sum => B0 _.
by rewrite -sumrB ler_norm_sum.
Qed.

(** sum_B (sum_(t in B) w (p - k))^2 / (sum_(t in B) w) <= sum_t w (p - k)^2.
    Cauchy-Schwarz in every block, for the vectors 1 and p - k (a block without weight counts 0). *)
Theorem block_l2_weighted w p k : (forall t, 0 <= w t) ->
  \sum_(B0 : B) (\sum_(t | b t == B0) w t * (p t - k t)) ^+ 2 / (\sum_(t | b t == B0) w t)
  <= \sum_t w t * (p t - k t) ^+ 2.
Proof.
move=> w_ge0; rewrite [leRHS](partition_big b xpredT) //=; apply: ler_sum => B0 _.
have restrict (u : T -> F) : \sum_t w t * (b t == B0)%:R * u t = \sum_(t | b t == B0) w t * u t.
  rewrite [RHS]big_mkcond; apply: eq_bigr => t _.
  by case: (b t == B0); rewrite ?mulr1 // mulr0 mul0r.
have w'_ge0 t : 0 <= w t * (b t == B0)%:R by rewrite mulr_ge0 ?ler0n.
have cs : (\sum_(t | b t == B0) w t * (p t - k t)) ^+ 2
  <= (\sum_(t | b t == B0) w t) * (\sum_(t | b t == B0) w t * (p t - k t) ^+ 2).
  have := cauchy_schwarz (fun _ => 1) (fun t => p t - k t) w'_ge0; rewrite !restrict.
  under eq_bigr do rewrite mul1r.
  by under [X in _ <= X * _]eq_bigr do rewrite expr1n mulr1.
have sum_ge0 : 0 <= \sum_(t | b t == B0) w t * (p t - k t) ^+ 2.
  by apply: sumr_ge0 => t _; rewrite mulr_ge0 ?sqr_ge0.
have : 0 <= \sum_(t | b t == B0) w t by apply: sumr_ge0.
rewrite le_eqVlt => /orP [/eqP <- | W_gt0]; first by rewrite invr0 mulr0.
by rewrite ler_pdivr_mulr // mulrC.
Qed.

(** sum_B (sum_(t in B) (p - k))^2 / |B| <= sum_t (p - k)^2. *)
Theorem block_l2 p k :
  \sum_(B0 : B) (\sum_(t | b t == B0) (p t - k t)) ^+ 2 / #|[pred t | b t == B0]|%:R
  <= \sum_t (p t - k t) ^+ 2.
Proof.
have := @block_l2_weighted (fun _ => 1) p k (fun _ => ler01).
under [leRHS]eq_bigr => t _ do rewrite mul1r.
apply: le_trans; rewrite le_eqVlt; apply/orP; left; apply/eqP; apply: eq_bigr => B0 _.
by rewrite sumr_const; congr (_ ^+ 2 / _); apply: eq_bigr => t _; rewrite mul1r.
Qed.

(** For vectors of length 1, sum w p^2 = sum w k^2 = 1, the correlation is bounded from above:
    sum w p k <= 1 - 1/2 sum_B (sum_(t in B) w (p - k))^2 / (sum_(t in B) w).
    For sum w p k = 1 - 1/2 sum w (p - k)^2, and the sum of squares is bounded from below. *)
Theorem block_correlation w p k : (forall t, 0 <= w t) ->
  \sum_t w t * p t ^+ 2 = 1 -> \sum_t w t * k t ^+ 2 = 1 ->
  \sum_t w t * (p t * k t)
  <= 1 - (\sum_(B0 : B) (\sum_(t | b t == B0) w t * (p t - k t)) ^+ 2
                        / (\sum_(t | b t == B0) w t)) / 2%:R.
Proof.
move=> w_ge0 p_unit k_unit.
have -> : \sum_t w t * (p t * k t) = 1 - (\sum_t w t * (p t - k t) ^+ 2) / 2%:R.
  have -> : \sum_t w t * (p t - k t) ^+ 2
          = \sum_t w t * p t ^+ 2 + \sum_t w t * k t ^+ 2 - 2%:R * \sum_t w t * (p t * k t).
    by rewrite mulr_sumr -sumrN -!big_split /=; apply: eq_bigr => t _; comring F.
  rewrite p_unit k_unit; move: (\sum_t _) => r.
  have -> : 1 + 1 - 2%:R * r = (1 - r) * 2%:R by comring F.
  by rewrite mulfK ?pnatr_eq0 // opprB addrC subrK.
by rewrite ler_add2l ler_opp2 ler_pmul2r ?invr_gt0 ?ltr0n // block_l2_weighted.
Qed.

End BlockSums.

(** In terms of windows: the block sums of the image's window against those of the template. *)
Theorem block_l1_window (g : geometry) (F : realFieldType) (B : finType) (b : tap g -> B)
    (p : image g F) (k : template g F) y x :
  \sum_(B0 : B) `|\sum_(t | b t == B0) pixel p y x t - \sum_(t | b t == B0) entry k t|
  <= window_sum (fun a b => `|a - b|) p k y x.
Proof. by rewrite window_sumE block_l1. Qed.

(** ** ZNCC *)

Section Zncc.

Variables (F : rcfType) (T B : finType) (b : T -> B) (w : T -> F).

Hypothesis w_ge0 : forall t, 0 <= w t.
Add Ring F_ring : (comring_theory F).

(** The values with their mean taken off, scaled to length 1. Its block sums follow from those of
    p and w: sum_(t in B) w p' = (sum_(t in B) w p - mean * sum_(t in B) w) / length. *)
Definition standard (p : T -> F) (t : T) : F :=
  (p t - mean w p) / Num.sqrt (total_weight w * variance w p).

Lemma weight_gt0 p : 0 < variance w p -> 0 < total_weight w.
Proof.
move=> var_gt0; have W_ge0 : 0 <= total_weight w by apply: sumr_ge0.
rewrite lt0r W_ge0 andbT; apply: contraTneq var_gt0.
by rewrite /variance /covariance => ->; rewrite invr0 mulr0 ltxx.
Qed.

Lemma zncc_standard p k : 0 < variance w p -> 0 < variance w k ->
  zncc w p k = \sum_t w t * (standard p t * standard k t).
Proof.
move=> p_gt0 k_gt0; have W_gt0 := weight_gt0 p_gt0; have W_ge0 := ltW W_gt0.
transitivity ((\sum_t w t * ((p t - mean w p) * (k t - mean w k)))
  / (Num.sqrt (total_weight w * variance w p) * Num.sqrt (total_weight w * variance w k))).
  rewrite /zncc /covariance !(@sqrtrM _ (total_weight w)) // mulrACA -expr2 sqr_sqrtr //.
  by rewrite -[LHS]mulrA -invfM.
by rewrite mulr_suml; apply: eq_bigr => t _; rewrite -mulrA mulf_div.
Qed.

Lemma standard_unit p : 0 < variance w p -> \sum_t w t * standard p t ^+ 2 = 1.
Proof.
move=> p_gt0; have := zncc_standard p_gt0 p_gt0.
by rewrite /zncc -/(variance w p) -expr2 sqr_sqrtr ?ltW // divff ?gt_eqF // => ->.
Qed.

(** ZNCC <= 1 - 1/2 sum_B (sum_(t in B) w (p' - k'))^2 / (sum_(t in B) w), where p' and k' are the
    standardised values: for vectors of length 1 a lower bound of the squared distance
    is an upper bound of the correlation. *)
Theorem block_zncc p k : 0 < variance w p -> 0 < variance w k ->
  zncc w p k
  <= 1 - (\sum_(B0 : B) (\sum_(t | b t == B0) w t * (standard p t - standard k t)) ^+ 2
                        / (\sum_(t | b t == B0) w t)) / 2%:R.
Proof.
by move=> p_gt0 k_gt0; rewrite zncc_standard // block_correlation ?standard_unit.
Qed.

(** Let P project onto some space, p - Pp being orthogonal to it. For vectors p and k of length 1,
    s = |Pk|^2 and sum w Pp Pk <= c |Pp| |Pk|: sum w p k <= sqrt(s max(c, 0)^2 + 1 - s).
    With a = |Pp|, Cauchy-Schwarz for p - Pp and k - Pk bounds the sum by
    max(c, 0) a sqrt(s) + sqrt(1 - a^2) sqrt(1 - s), and (a, sqrt(1 - a^2)) has the length 1. *)
Theorem projected_cosine (P : (T -> F) -> T -> F) p k (c : F) :
  (forall x y, \sum_t w t * (P x t * (y t - P y t)) = 0) ->
  \sum_t w t * p t ^+ 2 = 1 -> \sum_t w t * k t ^+ 2 = 1 ->
  let s := \sum_t w t * P k t ^+ 2 in
  \sum_t w t * (P p t * P k t) <= c * Num.sqrt ((\sum_t w t * P p t ^+ 2) * s) ->
  \sum_t w t * (p t * k t) <= Num.sqrt (s * Num.max c 0 ^+ 2 + 1 - s).
Proof.
move=> orthogonal p_unit k_unit s le_c.
have split_sum x y : \sum_t w t * ((x t - P x t) * (y t - P y t))
  = \sum_t w t * (x t * y t) - \sum_t w t * (P x t * P y t).
  transitivity (\sum_t w t * (x t * y t) - \sum_t w t * (P x t * P y t)
    - \sum_t w t * (P x t * (y t - P y t)) - \sum_t w t * (P y t * (x t - P x t))).
    by rewrite -!sumrB; apply: eq_bigr => t _; comring F.
  by rewrite !orthogonal !subr0.
have rest x : \sum_t w t * x t ^+ 2 = 1 ->
  \sum_t w t * (x t - P x t) ^+ 2 = 1 - \sum_t w t * P x t ^+ 2.
  by move=> <-; apply: (split_sum x x).
have := cauchy_schwarz (fun t => p t - P p t) (fun t => k t - P k t) w_ge0.
have a_ge0 : 0 <= \sum_t w t * P p t ^+ 2 by apply: sumr_ge0 => t _; rewrite mulr_ge0 ?sqr_ge0.
have s_ge0 : 0 <= s by apply: sumr_ge0 => t _; rewrite mulr_ge0 ?sqr_ge0.
have rest_ge0 x : 0 <= \sum_t w t * (x t - P x t) ^+ 2.
  by apply: sumr_ge0 => t _; rewrite mulr_ge0 ?sqr_ge0.
have := rest_ge0 k; have := rest_ge0 p; rewrite (split_sum p k) !rest // -/s.
move: (\sum_t w t * (p t * k t)) (\sum_t w t * (P p t * P k t)) le_c => z i le_c.
move: (\sum_t w t * P p t ^+ 2) le_c a_ge0 => a le_c a_ge0 a_le1 s_le1 le_r; set m := Num.max c 0.
have root_le (u v : F) : u ^+ 2 <= v -> u <= Num.sqrt v.
  by move=> le_uv; rewrite (le_trans (ler_norm u)) // -sqrtr_sqr ler_wsqrtr.
have m_ge0 : 0 <= m by rewrite le_maxr lexx orbT.
have le_m : i <= m * (Num.sqrt a * Num.sqrt s).
  by rewrite (le_trans le_c) // -sqrtrM // ler_wpmul2r ?sqrtr_ge0 // le_maxr lexx.
have {}le_r := root_le _ _ le_r; rewrite sqrtrM // in le_r.
rewrite -(subrK i z) addrC (le_trans (ler_add le_m le_r)) // root_le //.
move: (sqr_sqrtr a_ge0) (sqr_sqrtr s_ge0) (sqr_sqrtr a_le1) (sqr_sqrtr s_le1).
move: (Num.sqrt a) (Num.sqrt s) (Num.sqrt (1 - a)) (Num.sqrt (1 - s)).
move=> a1 s1 a2 s2 a1E s1E a2E s2E.
have -> : s * m ^+ 2 + 1 - s = (a1 ^+ 2 + a2 ^+ 2) * ((m * s1) ^+ 2 + s2 ^+ 2).
  by rewrite exprMn s2E a2E s1E a1E; comring F.
rewrite -subr_ge0; set d := _ - _.
have -> : d = (a1 * s2 - a2 * (m * s1)) ^+ 2 by rewrite /d; comring F.
exact: sqr_ge0.
Qed.

(** The inner product of x and y in the space of what is constant on blocks, onto which the blocks'
    means project: sum_B (sum_(t in B) w x) (sum_(t in B) w y) / (sum_(t in B) w). *)
Definition block_inner (x y : T -> F) : F :=
  \sum_(B0 : B) (\sum_(t | b t == B0) w t * x t) * (\sum_(t | b t == B0) w t * y t)
                / (\sum_(t | b t == B0) w t).

(** ZNCC <= sqrt(s max(c, 0)^2 + 1 - s), where s is the share of k's variance that its block sums
    hold, and c is the cosine of the block sums of p' and k', the standardised values, or more. *)
Theorem block_cosine p k (c : F) : 0 < variance w p -> 0 < variance w k ->
  let p' := standard p in let k' := standard k in let s := block_inner k' k' in
  block_inner p' k' <= c * Num.sqrt (block_inner p' p' * s) ->
  zncc w p k <= Num.sqrt (s * Num.max c 0 ^+ 2 + 1 - s).
Proof.
move=> p_gt0 k_gt0 p' k' s; rewrite zncc_standard //.
pose P x t := (\sum_(u | b u == b t) w u * x u) / (\sum_(u | b u == b t) w u).
have innerE x y : block_inner x y = \sum_t w t * (P x t * P y t).
  rewrite [RHS](partition_big b xpredT) //=; apply: eq_bigr => B0 _.
  under [RHS]eq_bigr => t /eqP tB do rewrite /P tB.
  rewrite -mulr_suml; move: (\sum_(t | _) w t) => W.
  have [-> | W_neq0] := eqVneq W 0; first by rewrite invr0 mulr0 mul0r.
  by rewrite [RHS]mulrCA [W * _]mulrCA mulfV // mulr1 mulrAC.
have := @projected_cosine P p' k' c.
rewrite /s !innerE; apply; rewrite ?standard_unit // => x y.
rewrite (partition_big b xpredT) //=; apply: big1 => B0 _.
under eq_bigr => t /eqP tB do rewrite /P tB mulrCA mulrBr.
rewrite -mulr_sumr sumrB -mulr_suml; move: (\sum_(t | _) w t) => W.
have [-> | W_neq0] := eqVneq W 0; first by rewrite invr0 !mulr0 mul0r.
by rewrite mulrCA mulfV // mulr1 subrr mulr0.
Qed.

(** The same with an s' below s, if c <= 1: the bound falls as s grows, by 1 - max(c, 0)^2. *)
Theorem block_cosine_share p k (c s' : F) : 0 < variance w p -> 0 < variance w k ->
  let p' := standard p in let k' := standard k in let s := block_inner k' k' in
  block_inner p' k' <= c * Num.sqrt (block_inner p' p' * s) ->
  Num.max c 0 <= 1 -> s' <= s ->
  zncc w p k <= Num.sqrt (s' * Num.max c 0 ^+ 2 + 1 - s').
Proof.
move=> p_gt0 k_gt0 p' k' s le_c c_le1 le_s.
apply: (le_trans (block_cosine p_gt0 k_gt0 le_c)); rewrite -/k' -/s ler_wsqrtr //.
have m2_le1 : Num.max c 0 ^+ 2 <= 1 by rewrite expr_le1 // le_maxr lexx orbT.
rewrite -subr_ge0; set d := _ - _.
have -> : d = (s - s') * (1 - Num.max c 0 ^+ 2) by rewrite /d; comring F.
by rewrite mulr_ge0 ?subr_ge0.
Qed.

End Zncc.

(** ** Pruning *)

Section Pruning.

Variables (F : realFieldType) (Y : eqType).

(** All windows in the map's order, their sums, lower bounds of these, and a threshold. *)
Variables (ys : seq Y) (S lower : Y -> F) (best : F).

Hypothesis lower_le : forall y, lower y <= S y.

Let survivors := [seq y <- ys | lower y <= best].

(** The windows of a list whose sum is the least, in the list's order. *)
Definition minimisers (zs : seq Y) : seq Y := [seq y <- zs | all (fun z => S y <= S z) zs].

(** If some window's sum is at most [best], then the survivors have the same minimisers as all
    windows, in the same order: so the same least sum, and the same first match. A window with
    lower(y) > best has S(y) >= lower(y) > best, so it is no minimiser. *)
Theorem pruning_minimisers : has (fun y => S y <= best) ys ->
  minimisers survivors = minimisers ys.
Proof.
case/hasP => y0 y0_in le_y0; rewrite /minimisers /survivors -filter_predI.
apply: eq_in_filter => y y_in /=; apply/andP/allP => [[/allP min_y keep_y] z z_in | min_y].
  have [keep_z | prune_z] := lerP (lower z) best.
    by apply: min_y; rewrite mem_filter keep_z.
  apply: le_trans (ltW (lt_le_trans prune_z (lower_le z))).
  apply: le_trans (le_y0); apply: min_y.
  by rewrite mem_filter y0_in (le_trans (lower_le _) le_y0).
split; last by rewrite (le_trans (lower_le _)) // (le_trans (min_y _ y0_in)).
by apply/allP => z; rewrite mem_filter => /andP [_]; apply: min_y.
Qed.

(** The k best: windows sorted by their sum, equal sums in the map's order (the sort is stable). *)
Definition ranking (zs : seq Y) : seq Y := sort (fun y z => S y <= S z) zs.

Lemma sorted_split (zs : seq Y) : sorted (fun y z => S y <= S z) zs ->
  zs = [seq y <- zs | S y <= best] ++ [seq y <- zs | ~~ (S y <= best)].
Proof.
elim: zs => //= y zs IH zs_sorted; have zs_sorted' := path_sorted zs_sorted.
case: ifP => [le_y | gt_y] /=; first by rewrite -IH.
have trans : transitive (fun y z => S y <= S z) by move=> z ? ?; apply: le_trans.
have /allP min_y := order_path_min trans zs_sorted.
have gt_best z : z \in zs -> (S z <= best) = false.
  by move=> z_in; apply: contraFF gt_y; apply: le_trans; apply: min_y.
have -> : [seq z <- zs | S z <= best] = [::].
  by rewrite -(filter_pred0 zs); apply: eq_in_filter.
have -> : [seq z <- zs | ~~ (S z <= best)] = zs.
  by rewrite -[RHS]filter_predT; apply: eq_in_filter => z /gt_best ->.
by [].
Qed.

(** If at least k windows have sums <= [best], then the k best survivors are the k best of all
    windows, in the same order. In the ranking, the windows with S <= best come first and all
    survive. *)
Theorem pruning_top_k (k : nat) : (k <= count (fun y => (S y <= best)%R) ys)%N ->
  take k (ranking survivors) = take k (ranking ys).
Proof.
move=> le_k.
have le_total : total (fun y z => S y <= S z) by move=> y z; apply: le_total.
have le_trans' : transitive (fun y z => S y <= S z) by move=> y z u; apply: le_trans.
rewrite /ranking /survivors -filter_sort //; set zs := sort _ _.
have zs_sorted : sorted (fun y z => S y <= S z) zs by apply: sort_sorted.
have size_le : (k <= size [seq y <- zs | (S y <= best)%R])%N.
  rewrite size_filter; have /permP -> // : perm_eq zs ys by rewrite perm_sort.
have keep_all : [seq y <- [seq y <- zs | lower y <= best] | S y <= best]
              = [seq y <- zs | S y <= best].
  rewrite -filter_predI; apply: eq_filter => y /=; case: (lerP (S y) best) => //= le_y.
  by rewrite (le_trans (lower_le y)).
transitivity (take k [seq y <- zs | S y <= best]).
  by rewrite (sorted_split (sorted_filter le_trans' _ zs_sorted)) keep_all takel_cat.
by rewrite [in RHS](sorted_split zs_sorted) takel_cat.
Qed.

End Pruning.

(** * Distances on finitely many levels as cross-correlations

    [c] below (a nat or a boolean in the role of a number) is [c]%:R, Iverson's bracket. *)

From mathcomp Require Import all_ssreflect all_algebra.
From Patchsim Require Import RingTactic Windows.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import GRing.Theory Num.Theory Order.TTheory.
Local Open Scope ring_scope.

(** ** Thresholds *)

Section Thresholds.

Variable R : realDomainType.

(** [a >= t] + [b >= t] - 2 [a >= t] [b >= t]: 1 when the threshold t separates a and b, else 0. *)
Definition separates (t a b : nat) : R :=
  (t <= a)%N%:R + (t <= b)%N%:R - 2%:R * (t <= a)%N%:R * (t <= b)%N%:R.

Lemma separatesC t a b : separates t a b = separates t b a.
Proof. by rewrite /separates [_ + (t <= b)%N%:R]addrC -!mulrA [_%:R * (t <= b)%N%:R]mulrC. Qed.

Lemma separatesE t a b : (a <= b)%N -> separates t a b = (a < t <= b)%N%:R.
Proof.
move=> le_ab; rewrite /separates ltnNge.
case: (leqP t a) => [le_ta | _]; first by rewrite (leq_trans le_ta) //= !mulr1 subrr.
by rewrite add0r mulr0 mul0r subr0.
Qed.

(** For values v_0 <= v_1 <= ... <= v_(L-1) and levels a, b < L,
    |v_a - v_b| = sum_(1 <= t < L) (v_t - v_(t-1)) ([a >= t] + [b >= t] - 2 [a >= t] [b >= t]).
    The thresholds that separate a from b are those between them; the steps add up to
    the difference (a telescoping sum). Only values that occur need a threshold. *)
Theorem abs_on_values (L : nat) (v : nat -> R) (a b : nat) :
  (forall t, (t.+1 < L)%N -> v t <= v t.+1) -> (a < L)%N -> (b < L)%N ->
  `|v a - v b| = \sum_(1 <= t < L) (v t - v t.-1) * separates t a b.
Proof.
move=> v_mono; wlog le_ab : a b / (a <= b)%N => [hwlog lt_aL lt_bL | lt_aL lt_bL].
  case: (leqP a b) => [le_ab | /ltnW le_ba]; first exact: hwlog.
  by rewrite distrC hwlog //; apply: eq_bigr => t _; rewrite separatesC.
rewrite (big_cat_nat _ (n := a.+1)) //= (big_cat_nat _ (n := b.+1) (p := L)) //=.
rewrite big_nat big1 => [|t /andP [_ le_ta]]; last first.
  by rewrite separatesE // ltnNge -ltnS le_ta mulr0.
rewrite add0r [X in _ = _ + X]big_nat [X in _ = _ + X]big1 => [|t /andP [lt_bt _]]; last first.
  by rewrite separatesE // [(t <= b)%N]leqNgt lt_bt andbF mulr0.
have steps : \sum_(a.+1 <= t < b.+1) (v t - v t.-1) * separates t a b = v b - v a.
  rewrite big_add1 /= -(telescope_sumr v le_ab).
  rewrite !big_nat; apply: eq_bigr => t /andP [le_at lt_tb].
  by rewrite separatesE // ltnS le_at lt_tb mulr1.
rewrite addr0 steps distrC ger0_norm // -steps big_nat sumr_ge0 // => t /andP [lt_at le_tb].
rewrite separatesE // mulr_ge0 ?ler0n // subr_ge0.
by case: t lt_at le_tb => // t _ le_tb; apply: v_mono; apply: leq_ltn_trans lt_bL.
Qed.

End Thresholds.

(** For levels a, b in 0, ..., L-1:
    |a - b| = sum_(1 <= t < L) ([a >= t] + [b >= t] - 2 [a >= t] [b >= t]).
    The case v_t = t of [abs_on_values]: |a - b| counts the thresholds between a and b. *)
Theorem abs_on_levels (L a b : nat) : (a < L)%N -> (b < L)%N ->
  `|a%:Z - b%:Z| = \sum_(1 <= t < L)
    ((t <= a)%N%:R + (t <= b)%N%:R - 2%:R * (t <= a)%N%:R * (t <= b)%N%:R) :> int.
Proof.
move=> lt_aL lt_bL; rewrite (@abs_on_values _ L Posz) // => [|t _]; last by rewrite lez_nat.
by apply: eq_big_nat => -[] // t _; rewrite /= intS addrK mul1r.
Qed.

(** ** Any image, a template of finitely many values *)

Section Between.

Variables (R : realDomainType) (L : nat) (v : nat -> R).
Hypothesis v_mono : forall t, (t.+1 < L)%N -> v t <= v t.+1.
Add Ring R_ring : (comring_theory R).

(** The number of [v_0, v_(L-1)] that is nearest to a. *)
Definition nearest (a : R) : R := Num.max (v 0) (Num.min a (v L.-1)).

(** The part of nearest(a) - v_0 that lies between v_(t-1) and v_t: nearest(a) - v_(t-1) clamped to
    0 ... v_t - v_(t-1). *)
Definition part (t : nat) (a : R) : R :=
  Num.min (Num.max (nearest a - v t.-1) 0) (v t - v t.-1).

Lemma v_le i j : (i <= j)%N -> (j < L)%N -> v i <= v j.
Proof.
elim: j => [|j IH]; first by rewrite leqn0 => /eqP ->.
rewrite leq_eqVlt => /orP [/eqP -> // | le_ij] lt_j.
by rewrite (le_trans (IH le_ij (ltnW lt_j))) // v_mono.
Qed.

Lemma partE t a : (t.+1 < L)%N ->
  part t.+1 a = Num.min (nearest a) (v t.+1) - Num.min (nearest a) (v t).
Proof.
move=> lt_t; have le_v := v_mono lt_t; rewrite /part /=.
case: (lerP (nearest a) (v t)) => [le_a | lt_a].
  rewrite (min_idPl (le_trans le_a le_v)) subrr (max_idPr _) ?subr_le0 //.
  by rewrite (min_idPl _) // subr_ge0.
rewrite (max_idPl _) ?subr_ge0 ?ltW //; case: (lerP (nearest a) (v t.+1)) => [le_a' | lt_a'].
  by rewrite (min_idPl _) // ler_add2r.
by rewrite (min_idPr _) // ler_add2r ltW.
Qed.

Lemma parts_below b a : (b < L)%N ->
  \sum_(1 <= t < L) part t a * (t <= b)%N%:R = Num.min (nearest a) (v b) - v 0.
Proof.
move=> lt_bL; rewrite (big_cat_nat _ (n := b.+1)) //= [X in _ + X]big_nat [X in _ + X]big1.
  rewrite addr0 big_add1 /=.
  have -> : v 0 = Num.min (nearest a) (v 0) by rewrite (min_idPr _) // /nearest le_maxr lexx.
  rewrite -(telescope_sumr (fun t => Num.min (nearest a) (v t)) (leq0n b)).
  rewrite !big_nat; apply: eq_bigr => t /andP [_ lt_tb].
  by rewrite lt_tb mulr1 partE // (leq_ltn_trans lt_tb).
by move=> t /andP [lt_bt _]; rewrite [(t <= b)%N]leqNgt lt_bt mulr0.
Qed.

(** |a - v_b| = |a - c| + (c - v_0) + (v_b - v_0) - 2 sum_(1 <= t < L) part_t(a) [b >= t], where
    c = nearest(a), for every number a. The parts below v_b add up to min(c, v_b) - v_0. *)
Theorem abs_by_parts (a : R) (b : nat) : (b < L)%N ->
  `|a - v b| = `|a - nearest a| + (nearest a - v 0) + (v b - v 0)
               - 2%:R * \sum_(1 <= t < L) part t a * (t <= b)%N%:R.
Proof.
move=> lt_bL; rewrite parts_below //; have L_gt0 := leq_ltn_trans (leq0n b) lt_bL.
have first_le : v 0 <= v b by apply: v_le.
have le_last : v b <= v L.-1 by apply: v_le; rewrite ?ltn_predL // -ltnS prednK.
rewrite /nearest; case: (lerP a (v L.-1)) => [le_a | lt_a]; last first.
  rewrite (max_idPr (le_trans first_le le_last)) (min_idPr le_last).
  rewrite !ger0_norm ?subr_ge0 ?ltW // ?(le_lt_trans le_last) //.
  by move: (v 0) (v b) (v L.-1) => x y z; comring R.
case: (lerP (v 0) a) => [ge_a | lt_a]; last first.
  rewrite (min_idPl first_le) !ler0_norm ?subr_le0 ?ltW // ?(lt_le_trans lt_a) //.
  by move: (v 0) (v b) => x y; comring R.
rewrite subrr normr0; case: (lerP a (v b)) => _; move: (v 0) (v b) => x y; comring R.
Qed.

End Between.

Section Windows.

Variable g : geometry.

(** For a template of values v_0 <= ... <= v_(L-1), given by its levels, weights w and ANY image:
    sum w |p - k| = (|p - c| + c - v_0) * w + sum w (k - v_0)
                    - 2 sum_(1 <= t < L) part_t(p) * w [k >= t],
    where * is cross-correlation: L-1 of them and one with the weights. *)
Theorem l1_by_parts (R : realDomainType) (L : nat) (v : nat -> R) w (p : image g R)
    (k : template g nat) y x :
  (forall t, (t.+1 < L)%N -> v t <= v t.+1) -> (forall c i j, (k c i j < L)%N) ->
  weighted_sum (fun a b => `|a - v b|) w p k y x
  = cross_correlation (map_image (fun a => `|a - nearest L v a| + (nearest L v a - v 0%N)) p) w y x
    + template_sum (fun c i j => w c i j * (v (k c i j) - v 0%N))
    - 2%:R * \sum_(1 <= t < L)
        cross_correlation (map_image (part L v t) p)
                          (fun c i j => w c i j * (t <= k c i j)%N%:R) y x.
Proof.
move=> v_mono k_lt; rewrite weighted_sumE cross_correlationE template_sumE.
under [X in _ = _ - 2%:R * X]eq_bigr => t _ do rewrite cross_correlationE.
rewrite exchange_big /= mulr_sumr -sumrN -!big_split /=; apply: eq_bigr => s _.
rewrite (abs_by_parts v_mono _ (k_lt _ _ _)) /pixel /entry /map_image.
rewrite mulrBr mulrDr; congr (_ + _ - _); first by rewrite mulrC.
rewrite mulrCA mulr_sumr; congr (_ * _); apply: eq_bigr => t _.
by rewrite mulrCA.
Qed.

(** For an image and a template of levels 0, ..., L-1:
    sum |p - k| = sum_(1 <= t < L) (box sum of [p >= t] + sum [k >= t] - 2 ([p >= t] * [k >= t])),
    where the last * is a cross-correlation: L-1 of them, of 0/1 images and 0/1 templates. *)
Theorem l1_levels (L : nat) (p : image g nat) (k : template g nat) y x :
  (forall c i j, (p c i j < L)%N) -> (forall c i j, (k c i j < L)%N) ->
  window_sum (fun a b : nat => `|a%:Z - b%:Z| : int) p k y x
  = \sum_(1 <= t < L)
      (box_sum (fun a => (t <= a)%N%:R) p y x
       + template_sum (map_template (fun b => (t <= b)%N%:R) k)
       - 2%:R * cross_correlation (map_image (fun a => (t <= a)%N%:R) p)
                                  (map_template (fun b => (t <= b)%N%:R) k) y x).
Proof.
move=> p_lt k_lt; rewrite window_sumE.
under [RHS]eq_bigr => t _.
  rewrite box_sumE template_sumE cross_correlationE mulr_sumr -sumrN -!big_split /=; over.
rewrite exchange_big; apply: eq_bigr => s _.
rewrite (abs_on_levels (p_lt _ _ _) (k_lt _ _ _)).
by apply: eq_bigr => t _; rewrite -mulrA.
Qed.

(** The same for an image and a template of values v_0 <= ... <= v_(L-1), given by their levels. *)
Theorem l1_values (R : realDomainType) (L : nat) (v : nat -> R) (p : image g nat)
    (k : template g nat) y x :
  (forall t, (t.+1 < L)%N -> v t <= v t.+1) ->
  (forall c i j, (p c i j < L)%N) -> (forall c i j, (k c i j < L)%N) ->
  window_sum (fun a b => `|v a - v b|) p k y x
  = \sum_(1 <= t < L) (v t - v t.-1) *
      (box_sum (fun a => (t <= a)%N%:R) p y x
       + template_sum (map_template (fun b => (t <= b)%N%:R) k)
       - 2%:R * cross_correlation (map_image (fun a => (t <= a)%N%:R) p)
                                  (map_template (fun b => (t <= b)%N%:R) k) y x).
Proof.
move=> v_mono p_lt k_lt; rewrite window_sumE.
under [RHS]eq_bigr => t _.
  rewrite box_sumE template_sumE cross_correlationE mulr_sumr -sumrN -!big_split mulr_sumr /=.
  over.
rewrite exchange_big; apply: eq_bigr => s _.
rewrite (abs_on_values v_mono (p_lt _ _ _) (k_lt _ _ _)).
by apply: eq_bigr => t _; rewrite /separates -mulrA.
Qed.

(** With weights w the box sum becomes a cross-correlation with w, and w stands with the template:
    sum w |p - k| = sum_t (v_t - v_(t-1)) ([p >= t] * w + sum w [k >= t] - 2 [p >= t] * w [k >= t]),
    two cross-correlations per threshold. *)
Theorem l1_values_weighted (R : realDomainType) (L : nat) (v : nat -> R) w (p : image g nat)
    (k : template g nat) y x :
  (forall t, (t.+1 < L)%N -> v t <= v t.+1) ->
  (forall c i j, (p c i j < L)%N) -> (forall c i j, (k c i j < L)%N) ->
  weighted_sum (fun a b => `|v a - v b|) w p k y x
  = \sum_(1 <= t < L) (v t - v t.-1) *
      (cross_correlation (map_image (fun a => (t <= a)%N%:R) p) w y x
       + template_sum (fun c i j => w c i j * (t <= k c i j)%N%:R)
       - 2%:R * cross_correlation (map_image (fun a => (t <= a)%N%:R) p)
                                  (fun c i j => w c i j * (t <= k c i j)%N%:R) y x).
Proof.
move=> v_mono p_lt k_lt; rewrite weighted_sumE.
under [RHS]eq_bigr => t _.
  rewrite template_sumE !cross_correlationE mulr_sumr -sumrN -!big_split mulr_sumr /=; over.
rewrite exchange_big; apply: eq_bigr => s _.
rewrite (abs_on_values v_mono (p_lt _ _ _) (k_lt _ _ _)) mulr_sumr; apply: eq_bigr => t _.
rewrite mulrCA /separates /pixel /entry /map_image; congr (_ * _).
have weigh (u a b : R) : u * (a + b - 2%:R * a * b) = a * u + u * b - 2%:R * (a * (u * b)).
  by rewrite mulrBr mulrDr [u * a]mulrC -mulrA; congr (_ - _); rewrite mulrCA [u * (a * b)]mulrCA.
exact: weigh.
Qed.

(** ** Distinct values *)

(** If all values of the template lie in the list vs (without repetitions), then for any d and any
    image, sum d(p, k) = sum_(v in vs) d(p, v) * [k = v], where * is cross-correlation: one for
    each value of the template. Sort the taps by their value. *)
Theorem values_of_template (R : ringType) T (U : eqType) (d : T -> U -> R) (vs : seq U)
    (p : image g T) (k : template g U) y x :
  uniq vs -> (forall c i j, k c i j \in vs) ->
  window_sum d p k y x
  = \sum_(v <- vs) cross_correlation (map_image (fun a => d a v) p)
                                     (map_template (fun b => (b == v)%:R) k) y x.
Proof.
move=> vs_uniq k_in; rewrite window_sumE.
under [RHS]eq_bigr => v _ do rewrite cross_correlationE.
rewrite exchange_big; apply: eq_bigr => t _ /=; rewrite /pixel /entry /map_image /map_template.
move: (k_in t.1.1 t.1.2 t.2) => k_vs; rewrite (bigD1_seq _ k_vs) //= eqxx mulr1.
by rewrite big1 ?addr0 // => v neq_vk; rewrite eq_sym (negbTE neq_vk) mulr0.
Qed.

(** The same with weights w: sum w*d(p, k) = sum_(v in vs) d(p, v) * (w [k = v]). *)
Theorem values_of_template_weighted (R : comRingType) T (U : eqType) (d : T -> U -> R)
    (vs : seq U) w (p : image g T) (k : template g U) y x :
  uniq vs -> (forall c i j, k c i j \in vs) ->
  weighted_sum d w p k y x
  = \sum_(v <- vs) cross_correlation (map_image (fun a => d a v) p)
                                     (fun c i j => w c i j * (k c i j == v)%:R) y x.
Proof.
move=> vs_uniq k_in; rewrite weighted_sumE.
under [RHS]eq_bigr => v _ do rewrite cross_correlationE.
rewrite exchange_big; apply: eq_bigr => t _ /=; rewrite /pixel /entry /map_image.
move: (k_in t.1.1 t.1.2 t.2) => k_vs; rewrite (bigD1_seq _ k_vs) //= eqxx mulr1 mulrC.
by rewrite big1 ?addr0 // => v neq_vk; rewrite eq_sym (negbTE neq_vk) !mulr0.
Qed.

(** Hamming distance: number of taps where p and k differ = C*h*w - sum_(v in vs) [p = v] * [k = v],
    the values of the template in vs, those of the image arbitrary. *)
Theorem hamming_values (R : ringType) (U : eqType) (vs : seq U) (p : image g U)
    (k : template g U) y x :
  uniq vs -> (forall c i j, k c i j \in vs) ->
  window_sum (fun a b => (a != b)%:R : R) p k y x
  = (taps g)%:R
    - \sum_(v <- vs) cross_correlation (map_image (fun a => (a == v)%:R) p)
                                       (map_template (fun b => (b == v)%:R) k) y x.
Proof.
move=> vs_uniq k_in; rewrite -values_of_template // !window_sumE -card_tap -sumr_const -sumrB.
by apply: eq_bigr => t _; case: eqP; rewrite ?subrr ?subr0.
Qed.

(** With weights: sum w [p != k] = sum w - sum_(v in vs) [p = v] * (w [k = v]). *)
Theorem hamming_values_weighted (R : comRingType) (U : eqType) (vs : seq U) w (p : image g U)
    (k : template g U) y x :
  uniq vs -> (forall c i j, k c i j \in vs) ->
  weighted_sum (fun a b => (a != b)%:R : R) w p k y x
  = template_sum w
    - \sum_(v <- vs) cross_correlation (map_image (fun a => (a == v)%:R) p)
                                       (fun c i j => w c i j * (k c i j == v)%:R) y x.
Proof.
move=> vs_uniq k_in; rewrite -(values_of_template_weighted (fun a b => (a == b)%:R)) //.
rewrite !weighted_sumE template_sumE -sumrB; apply: eq_bigr => t _.
by case: eqP; rewrite ?mulr0 ?mulr1 ?subrr ?subr0.
Qed.

(** Any d on a finite alphabet is a table of rank at most the size of the alphabet:
    d(a, b) = sum_v d(a, v) [b = v]. *)
Theorem table (R : ringType) T (U : finType) (d : T -> U -> R) a b :
  d a b = \sum_v d a v * (b == v)%:R.
Proof.
rewrite (bigD1 b) //= eqxx mulr1 big1 ?addr0 // => v neq_vb.
by rewrite eq_sym (negbTE neq_vb) mulr0.
Qed.

(** ** Minimum *)

(** sum |p - k| = sum p + sum k - 2 sum min(p, k): |a - b| = a + b - 2 min(a, b), as
    max(a, b) - min(a, b) = |a - b| and max(a, b) + min(a, b) = a + b. *)
Theorem l1_min (R : realDomainType) (p : image g R) (k : template g R) y x :
  window_sum (fun a b => `|a - b|) p k y x
  = box_sum id p y x + template_sum k - 2%:R * window_sum Num.min p k y x.
Proof.
rewrite !window_sumE box_sumE template_sumE mulr_sumr -sumrN -!big_split /=.
apply: eq_bigr => t _; move: (pixel _ _ _ _) (entry _ _) => a b.
have [le_ab | lt_ba] := lerP a b.
  by rewrite mulr_natl mulr2n opprD addrACA subrr add0r addrC.
by rewrite mulr_natl mulr2n opprD addrACA subrr addr0.
Qed.

End Windows.

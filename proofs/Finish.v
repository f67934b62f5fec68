(** * From window sums to the map: the roundings of the last division

    Backs [Finish.error] in [patchsim/finish.py]. There S is the exact sum, S' the computed one,
    |S' - S| <= es, D the exact divisor and D' the computed one; the map is 1 - S / D, computed as
    fl(1 - fl(a S')) with a = fl(1 / D'), and then converted to the map's dtype. *)

From Coq Require Import Reals Lra.
From Flocq Require Import Core.
From Coquelicot Require Import Rcomplements.
From Patchsim Require Import FloatingPoint.
Open Scope R_scope.

Section Finish.
Variables (u least eta tiny : R) (rnd : R -> R).
Hypothesis rnd_model : rounds u least eta rnd.
Hypothesis u_small : u <= / 64.
Hypothesis eta_small : 2 * eta <= tiny.

Variables S S' es D D' alpha m : R.
Hypothesis S_pos : 0 <= S.
Hypothesis S'_pos : 0 <= S'.
Hypothesis S_error : Rabs (S' - S) <= es.
Hypothesis D_pos : 0 < D.
(** Two roundings: of the weights' sum and of its product with the scale. *)
Hypothesis D_error : exists d1 d2, Rabs d1 <= u /\ Rabs d2 <= u /\ D' = D * (1 + d1) * (1 + d2).
Hypothesis alpha_error : exists d3, Rabs d3 <= u /\ alpha = / D' * (1 + d3).
Hypothesis m_bound : S / D <= m.

(** The bound of [Finish.error] before and after [finish] and the conversion. *)
Definition mean_error : R := es / D + 4 * u * (m + es / D) + tiny.
Definition map_error : R := mean_error + 2 * u * (1 + m + mean_error).

Notation q := (rnd (alpha * S')).

Let u_pos : 0 <= u.
Proof. exact (proj1 rnd_model). Qed.

Let eta_pos : 0 <= eta.
Proof. exact (proj1 (proj1 (proj2 rnd_model))). Qed.

Let M := m + es / D.

Lemma es_pos : 0 <= es.
Proof. pose proof (Rabs_pos (S' - S)); lra. Qed.

Lemma mean_pos : 0 <= S / D.
Proof. apply Rdiv_le_0_compat; assumption. Qed.

Lemma es_D_pos : 0 <= es / D.
Proof. apply Rdiv_le_0_compat; [apply es_pos | exact D_pos]. Qed.

Lemma S'_le : S' / D <= M.
Proof.
  apply Rle_trans with (S / D + es / D); [| unfold M; lra].
  unfold Rdiv; rewrite <- Rmult_plus_distr_r; apply Rmult_le_compat_r.
  - apply Rlt_le, Rinv_0_lt_compat, D_pos.
  - apply Rabs_le_inv in S_error; lra.
Qed.

(** a S' = (S' / D) (1 + theta) with |theta| <= gamma_3. *)
Lemma alpha_product : exists theta, alpha * S' = S' / D * (1 + theta) /\ Rabs theta <= gamma u 3.
Proof.
  destruct D_error as (d1 & d2 & H1 & H2 & HD), alpha_error as (d3 & H3 & Ha).
  destruct (product_of_roundings u u_pos ((d1, true) :: (d2, true) :: (d3, false) :: nil))
    as (theta & Ht & Hb).
  - repeat first [apply List.Forall_nil | apply List.Forall_cons; [assumption |]].
  - simpl; lra.
  - exists theta; split; [| exact Hb].
    rewrite <- Ht, Ha, HD; unfold product_of, factor; simpl.
    apply Rabs_le_inv in H1; apply Rabs_le_inv in H2; field; lra.
Qed.

Lemma gamma_3 : gamma u 3 <= 16 / 5 * u.
Proof.
  unfold gamma; simpl (INR 3).
  apply (Rmult_le_reg_r (1 - (1 + 1 + 1) * u)); [lra |].
  unfold Rdiv; rewrite !Rmult_assoc, Rinv_l by lra; nra.
Qed.

(** The computed mean: |q - S / D| <= es / D + (4 + 1/4) u (m + es / D) + eta. *)
Lemma quotient_error : Rabs (q - S / D) <= es / D + 17 / 4 * u * M + eta.
Proof.
  destruct alpha_product as (theta & Ht & Hb); pose proof gamma_3 as G3.
  pose proof S'_le as HM; pose proof es_D_pos.
  assert (P : 0 <= S' / D) by (apply Rdiv_le_0_compat; assumption).
  pose proof (rounds_weak _ _ _ _ rnd_model (alpha * S')) as Hr.
  assert (Q : Rabs (alpha * S' - S' / D) <= 16 / 5 * u * M).
  { rewrite Ht; replace (S' / D * (1 + theta) - S' / D) with (theta * (S' / D)) by ring.
    rewrite Rabs_mult, (Rabs_pos_eq (S' / D)) by exact P.
    apply Rmult_le_compat; try lra; apply Rabs_pos. }
  assert (A : Rabs (alpha * S') <= M + 16 / 5 * u * M).
  { replace (alpha * S') with (S' / D + (alpha * S' - S' / D)) by ring.
    eapply Rle_trans; [apply Rabs_triang |]; rewrite (Rabs_pos_eq (S' / D)) by exact P; lra. }
  assert (B : Rabs (S' / D - S / D) <= es / D).
  { replace (S' / D - S / D) with ((S' - S) * / D) by (field; lra).
    rewrite Rabs_mult, (Rabs_pos_eq (/ D)) by (apply Rlt_le, Rinv_0_lt_compat, D_pos).
    apply Rmult_le_compat_r; [apply Rlt_le, Rinv_0_lt_compat, D_pos | exact S_error]. }
  replace (q - S / D) with
    ((q - alpha * S') + (alpha * S' - S' / D) + (S' / D - S / D)) by ring.
  eapply Rle_trans; [apply Rabs_triang |].
  eapply Rle_trans; [apply Rplus_le_compat_r, Rabs_triang |].
  assert (u * Rabs (alpha * S') <= u * (M + 16 / 5 * u * M)) by (apply Rmult_le_compat_l; lra).
  assert (M0 : 0 <= M) by lra.
  assert (u * (u * M) <= / 64 * (u * M)) by (apply Rmult_le_compat_r; [nra | lra]).
  lra.
Qed.

Lemma M_pos : 0 <= M.
Proof. unfold M; pose proof mean_pos; pose proof es_D_pos; lra. Qed.

(** The distance: |fl(a S') - S / D| is within [map_error]. *)
Theorem distance_error : Rabs (q - S / D) <= map_error.
Proof.
  pose proof quotient_error as Q; pose proof M_pos as HM; pose proof es_D_pos; pose proof mean_pos.
  pose proof (Rmult_le_pos _ _ u_pos HM) as UM.
  assert (0 <= u * mean_error).
  { apply Rmult_le_pos; [exact u_pos |]; unfold mean_error; fold M; lra. }
  unfold map_error; unfold mean_error at 1; fold M.
  assert (u * m <= u * M) by (apply Rmult_le_compat_l; [exact u_pos | unfold M; lra]).
  assert (HE : M <= m + mean_error) by (unfold mean_error; fold M; unfold M at 1; lra).
  assert (u * M <= u * (m + mean_error))
    by (apply Rmult_le_compat_l; [exact u_pos | lra]).
  lra.
Qed.

(** Before that the error is within [sharp_error], which is less than [map_error]. *)
Definition sharp_error : R :=
  es / D + 17 / 4 * u * M + eta + (u * (1 + M + 17 / 4 * u * M + eta) + eta).

Lemma similarity_sharp : Rabs (rnd (1 - q) - (1 - S / D)) <= sharp_error.
Proof.
  pose proof quotient_error as Q; pose proof mean_pos.
  pose proof (rounds_weak _ _ _ _ rnd_model (1 - q)) as Hr.
  assert (A : Rabs (1 - q) <= 1 + m + (es / D + 17 / 4 * u * M + eta)).
  { replace (1 - q) with (1 + - (S / D) + - (q - S / D)) by ring.
    eapply Rle_trans; [apply Rabs_triang |]; rewrite Rabs_Ropp.
    eapply Rle_trans; [apply Rplus_le_compat_r, Rabs_triang |].
    rewrite Rabs_Ropp, Rabs_R1, (Rabs_pos_eq (S / D)) by assumption; lra. }
  replace (rnd (1 - q) - (1 - S / D)) with ((rnd (1 - q) - (1 - q)) + - (q - S / D)) by ring.
  eapply Rle_trans; [apply Rabs_triang |]; rewrite Rabs_Ropp.
  assert (B : u * Rabs (1 - q) <= u * (1 + M + 17 / 4 * u * M + eta))
    by (apply Rmult_le_compat_l; [exact u_pos | unfold M in *; lra]).
  unfold sharp_error; lra.
Qed.

(** The two bounds, with M = m + es / D and m >= 0. *)
Lemma sharp_le : sharp_error + u * (1 / 2 + M / 2 + tiny) <= map_error.
Proof.
  pose proof M_pos as HM; pose proof es_D_pos; pose proof mean_pos.
  pose proof (Rmult_le_pos _ _ u_pos HM) as UM.
  assert (C1 : u * (u * M) <= / 64 * (u * M)) by (apply Rmult_le_compat_r; lra).
  assert (C2 : u * eta <= u * tiny) by (apply Rmult_le_compat_l; lra).
  unfold map_error, mean_error, sharp_error; fold M.
  replace (1 + m + (es / D + 4 * u * M + tiny)) with (1 + M + 4 * u * M + tiny)
    by (unfold M; ring).
  assert (0 <= u * (u * M)) by (apply Rmult_le_pos; assumption).
  assert (0 <= u * tiny) by (apply Rmult_le_pos; lra).
  lra.
Qed.

(** The similarity of a metric without a root: |fl(1 - fl(a S')) - (1 - S / D)| <= [map_error],
    whatever the sum's own error es, for exact sums of integers es = 0. *)
Theorem similarity_error : Rabs (rnd (1 - q) - (1 - S / D)) <= map_error.
Proof.
  pose proof similarity_sharp; pose proof sharp_le; pose proof M_pos.
  assert (0 <= u * (1 / 2 + M / 2 + tiny)) by (apply Rmult_le_pos; [exact u_pos | lra]); lra.
Qed.

(** After the conversion to the map's dtype, which adds u2 times the largest magnitude and the
    least normal number. *)
Theorem similarity_converted_error (u2 least2 eta2 : R) (rnd2 : R -> R) :
  rounds u2 least2 eta2 rnd2 -> u2 <= / 4 ->
  Rabs (rnd2 (rnd (1 - q)) - (1 - S / D)) <=
  map_error + u2 * (1 + m + mean_error) + least2.
Proof.
  intros Hr2 Hu2; pose proof (proj1 Hr2) as U2; pose proof (proj1 (proj2 Hr2)) as E2.
  pose proof similarity_sharp as HS; pose proof sharp_le as HL; pose proof M_pos as HM.
  pose proof mean_pos; pose proof es_D_pos.
  set (r := rnd (1 - q)) in *.
  pose proof (rounds_weak _ _ _ _ Hr2 r) as Hr.
  assert (A : Rabs r <= 1 + m + sharp_error).
  { replace r with (1 + - (S / D) + (r - (1 - S / D))) by ring.
    eapply Rle_trans; [apply Rabs_triang |].
    eapply Rle_trans; [apply Rplus_le_compat_r, Rabs_triang |].
    rewrite Rabs_Ropp, Rabs_R1, (Rabs_pos_eq (S / D)) by assumption; lra. }
  assert (Gap : sharp_error <= mean_error + u * (2 + 2 * M + tiny)).
  { pose proof (Rmult_le_pos _ _ u_pos HM) as UM.
    assert (C1 : u * (u * M) <= / 64 * (u * M)) by (apply Rmult_le_compat_r; lra).
    assert (C2 : u * eta <= u * tiny) by (apply Rmult_le_compat_l; lra).
    unfold sharp_error, mean_error; fold M; lra. }
  replace (rnd2 r - (1 - S / D)) with ((rnd2 r - r) + (r - (1 - S / D))) by ring.
  eapply Rle_trans; [apply Rabs_triang |].
  apply (Rmult_le_compat_l u2) in A; [| exact U2].
  assert (B : u2 * sharp_error <= u2 * (mean_error + u * (2 + 2 * M + tiny)))
    by (apply Rmult_le_compat_l; assumption).
  assert (B' : u2 * (u * (2 + 2 * M + tiny)) <= / 4 * (u * (2 + 2 * M + tiny)))
    by (apply Rmult_le_compat_r; [apply Rmult_le_pos; lra | exact Hu2]).
  assert (0 <= u * tiny) by (apply Rmult_le_pos; lra).
  lra.
Qed.
End Finish.

(** Conversion in general, for raw sums: if |y - s| <= e and |s| <= magnitude, then
    |fl(y) - s| <= e + u2 (magnitude + e) + least2. *)
Theorem conversion_error (u2 least2 eta2 : R) (rnd2 : R -> R) (y s e magnitude : R) :
  rounds u2 least2 eta2 rnd2 -> Rabs (y - s) <= e -> Rabs s <= magnitude ->
  Rabs (rnd2 y - s) <= e + u2 * (magnitude + e) + least2.
Proof.
  intros Hr He Hs; pose proof (rounds_weak _ _ _ _ Hr y) as H.
  pose proof (proj1 (proj2 Hr)) as E.
  assert (A : Rabs y <= magnitude + e).
  { replace y with (s + (y - s)) by ring; eapply Rle_trans; [apply Rabs_triang | lra]. }
  apply (Rmult_le_compat_l u2) in A; [| exact (proj1 Hr)].
  replace (rnd2 y - s) with ((rnd2 y - y) + (y - s)) by ring.
  eapply Rle_trans; [apply Rabs_triang | lra].
Qed.

(** ** rmse *)

(** |sqrt a - sqrt b| <= sqrt |a - b| for b >= 0: the modulus of the root. *)
Theorem sqrt_modulus a b : 0 <= b -> Rabs (sqrt a - sqrt b) <= sqrt (Rabs (a - b)).
Proof.
  intros Hb.
  assert (K : forall x y, 0 <= y <= x -> sqrt x <= sqrt y + sqrt (x - y)).
  { intros x y Hxy; pose proof (sqrt_pos y); pose proof (sqrt_pos (x - y)).
    rewrite <- (sqrt_pow2 (sqrt y + sqrt (x - y))) by lra; apply sqrt_le_1_alt.
    replace ((sqrt y + sqrt (x - y)) ^ 2) with
      (sqrt y * sqrt y + sqrt (x - y) * sqrt (x - y) + 2 * (sqrt y * sqrt (x - y))) by ring.
    rewrite !sqrt_sqrt by lra.
    assert (0 <= sqrt y * sqrt (x - y)) by (apply Rmult_le_pos; assumption); lra. }
  destruct (Rle_dec b a) as [H | H].
  - pose proof (K a b ltac:(lra)); pose proof (sqrt_le_1_alt b a H).
    rewrite !Rabs_pos_eq by lra; lra.
  - assert (Ha : sqrt a <= sqrt b) by (apply sqrt_le_1_alt; lra).
    rewrite !Rabs_left1 by lra; replace (- (a - b)) with (b - a) by ring.
    destruct (Rle_dec 0 a) as [H0 | H0]; [pose proof (K b a ltac:(lra)); lra |].
    rewrite (sqrt_neg a) by lra; replace (- (0 - sqrt b)) with (sqrt b) by ring.
    apply sqrt_le_1_alt; lra.
Qed.

(** Without weights the divisor has one rounding, and the computed mean is within [mean_error]:
    |fl(a S') - S / D| <= es / D + 4 u (m + es / D) + tiny. *)
Theorem mean_error_unweighted (u least eta tiny : R) (rnd : R -> R) (S S' es D d1 d3 alpha m : R) :
  rounds u least eta rnd -> u <= / 64 -> eta <= tiny ->
  0 <= S -> 0 <= S' -> Rabs (S' - S) <= es -> 0 < D -> S / D <= m ->
  Rabs d1 <= u -> Rabs d3 <= u -> alpha = / (D * (1 + d1)) * (1 + d3) ->
  Rabs (rnd (alpha * S') - S / D) <= mean_error u tiny es D m.
Proof.
  intros Hr Hu Ht H0 H0' He HD Hm H1 H3 Ha; pose proof (proj1 Hr) as U.
  assert (I : 0 < / D) by (apply Rinv_0_lt_compat, HD).
  set (M := m + es / D).
  assert (HM : S' / D <= M).
  { apply Rle_trans with (S / D + es / D); [| unfold M; lra].
    unfold Rdiv; rewrite <- Rmult_plus_distr_r; apply Rmult_le_compat_r; [lra |].
    apply Rabs_le_inv in He; lra. }
  assert (P : 0 <= S' / D) by (apply Rdiv_le_0_compat; assumption).
  destruct (product_of_roundings u U ((d1, true) :: (d3, false) :: nil)) as (theta & Hth & Hb).
  { repeat first [apply List.Forall_nil | apply List.Forall_cons; [assumption |]]. }
  { simpl; lra. }
  assert (G : gamma u 2 <= 5 / 2 * u).
  { unfold gamma; simpl (INR 2); apply (Rmult_le_reg_r (1 - (1 + 1) * u)); [lra |].
    unfold Rdiv; rewrite !Rmult_assoc, Rinv_l by lra; nra. }
  simpl length in Hb.
  assert (E : alpha * S' = S' / D * (1 + theta)).
  { rewrite <- Hth, Ha; unfold product_of, factor; simpl.
    apply Rabs_le_inv in H1; field; lra. }
  assert (Q : Rabs (alpha * S' - S' / D) <= 5 / 2 * u * M).
  { rewrite E; replace (S' / D * (1 + theta) - S' / D) with (theta * (S' / D)) by ring.
    rewrite Rabs_mult, (Rabs_pos_eq (S' / D)) by exact P.
    apply Rmult_le_compat; try lra; apply Rabs_pos. }
  assert (A : Rabs (alpha * S') <= M + 5 / 2 * u * M).
  { replace (alpha * S') with (S' / D + (alpha * S' - S' / D)) by ring.
    eapply Rle_trans; [apply Rabs_triang |]; rewrite (Rabs_pos_eq (S' / D)) by exact P; lra. }
  assert (B : Rabs (S' / D - S / D) <= es / D).
  { replace (S' / D - S / D) with ((S' - S) * / D) by (field; lra).
    rewrite Rabs_mult, (Rabs_pos_eq (/ D)) by lra; apply Rmult_le_compat_r; [lra | exact He]. }
  pose proof (rounds_weak _ _ _ _ Hr (alpha * S')) as R1.
  apply (Rmult_le_compat_l u) in A; [| exact U].
  assert (M0 : 0 <= u * M) by (apply Rmult_le_pos; lra).
  assert (u * (u * M) <= / 64 * (u * M)) by (apply Rmult_le_compat_r; lra).
  replace (rnd (alpha * S') - S / D) with ((rnd (alpha * S') - alpha * S') +
    (alpha * S' - S' / D) + (S' / D - S / D)) by ring.
  eapply Rle_trans; [apply Rabs_triang |].
  eapply Rle_trans; [apply Rplus_le_compat_r, Rabs_triang |].
  unfold mean_error; fold M; lra.
Qed.

(** rmse: if the mean q errs by at most e, then fl(1 - fl(sqrt q)) errs by at most
    sqrt e + 2 u (1 + sqrt m + sqrt e), m being a bound on the mean. *)
Theorem rmse_error (u least eta : R) (rnd : R -> R) (q mean m e : R) :
  rounds u least eta rnd -> 0 <= mean <= m -> Rabs (q - mean) <= e ->
  u <= 1 -> 6 * eta <= u -> u * (sqrt m + sqrt e) <= / 2 ->
  Rabs (rnd (1 - rnd (sqrt q)) - (1 - sqrt mean)) <= sqrt e + 2 * u * (1 + sqrt m + sqrt e).
Proof.
  intros Hr Hm He Hu Heta Hl.
  pose proof (proj1 Hr) as U; pose proof (proj1 (proj1 (proj2 Hr))) as E0.
  pose proof (sqrt_modulus q mean (proj1 Hm)) as HM.
  pose proof (sqrt_le_1_alt _ _ He) as HE; pose proof (sqrt_le_1_alt _ _ (proj2 Hm)) as Hs.
  pose proof (sqrt_pos q) as Q0; pose proof (sqrt_pos m).
  assert (HQ : sqrt q <= sqrt m + sqrt e) by (apply Rabs_le_inv in HM; lra).
  pose proof (rounds_weak _ _ _ _ Hr (sqrt q)) as R1; rewrite (Rabs_pos_eq _ Q0) in R1.
  pose proof (rounds_weak _ _ _ _ Hr (1 - rnd (sqrt q))) as R2.
  assert (UQ : u * sqrt q <= u * (sqrt m + sqrt e)) by (apply Rmult_le_compat_l; lra).
  assert (A : Rabs (1 - rnd (sqrt q)) <= 1 + sqrt q + (u * sqrt q + eta)).
  { replace (1 - rnd (sqrt q)) with (1 + - sqrt q + - (rnd (sqrt q) - sqrt q)) by ring.
    eapply Rle_trans; [apply Rabs_triang |]; rewrite Rabs_Ropp.
    eapply Rle_trans; [apply Rplus_le_compat_r, Rabs_triang |].
    rewrite Rabs_Ropp, Rabs_R1, (Rabs_pos_eq (sqrt q)) by exact Q0; lra. }
  apply (Rmult_le_compat_l u) in A; [| exact U].
  replace (rnd (1 - rnd (sqrt q)) - (1 - sqrt mean)) with
    ((rnd (1 - rnd (sqrt q)) - (1 - rnd (sqrt q))) + - (rnd (sqrt q) - sqrt q) +
     - (sqrt q - sqrt mean)) by ring.
  eapply Rle_trans; [apply Rabs_triang |]; rewrite Rabs_Ropp.
  eapply Rle_trans; [apply Rplus_le_compat_r, Rabs_triang |]; rewrite Rabs_Ropp.
  assert (C1 : u * (u * sqrt q) <= u * / 2) by (apply Rmult_le_compat_l; lra).
  assert (C2 : u * eta <= 1 * eta) by (apply Rmult_le_compat_r; lra).
  lra.
Qed.

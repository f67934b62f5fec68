(** * Approximate expansions: l1 on [0, 1] with R channels, and hue

    |x - y| = x + y - 2 min(x, y), and
    min(x, y) = sum_(j >= 0) 2 sin(w_j x) sin(w_j y) / w_j^2 with w_j = (j + 1/2) pi:
    cut off after R terms, the sum errs by at most 2 / (pi^2 R). And whatever sum of products that
    are linear between nodes is close to |x - y| at the nodes is as close between them. *)

From Coq Require Import Reals Lra Lia Psatz List.
From Coquelicot Require Import Coquelicot.
From Patchsim Require Import FloatingPoint.
Open Scope R_scope.

(** f(0) + ... + f(n - 1). *)
Fixpoint partial (f : nat -> R) (n : nat) : R :=
  match n with O => 0 | S m => partial f m + f m end.

Definition omega (j : nat) : R := (INR j + / 2) * PI.
Definition sine_term (x y : R) (j : nat) : R :=
  2 * sin (omega j * x) * sin (omega j * y) / omega j ^ 2.

(** |x - y| = x + y - 2 min(x, y). *)
Theorem l1_as_min x y : Rabs (x - y) = x + y - 2 * Rmin x y.
Proof.
  unfold Rmin, Rabs; destruct (Rcase_abs (x - y)), (Rle_dec x y); lra.
Qed.

Lemma omega_pos j : 0 < omega j.
Proof.
  unfold omega; apply Rmult_lt_0_compat; [pose proof (pos_INR j); lra | apply PI_RGT_0].
Qed.

(** ** The tail of the series *)

Lemma partial_ext f g n : (forall j, f j = g j) -> partial f n = partial g n.
Proof. intros H; induction n as [| n IH]; simpl; [| rewrite IH, H]; reflexivity. Qed.

Lemma partial_plus f g n : partial (fun j => f j + g j) n = partial f n + partial g n.
Proof. induction n as [| n IH]; simpl; [| rewrite IH]; ring. Qed.

Lemma partial_scale c f n : partial (fun j => c * f j) n = c * partial f n.
Proof. induction n as [| n IH]; simpl; [| rewrite IH]; ring. Qed.

(** 1 / (j + 1/2)^2 <= 1/j - 1/(j + 1). *)
Lemma inverse_square_telescopes j : (1 <= j)%nat ->
  / (INR j + / 2) ^ 2 <= / INR j - / INR (S j).
Proof.
  intros Hj; assert (H : 1 <= INR j) by (apply (le_INR 1), Hj).
  rewrite S_INR; replace (/ INR j - / (INR j + 1)) with (/ (INR j * (INR j + 1)))
    by (field; lra).
  apply Rinv_le_contravar; nra.
Qed.

Lemma inverse_omega_square j : / omega j ^ 2 = / PI ^ 2 * / (INR j + / 2) ^ 2.
Proof.
  unfold omega; pose proof PI_RGT_0; pose proof (pos_INR j).
  field; split; lra.
Qed.

(** If |f_j| <= c / w_j^2, then |f_R + ... + f_(R+m-1)| <= (c / pi^2) (1/R - 1/(R + m)). *)
Lemma tail f c r m : 0 <= c -> (1 <= r)%nat -> (forall j, Rabs (f j) <= c * / omega j ^ 2) ->
  Rabs (partial f (r + m) - partial f r) <= c / PI ^ 2 * (/ INR r - / INR (r + m)).
Proof.
  intros Hc Hr Hf; induction m as [| m IH].
  - rewrite Nat.add_0_r, !Rminus_diag_eq, Rabs_R0 by reflexivity; lra.
  - rewrite Nat.add_succ_r; simpl partial.
    replace (partial f (r + m) + f (r + m)%nat - partial f r) with
      ((partial f (r + m) - partial f r) + f (r + m)%nat) by ring.
    eapply Rle_trans; [apply Rabs_triang |].
    specialize (Hf (r + m)%nat); rewrite inverse_omega_square in Hf.
    pose proof (inverse_square_telescopes (r + m) ltac:(lia)) as T.
    assert (P : 0 <= c / PI ^ 2).
    { pose proof PI_RGT_0; apply Rdiv_le_0_compat; [lra | nra]. }
    pose proof (Rmult_le_compat_l _ _ _ P T) as T'.
    unfold Rdiv in *; nra.
Qed.

Lemma tail_bound f c r m : 0 <= c -> (1 <= r)%nat ->
  (forall j, Rabs (f j) <= c * / omega j ^ 2) ->
  Rabs (partial f (r + m) - partial f r) <= c / (PI ^ 2 * INR r).
Proof.
  intros Hc Hr Hf; pose proof (tail f c r m Hc Hr Hf) as H.
  pose proof PI_RGT_0 as HP.
  assert (Hr' : 1 <= INR r) by (apply (le_INR 1), Hr).
  assert (Hm : 0 < / INR (r + m))
    by (apply Rinv_0_lt_compat; rewrite plus_INR; pose proof (pos_INR m); lra).
  assert (P : 0 <= c / PI ^ 2) by (apply Rdiv_le_0_compat; [lra | nra]).
  replace (c / (PI ^ 2 * INR r)) with (c / PI ^ 2 * / INR r) by (field; split; lra).
  nra.
Qed.

Lemma sine_term_small x y j : Rabs (sine_term x y j) <= 2 * / omega j ^ 2.
Proof.
  pose proof (omega_pos j) as Hj.
  assert (Hi : 0 < / omega j ^ 2) by (apply Rinv_0_lt_compat, pow_lt, Hj).
  assert (S1 : forall z, Rabs (sin z) <= 1) by (intros z; apply Rabs_le, SIN_bound).
  unfold sine_term, Rdiv; rewrite !Rabs_mult, (Rabs_pos_eq 2), (Rabs_pos_eq (/ _)) by lra.
  pose proof (S1 (omega j * x)); pose proof (S1 (omega j * y)).
  pose proof (Rabs_pos (sin (omega j * x))); pose proof (Rabs_pos (sin (omega j * y))).
  apply Rmult_le_compat_r; [lra |]; nra.
Qed.

(** |sum_(j < R + m) - sum_(j < R)| <= 2 / (pi^2 R) for all x, y and m: the partial sums form a
    Cauchy sequence, uniformly. For |terms| <= 2 / w_j^2, and 1 / (j + 1/2)^2 <= 1/j - 1/(j+1)
    telescopes. *)
Theorem sine_tail x y r m : (1 <= r)%nat ->
  Rabs (partial (sine_term x y) (r + m) - partial (sine_term x y) r) <= 2 / (PI ^ 2 * INR r).
Proof. intros Hr; apply tail_bound; [lra | exact Hr | apply sine_term_small]. Qed.

(** ** The identity

    By product to sum, the partial sums are C_n(|x - y|) - C_n(x + y) with
    C_n(t) = sum_(j < n) cos(w_j t) / w_j^2; to prove: C_n(s) - C_n(t) tends to (t - s) / 2.
    The derivative of C_n(t) + t / 2 is E_n(t) = 1/2 - sum_(j < n) sin(w_j t) / w_j, of which the
    derivative is - sin(n pi t) / (2 sin(pi t / 2)), so that one integration by parts shows E_n to
    vary by O(1/n) inside (0, 2). At t = 1 it is the remainder of Leibniz's series for pi. *)

Definition cosines (n : nat) (t : R) : R := partial (fun j => cos (omega j * t) / omega j ^ 2) n.

Definition slope (n : nat) (t : R) : R := / 2 - partial (fun j => sin (omega j * t) / omega j) n.

Lemma derive_plus (f g : R -> R) t a b :
  is_derive f t a -> is_derive g t b -> is_derive (fun t => f t + g t) t (a + b).
Proof. intros Hf Hg; exact (is_derive_plus f g t a b Hf Hg). Qed.

Lemma derive_minus (f g : R -> R) t a b :
  is_derive f t a -> is_derive g t b -> is_derive (fun t => f t - g t) t (a - b).
Proof. intros Hf Hg; exact (is_derive_minus f g t a b Hf Hg). Qed.

Lemma partial_derive (f df : nat -> R -> R) n t :
  (forall j, is_derive (f j) t (df j t)) ->
  is_derive (fun t => partial (fun j => f j t) n) t (partial (fun j => df j t) n).
Proof.
  intros H; induction n as [| n IH]; simpl; [apply is_derive_Reals, derivable_pt_lim_const |].
  apply derive_plus; [exact IH | apply H].
Qed.

Lemma cosines_derive n t : is_derive (fun t => cosines n t + t / 2) t (slope n t).
Proof.
  unfold slope; replace (/ 2 - partial (fun j => sin (omega j * t) / omega j) n) with
    (partial (fun j => - (sin (omega j * t) / omega j)) n + / 2).
  2: { rewrite (partial_ext _ (fun j => -1 * (sin (omega j * t) / omega j)))
         by (intros; ring).
       rewrite partial_scale; ring. }
  apply derive_plus; [| auto_derive; [exact I | field]].
  apply (partial_derive (fun j t => cos (omega j * t) / omega j ^ 2)
    (fun j t => - (sin (omega j * t) / omega j))).
  intros j; pose proof (omega_pos j).
  auto_derive; [exact I |]; field; lra.
Qed.

Lemma slope_derive n t : is_derive (slope n) t (- partial (fun j => cos (omega j * t)) n).
Proof.
  replace (- partial (fun j => cos (omega j * t)) n) with
    (0 - partial (fun j => cos (omega j * t)) n) by ring.
  apply derive_minus; [apply is_derive_Reals, derivable_pt_lim_const |].
  apply (partial_derive (fun j t => sin (omega j * t) / omega j)
    (fun j t => cos (omega j * t))).
  intros j; pose proof (omega_pos j).
  auto_derive; [exact I |]; field; lra.
Qed.

(** 2 sin(pi t / 2) sum_(j < n) cos(w_j t) = sin(n pi t). *)
Lemma cosine_kernel n t :
  2 * sin (PI * t / 2) * partial (fun j => cos (omega j * t)) n = sin (INR n * PI * t).
Proof.
  induction n as [| n IH].
  - simpl; rewrite !Rmult_0_l, sin_0; ring.
  - simpl partial; rewrite Rmult_plus_distr_l, IH, S_INR.
    replace ((INR n + 1) * PI * t) with (omega n * t + PI * t / 2) by (unfold omega; field).
    replace (INR n * PI * t) with (omega n * t - PI * t / 2) by (unfold omega; field).
    rewrite sin_plus, sin_minus; ring.
Qed.

(** E_n minus what the integration by parts finds. *)
Definition reduced (n : nat) (t : R) : R :=
  slope n t - cos (INR n * PI * t) / (2 * INR n * PI * sin (PI * t / 2)).

Lemma sin_half_pos t : 0 < t < 2 -> 0 < sin (PI * t / 2).
Proof. intros Ht; pose proof PI_RGT_0; apply sin_gt_0; nra. Qed.

Lemma reduced_derive n t : (1 <= n)%nat -> 0 < t < 2 ->
  is_derive (reduced n) t
    (cos (INR n * PI * t) * cos (PI * t / 2) / (4 * INR n * sin (PI * t / 2) ^ 2)).
Proof.
  intros Hn Ht; pose proof PI_RGT_0 as HP; pose proof (sin_half_pos t Ht) as Hs.
  assert (Hn' : 1 <= INR n) by (apply (le_INR 1), Hn).
  pose proof (cosine_kernel n t) as K.
  replace (cos (INR n * PI * t) * cos (PI * t / 2) / (4 * INR n * sin (PI * t / 2) ^ 2)) with
    (- partial (fun j => cos (omega j * t)) n -
     (- (INR n * PI * sin (INR n * PI * t)) / (2 * INR n * PI * sin (PI * t / 2)) -
      cos (INR n * PI * t) * (2 * INR n * PI * (PI / 2 * cos (PI * t / 2))) /
      (2 * INR n * PI * sin (PI * t / 2)) ^ 2)).
  2: { rewrite <- K; field; lra. }
  apply derive_minus; [apply slope_derive |].
  auto_derive; change (PI * t * / 2) with (PI * t / 2).
  - pose proof (Rmult_lt_0_compat _ _ HP Hs) as H1.
    assert (H2 : 0 < INR n) by lra.
    pose proof (Rmult_lt_0_compat _ _ H2 H1); lra.
  - field; lra.
Qed.

Lemma quotient_small a b c : Rabs a <= 1 -> 0 < c <= b -> Rabs (a / b) <= / c.
Proof.
  intros Ha Hc; unfold Rdiv; rewrite Rabs_mult, (Rabs_pos_eq (/ b))
    by (apply Rlt_le, Rinv_0_lt_compat; lra).
  pose proof (Rinv_le_contravar _ _ (proj1 Hc) (proj2 Hc)).
  assert (0 < / b) by (apply Rinv_0_lt_compat; lra).
  pose proof (Rabs_pos a); nra.
Qed.

Lemma cos_small x : Rabs (cos x) <= 1.
Proof. apply Rabs_le, COS_bound. Qed.

Lemma sin_half_le d t : 0 < d <= 1 -> d <= t <= 2 - d -> sin (PI * d / 2) <= sin (PI * t / 2).
Proof.
  intros Hd Ht; pose proof PI_RGT_0.
  destruct (Rle_dec t 1) as [H1 | H1].
  - apply sin_incr_1; nra.
  - rewrite <- (sin_PI_x (PI * t / 2)); apply sin_incr_1; nra.
Qed.

(** |E_n(t)| <= |E_n(1)| + (1 / s^2 + 2 / s) / n for d <= t <= 2 - d, where s = sin(pi d / 2). *)
Lemma slope_bound d n t : 0 < d <= 1 -> (1 <= n)%nat -> d <= t <= 2 - d ->
  let s := sin (PI * d / 2) in
  Rabs (slope n t) <= Rabs (slope n 1) + (/ s ^ 2 + 2 / s) * / INR n.
Proof.
  intros Hd Hn Ht s; pose proof PI_RGT_0 as HP; pose proof PI2_3_2 as HP'.
  assert (Hn' : 1 <= INR n) by (apply (le_INR 1), Hn).
  assert (Hs : 0 < s) by (apply sin_half_pos; lra).
  assert (Hc : forall r, d <= r <= 2 - d ->
    Rabs (cos (INR n * PI * r) / (2 * INR n * PI * sin (PI * r / 2))) <= / (INR n * s)).
  { intros r Hr; pose proof (sin_half_le d r Hd Hr) as Hr'; fold s in Hr'.
    apply quotient_small; [apply cos_small |]; split; [nra |].
    replace (2 * INR n * PI * sin (PI * r / 2)) with
      ((2 * PI) * (INR n * sin (PI * r / 2))) by ring.
    assert (INR n * s <= INR n * sin (PI * r / 2)) by (apply Rmult_le_compat_l; lra).
    assert (0 < INR n * s) by nra; nra. }
  assert (Hm : Rabs (reduced n t - reduced n 1) <= / (INR n * s ^ 2)).
  { destruct (MVT_gen (reduced n) 1 t (fun r => cos (INR n * PI * r) * cos (PI * r / 2) /
      (4 * INR n * sin (PI * r / 2) ^ 2))) as (c & Hcr & ->).
    - intros r Hr; apply reduced_derive; [exact Hn |].
      unfold Rmin, Rmax in Hr; destruct (Rle_dec 1 t); lra.
    - intros r Hr; apply continuity_pt_filterlim.
      apply (ex_derive_continuous (reduced n)).
      eexists; apply reduced_derive; [exact Hn |].
      unfold Rmin, Rmax in Hr; destruct (Rle_dec 1 t); lra.
    - assert (Hcr' : d <= c <= 2 - d)
        by (unfold Rmin, Rmax in Hcr; destruct (Rle_dec 1 t); lra).
      pose proof (sin_half_le d c Hd Hcr') as Hsc; fold s in Hsc.
      assert (Hs2 : s ^ 2 <= sin (PI * c / 2) ^ 2) by (apply pow_incr; lra).
      pose proof (pow_lt s 2 Hs) as Hs3.
      assert (Q : Rabs (cos (INR n * PI * c) * cos (PI * c / 2) /
        (4 * INR n * sin (PI * c / 2) ^ 2)) <= / (INR n * s ^ 2)).
      { apply quotient_small.
        - rewrite Rabs_mult; pose proof (cos_small (INR n * PI * c)).
          pose proof (cos_small (PI * c / 2)); pose proof (Rabs_pos (cos (INR n * PI * c))).
          pose proof (Rabs_pos (cos (PI * c / 2))); nra.
        - split; [nra |]; nra. }
      rewrite Rabs_mult; assert (T : Rabs (t - 1) <= 1) by (apply Rabs_le; lra).
      pose proof (Rabs_pos (t - 1)).
      pose proof (Rabs_pos (cos (INR n * PI * c) * cos (PI * c / 2) /
        (4 * INR n * sin (PI * c / 2) ^ 2))); nra. }
  pose proof (Hc t Ht) as Ct; pose proof (Hc 1 ltac:(lra)) as C1.
  unfold reduced in Hm.
  set (ct := cos (INR n * PI * t) / _) in *; set (c1 := cos (INR n * PI * 1) / _) in *.
  replace (slope n t) with (slope n 1 + (slope n t - ct - (slope n 1 - c1)) + ct + - c1) by ring.
  replace ((/ s ^ 2 + 2 / s) * / INR n) with
    (/ (INR n * s ^ 2) + / (INR n * s) + / (INR n * s)) by (field; lra).
  eapply Rle_trans; [apply Rabs_triang |]; rewrite Rabs_Ropp.
  eapply Rle_trans; [apply Rplus_le_compat_r, Rabs_triang |].
  eapply Rle_trans; [apply Rplus_le_compat_r, Rplus_le_compat_r, Rabs_triang |]; lra.
Qed.

(** E_n(1) tends to 0: sum (-1)^j / (2 j + 1) = pi / 4. *)
Lemma slope_at_1 eps : 0 < eps ->
  exists N, forall n, (N <= n)%nat -> Rabs (slope n 1) < eps.
Proof.
  intros He; pose proof PI_RGT_0 as HP; pose proof PI2_3_2 as HP'.
  assert (HL : Un_cv (fun n => sum_f_R0 (tg_alt PI_tg) n) (PI / 4)).
  { rewrite <- Alt_PI_eq; unfold Alt_PI; destruct exist_PI as [l Hl].
    replace (4 * l / 4) with l by field; exact Hl. }
  assert (Hp : forall n, partial (tg_alt PI_tg) (S n) = sum_f_R0 (tg_alt PI_tg) n).
  { induction n as [| n IH]; [simpl; ring |].
    change (partial (tg_alt PI_tg) (S n) + tg_alt PI_tg (S n) =
            sum_f_R0 (tg_alt PI_tg) (S n)); rewrite IH; reflexivity. }
  assert (Hs : forall n, slope n 1 = 2 / PI * (PI / 4 - partial (tg_alt PI_tg) n)).
  { intros n; unfold slope.
    rewrite (partial_ext _ (fun j => 2 / PI * tg_alt PI_tg j)).
    - rewrite partial_scale; field; lra.
    - intros j; unfold tg_alt, PI_tg; rewrite Rmult_1_r.
      assert (Hj : sin (omega j) = (-1) ^ j).
      { unfold omega; replace ((INR j + / 2) * PI) with (PI / 2 + INR j * PI) by field.
        induction j as [| j IH].
        - simpl; rewrite Rmult_0_l, Rplus_0_r; apply sin_PI2.
        - rewrite S_INR; replace (PI / 2 + (INR j + 1) * PI) with
            ((PI / 2 + INR j * PI) + PI) by ring.
          rewrite neg_sin, IH; simpl; ring. }
      rewrite Hj, plus_INR, mult_INR; unfold omega; simpl (INR 2); simpl (INR 1).
      pose proof (pos_INR j); field; lra. }
  destruct (HL eps He) as [N HN]; exists (S N); intros n Hn.
  destruct n as [| n]; [lia |].
  specialize (HN n ltac:(lia)); rewrite Hs, Hp; unfold R_dist in HN.
  rewrite Rabs_mult, Rabs_minus_sym, (Rabs_pos_eq (2 / PI))
    by (apply Rdiv_le_0_compat; lra).
  assert (H2 : 2 / PI <= 1) by (apply (Rdiv_le_1 2 PI); lra).
  pose proof (Rabs_pos (sum_f_R0 (tg_alt PI_tg) n - PI / 4)); nra.
Qed.

Lemma eventually_small b eps : 0 <= b -> 0 < eps ->
  exists N, (1 <= N)%nat /\ forall n, (N <= n)%nat -> b * / INR n < eps.
Proof.
  intros Hb He; destruct (nfloor_ex (b / eps)) as [N [_ HN]].
  { apply Rdiv_le_0_compat; lra. }
  exists (S N); split; [lia |]; intros n Hn; apply le_INR in Hn; rewrite S_INR in Hn.
  pose proof (pos_INR N).
  apply (Rmult_lt_reg_r (INR n)); [lra |].
  rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
  apply (Rmult_lt_compat_l eps) in HN; [| exact He].
  replace (eps * (b / eps)) with b in HN by (field; lra); nra.
Qed.

(** On [d, 2 - d], C_n(t) + t / 2 tends to a constant. *)
Lemma cosines_inside d s t eps : 0 < d <= 1 -> d <= s <= 2 - d -> d <= t <= 2 - d -> 0 < eps ->
  exists N, forall n, (N <= n)%nat ->
    Rabs ((cosines n t + t / 2) - (cosines n s + s / 2)) < eps.
Proof.
  intros Hd Hs Ht He.
  destruct (slope_at_1 (eps / 4) ltac:(lra)) as [N1 H1].
  set (q := sin (PI * d / 2)).
  assert (Hq : 0 < q) by (apply sin_half_pos; lra).
  destruct (eventually_small (/ q ^ 2 + 2 / q) (eps / 4)) as (N2 & HN2 & H2); [| lra |].
  { apply Rplus_le_le_0_compat; [| apply Rdiv_le_0_compat; lra].
    apply Rlt_le, Rinv_0_lt_compat, pow_lt, Hq. }
  exists (max N1 N2); intros n Hn.
  destruct (MVT_gen (fun t => cosines n t + t / 2) s t (slope n)) as (c & Hc & ->).
  - intros r _; apply cosines_derive.
  - intros r _; apply continuity_pt_filterlim.
    apply (ex_derive_continuous (fun t => cosines n t + t / 2)).
    eexists; apply cosines_derive.
  - assert (Hc' : d <= c <= 2 - d)
      by (unfold Rmin, Rmax in Hc; destruct (Rle_dec s t); lra).
    pose proof (slope_bound d n c Hd ltac:(lia) Hc') as B; fold q in B; cbv zeta in B.
    specialize (H1 n ltac:(lia)); specialize (H2 n ltac:(lia)).
    assert (T : Rabs (t - s) <= 2 * (1 - d)) by (apply Rabs_le; lra).
    pose proof (Rabs_pos (slope n c)); pose proof (Rabs_pos (t - s)).
    rewrite Rabs_mult; nra.
Qed.

Lemma cosines_tail t n m : (1 <= n)%nat ->
  Rabs (cosines (n + m) t - cosines n t) <= / INR n.
Proof.
  intros Hn; pose proof PI2_3_2 as HP.
  assert (Hn' : 1 <= INR n) by (apply (le_INR 1), Hn).
  apply Rle_trans with (1 / (PI ^ 2 * INR n)).
  - apply tail_bound; [lra | exact Hn |]; intros j; pose proof (omega_pos j).
    assert (0 < / omega j ^ 2) by (apply Rinv_0_lt_compat, pow_lt; assumption).
    unfold Rdiv; rewrite Rabs_mult, (Rabs_pos_eq (/ _)) by lra.
    apply Rmult_le_compat_r; [lra | apply cos_small].
  - unfold Rdiv; rewrite Rmult_1_l; apply Rinv_le_contravar; [lra |].
    assert (1 <= PI ^ 2) by nra; nra.
Qed.

(** At an end of [0, 2] the series, being uniformly convergent, is continuous. *)
Lemma cosines_near t eps : 0 <= t <= 2 -> 0 < eps ->
  exists d r N, 0 < d <= 1 /\ d <= r <= 2 - d /\ forall n, (N <= n)%nat ->
    Rabs ((cosines n t + t / 2) - (cosines n r + r / 2)) < eps.
Proof.
  intros Ht He.
  destruct (eventually_small 1 (eps / 8) ltac:(lra) ltac:(lra)) as (N & HN & HN').
  specialize (HN' N ltac:(lia)); rewrite Rmult_1_l in HN'.
  assert (HC : continuity_pt (fun t => cosines N t + t / 2) t).
  { apply continuity_pt_filterlim.
    apply (ex_derive_continuous (fun t => cosines N t + t / 2)).
    eexists; apply cosines_derive. }
  destruct (HC (eps / 4) ltac:(lra)) as (delta & Hdelta & HD).
  set (d := Rmin 1 delta / 2).
  assert (Hd : 0 < d <= 1 / 2 /\ d < delta).
  { unfold d, Rmin; destruct (Rle_dec 1 delta); lra. }
  exists d, (t + d * (1 - t)), N; split; [lra | split; [split; nra |]].
  intros n Hn; set (r := t + d * (1 - t)) in *.
  assert (Hr : Rabs ((cosines N r + r / 2) - (cosines N t + t / 2)) < eps / 4).
  { destruct (Req_dec r t) as [E | E]; [rewrite E, Rminus_diag_eq, Rabs_R0; lra |].
    apply HD; split; [split; [exact I | congruence] |].
    simpl; unfold R_dist, r; replace (t + d * (1 - t) - t) with (d * (1 - t)) by ring.
    rewrite Rabs_mult, (Rabs_pos_eq d) by lra.
    assert (Rabs (1 - t) <= 1) by (apply Rabs_le; lra).
    pose proof (Rabs_pos (1 - t)); nra. }
  replace n with (N + (n - N))%nat by lia.
  pose proof (cosines_tail t N (n - N) HN) as T1; pose proof (cosines_tail r N (n - N) HN) as T2.
  set (n' := (N + (n - N))%nat) in *.
  replace (cosines n' t + t / 2 - (cosines n' r + r / 2)) with
    ((cosines n' t - cosines N t) + - (cosines n' r - cosines N r) +
     - ((cosines N r + r / 2) - (cosines N t + t / 2))) by ring.
  eapply Rle_lt_trans; [apply Rabs_triang |]; rewrite Rabs_Ropp.
  eapply Rle_lt_trans; [apply Rplus_le_compat_r, Rabs_triang |]; rewrite Rabs_Ropp; lra.
Qed.

(** C_n(s) - C_n(t) tends to (t - s) / 2 for s, t in [0, 2]. *)
Lemma cosines_limit s t eps : 0 <= s <= 2 -> 0 <= t <= 2 -> 0 < eps ->
  exists N, forall n, (N <= n)%nat -> Rabs (cosines n s - cosines n t - (t - s) / 2) < eps.
Proof.
  intros Hs Ht He.
  destruct (cosines_near s (eps / 3) Hs ltac:(lra)) as (d1 & r1 & N1 & Hd1 & Hr1 & H1).
  destruct (cosines_near t (eps / 3) Ht ltac:(lra)) as (d2 & r2 & N2 & Hd2 & Hr2 & H2).
  set (d := Rmin d1 d2).
  assert (Hd : 0 < d <= 1 /\ d <= d1 /\ d <= d2)
    by (unfold d, Rmin; destruct (Rle_dec d1 d2); lra).
  destruct (cosines_inside d r2 r1 (eps / 3)) as [N3 H3]; try lra.
  exists (max N1 (max N2 N3)); intros n Hn.
  specialize (H1 n ltac:(lia)); specialize (H2 n ltac:(lia)); specialize (H3 n ltac:(lia)).
  replace (cosines n s - cosines n t - (t - s) / 2) with
    ((cosines n s + s / 2 - (cosines n r1 + r1 / 2)) +
     (cosines n r1 + r1 / 2 - (cosines n r2 + r2 / 2)) +
     - (cosines n t + t / 2 - (cosines n r2 + r2 / 2))) by field.
  eapply Rle_lt_trans; [apply Rabs_triang |]; rewrite Rabs_Ropp.
  eapply Rle_lt_trans; [apply Rplus_le_compat_r, Rabs_triang |]; lra.
Qed.

(** 2 sin a sin b = cos(a - b) - cos(a + b), term by term. *)
Lemma sines_as_cosines x y n :
  partial (sine_term x y) n = cosines n (Rabs (x - y)) - cosines n (x + y).
Proof.
  unfold cosines; replace (partial (fun j => cos (omega j * Rabs (x - y)) / omega j ^ 2) n -
    partial (fun j => cos (omega j * (x + y)) / omega j ^ 2) n) with
    (partial (fun j => cos (omega j * Rabs (x - y)) / omega j ^ 2 +
      -1 * (cos (omega j * (x + y)) / omega j ^ 2)) n)
    by (rewrite partial_plus, partial_scale; ring).
  apply partial_ext; intros j; pose proof (omega_pos j); unfold sine_term.
  assert (A : cos (omega j * Rabs (x - y)) = cos (omega j * x - omega j * y)).
  { unfold Rabs; destruct (Rcase_abs (x - y)); [rewrite <- cos_neg |]; f_equal; ring. }
  rewrite A, Rmult_plus_distr_l, cos_plus, cos_minus; field; lra.
Qed.

(** min(x, y) = sum_(j >= 0) 2 sin(w_j x) sin(w_j y) / w_j^2 for x, y in [0, 1]. *)
Theorem min_series x y : 0 <= x <= 1 -> 0 <= y <= 1 -> is_series (sine_term x y) (Rmin x y).
Proof.
  intros Hx Hy; change (is_lim_seq (sum_n (sine_term x y)) (Rmin x y)).
  apply is_lim_seq_Reals; intros eps He.
  destruct (cosines_limit (Rabs (x - y)) (x + y) eps) as [N HN]; [| lra | exact He |].
  { split; [apply Rabs_pos | apply Rabs_le; lra]. }
  exists N; intros n Hn; specialize (HN (S n) ltac:(lia)).
  rewrite <- sines_as_cosines, (l1_as_min x y) in HN.
  assert (S1 : forall m, sum_n (sine_term x y) m = partial (sine_term x y) (S m)).
  { induction m as [| m IH]; [rewrite sum_O; simpl; ring |].
    rewrite sum_Sn, IH; reflexivity. }
  unfold R_dist; rewrite S1.
  replace (Rmin x y) with ((x + y - (x + y - 2 * Rmin x y)) / 2) by field; exact HN.
Qed.

(** |min(x, y) - sum of the first R terms| <= 2 / (pi^2 R) for x, y in [0, 1]. *)
Theorem min_truncation x y r : 0 <= x <= 1 -> 0 <= y <= 1 -> (1 <= r)%nat ->
  Rabs (Rmin x y - partial (sine_term x y) r) <= 2 / (PI ^ 2 * INR r).
Proof.
  intros Hx Hy Hr; apply le_epsilon; intros eps He.
  destruct (cosines_limit (Rabs (x - y)) (x + y) eps) as [N HN]; [| lra | exact He |].
  { split; [apply Rabs_pos | apply Rabs_le; lra]. }
  specialize (HN (r + N)%nat ltac:(lia)); rewrite <- sines_as_cosines, (l1_as_min x y) in HN.
  pose proof (sine_tail x y r N Hr) as T.
  replace ((x + y - (x + y - 2 * Rmin x y)) / 2) with (Rmin x y) in HN by field.
  replace (Rmin x y - partial (sine_term x y) r) with
    ((partial (sine_term x y) (r + N) - partial (sine_term x y) r) +
     - (partial (sine_term x y) (r + N) - Rmin x y)) by ring.
  eapply Rle_trans; [apply Rabs_triang |]; rewrite Rabs_Ropp; lra.
Qed.

(** ** Truncated l1 *)

Definition l1_truncated (r : nat) (x y : R) : R := x + y - 2 * partial (sine_term x y) r.

(** | |x - y| - (x + y - 2 sum_(j < R)) | <= 4 / (pi^2 R) for x, y in [0, 1]. *)
Theorem l1_truncation x y r : 0 <= x <= 1 -> 0 <= y <= 1 -> (1 <= r)%nat ->
  Rabs (Rabs (x - y) - l1_truncated r x y) <= 4 / (PI ^ 2 * INR r).
Proof.
  intros Hx Hy Hr; pose proof (min_truncation x y r Hx Hy Hr) as H.
  rewrite (l1_as_min x y); unfold l1_truncated.
  replace (x + y - 2 * Rmin x y - (x + y - 2 * partial (sine_term x y) r)) with
    (-2 * (Rmin x y - partial (sine_term x y) r)) by ring.
  rewrite Rabs_mult, (Rabs_left1 (-2)) by lra; unfold Rdiv in *; lra.
Qed.

(** Its window sum is a box sum, a number and R cross-correlations:
    sum_t l1_R(p_t, k_t) = sum p + sum k - 2 sum_j (2 / w_j^2) sum_t sin(w_j p_t) sin(w_j k_t). *)
Theorem l1_truncated_window {A} (r : nat) (p k : A -> R) (taps : list A) :
  sum (fun i => l1_truncated r (p i) (k i)) taps =
  sum p taps + sum k taps - 2 * partial (fun j =>
    2 / omega j ^ 2 * sum (fun i => sin (omega j * p i) * sin (omega j * k i)) taps) r.
Proof.
  induction taps as [| i l IH]; unfold sum in *; cbn [fold_right].
  - rewrite (partial_ext _ (fun _ => 0 * 0)) by (intros; ring).
    rewrite partial_scale; ring.
  - rewrite IH; unfold l1_truncated.
    set (rest := fun j => 2 / omega j ^ 2 *
      fold_right (fun a s => sin (omega j * p a) * sin (omega j * k a) + s) 0 l).
    rewrite (partial_ext (fun j => 2 / omega j ^ 2 * (_ + _))
      (fun j => sine_term (p i) (k i) j + rest j)).
    + rewrite partial_plus; ring.
    + intros j; pose proof (omega_pos j); unfold rest, sine_term; field; lra.
Qed.

(** ** Errors between nodes *)

(** Every number of [0, 1] lies between two of N + 1 nodes. *)
Lemma cell x n : (1 <= n)%nat -> 0 <= x <= 1 ->
  exists i, (S i <= n)%nat /\ INR i / INR n <= x <= INR (S i) / INR n.
Proof.
  intros Hn Hx; assert (Hn' : 1 <= INR n) by (apply (le_INR 1), Hn).
  destruct (Req_dec x 1) as [-> | Hx1].
  - exists (n - 1)%nat; split; [lia |]; replace (S (n - 1)) with n by lia.
    rewrite minus_INR by lia; simpl (INR 1); split; [apply Rle_div_l | apply Rle_div_r]; lra.
  - destruct (nfloor_ex (x * INR n)) as (i & H1 & H2); [nra |].
    assert (H : INR i < INR n) by nra; apply INR_lt in H.
    exists i; split; [lia |]; rewrite S_INR; split; [apply Rle_div_l | apply Rle_div_r]; lra.
Qed.

Definition between (t u v : R) : R := (1 - t) * u + t * v.

(** f is linear from each of the nodes i/N to the next. *)
Definition linear_between_nodes (n : nat) (f : R -> R) : Prop :=
  forall i t, (i < n)%nat -> 0 <= t <= 1 ->
  f ((INR i + t) / INR n) = between t (f (INR i / INR n)) (f (INR (S i) / INR n)).

Lemma between_small t u v e : 0 <= t <= 1 -> Rabs u <= e -> Rabs v <= e ->
  Rabs (between t u v) <= e.
Proof.
  intros Ht Hu Hv; apply Rabs_le_between in Hu; apply Rabs_le_between in Hv.
  unfold between; apply Rabs_le; split; nra.
Qed.

(** In a cell off the diagonal |x - y| is linear, too. *)
Lemma cell_error g00 g01 g10 g11 d h e s t : 0 <= s <= 1 -> 0 <= t <= 1 ->
  Rabs (g00 - d) <= e -> Rabs (g01 - (d - h)) <= e -> Rabs (g10 - (d + h)) <= e ->
  Rabs (g11 - d) <= e ->
  Rabs (between s (between t g00 g01) (between t g10 g11) - (d + (s - t) * h)) <= e.
Proof.
  intros Hs Ht H00 H01 H10 H11.
  replace (between s _ _ - _) with (between s (between t (g00 - d) (g01 - (d - h)))
    (between t (g10 - (d + h)) (g11 - d))) by (unfold between; ring).
  repeat apply between_small; assumption.
Qed.

(** In a cell on it the point s >= t lies between (t, t) and (1, t). At the former the error is the
    value itself, which lies between those at all four corners. *)
Lemma diagonal_error g00 g01 g10 g11 h e s t : 0 <= t <= s -> s <= 1 ->
  Rabs g00 <= e -> Rabs g01 <= e -> Rabs g10 <= e -> Rabs g11 <= e -> Rabs (g10 - h) <= e ->
  Rabs (between s (between t g00 g01) (between t g10 g11) - (s - t) * h) <= e.
Proof.
  intros Ht Hs H00 H01 H10 H11 Hh.
  destruct (Req_dec t 1) as [-> | Ht1].
  - replace s with 1 by lra; replace (between 1 _ _ - _) with g11 by (unfold between; ring).
    exact H11.
  - replace (between s _ _ - _) with (between ((s - t) / (1 - t))
      (between t (between t g00 g01) (between t g10 g11)) (between t (g10 - h) g11))
      by (unfold between; field; lra).
    apply between_small; [split; [apply Rdiv_le_0_compat | apply Rle_div_l]; lra | |];
      repeat apply between_small; assumption || lra.
Qed.

(** ** Fitted factors

    A(x) + A(y) - sum_(j < R) f_j(x) f_j(y), for which A and f_j so ever. *)
Definition products (a : R -> R) (f : nat -> R -> R) (r : nat) (x y : R) : R :=
  a x + a y - partial (fun j => f j x * f j y) r.

Lemma products_symmetric a f r x y : products a f r x y = products a f r y x.
Proof.
  unfold products; rewrite (partial_ext _ (fun j => f j y * f j x)) by (intros; ring); ring.
Qed.

Lemma products_linear a f r n y : linear_between_nodes n a ->
  (forall j, linear_between_nodes n (f j)) ->
  linear_between_nodes n (fun x => products a f r x y).
Proof.
  intros Ha Hf i t Hi Ht; unfold products; rewrite (Ha i t Hi Ht).
  rewrite (partial_ext _ (fun j => (1 - t) * (f j (INR i / INR n) * f j y) +
    t * (f j (INR (S i) / INR n) * f j y))).
  - rewrite partial_plus, !partial_scale; unfold between; ring.
  - intros j; rewrite (Hf j i t Hi Ht); unfold between; ring.
Qed.

(** If A and f_j are linear between the nodes i/N, the sum is off |x - y| by at most e at all nodes
    x >= y, and by at most e off 0 where they are neighbours, it is off |x - y| by at most e on all
    of [0, 1]. *)
Theorem nodes_error a f r e n x y : (1 <= n)%nat ->
  linear_between_nodes n a -> (forall j, linear_between_nodes n (f j)) ->
  (forall i k, (k <= i <= n)%nat ->
    let s := INR i / INR n in let t := INR k / INR n in
    Rabs (products a f r s t - (s - t)) <= e) ->
  (forall i, (i < n)%nat -> Rabs (products a f r (INR (S i) / INR n) (INR i / INR n)) <= e) ->
  0 <= x <= 1 -> 0 <= y <= 1 -> Rabs (products a f r x y - Rabs (x - y)) <= e.
Proof.
  intros Hn Ha Hf He Hb.
  assert (Hn' : 1 <= INR n) by (apply (le_INR 1), Hn).
  set (g := products a f r) in *.
  assert (S : forall x y, 0 <= y <= x -> x <= 1 -> Rabs (g x y - (x - y)) <= e).
  { clear x y; intros x y Hy Hx.
    destruct (cell x n Hn ltac:(lra)) as (i & Hi & Hxi).
    destruct (cell y n Hn ltac:(lra)) as (k & Hk & Hyk).
    rewrite S_INR in Hxi, Hyk.
    set (s := x * INR n - INR i); set (t := y * INR n - INR k).
    assert (Ex : x = (INR i + s) / INR n) by (unfold s; field; lra).
    assert (Ey : y = (INR k + t) / INR n) by (unfold t; field; lra).
    assert (Hs : 0 <= s <= 1) by (destruct Hxi as [A B]; apply Rle_div_l in A;
      [apply Rle_div_r in B; [unfold s; lra | lra] | lra]).
    assert (Ht : 0 <= t <= 1) by (destruct Hyk as [A B]; apply Rle_div_l in A;
      [apply Rle_div_r in B; [unfold t; lra | lra] | lra]).
    assert (Ed : x - y = (INR i - INR k) / INR n + (s - t) * / INR n)
      by (unfold s, t; field; lra).
    assert (Hg : g x y = between s
      (between t (g (INR i / INR n) (INR k / INR n)) (g (INR i / INR n) (INR (S k) / INR n)))
      (between t (g (INR (S i) / INR n) (INR k / INR n))
        (g (INR (S i) / INR n) (INR (S k) / INR n)))).
    { assert (Hl : forall z, g z y =
        between t (g z (INR k / INR n)) (g z (INR (S k) / INR n))).
      { intros z; unfold g; rewrite !(products_symmetric a f r z), Ey.
        exact (products_linear a f r n z Ha Hf k t Hk Ht). }
      rewrite <- !Hl, Ex; exact (products_linear a f r n y Ha Hf i s Hi Hs). }
    rewrite Hg, Ed.
    destruct (le_lt_dec (S k) i) as [L | L].
    - pose proof (le_INR _ _ L) as L'.
      apply cell_error; [exact Hs | exact Ht | | | |].
      + replace ((INR i - INR k) / INR n) with (INR i / INR n - INR k / INR n) by (field; lra).
        apply (He i k); lia.
      + replace ((INR i - INR k) / INR n - / INR n) with (INR i / INR n - INR (S k) / INR n)
          by (rewrite S_INR; field; lra).
        apply (He i (S k)); lia.
      + replace ((INR i - INR k) / INR n + / INR n) with (INR (S i) / INR n - INR k / INR n)
          by (rewrite S_INR; field; lra).
        apply (He (S i) k); lia.
      + replace ((INR i - INR k) / INR n) with (INR (S i) / INR n - INR (S k) / INR n)
          by (rewrite !S_INR; field; lra).
        apply (He (S i) (S k)); lia.
    - assert (E : i = k \/ (k = S i /\ s = 1 /\ t = 0)).
      { assert (x * INR n = INR i + s /\ y * INR n = INR k + t) as [Ex' Ey']
          by (unfold s, t; split; ring).
        assert (M : INR k + t <= INR i + s) by nra.
        destruct (Nat.eq_dec i k) as [-> | D]; [left; reflexivity | right].
        assert (D' : (S i <= k)%nat) by lia; pose proof (le_INR _ _ D') as D''.
        rewrite S_INR in D''; assert (INR k = INR (S i)) by (rewrite S_INR; lra).
        split; [apply INR_eq; assumption | lra]. }
      destruct E as [-> | (-> & -> & ->)].
      + replace ((INR k - INR k) / INR n) with 0 by (field; lra); rewrite Rplus_0_l.
        pose proof (He k k ltac:(lia)) as H00; pose proof (He (S k) (S k) ltac:(lia)) as H11.
        pose proof (He (S k) k ltac:(lia)) as H10; cbv zeta in H00, H10, H11.
        rewrite (Rminus_diag_eq (INR k / INR n) _ eq_refl), Rminus_0_r in H00.
        rewrite (Rminus_diag_eq (INR (S k) / INR n) _ eq_refl), Rminus_0_r in H11.
        replace (INR (S k) / INR n - INR k / INR n) with (/ INR n) in H10
          by (rewrite S_INR; field; lra).
        apply diagonal_error; try assumption; [| lra | | apply Hb; exact Hk].
        * split; [lra |]; apply Rmult_le_reg_r with (/ INR n);
            [apply Rinv_0_lt_compat; lra |]; lra.
        * unfold g; rewrite products_symmetric; apply Hb; exact Hk.
      + pose proof (He (S i) (S i) ltac:(lia)) as H; cbv zeta in H.
        replace (between 1 _ _ - _) with (g (INR (S i) / INR n) (INR (S i) / INR n) -
          (INR (S i) / INR n - INR (S i) / INR n)); [exact H |].
        rewrite S_INR; unfold between; field; lra. }
  intros Hx Hy; destruct (Rle_dec y x) as [L | L].
  - rewrite (Rabs_pos_eq (x - y)) by lra; apply S; lra.
  - rewrite (Rabs_minus_sym x y), (Rabs_pos_eq (y - x)) by lra.
    unfold g; rewrite products_symmetric; apply S; lra.
Qed.

(** Its window sum is a box sum, a number and r cross-correlations. *)
Theorem products_window {A} (a : R -> R) (f : nat -> R -> R) (r : nat) (p k : A -> R)
    (taps : list A) :
  sum (fun i => products a f r (p i) (k i)) taps =
  sum (fun i => a (p i)) taps + sum (fun i => a (k i)) taps -
  partial (fun j => sum (fun i => f j (p i) * f j (k i)) taps) r.
Proof.
  induction taps as [| i l IH]; unfold sum in *; cbn [fold_right].
  - rewrite (partial_ext _ (fun _ => 0 * 0)) by (intros; ring).
    rewrite partial_scale; ring.
  - rewrite IH, partial_plus; unfold products; ring.
Qed.

(** ** From pointwise errors to the map's *)

(** If |d(p_t, k_t) - d'(p_t, k_t)| <= e at every tap, the weighted window sums differ by at most
    W e, where W = sum w. *)
Theorem window_error_weighted {A} (e : R) (w d d' : A -> R) (taps : list A) :
  (forall i, In i taps -> 0 <= w i /\ Rabs (d i - d' i) <= e) ->
  Rabs (sum (fun i => w i * d i) taps - sum (fun i => w i * d' i) taps) <= sum w taps * e.
Proof.
  induction taps as [| i l IH]; intros H; unfold sum in *; simpl.
  - rewrite Rminus_diag_eq, Rabs_R0 by reflexivity; lra.
  - destruct (H i (or_introl eq_refl)) as [Hw Hd].
    specialize (IH (fun j Hj => H j (or_intror Hj))).
    match goal with |- Rabs (_ + ?a - (_ + ?b)) <= _ =>
      replace (w i * d i + a - (w i * d' i + b)) with (w i * (d i - d' i) + (a - b)) by ring end.
    eapply Rle_trans; [apply Rabs_triang |]; rewrite Rabs_mult, (Rabs_pos_eq (w i)) by exact Hw.
    pose proof (Rmult_le_compat_l _ _ _ Hw Hd); lra.
Qed.

(** Without weights, n taps: the sums differ by at most n e. *)
Theorem window_error {A} (e : R) (d d' : A -> R) (taps : list A) :
  (forall i, In i taps -> Rabs (d i - d' i) <= e) ->
  Rabs (sum d taps - sum d' taps) <= INR (length taps) * e.
Proof.
  intros H; pose proof (window_error_weighted e (fun _ => 1) d d' taps) as W.
  rewrite sum_const, Rmult_1_r in W.
  rewrite (sum_ext (fun i => 1 * d i) d), (sum_ext (fun i => 1 * d' i) d') in W
    by (intros; ring).
  apply W; intros i Hi; split; [lra | apply H, Hi].
Qed.

(** The means differ by at most e. *)
Theorem mean_error {A} (e : R) (d d' : A -> R) (taps : list A) :
  (1 <= length taps)%nat -> (forall i, In i taps -> Rabs (d i - d' i) <= e) ->
  Rabs (sum d taps / INR (length taps) - sum d' taps / INR (length taps)) <= e.
Proof.
  intros Hn H; pose proof (window_error e d d' taps H) as W.
  apply le_INR in Hn; simpl in Hn; set (n := INR (length taps)) in *.
  replace (sum d taps / n - sum d' taps / n) with ((sum d taps - sum d' taps) * / n)
    by (field; lra).
  assert (Hi : 0 < / n) by (apply Rinv_0_lt_compat; lra).
  rewrite Rabs_mult, (Rabs_pos_eq (/ n)) by lra.
  replace e with (n * e * / n) by (field; lra).
  apply Rmult_le_compat_r; lra.
Qed.

(** Weighted means differ by at most e, too. *)
Theorem mean_error_weighted {A} (e : R) (w d d' : A -> R) (taps : list A) :
  0 < sum w taps -> (forall i, In i taps -> 0 <= w i /\ Rabs (d i - d' i) <= e) ->
  Rabs (sum (fun i => w i * d i) taps / sum w taps - sum (fun i => w i * d' i) taps / sum w taps)
  <= e.
Proof.
  intros HW H; pose proof (window_error_weighted e w d d' taps H) as B.
  set (W := sum w taps) in *.
  match goal with |- Rabs (?a / W - ?b / W) <= _ =>
    replace (a / W - b / W) with ((a - b) * / W) by (field; lra) end.
  assert (Hi : 0 < / W) by (apply Rinv_0_lt_compat; lra).
  rewrite Rabs_mult, (Rabs_pos_eq (/ W)) by lra.
  replace e with (W * e * / W) by (field; lra).
  apply Rmult_le_compat_r; lra.
Qed.

(** ** Hue *)

(** The circular distance of angles has rank two:
    1 - cos(p - k) = 1 - (cos p cos k + sin p sin k). *)
Theorem hue_expansion p k : 1 - cos (p - k) = 1 - (cos p * cos k + sin p * sin k).
Proof. rewrite cos_minus; reflexivity. Qed.

(** * The peak of a template's spectrum, from samples

    Backs [gain] in [patchsim/backends/fft.py]. A trigonometric polynomial of degree n is nowhere
    larger than sqrt(2) times its largest sample at 4n equidistant points: for that many, a theorem
    of Ehlich and Zeller, Schwankung von Polynomen zwischen Gitterpunkten, 1964. Here it is proved
    by a kernel of de la Vallee Poussin's. *)

From Coq Require Import Reals Lra Lia List.
From Coquelicot Require Import Coquelicot.
From Patchsim Require Import FloatingPoint Gradients Fft.
Open Scope R_scope.

Lemma csum_list_prod {A B} (f : A * B -> C) (l : list A) (m : list B) :
  csum f (list_prod l m) = csum (fun a => csum (fun b => f (a, b)) m) l.
Proof.
  assert (App : forall r s, csum f (r ++ s) = (csum f r + csum f s)%C).
  { intros r s; induction r as [| a r IH]; unfold csum in *; simpl; [| rewrite IH]; ring. }
  induction l as [| a l IH]; [reflexivity |].
  simpl list_prod; rewrite App, IH, csum_map; reflexivity.
Qed.

Lemma csum_times {A B} (f : A -> C) (g : B -> C) (l : list A) (m : list B) :
  (csum f l * csum g m)%C = csum (fun a => csum (fun b => f a * g b)%C m) l.
Proof.
  rewrite <- csum_scale_r; apply csum_ext; intros a _; symmetry; apply csum_scale.
Qed.

Lemma fst_csum {A} (f : A -> C) (l : list A) : fst (csum f l) = sum (fun a => fst (f a)) l.
Proof. induction l as [| a l IH]; unfold csum, sum in *; simpl; [| rewrite IH]; reflexivity. Qed.

Lemma circle_conj a : Cconj (circle a) = circle (- a).
Proof. unfold circle, Cconj; simpl; rewrite cos_neg, sin_neg; reflexivity. Qed.

Section Kernel.
Variable n : nat.
Hypothesis n_pos : (0 < n)%nat.

Let N : nat := (4 * n)%nat.

(** 4n equidistant frequencies. *)
Definition sample (j : nat) : R := 2 * PI * INR j / INR (4 * n).

(** Fejer's kernel, the power of 2n tones, and the weight of a sample at distance s. *)
Definition tones (s : R) : C := csum (fun p => circle (INR p * s)) (seq 0 (2 * n)).
Definition power (s : R) : R := Cmod (tones s) ^ 2 / (4 * INR n ^ 2).
Definition weight (s : R) : R := cos (INR n * s) * power s.

Variable t : R.
Let s (j : nat) : R := sample j - t.

Lemma tones_orthogonal z x : (z < N)%nat -> (x < N)%nat ->
  csum (fun j => circle (INR z * s j) * Cconj (circle (INR x * s j)))%C (seq 0 N) =
  if Nat.eq_dec z x then RtoC (INR N) else RtoC 0.
Proof.
  intros Hz Hx; assert (HN : INR N <> 0) by (apply not_0_INR; unfold N; lia).
  assert (E : forall j y, circle (INR y * s j) = (circle (INR y * - t) * root N j y)%C).
  { intros j y; unfold root; rewrite <- circle_plus; f_equal; unfold s, sample; fold N.
    field; exact HN. }
  rewrite (csum_ext _ (fun j => circle (INR z * - t) * Cconj (circle (INR x * - t)) *
    (root N j z * Cconj (root N j x)))%C) by (intros; rewrite !E, Cconj_mult; ring).
  rewrite csum_scale, root_orthogonal by assumption.
  destruct (Nat.eq_dec z x) as [-> | _]; [| ring].
  rewrite Cmod_square, circle_unit; replace (1 ^ 2) with 1 by ring; ring.
Qed.

(** Sums over the samples count which tones meet. *)
Lemma power_sum d e : (d <= 2 * n)%nat -> (e <= 2 * n)%nat ->
  csum (fun j => RtoC (Cmod (tones (s j)) ^ 2) *
    (circle (INR d * s j) * Cconj (circle (INR e * s j))))%C (seq 0 N) =
  csum (fun p => csum (fun q => if Nat.eq_dec (p + d) (q + e) then RtoC (INR N) else RtoC 0)
    (seq 0 (2 * n))) (seq 0 (2 * n)).
Proof.
  intros Hd He.
  rewrite (csum_ext _ (fun j => csum (fun p => csum (fun q =>
    circle (INR (p + d) * s j) * Cconj (circle (INR (q + e) * s j)))%C
    (seq 0 (2 * n))) (seq 0 (2 * n)))).
  - rewrite csum_exchange; apply csum_ext; intros p Hp.
    rewrite csum_exchange; apply csum_ext; intros q Hq; apply in_seq in Hp, Hq.
    apply tones_orthogonal; unfold N; lia.
  - intros j _; rewrite <- Cmod_square; unfold tones; rewrite Cconj_csum, csum_times.
    rewrite <- csum_scale_r; apply csum_ext; intros p _.
    rewrite <- csum_scale_r; apply csum_ext; intros q _.
    rewrite !plus_INR, !Rmult_plus_distr_r, !circle_plus, Cconj_mult; ring.
Qed.

(** Of q + 0 and q + 2n, q < 2n, just one is p + d. *)
Lemma one_meets d p : (d <= 2 * n)%nat -> (p < 2 * n)%nat ->
  (csum (fun q => if Nat.eq_dec (p + d) (q + 0) then RtoC (INR N) else RtoC 0) (seq 0 (2 * n)) +
   csum (fun q => if Nat.eq_dec (p + d) (q + 2 * n) then RtoC (INR N) else RtoC 0)
     (seq 0 (2 * n)))%C = RtoC (INR N).
Proof.
  intros Hd Hp; rewrite <- csum_plus.
  set (q0 := if le_lt_dec (2 * n) (p + d) then (p + d - 2 * n)%nat else (p + d)%nat).
  rewrite (csum_ext _ (fun q => if Nat.eq_dec q q0 then RtoC (INR N) else RtoC 0)).
  - rewrite (csum_single Nat.eq_dec (fun _ => RtoC (INR N))); auto using seq_NoDup.
    apply in_seq; unfold q0; destruct (le_lt_dec (2 * n) (p + d)); lia.
  - intros q Hq; apply in_seq in Hq; unfold q0; destruct (le_lt_dec (2 * n) (p + d)) as [H | H];
      destruct (Nat.eq_dec (p + d) (q + 0)), (Nat.eq_dec (p + d) (q + 2 * n));
      try lia; destruct (Nat.eq_dec q _); try lia; ring.
Qed.

Lemma never_meets :
  csum (fun p => csum (fun q => if Nat.eq_dec (p + 0) (q + 2 * n) then RtoC (INR N) else RtoC 0)
    (seq 0 (2 * n))) (seq 0 (2 * n)) = RtoC 0.
Proof.
  rewrite (csum_ext _ (fun _ => RtoC 0 * RtoC 0)%C), csum_scale; [ring |].
  intros p Hp; apply in_seq in Hp.
  rewrite (csum_ext _ (fun _ => RtoC 0 * RtoC 0)%C), csum_scale; [ring |].
  intros q Hq; destruct (Nat.eq_dec (p + 0) (q + 2 * n)); [lia | ring].
Qed.

Lemma power_sum_both d : (d <= 2 * n)%nat ->
  (csum (fun j => RtoC (Cmod (tones (s j)) ^ 2) *
     (circle (INR d * s j) * Cconj (circle (INR 0 * s j))))%C (seq 0 N) +
   csum (fun j => RtoC (Cmod (tones (s j)) ^ 2) *
     (circle (INR d * s j) * Cconj (circle (INR (2 * n) * s j))))%C (seq 0 N))%C =
  RtoC (8 * INR n ^ 2).
Proof.
  intros Hd; rewrite !power_sum by lia; rewrite <- csum_plus.
  rewrite (csum_ext _ (fun _ => RtoC (INR N)))
    by (intros p Hp; apply in_seq in Hp; apply one_meets; lia).
  rewrite csum_real, sum_const, seq_length; f_equal; unfold N; rewrite !mult_INR; simpl; ring.
Qed.

Let n_real : 0 < INR n.
Proof. apply lt_0_INR, n_pos. Qed.

(** The weights reproduce every tone of a frequency up to n. *)
Lemma reproduces d : (d <= 2 * n)%nat ->
  csum (fun j => RtoC (weight (s j)) * circle ((INR d - INR n) * sample j))%C (seq 0 N) =
  circle ((INR d - INR n) * t).
Proof.
  intros Hd; pose proof (power_sum_both d Hd) as E; rewrite <- csum_plus in E.
  rewrite (csum_ext _ (fun j => circle ((INR d - INR n) * t) * RtoC (/ (8 * INR n ^ 2)) *
    (RtoC (Cmod (tones (s j)) ^ 2) * (circle (INR d * s j) * Cconj (circle (INR 0 * s j))) +
     RtoC (Cmod (tones (s j)) ^ 2) * (circle (INR d * s j) * Cconj (circle (INR (2 * n) * s j))))
    )%C).
  - rewrite csum_scale, E, <- Cmult_assoc, <- RtoC_mult, Rinv_l; [ring |].
    pose proof (pow_lt _ 2 n_real); lra.
  - intros j _; replace ((INR d - INR n) * sample j) with
      ((INR d - INR n) * t + (INR d * s j + INR n * - s j)) by (unfold s; ring).
    rewrite !circle_plus; unfold weight, power; rewrite mult_INR; change (INR 2) with 2.
    replace (INR 0 * s j) with 0 by (simpl; ring).
    replace (2 * INR n * s j) with (INR n * s j + INR n * s j) by ring.
    rewrite !circle_plus, Cconj_mult, !circle_conj, Ropp_0.
    replace (INR n * - s j) with (- (INR n * s j)) by ring.
    set (a := INR n * s j); set (m := Cmod (tones (s j)) ^ 2).
    assert (Z : circle 0 = RtoC 1)
      by (unfold circle; rewrite cos_0, sin_0, Ropp_0; reflexivity).
    assert (U : (circle a * circle (- a) = RtoC 1)%C).
    { rewrite <- circle_plus, Rplus_opp_r; exact Z. }
    assert (K : (RtoC (2 * cos a) = circle a + circle (- a))%C).
    { unfold circle, RtoC, Cplus; simpl; rewrite cos_neg, sin_neg; f_equal; ring. }
    replace (cos a * (m / (4 * INR n ^ 2))) with (2 * cos a * (m * / (8 * INR n ^ 2)))
      by (field; lra).
    rewrite (RtoC_mult (2 * cos a)), K, (RtoC_mult m), Z.
    transitivity (RtoC m * RtoC (/ (8 * INR n ^ 2)) * circle ((INR d - INR n) * t) *
      circle (INR d * s j) * (circle a * circle (- a) + circle (- a) * circle (- a)))%C; [ring |].
    rewrite U; ring.
Qed.

(** Their magnitudes add up to at most sqrt(2): by Cauchy-Schwarz, as the power adds up to 2 and
    cos(n s)^2 times the power to 1. *)
Lemma weights_small : sum (fun j => Rabs (weight (s j))) (seq 0 N) <= sqrt 2.
Proof.
  assert (P0 : forall j, 0 <= power (s j)).
  { intros j; apply Rmult_le_pos; [apply pow2_ge_0 |].
    pose proof (pow_lt _ 2 n_real); apply Rlt_le, Rinv_0_lt_compat; lra. }
  assert (N2 : 4 * INR n ^ 2 <> 0) by (pose proof (pow_lt _ 2 n_real); lra).
  pose proof (power_sum 0 (2 * n) ltac:(lia) ltac:(lia)) as B; rewrite never_meets in B.
  pose proof (power_sum_both 0 ltac:(lia)) as A; rewrite B, Cplus_0_r in A.
  apply (f_equal fst) in A, B; rewrite fst_csum in A, B; cbn [fst RtoC] in A, B.
  assert (S1 : sum (fun j => power (s j)) (seq 0 N) = 2).
  { unfold power; rewrite (sum_ext _ (fun j => / (4 * INR n ^ 2) * Cmod (tones (s j)) ^ 2))
      by (intros; unfold Rdiv; ring).
    rewrite sum_scale; apply (Rmult_eq_reg_l (4 * INR n ^ 2)); [| exact N2].
    rewrite <- Rmult_assoc, Rinv_r, Rmult_1_l by exact N2.
    transitivity (8 * INR n ^ 2); [| ring].
    rewrite <- A; apply sum_ext; intros j _.
    unfold circle, Cmult, Cconj, RtoC; simpl INR; cbn [fst snd].
    rewrite Rmult_0_l, cos_0, sin_0; ring. }
  assert (S2 : sum (fun j => power (s j) * cos (2 * (INR n * s j))) (seq 0 N) = 0).
  { unfold power; rewrite (sum_ext _ (fun j => / (4 * INR n ^ 2) *
      (Cmod (tones (s j)) ^ 2 * cos (2 * (INR n * s j)))))
      by (intros; unfold Rdiv; ring).
    rewrite sum_scale; apply Rmult_eq_0_compat_l; rewrite <- B; apply sum_ext; intros j _.
    rewrite mult_INR; change (INR 2) with 2; rewrite Rmult_assoc.
    unfold circle, Cmult, Cconj, RtoC; simpl (INR 0); cbn [fst snd].
    rewrite Rmult_0_l, cos_0, sin_0; ring. }
  assert (S3 : sum (fun j => power (s j) * cos (INR n * s j) ^ 2) (seq 0 N) = 1).
  { rewrite (sum_ext _ (fun j => / 2 * power (s j) +
      / 2 * (power (s j) * cos (2 * (INR n * s j)))))
      by (intros; rewrite cos_2a_cos; field).
    rewrite sum_plus, !sum_scale, S1, S2; lra. }
  apply Rle_trans with (sqrt 2 * sqrt 1); [| rewrite sqrt_1; lra].
  rewrite <- S1 at 1; rewrite <- S3.
  rewrite (sum_ext _ (fun j => sqrt (power (s j)) *
    (sqrt (power (s j)) * Rabs (cos (INR n * s j))))).
  2: { intros j _; unfold weight; rewrite Rabs_mult, (Rabs_pos_eq (power (s j))) by apply P0.
       rewrite <- (sqrt_sqrt (power (s j))) at 1 by apply P0; ring. }
  eapply Rle_trans; [apply cauchy_schwarz |]; right; f_equal; f_equal; apply sum_ext; intros j _.
  - apply pow2_sqrt, P0.
  - rewrite Rpow_mult_distr, pow2_sqrt, pow2_abs by apply P0; reflexivity.
Qed.
End Kernel.

(** A trigonometric polynomial of degree n, sum_a c_a exp(-i (d_a - n) t) with 0 <= d_a <= 2n, is
    nowhere larger than sqrt(2) times its largest sample of 4n. *)
Theorem sampled_peak {A} (n : nat) (c : A -> C) (d : A -> nat) (l : list A) (M t : R) :
  (0 < n)%nat -> (forall a, In a l -> (d a <= 2 * n)%nat) ->
  let T t := csum (fun a => c a * circle ((INR (d a) - INR n) * t))%C l in
  (forall j, (j < 4 * n)%nat -> Cmod (T (sample n j)) <= M) -> Cmod (T t) <= sqrt 2 * M.
Proof.
  intros Hn Hd T HM.
  assert (E : T t = csum (fun j => RtoC (weight n (sample n j - t)) * T (sample n j))%C
    (seq 0 (4 * n))).
  { unfold T; rewrite (csum_ext (fun j => RtoC _ * _)%C (fun j => csum (fun a =>
      c a * (RtoC (weight n (sample n j - t)) * circle ((INR (d a) - INR n) * sample n j)))%C l)).
    2: { intros j _; rewrite <- csum_scale; apply csum_ext; intros; ring. }
    rewrite csum_exchange; apply csum_ext; intros a Ha.
    rewrite csum_scale, reproduces by auto; reflexivity. }
  rewrite E; eapply Rle_trans; [apply Cmod_csum |].
  apply Rle_trans with (sum (fun j => M * Rabs (weight n (sample n j - t))) (seq 0 (4 * n))).
  - apply sum_le; intros j Hj; apply in_seq in Hj.
    rewrite Cmod_mult, Cmod_R, Rmult_comm; apply Rmult_le_compat_r; [apply Rabs_pos |].
    apply HM; lia.
  - assert (M0 : 0 <= M) by (eapply Rle_trans; [apply Cmod_ge_0 | apply (HM 0%nat); lia]).
    rewrite sum_scale, Rmult_comm; apply Rmult_le_compat_r; [exact M0 |].
    apply weights_small, Hn.
Qed.

(** ** Of the spectra of a template's channels *)

(** sum_c |sum_a b_c(a) exp(-i e_a t)|^2, 0 <= e_a < n, is such a polynomial. *)
Lemma energy_peak {Channel A} (n : nat) (channels : list Channel) (b : Channel -> A -> C)
    (e : A -> nat) (taps : list A) (M t : R) :
  (0 < n)%nat -> (forall a, In a taps -> (e a < n)%nat) ->
  let energy t := sum (fun c =>
    Cmod (csum (fun a => b c a * circle (INR (e a) * t))%C taps) ^ 2) channels in
  (forall j, (j < 4 * n)%nat -> energy (sample n j) <= M) -> energy t <= sqrt 2 * M.
Proof.
  intros Hn He energy HM.
  set (coefficient := fun i : Channel * (A * A) =>
    (b (fst i) (fst (snd i)) * Cconj (b (fst i) (snd (snd i))))%C).
  set (degree := fun i : Channel * (A * A) => (e (fst (snd i)) + n - e (snd (snd i)))%nat).
  set (l := list_prod channels (list_prod taps taps)).
  assert (Hl : forall i, In i l -> (e (snd (snd i)) < n /\ e (fst (snd i)) < n)%nat).
  { intros [c [x y]] Hi; apply in_prod_iff in Hi; destruct Hi as [_ Hi].
    apply in_prod_iff in Hi; simpl; split; apply He; tauto. }
  assert (E : forall t, csum (fun i => coefficient i * circle ((INR (degree i) - INR n) * t))%C l =
    RtoC (energy t)).
  { intros r; rewrite (csum_ext _ (fun i => coefficient i *
      (circle (INR (e (fst (snd i))) * r) * Cconj (circle (INR (e (snd (snd i))) * r))))%C).
    - unfold l, energy; rewrite csum_list_prod, <- csum_real; apply csum_ext; intros c _.
      rewrite csum_list_prod, <- Cmod_square, Cconj_csum, csum_times.
      apply csum_ext; intros x _; apply csum_ext; intros y _.
      unfold coefficient; simpl fst; simpl snd; rewrite Cconj_mult; ring.
    - intros i Hi; specialize (Hl i Hi); rewrite circle_conj, <- circle_plus.
      do 2 f_equal; unfold degree; rewrite minus_INR, plus_INR by lia; ring. }
  assert (P : forall r, 0 <= energy r) by (intros; apply sum_pos; intros; apply pow2_ge_0).
  pose proof (sampled_peak n coefficient degree l M t Hn) as S; cbv beta zeta in S.
  rewrite E, Cmod_R, Rabs_pos_eq in S by apply P; apply S.
  - intros i Hi; specialize (Hl i Hi); unfold degree; lia.
  - intros j Hj; rewrite E, Cmod_R, Rabs_pos_eq by apply P; auto.
Qed.

(** The spectrum of a template of the size [taps] at any frequencies. *)
Definition spectrum (taps : nat * nat) (k : nat * nat -> R) (a b : R) : C :=
  csum (fun t => RtoC (k t) * (circle (INR (fst t) * a) * circle (INR (snd t) * b)))%C
    (indices2 taps).

(** A template with dilation, 0 between its taps and beyond. *)
Definition dilated (taps dilation : nat * nat) (k : nat * nat -> R) (x : nat * nat) : R :=
  sum (fun t => if pair_dec x (fst t * fst dilation, snd t * snd dilation)%nat then k t else 0)
    (indices2 taps).

(** As the template is real, samples beyond the half are the mirror images of others. *)
Lemma mirrored n i : (0 < n)%nat -> let m := (if Nat.eq_dec i 0 then 0 else 4 * n - i)%nat in
  (i < 4 * n)%nat -> (m < 4 * n)%nat /\
  forall y, circle (INR y * sample n m) = Cconj (circle (INR y * sample n i)).
Proof.
  intros Hn m Hi; unfold m; clear m; destruct (Nat.eq_dec i 0) as [-> | H]; (split; [lia |]);
    intros y; rewrite circle_conj; unfold sample.
  - simpl (INR 0); unfold Rdiv; f_equal; ring.
  - assert (N0 : INR (4 * n) <> 0) by (apply not_0_INR; lia).
    rewrite minus_INR by lia.
    replace (INR y * (2 * PI * (INR (4 * n) - INR i) / INR (4 * n))) with
      (- (INR y * (2 * PI * INR i / INR (4 * n))) + 2 * INR y * PI) by (field; exact N0).
    unfold circle; rewrite cos_period, sin_period; reflexivity.
Qed.

Lemma spectrum_mirrored taps k a b a' b' :
  (forall y, circle (INR y * a') = Cconj (circle (INR y * a))) ->
  (forall y, circle (INR y * b') = Cconj (circle (INR y * b))) ->
  Cmod (spectrum taps k a' b') = Cmod (spectrum taps k a b).
Proof.
  intros Ha Hb; rewrite <- (Cmod_conj (spectrum taps k a b)); f_equal.
  unfold spectrum; rewrite Cconj_csum; apply csum_ext; intros t _.
  rewrite Ha, Hb, !Cconj_mult, Cconj_real; reflexivity.
Qed.

Section Gain.
Context {Channel : Type}.
Variables (channels : list Channel) (k : Channel -> nat * nat -> R) (taps : nat * nat).
Hypothesis taps_pos : (0 < fst taps /\ 0 < snd taps)%nat.

(** At all frequencies sum_c |K_c|^2 is at most twice the largest of its samples, which are four
    times as many as the taps on each axis; half of them, as [rfft2] gives them, are enough. *)
Theorem spectrum_peak (M a b : R) :
  (forall i j, (i < 4 * fst taps)%nat -> (j <= 2 * snd taps)%nat ->
    sum (fun c => Cmod (spectrum taps (k c) (sample (fst taps) i) (sample (snd taps) j)) ^ 2)
      channels <= M) ->
  sum (fun c => Cmod (spectrum taps (k c) a b) ^ 2) channels <= 2 * M.
Proof.
  intros HM; destruct taps_pos as [H1 H2].
  assert (All : forall i j, (i < 4 * fst taps)%nat -> (j < 4 * snd taps)%nat ->
    sum (fun c => Cmod (spectrum taps (k c) (sample (fst taps) i) (sample (snd taps) j)) ^ 2)
      channels <= M).
  { intros i j Hi Hj; destruct (le_lt_dec j (2 * snd taps)) as [L | L]; [apply HM; assumption |].
    destruct (mirrored (fst taps) i H1 Hi) as [Hi' Mi].
    destruct (mirrored (snd taps) j H2 Hj) as [Hj' Mj].
    rewrite (sum_ext _ _ _ (fun c _ => f_equal (fun z => z ^ 2)
      (eq_sym (spectrum_mirrored taps (k c) _ _ _ _ Mi Mj)))).
    apply HM; [exact Hi' | destruct (Nat.eq_dec j 0); lia]. }
  assert (In1 : forall t, In t (indices2 taps) -> (fst t < fst taps /\ snd t < snd taps)%nat).
  { intros [i j] Ht; unfold indices2 in Ht; rewrite in_prod_iff, !in_seq in Ht; simpl; lia. }
  replace (2 * M) with (sqrt 2 * (sqrt 2 * M)) by (rewrite <- Rmult_assoc, sqrt_sqrt; lra).
  pose proof (energy_peak (fst taps) channels
    (fun c t => RtoC (k c t) * circle (INR (snd t) * b))%C fst (indices2 taps)) as S1.
  pose proof (fun r => energy_peak (snd taps) channels
    (fun c t => RtoC (k c t) * circle (INR (fst t) * r))%C snd (indices2 taps)) as S2.
  cbv beta zeta in S1, S2.
  assert (E1 : forall c r, csum (fun t => RtoC (k c t) * circle (INR (snd t) * b) *
    circle (INR (fst t) * r))%C (indices2 taps) = spectrum taps (k c) r b)
    by (intros; apply csum_ext; intros; ring).
  assert (E2 : forall c r q, csum (fun t => RtoC (k c t) * circle (INR (fst t) * r) *
    circle (INR (snd t) * q))%C (indices2 taps) = spectrum taps (k c) r q)
    by (intros; apply csum_ext; intros; ring).
  rewrite (sum_ext _ _ _ (fun c _ => f_equal (fun z => Cmod z ^ 2) (eq_sym (E1 c a)))).
  apply S1; [exact H1 | intros; apply In1; assumption |].
  intros i Hi.
  rewrite (sum_ext _ _ _ (fun c _ => f_equal (fun z => Cmod z ^ 2) (E1 c (sample (fst taps) i)))).
  rewrite (sum_ext _ _ _
    (fun c _ => f_equal (fun z => Cmod z ^ 2) (eq_sym (E2 c (sample (fst taps) i) b)))).
  apply S2; [exact H2 | intros; apply In1; assumption |].
  intros j Hj.
  rewrite (sum_ext _ _ _ (fun c _ => f_equal (fun z => Cmod z ^ 2)
    (E2 c (sample (fst taps) i) (sample (snd taps) j)))).
  apply All; assumption.
Qed.

(** So sqrt(2) times the root of the largest sample bounds how much correlations by transforms of
    any size lengthen an image: the template may be dilated, and is 0 beyond its taps. *)
Theorem lengthens_samples (height width : nat) (dilation : nat * nat)
    (p : Channel -> nat * nat -> C) (largest : R) :
  (0 < height)%nat -> (0 < width)%nat -> 0 <= largest ->
  (forall t, In t (indices2 taps) ->
    (fst t * fst dilation < height /\ snd t * snd dilation < width)%nat) ->
  (forall i j, (i < 4 * fst taps)%nat -> (j <= 2 * snd taps)%nat ->
    sum (fun c => Cmod (spectrum taps (k c) (sample (fst taps) i) (sample (snd taps) j)) ^ 2)
      channels <= largest ^ 2) ->
  lengthens (indices2 (height, width)) (add2 height width) channels p
    (fun c => dilated taps dilation (k c)) (sqrt 2 * largest).
Proof.
  intros Hh Hw Hl Inside HM.
  apply (lengthens_peak _ _ _ _ _ (dft2 height width Hh Hw));
    [apply Rmult_le_pos; [apply sqrt_pos | exact Hl] |].
  intros w _; rewrite Rpow_mult_distr, pow2_sqrt by lra.
  apply lt_0_INR in Hh as Rh; apply lt_0_INR in Hw as Rw.
  set (a := 2 * PI * INR (fst w) * INR (fst dilation) / INR height).
  set (b := 2 * PI * INR (snd w) * INR (snd dilation) / INR width).
  rewrite (sum_ext _ (fun c => Cmod (spectrum taps (k c) a b) ^ 2));
    [apply spectrum_peak, HM |].
  intros c _; do 2 f_equal; unfold transform, spectrum.
  set (place := fun t : nat * nat => (fst t * fst dilation, snd t * snd dilation)%nat).
  rewrite (csum_ext _ (fun x => csum (fun t =>
    if pair_dec x (place t) then RtoC (k c t) * chi2 height width w x else RtoC 0)%C
    (indices2 taps))).
  - rewrite csum_exchange; apply csum_ext; intros t Ht.
    rewrite (csum_single pair_dec (fun x => RtoC (k c t) * chi2 height width w x)%C (place t)).
    + f_equal; unfold chi2, root, place, a, b; cbn [fst snd]; rewrite !mult_INR.
      f_equal; f_equal; field; lra.
    + apply (points_differ _ _ _ _ _ (dft2 height width Hh Hw)).
    + destruct (Inside t Ht); unfold indices2, place; rewrite in_prod_iff, !in_seq; cbn [fst snd].
      lia.
  - intros x _; unfold dilated; rewrite <- csum_real, <- csum_scale_r; apply csum_ext; intros t _.
    unfold place; destruct (pair_dec x _); [reflexivity | ring].
Qed.
End Gain.

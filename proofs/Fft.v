(** * The error of a correlation by fast Fourier transforms

    Backs [_transform_error] in [patchsim/backends/fft.py]. That a computed transform errs by at
    most eps in the 2-norm, relatively, is a theorem of the literature (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., theorem 24.2) and enters as a hypothesis. *)

From Coq Require Import Reals Lra Lia List Permutation.
From Coquelicot Require Import Coquelicot.
From Patchsim Require Import FloatingPoint Gradients.
Open Scope R_scope.

(** ** Norms of finite signals *)

Definition csum {A} (f : A -> C) (l : list A) : C :=
  fold_right (fun a s => (f a + s)%C) (RtoC 0) l.

(** ||f||_2 and ||f||_1 *)
Definition norm2 {A} (f : A -> C) (l : list A) : R := sqrt (sum (fun a => Cmod (f a) ^ 2) l).
Definition norm1 {A} (f : A -> C) (l : list A) : R := sum (fun a => Cmod (f a)) l.

Section Norms.
Context {A : Type}.
Implicit Types (f g : A -> C) (l : list A).

Lemma csum_plus f g l : csum (fun a => f a + g a)%C l = (csum f l + csum g l)%C.
Proof. induction l as [| a l IH]; unfold csum in *; simpl; [| rewrite IH]; ring. Qed.

Lemma csum_scale (c : C) f l : csum (fun a => c * f a)%C l = (c * csum f l)%C.
Proof. induction l as [| a l IH]; unfold csum in *; simpl; [| rewrite IH]; ring. Qed.

Lemma csum_ext f g l : (forall a, In a l -> f a = g a) -> csum f l = csum g l.
Proof.
  induction l as [| a l IH]; intros H; unfold csum in *; simpl; [reflexivity |].
  rewrite H, IH; auto using in_eq; intros b Hb; apply H, in_cons, Hb.
Qed.

Lemma csum_minus f g l : csum (fun a => f a - g a)%C l = (csum f l - csum g l)%C.
Proof. induction l as [| a l IH]; unfold csum in *; simpl; [| rewrite IH]; ring. Qed.

Lemma csum_permutation f l m : Permutation l m -> csum f l = csum f m.
Proof.
  unfold csum; induction 1; simpl; [reflexivity | rewrite IHPermutation; reflexivity | ring |].
  rewrite IHPermutation1; exact IHPermutation2.
Qed.

Lemma csum_map {B} (h : B -> A) f (l : list B) : csum f (map h l) = csum (fun b => f (h b)) l.
Proof. induction l as [| a l IH]; unfold csum in *; simpl; [| rewrite IH]; reflexivity. Qed.

Lemma Cmod_csum f l : Cmod (csum f l) <= norm1 f l.
Proof.
  unfold norm1; induction l as [| a l IH]; unfold csum, sum in *; simpl; [rewrite Cmod_0; lra |].
  eapply Rle_trans; [apply Cmod_triangle | lra].
Qed.

Lemma sum_squares_pos f l : 0 <= sum (fun a => Cmod (f a) ^ 2) l.
Proof. apply sum_pos; intros; apply pow2_ge_0. Qed.

Lemma norm2_pos f l : 0 <= norm2 f l.
Proof. apply sqrt_pos. Qed.

Lemma norm2_square f l : norm2 f l ^ 2 = sum (fun a => Cmod (f a) ^ 2) l.
Proof. apply pow2_sqrt, sum_squares_pos. Qed.

Lemma Cmod_le_norm2 f l a : In a l -> Cmod (f a) <= norm2 f l.
Proof.
  intros Ha; rewrite <- (sqrt_pow2 (Cmod (f a))) by apply Cmod_ge_0; apply sqrt_le_1_alt.
  induction l as [| b l IH]; [destruct Ha |]; unfold sum in *; cbn [fold_right].
  pose proof (sum_squares_pos f l) as P; unfold sum in P.
  pose proof (pow2_ge_0 (Cmod (f b))); destruct Ha as [-> | Ha]; [| specialize (IH Ha)]; lra.
Qed.
End Norms.

Lemma sqrt_squares_le {A} (x : A -> R) (l : list A) : (forall a, 0 <= x a) ->
  sqrt (sum (fun a => x a ^ 2) l) <= sum x l.
Proof.
  intros Hx; assert (P : forall m, 0 <= sum x m) by (intros; apply sum_pos; auto).
  rewrite <- (sqrt_pow2 (sum x l)) by apply P; apply sqrt_le_1_alt.
  induction l as [| a l IH]; unfold sum in *; cbn [fold_right]; [lra |].
  specialize (P l); specialize (Hx a); nra.
Qed.

(** Cauchy-Schwarz: sum x y <= sqrt(sum x^2) sqrt(sum y^2). *)
Lemma cauchy_schwarz {A} (x y : A -> R) (l : list A) :
  sum (fun a => x a * y a) l <= sqrt (sum (fun a => x a ^ 2) l) * sqrt (sum (fun a => y a ^ 2) l).
Proof.
  assert (P : forall z : A -> R, 0 <= sum (fun a => z a ^ 2) l)
    by (intros; apply sum_pos; intros; apply pow2_ge_0).
  rewrite <- sqrt_mult by apply P.
  eapply Rle_trans; [apply Rle_abs |]; rewrite <- sqrt_Rsqr_abs; apply sqrt_le_1_alt.
  unfold Rsqr; clear P; induction l as [| a l IH]; unfold sum in *; cbn [fold_right]; [lra |].
  set (s := fold_right (fun a s => x a * y a + s) 0 l) in *.
  set (sx := fold_right (fun a s => x a ^ 2 + s) 0 l) in *.
  set (sy := fold_right (fun a s => y a ^ 2 + s) 0 l) in *.
  assert (Px : 0 <= sx) by (apply (sum_pos (fun a => x a ^ 2)); intros; apply pow2_ge_0).
  assert (Py : 0 <= sy) by (apply (sum_pos (fun a => y a ^ 2)); intros; apply pow2_ge_0).
  assert (K : 2 * (x a * y a) * s <= x a ^ 2 * sy + y a ^ 2 * sx).
  { eapply Rle_trans; [apply Rle_abs |]; apply Rsqr_incr_0_var.
    - rewrite <- Rsqr_abs; unfold Rsqr.
      assert (x a ^ 2 * y a ^ 2 * (s * s) <= x a ^ 2 * y a ^ 2 * (sx * sy)).
      { apply Rmult_le_compat_l; [| exact IH]; apply Rmult_le_pos; apply pow2_ge_0. }
      pose proof (pow2_ge_0 (x a ^ 2 * sy - y a ^ 2 * sx)); nra.
    - pose proof (pow2_ge_0 (x a)); pose proof (pow2_ge_0 (y a)).
      apply Rplus_le_le_0_compat; apply Rmult_le_pos; assumption. }
  nra.
Qed.

Lemma cauchy_schwarz_norm2 {A B} (f : A -> B -> C) (g : A -> B -> C) a (l : list B) :
  sum (fun b => Cmod (f a b) * Cmod (g a b)) l <= norm2 (f a) l * norm2 (g a) l.
Proof. apply cauchy_schwarz. Qed.

(** Minkowski: ||f + g||_2 <= ||f||_2 + ||g||_2. *)
Lemma norm2_triangle {A} (f g : A -> C) (l : list A) :
  norm2 (fun a => f a + g a)%C l <= norm2 f l + norm2 g l.
Proof.
  pose proof (norm2_pos f l); pose proof (norm2_pos g l).
  rewrite <- (sqrt_pow2 (norm2 f l + norm2 g l)) by lra; apply sqrt_le_1_alt.
  replace ((norm2 f l + norm2 g l) ^ 2) with
    (norm2 f l ^ 2 + 2 * (norm2 f l * norm2 g l) + norm2 g l ^ 2) by ring.
  rewrite !norm2_square.
  pose proof (cauchy_schwarz (fun a => Cmod (f a)) (fun a => Cmod (g a)) l) as CS.
  apply Rle_trans with (sum (fun a => Cmod (f a) ^ 2 + 2 * (Cmod (f a) * Cmod (g a)) +
    Cmod (g a) ^ 2) l).
  - apply sum_le; intros a _; pose proof (Cmod_triangle (f a) (g a)).
    pose proof (Cmod_ge_0 (f a + g a)%C).
    apply Rle_trans with ((Cmod (f a) + Cmod (g a)) ^ 2); [apply pow_incr; lra | right; ring].
  - rewrite !sum_plus, sum_scale; unfold norm2 in *; lra.
Qed.

Lemma norm2_ext {A} (f g : A -> C) (l : list A) : (forall a, In a l -> f a = g a) ->
  norm2 f l = norm2 g l.
Proof. intros H; unfold norm2; f_equal; apply sum_ext; intros a Ha; rewrite H; auto. Qed.

Lemma norm2_csum {A B} (f : B -> A -> C) (m : list B) (l : list A) :
  norm2 (fun a => csum (fun b => f b a) m) l <= sum (fun b => norm2 (f b) l) m.
Proof.
  induction m as [| b m IH]; unfold sum in *; cbn [fold_right].
  - unfold norm2; rewrite (sum_ext _ (fun _ => 0)), sum_const, Rmult_0_r, sqrt_0; [lra |].
    intros; unfold csum; simpl; rewrite Cmod_0; ring.
  - apply Rle_trans with (2 := Rplus_le_compat_l (norm2 (f b) l) _ _ IH).
    apply (norm2_triangle (f b) (fun a => csum (fun b => f b a) m)).
Qed.

Lemma norm2_scale {A} (c : C) (f : A -> C) (l : list A) :
  norm2 (fun a => c * f a)%C l = Cmod c * norm2 f l.
Proof.
  unfold norm2; rewrite (sum_ext _ (fun a => Cmod c ^ 2 * Cmod (f a) ^ 2))
    by (intros; rewrite Cmod_mult; ring).
  rewrite sum_scale, sqrt_mult, sqrt_pow2; auto using Cmod_ge_0, sum_squares_pos, pow2_ge_0.
Qed.

Lemma csum_exchange {A B} (f : A -> B -> C) (l : list A) (m : list B) :
  csum (fun a => csum (f a) m) l = csum (fun b => csum (fun a => f a b) l) m.
Proof.
  induction l as [| a l IH].
  - rewrite (csum_ext _ (fun _ => RtoC 0 * RtoC 0)%C m) by (intros; unfold csum; simpl; ring).
    rewrite csum_scale; unfold csum at 1; simpl; ring.
  - change (csum (f a) m + csum (fun a => csum (f a) m) l =
            csum (fun b => f a b + csum (fun a => f a b) l) m)%C.
    rewrite IH, csum_plus; reflexivity.
Qed.

Lemma csum_single {A} (dec : forall a b : A, {a = b} + {a <> b}) (f : A -> C) a (l : list A) :
  NoDup l -> In a l -> csum (fun b => if dec b a then f b else RtoC 0) l = f a.
Proof.
  intros Hl Ha; induction Hl as [| b l Hb Hl IH]; [destruct Ha |].
  change ((if dec b a then f b else RtoC 0) +
    csum (fun b => if dec b a then f b else RtoC 0) l = f a)%C.
  destruct (dec b a) as [-> | E].
  - rewrite (csum_ext _ (fun _ => RtoC 0 * RtoC 0)%C), csum_scale; [ring |].
    intros c Hc; destruct (dec c a) as [-> | _]; [contradiction | ring].
  - rewrite IH by (destruct Ha; [congruence | assumption]); ring.
Qed.

Lemma csum_scale_r {A} (c : C) (f : A -> C) (l : list A) :
  csum (fun a => f a * c)%C l = (csum f l * c)%C.
Proof. rewrite (csum_ext _ (fun a => c * f a)%C), csum_scale by (intros; ring); ring. Qed.

Lemma csum_real {A} (f : A -> R) (l : list A) : csum (fun a => RtoC (f a)) l = RtoC (sum f l).
Proof.
  induction l as [| a l IH]; unfold csum, sum in *; cbn [fold_right]; [reflexivity |].
  rewrite IH, RtoC_plus; reflexivity.
Qed.

Lemma Cconj_plus (a b : C) : Cconj (a + b)%C = (Cconj a + Cconj b)%C.
Proof. unfold Cconj, Cplus; simpl; f_equal; ring. Qed.

Lemma Cconj_mult (a b : C) : Cconj (a * b)%C = (Cconj a * Cconj b)%C.
Proof. unfold Cconj, Cmult; simpl; f_equal; ring. Qed.

Lemma Cconj_real (r : R) : Cconj (RtoC r) = RtoC r.
Proof. unfold Cconj, RtoC; simpl; f_equal; ring. Qed.

Lemma Cconj_csum {A} (f : A -> C) (l : list A) :
  Cconj (csum f l) = csum (fun a => Cconj (f a)) l.
Proof.
  induction l as [| a l IH]; unfold csum in *; cbn [fold_right]; [apply Cconj_real |].
  rewrite Cconj_plus, IH; reflexivity.
Qed.

Lemma Cmod_square (z : C) : (z * Cconj z)%C = RtoC (Cmod z ^ 2).
Proof.
  unfold Cmod; rewrite pow2_sqrt
    by (apply Rplus_le_le_0_compat; apply pow2_ge_0).
  destruct z as [a b]; unfold Cmult, Cconj, RtoC; simpl; f_equal; ring.
Qed.

Lemma Cmod_conj (z : C) : Cmod (Cconj z) = Cmod z.
Proof. unfold Cmod, Cconj; simpl; f_equal; ring. Qed.

(** ** Transforms *)

(** The discrete Fourier transform over the points [xs] and frequencies [ws], of any number of
    dimensions: chi w x is exp(-2 pi i w x / L), [add] adds positions, circularly. *)
Record is_transform {X W : Type} (dec : forall a b : X, {a = b} + {a <> b})
    (xs : list X) (ws : list W) (add : X -> X -> X) (chi : W -> X -> C) : Prop := {
  some_point : xs <> nil;
  points_differ : NoDup xs;
  on_circle : forall w x, Cmod (chi w x) = 1;
  homomorphic : forall w y x, chi w (add y x) = (chi w y * chi w x)%C;
  shifts_permute : forall x, In x xs -> Permutation (map (fun y => add y x) xs) xs;
  orthogonal : forall z x, In z xs -> In x xs ->
    csum (fun w => chi w z * Cconj (chi w x))%C ws =
    if dec z x then RtoC (INR (length xs)) else RtoC 0 }.

Section Transform.
Context {X W : Type} (dec : forall a b : X, {a = b} + {a <> b}).
Variables (xs : list X) (ws : list W) (add : X -> X -> X) (chi : W -> X -> C).
Hypothesis dft : is_transform dec xs ws add chi.

(** The number of points. *)
Let L : R := INR (length xs).

Definition transform (p : X -> C) (w : W) : C := csum (fun x => p x * chi w x)%C xs.
Definition inverse (z : W -> C) (x : X) : C :=
  (RtoC (/ L) * csum (fun w => z w * Cconj (chi w x)) ws)%C.

(** Circular correlation, (p * k)(y) = sum_x p(y + x) k(x), k being real. *)
Definition circular (p : X -> C) (k : X -> R) (y : X) : C :=
  csum (fun x => p (add y x) * RtoC (k x))%C xs.

Lemma L_pos : 0 < L.
Proof.
  unfold L; pose proof (some_point _ _ _ _ _ dft) as H.
  destruct xs as [| x l]; [congruence | apply lt_0_INR; simpl; lia].
Qed.

(** There are as many frequencies. *)
Lemma frequencies : INR (length ws) = L.
Proof.
  assert (H : exists x, In x xs).
  { generalize (some_point _ _ _ _ _ dft); clear; destruct xs as [| x l]; [congruence |].
    intros _; exists x; left; reflexivity. }
  destruct H as [x Hx]; pose proof (orthogonal _ _ _ _ _ dft x x Hx Hx) as O.
  destruct (dec x x) as [_ | N]; [| congruence].
  apply RtoC_inj; fold L in O; rewrite <- O.
  rewrite (csum_ext _ (fun _ => RtoC 1)).
  - clear; induction ws as [| w l IH]; [reflexivity |].
    simpl length; rewrite S_INR, RtoC_plus, IH; unfold csum; simpl; ring.
  - intros w _; rewrite Cmod_square, (on_circle _ _ _ _ _ dft).
    replace (1 ^ 2) with 1 by ring; reflexivity.
Qed.

Lemma unscaled_inverse (p : X -> C) x : In x xs ->
  csum (fun w => transform p w * Cconj (chi w x))%C ws = (p x * RtoC L)%C.
Proof.
  intros Hx; unfold transform.
  rewrite (csum_ext _ (fun w => csum (fun z => p z * (chi w z * Cconj (chi w x))) xs)%C).
  2: { intros w _; rewrite <- csum_scale_r; apply csum_ext; intros; ring. }
  rewrite csum_exchange.
  rewrite <- (csum_single dec (fun z => p z * RtoC L)%C x xs
    (points_differ _ _ _ _ _ dft) Hx).
  apply csum_ext; intros z Hz; rewrite csum_scale, (orthogonal _ _ _ _ _ dft z x Hz Hx).
  destruct (dec z x); [reflexivity | ring].
Qed.

(** The inverse transform undoes the transform. *)
Theorem inverse_transform (p : X -> C) x : In x xs -> inverse (transform p) x = p x.
Proof.
  intros Hx; unfold inverse; rewrite unscaled_inverse by exact Hx.
  pose proof L_pos; rewrite RtoC_inv by lra; field.
  intros E; apply RtoC_inj in E; lra.
Qed.

(** Parseval: ||F p||_2 = sqrt(L) ||p||_2. *)
Theorem parseval (p : X -> C) : norm2 (transform p) ws = sqrt L * norm2 p xs.
Proof.
  unfold norm2; pose proof L_pos; rewrite <- sqrt_mult; [f_equal | lra | apply sum_squares_pos].
  apply RtoC_inj; rewrite RtoC_mult, <- !csum_real.
  rewrite (csum_ext _ (fun w => csum (fun x =>
    Cconj (p x) * (transform p w * Cconj (chi w x))) xs)%C).
  - rewrite csum_exchange, <- csum_scale; apply csum_ext; intros x Hx.
    rewrite csum_scale, unscaled_inverse, <- Cmod_square by exact Hx; ring.
  - intros w _; rewrite <- Cmod_square; unfold transform at 2; rewrite Cconj_csum.
    rewrite <- csum_scale; apply csum_ext; intros; rewrite Cconj_mult; ring.
Qed.

(** F(p * k) = F p . conj(F k). *)
Theorem correlation_theorem (p : X -> C) (k : X -> R) w :
  transform (circular p k) w =
  (transform p w * Cconj (transform (fun x => RtoC (k x)) w))%C.
Proof.
  unfold transform at 1, circular.
  rewrite (csum_ext _ (fun y => csum (fun x =>
    RtoC (k x) * Cconj (chi w x) * (p (add y x) * chi w (add y x))) xs)%C).
  - rewrite csum_exchange; unfold transform at 2; rewrite Cconj_csum, <- csum_scale.
    apply csum_ext; intros x Hx.
    rewrite csum_scale, Cconj_mult, Cconj_real; unfold transform.
    rewrite <- (csum_permutation (fun y => p y * chi w y)%C _ _
      (shifts_permute _ _ _ _ _ dft x Hx)), csum_map; ring.
  - intros y _; rewrite <- csum_scale_r; apply csum_ext; intros x _.
    rewrite (homomorphic _ _ _ _ _ dft).
    transitivity (RtoC (k x) * p (add y x) * chi w y * (chi w x * Cconj (chi w x)))%C; [| ring].
    rewrite Cmod_square, (on_circle _ _ _ _ _ dft); replace (1 ^ 2) with 1 by ring; ring.
Qed.

(** Young: ||p * k||_2 <= ||p||_2 ||k||_1. *)
Theorem young (p : X -> C) (k : X -> R) :
  norm2 (circular p k) xs <= norm2 p xs * norm1 (fun x => RtoC (k x)) xs.
Proof.
  eapply Rle_trans; [apply (norm2_csum (fun x y => p (add y x) * RtoC (k x))%C) |].
  unfold norm1; rewrite <- sum_scale; apply sum_le; intros x Hx; right.
  rewrite (norm2_ext _ (fun y => RtoC (k x) * p (add y x))%C)
    by (intros; cbv beta; ring).
  rewrite norm2_scale, Rmult_comm; f_equal; unfold norm2; f_equal.
  rewrite <- (sum_permutation (fun y => Cmod (p y) ^ 2) _ _
    (shifts_permute _ _ _ _ _ dft x Hx)).
  unfold sum; clear; induction xs as [| y l IH]; cbn [map fold_right]; [| rewrite IH]; reflexivity.
Qed.

Lemma inverse_bound (z : W -> C) x : Cmod (inverse z x) <= / L * norm1 z ws.
Proof.
  pose proof L_pos as HL; unfold inverse; rewrite Cmod_mult, Cmod_R, Rabs_pos_eq
    by (apply Rlt_le, Rinv_0_lt_compat, HL).
  apply Rmult_le_compat_l; [apply Rlt_le, Rinv_0_lt_compat, HL |].
  eapply Rle_trans; [apply Cmod_csum |]; right; apply sum_ext; intros w _.
  rewrite Cmod_mult, Cmod_conj, (on_circle _ _ _ _ _ dft); ring.
Qed.

Lemma norm2_bounded (f : X -> C) t : 0 <= t -> (forall x, Cmod (f x) <= t) ->
  norm2 f xs <= sqrt L * t.
Proof.
  intros Ht Hf; rewrite <- (sqrt_pow2 t) at 1 by exact Ht.
  pose proof L_pos; unfold norm2; rewrite <- sqrt_mult by (try apply pow2_ge_0; lra).
  apply sqrt_le_1_alt; unfold L; rewrite <- sum_const; apply sum_le; intros x _.
  apply pow_incr; split; [apply Cmod_ge_0 | apply Hf].
Qed.

Lemma inverse_minus (f g : W -> C) x :
  inverse (fun w => f w - g w)%C x = (inverse f x - inverse g x)%C.
Proof.
  unfold inverse; rewrite (csum_ext _ (fun w =>
    f w * Cconj (chi w x) - g w * Cconj (chi w x))%C) by (intros; ring).
  rewrite csum_minus; ring.
Qed.

(** ** The computed correlation *)

Section Computed.
Context {Channel : Type}.
(** The template is real. The image may be complex: two real ones, transformed as one signal. *)
Variables (channels : list Channel) (p : Channel -> X -> C) (k : Channel -> X -> R).
(** The computed spectra, their computed products, and the computed result. *)
Variables (p' k' : Channel -> W -> C) (z' : W -> C) (r' : X -> C).
Variables (eps kappa : R).
Hypothesis eps_pos : 0 <= eps.
Hypothesis kappa_pos : 0 <= kappa.

Let pc c x : C := p c x.
Let kc c x : C := RtoC (k c x).

(** Each transform errs by at most eps in the 2-norm, relatively; each product, summed over the
    channels, by at most kappa sum_c |p'_c| |k'_c|. *)
Hypothesis image_transform : forall c, In c channels ->
  norm2 (fun w => p' c w - transform (pc c) w)%C ws <= eps * norm2 (transform (pc c)) ws.
Hypothesis kernel_transform : forall c, In c channels ->
  norm2 (fun w => k' c w - transform (kc c) w)%C ws <= eps * norm2 (transform (kc c)) ws.
Hypothesis products : forall w, In w ws ->
  Cmod (z' w - csum (fun c => p' c w * Cconj (k' c w))%C channels)%C <=
  kappa * sum (fun c => Cmod (p' c w) * Cmod (k' c w)) channels.
Hypothesis inverse_transformed :
  norm2 (fun x => r' x - inverse z' x)%C xs <= eps * norm2 (inverse z') xs.

(** ||p||_2, ||k||_2 and ||k||_1 over all channels. *)
Definition image_norm : R := sqrt (sum (fun c => norm2 (pc c) xs ^ 2) channels).
Definition kernel_norm : R := sqrt (sum (fun c => norm2 (kc c) xs ^ 2) channels).
Definition kernel_sum : R := sum (fun c => norm1 (kc c) xs) channels.

Definition correlation (y : X) : C := csum (fun c => circular (pc c) (k c) y) channels.

(** The relative error of a product of two transforms: 2 eps + kappa, to first order. *)
Definition delta : R := (1 + kappa) * (1 + eps) ^ 2 - 1.

Let z (w : W) : C :=
  csum (fun c => transform (pc c) w * Cconj (transform (kc c) w))%C channels.

Lemma delta_pos : 0 <= delta.
Proof. unfold delta; assert (1 <= (1 + eps) ^ 2) by nra; nra. Qed.

Lemma inverse_exact x : In x xs -> inverse z x = correlation x.
Proof.
  intros Hx; rewrite <- (inverse_transform correlation x Hx).
  unfold inverse; f_equal; apply csum_ext; intros w _; f_equal.
  unfold z, transform at 3, correlation.
  rewrite (csum_ext (fun x0 => _ * chi w x0)%C
    (fun y => csum (fun c => circular (pc c) (k c) y * chi w y) channels)%C)
    by (intros; rewrite csum_scale_r; reflexivity).
  rewrite csum_exchange; apply csum_ext; intros c _; symmetry; apply correlation_theorem.
Qed.

Lemma spectrum_norm (s' : W -> C) (s : X -> C) :
  norm2 (fun w => s' w - transform s w)%C ws <= eps * norm2 (transform s) ws ->
  norm2 s' ws <= (1 + eps) * norm2 (transform s) ws.
Proof.
  intros H; rewrite (norm2_ext s' (fun w => (s' w - transform s w) + transform s w)%C)
    by (intros; ring).
  eapply Rle_trans; [apply norm2_triangle | lra].
Qed.

Lemma sum_over_channels (f : Channel -> W -> R) :
  sum (fun w => sum (fun c => f c w) channels) ws = sum (fun c => sum (f c) ws) channels.
Proof.
  clear; induction ws as [| w l IH].
  - rewrite (sum_ext (fun c => sum (f c) nil) (fun _ => 0)) by reflexivity.
    rewrite sum_const; unfold sum; simpl; ring.
  - change (sum (fun c => f c w) channels + sum (fun w => sum (fun c => f c w) channels) l =
      sum (fun c => f c w + sum (f c) l) channels); rewrite IH, sum_plus; reflexivity.
Qed.

(** ||z' - z||_1 <= delta L ||p||_2 ||k||_2: Cauchy-Schwarz over frequencies, then channels. *)
Lemma products_error :
  norm1 (fun w => z' w - z w)%C ws <= delta * L * (image_norm * kernel_norm).
Proof.
  pose proof L_pos as HL.
  set (a c w := Cmod (p' c w) * Cmod (k' c w)).
  set (b c w := Cmod (p' c w - transform (pc c) w)%C * Cmod (k' c w) +
                Cmod (transform (pc c) w) * Cmod (k' c w - transform (kc c) w)%C).
  apply Rle_trans with (sum (fun w => kappa * sum (fun c => a c w) channels +
    sum (fun c => b c w) channels) ws).
  - apply sum_le; intros w Hw.
    replace (z' w - z w)%C with ((z' w - csum (fun c => p' c w * Cconj (k' c w)) channels) +
      csum (fun c => p' c w * Cconj (k' c w) -
        transform (pc c) w * Cconj (transform (kc c) w)) channels)%C
      by (rewrite csum_minus; unfold z; ring).
    eapply Rle_trans; [apply Cmod_triangle |]; apply Rplus_le_compat; [apply products, Hw |].
    eapply Rle_trans; [apply Cmod_csum |]; apply sum_le; intros c _; unfold b.
    replace (p' c w * Cconj (k' c w) - transform (pc c) w * Cconj (transform (kc c) w))%C with
      ((p' c w - transform (pc c) w) * Cconj (k' c w) +
       transform (pc c) w * Cconj (k' c w - transform (kc c) w))%C.
    2: { assert (E : Cconj (k' c w - transform (kc c) w)%C =
           (Cconj (k' c w) - Cconj (transform (kc c) w))%C).
         { unfold Cconj, Cminus, Cplus, Copp; simpl; f_equal; ring. }
         rewrite E; ring. }
    eapply Rle_trans; [apply Cmod_triangle |]; rewrite !Cmod_mult, !Cmod_conj; lra.
  - rewrite sum_plus, sum_scale.
    rewrite !sum_over_channels, <- sum_scale, <- sum_plus.
    apply Rle_trans with (sum (fun c => delta * L * (norm2 (pc c) xs * norm2 (kc c) xs)) channels).
    + apply sum_le; intros c Hc.
      pose proof (image_transform c Hc) as HP; pose proof (kernel_transform c Hc) as HK.
      pose proof (spectrum_norm _ _ HP) as SP; pose proof (spectrum_norm _ _ HK) as SK.
      set (P := norm2 (transform (pc c)) ws) in *; set (K := norm2 (transform (kc c)) ws) in *.
      assert (PK : P * K = L * (norm2 (pc c) xs * norm2 (kc c) xs)).
      { unfold P, K; rewrite !parseval.
        replace (L * (norm2 (pc c) xs * norm2 (kc c) xs)) with
          ((sqrt L * sqrt L) * (norm2 (pc c) xs * norm2 (kc c) xs))
          by (rewrite sqrt_sqrt by lra; reflexivity); ring. }
      assert (P0 : 0 <= P) by apply norm2_pos; assert (K0 : 0 <= K) by apply norm2_pos.
      assert (A1 : sum (a c) ws <= ((1 + eps) * P) * ((1 + eps) * K)).
      { eapply Rle_trans; [apply (cauchy_schwarz (fun w => Cmod (p' c w))) |].
        apply Rmult_le_compat; auto; apply sqrt_pos. }
      assert (B1 : sum (b c) ws <= (eps * P) * ((1 + eps) * K) + P * (eps * K)).
      { unfold b; rewrite sum_plus; apply Rplus_le_compat.
        - eapply Rle_trans; [apply (cauchy_schwarz
            (fun w => Cmod (p' c w - transform (pc c) w)%C)) |].
          apply Rmult_le_compat; auto; apply sqrt_pos.
        - eapply Rle_trans; [apply (cauchy_schwarz (fun w => Cmod (transform (pc c) w))) |].
          apply Rmult_le_compat_l; [apply sqrt_pos | exact HK]. }
      rewrite Rmult_assoc, <- PK; unfold delta.
      apply (Rmult_le_compat_l kappa) in A1; [| exact kappa_pos]; lra.
    + rewrite sum_scale; apply Rmult_le_compat_l; [apply Rmult_le_pos; [apply delta_pos | lra] |].
      apply cauchy_schwarz.
Qed.

(** How much correlations lengthen a signal: any number with these properties bounds it. *)
Definition lengthens (gain : R) : Prop :=
  norm2 correlation xs <= image_norm * gain /\ kernel_norm <= gain.

(** One is ||k||_1. *)
Theorem lengthens_sum : lengthens kernel_sum.
Proof.
  split.
  - unfold correlation; eapply Rle_trans;
      [apply (norm2_csum (fun c y => circular (pc c) (k c) y)) |].
    unfold kernel_sum; rewrite <- sum_scale; apply sum_le; intros c Hc.
    eapply Rle_trans; [apply young |].
    apply Rmult_le_compat_r; [apply sum_pos; intros; apply Cmod_ge_0 |].
    unfold image_norm; rewrite <- (sqrt_pow2 (norm2 (pc c) xs)) by apply norm2_pos.
    apply sqrt_le_1_alt; clear - Hc; induction channels as [| c0 l IH]; [destruct Hc |].
    unfold sum in *; cbn [fold_right].
    pose proof (sum_pos (fun c => norm2 (pc c) xs ^ 2) l (fun c _ => pow2_ge_0 _)) as Q.
    unfold sum in Q; pose proof (pow2_ge_0 (norm2 (pc c0) xs)).
    destruct Hc as [-> | Hc]; [lra | specialize (IH Hc); lra].
  - unfold kernel_norm, kernel_sum; eapply Rle_trans.
    + apply sqrt_squares_le; intros c; apply norm2_pos.
    + apply sum_le; intros c _; apply sqrt_squares_le; intros; apply Cmod_ge_0.
Qed.

(** Parseval over all channels. *)
Lemma channels_parseval (f : Channel -> X -> C) :
  sum (fun w => sum (fun c => Cmod (transform (f c) w) ^ 2) channels) ws =
  L * sum (fun c => norm2 (f c) xs ^ 2) channels.
Proof.
  pose proof L_pos as HL; rewrite sum_over_channels, <- sum_scale; apply sum_ext; intros c _.
  rewrite <- norm2_square, parseval, Rpow_mult_distr, pow2_sqrt by lra; reflexivity.
Qed.

(** Another is the peak over all frequencies of the template's spectrum, taken over its channels. *)
Theorem lengthens_peak (gain : R) : 0 <= gain ->
  (forall w, In w ws -> sum (fun c => Cmod (transform (kc c) w) ^ 2) channels <= gain ^ 2) ->
  lengthens gain.
Proof.
  intros Hg Hw; pose proof L_pos as HL.
  assert (Q : forall f : Channel -> X -> C, 0 <= sum (fun c => norm2 (f c) xs ^ 2) channels)
    by (intros; apply sum_pos; intros; apply pow2_ge_0).
  split.
  - apply Rmult_le_reg_l with (sqrt L); [apply sqrt_lt_R0, HL |].
    rewrite <- parseval; unfold norm2, image_norm.
    rewrite <- (sqrt_pow2 gain) by exact Hg.
    rewrite <- sqrt_mult, <- sqrt_mult by
      (try apply Rmult_le_pos; try apply Q; try apply pow2_ge_0; lra).
    apply sqrt_le_1_alt.
    replace (L * (sum (fun c => norm2 (pc c) xs ^ 2) channels * gain ^ 2)) with
      (gain ^ 2 * (L * sum (fun c => norm2 (pc c) xs ^ 2) channels)) by ring.
    rewrite <- channels_parseval, <- sum_scale; apply sum_le; intros w Hin.
    assert (E : transform correlation w = z w).
    { unfold z, transform at 1, correlation.
      rewrite (csum_ext (fun x0 => _ * chi w x0)%C
        (fun y => csum (fun c => circular (pc c) (k c) y * chi w y) channels)%C)
        by (intros; rewrite csum_scale_r; reflexivity).
      rewrite csum_exchange; apply csum_ext; intros c _; apply correlation_theorem. }
    rewrite E; unfold z.
    set (P := sum (fun c => Cmod (transform (pc c) w) ^ 2) channels).
    set (K := sum (fun c => Cmod (transform (kc c) w) ^ 2) channels).
    assert (P0 : 0 <= P) by (apply sum_pos; intros; apply pow2_ge_0).
    assert (K0 : 0 <= K) by (apply sum_pos; intros; apply pow2_ge_0).
    assert (H : Cmod (csum (fun c => transform (pc c) w * Cconj (transform (kc c) w))%C
      channels) <= sqrt P * sqrt K).
    { eapply Rle_trans; [apply Cmod_csum |]; unfold norm1.
      rewrite (sum_ext _ (fun c => Cmod (transform (pc c) w) * Cmod (transform (kc c) w)))
        by (intros; rewrite Cmod_mult, Cmod_conj; reflexivity).
      apply cauchy_schwarz. }
    apply Rle_trans with ((sqrt P * sqrt K) ^ 2).
    + apply pow_incr; split; [apply Cmod_ge_0 | exact H].
    + rewrite Rpow_mult_distr, !pow2_sqrt, Rmult_comm by assumption.
      apply Rmult_le_compat_r; [exact P0 | exact (Hw w Hin)].
  - unfold kernel_norm; rewrite <- (sqrt_pow2 gain) by exact Hg; apply sqrt_le_1_alt.
    apply Rmult_le_reg_l with L; [exact HL |].
    rewrite <- channels_parseval; eapply Rle_trans; [apply sum_le, Hw |].
    rewrite sum_const, frequencies; lra.
Qed.

(** The correlation's error at any pixel:
    |r' - p * k| <= eps ||p||_2 gain + (1 + eps sqrt(L)) delta ||p||_2 ||k||_2,
    where delta = (1 + kappa) (1 + eps)^2 - 1. *)
Theorem correlation_error gain x : lengthens gain -> In x xs ->
  Cmod (r' x - correlation x)%C <=
    eps * (image_norm * gain) +
    (1 + eps * sqrt L) * delta * (image_norm * kernel_norm).
Proof.
  intros [HC _] Hx; pose proof L_pos as HL.
  set (t := delta * (image_norm * kernel_norm)).
  assert (Ht : forall y, Cmod (inverse (fun w => z' w - z w)%C y) <= t).
  { intros y; eapply Rle_trans; [apply inverse_bound |].
    pose proof products_error as HE; apply (Rmult_le_compat_l (/ L)) in HE;
      [| apply Rlt_le, Rinv_0_lt_compat, HL].
    replace (/ L * (delta * L * (image_norm * kernel_norm))) with t in HE
      by (unfold t; field; lra); exact HE. }
  assert (t0 : 0 <= t).
  { unfold t; repeat apply Rmult_le_pos; try apply sqrt_pos; apply delta_pos. }
  assert (HI : norm2 (inverse z') xs <= image_norm * gain + sqrt L * t).
  { rewrite (norm2_ext _ (fun y => correlation y + inverse (fun w => z' w - z w) y)%C).
    - eapply Rle_trans; [apply norm2_triangle |].
      pose proof (norm2_bounded _ t t0 Ht); lra.
    - intros y Hy; rewrite inverse_minus, <- inverse_exact by exact Hy; ring. }
  replace (r' x - correlation x)%C with
    ((r' x - inverse z' x) + inverse (fun w => z' w - z w) x)%C
    by (rewrite inverse_minus, <- inverse_exact by exact Hx; ring).
  eapply Rle_trans; [apply Cmod_triangle |].
  pose proof (Cmod_le_norm2 (fun x => r' x - inverse z' x)%C xs x Hx) as H1.
  pose proof (Ht x) as H2.
  apply (Rmult_le_compat_l eps) in HI; [| exact eps_pos].
  replace ((1 + eps * sqrt L) * delta * (image_norm * kernel_norm)) with
    (t + eps * (sqrt L * t)) by (unfold t; ring).
  cbv beta in H1; lra.
Qed.

(** The code's bound,
    (1.01 + eps sqrt(L)) ||p||_2 ((2 eps + kappa) ||k||_2 + eps gain), if eps + 2 kappa + eps
    kappa <= 0.03 (that is, at any size in practice). For delta = 2 eps + kappa + eps (eps + 2 kappa
    + eps kappa), the last product being of second order, and ||k||_2 <= gain. *)
Theorem correlation_bound gain x :
  lengthens gain -> In x xs -> eps + 2 * kappa + eps * kappa <= 3 / 100 ->
  Cmod (r' x - correlation x)%C <=
    (101 / 100 + eps * sqrt L) * image_norm *
    ((2 * eps + kappa) * kernel_norm + eps * gain).
Proof.
  intros HG Hx H; eapply Rle_trans; [apply (correlation_error gain), Hx; exact HG |].
  assert (P : 0 <= image_norm) by apply sqrt_pos; assert (K : 0 <= kernel_norm) by apply sqrt_pos.
  pose proof (proj2 HG) as KS.
  set (t := eps * sqrt L); assert (T : 0 <= t) by (apply Rmult_le_pos; [auto | apply sqrt_pos]).
  set (h := eps + 2 * kappa + eps * kappa) in *.
  assert (D : delta = 2 * eps + kappa + eps * h) by (unfold delta, h; ring).
  assert (E : eps * h <= eps * (3 / 100)) by (apply Rmult_le_compat_l; assumption).
  assert (TE : t * (eps * h) <= t * eps) by (apply Rmult_le_compat_l; lra).
  assert (S : (1 + t) * delta <= (101 / 100 + t) * (2 * eps + kappa) + (/ 100 + t) * eps)
    by (rewrite D; lra).
  apply (Rmult_le_compat_r (image_norm * kernel_norm)) in S; [| apply Rmult_le_pos; assumption].
  assert (Q : (/ 100 + t) * eps * image_norm * kernel_norm <=
              (/ 100 + t) * eps * image_norm * gain).
  { apply Rmult_le_compat_l; [repeat apply Rmult_le_pos; lra | exact KS]. }
  lra.
Qed.

(** With the template's 1-norm... *)
Theorem correlation_bound_sum x : In x xs -> eps + 2 * kappa + eps * kappa <= 3 / 100 ->
  Cmod (r' x - correlation x)%C <=
    (101 / 100 + eps * sqrt L) * image_norm *
    ((2 * eps + kappa) * kernel_norm + eps * kernel_sum).
Proof. apply correlation_bound, lengthens_sum. Qed.

(** ... and with a bound of its spectrum's peak. *)
Theorem correlation_bound_peak peak x : 0 <= peak ->
  (forall w, In w ws -> sum (fun c => Cmod (transform (kc c) w) ^ 2) channels <= peak ^ 2) ->
  In x xs -> eps + 2 * kappa + eps * kappa <= 3 / 100 ->
  Cmod (r' x - correlation x)%C <=
    (101 / 100 + eps * sqrt L) * image_norm *
    ((2 * eps + kappa) * kernel_norm + eps * peak).
Proof. intros Hp Hw; apply correlation_bound, lengthens_peak; assumption. Qed.

(** The bound has room for a factor 1 + s of the error, if s (1 + eps sqrt(L)) <= 0.005 and
    eps + 2 kappa + eps kappa <= 0.004: roundings that follow make one, with s about 2 u. *)
Theorem correlation_bound_rounded gain s x : lengthens gain -> In x xs ->
  0 <= s -> s * (1 + eps * sqrt L) <= / 200 -> eps + 2 * kappa + eps * kappa <= / 250 ->
  (1 + s) * Cmod (r' x - correlation x)%C <=
    (101 / 100 + eps * sqrt L) * image_norm *
    ((2 * eps + kappa) * kernel_norm + eps * gain).
Proof.
  intros HG Hx Hs HsL H; pose proof (correlation_error gain x HG Hx) as HE.
  apply (Rmult_le_compat_l (1 + s)) in HE; [| lra].
  eapply Rle_trans; [exact HE |]; clear HE.
  assert (P : 0 <= image_norm) by apply sqrt_pos; assert (K : 0 <= kernel_norm) by apply sqrt_pos.
  pose proof (proj2 HG) as KS.
  set (t := eps * sqrt L) in *.
  assert (T : 0 <= t) by (apply Rmult_le_pos; [auto | apply sqrt_pos]).
  set (h := eps + 2 * kappa + eps * kappa) in *.
  assert (D : delta = 2 * eps + kappa + eps * h) by (unfold delta, h; ring).
  assert (S0 : (1 + s) * (1 + t) <= 101 / 100 + t - / 200) by lra.
  assert (s <= / 200) by (pose proof (Rmult_le_pos _ _ Hs T); lra).
  assert (D0 : 0 <= 2 * eps + kappa) by lra.
  assert (h0 : 0 <= h) by (unfold h; pose proof (Rmult_le_pos _ _ eps_pos kappa_pos); lra).
  assert (S1 : (1 + s) * (1 + t) * (2 * eps + kappa) <= (101 / 100 + t) * (2 * eps + kappa))
    by (apply Rmult_le_compat_r; lra).
  assert (S2 : (1 + s) * (1 + t) * h <= / 200 + t).
  { apply Rle_trans with ((101 / 100 + t - / 200) * / 250); [| lra].
    apply Rmult_le_compat; try lra; apply Rmult_le_pos; lra. }
  assert (S3 : (1 + s) * (1 + t) * h * (eps * kernel_norm) <= (/ 200 + t) * (eps * gain)).
  { apply Rmult_le_compat; [| | exact S2 |].
    - repeat apply Rmult_le_pos; lra.
    - apply Rmult_le_pos; assumption.
    - apply Rmult_le_compat_l; assumption. }
  assert (S4 : (1 + s) * (eps * gain) <= (201 / 200) * (eps * gain)).
  { apply Rmult_le_compat_r; [apply Rmult_le_pos; lra | lra]. }
  apply (Rmult_le_compat_r kernel_norm) in S1; [| exact K].
  assert (S5 : (1 + s) * (eps * gain) + (1 + s) * (1 + t) * delta * kernel_norm <=
               (101 / 100 + t) * ((2 * eps + kappa) * kernel_norm + eps * gain))
    by (rewrite D; lra).
  apply (Rmult_le_compat_l image_norm) in S5; [| exact P]; lra.
Qed.
End Computed.
End Transform.

(** ** Rounding the products: what kappa is *)

Section Products.
Variables (u least : R) (rnd : R -> R).
Hypothesis rnd_model : rounds u least 0 rnd.

Lemma cross_le a b c d : Rabs (a * c) + Rabs (b * d) <= Cmod (a, b) * Cmod (c, d).
Proof.
  unfold Cmod; cbn [fst snd].
  rewrite <- sqrt_mult by (apply Rplus_le_le_0_compat; apply pow2_ge_0).
  rewrite <- (sqrt_pow2 (Rabs (a * c) + Rabs (b * d)))
    by (apply Rplus_le_le_0_compat; apply Rabs_pos).
  apply sqrt_le_1_alt; rewrite !Rabs_mult.
  rewrite <- (pow2_abs a), <- (pow2_abs b), <- (pow2_abs c), <- (pow2_abs d).
  pose proof (pow2_ge_0 (Rabs a * Rabs d - Rabs b * Rabs c)); nra.
Qed.

Lemma Cmod_le_scaled x y x' y' g : 0 <= g -> Rabs x <= g * x' -> Rabs y <= g * y' ->
  Cmod (x, y) <= g * Cmod (x', y').
Proof.
  intros Hg Hx Hy; unfold Cmod; cbn [fst snd].
  rewrite <- (sqrt_pow2 g) at 1 by exact Hg; rewrite <- sqrt_mult
    by (try apply Rplus_le_le_0_compat; apply pow2_ge_0).
  apply sqrt_le_1_alt; rewrite <- (pow2_abs x), <- (pow2_abs y).
  pose proof (pow_incr (Rabs x) (g * x') 2 (conj (Rabs_pos x) Hx)).
  pose proof (pow_incr (Rabs y) (g * y') 2 (conj (Rabs_pos y) Hy)); nra.
Qed.

(** One component of a product: two products, one addition. *)
Lemma component_error x y z w : INR 2 * u < 1 ->
  Rabs (rnd (rnd (x * y) + rnd (z * w)) - (x * y + z * w)) <=
  gamma u 2 * (Rabs (x * y) + Rabs (z * w)).
Proof.
  intros Hu; pose proof (INR_u_le u (proj1 rnd_model) 1 2 ltac:(lia)) as U1.
  pose proof (near_rnd u least 0 rnd rnd_model 0 _ 0 _ _ ltac:(lra) ltac:(lra)
    (near_refl u (x * y))) as N1.
  pose proof (near_rnd u least 0 rnd rnd_model 0 _ 0 _ _ ltac:(lra) ltac:(lra)
    (near_refl u (z * w))) as N2.
  pose proof (near_plus u _ _ _ _ _ _ _ _ _ N1 N2) as N3.
  apply (near_rnd u least 0 rnd rnd_model) in N3; [| exact Hu | lra].
  destruct N3 as [_ N3]; lra.
Qed.

(** The products of two spectra, P' = a + i b and K' = c + i d, summed over C channels in any
    order: |fl(sum P' conj K') - sum P' conj K'| <= kappa sum |P'| |K'| with
    kappa = sqrt(2) gamma_2 + gamma_(C-1) (1 + sqrt(2) gamma_2), which is (C + 1.83) u to first
    order. *)
Theorem products_rounding {Channel} (n : nat) (a b c d : Channel -> R) (channels : list Channel)
    (t1 t2 : tree Channel) :
  Permutation (leaves t1) channels -> Permutation (leaves t2) channels -> n = length channels ->
  INR (n - 1) * u < 1 -> INR 2 * u < 1 ->
  Cmod ((computed rnd (fun i => rnd (rnd (a i * c i) + rnd (b i * d i))) t1,
         computed rnd (fun i => rnd (rnd (b i * c i) + rnd (- a i * d i))) t2) -
        csum (fun i => (a i, b i) * Cconj (c i, d i)) channels)%C <=
  (sqrt 2 * gamma u 2 + gamma u (n - 1) * (1 + sqrt 2 * gamma u 2)) *
  sum (fun i => Cmod (a i, b i) * Cmod (c i, d i)) channels.
Proof.
  intros H1 H2 Hn Hu Hu2.
  pose proof (gamma_pos u (proj1 rnd_model) 2 Hu2) as G2.
  pose proof (gamma_pos u (proj1 rnd_model) (n - 1) Hu) as Gn.
  set (re i := rnd (rnd (a i * c i) + rnd (b i * d i))).
  set (im i := rnd (rnd (b i * c i) + rnd (- a i * d i))).
  set (m i := Cmod (a i, b i) * Cmod (c i, d i)).
  pose proof (sum_error u least 0 rnd rnd_model n re channels t1 H1 Hn Hu) as E1.
  pose proof (sum_error u least 0 rnd rnd_model n im channels t2 H2 Hn Hu) as E2.
  rewrite !Rmult_0_r, Rplus_0_r in E1, E2.
  assert (Leaf : forall i,
    Cmod ((re i, im i) - (a i, b i) * Cconj (c i, d i))%C <= sqrt 2 * gamma u 2 * m i).
  { intros i; pose proof (component_error (a i) (c i) (b i) (d i) Hu2) as R1.
    pose proof (component_error (b i) (c i) (- a i) (d i) Hu2) as R2.
    pose proof (cross_le (a i) (b i) (c i) (d i)) as X1.
    pose proof (cross_le (b i) (- a i) (c i) (d i)) as X2.
    assert (Sw : Cmod (b i, - a i) = Cmod (a i, b i))
      by (unfold Cmod; cbn [fst snd]; f_equal; ring).
    rewrite Sw in X2; fold (m i) in X1, X2.
    apply (Rmult_le_compat_l _ _ _ G2) in X1; apply (Rmult_le_compat_l _ _ _ G2) in X2.
    replace ((re i, im i) - (a i, b i) * Cconj (c i, d i))%C with
      ((re i - (a i * c i + b i * d i), im i - (b i * c i + - a i * d i)) : C).
    2: { unfold Cminus, Cplus, Copp, Cmult, Cconj; cbn [fst snd]; f_equal; ring. }
    replace (sqrt 2 * gamma u 2 * m i) with ((gamma u 2 * m i) * Cmod (1, 1)).
    2: { unfold Cmod; cbn [fst snd]; replace (1 ^ 2 + 1 ^ 2) with 2 by ring; ring. }
    apply Cmod_le_scaled.
    - apply Rmult_le_pos; [exact G2 | apply Rmult_le_pos; apply Cmod_ge_0].
    - unfold re; lra.
    - unfold im; lra. }
  assert (SumC : csum (fun i => (re i, im i)) channels = (sum re channels, sum im channels)).
  { clear; induction channels as [| i l IH]; [reflexivity |].
    unfold csum, sum in *; cbn [fold_right]; rewrite IH; reflexivity. }
  replace ((computed rnd re t1, computed rnd im t2) -
    csum (fun i => (a i, b i) * Cconj (c i, d i)) channels)%C with
    (((computed rnd re t1 - sum re channels)%R, (computed rnd im t2 - sum im channels)%R) +
     csum (fun i => (re i, im i) - (a i, b i) * Cconj (c i, d i)) channels)%C.
  2: { rewrite csum_minus, SumC; unfold Cminus, Cplus, Copp; cbn [fst snd]; f_equal; ring. }
  eapply Rle_trans; [apply Cmod_triangle |].
  assert (M1 : Cmod ((computed rnd re t1 - sum re channels)%R,
                     (computed rnd im t2 - sum im channels)%R) <=
    gamma u (n - 1) * sum (fun i => Cmod (re i, im i)) channels).
  { eapply Rle_trans; [apply (Cmod_le_scaled _ _ _ _ _ Gn E1 E2) |].
    apply Rmult_le_compat_l; [exact Gn |].
    apply Rle_trans with (Cmod (csum (fun i => ((Rabs (re i), Rabs (im i)) : C)) channels)).
    - right; f_equal; clear; induction channels as [| i l IH]; [reflexivity |].
      unfold csum, sum in *; cbn [fold_right]; rewrite <- IH; reflexivity.
    - eapply Rle_trans; [apply Cmod_csum |]; right; apply sum_ext; intros i _.
      unfold Cmod; cbn [fst snd]; rewrite !pow2_abs; reflexivity. }
  assert (M2 : sum (fun i => Cmod (re i, im i)) channels <=
    (1 + sqrt 2 * gamma u 2) * sum m channels).
  { rewrite <- sum_scale; apply sum_le; intros i _.
    replace ((re i, im i) : C) with (((re i, im i) - (a i, b i) * Cconj (c i, d i)) +
      (a i, b i) * Cconj (c i, d i))%C by ring.
    eapply Rle_trans; [apply Cmod_triangle |].
    rewrite Cmod_mult, Cmod_conj; fold (m i); specialize (Leaf i); lra. }
  assert (M3 : Cmod (csum (fun i => (re i, im i) - (a i, b i) * Cconj (c i, d i)) channels)%C <=
    sqrt 2 * gamma u 2 * sum m channels).
  { eapply Rle_trans; [apply Cmod_csum |]; rewrite <- sum_scale; apply sum_le; auto. }
  apply (Rmult_le_compat_l _ _ _ Gn) in M2; fold m; lra.
Qed.

(** That kappa is at most (C + 3) u, as the code has it, if C^2 u <= 1/2: for up to 2896 channels in
    binary32. What (C + 3) u has to spare is more than the terms of second order. *)
Theorem products_kappa (n : nat) : (1 <= n)%nat -> u <= / 1024 -> INR n ^ 2 * u <= / 2 ->
  sqrt 2 * gamma u 2 + gamma u (n - 1) * (1 + sqrt 2 * gamma u 2) <= (INR n + 3) * u.
Proof.
  intros Hn Hu Hnu; destruct rnd_model as [u0 _]; unfold gamma.
  rewrite minus_INR by exact Hn; change (INR 1) with 1; change (INR 2) with 2.
  set (N := INR n) in *; assert (N1 : 1 <= N) by exact (le_INR 1 n Hn).
  set (v := (N - 1) * u); assert (V0 : 0 <= v) by (apply Rmult_le_pos; lra).
  assert (VV : v * v <= / 2 * u).
  { apply Rle_trans with (N ^ 2 * u * u); [| apply Rmult_le_compat_r; assumption].
    replace (v * v) with ((N - 1) * (N - 1) * (u * u)) by (unfold v; ring).
    replace (N ^ 2 * u * u) with (N * N * (u * u)) by ring.
    apply Rmult_le_compat_r; [apply Rmult_le_pos; assumption | apply Rmult_le_compat; lra]. }
  assert (V1 : v <= / 45) by (apply Rnot_lt_le; intros V; nra).
  assert (G1 : v / (1 - v) <= v + 52 / 100 * u) by (apply Rle_div_l; nra).
  assert (G1' : v / (1 - v) <= / 44) by (apply Rle_div_l; lra).
  assert (G2 : 2 * u / (1 - 2 * u) <= 2004 / 1000 * u) by (apply Rle_div_l; nra).
  assert (G2' : 0 <= 2 * u / (1 - 2 * u)) by (apply Rdiv_le_0_compat; lra).
  assert (R2 : sqrt 2 <= 14143 / 10000).
  { rewrite <- (sqrt_pow2 (14143 / 10000)) by lra; apply sqrt_le_1_alt; lra. }
  pose proof (sqrt_pos 2).
  assert (P : sqrt 2 * (2 * u / (1 - 2 * u)) <= 2835 / 1000 * u).
  { eapply Rle_trans; [apply Rmult_le_compat; [assumption | exact G2' | exact R2 | exact G2] |].
    lra. }
  assert (Q : v / (1 - v) * (sqrt 2 * (2 * u / (1 - 2 * u))) <= / 44 * (2835 / 1000 * u)).
  { apply Rmult_le_compat; try assumption.
    - apply Rdiv_le_0_compat; lra.
    - apply Rmult_le_pos; assumption. }
  replace ((N + 3) * u) with (v + 4 * u) by (unfold v; ring); lra.
Qed.
End Products.

(** ** The transform of the code: two dimensions, height x width points *)

(** exp(-i a) *)
Definition circle (a : R) : C := (cos a, - sin a).

(** exp(-2 pi i u x / n) *)
Definition root (n u x : nat) : C := circle (2 * PI * INR u * INR x / INR n).

Definition chi2 (height width : nat) (w x : nat * nat) : C :=
  (root height (fst w) (fst x) * root width (snd w) (snd x))%C.

Definition add2 (height width : nat) (y x : nat * nat) : nat * nat :=
  ((fst y + fst x) mod height, (snd y + snd x) mod width)%nat.

Lemma circle_plus a b : circle (a + b) = (circle a * circle b)%C.
Proof. unfold circle, Cmult; simpl; rewrite cos_plus, sin_plus; f_equal; ring. Qed.

Lemma circle_unit a : Cmod (circle a) = 1.
Proof.
  unfold circle, Cmod; cbn [fst snd]; rewrite <- sqrt_1; f_equal.
  pose proof (sin2_cos2 a); unfold Rsqr in *; lra.
Qed.

Lemma root_unit n u x : Cmod (root n u x) = 1.
Proof. apply circle_unit. Qed.

Lemma root_plus n u y x : (0 < n)%nat -> root n u (y + x) = (root n u y * root n u x)%C.
Proof.
  intros Hn; apply lt_0_INR in Hn; unfold root; rewrite <- circle_plus, plus_INR.
  replace (2 * PI * INR u * (INR y + INR x) / INR n) with
    (2 * PI * INR u * INR y / INR n + 2 * PI * INR u * INR x / INR n) by (field; lra).
  reflexivity.
Qed.

Lemma root_swap n u x : root n u x = root n x u.
Proof.
  unfold root; replace (2 * PI * INR u * INR x / INR n) with (2 * PI * INR x * INR u / INR n)
    by (unfold Rdiv; ring); reflexivity.
Qed.

Lemma root_full n u : (0 < n)%nat -> root n u n = RtoC 1.
Proof.
  intros Hn; apply lt_0_INR in Hn; unfold root, circle, RtoC.
  replace (2 * PI * INR u * INR n / INR n) with (0 + 2 * INR u * PI) by (field; lra).
  rewrite cos_period, sin_period, cos_0, sin_0, Ropp_0; reflexivity.
Qed.

Lemma root_0 n u : root n u 0 = RtoC 1.
Proof.
  unfold root, circle, RtoC; simpl (INR 0); unfold Rdiv; rewrite Rmult_0_r, Rmult_0_l.
  rewrite cos_0, sin_0, Ropp_0; reflexivity.
Qed.

Lemma root_mod n u x : (0 < n)%nat -> root n u (x mod n) = root n u x.
Proof.
  intros Hn; rewrite (Nat.div_mod x n) at 2 by lia; rewrite root_plus by exact Hn.
  assert (H : forall q, root n u (n * q) = RtoC 1).
  { induction q as [| q IH]; [rewrite Nat.mul_0_r; apply root_0 |].
    rewrite Nat.mul_succ_r, root_plus, IH, root_full by exact Hn; ring. }
  rewrite H; ring.
Qed.

(** sum_(u < n) exp(-2 pi i u (z - x) / n) = n if z = x, else 0: a geometric sum. *)
Lemma root_orthogonal n z x : (z < n)%nat -> (x < n)%nat ->
  csum (fun u => root n u z * Cconj (root n u x))%C (seq 0 n) =
  if Nat.eq_dec z x then RtoC (INR n) else RtoC 0.
Proof.
  intros Hz Hx; assert (Hn : (0 < n)%nat) by lia.
  destruct (Nat.eq_dec z x) as [-> | Ne].
  - rewrite (csum_ext _ (fun _ => RtoC 1))
      by (intros; rewrite Cmod_square, root_unit; f_equal; ring).
    rewrite csum_real, sum_const, seq_length, Rmult_1_r; reflexivity.
  - set (a u := (root n u z * Cconj (root n u x))%C).
    set (q := a 1%nat).
    assert (Step : forall u, a (S u) = (a u * q)%C).
    { intros u; unfold q, a; replace (S u) with (u + 1)%nat by lia.
      rewrite !(root_swap n (u + 1)), !root_plus, Cconj_mult by exact Hn.
      rewrite !(root_swap n _ u), !(root_swap n _ 1); ring. }
    assert (Tele : forall m, (csum a (seq 0 m) * (q - RtoC 1) = a m - RtoC 1)%C).
    { induction m as [| m IH].
      - unfold csum, a; simpl; rewrite !(root_swap n 0), !root_0, Cconj_real; ring.
      - rewrite seq_S; unfold csum in *; rewrite fold_right_app; cbn [fold_right Nat.add].
        assert (F : forall c l, fold_right (fun u s => a u + s)%C c l =
          (fold_right (fun u s => a u + s)%C (RtoC 0) l + c)%C).
        { clear; induction l as [| u l IH]; simpl; [ring | rewrite IH; ring]. }
        rewrite F, Step; rewrite Cmult_plus_distr_r, IH; ring. }
    assert (Full : a n = RtoC 1).
    { unfold a; rewrite !(root_swap n n), !root_full, Cconj_real by exact Hn; ring. }
    assert (Q : q <> RtoC 1).
    { intros E; apply (f_equal fst) in E; revert E.
      unfold q, a, root, circle, Cmult, Cconj, RtoC; simpl.
      set (s := 2 * PI * 1 * INR z / INR n); set (t := 2 * PI * 1 * INR x / INR n).
      replace (cos s * cos t - - sin s * - - sin t) with (cos (s - t))
        by (rewrite cos_minus; ring).
      apply lt_INR in Hz; apply lt_INR in Hx; pose proof (pos_INR z); pose proof (pos_INR x).
      apply lt_0_INR in Hn; pose proof PI_RGT_0 as HP.
      set (b := PI * Rabs (INR z - INR x) / INR n).
      assert (Hb : cos (s - t) = cos (2 * b)).
      { unfold s, t, b, Rabs; destruct (Rcase_abs (INR z - INR x));
          [rewrite <- cos_neg |]; f_equal; field; lra. }
      rewrite Hb, cos_2a_sin.
      assert (D : 0 < Rabs (INR z - INR x) < INR n).
      { split; [apply Rabs_pos_lt; intros E; apply Ne, INR_eq; lra | apply Rabs_def1; lra]. }
      assert (0 < sin b); [| nra].
      unfold b; apply sin_gt_0.
      - apply Rdiv_lt_0_compat; nra.
      - apply (Rmult_lt_reg_r (INR n)); [lra |].
        unfold Rdiv; rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
        apply Rmult_lt_compat_l; lra. }
    specialize (Tele n); rewrite Full in Tele.
    assert (D : (q - RtoC 1)%C <> RtoC 0).
    { intros E; apply Q; assert (E' : q = ((q - RtoC 1) + RtoC 1)%C) by ring.
      rewrite E', E; ring. }
    fold a; rewrite <- (Cmult_1_r (csum a (seq 0 n))), <- (Cinv_r _ D), Cmult_assoc, Tele; ring.
Qed.

Lemma csum_prod {A B} (f : A -> C) (g : B -> C) (l : list A) (m : list B) :
  csum (fun w => f (fst w) * g (snd w))%C (list_prod l m) = (csum f l * csum g m)%C.
Proof.
  assert (App : forall (h : A * B -> C) r s, csum h (r ++ s) = (csum h r + csum h s)%C).
  { intros h r s; induction r as [| a r IH]; unfold csum in *; simpl; [| rewrite IH]; ring. }
  induction l as [| a l IH]; [unfold csum; simpl; ring |].
  simpl list_prod; rewrite App, IH, csum_map; simpl fst; simpl snd; rewrite csum_scale.
  unfold csum; simpl; ring.
Qed.

Lemma mod_twice s n : (s < 2 * n)%nat ->
  (s mod n = if s <? n then s else s - n)%nat.
Proof.
  intros H; destruct (Nat.ltb_spec s n) as [H1 | H1]; [apply Nat.mod_small, H1 |].
  replace s with (s - n + 1 * n)%nat at 1 by lia; rewrite Nat.mod_add by lia.
  apply Nat.mod_small; lia.
Qed.

Lemma NoDup_map_on {A B} (f : A -> B) (l : list A) :
  (forall a b, In a l -> In b l -> f a = f b -> a = b) -> NoDup l -> NoDup (map f l).
Proof.
  intros H Hl; induction Hl as [| a l Ha Hl IH]; simpl; constructor.
  - intros Hi; apply in_map_iff in Hi; destruct Hi as (b & E & Hb).
    rewrite (H b a) in Hb; simpl; auto.
  - apply IH; intros b c Hb Hc; apply H; simpl; auto.
Qed.

(** The two-dimensional discrete Fourier transform is a transform in the sense above: the theorems
    hold for it. *)
Theorem dft2 (height width : nat) : (0 < height)%nat -> (0 < width)%nat ->
  is_transform pair_dec (indices2 (height, width)) (indices2 (height, width))
    (add2 height width) (chi2 height width).
Proof.
  intros Hh Hw; unfold indices2; simpl fst; simpl snd.
  assert (Hin : forall x, In x (list_prod (seq 0 height) (seq 0 width)) <->
    (fst x < height /\ snd x < width)%nat).
  { intros [y x]; rewrite in_prod_iff, !in_seq; simpl; lia. }
  assert (Hnd : NoDup (list_prod (seq 0 height) (seq 0 width)))
    by (apply NoDup_list_prod; apply seq_NoDup).
  split.
  - intros E; apply (f_equal (@length _)) in E; rewrite prod_length, !seq_length in E.
    simpl in E; nia.
  - exact Hnd.
  - intros w x; unfold chi2; rewrite Cmod_mult, !root_unit; ring.
  - intros w y x; unfold chi2, add2; simpl fst; simpl snd.
    rewrite !root_mod, !root_plus by assumption; ring.
  - intros x Hx; apply Hin in Hx; apply NoDup_Permutation_bis.
    + apply NoDup_map_on; [| exact Hnd]; intros a b Ha Hb E.
      apply Hin in Ha; apply Hin in Hb; unfold add2 in E; injection E as E1 E2.
      rewrite !mod_twice in E1, E2 by lia.
      destruct a as [a1 a2], b as [b1 b2], x as [x1 x2]; simpl in *.
      f_equal.
      * destruct (Nat.ltb_spec (a1 + x1) height), (Nat.ltb_spec (b1 + x1) height); lia.
      * destruct (Nat.ltb_spec (a2 + x2) width), (Nat.ltb_spec (b2 + x2) width); lia.
    + rewrite map_length; lia.
    + intros y Hy; apply in_map_iff in Hy; destruct Hy as (a & <- & Ha).
      apply Hin; unfold add2; simpl; split; apply Nat.mod_upper_bound; lia.
  - intros z x Hz Hx; apply Hin in Hz; apply Hin in Hx; destruct Hz, Hx.
    rewrite (csum_ext _ (fun w =>
      (root height (fst w) (fst z) * Cconj (root height (fst w) (fst x))) *
      (root width (snd w) (snd z) * Cconj (root width (snd w) (snd x))))%C)
      by (intros; unfold chi2; rewrite Cconj_mult; ring).
    rewrite (csum_prod (fun u => root height u (fst z) * Cconj (root height u (fst x)))%C
      (fun u => root width u (snd z) * Cconj (root width u (snd x)))%C).
    rewrite !root_orthogonal by assumption.
    rewrite prod_length, !seq_length, mult_INR, RtoC_mult.
    destruct z as [z1 z2], x as [x1 x2]; simpl fst in *; simpl snd in *.
    destruct (pair_dec (z1, z2) (x1, x2)) as [[= -> ->] | Ne].
    + destruct (Nat.eq_dec x1 x1), (Nat.eq_dec x2 x2); congruence || reflexivity.
    + destruct (Nat.eq_dec z1 x1), (Nat.eq_dec z2 x2); try ring; congruence.
Qed.

(** Where the template, zero beyond its own pixels, lies inside the image, circular and plain
    correlation are the same: sum_x p(y + x) k(x). *)
Theorem circular_is_plain (height width : nat) (p : nat * nat -> C) (k : nat * nat -> R)
    (y : nat * nat) :
  (forall x, k x <> 0 -> (fst y + fst x < height /\ snd y + snd x < width)%nat) ->
  circular (indices2 (height, width)) (add2 height width) p k y =
  csum (fun x => p (fst y + fst x, snd y + snd x)%nat * RtoC (k x))%C (indices2 (height, width)).
Proof.
  intros H; apply csum_ext; intros x _; unfold add2.
  destruct (Req_dec (k x) 0) as [-> | E]; [ring |].
  destruct (H x E); rewrite !Nat.mod_small by assumption; reflexivity.
Qed.

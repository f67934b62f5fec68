(** * Rounding errors of window sums

    Backs the a-priori error bounds of [patchsim/bounds.py], the exact sums of integers, and the
    rounding of transforms of integers in [patchsim/backends/fft.py].

    Numbers are reals; an arithmetic operation is the exact one followed by a function [rnd], of
    which only the model of section 2 is used. Section 3 shows that binary32 and binary64 obey it,
    with gradual underflow as well as when small results are flushed to 0. *)

From Coq Require Import Reals Lra Lia List Permutation ZArith.
From Flocq Require Import Core Relative.
Import ListNotations.
Open Scope R_scope.

(** ** 1. The constants gamma_n *)

(** gamma_n = n u / (1 - n u), the function [bounds.gamma]. *)
Definition gamma (u : R) (n : nat) : R := INR n * u / (1 - INR n * u).

(** Products of factors [1 + d] and [1 / (1 + d)]: the list holds [d] and whether to divide. *)
Definition factor (a : R * bool) : R := if snd a then / (1 + fst a) else 1 + fst a.
Definition product_of (l : list (R * bool)) : R := fold_right (fun a s => factor a * s) 1 l.

Section Gamma.
Variable u : R.
Hypothesis u_pos : 0 <= u.

Lemma INR_u_pos n : 0 <= INR n * u.
Proof. apply Rmult_le_pos; [apply pos_INR | exact u_pos]. Qed.

Lemma INR_u_plus m n : INR (m + n) * u = INR m * u + INR n * u.
Proof. rewrite plus_INR; ring. Qed.

Lemma INR_u_le m n : (m <= n)%nat -> INR m * u <= INR n * u.
Proof. intros H; apply Rmult_le_compat_r; [exact u_pos | apply le_INR, H]. Qed.

Lemma one_plus_gamma n : INR n * u < 1 -> 1 + gamma u n = / (1 - INR n * u).
Proof. intros H; unfold gamma; field; lra. Qed.

(** gamma_0 = 0: without an operation there is no error. *)
Theorem gamma_0 : gamma u 0 = 0.
Proof. unfold gamma; simpl; field. Qed.

(** 0 <= gamma_n, and n u <= gamma_n: the bound is at least the sum of the single errors. *)
Theorem gamma_ge n : INR n * u < 1 -> INR n * u <= gamma u n.
Proof.
  intros H; unfold gamma.
  pose proof (INR_u_pos n) as H0; set (a := INR n * u) in *.
  apply (Rmult_le_reg_r (1 - a)); [lra |].
  unfold Rdiv; rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra; nra.
Qed.

Lemma gamma_pos n : INR n * u < 1 -> 0 <= gamma u n.
Proof. intros H; pose proof (gamma_ge n H); pose proof (INR_u_pos n); lra. Qed.

(** gamma_m <= gamma_n for m <= n: rounding less often never errs more. *)
Theorem gamma_monotone m n : (m <= n)%nat -> INR n * u < 1 -> gamma u m <= gamma u n.
Proof.
  intros Hmn Hn; pose proof (INR_u_le m n Hmn) as Hle.
  cut (1 + gamma u m <= 1 + gamma u n); [lra |].
  rewrite !one_plus_gamma by lra; apply Rinv_le_contravar; lra.
Qed.

(** gamma_m + gamma_n + gamma_m gamma_n <= gamma_(m+n): errors of m and n roundings, one after
    the other, are within those of m + n. As 1 + gamma_n = 1 / (1 - n u), it says
    1 - (m + n) u <= (1 - m u) (1 - n u). *)
Theorem gamma_plus m n : INR (m + n) * u < 1 ->
  gamma u m + gamma u n + gamma u m * gamma u n <= gamma u (m + n).
Proof.
  intros H.
  cut ((1 + gamma u m) * (1 + gamma u n) <= 1 + gamma u (m + n)); [nra |].
  pose proof (INR_u_pos m); pose proof (INR_u_pos n); rewrite INR_u_plus in H.
  rewrite !one_plus_gamma by (rewrite ?INR_u_plus; lra).
  rewrite INR_u_plus, <- Rinv_mult; apply Rinv_le_contravar; nra.
Qed.

Lemma gamma_plus_mult m n : INR (m + n) * u < 1 ->
  (1 + gamma u m) * (1 + gamma u n) <= 1 + gamma u (m + n).
Proof. intros H; pose proof (gamma_plus m n H); nra. Qed.

Lemma gamma_1_ge : u < 1 -> u <= gamma u 1.
Proof. intros H; pose proof (gamma_ge 1); simpl in *; lra. Qed.

(** (1 + gamma_n) (1 + u) <= 1 + gamma_(n+1): one more rounding. *)
Lemma gamma_S n : INR (S n) * u < 1 -> (1 + gamma u n) * (1 + u) <= 1 + gamma u (S n).
Proof.
  intros H.
  assert (Hn : INR (1 + n) * u < 1) by exact H.
  pose proof (gamma_plus_mult 1 n Hn) as H1.
  pose proof (INR_u_le 1 (S n) ltac:(lia)) as H2; simpl (INR 1) in H2.
  pose proof (INR_u_le n (S n) ltac:(lia)) as H3.
  pose proof (gamma_1_ge ltac:(lra)) as H4.
  pose proof (gamma_pos n ltac:(lra)) as H5.
  replace (S n) with (1 + n)%nat by lia; nra.
Qed.

Lemma factor_error a : Rabs (fst a) <= u -> u < 1 -> Rabs (factor a - 1) <= gamma u 1.
Proof.
  destruct a as [d inv]; unfold factor; simpl; intros Hd Hu.
  destruct inv.
  - assert (H1 : 0 < 1 + d) by (apply Rabs_le_inv in Hd; lra).
    replace (/ (1 + d) - 1) with (- d * / (1 + d)) by (field; lra).
    rewrite Rabs_mult, Rabs_Ropp, (Rabs_pos_eq (/ (1 + d)))
      by (apply Rlt_le, Rinv_0_lt_compat; lra).
    unfold gamma; simpl; rewrite Rmult_1_l; unfold Rdiv.
    apply Rmult_le_compat; [apply Rabs_pos | apply Rlt_le, Rinv_0_lt_compat; lra | exact Hd |].
    apply Rinv_le_contravar; apply Rabs_le_inv in Hd; lra.
  - replace (1 + d - 1) with d by ring; pose proof (gamma_1_ge Hu); lra.
Qed.

(** If |d_i| <= u and n u < 1, then the product of n factors (1 + d_i)^(+-1) is 1 + theta with
    |theta| <= gamma_n. By induction, each factor being 1 + theta_1 with |theta_1| <= gamma_1. *)
Theorem product_of_roundings (l : list (R * bool)) :
  Forall (fun a => Rabs (fst a) <= u) l -> INR (length l) * u < 1 ->
  exists theta, product_of l = 1 + theta /\ Rabs theta <= gamma u (length l).
Proof.
  intros Hl Hn; exists (product_of l - 1); split; [ring |].
  induction l as [| a l IH].
  - simpl product_of; rewrite Rminus_diag_eq, Rabs_R0 by reflexivity; simpl; rewrite gamma_0; lra.
  - inversion Hl as [| ? ? Ha Hl']; subst.
    pose proof (INR_u_le (length l) (S (length l)) ltac:(lia)) as H1.
    pose proof (INR_u_le 1 (S (length l)) ltac:(lia)) as H2; simpl (INR 1) in H2.
    simpl length in Hn |- *; simpl product_of.
    specialize (IH Hl' ltac:(lra)).
    pose proof (factor_error a Ha ltac:(lra)) as H3.
    replace (factor a * product_of l - 1) with
      ((factor a - 1) + (product_of l - 1) + (factor a - 1) * (product_of l - 1)) by ring.
    eapply Rle_trans; [apply Rabs_triang |].
    eapply Rle_trans; [apply Rplus_le_compat_r, Rabs_triang |].
    rewrite Rabs_mult; pose proof (gamma_plus 1 (length l) ltac:(exact Hn)) as H4.
    change (S (length l)) with (1 + length l)%nat.
    pose proof (Rabs_pos (factor a - 1)); pose proof (Rabs_pos (product_of l - 1)).
    apply Rle_trans with (2 := H4); nra.
Qed.
End Gamma.

(** ** 2. The model of rounding *)

(** |rnd x - x| <= u |x|; or underflow: |x| <= least and |rnd x - x| <= eta. With eta = 0 it is the
    standard model of floating-point arithmetic. *)
Definition rounds (u least eta : R) (rnd : R -> R) : Prop :=
  0 <= u /\ 0 <= eta <= least /\
  forall x, Rabs (rnd x - x) <= u * Rabs x \/ (Rabs x <= least /\ Rabs (rnd x - x) <= eta).

Lemma rounds_weak u least eta rnd : rounds u least eta rnd ->
  forall x, Rabs (rnd x - x) <= u * Rabs x + eta.
Proof.
  intros (Hu & He & Hr) x.
  pose proof (Rmult_le_pos _ _ Hu (Rabs_pos x)); destruct (Hr x) as [H1 | [_ H1]]; lra.
Qed.

(** ** 3. IEEE formats obey the model *)

(** Without a least exponent, rounding to nearest with p digits errs by at most 2^-p |x|. *)
Theorem nearest_rounds_without_underflow (prec : Z) (choice : Z -> bool) : (0 < prec)%Z ->
  rounds (/ 2 * bpow radix2 (- prec + 1)) 0 0
    (round radix2 (FLX_exp prec) (Znearest choice)).
Proof.
  intros Hp; split; [| split; [lra |]].
  - pose proof (bpow_gt_0 radix2 (- prec + 1)); lra.
  - intros x; left; apply relative_error_N_FLX; exact Hp.
Qed.

(** With least exponent emin, rounding to nearest with p digits errs by at most 2^-p |x|, or x is
    below the least normal number 2^(emin + p - 1) and the error is at most 2^(emin - 1). *)
Theorem nearest_rounds (emin prec : Z) (choice : Z -> bool) : (0 < prec)%Z ->
  rounds (/ 2 * bpow radix2 (- prec + 1))
    (bpow radix2 (emin + prec - 1)) (/ 2 * bpow radix2 emin)
    (round radix2 (FLT_exp emin prec) (Znearest choice)).
Proof.
  intros Hp.
  assert (Prec_gt_0 prec) by exact Hp.
  pose proof (bpow_gt_0 radix2 (- prec + 1)); pose proof (bpow_gt_0 radix2 emin).
  pose proof (bpow_le radix2 emin (emin + prec - 1) ltac:(lia)).
  split; [lra | split; [lra |]]; intros x.
  destruct (Rle_or_lt (bpow radix2 (emin + prec - 1)) (Rabs x)) as [Hx | Hx].
  - left; apply relative_error_N_FLT; assumption.
  - right; split; [lra |].
    eapply Rle_trans; [apply error_le_half_ulp; typeclasses eauto |].
    assert (Hs : Rabs x < bpow radix2 (emin + prec))
      by (apply Rlt_le_trans with (1 := Hx), bpow_le; lia).
    rewrite ulp_FLT_small by assumption; lra.
Qed.

Definition binary32 : R -> R := round radix2 (FLT_exp (-149) 24) ZnearestE.
Definition binary64 : R -> R := round radix2 (FLT_exp (-1074) 53) ZnearestE.

(** binary32 rounds with u = 2^-24 (the code's finfo.eps / 2), least normal number 2^-126 (its
    finfo.tiny) and eta = 2^-150. *)
Theorem binary32_rounds :
  rounds (bpow radix2 (-24)) (bpow radix2 (-126)) (bpow radix2 (-150)) binary32.
Proof.
  replace (bpow radix2 (-24)) with (/ 2 * bpow radix2 (- 24 + 1)) by (simpl; lra).
  replace (bpow radix2 (-150)) with (/ 2 * bpow radix2 (-149)).
  - exact (nearest_rounds (-149) 24 _ ltac:(lia)).
  - change (-149)%Z with (1 + (-150))%Z; rewrite bpow_plus; simpl (bpow radix2 1); lra.
Qed.

(** binary64 rounds with u = 2^-53, least normal number 2^-1022 and eta = 2^-1075. *)
Theorem binary64_rounds :
  rounds (bpow radix2 (-53)) (bpow radix2 (-1022)) (bpow radix2 (-1075)) binary64.
Proof.
  replace (bpow radix2 (-53)) with (/ 2 * bpow radix2 (- 53 + 1)).
  2: { change (- 53 + 1)%Z with (1 + (-53))%Z; rewrite bpow_plus; simpl (bpow radix2 1); lra. }
  replace (bpow radix2 (-1075)) with (/ 2 * bpow radix2 (-1074)).
  2: { change (-1074)%Z with (1 + (-1075))%Z; rewrite bpow_plus; simpl (bpow radix2 1); lra. }
  exact (nearest_rounds (-1074) 53 _ ltac:(lia)).
Qed.

(** A processor that replaces results below the least normal number by 0 obeys the model with
    that number as eta. *)
Theorem flush_to_zero_rounds u least eta rnd : rounds u least eta rnd ->
  rounds u least least (fun x => if Rlt_dec (Rabs x) least then 0 else rnd x).
Proof.
  intros (Hu & He & Hr); split; [exact Hu | split; [lra |]].
  intros x; destruct (Rlt_dec (Rabs x) least) as [Hx | Hx].
  - right; replace (0 - x) with (- x) by ring; rewrite Rabs_Ropp; lra.
  - destruct (Hr x) as [H | [H1 H2]]; [left; exact H | right; lra].
Qed.

(** ** 4. Sums in any order *)

(** A way to add: a binary tree over the taps. Loops, blocks of taps, threads, vector lanes and
    pairwise schemes are all such trees; only the shape and the order of the leaves differ. *)
Inductive tree (A : Type) : Type :=
| Leaf : A -> tree A
| Add : tree A -> tree A -> tree A.
Arguments Leaf {A}. Arguments Add {A}.

Fixpoint leaves {A} (t : tree A) : list A :=
  match t with Leaf a => [a] | Add l r => leaves l ++ leaves r end.

Fixpoint height {A} (t : tree A) : nat :=
  match t with Leaf _ => 0%nat | Add l r => S (max (height l) (height r)) end.

(** The computed sum of [f] over the leaves: one rounding after each addition. *)
Fixpoint computed {A} (rnd : R -> R) (f : A -> R) (t : tree A) : R :=
  match t with Leaf a => f a | Add l r => rnd (computed rnd f l + computed rnd f r) end.

(** The exact sum of [f] over a list of taps. *)
Definition sum {A} (f : A -> R) (l : list A) : R := fold_right (fun a s => f a + s) 0 l.

Section Sums.
Context {A : Type}.
Implicit Types (f g : A -> R) (l : list A) (t : tree A).

Lemma sum_app f l m : sum f (l ++ m) = sum f l + sum f m.
Proof. induction l as [| a l IH]; simpl; [ring | unfold sum in *; rewrite IH; ring]. Qed.

Lemma sum_permutation f l m : Permutation l m -> sum f l = sum f m.
Proof. unfold sum; induction 1; simpl; lra. Qed.

Lemma sum_le f g l : (forall a, In a l -> f a <= g a) -> sum f l <= sum g l.
Proof.
  induction l as [| a l IH]; simpl; intros H; [unfold sum; simpl; lra |].
  pose proof (H a (or_introl eq_refl)).
  specialize (IH (fun b Hb => H b (or_intror Hb))); unfold sum in *; simpl; lra.
Qed.

Lemma sum_ext f g l : (forall a, In a l -> f a = g a) -> sum f l = sum g l.
Proof. intros H; apply Rle_antisym; apply sum_le; intros a Ha; rewrite H; auto; lra. Qed.

Lemma sum_plus f g l : sum (fun a => f a + g a) l = sum f l + sum g l.
Proof. induction l as [| a l IH]; unfold sum in *; simpl; [ring | rewrite IH; ring]. Qed.

Lemma sum_scale c f l : sum (fun a => c * f a) l = c * sum f l.
Proof. induction l as [| a l IH]; unfold sum in *; simpl; [ring | rewrite IH; ring]. Qed.

Lemma sum_const (c : R) l : sum (fun _ => c) l = INR (length l) * c.
Proof.
  induction l as [| a l IH]; unfold sum in *; simpl fold_right; [simpl; ring |].
  rewrite IH; simpl length; rewrite S_INR; ring.
Qed.

Lemma sum_pos f l : (forall a, In a l -> 0 <= f a) -> 0 <= sum f l.
Proof.
  intros H; apply Rle_trans with (sum (fun _ => 0) l); [rewrite sum_const; lra |].
  apply sum_le, H.
Qed.

Lemma sum_abs f l : Rabs (sum f l) <= sum (fun a => Rabs (f a)) l.
Proof.
  induction l as [| a l IH]; unfold sum in *; simpl; [rewrite Rabs_R0; lra |].
  eapply Rle_trans; [apply Rabs_triang | lra].
Qed.

Lemma leaves_nonempty t : (1 <= length (leaves t))%nat.
Proof. induction t; simpl; [lia | rewrite app_length; lia]. Qed.

(** A tree with n leaves has height at most n - 1. *)
Lemma height_lt t : (height t < length (leaves t))%nat.
Proof. induction t; simpl; [lia | rewrite app_length; lia]. Qed.
End Sums.

(** ** 5. A calculus of errors

    [near m a e x' x]: |x| <= a, and x' approximates x up to m roundings of a number of magnitude
    a and an absolute error e (from underflow). *)

Section Error.
Variables (u least eta : R) (rnd : R -> R).
Hypothesis rnd_model : rounds u least eta rnd.

Notation g := (gamma u).

Let u_pos : 0 <= u.
Proof. exact (proj1 rnd_model). Qed.

Let eta_pos : 0 <= eta.
Proof. exact (proj1 (proj1 (proj2 rnd_model))). Qed.

Definition near (m : nat) (a e x' x : R) : Prop :=
  Rabs x <= a /\ Rabs (x' - x) <= g m * a + e.

Lemma near_refl x : near 0 (Rabs x) 0 x x.
Proof.
  split; [lra |]; rewrite Rminus_diag_eq, Rabs_R0, gamma_0 by reflexivity.
  pose proof (Rabs_pos x); lra.
Qed.

Lemma near_weaken m n a b e f x' x : (m <= n)%nat -> INR n * u < 1 -> a <= b -> e <= f ->
  near m a e x' x -> near n b f x' x.
Proof.
  intros Hmn Hn Hab Hef [H1 H2]; split; [lra |].
  pose proof (gamma_monotone u u_pos m n Hmn Hn).
  pose proof (INR_u_le u u_pos m n Hmn).
  pose proof (gamma_pos u u_pos m ltac:(lra)).
  pose proof (Rabs_pos x); nra.
Qed.

Lemma near_opp m a e x' x : near m a e x' x -> near m a e (- x') (- x).
Proof.
  intros [H1 H2]; split; [rewrite Rabs_Ropp; exact H1 |].
  replace (- x' - - x) with (- (x' - x)) by ring; rewrite Rabs_Ropp; exact H2.
Qed.

Lemma near_twice m a e x' x : near m a e x' x -> near m (2 * a) (2 * e) (2 * x') (2 * x).
Proof.
  intros [H1 H2].
  assert (T : forall y, Rabs (2 * y) = 2 * Rabs y)
    by (intros y; rewrite Rabs_mult, (Rabs_pos_eq 2); lra).
  split; [rewrite T; lra |].
  replace (2 * x' - 2 * x) with (2 * (x' - x)) by ring; rewrite T; lra.
Qed.

(** One rounding more. *)
Lemma near_rnd m a e x' x : INR (S m) * u < 1 -> 0 <= e ->
  near m a e x' x -> near (S m) a ((1 + u) * e + eta) (rnd x') x.
Proof.
  intros Hm He [H1 H2]; split; [exact H1 |].
  pose proof (rounds_weak u least eta rnd rnd_model x') as H3.
  pose proof (gamma_S u u_pos m Hm) as H4.
  replace (rnd x' - x) with ((rnd x' - x') + (x' - x)) by ring.
  eapply Rle_trans; [apply Rabs_triang |].
  assert (H5 : Rabs x' <= Rabs x + Rabs (x' - x)).
  { replace x' with (x + (x' - x)) at 1 by ring; apply Rabs_triang. }
  pose proof (Rabs_pos x); pose proof (Rabs_pos (x' - x)).
  assert (u * Rabs x' <= u * (a + (g m * a + e))) by (apply Rmult_le_compat_l; lra).
  assert (((1 + g m) * (1 + u)) * a <= (1 + g (S m)) * a) by (apply Rmult_le_compat_r; lra).
  nra.
Qed.

Lemma near_plus m a b e f x' x y' y :
  near m a e x' x -> near m b f y' y -> near m (a + b) (e + f) (x' + y') (x + y).
Proof.
  intros [H1 H2] [H3 H4]; split; [eapply Rle_trans; [apply Rabs_triang | lra] |].
  replace (x' + y' - (x + y)) with ((x' - x) + (y' - y)) by ring.
  eapply Rle_trans; [apply Rabs_triang | lra].
Qed.

(** A product of a number with an absolute error and one without. *)
Lemma near_mult m n a b e x' x y' y : INR (m + n) * u < 1 -> 0 <= e ->
  near m a e x' x -> near n b 0 y' y ->
  near (m + n) (a * b) (e * (1 + g n) * b) (x' * y') (x * y).
Proof.
  intros Hmn He [H1 H2] [H3 H4]; rewrite Rplus_0_r in H4.
  pose proof (INR_u_le u u_pos m (m + n) ltac:(lia)) as Lm.
  pose proof (INR_u_le u u_pos n (m + n) ltac:(lia)) as Ln.
  pose proof (gamma_pos u u_pos m ltac:(lra)) as H5.
  pose proof (gamma_pos u u_pos n ltac:(lra)) as H6.
  pose proof (gamma_plus u u_pos m n Hmn) as H7.
  pose proof (Rabs_pos x) as Px; pose proof (Rabs_pos y) as Py.
  split; [rewrite Rabs_mult; apply Rmult_le_compat; lra |].
  replace (x' * y' - x * y) with ((x' - x) * (y + (y' - y)) + x * (y' - y)) by ring.
  eapply Rle_trans; [apply Rabs_triang |]; rewrite !Rabs_mult.
  assert (H8 : Rabs (y + (y' - y)) <= (1 + g n) * b)
    by (eapply Rle_trans; [apply Rabs_triang |]; lra).
  assert (H9 : Rabs (x' - x) * Rabs (y + (y' - y)) <= (g m * a + e) * ((1 + g n) * b))
    by (apply Rmult_le_compat; auto using Rabs_pos).
  assert (H10 : Rabs x * Rabs (y' - y) <= a * (g n * b))
    by (apply Rmult_le_compat; auto using Rabs_pos).
  assert (H11 : (g m + g n + g m * g n) * (a * b) <= g (m + n) * (a * b))
    by (apply Rmult_le_compat_r; [apply Rmult_le_pos; lra | exact H7]).
  nra.
Qed.

(** A tree over leaves that are near, at any depth: each addition costs one rounding. *)
Lemma near_tree {A} (m : nat) (f' f a e : A -> R) (t : tree A) :
  INR (m + height t) * u < 1 ->
  (forall i, In i (leaves t) -> 0 <= e i /\ near m (a i) (e i) (f' i) (f i)) ->
  near (m + height t) (sum a (leaves t))
    ((1 + g (height t)) * (sum e (leaves t) + (INR (length (leaves t)) - 1) * eta))
    (computed rnd f' t) (sum f (leaves t)).
Proof.
  intros Hm; induction t as [i | l IHl r IHr]; intros Hf.
  - destruct (Hf i (or_introl eq_refl)) as [He Hi].
    simpl in *; rewrite Nat.add_0_r in *.
    apply (near_weaken m m (a i) _ (e i)); auto; unfold sum; simpl;
      rewrite ?gamma_0, ?Rplus_0_r; try lra; exact Hi.
  - set (h := max (height l) (height r)).
    assert (Hh : height (Add l r) = S h) by reflexivity.
    rewrite Hh in Hm |- *.
    assert (Hsub : forall k, (k <= m + S h)%nat -> INR k * u < 1).
    { intros k Hk; exact (Rle_lt_trans _ _ _ (INR_u_le u u_pos k _ Hk) Hm). }
    assert (Hl : forall i, In i (leaves l) -> 0 <= e i /\ near m (a i) (e i) (f' i) (f i))
      by (intros; apply Hf; simpl; apply in_or_app; auto).
    assert (Hr : forall i, In i (leaves r) -> 0 <= e i /\ near m (a i) (e i) (f' i) (f i))
      by (intros; apply Hf; simpl; apply in_or_app; auto).
    specialize (IHl (Hsub (m + height l)%nat ltac:(lia)) Hl).
    specialize (IHr (Hsub (m + height r)%nat ltac:(lia)) Hr).
    pose proof (le_INR _ _ (leaves_nonempty l)) as Nl; simpl in Nl.
    pose proof (le_INR _ _ (leaves_nonempty r)) as Nr; simpl in Nr.
    simpl leaves; rewrite !sum_app, app_length, plus_INR.
    pose proof (sum_pos e (leaves l) (fun i Hi => proj1 (Hl i Hi))) as El.
    pose proof (sum_pos e (leaves r) (fun i Hi => proj1 (Hr i Hi))) as Er.
    set (nl := INR (length (leaves l))) in *; set (nr := INR (length (leaves r))) in *.
    set (wl := sum e (leaves l) + (nl - 1) * eta) in *.
    set (wr := sum e (leaves r) + (nr - 1) * eta) in *.
    assert (Wl : 0 <= wl) by (unfold wl; pose proof (Rmult_le_pos (nl - 1) eta); lra).
    assert (Wr : 0 <= wr) by (unfold wr; pose proof (Rmult_le_pos (nr - 1) eta); lra).
    assert (Gm : forall k, (k <= h)%nat -> g k <= g h)
      by (intros k Hk; apply gamma_monotone; auto; apply Hsub; lia).
    pose proof (gamma_pos u u_pos h (Hsub h ltac:(lia))) as Gp.
    eapply near_weaken with (n := (m + h)%nat) (f := (1 + g h) * wl) in IHl;
      [| lia | apply Hsub; lia | apply Rle_refl |
       apply Rmult_le_compat_r; [exact Wl | pose proof (Gm (height l) ltac:(lia)); lra]].
    eapply near_weaken with (n := (m + h)%nat) (f := (1 + g h) * wr) in IHr;
      [| lia | apply Hsub; lia | apply Rle_refl |
       apply Rmult_le_compat_r; [exact Wr | pose proof (Gm (height r) ltac:(lia)); lra]].
    pose proof (near_plus _ _ _ _ _ _ _ _ _ IHl IHr) as Hp.
    apply near_rnd in Hp; [| apply Hsub; lia | nra].
    simpl computed; replace (m + S h)%nat with (S (m + h)) by lia.
    eapply near_weaken; [| | | | exact Hp]; [lia | apply Hsub; lia | lra |].
    pose proof (gamma_S u u_pos h (Hsub (S h) ltac:(lia))) as Gs.
    pose proof (gamma_pos u u_pos (S h) (Hsub (S h) ltac:(lia))) as Gp'.
    replace (sum e (leaves l) + sum e (leaves r) + (nl + nr - 1) * eta) with (wl + wr + eta)
      by (unfold wl, wr; ring).
    assert ((1 + g h) * (1 + u) * (wl + wr) <= (1 + g (S h)) * (wl + wr))
      by (apply Rmult_le_compat_r; lra).
    nra.
Qed.

(** The same for taps in any order, added by a tree that is at most h high. *)
Lemma near_sum_height {A} (m h : nat) (f' f a e : A -> R) (taps : list A) (t : tree A) :
  Permutation (leaves t) taps -> (height t <= h)%nat -> INR (m + h) * u < 1 ->
  (forall i, In i taps -> 0 <= e i /\ near m (a i) (e i) (f' i) (f i)) ->
  near (m + h) (sum a taps) ((1 + g h) * (sum e taps + (INR (length taps) - 1) * eta))
    (computed rnd f' t) (sum f taps).
Proof.
  intros Ht Hh Hm Hf.
  assert (Hf' : forall i, In i (leaves t) -> 0 <= e i /\ near m (a i) (e i) (f' i) (f i))
    by (intros i Hi; apply Hf, (Permutation_in _ Ht Hi)).
  pose proof (INR_u_le u u_pos (m + height t) (m + h) ltac:(lia)) as Hle.
  pose proof (INR_u_le u u_pos h (m + h) ltac:(lia)) as Hle'.
  pose proof (near_tree m f' f a e t ltac:(lra) Hf') as H.
  pose proof (le_INR _ _ (leaves_nonempty t)) as N; simpl (INR 1) in N.
  rewrite (Permutation_length Ht) in N, H; rewrite !(sum_permutation _ _ _ Ht) in H.
  pose proof (gamma_monotone u u_pos (height t) h Hh ltac:(lra)) as Hg.
  pose proof (sum_pos e taps (fun i Hi => proj1 (Hf i Hi))) as He.
  pose proof (Rmult_le_pos (INR (length taps) - 1) eta ltac:(lra) eta_pos).
  eapply near_weaken; [| | | | exact H]; [lia | exact Hm | lra |].
  apply Rmult_le_compat_r; lra.
Qed.

(** At most n - 1 additions are on the way of one of n taps. *)
Lemma near_sum {A} (m n : nat) (f' f a e : A -> R) (taps : list A) (t : tree A) :
  Permutation (leaves t) taps -> n = length taps -> INR (m + (n - 1)) * u < 1 ->
  (forall i, In i taps -> 0 <= e i /\ near m (a i) (e i) (f' i) (f i)) ->
  near (m + (n - 1)) (sum a taps) ((1 + g (n - 1)) * (sum e taps + INR (n - 1) * eta))
    (computed rnd f' t) (sum f taps).
Proof.
  intros Ht Hn Hm Hf.
  pose proof (Permutation_length Ht) as HL; pose proof (height_lt t) as HH.
  replace (INR (n - 1)) with (INR (length taps) - 1)
    by (rewrite minus_INR, Hn by lia; simpl; ring).
  apply near_sum_height; auto; lia.
Qed.

(** Exact sums of what is near. *)
Lemma near_exact_sum {A} (m : nat) (f' f a e : A -> R) (taps : list A) :
  (forall i, In i taps -> near m (a i) (e i) (f' i) (f i)) ->
  near m (sum a taps) (sum e taps) (sum f' taps) (sum f taps).
Proof.
  intros Hf; induction taps as [| i l IH]; unfold sum in *; cbn [fold_right].
  - split; [rewrite Rabs_R0; lra |]; rewrite Rminus_0_r, Rabs_R0; lra.
  - apply near_plus; [apply Hf; left; reflexivity |].
    apply IH; intros j Hj; apply Hf; right; exact Hj.
Qed.

(** *** The sum of n numbers *)

(** |fl(x_1 + ... + x_n) - (x_1 + ... + x_n)| <= gamma_(n-1) (|x_1| + ... + |x_n|), added in any
    order and any grouping, plus n - 1 underflows where there are any. By induction over the tree:
    no number passes more additions than the tree is high. *)
Theorem sum_error {A} (n : nat) (x : A -> R) (taps : list A) (t : tree A) :
  Permutation (leaves t) taps -> n = length taps -> INR (n - 1) * u < 1 ->
  Rabs (computed rnd x t - sum x taps) <=
    gamma u (n - 1) * sum (fun i => Rabs (x i)) taps +
    (1 + gamma u (n - 1)) * (INR (n - 1) * eta).
Proof.
  intros Ht Hn Hu.
  destruct (near_sum 0 n x x (fun i => Rabs (x i)) (fun _ => 0) taps t Ht Hn Hu) as [_ H].
  - intros i _; split; [lra | apply near_refl].
  - rewrite sum_const, Rmult_0_r, Rplus_0_l in H; exact H.
Qed.

(** The same for a tree that is at most h high: no number passes more additions. *)
Theorem sum_error_height {A} (h : nat) (x : A -> R) (taps : list A) (t : tree A) :
  Permutation (leaves t) taps -> (height t <= h)%nat -> INR h * u < 1 ->
  Rabs (computed rnd x t - sum x taps) <=
    gamma u h * sum (fun i => Rabs (x i)) taps +
    (1 + gamma u h) * ((INR (length taps) - 1) * eta).
Proof.
  intros Ht Hh Hu.
  destruct (near_sum_height 0 h x x (fun i => Rabs (x i)) (fun _ => 0) taps t Ht Hh Hu) as [_ H].
  - intros i _; split; [lra | apply near_refl].
  - rewrite sum_const, Rmult_0_r, Rplus_0_l in H; exact H.
Qed.

(** ** 6. Adding w d(p, k) over the taps: [bounds.direct] *)

(** |fl(|p - k|) - |p - k|| <= gamma_1 |p - k| + eta: one rounding, as taking |.| has none. *)
Theorem l1_pointwise_error p k : u < 1 ->
  Rabs (Rabs (rnd (p - k)) - Rabs (p - k)) <= gamma u 1 * Rabs (p - k) + eta.
Proof.
  intros Hu; eapply Rle_trans; [apply Rabs_triang_inv2 |].
  pose proof (rounds_weak _ _ _ _ rnd_model (p - k)).
  pose proof (Rmult_le_compat_r _ _ _ (Rabs_pos (p - k)) (gamma_1_ge u u_pos Hu)); lra.
Qed.

(** |fl((p - k)^2) - (p - k)^2| <= gamma_3 (p - k)^2 + 2 eta: the difference's factor 1 + d counts
    twice, the product's once. An underflow of the difference, |p - k| <= least, is harmless as
    its square is below least eta. The same bound holds without the last rounding, for a fused
    multiply-add. *)
Theorem l2_pointwise_error p k x : INR 3 * u < 1 -> least <= / 16 ->
  let s := rnd (p - k) in x = rnd (s * s) \/ x = s * s ->
  Rabs (x - (p - k) ^ 2) <= gamma u 3 * (p - k) ^ 2 + 2 * eta.
Proof.
  intros Hu Hl s Hx; unfold s in *; clear s.
  pose proof (proj2 (proj1 (proj2 rnd_model))) as Hel.
  set (d := p - k) in *.
  assert (Hd : d ^ 2 = Rabs d * Rabs d) by (rewrite <- Rabs_mult, Rabs_pos_eq; nra).
  pose proof (INR_u_le u u_pos 1 3 ltac:(lia)) as L1; simpl (INR 1) in L1.
  pose proof (INR_u_le u u_pos 2 3 ltac:(lia)) as L2.
  pose proof (gamma_monotone u u_pos 2 3 ltac:(lia) Hu) as G23.
  pose proof (gamma_pos u u_pos 3 Hu) as G3.
  destruct (proj2 (proj2 rnd_model) d) as [H | [H1 H2]].
  - assert (N1 : near 1 (Rabs d) 0 (rnd d) d).
    { split; [lra |]; pose proof (Rabs_pos d); pose proof (gamma_1_ge u u_pos ltac:(lra)); nra. }
    pose proof (near_mult 1 1 _ _ 0 _ _ _ _ ltac:(simpl plus; lra) ltac:(lra) N1 N1) as N2.
    assert (N3 : near 2 (d ^ 2) 0 (rnd d * rnd d) (d ^ 2)).
    { rewrite Hd at 1; replace (d ^ 2) with (d * d) by ring.
      rewrite Rmult_0_l, Rmult_0_l in N2; exact N2. }
    pose proof (pow2_ge_0 d).
    destruct Hx as [-> | ->].
    + destruct (near_rnd 2 _ 0 _ _ Hu ltac:(lra) N3) as [_ N4]; lra.
    + destruct N3 as [_ N4]; nra.
  - pose proof (Rabs_pos d) as Pd; pose proof (Rabs_pos (rnd d - d)) as Pe.
    assert (Hr : Rabs (rnd d) <= 2 * least).
    { replace (rnd d) with (d + (rnd d - d)) by ring.
      eapply Rle_trans; [apply Rabs_triang | lra]. }
    assert (Hs : Rabs (rnd d * rnd d - d ^ 2) <= 3 * least * eta).
    { replace (rnd d * rnd d - d ^ 2) with ((rnd d - d) * (rnd d + d)) by ring.
      rewrite Rabs_mult, Rmult_comm; apply Rmult_le_compat; try apply Rabs_pos; [| lra].
      eapply Rle_trans; [apply Rabs_triang | lra]. }
    assert (Hs' : 3 * least * eta <= 3 / 16 * eta) by (apply Rmult_le_compat_r; lra).
    assert (0 <= gamma u 3 * d ^ 2) by (apply Rmult_le_pos; [lra | apply pow2_ge_0]).
    destruct Hx as [-> | ->]; [| lra].
    pose proof (rounds_weak _ _ _ _ rnd_model (rnd d * rnd d)) as H3.
    pose proof (gamma_ge u u_pos 3 Hu) as U3; simpl (INR 3) in U3.
    assert (H4 : Rabs (rnd d * rnd d) <= d ^ 2 + 3 / 16 * eta).
    { replace (rnd d * rnd d) with (d ^ 2 + (rnd d * rnd d - d ^ 2)) by ring.
      eapply Rle_trans; [apply Rabs_triang |].
      rewrite (Rabs_pos_eq (d ^ 2)) by apply pow2_ge_0; lra. }
    replace (rnd (rnd d * rnd d) - d ^ 2) with
      ((rnd (rnd d * rnd d) - rnd d * rnd d) + (rnd d * rnd d - d ^ 2)) by ring.
    eapply Rle_trans; [apply Rabs_triang |].
    pose proof (Rmult_le_compat_l _ _ _ u_pos H4).
    pose proof (pow2_ge_0 d); simpl in Hu; nra.
Qed.

(** A tap of which the distance d >= 0 is computed as d' with r roundings, the weight w as w' with
    one, and the product with one more or, in a fused multiply-add, none. *)
Definition weighted_tap (r : nat) (d' d w' w x : R) : Prop :=
  0 <= d /\ Rabs (d' - d) <= gamma u r * d + 2 * eta /\
  0 <= w /\ Rabs (w' - w) <= u * w /\
  (x = rnd (w' * d') \/ x = w' * d').

Lemma near_weighted_tap r d' d w' w x : INR (r + 2) * u < 1 -> weighted_tap r d' d w' w x ->
  near (r + 2) (w * d) ((1 + gamma u 2) * (2 * eta * w) + eta) x (w * d).
Proof.
  intros Hr (Hd & Hd' & Hw & Hw' & Hx).
  pose proof (INR_u_le u u_pos (r + 1) (r + 2) ltac:(lia)) as L1.
  pose proof (INR_u_le u u_pos 2 (r + 2) ltac:(lia)) as L2.
  pose proof (INR_u_le u u_pos 1 2 ltac:(lia)) as L3; simpl (INR 1) in L3.
  pose proof (gamma_S u u_pos 1 ltac:(lra)) as G2.
  pose proof (gamma_1_ge u u_pos ltac:(lra)) as G1.
  assert (Nd : near r d (2 * eta) d' d) by (split; [rewrite Rabs_pos_eq |]; lra).
  assert (Nw : near 1 w 0 w' w) by (split; [rewrite Rabs_pos_eq |]; nra).
  pose proof (near_mult r 1 _ _ (2 * eta) _ _ _ _ ltac:(lra) ltac:(lra) Nd Nw) as N.
  rewrite (Rmult_comm d w), (Rmult_comm d' w') in N.
  set (e := 2 * eta * (1 + gamma u 1) * w) in N.
  assert (He : 0 <= e)
    by (unfold e; repeat apply Rmult_le_pos; lra).
  assert (He' : (1 + u) * e <= (1 + gamma u 2) * (2 * eta * w)).
  { unfold e; replace ((1 + u) * (2 * eta * (1 + gamma u 1) * w)) with
      ((1 + gamma u 1) * (1 + u) * (2 * eta * w)) by ring.
    apply Rmult_le_compat_r; [repeat apply Rmult_le_pos; lra | exact G2]. }
  pose proof (Rmult_le_pos _ _ Hw Hd).
  destruct Hx as [-> | ->].
  - apply near_rnd in N; [| replace (S (r + 1)) with (r + 2)%nat by lia; exact Hr | exact He].
    replace (S (r + 1)) with (r + 2)%nat in N by lia.
    eapply near_weaken; [| | | | exact N]; [lia | exact Hr | lra | lra].
  - eapply near_weaken; [| | | | exact N]; [lia | exact Hr | lra |].
    assert (e <= (1 + u) * e) by nra; lra.
Qed.

(** |fl(sum w d) - sum w d| <= gamma_(n+r+1) sum w d + (1 + gamma_(n+r+1)) 4 n eta (1 + wmax),
    the n taps in any order: r roundings for d, two for the weight, n - 1 for the additions. *)
Theorem direct_error {A} (n r : nat) (wmax : R) (d' d w' w x : A -> R) (taps : list A) t :
  Permutation (leaves t) taps -> n = length taps -> INR (n + r + 1) * u < 1 ->
  (forall i, In i taps -> weighted_tap r (d' i) (d i) (w' i) (w i) (x i) /\ w i <= wmax) ->
  Rabs (computed rnd x t - sum (fun i => w i * d i) taps) <=
    gamma u (n + r + 1) * sum (fun i => w i * d i) taps +
    (1 + gamma u (n + r + 1)) * (4 * INR n * eta * (1 + wmax)).
Proof.
  intros Ht Hn Hu Hx.
  assert (Npos : (1 <= n)%nat)
    by (rewrite Hn, <- (Permutation_length Ht); apply leaves_nonempty).
  assert (Hsub : forall k, (k <= n + r + 1)%nat -> INR k * u < 1).
  { intros k Hk; exact (Rle_lt_trans _ _ _ (INR_u_le u u_pos k _ Hk) Hu). }
  set (e := fun i => (1 + gamma u 2) * (2 * eta * w i) + eta).
  pose proof (gamma_pos u u_pos 2 (Hsub 2%nat ltac:(lia))) as G2.
  pose proof (gamma_pos u u_pos (n - 1) (Hsub (n - 1)%nat ltac:(lia))) as Gn.
  pose proof (gamma_plus_mult u u_pos (n - 1) 2 (Hsub (n - 1 + 2)%nat ltac:(lia))) as Gm.
  pose proof (gamma_monotone u u_pos (n - 1 + 2) (n + r + 1) ltac:(lia) Hu) as Gm'.
  destruct (near_sum (r + 2) n x (fun i => w i * d i) (fun i => w i * d i) e taps t Ht Hn)
    as [_ H].
  - apply Hsub; lia.
  - intros i Hi; destruct (Hx i Hi) as [Hi' _].
    split; [| apply near_weighted_tap with (d' i) (w' i); auto].
    + destruct Hi' as (_ & _ & Hw & _); unfold e.
      pose proof (Rmult_le_pos _ _ eta_pos Hw); nra.
    + apply Hsub; lia.
  - replace (r + 2 + (n - 1))%nat with (n + r + 1)%nat in H by lia.
    eapply Rle_trans; [exact H |]; apply Rplus_le_compat_l.
    assert (N1 : INR (n - 1) <= INR n) by (apply le_INR; lia).
    assert (N0 : 0 <= INR n) by apply pos_INR.
    assert (W0 : 0 <= wmax).
    { destruct taps as [| i0 taps']; [simpl in Hn; lia |].
      destruct (Hx i0 (or_introl eq_refl)) as [(_ & _ & Hw & _) Hm]; lra. }
    assert (He : sum e taps <= INR n * ((1 + gamma u 2) * (2 * eta * wmax) + eta)).
    { rewrite Hn, <- sum_const; apply sum_le; intros i Hi; unfold e.
      destruct (Hx i Hi) as [_ Hm].
      pose proof (Rmult_le_compat_l eta _ _ eta_pos Hm); nra. }
    set (G := gamma u (n + r + 1)) in *.
    pose proof (Rmult_le_pos _ _ N0 eta_pos) as NE.
    pose proof (Rmult_le_pos _ _ NE W0) as NW.
    pose proof (Rmult_le_compat_r _ _ _ eta_pos N1) as NE'.
    assert (B1 : (1 + gamma u (n - 1)) * (1 + gamma u 2) * (INR n * eta * wmax) <=
                 (1 + G) * (INR n * eta * wmax)) by (apply Rmult_le_compat_r; lra).
    assert (B2 : (1 + gamma u (n - 1)) * (INR n * eta) <= (1 + G) * (INR n * eta))
      by (apply Rmult_le_compat_r; nra).
    assert (B3 : (1 + gamma u (n - 1)) * (sum e taps + INR (n - 1) * eta) <=
                 (1 + gamma u (n - 1)) *
                 (INR n * ((1 + gamma u 2) * (2 * eta * wmax) + eta) + INR n * eta))
      by (apply Rmult_le_compat_l; lra).
    nra.
Qed.

Lemma gamma_le_1 n : 2 * (INR n * u) <= 1 -> gamma u n <= 1.
Proof.
  intros H; pose proof (one_plus_gamma u n ltac:(lra)) as H1.
  assert (/ (1 - INR n * u) <= / (/ 2)) by (apply Rinv_le_contravar; lra).
  rewrite Rinv_inv in *; lra.
Qed.

(** The error bound of [bounds.direct] for window sums whose terms are at most A(p) + A(k):
    gamma_(n+r+1) (wmax sum A(p) + sum w A(k)) + 8 n eta (1 + wmax). *)
Theorem direct_bound {A} (n r : nat) (wmax : R) (d' d w' w x Ap Ak : A -> R) (taps : list A) t :
  Permutation (leaves t) taps -> n = length taps -> 2 * (INR (n + r + 1) * u) <= 1 ->
  (forall i, In i taps -> weighted_tap r (d' i) (d i) (w' i) (w i) (x i) /\ w i <= wmax) ->
  (forall i, In i taps -> 0 <= Ap i /\ d i <= Ap i + Ak i) ->
  Rabs (computed rnd x t - sum (fun i => w i * d i) taps) <=
    gamma u (n + r + 1) * (wmax * sum Ap taps + sum (fun i => w i * Ak i) taps) +
    8 * INR n * eta * (1 + wmax).
Proof.
  intros Ht Hn Hu Hx HA.
  assert (Npos : (1 <= n)%nat)
    by (rewrite Hn, <- (Permutation_length Ht); apply leaves_nonempty).
  pose proof (INR_u_pos u u_pos (n + r + 1)) as U0.
  pose proof (direct_error n r wmax d' d w' w x taps t Ht Hn ltac:(lra) Hx) as H.
  pose proof (gamma_le_1 _ Hu) as G1; pose proof (gamma_pos u u_pos (n + r + 1) ltac:(lra)) as G0.
  assert (W0 : 0 <= wmax).
  { destruct taps as [| i0 taps']; [simpl in Hn; lia |].
    destruct (Hx i0 (or_introl eq_refl)) as [(_ & _ & Hw & _) Hm]; lra. }
  assert (HS : sum (fun i => w i * d i) taps <=
               wmax * sum Ap taps + sum (fun i => w i * Ak i) taps).
  { rewrite <- sum_scale, <- sum_plus; apply sum_le; intros i Hi.
    destruct (Hx i Hi) as [(_ & _ & Hw & _) Hm]; destruct (HA i Hi); nra. }
  eapply Rle_trans; [exact H |]; apply Rplus_le_compat.
  - apply Rmult_le_compat_l; lra.
  - assert (0 <= 4 * INR n * eta * (1 + wmax))
      by (repeat apply Rmult_le_pos; try lra; apply pos_INR).
    nra.
Qed.
(** The same without weights: gamma_(n+r-1) sum d + 8 n eta. *)
Theorem direct_bound_unweighted {A} (n r : nat) (d' d : A -> R) (taps : list A) t :
  Permutation (leaves t) taps -> n = length taps -> 2 * (INR (n + r - 1) * u) <= 1 ->
  (forall i, In i taps -> 0 <= d i /\ Rabs (d' i - d i) <= gamma u r * d i + 2 * eta) ->
  Rabs (computed rnd d' t - sum d taps) <= gamma u (n + r - 1) * sum d taps + 8 * INR n * eta.
Proof.
  intros Ht Hn Hu Hd.
  assert (Npos : (1 <= n)%nat)
    by (rewrite Hn, <- (Permutation_length Ht); apply leaves_nonempty).
  pose proof (INR_u_pos u u_pos (n + r - 1)) as U0.
  destruct (near_sum r n d' d d (fun _ => 2 * eta) taps t Ht Hn) as [_ H].
  - replace (r + (n - 1))%nat with (n + r - 1)%nat by lia; lra.
  - intros i Hi; destruct (Hd i Hi); split; [lra |]; split; [rewrite Rabs_pos_eq |]; lra.
  - replace (r + (n - 1))%nat with (n + r - 1)%nat in H by lia.
    rewrite sum_const, <- Hn in H.
    pose proof (INR_u_le u u_pos (n - 1) (n + r - 1) ltac:(lia)) as L.
    pose proof (gamma_le_1 (n - 1) ltac:(lra)) as G1.
    pose proof (gamma_pos u u_pos (n - 1) ltac:(lra)) as G0.
    pose proof (Rmult_le_compat_r _ _ _ eta_pos (le_INR (n - 1) n ltac:(lia))).
    pose proof (Rmult_le_pos _ _ (pos_INR n) eta_pos).
    pose proof (Rmult_le_pos _ _ (pos_INR (n - 1)) eta_pos).
    eapply Rle_trans; [exact H |]; apply Rplus_le_compat_l; nra.
Qed.

(** |fl(sum |p - k|) - sum |p - k|| <= gamma_n sum |p - k| + 8 n eta, in any order. *)
Theorem l1_direct_error {A} (n : nat) (p k : A -> R) (taps : list A) t :
  Permutation (leaves t) taps -> n = length taps -> 2 * (INR n * u) <= 1 ->
  Rabs (computed rnd (fun i => Rabs (rnd (p i - k i))) t - sum (fun i => Rabs (p i - k i)) taps)
  <= gamma u n * sum (fun i => Rabs (p i - k i)) taps + 8 * INR n * eta.
Proof.
  intros Ht Hn Hu.
  assert (Npos : (1 <= n)%nat)
    by (rewrite Hn, <- (Permutation_length Ht); apply leaves_nonempty).
  pose proof (INR_u_le u u_pos 1 n Npos) as L; simpl (INR 1) in L.
  pose proof (direct_bound_unweighted n 1 (fun i => Rabs (rnd (p i - k i)))
    (fun i => Rabs (p i - k i)) taps t Ht Hn) as H.
  replace (n + 1 - 1)%nat with n in H by lia; apply H; [lra |].
  intros i _; split; [apply Rabs_pos |].
  pose proof (l1_pointwise_error (p i) (k i) ltac:(lra)); lra.
Qed.

(** |fl(sum (p - k)^2) - sum (p - k)^2| <= gamma_(n+2) sum (p - k)^2 + 8 n eta, in any order, each
    square being rounded before it is added or not. *)
Theorem l2_direct_error {A} (n : nat) (p k x : A -> R) (taps : list A) t :
  Permutation (leaves t) taps -> n = length taps -> 2 * (INR (n + 2) * u) <= 1 ->
  least <= / 16 ->
  (forall i, let s := rnd (p i - k i) in x i = rnd (s * s) \/ x i = s * s) ->
  Rabs (computed rnd x t - sum (fun i => (p i - k i) ^ 2) taps)
  <= gamma u (n + 2) * sum (fun i => (p i - k i) ^ 2) taps + 8 * INR n * eta.
Proof.
  intros Ht Hn Hu Hl Hx.
  assert (Npos : (1 <= n)%nat)
    by (rewrite Hn, <- (Permutation_length Ht); apply leaves_nonempty).
  pose proof (INR_u_le u u_pos 3 (n + 2) ltac:(lia)) as L.
  pose proof (INR_u_pos u u_pos (n + 2)).
  pose proof (direct_bound_unweighted n 3 x (fun i => (p i - k i) ^ 2) taps t Ht Hn) as H1.
  replace (n + 3 - 1)%nat with (n + 2)%nat in H1 by lia; apply H1; [lra |].
  intros i _; split; [apply pow2_ge_0 |].
  apply l2_pointwise_error; [lra | exact Hl | apply Hx].
Qed.

(** ** 7. Summing the expansion p^2 - 2 p k + k^2: [bounds.expanded] *)

(** The result of an operation, rounded or (within a fused multiply-add) not. *)
Definition maybe_rounded (x y : R) : Prop := x = rnd y \/ x = y.

Lemma near_maybe m a e x' y x : INR (S m) * u < 1 -> 0 <= e ->
  maybe_rounded x' y -> near m a e y x -> near (S m) a ((1 + u) * e + eta) x' x.
Proof.
  intros Hm He [-> | ->] Hn; [apply near_rnd; assumption |].
  apply near_weaken with m a e; auto; try lra.
  pose proof (Rmult_le_pos _ _ u_pos He); lra.
Qed.

(** Clamping at 0 doesn't increase the error: |max(0, x) - s| <= |x - s| for s >= 0. *)
Theorem clamp_error x s : 0 <= s -> Rabs (Rmax 0 x - s) <= Rabs (x - s).
Proof.
  intros Hs; unfold Rmax; destruct (Rle_dec 0 x) as [Hx | Hx]; [lra |].
  rewrite !Rabs_left1 by lra; lra.
Qed.

(** (p - k)^2 <= 2 p^2 + 2 k^2. *)
Theorem l2_majorant p k : (p - k) ^ 2 <= 2 * p ^ 2 + 2 * k ^ 2.
Proof. pose proof (pow2_ge_0 (p + k)); nra. Qed.

(** p^2 + 2 |p k| + k^2 <= 2 p^2 + 2 k^2. *)
Theorem l2_terms_majorant p k : p ^ 2 + 2 * Rabs (p * k) + k ^ 2 <= 2 * p ^ 2 + 2 * k ^ 2.
Proof.
  rewrite Rabs_mult, <- (pow2_abs p), <- (pow2_abs k).
  pose proof (pow2_ge_0 (Rabs p - Rabs k)); nra.
Qed.

(** Three sums, each in its own order, combined as (a - 2 b) + c: two more roundings. *)
Lemma near_expansion {A} (m n : nat) (a' a ma ea b' b mb eb c' c mc ec : A -> R)
    (taps : list A) ta tb tc :
  Permutation (leaves ta) taps -> Permutation (leaves tb) taps -> Permutation (leaves tc) taps ->
  n = length taps -> INR (m + n + 1) * u < 1 ->
  (forall i, In i taps -> 0 <= ea i /\ near m (ma i) (ea i) (a' i) (a i)) ->
  (forall i, In i taps -> 0 <= eb i /\ near m (mb i) (eb i) (b' i) (b i)) ->
  (forall i, In i taps -> 0 <= ec i /\ near m (mc i) (ec i) (c' i) (c i)) ->
  near (m + n + 1) (sum (fun i => ma i + 2 * mb i + mc i) taps)
    ((1 + gamma u (n + 1)) *
     (sum (fun i => ea i + 2 * eb i + ec i) taps + (4 * INR (n - 1) + 2) * eta))
    (rnd (rnd (computed rnd a' ta - 2 * computed rnd b' tb) + computed rnd c' tc))
    (sum (fun i => a i - 2 * b i + c i) taps).
Proof.
  intros Ha Hb Hc Hn Hu Fa Fb Fc.
  assert (Npos : (1 <= n)%nat)
    by (rewrite Hn, <- (Permutation_length Ha); apply leaves_nonempty).
  assert (Hsub : forall k, (k <= m + n + 1)%nat -> INR k * u < 1).
  { intros k Hk; exact (Rle_lt_trans _ _ _ (INR_u_le u u_pos k _ Hk) Hu). }
  pose proof (near_sum m n _ _ _ _ _ _ Ha Hn (Hsub (m + (n - 1))%nat ltac:(lia)) Fa) as Na.
  pose proof (near_sum m n _ _ _ _ _ _ Hb Hn (Hsub (m + (n - 1))%nat ltac:(lia)) Fb) as Nb.
  pose proof (near_sum m n _ _ _ _ _ _ Hc Hn (Hsub (m + (n - 1))%nat ltac:(lia)) Fc) as Nc.
  apply near_twice, near_opp in Nb.
  pose proof (sum_pos _ _ (fun i Hi => proj1 (Fa i Hi))) as Ea.
  pose proof (sum_pos _ _ (fun i Hi => proj1 (Fb i Hi))) as Eb.
  pose proof (sum_pos _ _ (fun i Hi => proj1 (Fc i Hi))) as Ec.
  pose proof (gamma_pos u u_pos (n - 1) (Hsub (n - 1)%nat ltac:(lia))) as G0.
  pose proof (Rmult_le_pos _ _ (pos_INR (n - 1)) eta_pos) as NE.
  set (g0 := gamma u (n - 1)) in *; set (ne := INR (n - 1) * eta) in *.
  set (A0 := sum ea taps) in *; set (B0 := sum eb taps) in *; set (C0 := sum ec taps) in *.
  pose proof (near_plus _ _ _ _ _ _ _ _ _ Na Nb) as N1.
  apply near_rnd in N1; [| apply Hsub; lia | nra].
  assert (Nc' : near (S (m + (n - 1))) (sum mc taps) ((1 + g0) * (C0 + ne))
    (computed rnd c' tc) (sum c taps)).
  { eapply near_weaken; [| | | | exact Nc]; [lia | apply Hsub; lia | lra | lra]. }
  pose proof (near_plus _ _ _ _ _ _ _ _ _ N1 Nc') as N2.
  assert (P1 : 0 <= (1 + g0) * (A0 + ne) + 2 * ((1 + g0) * (B0 + ne))) by nra.
  assert (P2 : 0 <= (1 + g0) * (C0 + ne)) by nra.
  apply near_rnd in N2; [| apply Hsub; lia | nra].
  replace (S (S (m + (n - 1)))) with (m + n + 1)%nat in N2 by lia.
  rewrite !sum_plus, !sum_scale.
  replace (sum (fun i => a i - 2 * b i) taps) with (sum a taps + - (2 * sum b taps)).
  2: { rewrite (sum_ext (fun i => a i - 2 * b i) (fun i => a i + - (2) * b i))
         by (intros; ring).
       rewrite sum_plus, !sum_scale; ring. }
  change (computed rnd a' ta - 2 * computed rnd b' tb) with
    (computed rnd a' ta + - (2 * computed rnd b' tb)).
  eapply near_weaken; [| | | | exact N2]; [lia | exact Hu | lra |].
  pose proof (gamma_S u u_pos (n - 1) (Hsub (S (n - 1)) ltac:(lia))) as S1.
  pose proof (gamma_S u u_pos (S (n - 1)) (Hsub (S (S (n - 1))) ltac:(lia))) as S2.
  replace (S (S (n - 1))) with (n + 1)%nat in S2 by lia; fold g0 in S1.
  pose proof (gamma_pos u u_pos (S (n - 1)) (Hsub (S (n - 1)) ltac:(lia))) as G1.
  set (g1 := gamma u (S (n - 1))) in *; set (g2 := gamma u (n + 1)) in *.
  set (X := A0 + 2 * B0 + 3 * ne).
  assert (X0 : 0 <= X) by (unfold X; lra).
  assert (T1 : (1 + g0) * (1 + u) * X <= (1 + g1) * X) by (apply Rmult_le_compat_r; lra).
  assert (T2 : (1 + g0) * (C0 + ne) <= (1 + g1) * (C0 + ne)).
  { apply Rmult_le_compat_r; [lra |]; nra. }
  assert (T3 : (1 + g1) * (1 + u) * (X + C0 + ne + eta) <= (1 + g2) * (X + C0 + ne + eta))
    by (apply Rmult_le_compat_r; lra).
  assert (T4 : (1 + u) * ((1 + g0) * (1 + u) * X + eta + (1 + g0) * (C0 + ne)) <=
               (1 + u) * ((1 + g1) * X + (1 + g1) * eta + (1 + g1) * (C0 + ne)))
    by (apply Rmult_le_compat_l; [lra |]; pose proof (Rmult_le_pos _ _ G1 eta_pos); lra).
  assert (G2 : 0 <= g2) by (unfold g2; apply gamma_pos; auto; apply Hsub; lia).
  pose proof (Rmult_le_pos _ _ G2 eta_pos).
  replace ((4 * INR (n - 1) + 2) * eta) with (4 * ne + 2 * eta) by (unfold ne; ring).
  apply Rle_trans with ((1 + u) * ((1 + g0) * (1 + u) * X + eta + (1 + g0) * (C0 + ne)) + eta).
  - unfold X; right; ring.
  - apply Rle_trans with ((1 + g2) * (X + C0 + ne + eta) + eta); [nra |].
    change (sum ea taps) with A0; change (sum eb taps) with B0.
    change (sum ec taps) with C0; unfold X; nra.
Qed.

(** A tap of the expansion under a weight: p' and k' are centred with one rounding, w' is w with
    one; a, b, c are the computed p'^2 w', p' (k' w') and k'^2 w'. *)
Definition expanded_tap (centre p k w' w a b c : R) : Prop :=
  let p' := rnd (p - centre) in
  let k' := rnd (k - centre) in
  0 <= w /\ Rabs (w' - w) <= u * w /\
  maybe_rounded a (rnd (p' * p') * w') /\
  maybe_rounded b (p' * rnd (k' * w')) /\
  maybe_rounded c (rnd (k' * k') * w').

Lemma near_centred x : eta = 0 -> u < 1 -> near 1 (Rabs x) 0 (rnd x) x.
Proof.
  intros He Hu; split; [lra |].
  pose proof (rounds_weak _ _ _ _ rnd_model x) as H.
  pose proof (Rmult_le_compat_r _ _ _ (Rabs_pos x) (gamma_1_ge u u_pos Hu)); lra.
Qed.

Lemma near_mult_0 m n a b x' x y' y : INR (m + n) * u < 1 ->
  near m a 0 x' x -> near n b 0 y' y -> near (m + n) (a * b) 0 (x' * y') (x * y).
Proof.
  intros Hu Nx Ny; pose proof (near_mult m n a b 0 x' x y' y Hu ltac:(lra) Nx Ny) as H.
  rewrite !Rmult_0_l in H; exact H.
Qed.

Lemma near_rnd_0 m a x' y x : eta = 0 -> INR (S m) * u < 1 ->
  maybe_rounded x' y -> near m a 0 y x -> near (S m) a 0 x' x.
Proof.
  intros He Hu Hx N; pose proof (near_maybe m a 0 x' y x Hu ltac:(lra) Hx N) as H.
  rewrite He, Rmult_0_r, Rplus_0_l in H; exact H.
Qed.

(** The error bound of [bounds.expanded] for l2, barring underflow. With P = p - centre and
    K = k - centre, each of the three sums in its own order, and the result clamped at 0:
    |fl(sum w (P^2 - 2 P K + K^2)) - sum w (p - k)^2| <=
      gamma_(n+10) sum w (P^2 + 2 |P K| + K^2).
    Each term passes 5 roundings (two of centred values, two of products, one of the weight), n - 1
    in its sum and two as the sums are added. The code's 10 is 3 roundings of the metric, its
    degree 2, 3 terms and 2. *)
Theorem expanded_error_weighted {A} (n : nat) (centre p k w' w a b c : A -> R)
    (taps : list A) ta tb tc :
  Permutation (leaves ta) taps -> Permutation (leaves tb) taps -> Permutation (leaves tc) taps ->
  n = length taps -> eta = 0 -> INR (n + 3 + 2 + 3 + 2) * u < 1 ->
  (forall i, In i taps -> expanded_tap (centre i) (p i) (k i) (w' i) (w i) (a i) (b i) (c i)) ->
  Rabs (Rmax 0 (rnd (rnd (computed rnd a ta - 2 * computed rnd b tb) + computed rnd c tc))
        - sum (fun i => w i * (p i - k i) ^ 2) taps) <=
    gamma u (n + 3 + 2 + 3 + 2) *
    sum (fun i => let P := p i - centre i in let K := k i - centre i in
                  w i * (P ^ 2 + 2 * Rabs (P * K) + K ^ 2)) taps.
Proof.
  intros Ha Hb Hc Hn He Hu Hx.
  assert (Hsub : forall j, (j <= n + 3 + 2 + 3 + 2)%nat -> INR j * u < 1).
  { intros j Hj; exact (Rle_lt_trans _ _ _ (INR_u_le u u_pos j _ Hj) Hu). }
  pose proof (Hsub 1%nat ltac:(lia)) as U1; simpl (INR 1) in U1.
  set (P := fun i => p i - centre i); set (K := fun i => k i - centre i).
  change (sum (fun i => let P := p i - centre i in _) taps) with
    (sum (fun i => w i * (P i ^ 2 + 2 * Rabs (P i * K i) + K i ^ 2)) taps).
  assert (N : forall i, In i taps ->
    near 5 (w i * P i ^ 2) 0 (a i) (w i * P i ^ 2) /\
    near 5 (w i * Rabs (P i * K i)) 0 (b i) (w i * (P i * K i)) /\
    near 5 (w i * K i ^ 2) 0 (c i) (w i * K i ^ 2)).
  { intros i Hi; destruct (Hx i Hi) as (Hw & Hw' & Xa & Xb & Xc).
    assert (Nw : near 1 (w i) 0 (w' i) (w i)).
    { split; [rewrite Rabs_pos_eq; lra |].
      pose proof (Rmult_le_compat_r _ _ _ Hw (gamma_1_ge u u_pos ltac:(lra))); lra. }
    assert (Sq : forall z y, maybe_rounded y (rnd (rnd z * rnd z) * w' i) ->
      near 5 (w i * z ^ 2) 0 y (w i * z ^ 2)).
    { intros z y Hy; pose proof (near_centred z He ltac:(lra)) as Nz.
      pose proof (near_mult_0 1 1 _ _ _ _ _ _ (Hsub 2%nat ltac:(lia)) Nz Nz) as N2.
      apply (near_rnd_0 2 _ _ _ _ He (Hsub 3%nat ltac:(lia)) (or_introl eq_refl)) in N2.
      pose proof (near_mult_0 3 1 _ _ _ _ _ _ (Hsub 4%nat ltac:(lia)) N2 Nw) as N4.
      apply (near_rnd_0 4 _ _ _ _ He (Hsub 5%nat ltac:(lia)) Hy) in N4.
      rewrite <- Rabs_mult, Rabs_pos_eq in N4 by nra.
      replace (w i * z ^ 2) with (z * z * w i) by ring; exact N4. }
    split; [apply Sq, Xa | split; [| apply Sq, Xc]].
    pose proof (near_centred (P i) He ltac:(lra)) as NP.
    pose proof (near_centred (K i) He ltac:(lra)) as NK.
    pose proof (near_mult_0 1 1 _ _ _ _ _ _ (Hsub 2%nat ltac:(lia)) NK Nw) as N2.
    apply (near_rnd_0 2 _ _ _ _ He (Hsub 3%nat ltac:(lia)) (or_introl eq_refl)) in N2.
    pose proof (near_mult_0 1 3 _ _ _ _ _ _ (Hsub 4%nat ltac:(lia)) NP N2) as N4.
    apply (near_rnd_0 4 _ _ _ _ He (Hsub 5%nat ltac:(lia)) Xb) in N4.
    rewrite Rabs_mult; replace (w i * (Rabs (P i) * Rabs (K i))) with
      (Rabs (P i) * (Rabs (K i) * w i)) by ring.
    replace (w i * (P i * K i)) with (P i * (K i * w i)) by ring; exact N4. }
  destruct (near_expansion 5 n a (fun i => w i * P i ^ 2) (fun i => w i * P i ^ 2) (fun _ => 0)
    b (fun i => w i * (P i * K i)) (fun i => w i * Rabs (P i * K i)) (fun _ => 0)
    c (fun i => w i * K i ^ 2) (fun i => w i * K i ^ 2) (fun _ => 0)
    taps ta tb tc Ha Hb Hc Hn) as [_ H].
  1: apply Hsub; lia.
  1-3: intros i Hi; split; [lra | apply N, Hi].
  rewrite sum_const, He in H.
  replace (INR (length taps) * (0 + 2 * 0 + 0) + (4 * INR (n - 1) + 2) * 0) with 0 in H by ring.
  rewrite Rmult_0_r, Rplus_0_r in H.
  rewrite (sum_ext (fun i => w i * (p i - k i) ^ 2)
    (fun i => w i * P i ^ 2 - 2 * (w i * (P i * K i)) + w i * K i ^ 2))
    by (intros; unfold P, K; ring).
  eapply Rle_trans; [apply clamp_error |].
  - apply sum_pos; intros i Hi; destruct (Hx i Hi) as [Hw _].
    replace (w i * P i ^ 2 - 2 * (w i * (P i * K i)) + w i * K i ^ 2) with
      (w i * (P i - K i) ^ 2) by ring.
    apply Rmult_le_pos; [exact Hw | apply pow2_ge_0].
  - eapply Rle_trans; [exact H |].
    rewrite (sum_ext (fun i => w i * P i ^ 2 + 2 * (w i * Rabs (P i * K i)) + w i * K i ^ 2)
      (fun i => w i * (P i ^ 2 + 2 * Rabs (P i * K i) + K i ^ 2))) by (intros; ring).
    apply Rmult_le_compat_r.
    + apply sum_pos; intros i Hi; destruct (Hx i Hi) as [Hw _].
      pose proof (Rabs_pos (P i * K i)); pose proof (pow2_ge_0 (P i)).
      pose proof (pow2_ge_0 (K i)); apply Rmult_le_pos; lra.
    + apply gamma_monotone; auto; lia.
Qed.

(** A product of centred values: the underflow of one, times the other, is below
    eta |K| <= u K^2 / 4 + eta / 16. *)
Lemma near_centred_product P K : 16 * least <= u -> u <= / 16 ->
  near 2 (Rabs (P * K)) (u / 2 * (P ^ 2 + K ^ 2) + eta / 4) (rnd P * rnd K) (P * K).
Proof.
  intros Hl U; pose proof (proj2 (proj1 (proj2 rnd_model))) as Hel.
  assert (U2 : INR 2 * u < 1) by (simpl (INR 2); lra).
  pose proof (pow2_ge_0 P) as QP; pose proof (pow2_ge_0 K) as QK.
  assert (Q0 : 0 <= u * (P ^ 2 + K ^ 2)) by (apply Rmult_le_pos; lra).
  split; [lra |].
  pose proof (gamma_S u u_pos 1 U2) as G2.
  pose proof (gamma_1_ge u u_pos ltac:(lra)) as G1.
  pose proof (rounds_weak _ _ _ _ rnd_model P) as RP.
  pose proof (rounds_weak _ _ _ _ rnd_model K) as RK.
  assert (AG : forall z, eta * Rabs z <= u / 4 * z ^ 2 + eta / 16).
  { intros z; rewrite <- (pow2_abs z); pose proof (pow2_ge_0 (2 * Rabs z - / 4)) as S0.
    pose proof (Rmult_le_pos _ _ eta_pos S0).
    pose proof (pow2_ge_0 (Rabs z)) as S1.
    assert (16 * eta * Rabs z ^ 2 <= u * Rabs z ^ 2) by (apply Rmult_le_compat_r; lra).
    nra. }
  pose proof (AG P) as AP; pose proof (AG K) as AK.
  pose proof (Rabs_pos P) as PP; pose proof (Rabs_pos K) as PK.
  replace (rnd P * rnd K - P * K) with
    ((rnd P - P) * (K + (rnd K - K)) + P * (rnd K - K)) by ring.
  eapply Rle_trans; [apply Rabs_triang |]; rewrite !Rabs_mult.
  assert (B1 : Rabs (K + (rnd K - K)) <= (1 + u) * Rabs K + eta)
    by (eapply Rle_trans; [apply Rabs_triang | lra]).
  assert (B2 : Rabs (rnd P - P) * Rabs (K + (rnd K - K)) <=
    (u * Rabs P + eta) * ((1 + u) * Rabs K + eta))
    by (apply Rmult_le_compat; auto using Rabs_pos).
  assert (B3 : Rabs P * Rabs (rnd K - K) <= Rabs P * (u * Rabs K + eta))
    by (apply Rmult_le_compat_l; auto).
  assert (B4 : (2 * u + u * u) * (Rabs P * Rabs K) <=
               gamma u 2 * (Rabs P * Rabs K)).
  { apply Rmult_le_compat_r; [apply Rmult_le_pos; auto | nra]. }
  assert (B5 : (1 + u) * (eta * Rabs P + eta * Rabs K) <=
               (1 + u) * (u / 4 * (P ^ 2 + K ^ 2) + eta / 8))
    by (apply Rmult_le_compat_l; lra).
  assert (B6 : eta * eta <= / 256 * eta) by (apply Rmult_le_compat_r; lra).
  assert (B7 : u * (u / 4 * (P ^ 2 + K ^ 2)) <= / 16 * (u / 4 * (P ^ 2 + K ^ 2)))
    by (apply Rmult_le_compat_r; lra).
  assert (B8 : u * eta <= / 16 * eta) by (apply Rmult_le_compat_r; lra).
  nra.
Qed.

(** The same with underflow, without weights and with the bound's majorant: with P = p - centre
    and K = k - centre, the error is at most gamma_(n+10) sum (2 P^2 + 2 K^2) + 24 n eta. The
    underflow of a centred value, times the other factor, is below eta |K| <= u K^2 / 4 + eta / 16,
    which the roundings that gamma_(n+10) has to spare pay for. The code has its tiny for eta, which
    it is if underflows are flushed to 0 ([flush_to_zero_rounds]), and more than eta if not. *)
Theorem expanded_bound {A} (n : nat) (centre p k a b c : A -> R) (taps : list A) ta tb tc :
  Permutation (leaves ta) taps -> Permutation (leaves tb) taps -> Permutation (leaves tc) taps ->
  n = length taps -> 16 * least <= u -> 2 * (INR (n + 3 + 2 + 3 + 2) * u) <= 1 ->
  (forall i, let p' := rnd (p i - centre i) in let k' := rnd (k i - centre i) in
    maybe_rounded (a i) (p' * p') /\ maybe_rounded (b i) (p' * k') /\
    maybe_rounded (c i) (k' * k')) ->
  Rabs (Rmax 0 (rnd (rnd (computed rnd a ta - 2 * computed rnd b tb) + computed rnd c tc))
        - sum (fun i => (p i - k i) ^ 2) taps) <=
    gamma u (n + 3 + 2 + 3 + 2) *
    (sum (fun i => 2 * (p i - centre i) ^ 2) taps + sum (fun i => 2 * (k i - centre i) ^ 2) taps)
    + 24 * INR n * eta.
Proof.
  intros Ha Hb Hc Hn Hl Hu Hx.
  assert (Npos : (1 <= n)%nat)
    by (rewrite Hn, <- (Permutation_length Ha); apply leaves_nonempty).
  assert (H2sub : forall j, (j <= n + 3 + 2 + 3 + 2)%nat -> 2 * (INR j * u) <= 1).
  { intros j Hj; pose proof (INR_u_le u u_pos j _ Hj); lra. }
  assert (Hsub : forall j, (j <= n + 3 + 2 + 3 + 2)%nat -> INR j * u < 1).
  { intros j Hj; pose proof (H2sub j Hj); lra. }
  pose proof (proj2 (proj1 (proj2 rnd_model))) as Hel.
  assert (U : u <= / 16).
  { pose proof (H2sub 8%nat ltac:(lia)) as H; simpl (INR 8) in H; lra. }
  set (P := fun i => p i - centre i) in *; set (K := fun i => k i - centre i) in *.
  change (sum (fun i => 2 * (p i - centre i) ^ 2) taps) with (sum (fun i => 2 * P i ^ 2) taps).
  change (sum (fun i => 2 * (k i - centre i) ^ 2) taps) with (sum (fun i => 2 * K i ^ 2) taps).
  set (eb := fun i => u * (P i ^ 2 + K i ^ 2) + 3 / 2 * eta).
  destruct (near_expansion 3 n a (fun i => P i ^ 2) (fun i => P i ^ 2) (fun _ => 2 * eta)
    b (fun i => P i * K i) (fun i => Rabs (P i * K i)) eb
    c (fun i => K i ^ 2) (fun i => K i ^ 2) (fun _ => 2 * eta)
    taps ta tb tc Ha Hb Hc Hn) as [_ H].
  - apply Hsub; lia.
  - intros i _; destruct (Hx i) as (Xa & _ & _); split; [lra |]; split.
    + rewrite Rabs_pos_eq by apply pow2_ge_0; lra.
    + apply l2_pointwise_error; [apply Hsub; lia | lra | exact Xa].
  - intros i _; destruct (Hx i) as (_ & Xb & _).
    pose proof (pow2_ge_0 (P i)) as QP; pose proof (pow2_ge_0 (K i)) as QK.
    assert (Q0 : 0 <= u * (P i ^ 2 + K i ^ 2)) by (apply Rmult_le_pos; lra).
    unfold eb; split; [lra |].
    change (rnd (p i - centre i)) with (rnd (P i)) in Xb.
    change (rnd (k i - centre i)) with (rnd (K i)) in Xb.
    set (e0 := u / 2 * (P i ^ 2 + K i ^ 2) + eta / 4).
    pose proof (near_centred_product (P i) (K i) Hl U) as N2; fold e0 in N2.
    assert (E0 : 0 <= e0) by (unfold e0; lra).
    pose proof (near_maybe 2 _ _ _ _ _ (Hsub 3%nat ltac:(lia)) E0 Xb N2) as N3.
    eapply near_weaken; [| | | | exact N3]; [lia | apply Hsub; lia | lra |].
    assert (u * e0 <= / 16 * e0) by (apply Rmult_le_compat_r; lra).
    unfold e0 in *; lra.
  - intros i _; destruct (Hx i) as (_ & _ & Xc); split; [lra |]; split.
    + rewrite Rabs_pos_eq by apply pow2_ge_0; lra.
    + apply l2_pointwise_error; [apply Hsub; lia | lra | exact Xc].
  - rewrite (sum_ext (fun i => (p i - k i) ^ 2)
      (fun i => P i ^ 2 - 2 * (P i * K i) + K i ^ 2)) by (intros; unfold P, K; ring).
    eapply Rle_trans; [apply clamp_error |].
    { apply sum_pos; intros i _; replace (P i ^ 2 - 2 * (P i * K i) + K i ^ 2) with
        ((P i - K i) ^ 2) by ring; apply pow2_ge_0. }
    eapply Rle_trans; [exact H |]; clear H.
    rewrite <- sum_plus.
    set (Q := sum (fun i => 2 * P i ^ 2 + 2 * K i ^ 2) taps).
    set (M := sum (fun i => P i ^ 2 + 2 * Rabs (P i * K i) + K i ^ 2) taps).
    assert (HM : M <= Q) by (apply sum_le; intros; apply l2_terms_majorant).
    assert (HQ : 0 <= Q).
    { apply sum_pos; intros i _; pose proof (pow2_ge_0 (P i)); pose proof (pow2_ge_0 (K i)); lra. }
    assert (HE : sum (fun i => 2 * eta + 2 * eb i + 2 * eta) taps = u * Q + 7 * INR n * eta).
    { unfold Q; rewrite <- sum_scale, Hn.
      replace (7 * INR (length taps) * eta) with (INR (length taps) * (7 * eta)) by ring.
      rewrite <- sum_const, <- sum_plus; apply sum_ext; intros; unfold eb; field. }
    rewrite HE, minus_INR by lia; simpl (INR 1).
    pose proof (gamma_monotone u u_pos (n + 1) (3 + n + 1) ltac:(lia)
      (Hsub (3 + n + 1)%nat ltac:(lia))) as G1.
    pose proof (gamma_le_1 (n + 1) (H2sub (n + 1)%nat ltac:(lia))) as G1'.
    pose proof (gamma_pos u u_pos (n + 1) (Hsub (n + 1)%nat ltac:(lia))) as G1p.
    pose proof (gamma_S u u_pos (3 + n + 1) (Hsub (S (3 + n + 1)) ltac:(lia))) as G2.
    pose proof (gamma_monotone u u_pos (S (3 + n + 1)) (n + 3 + 2 + 3 + 2)
      ltac:(lia) (Hsub (n + 3 + 2 + 3 + 2)%nat ltac:(lia))) as G3.
    set (g1 := gamma u (n + 1)) in *; set (g4 := gamma u (3 + n + 1)) in *.
    set (g5 := gamma u (n + 3 + 2 + 3 + 2)) in *.
    pose proof (Rmult_le_pos _ _ u_pos HQ) as UQ.
    assert (T1 : g4 * M <= g4 * Q) by (apply Rmult_le_compat_l; lra).
    assert (T2 : (1 + g1) * (u * Q) <= (1 + g4) * (u * Q)) by (apply Rmult_le_compat_r; lra).
    assert (T3 : (1 + g4) * (1 + u) * Q <= (1 + g5) * Q) by (apply Rmult_le_compat_r; lra).
    pose proof (Rmult_le_pos _ _ (pos_INR n) eta_pos) as NE.
    assert (T4 : (1 + g1) * (12 * (INR n * eta)) <= 2 * (12 * (INR n * eta)))
      by (apply Rmult_le_compat_r; lra).
    assert (T5 : (1 + g1) * ((7 * INR n * eta) + (4 * (INR n - 1) + 2) * eta) <=
                 (1 + g1) * (12 * (INR n * eta)))
      by (apply Rmult_le_compat_l; lra).
    lra.
Qed.

(** The same where the correlation comes from elsewhere, that is from transforms, and errs by at
    most e, while the other sums are trees at most h high: gamma_(h+10) sum (2 P^2 + 2 K^2) + 24 n
    eta + 2 (1 + u)^2 e. Two roundings follow the correlation, hence (1 + u)^2. *)
Theorem expanded_bound_correlated {A} (h n : nat) (e b : R) (centre p k a c : A -> R)
    (taps : list A) ta tc :
  Permutation (leaves ta) taps -> Permutation (leaves tc) taps ->
  (height ta <= h)%nat -> (height tc <= h)%nat ->
  n = length taps -> 16 * least <= u -> 2 * (INR (h + 3 + 2 + 3 + 2) * u) <= 1 ->
  (forall i, let p' := rnd (p i - centre i) in let k' := rnd (k i - centre i) in
    maybe_rounded (a i) (p' * p') /\ maybe_rounded (c i) (k' * k')) ->
  Rabs (b - sum (fun i => rnd (p i - centre i) * rnd (k i - centre i)) taps) <= e ->
  Rabs (Rmax 0 (rnd (rnd (computed rnd a ta - 2 * b) + computed rnd c tc))
        - sum (fun i => (p i - k i) ^ 2) taps) <=
    gamma u (h + 3 + 2 + 3 + 2) *
    (sum (fun i => 2 * (p i - centre i) ^ 2) taps + sum (fun i => 2 * (k i - centre i) ^ 2) taps)
    + 24 * INR n * eta + 2 * (1 + u) ^ 2 * e.
Proof.
  intros Ha Hc Hta Htc Hn Hl Hu Hx Hb.
  assert (N1 : 1 <= INR n).
  { rewrite Hn, <- (Permutation_length Ha); apply (le_INR 1), leaves_nonempty. }
  assert (Hsub : forall j, (j <= h + 3 + 2 + 3 + 2)%nat -> INR j * u < 1).
  { intros j Hj; pose proof (INR_u_le u u_pos j _ Hj); lra. }
  assert (U : u <= / 16).
  { pose proof (INR_u_le u u_pos 8 (h + 3 + 2 + 3 + 2) ltac:(lia)) as H; simpl (INR 8) in H; lra. }
  assert (e0 : 0 <= e) by (eapply Rle_trans; [apply Rabs_pos | exact Hb]).
  set (P := fun i => p i - centre i) in *; set (K := fun i => k i - centre i) in *.
  change (sum (fun i => 2 * (p i - centre i) ^ 2) taps) with (sum (fun i => 2 * P i ^ 2) taps).
  change (sum (fun i => 2 * (k i - centre i) ^ 2) taps) with (sum (fun i => 2 * K i ^ 2) taps).
  set (EA := (1 + g h) * (INR n * (2 * eta) + (INR n - 1) * eta)).
  assert (Square : forall z x : A -> R, (forall i, maybe_rounded (x i) (rnd (z i) * rnd (z i))) ->
    forall t, Permutation (leaves t) taps -> (height t <= h)%nat ->
    near (3 + h) (sum (fun i => z i ^ 2) taps) EA (computed rnd x t)
      (sum (fun i => z i ^ 2) taps)).
  { intros z x Hz t Ht Hh; unfold EA; rewrite Hn, <- (sum_const (2 * eta) taps).
    apply near_sum_height; auto; [apply Hsub; lia |].
    intros i _; split; [lra |]; split; [rewrite Rabs_pos_eq by apply pow2_ge_0; lra |].
    replace (z i) with (z i - 0) by ring.
    apply l2_pointwise_error; [apply Hsub; lia | lra |].
    replace (z i - 0) with (z i) by ring; apply Hz. }
  pose proof (Square P a (fun i => proj1 (Hx i)) ta Ha Hta) as NA.
  pose proof (Square K c (fun i => proj2 (Hx i)) tc Hc Htc) as NC; clear Square.
  set (EB := sum (fun i => u / 2 * (P i ^ 2 + K i ^ 2) + eta / 4) taps).
  assert (NB : near 2 (sum (fun i => Rabs (P i * K i)) taps) (EB + e) b
    (sum (fun i => P i * K i) taps)).
  { destruct (near_exact_sum 2 (fun i => rnd (P i) * rnd (K i)) (fun i => P i * K i)
      (fun i => Rabs (P i * K i)) (fun i => u / 2 * (P i ^ 2 + K i ^ 2) + eta / 4) taps
      (fun i _ => near_centred_product (P i) (K i) Hl U)) as [B1 B2].
    split; [exact B1 |]; fold EB in B2.
    replace (b - sum (fun i => P i * K i) taps) with
      ((b - sum (fun i => rnd (P i) * rnd (K i)) taps) +
       (sum (fun i => rnd (P i) * rnd (K i)) taps - sum (fun i => P i * K i) taps)) by ring.
    eapply Rle_trans; [apply Rabs_triang |]; unfold P at 1, K at 1; lra. }
  set (Q := sum (fun i => 2 * P i ^ 2) taps + sum (fun i => 2 * K i ^ 2) taps).
  set (M := sum (fun i => P i ^ 2) taps + 2 * sum (fun i => Rabs (P i * K i)) taps +
            sum (fun i => K i ^ 2) taps).
  assert (HM : M <= Q).
  { unfold M, Q; rewrite <- sum_scale, <- !sum_plus; apply sum_le; intros i _.
    apply l2_terms_majorant. }
  assert (HQ : 0 <= Q).
  { unfold Q; rewrite <- sum_plus; apply sum_pos; intros i _.
    pose proof (pow2_ge_0 (P i)); pose proof (pow2_ge_0 (K i)); lra. }
  assert (HEB : EB = u / 4 * Q + / 4 * (INR n * eta)).
  { unfold EB, Q; rewrite Hn, <- sum_plus, <- sum_scale.
    replace (/ 4 * (INR (length taps) * eta)) with (INR (length taps) * (eta / 4)) by field.
    rewrite <- sum_const, <- sum_plus; apply sum_ext; intros; field. }
  pose proof (Rmult_le_compat_r _ _ _ eta_pos N1) as NE; rewrite Rmult_1_l in NE.
  assert (HEA : 0 <= EA <= 6 * (INR n * eta) - 2 * eta).
  { pose proof (gamma_pos u u_pos h (Hsub h ltac:(lia))) as G0.
    pose proof (INR_u_le u u_pos h (h + 3 + 2 + 3 + 2) ltac:(lia)) as L.
    pose proof (gamma_le_1 h ltac:(lra)) as G1.
    unfold EA; set (X := INR n * (2 * eta) + (INR n - 1) * eta).
    assert (X0 : 0 <= X) by (unfold X; lra).
    split; [apply Rmult_le_pos; lra |].
    apply Rle_trans with (2 * X); [apply Rmult_le_compat_r; lra | unfold X; lra]. }
  pose proof (Rmult_le_pos _ _ u_pos HQ) as UQ.
  apply near_twice, near_opp in NB.
  eapply near_weaken with (n := (3 + h)%nat) in NB;
    [| lia | apply Hsub; lia | apply Rle_refl | apply Rle_refl].
  pose proof (near_plus _ _ _ _ _ _ _ _ _ NA NB) as N2.
  apply near_rnd in N2; [| apply Hsub; lia | lra].
  eapply near_weaken with (n := S (3 + h)) in NC;
    [| lia | apply Hsub; lia | apply Rle_refl | apply Rle_refl].
  pose proof (near_plus _ _ _ _ _ _ _ _ _ N2 NC) as N3.
  set (E1 := (1 + u) * (EA + 2 * (EB + e)) + eta) in N3.
  assert (HE1 : 0 <= E1).
  { unfold E1; pose proof (Rmult_le_pos (1 + u) (EA + 2 * (EB + e)) ltac:(lra) ltac:(lra)); lra. }
  apply near_rnd in N3; [| apply Hsub; lia | lra].
  destruct N3 as [_ H]; fold M in H.
  rewrite (sum_ext (fun i => (p i - k i) ^ 2) (fun i => P i ^ 2 + - (2) * (P i * K i) + K i ^ 2))
    by (intros; unfold P, K; ring).
  eapply Rle_trans; [apply clamp_error |].
  { apply sum_pos; intros i _; replace (P i ^ 2 + - (2) * (P i * K i) + K i ^ 2) with
      ((P i - K i) ^ 2) by ring; apply pow2_ge_0. }
  rewrite !sum_plus, sum_scale.
  replace (- (2) * sum (fun i => P i * K i) taps) with (- (2 * sum (fun i => P i * K i) taps))
    by ring.
  change (computed rnd a ta - 2 * b) with (computed rnd a ta + - (2 * b)).
  eapply Rle_trans; [exact H |].
  pose proof (gamma_S u u_pos (S (S (3 + h))) (Hsub (S (S (S (3 + h)))) ltac:(lia))) as G.
  pose proof (gamma_pos u u_pos (S (S (3 + h))) (Hsub (S (S (3 + h))) ltac:(lia))) as G5.
  pose proof (gamma_monotone u u_pos (S (S (S (3 + h)))) (h + 3 + 2 + 3 + 2) ltac:(lia)
    (Hsub (h + 3 + 2 + 3 + 2)%nat ltac:(lia))) as G6.
  set (g5 := g (S (S (3 + h)))) in *; set (g9 := g (h + 3 + 2 + 3 + 2)) in *.
  assert (T1 : g5 * M <= g5 * Q) by (apply Rmult_le_compat_l; lra).
  assert (T2 : (g5 + u) * Q <= g9 * Q) by (apply Rmult_le_compat_r; nra).
  assert (V : (1 + u) ^ 2 <= 289 / 256) by nra.
  assert (V0 : 0 <= (1 + u) ^ 2) by apply pow2_ge_0.
  set (v := (1 + u) ^ 2) in *.
  set (rest := EA + / 2 * (INR n * eta)).
  assert (T3 : v * (u / 2 * Q) <= u * Q).
  { apply Rle_trans with (289 / 256 * (u / 2 * Q)); [apply Rmult_le_compat_r; lra | lra]. }
  assert (T4 : v * rest <= 289 / 256 * rest) by (apply Rmult_le_compat_r; unfold rest; lra).
  assert (T5 : (1 + u) * (eta + EA) <= 17 / 16 * (eta + EA)) by (apply Rmult_le_compat_r; lra).
  replace ((1 + u) * (E1 + EA) + eta) with
    (v * (u / 2 * Q) + v * rest + 2 * v * e + (1 + u) * (eta + EA) + eta)
    by (unfold E1, rest, v; rewrite HEB; field).
  unfold rest in *; lra.
Qed.
End Error.

(** ** 8. Integers *)

(** The exact sum of integers. *)
Definition zsum {A} (f : A -> Z) (l : list A) : Z := fold_right (fun a s => (f a + s)%Z) 0%Z l.

Lemma zsum_app {A} (f : A -> Z) l m : zsum f (l ++ m) = (zsum f l + zsum f m)%Z.
Proof. induction l as [| a l IH]; simpl; [reflexivity | unfold zsum in *; lia]. Qed.

Lemma zsum_permutation {A} (f : A -> Z) l m : Permutation l m -> zsum f l = zsum f m.
Proof. unfold zsum; induction 1; simpl; lia. Qed.

Lemma zsum_abs {A} (f : A -> Z) l : (Z.abs (zsum f l) <= zsum (fun a => Z.abs (f a)) l)%Z.
Proof. induction l as [| a l IH]; simpl; [lia | unfold zsum in *; lia]. Qed.

(** Every partial sum of the tree, a leaf included, is at most b in magnitude. *)
Fixpoint partial_sums_within {A} (b : Z) (f : A -> Z) (t : tree A) : Prop :=
  (Z.abs (zsum f (leaves t)) <= b)%Z /\
  match t with
  | Leaf _ => True
  | Add l r => partial_sums_within b f l /\ partial_sums_within b f r
  end.

Lemma partial_sums_of_magnitudes {A} b (f : A -> Z) t :
  (zsum (fun a => Z.abs (f a)) (leaves t) <= b)%Z -> partial_sums_within b f t.
Proof.
  intros H; induction t as [i | l IHl r IHr].
  - split; [| exact I]; pose proof (zsum_abs f (leaves (Leaf i))); lia.
  - pose proof (zsum_abs f (leaves (Add l r))) as H0.
    assert (N : forall m, (0 <= zsum (fun a => Z.abs (f a)) m)%Z)
      by (induction m; unfold zsum in *; simpl; lia).
    simpl in H |- *; rewrite zsum_app in H.
    pose proof (N (leaves l)); pose proof (N (leaves r)).
    split; [simpl in H0; rewrite (zsum_app (fun a => Z.abs (f a))) in H0; lia |].
    split; [apply IHl | apply IHr]; lia.
Qed.

Section Integers.
Variables (emin prec : Z) (mode : R -> Z).
Context {mode_valid : Valid_rnd mode}.
Hypothesis emin_le : (emin <= 0)%Z.
Hypothesis prec_pos : (0 < prec)%Z.

Notation float := (FLT_exp emin prec).
Notation fl := (round radix2 float mode).

(** Every integer with |n| <= 2^p has a floating-point representation with p digits. *)
Theorem integer_representable n : (Z.abs n <= 2 ^ prec)%Z ->
  generic_format radix2 float (IZR n).
Proof.
  intros Hn; assert (Prec_gt_0 prec) by exact prec_pos.
  destruct (Z.eq_dec (Z.abs n) (2 ^ prec)) as [E | E].
  - apply generic_format_abs_inv; rewrite <- abs_IZR, E, (IZR_Zpower radix2) by lia.
    apply generic_format_FLT_bpow; [exact prec_pos | lia].
  - apply generic_format_FLT; exists (Float radix2 n 0); simpl.
    + unfold F2R; simpl; ring.
    + change (Z.pow_pos 2) with (Z.pow_pos radix2); lia.
    + exact emin_le.
Qed.

(** An operation on integers whose result is at most 2^p in magnitude is exact: here the product,
    and below the sum. *)
Theorem integer_product_exact a b : (Z.abs (a * b) <= 2 ^ prec)%Z ->
  fl (IZR a * IZR b) = IZR (a * b).
Proof.
  intros H; rewrite <- mult_IZR; apply round_generic; auto using integer_representable.
Qed.

(** If all partial sums of integers are at most 2^p in magnitude, then they are added without
    error, in this order, whatever the rounding mode. *)
Theorem integer_sum_exact {A} (f : A -> Z) (t : tree A) :
  partial_sums_within (2 ^ prec) f t ->
  computed fl (fun i => IZR (f i)) t = IZR (zsum f (leaves t)).
Proof.
  induction t as [i | l IHl r IHr]; intros [H Hlr].
  - simpl; rewrite Z.add_0_r; reflexivity.
  - destruct Hlr as [Hl Hr]; simpl; rewrite IHl, IHr by assumption.
    simpl in H; rewrite zsum_app in H |- *.
    rewrite <- plus_IZR; apply round_generic; auto using integer_representable.
Qed.

(** If sum |x_i| <= 2^p, then integers are added without error in every order. *)
Theorem integer_sum_exact_any_order {A} (f : A -> Z) (taps : list A) (t : tree A) :
  Permutation (leaves t) taps -> (zsum (fun i => Z.abs (f i)) taps <= 2 ^ prec)%Z ->
  computed fl (fun i => IZR (f i)) t = IZR (zsum f taps).
Proof.
  intros Ht H; rewrite <- (zsum_permutation f _ _ Ht).
  apply integer_sum_exact, partial_sums_of_magnitudes.
  rewrite (zsum_permutation _ _ _ Ht); exact H.
Qed.

(** The same for a cross-correlation sum p k, whose products are rounded, too. *)
Theorem integer_correlation_exact {A} (p k : A -> Z) (taps : list A) (t : tree A) :
  Permutation (leaves t) taps -> (zsum (fun i => Z.abs (p i * k i)) taps <= 2 ^ prec)%Z ->
  computed fl (fun i => fl (IZR (p i) * IZR (k i))) t = IZR (zsum (fun i => (p i * k i)%Z) taps).
Proof.
  intros Ht H; rewrite <- (integer_sum_exact_any_order (fun i => (p i * k i)%Z) taps t Ht H).
  assert (Hi : forall i, In i (leaves t) -> (Z.abs (p i * k i) <= 2 ^ prec)%Z).
  { intros i Hi; apply (Permutation_in _ Ht) in Hi.
    apply Z.le_trans with (2 := H); clear - Hi.
    assert (N : forall l, (0 <= zsum (fun a => Z.abs (p a * k a)) l)%Z)
      by (induction l; unfold zsum in *; simpl; lia).
    induction taps as [| j l IH]; [destruct Hi |].
    unfold zsum in *; simpl; specialize (N l); destruct Hi as [-> | Hi]; [lia |].
    specialize (IH Hi); lia. }
  clear Ht H; induction t as [i | l IHl r IHr]; simpl.
  - apply integer_product_exact, Hi; simpl; auto.
  - rewrite IHl, IHr; [reflexivity | |]; intros; apply Hi; simpl; apply in_or_app; auto.
Qed.
End Integers.

(** Integers of magnitude at most 2^24 are exact in binary32. *)
Theorem integer_exact_binary32 n : (Z.abs n <= 2 ^ 24)%Z -> binary32 (IZR n) = IZR n.
Proof.
  intros H; apply round_generic; [typeclasses eauto |].
  apply integer_representable; lia.
Qed.

(** Integers of magnitude at most 2^53 are exact in binary64. *)
Theorem integer_exact_binary64 n : (Z.abs n <= 2 ^ 53)%Z -> binary64 (IZR n) = IZR n.
Proof.
  intros H; apply round_generic; [typeclasses eauto |].
  apply integer_representable; lia.
Qed.

(** ** 9. Transforms of integers: [fft._exact] *)

(** A number less than 1/2 away from an integer rounds to it. *)
Theorem nearest_integer_exact x n : Rabs (x - IZR n) < / 2 -> ZnearestE x = n.
Proof. apply Znearest_imp. Qed.

(** corr(base high + low, k) = base corr(high, k) + corr(low, k), in integers: splitting digits
    is exact. *)
Theorem split_image {A} (base : Z) (high low k : A -> Z) (taps : list A) :
  zsum (fun i => (base * high i + low i) * k i)%Z taps =
  (base * zsum (fun i => high i * k i)%Z taps + zsum (fun i => low i * k i)%Z taps)%Z.
Proof. induction taps as [| a l IH]; unfold zsum in *; simpl; [| rewrite IH]; ring. Qed.

(** The same for the template: corr(p, base high + low) = base corr(p, high) + corr(p, low). *)
Theorem split_template {A} (base : Z) (p high low : A -> Z) (taps : list A) :
  zsum (fun i => p i * (base * high i + low i))%Z taps =
  (base * zsum (fun i => p i * high i)%Z taps + zsum (fun i => p i * low i)%Z taps)%Z.
Proof. induction taps as [| a l IH]; unfold zsum in *; simpl; [| rewrite IH]; ring. Qed.

(** * Gradients of window sums

    Backs [patchsim/sums/slide.py] ([image_gradient], [template_gradient]) and autograd through the
    expansion of l2 in [patchsim/sums/algebra.py].

    S(y) = sum_t w_t d(p(y, t), k_t), where p(y, t) is the pixel that window y has at tap t, and a
    loss of which the gradient by S is g has the derivative of sum_y g_y S(y). *)

From Coq Require Import Reals Lra Lia List PeanoNat.
From Coquelicot Require Import Coquelicot.
From Patchsim Require Import FloatingPoint.
Open Scope R_scope.

(** ** Derivatives of sums *)

Lemma derive_const (c r : R) : is_derive (fun _ : R => c) r 0.
Proof. apply is_derive_Reals, derivable_pt_lim_const. Qed.

Lemma derive_scale (f : R -> R) (c r a : R) :
  is_derive f r a -> is_derive (fun r => c * f r) r (c * a).
Proof. intros H; exact (is_derive_scal f r c a H). Qed.

Lemma sum_derive {A} (f : A -> R -> R) (df : A -> R) (r : R) (l : list A) :
  (forall i, In i l -> is_derive (f i) r (df i)) ->
  is_derive (fun r => sum (fun i => f i r) l) r (sum df l).
Proof.
  induction l as [| i l IH]; intros H; unfold sum in *; simpl; [apply derive_const |].
  apply (is_derive_plus (f i) _ r (df i)); [apply H; left; reflexivity |].
  apply IH; intros j Hj; apply H; right; exact Hj.
Qed.

Lemma sum_zero {A} (f : A -> R) (l : list A) : (forall i, In i l -> f i = 0) -> sum f l = 0.
Proof. intros H; rewrite (sum_ext f (fun _ => 0) l H), sum_const; ring. Qed.

Lemma sum_exchange {A B} (f : A -> B -> R) (l : list A) (m : list B) :
  sum (fun i => sum (f i) m) l = sum (fun j => sum (fun i => f i j) l) m.
Proof.
  induction l as [| i l IH]; [simpl; symmetry; apply sum_zero; reflexivity |].
  change (sum (f i) m + sum (fun i => sum (f i) m) l =
          sum (fun j => f i j + sum (fun i => f i j) l) m).
  rewrite IH, sum_plus; reflexivity.
Qed.

Section Indicator.
Context {A : Type} (eq_dec : forall a b : A, {a = b} + {a <> b}).

(** A sum of which at most one term isn't 0. *)
Lemma sum_single (f : A -> R) (a : A) (l : list A) : NoDup l -> In a l ->
  sum (fun b => if eq_dec b a then f b else 0) l = f a.
Proof.
  intros Hl Ha; induction Hl as [| b l Hb Hl IH]; [destruct Ha |].
  change ((if eq_dec b a then f b else 0) +
    sum (fun b => if eq_dec b a then f b else 0) l = f a).
  destruct (eq_dec b a) as [-> | E].
  - rewrite sum_zero; [ring |]; intros c Hc; destruct (eq_dec c a) as [-> | _]; tauto.
  - rewrite IH by (destruct Ha; [congruence | assumption]); ring.
Qed.

(** The function [p] with its value at [q] replaced by [r]. *)
Definition update (p : A -> R) (q : A) (r : R) (x : A) : R := if eq_dec x q then r else p x.

Lemma update_same p q x : update p q (p q) x = p x.
Proof. unfold update; destruct (eq_dec x q) as [-> |]; reflexivity. Qed.
End Indicator.

(** ** Any differentiable d *)

Section Slide.
Context {Pixel Tap Window : Type}.
Variable pixel_dec : forall a b : Pixel, {a = b} + {a <> b}.
Variable tap_dec : forall a b : Tap, {a = b} + {a <> b}.
Variable pixel : Window -> Tap -> Pixel.
Variables (windows : list Window) (taps : list Tap).
Variables (d dp dk : R -> R -> R).
Hypothesis d_by_p : forall p k, is_derive (fun p => d p k) p (dp p k).
Hypothesis d_by_k : forall p k, is_derive (fun k => d p k) k (dk p k).
Variables (w : Tap -> R) (g : Window -> R).

Definition window_sum (image : Pixel -> R) (kernel : Tap -> R) (y : Window) : R :=
  sum (fun t => w t * d (image (pixel y t)) (kernel t)) taps.

Definition loss (image : Pixel -> R) (kernel : Tap -> R) : R :=
  sum (fun y => g y * window_sum image kernel y) windows.

(** By a pixel q the derivative is sum_y sum_(t : pixel(y, t) = q) g_y w_t (dd/dp)(p_q, k_t): the
    windows that hold q, at the taps that meet it. *)
Theorem image_gradient (image : Pixel -> R) (kernel : Tap -> R) (q : Pixel) :
  is_derive (fun r => loss (update pixel_dec image q r) kernel) (image q)
    (sum (fun y => sum (fun t => if pixel_dec (pixel y t) q
                                 then g y * (w t * dp (image q) (kernel t)) else 0) taps) windows).
Proof.
  apply sum_derive; intros y _.
  rewrite (sum_ext _ (fun t => g y * (if pixel_dec (pixel y t) q
    then w t * dp (image q) (kernel t) else 0)))
    by (intros; destruct (pixel_dec _ _); ring).
  rewrite sum_scale; apply derive_scale, sum_derive; intros t _.
  unfold update; destruct (pixel_dec (pixel y t) q); [| apply derive_const].
  apply derive_scale, d_by_p.
Qed.

(** Tap by tap: if pixel q meets tap t in one window or none, namely [window_at t], it is
    sum_t g(window_at t) w_t (dd/dp)(p_q, k_t), g being 0 outside: a slide of the template over
    the gradient, backwards. *)
Theorem image_gradient_by_taps (image : Pixel -> R) (kernel : Tap -> R) (q : Pixel)
    (window_dec : forall a b : Window, {a = b} + {a <> b}) (window_at : Tap -> option Window) :
  NoDup windows ->
  (forall t y, In t taps ->
    (In y windows /\ pixel y t = q) <-> window_at t = Some y) ->
  is_derive (fun r => loss (update pixel_dec image q r) kernel) (image q)
    (sum (fun t => match window_at t with Some y => g y | None => 0 end *
                   (w t * dp (image q) (kernel t))) taps).
Proof.
  intros Hn Hw.
  replace (sum (fun t => _ * (w t * dp (image q) (kernel t))) taps) with
    (sum (fun y => sum (fun t => if pixel_dec (pixel y t) q
       then g y * (w t * dp (image q) (kernel t)) else 0) taps) windows);
    [apply image_gradient |].
  rewrite sum_exchange; apply sum_ext; intros t Ht.
  destruct (window_at t) as [y0 |] eqn:E.
  - destruct (proj2 (Hw t y0 Ht) E) as [Hy0 Hq].
    rewrite <- (sum_single window_dec (fun y => g y * (w t * dp (image q) (kernel t))) y0 windows)
      by assumption.
    apply sum_ext; intros y Hy.
    destruct (window_dec y y0) as [-> | Ne], (pixel_dec (pixel _ t) q) as [Hp | Hp];
      try reflexivity; try contradiction.
    assert (window_at t = Some y) by (apply Hw; auto); congruence.
  - rewrite sum_zero; [ring |]; intros y Hy.
    destruct (pixel_dec (pixel y t) q) as [Hp |]; [| reflexivity].
    assert (window_at t = Some y) by (apply Hw; auto); congruence.
Qed.

(** By a tap t of the template it is sum_y g_y w_t (dd/dk)(p(y, t), k_t). *)
Theorem template_gradient (image : Pixel -> R) (kernel : Tap -> R) (t : Tap) :
  NoDup taps -> In t taps ->
  is_derive (fun r => loss image (update tap_dec kernel t r)) (kernel t)
    (sum (fun y => g y * (w t * dk (image (pixel y t)) (kernel t))) windows).
Proof.
  intros Hn Ht; apply sum_derive; intros y _; apply derive_scale.
  rewrite <- (sum_single tap_dec (fun s => w s * dk (image (pixel y s)) (kernel s)) t taps)
    by assumption.
  apply sum_derive; intros s _.
  unfold update; destruct (tap_dec s t) as [-> |]; [| apply derive_const].
  apply derive_scale, d_by_k.
Qed.
End Slide.

(** ** The windows of the code

    Window (y, x) has at tap (c, i, j) the pixel (c, y sy + i dy, x sx + j dx). *)

Definition window_pixel (stride dilation : nat * nat) (at_ : nat * nat) (tap : nat * nat * nat)
  : nat * nat * nat :=
  let '(y, x) := at_ in
  let '(c, i, j) := tap in
  (c, y * fst stride + i * fst dilation, x * snd stride + j * snd dilation)%nat.

(** The only window, if any, of a map of [size] that has row [r] at the tap's row [i]. *)
Definition window_row (stride dilation size r i : nat) : option nat :=
  if ((i * dilation <=? r) && ((r - i * dilation) mod stride =? 0)
      && ((r - i * dilation) / stride <? size))%nat%bool
  then Some ((r - i * dilation) / stride)%nat else None.

Definition window_meeting (stride dilation size : nat * nat) (q tap : nat * nat * nat)
  : option (nat * nat) :=
  let '(c, r, s) := q in
  let '(c', i, j) := tap in
  if (c =? c')%nat then
    match window_row (fst stride) (fst dilation) (fst size) r i,
          window_row (snd stride) (snd dilation) (snd size) s j with
    | Some y, Some x => Some (y, x)
    | _, _ => None
    end
  else None.

Lemma window_row_spec stride dilation size r i y : (0 < stride)%nat ->
  window_row stride dilation size r i = Some y <->
  ((y < size) /\ y * stride + i * dilation = r)%nat.
Proof.
  intros Hs; unfold window_row.
  destruct (Nat.leb_spec (i * dilation) r) as [H1 | H1]; simpl.
  2: { split; [discriminate | lia]. }
  pose proof (Nat.div_mod (r - i * dilation) stride ltac:(lia)) as D.
  destruct (Nat.eqb_spec ((r - i * dilation) mod stride) 0) as [H2 | H2]; simpl.
  - destruct (Nat.ltb_spec ((r - i * dilation) / stride) size) as [H3 | H3].
    + split; [intros [= <-]; split; [exact H3 | nia] |].
      intros [Hy E]; f_equal; nia.
    + split; [discriminate |]; intros [Hy E]; exfalso; nia.
  - split; [discriminate |]; intros [Hy E]; exfalso; apply H2.
    replace (r - i * dilation)%nat with (y * stride)%nat by lia.
    apply Nat.mod_mul; lia.
Qed.

Definition indices2 (size : nat * nat) : list (nat * nat) :=
  list_prod (seq 0 (fst size)) (seq 0 (snd size)).

Lemma pair_dec (a b : nat * nat) : {a = b} + {a <> b}.
Proof. decide equality; apply Nat.eq_dec. Defined.

Lemma triple_dec (a b : nat * nat * nat) : {a = b} + {a <> b}.
Proof. decide equality; [apply Nat.eq_dec | apply pair_dec]. Defined.

Lemma NoDup_append {A} (l m : list A) :
  NoDup l -> NoDup m -> (forall a, In a l -> ~ In a m) -> NoDup (l ++ m).
Proof.
  intros Hl Hm H; induction Hl as [| a l Ha Hl IH]; simpl; [exact Hm |].
  constructor.
  - rewrite in_app_iff; intros [H1 | H1]; [contradiction | apply (H a); simpl; auto].
  - apply IH; intros b Hb; apply H; right; exact Hb.
Qed.

Lemma NoDup_list_prod {A B} (l : list A) (m : list B) :
  NoDup l -> NoDup m -> NoDup (list_prod l m).
Proof.
  intros Hl Hm; induction Hl as [| a l Ha Hl IH]; simpl; [constructor |].
  apply NoDup_append; [| exact IH |].
  - apply FinFun.Injective_map_NoDup; [intros b c [= ->]; reflexivity | exact Hm].
  - intros [b c] Hb; apply in_map_iff in Hb; destruct Hb as (c' & [= <- <-] & _).
    rewrite in_prod_iff; tauto.
Qed.

(** The image gradient of a sliding comparison with strides and dilation, as the code has it:
    pixel q = (c, r, s) collects over the taps (c, i, j) the gradient of the window at row
    (r - i dy) / sy and column (s - j dx) / sx, where there is one, times w (dd/dp)(p_q, k). *)
Theorem sliding_image_gradient (stride dilation size : nat * nat)
    (taps : list (nat * nat * nat)) (d dp : R -> R -> R) (w : nat * nat * nat -> R)
    (g : nat * nat -> R) (image kernel : nat * nat * nat -> R) (q : nat * nat * nat) :
  (0 < fst stride)%nat -> (0 < snd stride)%nat ->
  (forall p k, is_derive (fun p => d p k) p (dp p k)) ->
  is_derive (fun r => loss (window_pixel stride dilation) (indices2 size) taps d w g
                        (update triple_dec image q r) kernel) (image q)
    (sum (fun t => match window_meeting stride dilation size q t with
                   | Some y => g y | None => 0 end * (w t * dp (image q) (kernel t))) taps).
Proof.
  intros Hy Hx Hd.
  apply image_gradient_by_taps; [exact Hd | exact pair_dec | |].
  - apply NoDup_list_prod; apply seq_NoDup.
  - intros [[c' i] j] [y x] _; destruct q as [[c r] s].
    unfold indices2, window_meeting, window_pixel; rewrite in_prod_iff, !in_seq.
    pose proof (window_row_spec (fst stride) (fst dilation) (fst size) r i y Hy) as Ry.
    pose proof (window_row_spec (snd stride) (snd dilation) (snd size) s j x Hx) as Rx.
    destruct (Nat.eqb_spec c c') as [<- | Ne].
    2: { split; [intros [_ [= E _ _]]; congruence | discriminate]. }
    split.
    + intros [Hi [= E1 E2]].
      rewrite (proj2 Ry) by lia; rewrite (proj2 Rx) by lia; reflexivity.
    + destruct (window_row (fst stride) _ _ _ _) as [y' |]; [| discriminate].
      destruct (window_row (snd stride) _ _ _ _) as [x' |]; [| discriminate].
      intros [= -> ->]; destruct (proj1 Ry eq_refl), (proj1 Rx eq_refl).
      split; [lia | congruence].
Qed.

(** ** l2 *)

Section L2.
Context {Tap : Type} (tap_dec : forall a b : Tap, {a = b} + {a <> b}).
Variables (taps : list Tap) (w : Tap -> R).
Hypothesis taps_differ : NoDup taps.

Definition l2_sum (p k : Tap -> R) : R := sum (fun t => w t * (p t - k t) ^ 2) taps.

(** d/dp_t sum w (p - k)^2 = 2 w_t (p_t - k_t). *)
Theorem l2_image_derivative (p k : Tap -> R) (t : Tap) : In t taps ->
  is_derive (fun r => l2_sum (update tap_dec p t r) k) (p t) (2 * w t * (p t - k t)).
Proof.
  intros Ht; rewrite <- (sum_single tap_dec (fun s => 2 * w s * (p s - k s)) t taps) by assumption.
  apply sum_derive; intros s _; unfold update; destruct (tap_dec s t) as [-> |];
    [| apply derive_const].
  auto_derive; [exact I | ring].
Qed.

(** d/dk_t sum w (p - k)^2 = 2 w_t (k_t - p_t). *)
Theorem l2_template_derivative (p k : Tap -> R) (t : Tap) : In t taps ->
  is_derive (fun r => l2_sum p (update tap_dec k t r)) (k t) (2 * w t * (k t - p t)).
Proof.
  intros Ht; rewrite <- (sum_single tap_dec (fun s => 2 * w s * (k s - p s)) t taps) by assumption.
  apply sum_derive; intros s _; unfold update; destruct (tap_dec s t) as [-> |];
    [| apply derive_const].
  auto_derive; [exact I | ring].
Qed.

(** The expansion after centring by c, which autograd holds constant:
    sum w ((p - c)^2 - 2 (p - c) (k - c) + (k - c)^2). *)
Definition expanded_sum (c p k : Tap -> R) : R :=
  sum (fun t => w t * (p t - c t) ^ 2) taps
  - 2 * sum (fun t => w t * ((p t - c t) * (k t - c t))) taps
  + sum (fun t => w t * (k t - c t) ^ 2) taps.

(** It equals the sum of squares whatever c is, ... *)
Theorem expanded_sum_eq (c p k : Tap -> R) : expanded_sum c p k = l2_sum p k.
Proof.
  unfold expanded_sum, l2_sum.
  rewrite (sum_ext (fun t => w t * (p t - k t) ^ 2) (fun t => w t * (p t - c t) ^ 2 +
    -2 * (w t * ((p t - c t) * (k t - c t))) + w t * (k t - c t) ^ 2)) by (intros; ring).
  rewrite !sum_plus, sum_scale; ring.
Qed.

(** ... so that its gradients, with c constant, are those of the sum of squares, though c is
    computed from the template. *)
Theorem expanded_image_derivative (c p k : Tap -> R) (t : Tap) : In t taps ->
  is_derive (fun r => expanded_sum c (update tap_dec p t r) k) (p t) (2 * w t * (p t - k t)).
Proof.
  intros Ht; apply is_derive_ext with (f := fun r => l2_sum (update tap_dec p t r) k).
  - intros r; symmetry; apply expanded_sum_eq.
  - apply l2_image_derivative, Ht.
Qed.

Theorem expanded_template_derivative (c p k : Tap -> R) (t : Tap) : In t taps ->
  is_derive (fun r => expanded_sum c p (update tap_dec k t r)) (k t) (2 * w t * (k t - p t)).
Proof.
  intros Ht; apply is_derive_ext with (f := fun r => l2_sum p (update tap_dec k t r)).
  - intros r; symmetry; apply expanded_sum_eq.
  - apply l2_template_derivative, Ht.
Qed.

(** Where the sum is 0, and the clamp at 0 has its kink, all derivatives are 0: either slope of the
    clamp gives the right gradient. *)
Theorem l2_gradient_at_zero (p k : Tap -> R) (t : Tap) :
  (forall s, In s taps -> 0 <= w s) -> l2_sum p k = 0 -> In t taps -> 2 * w t * (p t - k t) = 0.
Proof.
  intros Hw HS Ht.
  assert (Hp : forall s, In s taps -> 0 <= w s * (p s - k s) ^ 2)
    by (intros s Hs; apply Rmult_le_pos; [apply Hw, Hs | apply pow2_ge_0]).
  assert (H1 : w t * (p t - k t) ^ 2 <= 0).
  { rewrite <- HS; unfold l2_sum.
    rewrite <- (sum_single tap_dec (fun s => w s * (p s - k s) ^ 2) t taps) by assumption.
    apply sum_le; intros s Hs; destruct (tap_dec s t); [lra | apply Hp, Hs]. }
  pose proof (Hp t Ht) as H2.
  destruct (Req_dec (w t) 0) as [-> | E]; [ring |].
  assert (H3 : (p t - k t) ^ 2 = 0).
  { apply (Rmult_eq_reg_l (w t)); [lra | exact E]. }
  assert (H4 : p t - k t = 0) by (apply Rsqr_0_uniq; unfold Rsqr; lra).
  rewrite H4; ring.
Qed.
End L2.

(** ** l1 *)

(** A sign of a: 1 or -1 where a isn't 0, any number of [-1, 1] where it is. *)
Definition is_sign (s a : R) : Prop :=
  -1 <= s <= 1 /\ (0 < a -> s = 1) /\ (a < 0 -> s = -1).

(** |x| >= |a| + s (x - a) for every sign s of a: it is a subgradient. *)
Theorem abs_subgradient s a x : is_sign s a -> Rabs a + s * (x - a) <= Rabs x.
Proof.
  intros (Hs & Hp & Hn); unfold Rabs.
  destruct (Rcase_abs a) as [Ha | Ha], (Rcase_abs x) as [Hx | Hx];
    destruct (Rtotal_order a 0) as [H | [H | H]]; try lra;
    try (specialize (Hp ltac:(lra)); subst s); try (specialize (Hn ltac:(lra)); subst s);
    try lra; subst a; nra.
Qed.

(** |a| has the derivative sign(a) where a isn't 0. *)
Theorem abs_derivative a : a <> 0 -> is_derive Rabs a (sign a).
Proof. intros Ha; auto_derive; [exact Ha | ring]. Qed.

(** The code's sign(p - k), times the weight, is a subgradient of the window sum by the image:
    sum w |p' - k| >= sum w |p - k| + sum w sign(p - k) (p' - p) for all images p'. *)
Theorem l1_image_subgradient {A} (w s p k p' : A -> R) (taps : list A) :
  (forall t, In t taps -> 0 <= w t /\ is_sign (s t) (p t - k t)) ->
  sum (fun t => w t * Rabs (p t - k t)) taps + sum (fun t => w t * s t * (p' t - p t)) taps <=
  sum (fun t => w t * Rabs (p' t - k t)) taps.
Proof.
  intros H; rewrite <- sum_plus; apply sum_le; intros t Ht; destruct (H t Ht) as [Hw Hs].
  pose proof (abs_subgradient (s t) (p t - k t) (p' t - k t) Hs) as B.
  apply (Rmult_le_compat_l (w t)) in B; [lra | exact Hw].
Qed.

(** And -sign(p - k) by the template. *)
Theorem l1_template_subgradient {A} (w s p k k' : A -> R) (taps : list A) :
  (forall t, In t taps -> 0 <= w t /\ is_sign (s t) (p t - k t)) ->
  sum (fun t => w t * Rabs (p t - k t)) taps + sum (fun t => - (w t * s t) * (k' t - k t)) taps <=
  sum (fun t => w t * Rabs (p t - k' t)) taps.
Proof.
  intros H; rewrite <- sum_plus; apply sum_le; intros t Ht; destruct (H t Ht) as [Hw Hs].
  pose proof (abs_subgradient (s t) (p t - k t) (p t - k' t) Hs) as B.
  apply (Rmult_le_compat_l (w t)) in B; [lra | exact Hw].
Qed.

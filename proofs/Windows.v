(** * Windows: where a template lies on an image, and what is summed there

    The vocabulary of all other files. An image gives a value for every channel and every point of
    the plane Z^2: padding and overhang are part of the image (see [extend]), so that a window has
    nothing special at a border. A template has C x h x w entries, its "taps". The window of
    index (y, x) meets tap (c, i, j) at channel c, row y*sy + i*dy and column x*sx + j*dx, where
    (sy, sx) is the stride and (dy, dx) the dilation. *)

From mathcomp Require Import all_ssreflect all_algebra.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import GRing.Theory.
Local Open Scope ring_scope.

(** The geometry of a comparison (patchsim.problem.Problem): C, h, w, stride and dilation. *)
Record geometry := Geometry {
  channels : nat; rows : nat; cols : nat;
  stride_y : nat; stride_x : nat;
  dilation_y : nat; dilation_x : nat }.

Section Windows.

Variable g : geometry.

Definition image T := 'I_(channels g) -> int -> int -> T.
Definition template T := 'I_(channels g) -> 'I_(rows g) -> 'I_(cols g) -> T.

(** Row (column) of the image that row i (column j) of the template meets in window (y, x). *)
Definition row_of (y : int) (i : nat) : int := y * (stride_y g)%:Z + i%:Z * (dilation_y g)%:Z.
Definition col_of (x : int) (j : nat) : int := x * (stride_x g)%:Z + j%:Z * (dilation_x g)%:Z.

(** f applied to every value of an image, or of a template. *)
Definition map_image T U (f : T -> U) (p : image T) : image U := fun c y x => f (p c y x).
Definition map_template T U (f : T -> U) (k : template T) : template U := fun c i j => f (k c i j).

Section Sums.

Variable R : ringType.

(** S(y, x) = sum_(c, i, j) d(p(c, y*sy + i*dy, x*sx + j*dx), k(c, i, j)). *)
Definition window_sum T U (d : T -> U -> R) (p : image T) (k : template U) (y x : int) : R :=
  \sum_(c < channels g) \sum_(i < rows g) \sum_(j < cols g)
    d (p c (row_of y i) (col_of x j)) (k c i j).

(** The same with weights w(c, i, j). *)
Definition weighted_sum T U (d : T -> U -> R) (w : template R) (p : image T) (k : template U)
    (y x : int) : R :=
  \sum_(c < channels g) \sum_(i < rows g) \sum_(j < cols g)
    w c i j * d (p c (row_of y i) (col_of x j)) (k c i j).

(** What conv2d computes: the window sum of products. *)
Definition cross_correlation (p : image R) (k : template R) (y x : int) : R :=
  window_sum *%R p k y x.

(** Sum of f over a window, whatever the template. *)
Definition box_sum T (f : T -> R) (p : image T) (y x : int) : R :=
  \sum_(c < channels g) \sum_(i < rows g) \sum_(j < cols g)
    f (p c (row_of y i) (col_of x j)).

(** One number per template. *)
Definition template_sum (k : template R) : R :=
  \sum_(c < channels g) \sum_(i < rows g) \sum_(j < cols g) k c i j.

End Sums.

(** The taps as one finite set, convenient in proofs: three sums become one. *)
Definition tap : finType :=
  [finType of 'I_(channels g) * 'I_(rows g) * 'I_(cols g)].

Definition pixel T (p : image T) (y x : int) (t : tap) : T :=
  p t.1.1 (row_of y t.1.2) (col_of x t.2).

Definition entry T (k : template T) (t : tap) : T := k t.1.1 t.1.2 t.2.

Lemma sum_tap (R : zmodType) (F : tap -> R) :
  \sum_(c < channels g) \sum_(i < rows g) \sum_(j < cols g) F (c, i, j) = \sum_(t : tap) F t.
Proof. by rewrite pair_big pair_big /=; apply: eq_bigr => -[[c i] j] _. Qed.

Section SumsOverTaps.

Variable R : ringType.

Lemma window_sumE T U (d : T -> U -> R) p k y x :
  window_sum d p k y x = \sum_t d (pixel p y x t) (entry k t).
Proof. by rewrite -sum_tap. Qed.

Lemma weighted_sumE T U (d : T -> U -> R) w p k y x :
  weighted_sum d w p k y x = \sum_t entry w t * d (pixel p y x t) (entry k t).
Proof. by rewrite -sum_tap. Qed.

Lemma cross_correlationE (p : image R) k y x :
  cross_correlation p k y x = \sum_t pixel p y x t * entry k t.
Proof. exact: window_sumE. Qed.

Lemma box_sumE T (f : T -> R) p y x : box_sum f p y x = \sum_t f (pixel p y x t).
Proof. by rewrite -sum_tap. Qed.

Lemma template_sumE (k : template R) : template_sum k = \sum_t entry k t.
Proof. by rewrite -sum_tap. Qed.

(** A box sum is the cross-correlation with a template of ones. *)
Lemma cross_correlation1 T (f : T -> R) p y x :
  cross_correlation (map_image f p) (fun _ _ _ => 1) y x = box_sum f p y x.
Proof. by rewrite cross_correlationE box_sumE; apply: eq_bigr => t _; rewrite mulr1. Qed.

(** Weights of one are no weights. *)
Lemma weighted_sum1 T U (d : T -> U -> R) p k y x :
  weighted_sum d (fun _ _ _ => 1) p k y x = window_sum d p k y x.
Proof. by rewrite weighted_sumE window_sumE; apply: eq_bigr => t _; rewrite mul1r. Qed.

End SumsOverTaps.

(** Number of taps, C*h*w. *)
Definition taps : nat := (channels g * rows g * cols g)%N.

Lemma card_tap : #|tap| = taps.
Proof. by rewrite !card_prod !card_ord. Qed.

(** ** Padding and overhang

    [extend z top left a] lays an H x W array on the plane, its corner at row [top] and column
    [left], with the value z everywhere else. *)
Definition extend T (z : T) (H W : nat) (top left : nat) (a : 'I_(channels g) -> 'I_H -> 'I_W -> T)
    : image T := fun c y x =>
  if (y - top%:Z, x - left%:Z) is (Posz i, Posz j) then
    if (insub i, insub j) is (Some i', Some j') then a c i' j' else z
  else z.

(** Applying f to the extended image is extending f(image) by f(z): what a sum meets outside of
    the image is f(z), which need not be 0. *)
Lemma map_extend T U (f : T -> U) (z : T) H W top left (a : 'I_(channels g) -> 'I_H -> 'I_W -> T)
    c y x :
  map_image f (extend z top left a) c y x
  = extend (f z) top left (fun c i j => f (a c i j)) c y x.
Proof.
rewrite /map_image /extend.
by case: (y - _) => // i; case: (x - _) => // j; case: insub => // i'; case: insub.
Qed.

End Windows.

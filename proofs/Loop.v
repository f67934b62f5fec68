(** * The original loop, and other orders of the same sum *)

From mathcomp Require Import all_ssreflect all_algebra.
From Patchsim Require Import Windows.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import GRing.Theory Num.Theory Order.TTheory.
Local Open Scope ring_scope.

(** ** How many windows there are

    On one axis, H pixels of the (padded) image, h pixels covered by the (dilated) template and
    stride s. *)

(** Division truncated toward zero, Python's int(m / s). *)
Definition truncdiv (m : int) (s : nat) : int :=
  match m with
  | Posz n => (n %/ s)%N%:Z
  | Negz n => - (n.+1 %/ s)%N%:Z
  end.

Definition map_size (H h s : nat) : int := truncdiv (H%:Z - h%:Z) s + 1.

Lemma map_size_fits H h s : (h <= H)%N -> map_size H h s = ((H - h) %/ s).+1%:Z.
Proof. by move=> le_hH; rewrite /map_size subzn //= intS addrC. Qed.

Lemma map_size_overhangs H h s : (H < h)%N -> map_size H h s = 1 - ((h - H) %/ s)%N%:Z.
Proof.
move=> lt_Hh; rewrite /map_size -opprB subzn ?(ltnW lt_Hh) //.
case: (h - H)%N (subn_gt0 H h) => [|n _]; first by rewrite lt_Hh.
by rewrite -NegzE /= addrC.
Qed.

(** There is no window iff H + s <= h: the template is larger than the image by a stride at least.
    A quotient truncated to 0 leaves one window, a negative quotient none. *)
Theorem no_window (H h s : nat) : (0 < s)%N -> (map_size H h s < 1) = (H + s <= h)%N.
Proof.
move=> s_gt0; case: (leqP h H) => [le_hH | lt_Hh].
  rewrite map_size_fits // intS gtr_addl ltNge le0z_nat /=.
  by apply/esym/negbTE; rewrite -ltnNge (leq_ltn_trans le_hH) // -addn1 leq_add2l.
rewrite map_size_overhangs // ltr_subl_addr ltr_addl ltz_nat divn_gt0 //.
by rewrite leq_subRL // ltnW.
Qed.

(** If the template fits, h <= H, then the windows of index y < Ho are those inside of the image:
    y*s + h <= H iff y < Ho. So every window lies inside, and one more would not. *)
Theorem windows_inside (H h s y : nat) : (0 < s)%N -> (h <= H)%N ->
  (y * s + h <= H)%N = (y%:Z < map_size H h s).
Proof.
by move=> s_gt0 le_hH; rewrite map_size_fits // ltz_nat ltnS leq_divRL // addnC leq_subRL.
Qed.

(** A window of index y < Ho overhangs, y*s + h > H, iff the template is larger than the image by
    less than the stride, 0 < h - H < s, and y = 0: then it is the only one (Ho = 1). *)
Theorem overhang (H h s y : nat) : (0 < s)%N ->
  (y%:Z < map_size H h s) && (H < y * s + h)%N
  = [&& (H < h)%N, (h < H + s)%N & y == 0%N].
Proof.
move=> s_gt0; case: (leqP h H) => [le_hH | lt_Hh].
  by rewrite -windows_inside // ltnNge; case: (_ <= H)%N.
rewrite (leq_trans lt_Hh (leq_addl _ _)) andbT map_size_overhangs //.
rewrite (_ : (h < H + s)%N = (h - H < s)%N) /=; last by rewrite ltn_subLR // ltnW.
case: (leqP s (h - H)) => [le_s | lt_s].
  have : (0 < (h - H) %/ s)%N by rewrite divn_gt0.
  by case: (_ %/ s)%N => // q _; rewrite intS opprD addrA subrr add0r ltNge
    (le_trans _ (le0z_nat y)) // oppr_le0.
by rewrite divn_small // subr0 ltz_nat ltnS leqn0.
Qed.

Theorem overhang_single (H h s : nat) : (H < h)%N -> (h < H + s)%N -> map_size H h s = 1.
Proof.
move=> lt_Hh lt_h; rewrite map_size_overhangs // divn_small ?subr0 //.
by rewrite ltn_subLR // ltnW.
Qed.

(** The rows y*s + i*d (i < n) that a template of n rows dilated by d meets all lie above row H iff
    y*s + h <= H, where h = d (n - 1) + 1 (Problem.extent). *)
Theorem extent (H n d s y : nat) : (0 < n)%N ->
  [forall i : 'I_n, (y * s + i * d < H)%N] = (y * s + (d * n.-1 + 1) <= H)%N.
Proof.
case: n => // n _; rewrite addn1 addnS; apply/forallP/idP => [/(_ ord_max) | le_H i] /=.
  by rewrite [(d * _)%N]mulnC.
apply: leq_ltn_trans le_H; rewrite leq_add2l mulnC leq_mul2l -ltnS ltn_ord.
by rewrite orbT.
Qed.

(** ** Zeros *)

Section Zeros.

Variables (g : geometry) (T : Type) (z : T).
Variables (H W top bottom left right : nat) (a : 'I_(channels g) -> 'I_H -> 'I_W -> T).

(** The image with the zeros that were asked for, an array of (top + H + bottom) rows. *)
Definition padded (c : 'I_(channels g)) (Y : 'I_(top + H + bottom)) (X : 'I_(left + W + right)) : T
  := if (top <= Y)%N && (left <= X)%N then
       if (insub (Y - top)%N, insub (X - left)%N) is (Some i, Some j) then a c i j else z
     else z.

(** The loop pads the image, cuts a window out and completes it with zeros where it overhangs;
    that is the same as one image with zeros everywhere outside. *)
Theorem zeros_at_once c (Y X : nat) :
  @extend g T z _ _ 0 0 padded c Y X = extend z top left a c Y X.
Proof.
rewrite /extend !subr0 /padded.
case: (leqP top Y) => [le_Y | lt_Y]; last first.
  have -> : Y%:Z - top%:Z = Negz (top - Y).-1.
    by rewrite NegzE prednK ?subn_gt0 // -subzn 1?ltnW // opprB.
  by case: insubP => // Y' _ ->; case: insubP => // X' _ ->; rewrite leqNgt lt_Y.
case: (leqP left X) => [le_X | lt_X]; last first.
  have -> : X%:Z - left%:Z = Negz (left - X).-1.
    by rewrite NegzE prednK ?subn_gt0 // -subzn 1?ltnW // opprB.
  rewrite subzn //; case: insubP => // Y' _ ->; case: insubP => // X' _ ->.
  by rewrite [(left <= _)%N]leqNgt lt_X andbF.
rewrite !subzn //; case: (insubP _ Y) => [Y' lt_Y Y'E | ge_Y]; last first.
  case: insubP => // i; rewrite -(ltn_add2r top) subnK // addnC => lt_i.
  by case/negP: ge_Y; rewrite (leq_trans lt_i) ?leq_addr.
case: (insubP _ X) => [X' lt_X X'E | ge_X]; last first.
  case: insubP => // i _ _; case: insubP => // j.
  rewrite -(ltn_add2r left) subnK // addnC => lt_j.
  by case/negP: ge_X; rewrite (leq_trans lt_j) ?leq_addr.
by rewrite Y'E X'E le_Y le_X.
Qed.

End Zeros.

(** So the loop's window sums over the padded array are those over the image with zeros all round.
    Every row and column it reads is at least 0. *)
Theorem loop_padding (g : geometry) (R : ringType) T U (d : T -> U -> R) (z : T)
    (H W top bottom left right : nat) (a : 'I_(channels g) -> 'I_H -> 'I_W -> T)
    (k : template g U) (y x : nat) :
  window_sum d (extend z 0 0 (@padded g T z H W top bottom left right a)) k y x
  = window_sum d (extend z top left a) k y x.
Proof.
rewrite !window_sumE; apply: eq_bigr => t _; congr (d _ _).
by rewrite /pixel /row_of /col_of -!PoszM -!PoszD zeros_at_once.
Qed.

(** ** Orders of summation *)

Section Orders.

Variables (g : geometry) (R : ringType) (T U : Type).
Variables (d : T -> U -> R) (p : image g T) (k : template g U).

(** The loop: start from 0 and add one tap after the other, in any order ts of all taps. *)
Theorem loop_any_order (ts : seq (tap g)) y x : perm_eq ts (enum (tap g)) ->
  foldl (fun sum t => sum + d (pixel p y x t) (entry k t)) 0 ts = window_sum d p k y x.
Proof.
move=> ts_perm; rewrite window_sumE -big_enum /= -(perm_big _ ts_perm) /=.
have aux acc : foldl (fun sum t => sum + d (pixel p y x t) (entry k t)) acc ts
             = acc + \sum_(t <- ts) d (pixel p y x t) (entry k t).
  elim: ts {ts_perm} acc => [|t ts IH] acc /=; first by rewrite big_nil addr0.
  by rewrite IH big_cons addrA.
by rewrite aux add0r.
Qed.

(** Tap t's share of the whole map: the image shifted by the tap, read with the stride. *)
Definition shifted (t : tap g) (y x : int) : T :=
  p t.1.1 ((t.1.2 * dilation_y g)%N%:Z + y * (stride_y g)%:Z)
          ((t.2 * dilation_x g)%N%:Z + x * (stride_x g)%:Z).

Lemma shiftedE t y x : shifted t y x = pixel p y x t.
Proof. by rewrite /shifted /pixel /row_of /col_of !PoszM addrC [X in p _ _ X]addrC. Qed.

(** shift: start from a map of 0 and add d(shifted image, tap) to the whole map, tap after tap, in
    any order: every element is the loop's sum. *)
Theorem shift_any_order (ts : seq (tap g)) y x : perm_eq ts (enum (tap g)) ->
  foldl (fun (sums : int -> int -> R) t => fun y x => sums y x + d (shifted t y x) (entry k t))
        (fun _ _ => 0) ts y x
  = window_sum d p k y x.
Proof.
move=> ts_perm; rewrite -(loop_any_order y x ts_perm).
have aux (sums : int -> int -> R) :
  foldl (fun (sums : int -> int -> R) t => fun y x => sums y x + d (shifted t y x) (entry k t))
        sums ts y x
  = foldl (fun sum t => sum + d (pixel p y x t) (entry k t)) (sums y x) ts.
  elim: ts {ts_perm} sums => //= t ts IH sums; by rewrite IH shiftedE.
exact: aux.
Qed.

(** fused: the image is split into its phases (jit.phases), phase r being every stride-th row
    (column) from the r-th on; then the tap at offset o reads phase o mod stride, each element
    the neighbour of the one before: q(y*s + o) = phase_(o mod s)(y + o div s). *)
Definition phase (s : nat) (q : int -> T) (r : nat) (Y : int) : T := q (Y * s%:Z + r%:Z).

Theorem phases (s o : nat) (q : int -> T) (y : int) :
  q (y * s%:Z + o%:Z) = phase s q (o %% s) (y + (o %/ s)%:Z).
Proof. by rewrite /phase mulrDl -addrA -PoszM -PoszD -divn_eq. Qed.

(** unfold: all windows of an Ho x Wo map as the columns of a table, a row for every tap. *)
Definition unfolded (Ho Wo : nat) (t : tap g) (s : 'I_Ho * 'I_Wo) : T :=
  pixel p s.1%:Z s.2%:Z t.

(** Comparing the table with the template and adding channel by channel gives the loop's sums. *)
Theorem unfold_sum Ho Wo (y : 'I_Ho) (x : 'I_Wo) :
  \sum_(c < channels g) \sum_(ij : 'I_(rows g) * 'I_(cols g))
    d (unfolded (c, ij.1, ij.2) (y, x)) (k c ij.1 ij.2)
  = window_sum d p k y x.
Proof. by apply: eq_bigr => c _; rewrite pair_bigA. Qed.

(** fused, and integer blocks: cut the taps into blocks in any way, b(t) being the block of tap t;
    the blocks' sums add up to the window's. *)
Theorem blocks (B : finType) (b : tap g -> B) y x :
  \sum_(B0 : B) \sum_(t | b t == B0) d (pixel p y x t) (entry k t) = window_sum d p k y x.
Proof. by rewrite window_sumE (partition_big b xpredT). Qed.

End Orders.

(** A length cut into pieces of [step] from 0 on, the last one shorter if need be (conv2d._cut): the
    sums over the pieces add up. *)
Theorem cut (R : zmodType) (length step : nat) (F : nat -> R) : (0 < step)%N ->
  \sum_(0 <= b < (length + step.-1) %/ step)
    \sum_(b * step <= i < minn (b * step + step) length) F i
  = \sum_(0 <= i < length) F i.
Proof.
move=> step_gt0; have upto n :
    \sum_(0 <= b < n) \sum_(b * step <= i < minn (b * step + step) length) F i
    = \sum_(0 <= i < minn (n * step) length) F i.
  elim: n => [|n IH]; first by rewrite mul0n min0n !big_geq.
  rewrite big_nat_recr //= {}IH mulSn [(step + _)%N]addnC.
  case: (leqP (n * step) length) => [le_n | /ltnW le_n].
    by rewrite -big_cat_nat // leq_min leq_addr le_n.
  rewrite (minn_idPr (leq_trans le_n (leq_addr step _))).
  by rewrite [X in _ + X]big_geq ?addr0.
have ge_length : (length <= (length + step.-1) %/ step * step)%N.
  rewrite -ltnS -(ltn_add2r step.-1) addSnnS prednK //.
  by rewrite [X in (_ < X)%N]addnC -mulSn ltn_ceil.
by rewrite upto (minn_idPr ge_length).
Qed.

(** The template cut into blocks of depth x height x width taps (conv2d._blocks): the sums over the
    blocks add up to the sum over all taps. Three times [cut], and exchanging sums. *)
Theorem cut_blocks (R : zmodType) (C h w depth height width : nat) (F : nat -> nat -> nat -> R) :
  (0 < depth)%N -> (0 < height)%N -> (0 < width)%N ->
  \sum_(0 <= bc < (C + depth.-1) %/ depth)
    \sum_(0 <= bi < (h + height.-1) %/ height) \sum_(0 <= bj < (w + width.-1) %/ width)
      \sum_(bc * depth <= c < minn (bc * depth + depth) C)
        \sum_(bi * height <= i < minn (bi * height + height) h)
          \sum_(bj * width <= j < minn (bj * width + width) w) F c i j
  = \sum_(0 <= c < C) \sum_(0 <= i < h) \sum_(0 <= j < w) F c i j.
Proof.
move=> depth_gt0 height_gt0 width_gt0.
rewrite -(cut C (fun c => \sum_(0 <= i < h) \sum_(0 <= j < w) F c i j) depth_gt0).
apply: eq_bigr => bc _; under eq_bigr => bi _ do rewrite exchange_big.
rewrite exchange_big; apply: eq_bigr => c _ /=.
rewrite -(cut h (fun i => \sum_(0 <= j < w) F c i j) height_gt0).
apply: eq_bigr => bi _; rewrite exchange_big; apply: eq_bigr => i _ /=.
exact: cut.
Qed.

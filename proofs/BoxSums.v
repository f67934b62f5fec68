(** * Box sums in a number of additions that does not depend on the box *)

From mathcomp Require Import all_ssreflect all_algebra.
From Patchsim Require Import Windows.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import GRing.Theory Num.Theory Order.TTheory.
Local Open Scope ring_scope.

(** ** Runs: sums along one line of values q(0), q(1), ... *)

Section Runs.

Variables (R : zmodType) (d : nat).
Implicit Types (q : int -> R) (s : int).

(** q(s) + q(s + d) + ... + q(s + (n-1) d): n values, d apart, from position s. *)
Definition run_sum (n : nat) q s : R := \sum_(i < n) q (s + i%:Z * d%:Z).

(** A run of m + n values is a run of m and, from where it ends, one of n. *)
Theorem run_split m n q s :
  run_sum (m + n) q s = run_sum m q s + run_sum n q (s + m%:Z * d%:Z).
Proof.
rewrite /run_sum big_split_ord; congr (_ + _); apply: eq_bigr => i _ /=.
by rewrite PoszD mulrDl addrA.
Qed.

(** A run of 2n values from two of n: one addition, whatever n. *)
Theorem run_double n q s :
  run_sum n.*2 q s = run_sum n q s + run_sum n q (s + n%:Z * d%:Z).
Proof. by rewrite -addnn run_split. Qed.

(** The algorithm of box._run_sum. [run] holds the sums of [width] values, [total] that of the
    first [start] ones; [rest] counts, in units of width, those that are still missing. *)
Fixpoint doubling (fuel rest width start : nat) (run total : int -> R) : int -> R :=
  if fuel is fuel'.+1 then
    doubling fuel' rest./2 width.*2
      (if odd rest then start + width else start)%N
      (fun s => run s + run (s + width%:Z * d%:Z))
      (if odd rest then fun s => total s + run (s + start%:Z * d%:Z) else total)
  else total.

Lemma doublingE fuel rest width start run total q :
  (rest <= fuel)%N ->
  (forall s, run s = run_sum width q s) -> (forall s, total s = run_sum start q s) ->
  forall s, doubling fuel rest width start run total s = run_sum (start + rest * width) q s.
Proof.
elim: fuel rest width start run total => [|fuel IH] rest width start run total.
  by rewrite leqn0 => /eqP -> _ totalE s; rewrite mul0n addn0.
move=> le_fuel runE totalE s /=; rewrite (IH _ _ _ _ _).
- congr (run_sum _ q s); rewrite -[in RHS](odd_double_half rest) mulnDl -doubleMl -doubleMr.
  by case: (odd rest); rewrite ?mul0n ?add0n // mul1n addnA.
- case: rest le_fuel => // rest; rewrite ltnS => le_fuel; apply: leq_trans le_fuel.
  by rewrite /= uphalf_half -[in leqRHS](odd_double_half rest) leq_add2l -addnn leq_addr.
- by move=> s'; rewrite run_double !runE.
- by move=> s'; case: (odd rest); rewrite // run_split totalE runE.
Qed.

(** Adding up the runs of 1, 2, 4, ... values that the binary digits of n select, each obtained
    from the one before by one addition, gives the run of n values. *)
Theorem run_doubling n q s : doubling n n 1 0 q (fun _ => 0) s = run_sum n q s.
Proof.
rewrite (@doublingE n n 1 0 q _ q) ?muln1 // => s'; last by rewrite /run_sum big_ord0.
by rewrite /run_sum big_ord1 mul0r addr0.
Qed.

End Runs.

(** ** Blocks *)

(** van Herk's decomposition, for sums. Cut the line into blocks of h values; let [suffix i] be the
    sum of a block from its i-th value on, [prefix i] that of the first i values of the next block.
    Then the window of h values that starts at the i-th value of the block is suffix i + prefix i,
    the end of one block and the beginning of the next. *)
Theorem van_herk (R : zmodType) (h i : nat) (q : int -> R) (top : int) : (i <= h)%N ->
  run_sum 1 h q (top + i%:Z)
  = \sum_(i <= j < h) q (top + j%:Z) + \sum_(0 <= j < i) q (top + h%:Z + j%:Z).
Proof.
move=> le_ih; rewrite /run_sum -(big_mkord xpredT (fun j => q (top + i%:Z + j%:Z * 1))).
rewrite (big_cat_nat _ (n := (h - i)%N)) ?leq_subr //=; congr (_ + _).
  rewrite [RHS](_ : _ = \sum_(0 + i <= j < h) q (top + j%:Z)) // big_addn.
  by apply: eq_bigr => j _; rewrite mulr1 -addrA addnC PoszD.
rewrite [LHS](_ : _ = \sum_(0 + (h - i) <= j < h) q (top + i%:Z + j%:Z * 1)) // big_addn subKn //.
by apply: eq_bigr => j _; rewrite mulr1 -!addrA -!PoszD addnCA subnKC // addnC.
Qed.

(** Both are kept up to date by one addition per value. *)
Theorem van_herk_steps (R : zmodType) (h i s : nat) (q : int -> R) (top : int) :
  ((i < h)%N ->
   \sum_(i <= j < h) q (top + j%:Z) = \sum_(i.+1 <= j < h) q (top + j%:Z) + q (top + i%:Z))
  /\ \sum_(0 <= j < i + s) q (top + j%:Z)
     = \sum_(0 <= j < i) q (top + j%:Z) + \sum_(i <= j < i + s) q (top + j%:Z).
Proof.
split=> [lt_ih|]; first by rewrite big_ltn // addrC.
by rewrite (big_cat_nat _ (n := i)) ?leq_addr.
Qed.

(** ** Boxes *)

Section Boxes.

Variables (g : geometry) (R : ringType) (T : Type).
Variables (f : T -> R) (p : image g T).

(** The channels' sum of f(image). *)
Definition plane (Y X : int) : R := \sum_(c < channels g) f (p c Y X).

Lemma box_sum_plane y x :
  box_sum f p y x = \sum_(i < rows g) \sum_(j < cols g) plane (row_of g y i) (col_of g x j).
Proof.
rewrite /box_sum exchange_big; apply: eq_bigr => i _; exact: exchange_big.
Qed.

(** Two passes: the run along the columns of the runs along the rows,
    sum_(i, j) q(y*sy + i*dy, x*sx + j*dx) = sum_j (sum_i q(y*sy + i*dy, .))(x*sx + j*dx).
    Exchange the two sums: h + w additions instead of h*w. *)
Theorem separable y x :
  box_sum f p y x
  = run_sum (dilation_x g) (cols g)
      (fun X => run_sum (dilation_y g) (rows g) (plane^~ X) (y * (stride_y g)%:Z))
      (x * (stride_x g)%:Z).
Proof. by rewrite box_sum_plane exchange_big. Qed.

(** What box.box_sum computes: run doubling along the rows, then along the columns. *)
Theorem box_sum_doubling y x :
  box_sum f p y x
  = doubling (dilation_x g) (cols g) (cols g) 1 0
      (fun X => doubling (dilation_y g) (rows g) (rows g) 1 0 (plane^~ X) (fun _ => 0)
                  (y * (stride_y g)%:Z))
      (fun _ => 0) (x * (stride_x g)%:Z).
Proof.
by rewrite separable run_doubling; apply: eq_bigr => j _; rewrite run_doubling.
Qed.

(** What the kernel jit.box computes (dilation 1): along the rows van Herk's blocks of h values,
    along the columns run doubling; here for the i-th window of the block that starts at [top]. *)
Theorem box_sum_blocks (top : int) (i : nat) y x :
  dilation_y g = 1%N -> dilation_x g = 1%N -> (i <= rows g)%N ->
  y * (stride_y g)%:Z = top + i%:Z ->
  box_sum f p y x
  = doubling 1 (cols g) (cols g) 1 0
      (fun X => \sum_(i <= j < rows g) plane (top + j%:Z) X
                + \sum_(0 <= j < i) plane (top + (rows g)%:Z + j%:Z) X)
      (fun _ => 0) (x * (stride_x g)%:Z).
Proof.
move=> dy1 dx1 le_i startE; rewrite separable dy1 dx1 startE run_doubling.
by apply: eq_bigr => j _; rewrite van_herk.
Qed.

(** The integral image, I(Y, X) = sum_(Y' < Y, X' < X) q(Y', X'). *)
Definition integral (Y X : nat) : R := \sum_(0 <= Y' < Y) \sum_(0 <= X' < X) plane Y'%:Z X'%:Z.

(** With dilation 1, top = y*sy, bottom = top + h, left = x*sx and right = left + w:
    box sum = I(bottom, right) - I(top, right) - I(bottom, left) + I(top, left).
    Each difference of two I cuts off a half-plane. *)
Theorem integral_image (y x : nat) :
  dilation_y g = 1%N -> dilation_x g = 1%N ->
  let top := (y * stride_y g)%N in let bottom := (top + rows g)%N in
  let left := (x * stride_x g)%N in let right := (left + cols g)%N in
  box_sum f p y%:Z x%:Z
  = integral bottom right - integral top right - integral bottom left + integral top left.
Proof.
move=> dy1 dx1 top bottom left right.
have cut Y : integral Y right - integral Y left
           = \sum_(0 <= Y' < Y) \sum_(left <= X' < right) plane Y'%:Z X'%:Z.
  rewrite /integral -sumrB; apply: eq_bigr => Y' _.
  by rewrite (big_cat_nat _ (n := left) (p := right)) ?leq_addr //= addrAC subrr add0r.
have -> : integral bottom right - integral top right - integral bottom left + integral top left
        = (integral bottom right - integral bottom left)
          - (integral top right - integral top left).
  move: (integral bottom right) (integral top right) (integral bottom left) => A B C.
  move: (integral top left) => D.
  by rewrite opprB [D - B]addrC addrA [A - B - C]addrAC.
rewrite !cut [X in _ = X - _](big_cat_nat _ (n := top)) ?leq_addr //= addrAC subrr add0r.
rewrite box_sum_plane -{1}(add0n top) big_addn addKn big_mkord; apply: eq_bigr => i _.
rewrite -{1}(add0n left) big_addn addKn big_mkord; apply: eq_bigr => j _.
by rewrite /row_of /col_of dy1 dx1 !mulr1 -!PoszM -!PoszD addnC [(j + _)%N]addnC.
Qed.

End Boxes.

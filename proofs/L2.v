(** * Squares and even powers of differences as cross-correlations *)

From mathcomp Require Import all_ssreflect all_algebra.
From Patchsim Require Import Windows.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import GRing.Theory.
Local Open Scope ring_scope.

Section L2.

Variables (g : geometry) (R : comRingType).
Implicit Types (p : image g R) (k w : template g R) (y x : int).

(** sum (p - k)^2 = sum p^2 - 2 sum p*k + sum k^2.
    Expand the square under the sum: a box sum, one cross-correlation and a number. *)
Theorem l2_expansion p k y x :
  window_sum (fun a b => (a - b) ^+ 2) p k y x
  = box_sum (fun a => a ^+ 2) p y x - 2%:R * cross_correlation p k y x
    + template_sum (map_template (fun b => b ^+ 2) k).
Proof.
rewrite window_sumE box_sumE cross_correlationE template_sumE mulr_sumr -sumrN -!big_split /=.
by apply: eq_bigr => t _; rewrite sqrrB mulr_natl.
Qed.

(** sum w*(p - k)^2 = (p^2 * w) - 2 (p * w k) + sum w*k^2, where * is cross-correlation.
    As above; the weights stand with the template, and the box sum becomes a cross-correlation
    with the weights. *)
Theorem l2_weighted w p k y x :
  weighted_sum (fun a b => (a - b) ^+ 2) w p k y x
  = cross_correlation (map_image (fun a => a ^+ 2) p) w y x
    - 2%:R * cross_correlation p (fun c i j => w c i j * k c i j) y x
    + template_sum (fun c i j => w c i j * k c i j ^+ 2).
Proof.
rewrite weighted_sumE !cross_correlationE template_sumE mulr_sumr -sumrN -!big_split /=.
apply: eq_bigr => t _; rewrite /pixel /entry /map_image.
move: (w _ _ _) (p _ _ _) (k _ _ _) => u a b.
by rewrite sqrrB mulrDr mulrBr mulrnAr (mulrCA u) mulr_natl [u * _ ^+ 2]mulrC.
Qed.

(** Centring: any d of the difference, d(p - k), weighted or not, is unchanged when the same number
    m(c) is subtracted from channel c of image and template: the differences are the same.
    The image is centred after padding: outside of it stands 0 - m(c). *)
Theorem centring (d : R -> R) (m : 'I_(channels g) -> R) w p k y x :
  weighted_sum (fun a b => d (a - b)) w (fun c i j => p c i j - m c) (fun c i j => k c i j - m c)
    y x
  = weighted_sum (fun a b => d (a - b)) w p k y x.
Proof.
rewrite !weighted_sumE; apply: eq_bigr => t _; rewrite /pixel /entry.
by rewrite opprB addrA subrK.
Qed.

(** sum (p - k)^(2m) = sum p^(2m) + sum_(0 < i < 2m) (-1)^i C(2m, i) (p^(2m-i) * k^i) + sum k^(2m).
    The binomial theorem under the sum: of its 2m + 1 terms the first is a box sum, the last
    a number, and the 2m - 1 between are cross-correlations. *)
Theorem even_power_expansion (m : nat) p k y x : (0 < m)%N ->
  window_sum (fun a b => (a - b) ^+ (2 * m)) p k y x
  = box_sum (fun a => a ^+ (2 * m)) p y x
    + \sum_(1 <= i < 2 * m) ((-1) ^+ i * 'C(2 * m, i)%:R
        * cross_correlation (map_image (fun a => a ^+ (2 * m - i)) p)
                            (map_template (fun b => b ^+ i) k) y x)
    + template_sum (map_template (fun b => b ^+ (2 * m)) k).
Proof.
move=> m_gt0; rewrite window_sumE box_sumE template_sumE.
under [X in _ + X + _]eq_bigr => i _ do rewrite cross_correlationE mulr_sumr.
rewrite exchange_big -!big_split /=; apply: eq_bigr => t _.
rewrite /pixel /entry /map_image /map_template.
move: (p _ _ _) (k _ _ _) => a b; rewrite exprBn.
have sign1 : (-1) ^+ (2 * m) = 1 :> R by rewrite exprM sqrrN expr1n expr1n.
rewrite -(big_mkord xpredT
  (fun i => ((-1) ^+ i * a ^+ (2 * m - i) * b ^+ i) *+ 'C(2 * m, i))).
rewrite big_nat_recr // big_ltn ?muln_gt0 //= bin0 binn subn0 subnn sign1.
rewrite !expr0 !mulr1n !mul1r mulr1; congr (_ + _ + _); apply: eq_bigr => i _.
by rewrite -mulr_natr -!mulrA; congr (_ * _); rewrite [RHS]mulrC -mulrA.
Qed.

End L2.

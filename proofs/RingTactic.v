(** * Coq's [ring] tactic in MathComp's commutative rings

    [ring] looks for the operations it knows by their names, which in MathComp carry the structure
    they come from. [comring R] therefore rewrites both sides of an equation with the operations
    below, which mean the same, and calls [ring]. A section that uses it declares
    [Add Ring R_ring : (comring_theory R).] *)

From Coq Require Export Ring.
From mathcomp Require Import all_ssreflect all_algebra.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import GRing.Theory.
Local Open Scope ring_scope.

Section Operations.

Variable R : comRingType.

Definition zero : R := 0.
Definition one : R := 1.
Definition add (a b : R) : R := a + b.
Definition mul (a b : R) : R := a * b.
Definition opp (a : R) : R := - a.
Definition sub (a b : R) : R := a - b.

Lemma comring_theory : ring_theory zero one add mul sub opp (@eq R).
Proof.
split=> //.
- exact: add0r.
- exact: addrC.
- exact: addrA.
- exact: mul1r.
- exact: mulrC.
- exact: mulrA.
- exact: mulrDl.
- exact: subrr.
Qed.

End Operations.

Ltac comring_term R t :=
  let rec reify t :=
    match t with
    | @GRing.add _ ?a ?b => let a' := reify a in let b' := reify b in constr:(@add R a' b')
    | @GRing.mul _ ?a ?b => let a' := reify a in let b' := reify b in constr:(@mul R a' b')
    | @GRing.opp _ ?a => let a' := reify a in constr:(@opp R a')
    | @GRing.natmul _ ?a O => constr:(@zero R)
    | @GRing.natmul _ ?a (S O) => reify a
    | @GRing.natmul _ ?a (S ?n) =>
        let a' := reify a in let b' := reify (@GRing.natmul R a n) in constr:(@add R a' b')
    | @GRing.exp _ ?a O => constr:(@one R)
    | @GRing.exp _ ?a (S O) => reify a
    | @GRing.exp _ ?a (S ?n) =>
        let a' := reify a in let b' := reify (@GRing.exp R a n) in constr:(@mul R a' b')
    | GRing.zero _ => constr:(@zero R)
    | GRing.one _ => constr:(@one R)
    | _ => t
    end in
  reify t.

Ltac comring R :=
  match goal with |- @eq _ ?a ?b =>
    let a' := comring_term R a in
    let b' := comring_term R b in
    change (@eq (GRing.ComRing.sort R) a' b'); ring
  end.

(** * Finite-rank expansions, and what five window sums are enough for *)

From mathcomp Require Import all_ssreflect all_algebra.
From Patchsim Require Import RingTactic Windows.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import GRing.Theory Num.Theory Order.TTheory.
Local Open Scope ring_scope.

(** ** The algebra: d(x, y) = sum_r f_r(x) * g_r(y) *)

Section FiniteRank.

Variables (g : geometry) (R : comRingType) (T U : Type) (n : nat).
Variables (d : T -> U -> R) (f_ : 'I_n -> T -> R) (g_ : 'I_n -> U -> R).

Hypothesis expansion : forall a b, d a b = \sum_(r < n) f_ r a * g_ r b.

(** If d(x, y) = sum_(r < n) f_r(x) g_r(y) then sum d(p, k) = sum_(r < n) f_r(p) * g_r(k), where
    * is cross-correlation: n of them, at every window, stride and dilation.
    Put the expansion under the sum over the taps and exchange the two sums. *)
Theorem finite_rank (p : image g T) (k : template g U) y x :
  window_sum d p k y x
  = \sum_(r < n) cross_correlation (map_image (f_ r) p) (map_template (g_ r) k) y x.
Proof.
rewrite window_sumE; under [RHS]eq_bigr => r _ do rewrite cross_correlationE.
by rewrite exchange_big; apply: eq_bigr => t _; rewrite expansion.
Qed.

(** With weights: sum w*d(p, k) = sum_r f_r(p) * (w g_r(k)); the weights go with the template. *)
Theorem finite_rank_weighted w (p : image g T) (k : template g U) y x :
  weighted_sum d w p k y x
  = \sum_(r < n) cross_correlation (map_image (f_ r) p)
                                   (fun c i j => w c i j * g_ r (k c i j)) y x.
Proof.
rewrite weighted_sumE; under [RHS]eq_bigr => r _ do rewrite cross_correlationE.
rewrite exchange_big; apply: eq_bigr => t _; rewrite expansion mulr_sumr.
by apply: eq_bigr => r _; rewrite mulrCA.
Qed.

(** With padding and overhang: the H x W image a is completed with z (the code's 0) on all sides
    BEFORE f_r is applied, so that the r-th correlation meets f_r(z) outside of the image; where
    f_r(z) is not 0 (a threshold, a cosine, a centred square) padding f_r(image) with 0 is wrong. *)
Theorem finite_rank_padded (z : T) H W top left (a : 'I_(channels g) -> 'I_H -> 'I_W -> T)
    (k : template g U) y x :
  window_sum d (extend z top left a) k y x
  = \sum_(r < n) cross_correlation (extend (f_ r z) top left (fun c i j => f_ r (a c i j)))
                                   (map_template (g_ r) k) y x.
Proof.
rewrite finite_rank; apply: eq_bigr => r _; rewrite !cross_correlationE.
by apply: eq_bigr => t _; congr (_ * _); apply: map_extend.
Qed.

End FiniteRank.

Section ConstantFactors.

Variables (g : geometry) (R : comRingType) (T U : Type).

(** A term whose factor g_r is the constant b costs a box sum, no correlation. *)
Theorem constant_g (f : T -> R) (b : R) (p : image g T) (k : template g U) y x :
  cross_correlation (map_image f p) (map_template (fun _ => b) k) y x = box_sum f p y x * b.
Proof. by rewrite cross_correlationE box_sumE mulr_suml. Qed.

(** A term whose factor f_r is the constant a is one number per template. *)
Theorem constant_f (a : R) (h : U -> R) (p : image g T) (k : template g U) y x :
  cross_correlation (map_image (fun _ => a) p) (map_template h k) y x
  = a * template_sum (map_template h k).
Proof. by rewrite cross_correlationE template_sumE mulr_sumr. Qed.

End ConstantFactors.

(** ** Cauchy-Schwarz *)

Section Lagrange.

Variables (R : comRingType) (T : finType).
Add Ring R_ring : (comring_theory R).

(** Lagrange's identity:
    2 (sum w*a^2 * sum w*b^2 - (sum w*a*b)^2) = sum_(s, t) w_s w_t (a_s b_t - a_t b_s)^2. *)
Lemma lagrange (w a b : T -> R) :
  2%:R * ((\sum_t w t * a t ^+ 2) * (\sum_t w t * b t ^+ 2) - (\sum_t w t * (a t * b t)) ^+ 2)
  = \sum_s \sum_t w s * w t * (a s * b t - a t * b s) ^+ 2.
Proof.
have prod f1 f2 : (\sum_s f1 s) * (\sum_t f2 t) = \sum_(s : T) \sum_(t : T) f1 s * f2 t :> R.
  by rewrite mulr_suml; apply: eq_bigr => s _; rewrite mulr_sumr.
transitivity ((\sum_t w t * a t ^+ 2) * (\sum_t w t * b t ^+ 2)
  + (\sum_t w t * b t ^+ 2) * (\sum_t w t * a t ^+ 2)
  - 2%:R * ((\sum_t w t * (a t * b t)) * (\sum_t w t * (a t * b t)))); first by comring R.
rewrite !prod mulr_sumr -sumrN -!big_split /=; apply: eq_bigr => s _.
rewrite mulr_sumr -sumrN -!big_split /=; apply: eq_bigr => t _.
by comring R.
Qed.

End Lagrange.

(** (sum w*a*b)^2 <= (sum w*a^2) (sum w*b^2) for weights w >= 0.
    By Lagrange's identity twice the difference is a sum of squares with weights >= 0. *)
Theorem cauchy_schwarz (R : realDomainType) (T : finType) (w a b : T -> R) :
  (forall t, 0 <= w t) ->
  (\sum_t w t * (a t * b t)) ^+ 2 <= (\sum_t w t * a t ^+ 2) * (\sum_t w t * b t ^+ 2).
Proof.
move=> w_ge0; rewrite -subr_ge0 -(@pmulr_rge0 _ 2%:R) ?ltr0n // lagrange.
apply: sumr_ge0 => s _; apply: sumr_ge0 => t _.
by rewrite mulr_ge0 ?sqr_ge0 // mulr_ge0.
Qed.

(** ** Correlation coefficients and SSIM, as usually defined by centred sums *)

Section Statistics.

Variables (F : realFieldType) (T : finType).
Implicit Types (w a b : T -> F).

Definition total_weight w : F := \sum_t w t.
Definition mean w a : F := (\sum_t w t * a t) / total_weight w.
Definition covariance w a b : F :=
  (\sum_t w t * ((a t - mean w a) * (b t - mean w b))) / total_weight w.
Definition variance w a : F := covariance w a a.

(** Global structural similarity with stabilising constants c1 and c2. *)
Definition ssim (c1 c2 : F) w a b : F :=
  ((2%:R * mean w a * mean w b + c1) * (2%:R * covariance w a b + c2))
  / ((mean w a ^+ 2 + mean w b ^+ 2 + c1) * (variance w a + variance w b + c2)).

Add Ring F_ring : (comring_theory F).

(** cov(a, b) = (W sum w*a*b - sum w*a * sum w*b) / W^2 with W = sum w. *)
Lemma covarianceE w a b : total_weight w != 0 ->
  covariance w a b
  = (total_weight w * (\sum_t w t * (a t * b t)) - (\sum_t w t * a t) * (\sum_t w t * b t))
    / total_weight w ^+ 2.
Proof.
move=> W_neq0; rewrite /covariance.
have -> : \sum_t w t * ((a t - mean w a) * (b t - mean w b))
        = \sum_t w t * (a t * b t) - mean w b * (\sum_t w t * a t)
          - mean w a * (\sum_t w t * b t) + mean w a * mean w b * total_weight w.
  rewrite !mulr_sumr -!sumrN -!big_split /=; apply: eq_bigr => t _; comring F.
rewrite {}/mean; move: (total_weight w) W_neq0 (\sum_t _) (\sum_t w t * a t) (\sum_t w t * b t).
move=> W W_neq0 Sab Sa Sb; apply: (mulIf (expf_neq0 2 W_neq0)); rewrite divfK ?expf_neq0 //.
transitivity (W * Sab * (W^-1 * W) - Sa * Sb * (W^-1 * W) * (W^-1 * W) * 2%:R
              + Sa * Sb * (W^-1 * W) ^+ 3); first by comring F.
by rewrite mulVf //; comring F.
Qed.

Lemma variance_ge0 w a : (forall t, 0 <= w t) -> 0 <= variance w a.
Proof.
move=> w_ge0; rewrite /variance /covariance divr_ge0 ?sumr_ge0 // => t _.
by rewrite mulr_ge0 // -expr2 sqr_ge0.
Qed.

(** cov^2 <= var * var. *)
Lemma covariance_sqr w a b : (forall t, 0 <= w t) ->
  covariance w a b ^+ 2 <= variance w a * variance w b.
Proof.
move=> w_ge0; rewrite /variance /covariance exprMn [X in _ <= X]mulrACA -[X in _ <= _ * X]expr2.
rewrite ler_wpmul2r ?sqr_ge0 //.
exact: (@cauchy_schwarz _ _ w (fun t => a t - mean w a) (fun t => b t - mean w b)).
Qed.

(** 2 |u| <= v + v' when u^2 <= v v' and v, v' >= 0: the geometric mean is at most the
    arithmetic one. *)
Lemma twice_le_add (u v v' : F) : 0 <= v -> 0 <= v' -> u ^+ 2 <= v * v' -> 2%:R * `|u| <= v + v'.
Proof.
move=> v_ge0 v'_ge0 le_uvv'.
rewrite -(@ler_pexpn2r _ 2) // ?nnegrE ?addr_ge0 ?mulr_ge0 ?ler0n //.
rewrite exprMn real_normK ?num_real //.
apply: (@le_trans _ _ (4%:R * (v * v'))).
  by rewrite expr2 -natrM ler_pmul2l // ltr0n.
rewrite -subr_ge0; have -> : (v + v') ^+ 2 - 4%:R * (v * v') = (v - v') ^+ 2 by comring F.
exact: sqr_ge0.
Qed.

(** |SSIM| <= 1 for weights, c1 and c2 >= 0 (a quotient by 0 counting as 0).
    2|m m'| <= m^2 + m'^2 and, by Cauchy-Schwarz, 2|cov| <= var + var'; so each factor of the
    numerator is at most the factor below it. *)
Theorem ssim_le1 c1 c2 w a b : (forall t, 0 <= w t) -> 0 <= c1 -> 0 <= c2 ->
  `|ssim c1 c2 w a b| <= 1.
Proof.
move=> w_ge0 c1_ge0 c2_ge0; rewrite /ssim.
set l := _ + c1; set s := _ + c2; set l' := _ + c1; set s' := _ + c2.
have le_l : `|l| <= l'.
  rewrite (le_trans (ler_norm_add _ _)) // (ger0_norm c1_ge0) ler_add2r -mulrA normrM.
  rewrite (ger0_norm (ler0n _ 2)); apply: twice_le_add; rewrite ?sqr_ge0 //.
  by rewrite exprMn.
have le_s : `|s| <= s'.
  rewrite (le_trans (ler_norm_add _ _)) // (ger0_norm c2_ge0) ler_add2r normrM.
  rewrite (ger0_norm (ler0n _ 2)); apply: twice_le_add; rewrite ?variance_ge0 //.
  exact: covariance_sqr.
have l'_ge0 := le_trans (normr_ge0 _) le_l; have s'_ge0 := le_trans (normr_ge0 _) le_s.
rewrite normrM normfV (ger0_norm (mulr_ge0 l'_ge0 s'_ge0)) normrM.
have [-> | ls_neq0] := eqVneq (l' * s') 0; first by rewrite invr0 mulr0 ler01.
rewrite ler_pdivr_mulr ?mul1r ?ler_pmul //.
by rewrite lt0r ls_neq0 mulr_ge0.
Qed.

End Statistics.

Section Coefficients.

Variables (F : rcfType) (T : finType).
Implicit Types (w a b : T -> F).

(** Normalised cross-correlation, cosine of the angle between a and b. *)
Definition ncc w a b : F :=
  (\sum_t w t * (a t * b t))
  / (Num.sqrt (\sum_t w t * a t ^+ 2) * Num.sqrt (\sum_t w t * b t ^+ 2)).

(** Zero-mean normalised cross-correlation, Pearson's coefficient. *)
Definition zncc w a b : F :=
  covariance w a b / (Num.sqrt (variance w a) * Num.sqrt (variance w b)).

Lemma quotient_le1 (u v v' : F) : 0 <= v -> 0 <= v' -> u ^+ 2 <= v * v' ->
  `|u / (Num.sqrt v * Num.sqrt v')| <= 1.
Proof.
move=> v_ge0 v'_ge0 le_uvv'; rewrite -sqrtrM // normrM normfV (ger0_norm (sqrtr_ge0 _)).
have [-> | s_neq0] := eqVneq (Num.sqrt (v * v')) 0; first by rewrite invr0 mulr0 ler01.
by rewrite ler_pdivr_mulr ?lt0r ?s_neq0 ?sqrtr_ge0 // mul1r -sqrtr_sqr ler_wsqrtr.
Qed.

(** |NCC| <= 1, by Cauchy-Schwarz (a quotient by 0 counting as 0). *)
Theorem ncc_le1 w a b : (forall t, 0 <= w t) -> `|ncc w a b| <= 1.
Proof.
move=> w_ge0; apply: quotient_le1; last exact: cauchy_schwarz.
  by apply: sumr_ge0 => t _; rewrite mulr_ge0 ?sqr_ge0.
by apply: sumr_ge0 => t _; rewrite mulr_ge0 ?sqr_ge0.
Qed.

(** |ZNCC| <= 1, by Cauchy-Schwarz for the centred values. *)
Theorem zncc_le1 w a b : (forall t, 0 <= w t) -> `|zncc w a b| <= 1.
Proof.
by move=> w_ge0; apply: quotient_le1; rewrite ?variance_ge0 ?covariance_sqr.
Qed.

End Coefficients.

(** ** The same from window sums *)

Section FromWindowSums.

Variables (g : geometry) (F : rcfType).
Variables (w : template g F) (p : image g F) (k : template g F) (y x : int).
Add Ring F_ring : (comring_theory F).

Let product (u v : template g F) : template g F := fun c i j => u c i j * v c i j.

(** The weighted sums, of which Sp, Spp and Spk are cross-correlations. *)
Let W := template_sum w.
Let Sp := cross_correlation p w y x.
Let Spp := cross_correlation (map_image (fun a => a ^+ 2) p) w y x.
Let Spk := cross_correlation p (product w k) y x.
Let Sk := template_sum (product w k).
Let Skk := template_sum (product w (map_template (fun b => b ^+ 2) k)).

Lemma total_entry : total_weight (entry w) = W.
Proof. by rewrite /W template_sumE. Qed.
Lemma SpE : \sum_t entry w t * pixel p y x t = Sp.
Proof. by rewrite /Sp cross_correlationE; apply: eq_bigr => t _; rewrite mulrC. Qed.
Lemma SppE : \sum_t entry w t * pixel p y x t ^+ 2 = Spp.
Proof. by rewrite /Spp cross_correlationE; apply: eq_bigr => t _; rewrite mulrC. Qed.
Lemma SpkE : \sum_t entry w t * (pixel p y x t * entry k t) = Spk.
Proof. by rewrite /Spk cross_correlationE; apply: eq_bigr => t _; rewrite mulrCA. Qed.
Lemma SkE : \sum_t entry w t * entry k t = Sk.
Proof. by rewrite /Sk template_sumE. Qed.
Lemma SkkE : \sum_t entry w t * entry k t ^+ 2 = Skk.
Proof. by rewrite /Skk template_sumE. Qed.

Definition sumsE := (total_entry, SpE, SppE, SpkE, SkE, SkkE).

(** NCC of template and window = Spk / (sqrt Spp sqrt Skk). *)
Theorem ncc_sums :
  ncc (entry w) (pixel p y x) (entry k) = Spk / (Num.sqrt Spp * Num.sqrt Skk).
Proof. by rewrite /ncc !sumsE. Qed.

(** ZNCC = (W Spk - Sp Sk) / (sqrt(W Spp - Sp^2) sqrt(W Skk - Sk^2)), where W = sum w.
    Multiplying out the centred sums leaves the raw ones; the factors W cancel. *)
Theorem zncc_sums : 0 < W ->
  zncc (entry w) (pixel p y x) (entry k)
  = (W * Spk - Sp * Sk) / (Num.sqrt (W * Spp - Sp ^+ 2) * Num.sqrt (W * Skk - Sk ^+ 2)).
Proof.
move=> W_gt0; have W_neq0 := lt0r_neq0 W_gt0; have W2_gt0 : 0 < W ^+ 2 by rewrite exprn_gt0.
rewrite /zncc /variance !covarianceE ?total_entry // -!expr2 !sumsE.
have root (v : F) : Num.sqrt (v / W ^+ 2) = Num.sqrt v / W.
  rewrite -{1}(invrK (W ^+ 2)) invrK -exprVn mulrC sqrtrM ?sqr_ge0 // sqrtr_sqr ger0_norm.
    by rewrite mulrC.
  by rewrite invr_ge0 ltW.
rewrite !root mulf_div -expr2 invf_div mulrA divfK ?expf_neq0 //.
Qed.

(** SSIM = (2 Sp Sk + W^2 c1) (2 (W Spk - Sp Sk) + W^2 c2)
           / ((Sp^2 + Sk^2 + W^2 c1) (W Spp - Sp^2 + W Skk - Sk^2 + W^2 c2)).
    Every mean and covariance is a quotient of raw sums; numerator and denominator times W^4. *)
Theorem ssim_sums c1 c2 : W != 0 ->
  ssim c1 c2 (entry w) (pixel p y x) (entry k)
  = ((2%:R * Sp * Sk + W ^+ 2 * c1) * (2%:R * (W * Spk - Sp * Sk) + W ^+ 2 * c2))
    / ((Sp ^+ 2 + Sk ^+ 2 + W ^+ 2 * c1)
       * ((W * Spp - Sp ^+ 2) + (W * Skk - Sk ^+ 2) + W ^+ 2 * c2)).
Proof.
move=> W_neq0; rewrite /ssim /variance !covarianceE ?total_entry // -!expr2 /mean !sumsE.
have over (u v c : F) : u / W ^+ 2 + c = (u + W ^+ 2 * c) / W ^+ 2.
  by rewrite mulrDl mulrAC divff ?mul1r // expf_neq0.
have -> : 2%:R * (Sp / W) * (Sk / W) = (2%:R * Sp * Sk) / W ^+ 2.
  by rewrite -exprVn; comring F.
rewrite !expr_div_n -!mulrDl (mulrA 2%:R) !over // mulf_div mulf_div invf_div mulrA divfK //.
by rewrite mulf_neq0 // expf_neq0.
Qed.

End FromWindowSums.

(** Without weights, the five sums are two box sums, one cross-correlation and two numbers:
    ZNCC = (n Spk - Sp Sk) / (sqrt(n Spp - Sp^2) sqrt(n Skk - Sk^2)), n the number of taps. *)
Theorem zncc_sums_plain (g : geometry) (F : rcfType) (p : image g F) (k : template g F) y x :
  let n := (taps g)%:R in
  let Sp := box_sum id p y x in
  let Spp := box_sum (fun a => a ^+ 2) p y x in
  let Spk := cross_correlation p k y x in
  let Sk := template_sum k in
  let Skk := template_sum (map_template (fun b => b ^+ 2) k) in
  (0 < taps g)%N ->
  zncc (fun _ => 1) (pixel p y x) (entry k)
  = (n * Spk - Sp * Sk) / (Num.sqrt (n * Spp - Sp ^+ 2) * Num.sqrt (n * Skk - Sk ^+ 2)).
Proof.
move=> n Sp Spp Spk Sk Skk taps_gt0; pose w : template g F := fun _ _ _ => 1.
have nE : template_sum w = n.
  by rewrite template_sumE sumr_const card_tap.
have SpE' : cross_correlation p w y x = Sp by exact: (cross_correlation1 id).
have SppE' : cross_correlation (map_image (fun a => a ^+ 2) p) w y x = Spp.
  exact: cross_correlation1.
have SpkE' : cross_correlation p (fun c i j => w c i j * k c i j) y x = Spk.
  by rewrite /Spk !cross_correlationE; apply: eq_bigr => t _; rewrite /entry mul1r.
have SkE' : template_sum (fun c i j => w c i j * k c i j) = Sk.
  by rewrite /Sk !template_sumE; apply: eq_bigr => t _; rewrite /entry mul1r.
have SkkE' : template_sum (fun c i j => w c i j * k c i j ^+ 2) = Skk.
  by rewrite /Skk !template_sumE; apply: eq_bigr => t _; rewrite /entry mul1r.
rewrite -SpE' -SppE' -SpkE' -SkE' -SkkE' -nE; apply: zncc_sums.
by rewrite nE ltr0n.
Qed.

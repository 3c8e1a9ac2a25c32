"""Named norms: reference x statistics x operation as the literature combines them, and ``norm`` for any other three.

A gain and a bias behind the norm (``affine``) are off unless asked for, as in the work on sign-concordant feedback.
"""

from __future__ import annotations

from typing import Any, Literal

from bioplaus.construct import make
from bioplaus.errors import UserError
from bioplaus.norms.composed import Normalization, Sparse, composed
from bioplaus.norms.operation import Divisive, GenerativeDivisive, Standardize
from bioplaus.norms.reference import Border, Neighbours, ba1, ba6, sp1, sp2
from bioplaus.norms.stats import Batch, Centre, Sample, Streaming


def norm(
    ref: Any = None, stats: Any = None, op: Any = "standardize", affine: bool = False, l1: float = 0.0
) -> Normalization:
    """Any reference x statistics x operation, each a name or {recipe: name, parameter: value}.

    Without ``ref`` it is BA1, or the windows of an operation that has its own. Without ``stats`` a reference over
    samples has the memory ``batch``, one within a sample ``sample``. ``affine`` learns a gain and a bias; ``l1`` is the
    price on mean |x - mean|, per layer.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, section "General normalization".
    """
    try:
        chosen_op = make("norm_op", op, "op", allow_code=True)
        chosen_ref = make("norm_ref", "BA1" if ref is None else ref, "ref", allow_code=True)
        if ref is not None and chosen_op.references(chosen_ref)[0] is not chosen_ref:
            raise ValueError(f"ref is {ref!r}, but op has windows of its own; leave one of them out")
        over_samples = chosen_op.references(chosen_ref)[0].over_samples
        given = ("batch" if over_samples else "sample") if stats is None else stats
        return composed(chosen_ref, make("norm_stats", given, "stats", allow_code=True), chosen_op, affine, l1)
    except UserError as error:  # said again with the place in the file
        raise ValueError(str(error)) from None


def batch(affine: bool = False, collect: int = 20, ema: float = 0.05, eps: float = 1e-5) -> Normalization:
    """Batch normalization; in recurrent networks with statistics of each time step.

    Source: Ioffe & Szegedy (2015); test statistics as Liao, Leibo & Poggio (2016).
    """
    return composed(ba1(), Batch(eps=eps, collect=collect, ema=ema), Standardize(), affine)


def batch_time_specific(affine: bool = False, collect: int = 20, ema: float = 0.05, eps: float = 1e-5) -> Normalization:
    """Batch normalization with statistics of each time step: what ``batch`` does, said aloud.

    Source: Liao & Poggio (2016), Bridging the gaps between residual learning, recurrent neural networks and visual
    cortex; Liao (2017), ch. 3.
    """
    return batch(affine, collect, ema, eps)


def batch_shared(affine: bool = False, collect: int = 20, ema: float = 0.05, eps: float = 1e-5) -> Normalization:
    """Batch normalization whose test statistics all time steps share: a control, which should fail in testing.

    Source: Liao & Poggio (2016), Bridging the gaps; Liao (2017), ch. 3 and figure 4-9.
    """
    return composed(ba1(), Batch(eps=eps, collect=collect, ema=ema, shared=True), Standardize(), affine)


def lp(p: float = 1.0, affine: bool = False, centre: Centre = "A", eps: float = 1e-5) -> Normalization:
    """Batch normalization with the Lp deviation (mean |x - c|^p)^(1/p); p = 1 takes no powers and no roots.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, section "Lp normalization".
    """
    return composed(ba1(), Batch(p, centre, eps), Standardize(), affine)


def neuronwise(affine: bool = False, collect: int = 20, ema: float = 0.05, eps: float = 1e-5) -> Normalization:
    """Batch statistics of every neuron by itself, places too (BA6).

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figures 2 and A1.
    """
    return composed(ba6(), Batch(eps=eps, collect=collect, ema=ema), Standardize(), affine)


def layer(affine: bool = False, eps: float = 1e-5) -> Normalization:
    """Layer normalization: over all units of a sample (SP1).

    Source: Ba, Kiros & Hinton (2016).
    """
    return composed(sp1(), Sample(eps=eps), Standardize(), affine)


def instance(affine: bool = False, eps: float = 1e-5) -> Normalization:
    """Instance normalization: over the places of each channel of a sample (SP2); maps only.

    Source: Ulyanov, Vedaldi & Lempitsky (2016).
    """
    return composed(sp2(), Sample(eps=eps), Standardize(), affine)


def streaming(
    p: float = 2.0,
    centre: Centre = "A",
    alpha: tuple[float, float] = (0.5, 0.5),
    beta: tuple[float, float, float] = (0.5, 0.5, 0.0),
    kappa: tuple[float, float] | None = None,
    error_kappa: tuple[float, float] | None = None,
    gradient: Literal["straight", "chain"] = "straight",
    per_visit: bool = False,
    affine: bool = False,
    eps: float = 1e-5,
) -> Normalization:
    """Streaming normalization per channel (BA1): long and short running averages, forward and back.

    The defaults are those of figures 4-6 and 4-7; ``bioplaus show norm_stats streaming`` says what each number is.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization; Liao (2017), ch. 4.
    """
    memory = Streaming(p, centre, eps, alpha, beta, kappa, error_kappa, gradient, per_visit)
    return composed(ba1(), memory, Standardize(), affine)


def streaming_l1(
    alpha: tuple[float, float] = (0.7, 0.3),
    beta: tuple[float, float, float] = (0.7, 0.3, 0.0),
    kappa: tuple[float, float] | None = None,
    per_visit: bool = False,
    affine: bool = False,
    eps: float = 1e-5,
) -> Normalization:
    """Streaming L1 normalization (p = 1, setting B): also for learning online, one sample at a time.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, the setting of its online experiments; Liao
    (2017), figure 4-5.
    """
    return streaming(1.0, "B", alpha, beta, kappa, per_visit=per_visit, affine=affine, eps=eps)


def batch_s(sigma: float = 1.0, affine: bool = True) -> Normalization:
    """Batch normalization with a constant sigma: y = v / sqrt(sigma^2 + mean v^2).

    Source: Ren, Liao, Urtasun, Sinz & Zemel (2017), BN-s; NINAI report (2017), eq. 10 to 12.
    """
    return composed(ba1(), Batch(eps=_squared(sigma)), Standardize(), affine)


def batch_star(sigma: float = 1.0, l1: float = 0.005, affine: bool = True) -> Normalization:
    """Batch normalization with a constant sigma and a price on centred activity.

    Source: Ren, Liao, Urtasun, Sinz & Zemel (2017), BN*; NINAI report (2017), eq. 13.
    """
    return composed(ba1(), Batch(eps=_squared(sigma)), Standardize(), affine, l1)


def layer_s(sigma: float = 1.0, affine: bool = False) -> Normalization:
    """Layer normalization with a constant sigma.

    Source: Ren, Liao, Urtasun, Sinz & Zemel (2017), LN-s; NINAI report (2017), eq. 10 to 12.
    """
    return composed(sp1(), Sample(eps=_squared(sigma)), Standardize(), affine)


def layer_star(sigma: float = 0.5, l1: float = 0.005, affine: bool = False) -> Normalization:
    """Layer normalization with a constant sigma and a price on centred activity.

    Source: Ren, Liao, Urtasun, Sinz & Zemel (2017), LN*; NINAI report (2017), eq. 13.
    """
    return composed(sp1(), Sample(eps=_squared(sigma)), Standardize(), affine, l1)


def divisive(
    window: int | None = None,
    suppression: int | None = None,
    sigma: float = 1.0,
    learn: bool = False,
    border: Border = "zero",
    affine: bool = False,
    l1: float = 0.0,
) -> Normalization:
    """Divisive normalization by the activity around each unit, over all channels of the sample.

    ``window`` is where the mean is taken (where left out 5, or the widest that fits), ``suppression`` where the power
    is (as ``window`` where left out): boxes in space; in dense layers a stretch of unit indices. ``sigma`` is fixed, or
    learned from there.

    Source: Ren, Liao, Urtasun, Sinz & Zemel (2017), DN; NINAI report (2017), eq. 10 to 12.
    """
    ref, op = Neighbours(window, border), Divisive(sigma, None, suppression, border, learn=learn)
    return composed(ref, Sample(eps=0.0 if op.bounded else 1e-5), op, affine, l1)


def divisive_star(
    window: int | None = None,
    suppression: int | None = None,
    sigma: float = 0.5,
    l1: float = 0.005,
    learn: bool = False,
    border: Border = "zero",
    affine: bool = False,
) -> Normalization:
    """Divisive normalization with a price on centred activity.

    Source: Ren, Liao, Urtasun, Sinz & Zemel (2017), DN*; NINAI report (2017), eq. 13.
    """
    return divisive(window, suppression, sigma, learn, border, affine, l1)


def drmm_divisive(window: int | None = None, alpha: float = 1.0, sigma: float = 0.5, b: float = 0.0) -> Normalization:
    """Divisive normalization as in the deep rendering mixture model: alpha, sigma and b learned, one of each per layer.

    ``window`` is the size of the layer's filters; where left out 5, or the widest that fits.

    Source: NINAI report (2017), divisive normalization in the DRMM.
    """
    return composed(Neighbours(window), Sample(eps=0.0), GenerativeDivisive(window, alpha, sigma, b))


def l1(l1: float = 0.01) -> Sparse:
    """No normalization, but a price on mean |n|: the control of the star models.

    Source: Ren, Liao, Urtasun, Sinz & Zemel (2017), the baseline with L1; NINAI report (2017), eq. 13 with v = z.
    """
    return Sparse(l1)


def _squared(sigma: float) -> float:
    if not sigma > 0.0:
        raise ValueError(f"sigma is {sigma}; wanted a number above 0")
    return sigma * sigma

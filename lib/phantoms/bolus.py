"""A bolus of contrast: the artery's curve and what a tissue makes of it.

Indicator dilution as in Fieselmann et al. 2011 (doi 10.1155/2011/467563): concentration is measured in HU of
enhancement, to which iodine is proportional.
"""

from typing import NamedTuple

import numpy as np
from scipy.signal import fftconvolve
from scipy.special import gamma

DENSITY = 1.05  # of brain, g/ml
RESIDUES = ("exponential", "box", "linear")


class Bolus(NamedTuple):
    """A gamma-variate arterial curve; the defaults lie in the middle of what scanners show."""

    peak: float = 300.0  # HU above the baseline
    arrival: float = 5.0  # s
    a: float = 5.5  # shape; the peak comes a * b seconds after the arrival
    b: float = 1.5  # s, of the wash-out

    @property
    def area(self) -> float:
        """Area under the curve, HU s: peak b e^a a^-a Gamma(a + 1)."""
        return self.peak * self.b * np.exp(self.a) * self.a**-self.a * gamma(self.a + 1)


class Tissue(NamedTuple):
    """What flows through a tissue, and what it weighs in HU before the contrast comes."""

    cbf: float  # ml/100 g/min
    mtt: float  # s
    delay: float  # s after the artery
    baseline: float  # HU

    @property
    def cbv(self) -> float:
        """Blood volume, ml/100 g."""
        return self.cbf * self.mtt / 60


# typical textbook values, not measurements of one source
TISSUES = {
    "grey": Tissue(60, 4.0, 0.0, 37),
    "white": Tissue(25, 4.8, 0.5, 29),
    "oligaemia": Tissue(35, 6.0, 2.0, 37),
    "penumbra": Tissue(18, 10.0, 5.0, 37),
    "core": Tissue(5, 12.0, 7.0, 35),
}


def arterial(
    seconds: np.ndarray, peak: float = 300.0, arrival: float = 5.0, a: float = 5.5, b: float = 1.5
) -> np.ndarray:
    """Gamma-variate curve of an artery.

    Parameters
    ----------
    seconds : float array
        Times, of any shape and order.
    peak : float
        HU above the baseline, reached at arrival + a b.
    arrival : float
        s; zero until then.
    a, b : float
        Shape and scale (s), above 0.

    Returns
    -------
    float array shaped as `seconds`
        HU above the baseline.
    """
    if a <= 0 or b <= 0:
        raise ValueError(f"a gamma-variate curve needs a and b above 0, got a = {a} and b = {b}")
    since = np.maximum(np.asarray(seconds, dtype=float) - arrival, 0) / (a * b)
    return peak * since**a * np.exp(a * (1 - since))


def residue(seconds: np.ndarray, mtt: float | np.ndarray, shape: str = "exponential") -> np.ndarray:
    """Share of the contrast still in the tissue so long after it came in; its integral is `mtt`.

    Parameters
    ----------
    seconds : float array
    mtt : float or array that broadcasts against `seconds`
        Mean transit time, s, above 0.
    shape : "exponential" | "box" | "linear"
        exp(-t/mtt); 1 until mtt; 1 - t/(2 mtt) until 2 mtt.

    Returns
    -------
    float array
        1 at 0 s, 0 before.
    """
    seconds, mtt = np.asarray(seconds, dtype=float), _transit(mtt)
    after = np.maximum(seconds, 0) / mtt
    share = {
        "exponential": lambda: np.exp(-after),
        "box": lambda: (after < 1).astype(float),
        "linear": lambda: np.maximum(1 - after / 2, 0),
    }[_known(shape)]()
    return np.where(seconds < 0, 0.0, share)


def tissue_curve(
    seconds: np.ndarray,
    cbf: float | np.ndarray,
    mtt: float | np.ndarray,
    delay: float | np.ndarray = 0.0,
    shape: str = "exponential",
    bolus: Bolus | None = None,
    step: float = 0.05,
) -> np.ndarray:
    """Enhancement of tissues: density CBF (arterial curve convolved with the residue), delayed.

    Parameters
    ----------
    seconds : float array (frames,)
        When the scanner looks; need not be regular.
    cbf, mtt, delay : float or arrays that broadcast against each other, of shape S
        ml/100 g/min, s, s. A tissue without flow has cbf 0.
    shape : one of `RESIDUES`
    bolus : Bolus, optional
        The artery; `Bolus()` by default.
    step : float
        s, of the integration. Each step carries the residue's integral over it, so that areas are exact.

    Returns
    -------
    float array (frames, *S)
        HU above the baseline.

    Raises
    ------
    ValueError
        Negative flow, a transit time not above 0, an unknown residue.
    """
    bolus = Bolus() if bolus is None else bolus
    cbf, mtt, delay = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in (cbf, mtt, delay)))
    if (cbf < 0).any():
        raise ValueError(f"blood flow cannot be negative, got {cbf.min()} ml/100 g/min")
    transit = _transit(mtt).reshape(-1, 1)
    since = np.subtract.outer(np.asarray(seconds, dtype=float) - bolus.arrival, delay.ravel())
    fine = np.arange(0, max(float(since.max(initial=0.0)), 0.0) + 2 * step, step)
    artery = arterial(fine, bolus.peak, 0.0, bolus.a, bolus.b)
    edges = np.append(0.0, fine + step / 2)
    weights = np.diff(_residue_integral(edges, transit, shape), axis=1)
    held = fftconvolve(artery[None], weights, axes=1)[:, : len(fine)]
    curves = [np.interp(when, fine, curve, left=0.0) for when, curve in zip(since.T, held, strict=True)]
    flow = DENSITY * cbf / 6000
    return np.stack(curves, axis=1).reshape(len(since), *cbf.shape) * flow


def venous(
    seconds: np.ndarray, bolus: Bolus | None = None, transit: float = 4.0, delay: float = 2.0
) -> np.ndarray:
    """Curve of the vein that drains the brain: the artery's, later and wider, with the same area.

    Parameters
    ----------
    seconds : float array (frames,)
    bolus : Bolus, optional
    transit, delay : float
        s: mean of an exponential spread of transit times, and the time before it.

    Returns
    -------
    float array (frames,)
        HU above the baseline.
    """
    return tissue_curve(seconds, 6000 / (DENSITY * transit), transit, delay, bolus=bolus)


def _residue_integral(seconds: np.ndarray, mtt: np.ndarray, shape: str) -> np.ndarray:
    after = seconds / mtt
    return (
        mtt
        * {
            "exponential": lambda: -np.expm1(-after),
            "box": lambda: np.minimum(after, 1),
            "linear": lambda: np.where(after < 2, after - after**2 / 4, 1.0),
        }[_known(shape)]()
    )


def _transit(mtt: float | np.ndarray) -> np.ndarray:
    mtt = np.asarray(mtt, dtype=float)
    if not (mtt > 0).all():
        raise ValueError(f"a mean transit time must be above 0 s, got {mtt.min()}")
    return mtt


def _known(shape: str) -> str:
    if shape not in RESIDUES:
        raise ValueError(f"no residue function is called {shape!r}; there are {', '.join(RESIDUES)}")
    return shape

"""Tissue curves freed of the arterial curve that made them, by truncated singular values."""

import numpy as np
from scipy.linalg import circulant, svd, toeplitz

KINDS = ("circulant", "standard")


def residue(
    curves: np.ndarray, aif: np.ndarray, interval_s: float, lambda_: float = 0.1, how: str = "circulant"
) -> np.ndarray:
    """Flow-scaled residue function of each tissue curve: the k of curve = aif convolved with k.

    Parameters
    ----------
    curves : array (frames,) or (frames, n)
        Enhancement of tissue, HU above baseline.
    aif : array (frames,)
        Arterial enhancement, HU, at the same moments.
    interval_s : float
        Seconds between frames.
    lambda_ : float
        Singular values below this share of the largest are dropped, 0 to 1: larger is smoother, and CBF lower.
    how : "circulant" or "standard"
        Block-circulant: zero-padded to twice the frames, indifferent to tissue that lags or leads the artery.
        Standard: CBF falls with delay.

    Returns
    -------
    array (samples,) or (samples, n), float32
        1/s. Samples are `interval_s` apart; frames of them ("standard") or twice as many ("circulant"), the second
        half of which are negative times: see `sample_times`.

    Raises
    ------
    ValueError
        Lengths that differ, a curve that is not finite, an artery that does not enhance, `lambda_` outside [0, 1).

    References
    ----------
    Østergaard et al., doi 10.1002/mrm.1910360510; Wu et al., doi 10.1002/mrm.10522.
    """
    curves = np.asarray(curves, dtype=np.float32)
    if curves.ndim not in (1, 2) or len(curves) != np.size(aif):
        raise ValueError(
            f"curves of shape {curves.shape} and an arterial curve of {np.size(aif)} frames do not belong together: "
            "expected (frames, n) and (frames,)"
        )
    if not np.isfinite(curves).all():
        raise ValueError("tissue curves hold NaN or infinity: leave such voxels out of the mask")
    return inverse(aif, interval_s, lambda_, how) @ curves


def inverse(aif: np.ndarray, interval_s: float, lambda_: float = 0.1, how: str = "circulant") -> np.ndarray:
    """The matrix (samples, frames), float32, that turns a tissue curve into its residue; arguments as of `residue`."""
    aif = np.asarray(aif, dtype=np.float64)
    if aif.ndim != 1 or len(aif) < 2 or not np.isfinite(aif).all() or aif.max() <= 0:
        raise ValueError(
            f"the arterial curve (shape {aif.shape}) must be finite, at least 2 frames long, and rise above 0"
        )
    if not interval_s > 0 or not 0 <= lambda_ < 1:
        raise ValueError(f"interval_s {interval_s} must be above 0 and lambda_ {lambda_} within [0, 1)")
    if how == "circulant":
        # the singular values of a circulant matrix are the moduli of its column's Fourier transform
        transfer = np.fft.rfft(aif, 2 * len(aif)) * interval_s
        kept = _kept(np.abs(transfer), lambda_)
        column = np.fft.irfft(kept / np.where(kept, transfer, 1), 2 * len(aif))
        return circulant(column)[:, : len(aif)].astype(np.float32)
    if how == "standard":
        left, sizes, right = svd(toeplitz(aif, np.zeros_like(aif)) * interval_s)
        kept = _kept(sizes, lambda_)
        return (right.T @ (kept / np.where(kept, sizes, 1) * left).T).astype(np.float32)
    raise ValueError(f"deconvolution {how!r} is unknown: {' or '.join(KINDS)}")


def _kept(sizes: np.ndarray, lambda_: float) -> np.ndarray:
    """Which singular values stay; those of rounding alone never do."""
    return sizes >= max(lambda_, len(sizes) * np.finfo(float).eps) * sizes.max()


def sample_times(frames: int, interval_s: float, how: str = "circulant") -> np.ndarray:
    """Seconds after arterial arrival of each sample of `residue`; in the padded half tissue leads the artery (< 0)."""
    if how == "standard":
        return np.arange(frames) * interval_s
    number = np.arange(2 * frames)
    return np.where(number > frames, number - 2 * frames, number) * interval_s

"""Survival in discrete time: bins of follow-up, the negative log-likelihood of hazards, survival and risk.

A model gives one logit a bin; its sigmoid is the hazard, the chance to die in the bin when alive at its start.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

MARGIN = 1e-6  # so that the shortest and the longest follow-up lie inside the first and the last bin


def _vectors(time: ArrayLike, event: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    time, event = np.asarray(time, dtype=float), np.asarray(event)
    if time.ndim != 1 or time.shape != event.shape:
        raise ValueError(
            f"time has shape {time.shape}, event {event.shape}; two vectors of one length are needed"
        )
    _refuse_odd(time)
    if not np.isin(event, (0, 1)).all():
        raise ValueError(f"event must be 0 (censored) or 1 (event), found {np.unique(event)[:5].tolist()}")
    return time, event.astype(bool)


def _refuse_odd(time: np.ndarray) -> None:
    if bad := int((~np.isfinite(time) | (time < 0)).sum()):
        raise ValueError(f"{bad} of {time.size} times are negative, NaN or infinite")


def fit_bins(time: ArrayLike, event: ArrayLike, bins: int = 4) -> np.ndarray:
    """Edges of bins that hold about equally many events each: quantiles of the event times.

    Fit them on the training patients. CrossFusion and MCAT fit them on all patients, those of validation included.

    Parameters
    ----------
    time : array (n,)
        Follow-up of the training patients (or slides), 0 or longer.
    event : array (n,)
        1 died, 0 censored.
    bins : int
        How many.

    Returns
    -------
    float64 array (bins + 1,)
        Ascending. Bin k is [edges[k], edges[k + 1]), half-open to the right. The first edge is the shortest time
        less 1e-6, the last the longest plus 1e-6, censored patients included.

    Raises
    ------
    ValueError
        Too few distinct event times to fill every bin with one event, or unusable times and events.
    """
    time, event = _vectors(time, event)
    if bins < 2:
        raise ValueError(f"{bins} bins were asked for; two at least are needed")
    died = time[event]
    short = f"{np.unique(died).size} distinct event times of {died.size} events are too few for {bins} bins"
    if np.unique(died).size < bins:
        raise ValueError(f"{short}: ask for fewer bins or train on more patients")
    edges = np.quantile(died, np.linspace(0, 1, bins + 1))
    edges[0], edges[-1] = time.min() - MARGIN, time.max() + MARGIN
    if (np.diff(edges) <= 0).any() or not np.histogram(died, edges)[0].all():
        raise ValueError(
            f"{short}, so many share one time (edges {np.round(edges, 3).tolist()}): ask for fewer bins"
        )
    return edges


def bin_of(time: ArrayLike, edges: ArrayLike) -> np.ndarray:
    """Bin of each time: int64 (n,), 0 to bins - 1.

    Times before the first edge fall into the first bin, times behind the last edge into the last one: a tested
    patient may be followed for longer than any training patient.

    Raises
    ------
    ValueError
        Times that are negative, NaN or infinite, or edges that do not ascend.
    """
    time, edges = np.asarray(time, dtype=float), np.asarray(edges, dtype=float)
    if edges.ndim != 1 or edges.size < 3 or not (np.diff(edges) > 0).all():
        raise ValueError(f"edges must ascend and bound two bins at least, found {edges.tolist()}")
    _refuse_odd(time)
    return np.clip(np.searchsorted(edges, time, side="right") - 1, 0, edges.size - 2).astype(np.int64)


def survival_nll(
    hazard_logits: Tensor, bin: Tensor, event: Tensor, alpha: float = 0.0, clamp: float | None = None
) -> Tensor:
    """Negative log-likelihood of each patient's follow-up under the predicted hazards.

    With hazards h, S(k) the product of (1 - h) up to bin k, Y the patient's bin, and nothing before it S(-1) = 1:
    who died costs U = -log S(Y - 1) - log h(Y), who was censored costs K = -log S(Y); the loss is U + (1 - alpha) K.
    Zadeh and Schmid, IEEE TPAMI 43:3126 (2021), doi 10.1109/TPAMI.2020.2979450; alpha as in MCAT (ICCV 2021).

    Parameters
    ----------
    hazard_logits : float tensor (n, bins)
        Before the sigmoid.
    bin : integer tensor (n,)
        See `bin_of`.
    event : tensor (n,)
        1 died, 0 censored.
    alpha : float
        In [0, 1]; how much less censored patients weigh. CrossFusion trains with 0.2 and validates with 0.
    clamp : float, optional
        Take logarithms of probabilities no smaller than this, as the released code does with 1e-7: a confident
        model then gets no gradient. None takes them through log-sigmoid, which loses nothing.

    Returns
    -------
    float tensor (n,)
        Loss of each patient; the released code takes the mean over a batch.

    Raises
    ------
    ValueError
        Shapes that do not fit, a bin the logits do not have, an event other than 0 and 1, or alpha outside [0, 1].
    """
    n, bins = _checked_hazards(hazard_logits)
    if bin.shape != (n,) or event.shape != (n,):
        raise ValueError(f"{n} patients' logits need as many bins and events, got {bin.shape}, {event.shape}")
    if n and not 0 <= int(bin.min()) <= int(bin.max()) < bins:
        raise ValueError(f"bins must be 0 to {bins - 1}, found {int(bin.min())} to {int(bin.max())}")
    if not ((event == 0) | (event == 1)).all():
        raise ValueError("event must be 0 (censored) or 1 (died)")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], not {alpha}")
    if clamp is None:
        log_hazard = F.logsigmoid(hazard_logits)
        log_survival = F.logsigmoid(-hazard_logits).cumsum(1)
    else:
        log_hazard = hazard_logits.sigmoid().clamp(min=clamp).log()
        log_survival = survival_of(hazard_logits.sigmoid()).clamp(min=clamp).log()
    log_survival = F.pad(log_survival, (1, 0))  # S(-1) = 1 comes first, so that column Y is S(Y - 1)
    here = bin.long().unsqueeze(1)
    before, at, through = (
        each.squeeze(1)
        for each in (
            log_survival.gather(1, here),
            log_hazard.gather(1, here),
            log_survival.gather(1, here + 1),
        )
    )
    return torch.where(event.bool(), -(before + at), -(1 - alpha) * through)


def survival_of(hazards: Tensor) -> Tensor:
    """Chance to live through each bin: hazards (n, bins) in [0, 1] -> S (n, bins), falling from left to right.

    S of bin k is the survival probability at the bin's right edge, `edges[k + 1]` of `fit_bins`.
    """
    _checked_hazards(hazards)
    return (1 - hazards).cumprod(1)


def risk_of(hazards: Tensor) -> Tensor:
    """Risk -sum(S): hazards (n, bins) -> (n,), -bins to 0; higher = earlier death expected."""
    return -survival_of(hazards).sum(1)


def _checked_hazards(hazards: Tensor) -> tuple[int, int]:
    if hazards.ndim != 2:
        raise ValueError(f"hazards have shape {tuple(hazards.shape)}; (patients, bins) is needed")
    return hazards.shape[0], hazards.shape[1]

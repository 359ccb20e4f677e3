"""Survival in discrete time: bins with equally many deaths, the likelihood of hazards, survival and risk.

With hazards h in bins, S(k) the product of (1 - h) up to bin k, Y the patient's bin and S(-1) = 1: who died costs
U = -log S(Y - 1) - log h(Y), who was censored costs K = -log S(Y); the loss is U + (1 - alpha) K. Zadeh and Schmid,
IEEE TPAMI 43:3126 (2021), doi 10.1109/TPAMI.2020.2979450; alpha as in MCAT (ICCV 2021).
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

MARGIN = 1e-6  # so that the shortest and the longest follow-up lie inside the first and the last bin


def fit_bins(time: ArrayLike, event: ArrayLike, bins: int = 4) -> np.ndarray:
    """Edges of bins that hold about equally many events each: quantiles of the event times; where these coincide, as in
    whole months, the distinct event times nearest to equal shares that leave no bin without an event.

    Fit them on the training patients. CrossFusion and MCAT fit them on all patients, those of validation included.

    Parameters
    ----------
    time, event : arrays (n,)
        Follow-up, 0 or longer; 1 died, 0 censored.

    Returns
    -------
    float64 array (bins + 1,)
        Ascending. Bin k is [edges[k], edges[k + 1]). The first edge is the shortest time less 1e-6, the last the
        longest plus 1e-6, censored patients included.

    Raises
    ------
    ValueError
        Fewer distinct event times than bins, or a missing time.
    """
    time, event = np.asarray(time, dtype=float), np.asarray(event)
    died = time[event.astype(bool)]
    distinct, counts = np.unique(died, return_counts=True)
    if np.isnan(time).any() or distinct.size < bins:
        raise ValueError(
            f"{distinct.size} distinct event times of {died.size} events are too few for {bins} bins: "
            "ask for fewer bins or train on more patients"
        )
    outer = time.min() - MARGIN, time.max() + MARGIN
    edges = np.quantile(died, np.linspace(0, 1, bins + 1))
    edges[0], edges[-1] = outer
    if (np.diff(edges) > 0).all() and np.histogram(died, edges)[0].all():
        return edges
    before, cuts = np.cumsum(counts) - counts, [0]
    for cut in range(1, bins):
        open_to = np.arange(cuts[-1] + 1, distinct.size - bins + cut + 1)
        cuts.append(open_to[np.argmin(np.abs(before[open_to] - cut / bins * died.size))])
    return np.r_[outer[0], distinct[cuts[1:]], outer[1]]


def bin_of(time: ArrayLike, edges: ArrayLike) -> np.ndarray:
    """Bin of each time: int64 (n,), 0 to bins - 1.

    Times before the first edge fall into the first bin, times behind the last edge into the last one: a tested
    patient may be followed for longer than any training patient.
    """
    places = np.searchsorted(edges, np.asarray(time, dtype=float), side="right") - 1
    return np.clip(places, 0, len(edges) - 2).astype(np.int64)


def survival_nll(
    hazard_logits: Tensor, bin: Tensor, event: Tensor, alpha: float = 0.0, clamp: float | None = None
) -> Tensor:
    """Negative log-likelihood of each patient's follow-up under the predicted hazards.

    Parameters
    ----------
    hazard_logits : float tensor (n, bins)
        Before the sigmoid.
    bin, event : integer tensors (n,)
        See `bin_of`; 1 died, 0 censored.
    alpha : float
        In [0, 1]; how much less censored patients weigh. CrossFusion trains with 0.2 and validates with 0.
    clamp : float, optional
        Take logarithms of probabilities no smaller than this, as the released code does with 1e-7: a confident
        model then gets no gradient. None takes them through log-sigmoid, which loses nothing.

    Returns
    -------
    float tensor (n,)
        Loss of each patient; the released code takes the mean over a batch.
    """
    if clamp is None:
        log_hazard = F.logsigmoid(hazard_logits)
        log_survival = F.logsigmoid(-hazard_logits).cumsum(1)
    else:
        log_hazard = hazard_logits.sigmoid().clamp(min=clamp).log()
        log_survival = survival_of(hazard_logits.sigmoid()).clamp(min=clamp).log()
    log_survival = F.pad(log_survival, (1, 0))  # S(-1) = 1 comes first, so that column Y is S(Y - 1)
    here = bin.long().unsqueeze(1)
    before, at = log_survival.gather(1, here).squeeze(1), log_hazard.gather(1, here).squeeze(1)
    through = log_survival.gather(1, here + 1).squeeze(1)
    return torch.where(event.bool(), -(before + at), -(1 - alpha) * through)


def survival_cross_entropy(
    hazard_logits: Tensor, bin: Tensor, event: Tensor, alpha: float = 0.0, clamp: float | None = None
) -> Tensor:
    """Cross-entropy of having died within the bin, `ce_surv` of MCAT and CrossFusion; arguments as `survival_nll` takes.

    Who died costs -(1 - alpha) log(1 - S(Y)) + alpha U, who was censored -(1 - alpha) log S(Y): "dead by the end of the
    bin" is one answer, whichever the bin. `clamp` is added to S(Y - 1), where the released code adds it.

    Returns
    -------
    float tensor (n,)
    """
    here = bin.long().unsqueeze(1)
    if clamp is None:
        survived = F.logsigmoid(-hazard_logits).cumsum(1)
        through, before = survived.gather(1, here), F.pad(survived, (1, 0))
        died_in = before[:, :-1] + F.logsigmoid(hazard_logits)  # each bin
        later = torch.arange(died_in.shape[1], device=here.device) > here
        within = died_in.masked_fill(later, -torch.inf).logsumexp(1, keepdim=True)
        exactly = died_in.gather(1, here)
    else:
        hazards = hazard_logits.sigmoid()
        survived = survival_of(hazards)
        at, ends = (x.gather(1, here).clamp(min=clamp) for x in (hazards, survived))
        before = F.pad(survived, (1, 0), value=1.0).gather(1, here) + clamp
        through, within, exactly = ends.log(), (1 - ends).log(), before.log() + at.log()
    died = -(1 - alpha) * within - alpha * exactly
    return torch.where(event.bool(), died.squeeze(1), -(1 - alpha) * through.squeeze(1))


def survival_of(hazards: Tensor) -> Tensor:
    """Chance to live through each bin: hazards (n, bins) in [0, 1] -> S (n, bins), falling from left to right.

    S of bin k is the survival probability at the bin's right edge, `edges[k + 1]` of `fit_bins`.
    """
    return (1 - hazards).cumprod(1)


def risk_of(hazards: Tensor) -> Tensor:
    """Risk -sum(S): hazards (n, bins) -> (n,), -bins to 0; higher = earlier death expected."""
    return -survival_of(hazards).sum(1)


def survival_at(survival: np.ndarray, edges: np.ndarray, times: Sequence[float]) -> np.ndarray:
    """Survival through bins (n, bins), read off at times (m,) by straight lines between the edges: (n, m)."""
    known = np.column_stack([np.ones(len(survival)), survival])  # S is 1 at time 0, not at the first edge
    places = np.r_[0.0, edges[1:]]
    return np.array([np.interp(times, places, row) for row in known]).reshape(len(survival), len(times))

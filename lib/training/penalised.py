"""Ridge and elastic-net regressions of wide tables: Cox's for times, logistic for labels, tuned on inner folds.

Penalties are free of scale: a table's columns have unit spread and are divided by the root of their number, so that a
penalty means the same for four columns and for two thousand. Cox, J. R. Stat. Soc. B 34:187 (1972), with Breslow's ties.
The penalty is the one under which left-out patients of inner folds are ordered best; of those that are within `EQUAL` of
it, the one under which they are most likely (Verweij and van Houwelingen, Stat. Med. 12:2305, 1993): order alone does
not tell a score from a tenth of it.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from sklearn import linear_model
from sklearn.exceptions import ConvergenceWarning

PENALTIES = tuple(np.logspace(1.5, -3.5, 11))  # from strong to weak; against the mean log likelihood
EQUAL = 0.005  # c-index
FREE = 1e-4  # penalty of columns that are left free: enough to keep them finite


class Outcome(NamedTuple):
    """What is to be predicted: time (n,) and event (n,), 1 where it happened; of a label, `time` is None."""

    time: np.ndarray | None
    event: np.ndarray

    def at(self, rows: np.ndarray) -> "Outcome":
        """The outcome of some patients."""
        return Outcome(None if self.time is None else self.time[rows], self.event[rows])

    def loss(self) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        """A function of scores (n,), higher = earlier event: mean negative log (partial) likelihood, its gradient (n,)."""
        return _logistic(self.event) if self.time is None else _partial(self.time, self.event)

    def gained(self, score: np.ndarray, train: np.ndarray) -> float:
        """Log likelihood that patients who are not in `train` add to that of those who are."""
        known = self.at(train)
        return known.loss()(score[train])[0] * len(train) - self.loss()(score)[0] * len(score)

    def concordance(self, scores: np.ndarray) -> np.ndarray:
        """Harrell's c-index of several scores (k, n), higher = earlier event, or the area under the curve of a label.

        Of no two patients known who came first: 0.5.
        """
        time = self.event if self.time is None else -self.time
        first = (time[:, None] > time) & (self.event[:, None] == 1)
        apart = scores[:, :, None] - scores[:, None, :]
        wins = ((apart > 0) + 0.5 * (apart == 0)) * first
        return wins.sum((1, 2)) / first.sum() if first.any() else np.full(len(scores), 0.5)


def chosen(order: np.ndarray, likelihood: np.ndarray) -> int:
    """Which of several penalties is taken, by the c-index and the log likelihood of left-out patients; see the module."""
    return int(np.argmax(np.where(order >= order.max() - EQUAL, likelihood, -np.inf)))


def _logistic(event: np.ndarray) -> Callable:
    def loss(score: np.ndarray) -> tuple[float, np.ndarray]:
        gradient = (1 / (1 + np.exp(-score)) - event) / len(event)
        return float(np.mean(np.logaddexp(0, score) - event * score)), gradient

    return loss


def _partial(time: np.ndarray, event: np.ndarray) -> Callable:
    order = np.argsort(-time, kind="stable")  # whoever is at risk at a time stands before it
    back, died = np.argsort(order), event[order].astype(float)
    sorted_time = time[order]
    first = np.searchsorted(-sorted_time, -sorted_time, side="left")
    last = np.searchsorted(-sorted_time, -sorted_time, side="right") - 1

    def loss(score: np.ndarray) -> tuple[float, np.ndarray]:
        eta = score[order]
        top = eta.max()
        hazard = np.exp(eta - top)
        at_risk = np.cumsum(hazard)[last]
        value = np.sum(died * (eta - top - np.log(at_risk)))
        # every death at or before a patient's time counts him among those at risk
        share = np.cumsum((died / at_risk)[::-1])[::-1][first]
        return -value / len(eta), ((hazard * share - died) / len(eta))[back]

    return loss


def minimum(
    columns: np.ndarray, penalty: np.ndarray, outcome: Outcome, offset: np.ndarray | float = 0.0, start=None
) -> np.ndarray:
    """Coefficients (k,) that minimise loss + half the penalised sum of squares; `penalty` is one number a column."""
    loss = outcome.loss()
    rate = max(outcome.event.mean(), 1e-3) * (1 if outcome.time is not None else 1 - outcome.event.mean())
    # columns are principal components: the loss bends about as much in each as it varies
    scale = 1 / np.sqrt(rate * np.square(columns).mean(0) + penalty + 1e-12)
    scaled, weight = columns * scale, penalty * scale**2

    def target(at: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss(scaled @ at + offset)
        return value + 0.5 * float(weight @ at**2), scaled.T @ gradient + weight * at

    begin = np.zeros(columns.shape[1]) if start is None else start / scale
    found = minimize(target, begin, jac=True, method="L-BFGS-B", options={"maxiter": 200, "gtol": 1e-5})
    return found.x * scale


class Ridge:
    """A ridge regression on tables of columns, some of them free of the penalty.

    Parameters
    ----------
    free : bool, one a table
        Whether a table's columns are left unpenalised.
    by_block : bool
        Each penalised table has the same share of the penalty, however many columns it has; else each column has.
    """

    def __init__(self, free: Sequence[bool], by_block: bool = False, penalties: Sequence[float] = PENALTIES):
        self.free, self.by_block, self.penalties = tuple(free), by_block, tuple(penalties)

    def fit(
        self,
        tables: Sequence[np.ndarray],
        outcome: Outcome,
        inner: Sequence[tuple[np.ndarray, np.ndarray]],
        offset: np.ndarray | None = None,
    ) -> "Ridge":
        """Fit on training patients.

        Parameters
        ----------
        tables : sequence of array (n, k)
            Standardised on these patients.
        outcome : Outcome
        inner : sequence of (rows, rows)
            Of each inner fold, who trains and who is left out.
        offset : array (n,), optional
            A score to start from, with coefficient 1.

        Attributes set: `penalty` (the chosen one), `left_out` (mean c-index of left-out patients, one a penalty),
        `cross_fitted` (n,), what inner folds predict for those they leave out.
        """
        offset = np.zeros(len(outcome.event)) if offset is None else offset
        free, wide = self._split(tables)
        self._centre = wide.mean(0)
        self._axes = principal_axes(wide - self._centre)
        columns = np.hstack([free, (wide - self._centre) @ self._axes])
        ridge = np.r_[np.full(free.shape[1], FREE), np.ones(columns.shape[1] - free.shape[1])]
        penalties = self.penalties if wide.size else self.penalties[-1:]
        gain, scores = np.zeros((len(penalties), 2)), np.zeros((len(penalties), len(offset)))
        for train, left in inner:
            known, start = outcome.at(train), None
            for number, penalty in enumerate(penalties):
                weights = np.where(ridge == 1, penalty, ridge)
                start = minimum(columns[train], weights, known, offset[train], start)
                score = columns @ start + offset
                scores[number, left] = score[left]
                gain[number, 1] += outcome.gained(score, train)
            gain[:, 0] += outcome.at(left).concordance(scores[:, left]) / len(inner)
        best = chosen(*gain.T)
        self.penalty, self.left_out, self.cross_fitted = penalties[best], gain[:, 0], scores[best]
        weights = np.where(ridge == 1, self.penalty, ridge)
        self.coefficients = minimum(columns, weights, outcome, offset)
        return self

    def predict(self, tables: Sequence[np.ndarray], offset: np.ndarray | float = 0.0) -> np.ndarray:
        """Scores (n,): log hazard, or log odds, higher = earlier event."""
        free, wide = self._split(tables)
        return np.hstack([free, (wide - self._centre) @ self._axes]) @ self.coefficients + offset

    def _split(self, tables: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The free columns (with a 1 for a label's odds), and the penalised ones with unit spread in all."""
        rows = len(tables[0])
        free = [np.asarray(t, float) for t, is_free in zip(tables, self.free, strict=True) if is_free]
        wide = [np.asarray(t, float) for t, is_free in zip(tables, self.free, strict=True) if not is_free]
        count = sum(table.shape[1] for table in wide)
        widths = [table.shape[1] * len(wide) if self.by_block else count for table in wide]
        wide = [table / np.sqrt(max(width, 1)) for table, width in zip(wide, widths, strict=True)]
        return np.hstack([np.ones((rows, 1)), *free]), np.hstack([np.zeros((rows, 0)), *wide])


class ElasticNet:
    """An elastic net on one table of columns, beside another whose columns are free of the penalty.

    Zou and Hastie, J. R. Stat. Soc. B 67:301 (2005), by iterated weighted least squares as glmnet does it (Simon et al.,
    J. Stat. Softw. 39(5), 2011); the weighted problem is scikit-learn's. Penalties are shares of the smallest that leaves
    no penalised column in.
    """

    def __init__(self, l1_share: float = 0.5, penalties: Sequence[float] = tuple(np.logspace(0, -1.5, 9))):
        self.l1_share, self.penalties = l1_share, tuple(penalties)

    def fit(
        self,
        free: np.ndarray,
        wide: np.ndarray,
        outcome: Outcome,
        inner: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> "ElasticNet":
        """Fit on training patients; `free` (n, k) and `wide` (n, p) are standardised on them. See `Ridge.fit`."""
        free, wide = np.asarray(free, float), np.asarray(wide, float)
        gain, scores = np.zeros((len(self.penalties), 2)), np.zeros((len(self.penalties), len(wide)))
        for train, left in inner:
            for number, found in enumerate(self._path(free[train], wide[train], outcome.at(train))):
                score = _joined(free, wide) @ found
                scores[number, left] = score[left]
                gain[number, 1] += outcome.gained(score, train)
            gain[:, 0] += outcome.at(left).concordance(scores[:, left]) / len(inner)
        best = chosen(*gain.T)
        self.penalty, self.cross_fitted = self.penalties[best], scores[best]
        self.coefficients = self._path(free, wide, outcome)[best]
        return self

    def predict(self, free: np.ndarray, wide: np.ndarray) -> np.ndarray:
        """Scores (n,), higher = earlier event."""
        return _joined(free, wide) @ self.coefficients

    def _path(self, free: np.ndarray, wide: np.ndarray, outcome: Outcome) -> list[np.ndarray]:
        """Coefficients of 1, free and wide columns at each penalty, each beginning where the last one ended."""
        open_, loss, found = _joined(free, wide[:, :0]), outcome.loss(), []
        start = minimum(open_, np.full(open_.shape[1], FREE), outcome)
        at = np.r_[start, np.zeros(wide.shape[1])]
        slope = np.abs(wide.T @ loss(open_ @ start)[1])
        last = highest = slope.max() / self.l1_share
        for share in self.penalties:
            penalty = share * highest
            # strong rule of Tibshirani et al. (2012): what is far below the penalty stays out
            kept = (slope >= self.l1_share * (2 * penalty - last)) | (at[open_.shape[1] :] != 0)
            for _ in range(3):
                at = self._step(open_, wide, np.flatnonzero(kept), at, outcome, loss, penalty)
            slope, last = np.abs(wide.T @ loss(_joined(free, wide) @ at)[1]), penalty
            found.append(at)
        return found

    def _step(self, open_, wide, kept, at, outcome, loss, penalty) -> np.ndarray:
        """One weighted least squares: what the loss looks like around the present coefficients."""
        width, count = open_.shape[1], len(wide)
        now = open_ @ at[:width] + wide @ at[width:]
        gradient = loss(now)[1] * count
        weight = gradient + outcome.event  # of a time the most the loss can bend, of a label its probability
        weight = np.maximum(weight if outcome.time is not None else weight * (1 - weight), 1e-6)
        root = np.sqrt(weight)[:, None]
        target, some = (now - gradient / weight)[:, None] * root, wide[:, kept] * root
        base = open_ * root
        gram = base.T @ base + FREE * count * np.eye(width)
        # what the free columns explain is taken away from both sides (Frisch, Waugh, Lovell)
        both = np.hstack([target, some])
        explained = np.linalg.solve(gram, base.T @ both)
        both = both - base @ explained
        how = {"fit_intercept": False, "tol": 1e-3, "warm_start": True}
        net = linear_model.ElasticNet(alpha=penalty, l1_ratio=self.l1_share, **how)
        net.coef_ = at[width:][kept].copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the next step goes on from here
            net.fit(both[:, 1:], both[:, 0])
        after = np.zeros_like(at)
        after[width + kept] = net.coef_
        after[:width] = explained[:, 0] - explained[:, 1:] @ net.coef_
        return after


def _joined(free: np.ndarray, wide: np.ndarray) -> np.ndarray:
    return np.hstack([np.ones((len(free), 1)), free, wide])


def principal_axes(columns: np.ndarray) -> np.ndarray:
    """Orthonormal axes (k, r) along which centred columns (n, k) vary: a ridge regression on all columns is one on these."""
    wide = columns.shape[1] > columns.shape[0]
    gram = columns @ columns.T if wide else columns.T @ columns
    squares, vectors = np.linalg.eigh(gram)
    kept = squares > 1e-10 * max(squares.max(initial=0.0), 1e-300)
    vectors = vectors[:, kept]
    return columns.T @ vectors / np.sqrt(squares[kept]) if wide else vectors


def baseline(score: np.ndarray, outcome: Outcome, months: Sequence[float]) -> np.ndarray:
    """Breslow's cumulative baseline hazard at `months`, of training patients with these scores."""
    time, event = outcome
    times, hazard = np.unique(time[event == 1]), np.exp(score)
    steps = [event[time == one].sum() / hazard[time >= one].sum() for one in times]
    return np.r_[0.0, np.cumsum(steps)][np.searchsorted(times, months, side="right")]


def survival(score: np.ndarray, cumulative: np.ndarray) -> np.ndarray:
    """Probability (n, months) of being free of the event, of scores and a cumulative baseline hazard at those months."""
    return np.exp(-np.outer(np.exp(score), cumulative))

"""Logistic regressions that shrink: the elastic net along a path of strengths, and the ridge.

Both minimise the mean negative log likelihood plus `strength` x (`l1_ratio` |b|_1 + (1 - `l1_ratio`) / 2 |b|_2^2); the
intercept is free. The strength is glmnet's lambda, 1 / (n C) of scikit-learn.
"""

import warnings

import numpy as np
from scipy.special import expit, logit
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import enet_path

STEPS = 100  # of Newton, for one strength
STILL = 1e-7  # largest change of a coefficient at which a fit is finished
FLAT = 1e-5  # least weight of a patient, as in glmnet: one who is certain has no curvature left


def strongest(x: np.ndarray, y: np.ndarray, l1_ratio: float) -> float:
    """The least strength at which every coefficient is 0."""
    return float(np.abs(x.T @ (y - y.mean())).max() / len(y) / l1_ratio) if x.size else 1.0


def elastic_net(
    x: np.ndarray, y: np.ndarray, strengths: np.ndarray, l1_ratio: float
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Elastic-net logistic regression at each strength, from the strongest on.

    Newton's steps, each a weighted least squares solved by scikit-learn's coordinate descent and started from the
    last solution: the exact optimum in a fraction of what `saga` needs to come near it.

    Parameters
    ----------
    x : array (n, p)
        Standardised columns.
    y : array (n,)
        0 and 1, both present.
    strengths : array (s,)
        Descending.
    l1_ratio : float
        Above 0, at most 1.

    Returns
    -------
    intercepts (s,), coefficients (s, p), converged

    References
    ----------
    Friedman, Hastie, Tibshirani, J. Stat. Softw. 33(1) (2010), section 3.
    """
    intercept, coefficients = logit(y.mean()), np.zeros(x.shape[1])
    found, converged = [], True
    with warnings.catch_warnings(), config_context(skip_parameter_validation=True, assume_finite=True):
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # what counts is whether Newton's steps come to rest
        for strength in strengths if x.shape[1] else ():
            for _ in range(STEPS):
                last, last_intercept = coefficients, intercept
                chance = expit(x @ coefficients + intercept)
                weight = np.maximum(chance * (1 - chance), FLAT)
                wanted = x @ coefficients + intercept + (y - chance) / weight
                centre, mean = weight @ x / weight.sum(), weight @ wanted / weight.sum()
                root = np.sqrt(weight)
                _, step, _ = enet_path(
                    np.asfortranarray((x - centre) * root[:, None]),
                    (wanted - mean) * root,
                    l1_ratio=l1_ratio,
                    alphas=[strength],
                    coef_init=coefficients.copy(),  # it is written to
                    tol=1e-8,
                    max_iter=10_000,
                    check_input=False,
                )
                coefficients = step[:, 0]
                intercept = mean - centre @ coefficients
                if max(np.abs(coefficients - last).max(), abs(intercept - last_intercept)) < STILL:
                    break
            else:
                converged = False
            found.append((intercept, coefficients))
    if not found:
        found = [(intercept, coefficients)] * len(strengths)
    return np.array([one[0] for one in found]), np.array([one[1] for one in found]), converged


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> tuple[float, np.ndarray]:
    """Ridge logistic regression: intercept and coefficients (p,).

    Raises
    ------
    ValueError
        Newton's steps do not come to rest.
    """
    whole = np.column_stack([np.ones(len(y)), x])
    penalty = strength * np.diag([0.0, *np.ones(x.shape[1])])
    b = np.array([logit(y.mean()), *np.zeros(x.shape[1])])

    def cost(b: np.ndarray) -> float:
        eta = whole @ b
        return np.mean(np.logaddexp(0, eta) - y * eta) + b @ penalty @ b / 2

    for _ in range(STEPS):
        chance = expit(whole @ b)
        curvature = (whole * (chance * (1 - chance))[:, None]).T @ whole / len(y) + penalty
        step = np.linalg.solve(curvature, whole.T @ (y - chance) / len(y) - penalty @ b)
        while cost(b + step) > cost(b) + 1e-12 and np.abs(step).max() > STILL:
            step = step / 2
        b = b + step
        if np.abs(step).max() < STILL:
            return float(b[0]), b[1:]
    raise ValueError(
        f"a ridge logistic regression of {x.shape[1]} columns on {len(y)} patients did not converge"
    )

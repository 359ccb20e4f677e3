"""Is one model of a yes-or-no outcome better than another, on the patients that both held out?"""

from collections.abc import Mapping
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from lib.statistics import weighted
from lib.statistics.classification import NotComputable
from lib.statistics.combination import mean_over_folds, strata
from lib.statistics.delong import delong_test
from lib.statistics.mcnemar import mcnemar
from lib.statistics.patients import paired_patient_difference

COLUMNS = ["model", "minus", "auc", "low", "high", "delong_p", "only_first", "only_second", "mcnemar_p", "n"]


def differences(models: Mapping[str, pd.DataFrame], cut: float = 0.5, draws: int = 1000, seed: int = 0):
    """Paired comparison of all pairs of models.

    Parameters
    ----------
    models : mapping of str to DataFrame
        patient, fold, seed, label, probability; one row a held-out patient and seed.
    cut : float
        Probability at or above which a patient is called, for McNemar's test.
    draws, seed : int
        Of the bootstrap over patients, within fold and outcome.

    Returns
    -------
    DataFrame
        model, minus; auc, low, high: difference of the AUC, mean over seeds, then folds, with its 95 % bootstrap
        interval; above 0 the first is better. delong_p: of the mean probability over seeds, within
        the folds. mcnemar_p: of the same, all folds together, which supposes that a probability means the same in every
        fold. only_first, only_second: patients
        that only this one of the two calls rightly. NaN where a test has no value.

    Raises
    ------
    ValueError
        Two models disagree on a patient's label or fold.
    """
    rows = []
    for (a, first), (b, second) in combinations(models.items(), 2):
        both = sorted(set(first["patient"]) & set(second["patient"]))
        about, other = (t.drop_duplicates("patient").set_index("patient").loc[both] for t in (first, second))
        if not about[["label", "fold"]].equals(other[["label", "fold"]]):
            raise ValueError(f"{a} and {b} disagree on the label or the fold of a patient")
        labels, fold = about["label"].to_numpy(), about["fold"].to_numpy()
        wide = [
            t.pivot(index="seed", columns="patient", values="probability")[both].to_numpy()
            for t in (first, second)
        ]
        found = paired_patient_difference(
            *(mean_over_folds(fold, partial(_auc, labels, values)) for values in wide),
            both,
            draws=draws,
            seed=seed,
            strata=strata(fold, labels),
            events=int(labels.sum()),
        )
        row = {"model": a, "minus": b, "auc": found.estimate, "low": found.low, "high": found.high}
        mean_a, mean_b = (values.mean(axis=0) for values in wide)
        row |= {"delong_p": np.nan, "only_first": np.nan, "only_second": np.nan, "mcnemar_p": np.nan}
        try:
            row["delong_p"] = delong_test(labels, mean_a, mean_b, folds=fold).p
            tested = mcnemar(labels, mean_a >= cut, mean_b >= cut)
            row |= {"only_first": tested.only_a, "only_second": tested.only_b, "mcnemar_p": tested.p}
        except NotComputable:  # equal scores or equal calls: nothing to test, and the row says so by its gaps
            pass
        rows.append({**row, "n": len(both)})
    return pd.DataFrame(rows, columns=COLUMNS)


def _auc(labels: np.ndarray, values: np.ndarray, rows: np.ndarray):
    return [partial(weighted.auc, labels[rows], one[rows]) for one in values]


def margin(accuracies: Mapping[str, float], n: int) -> pd.DataFrame:
    """What printed accuracies of n patients can show when nothing but the accuracies is known.

    Parameters
    ----------
    accuracies : mapping
        Model -> share of patients called rightly, as printed; the first is compared with the others.
    n : int
        Patients.

    Returns
    -------
    DataFrame
        model, accuracy, right: the number of patients nearest to it; low, high: Wilson's 95 % interval of right / n;
        fewer: patients the model is behind the first; least_p: the smallest p that McNemar's exact test can give for
        that, reached where every patient whom the other calls rightly the first does too. NaN for the first.

    References
    ----------
    Wilson, J Am Stat Assoc 22:209 (1927), doi:10.1080/01621459.1927.10502953.
    """
    rows, best = [], None
    for model, share in accuracies.items():
        right = round(share * n)
        low, high = proportion_confint(right, n, method="wilson")
        best = right if best is None else best
        fewer = best - right
        p = min(1.0, 2 * 0.5**fewer) if fewer > 0 else np.nan
        row = {"model": model, "accuracy": share, "right": right, "low": low, "high": high}
        rows.append({**row, "fewer": fewer, "least_p": p})
    return pd.DataFrame(rows)

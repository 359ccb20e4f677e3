"""Phantom stroke patients: covariates, lesion volumes, and an outcome that needs both.

    z = 1.6 (age - 70)/10 + 0.8 (NIHSS - 12)/5 + 0.2 log2(onset to CT/150)
      + 3 core/30 + 6 lost penumbra/60 + 6 (left hemisphere) + logistic noise
    lost share = 1 - reperfusion 2^(-CT to recanalisation/240)

Only the metadata tell how much of the penumbra was lost, only the images how much there was: the product is seen where
they meet. On which side it lies the images show, and no volume tells.
"""

import numpy as np
import pandas as pd
from scipy.special import expit, ndtr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

MARGINAL = (0.12, 0.16, 0.17, 0.15, 0.14, 0.08, 0.18)  # of mRS 0 to 6, with an effect or without
LARGEST_ML = 140.0  # core and penumbra together, about 40 % of a hemisphere's tissue
REPERFUSION = (0.0, 0.6, 1.0)  # by mTICI 0-2a, 2b, 2c-3
METADATA = {
    "admission": [
        "age",
        "onset_to_ctp_min",
        "nihss",
        "male",
        "hypertension",
        "diabetes",
        "atrial_fibrillation",
    ],
    "procedure": ["ctp_to_recanalisation_min", "mtici_2b", "mtici_3"],
    "imaging": ["core_ml", "penumbra_ml", "on_left"],
}
ORACLES = {
    "admission": ["admission"],
    "postprocedural": ["admission", "procedure"],
    "imaging": ["imaging"],
    "admission + imaging": ["admission", "imaging"],
    "postprocedural + imaging": ["admission", "procedure", "imaging"],
}


def patients(n: int, seed: int = 7, effect: float = 1.0) -> pd.DataFrame:
    """Draw a cohort.

    Parameters
    ----------
    n : int
    seed : int
    effect : float
        Factor of everything in z but the noise, 0 or more. With 0 the outcome is independent of all; covariates and
        lesions are those of the same seed with another effect, and the mRS have the same frequencies.

    Returns
    -------
    DataFrame
        age (years), nihss, onset_to_door_min, door_to_imaging_min, onset_to_ctp_min, ctp_to_recanalisation_min (all
        whole numbers), male, hypertension, diabetes, atrial_fibrillation (0 or 1), mtici (0, 1, 2), side ("left",
        "right"), collateral (0 poor to 1 good), core_ml, penumbra_ml, lost_share (of the penumbra), signal (z without
        noise), risk (probability of mRS 3 or more), mrs (0 to 6).

    Raises
    ------
    ValueError
        Less than one patient, a negative effect.
    """
    if n < 1 or effect < 0:
        raise ValueError(
            f"a cohort needs a patient and an effect of 0 or more, got {n} patients, effect {effect}"
        )
    random = np.random.default_rng([seed, 0])
    table = _measured(random, n)
    table["signal"] = effect * _signal(table)
    large = np.random.default_rng(0)
    cuts = np.quantile(
        effect * _signal(_measured(large, 40_000)) + large.logistic(size=40_000), np.cumsum(MARGINAL)[:-1]
    )
    table["risk"] = expit(table["signal"] - cuts[2])
    table["mrs"] = np.searchsorted(cuts, table["signal"] + random.logistic(size=n))
    return table


def oracle_aucs(effect: float = 1.0, n: int = 20_000, seed: int = 11) -> dict[str, float]:
    """AUC that a large cohort allows for mRS 3 or more: ceilings for any model.

    Lesion volumes stand for the images, no value is missing. Logistic regression with squares and products, fitted on
    one half of the patients, tested on the other.

    Returns
    -------
    dict
        By the names of `ORACLES`, and "truth": of the probability the outcome was drawn with.
    """
    table = patients(n, seed, effect)
    table = table.assign(
        on_left=table["side"] == "left", mtici_2b=table["mtici"] == 1, mtici_3=table["mtici"] == 2
    )
    bad, fitted = (table["mrs"] >= 3).to_numpy(), np.arange(n) < n // 2
    aucs = {}
    for name, groups in ORACLES.items():
        inputs = table[[column for group in groups for column in METADATA[group]]].to_numpy(float)
        terms = PolynomialFeatures(2, include_bias=False)
        model = make_pipeline(StandardScaler(), terms, StandardScaler(), LogisticRegression(max_iter=1000))
        scores = model.fit(inputs[fitted], bad[fitted]).decision_function(inputs[~fitted])
        aucs[name] = float(roc_auc_score(bad[~fitted], scores))
    aucs["truth"] = float(roc_auc_score(bad[~fitted], table["risk"][~fitted]))
    return aucs


def _measured(random: np.random.Generator, n: int) -> pd.DataFrame:
    """Everything but the outcome."""
    old, large = random.normal(size=(2, n))
    to_imaging = np.clip(np.rint(20 * 2 ** random.normal(0, 0.5, n)), 5, 60)
    to_door = np.clip(np.rint(130 * 2 ** random.normal(0, 0.85, n)), 20, 720)
    onset = to_door + to_imaging
    total = LARGEST_ML * ndtr(large) ** 1.3
    collateral = random.uniform(size=n)
    share = expit(-0.6 + 0.6 * np.log2(onset / 150) + 4 * (0.5 - collateral) + 0.5 * random.normal(size=n))
    left = random.uniform(size=n) < 0.5
    recanalisation = np.clip(np.rint(90 * 2 ** random.normal(0, 0.7, n)), 25, 400)
    mtici = random.choice(3, n, p=[0.2, 0.4, 0.4])
    table = {
        "age": np.clip(np.rint(70 + 13 * old), 30, 95),
        "nihss": np.clip(np.rint(9 + 2.8 * total / 60 + 1.5 * left + 4.5 * random.normal(size=n)), 0, 40),
        "onset_to_door_min": to_door,
        "door_to_imaging_min": to_imaging,
        "onset_to_ctp_min": onset,
        "ctp_to_recanalisation_min": recanalisation,
    }
    chances = {"male": 0.52, "hypertension": 0.6, "diabetes": 0.25, "atrial_fibrillation": 0.35}
    table |= {name: random.uniform(size=n) < chance for name, chance in chances.items()}
    table = {name: np.asarray(values).astype(int) for name, values in table.items()}
    lost = 1 - np.array(REPERFUSION)[mtici] * 2 ** (-recanalisation / 240)
    return pd.DataFrame(
        {
            **table,
            "mtici": mtici,
            "side": np.where(left, "left", "right"),
            "collateral": collateral,
            "core_ml": total * share,
            "penumbra_ml": total * (1 - share),
            "lost_share": lost,
        }
    )


def _signal(table: pd.DataFrame) -> pd.Series:
    return (
        1.6 * (table["age"] - 70) / 10
        + 0.8 * (table["nihss"] - 12) / 5
        + 0.2 * np.log2(table["onset_to_ctp_min"] / 150)
        + 3.0 * table["core_ml"] / 30
        + 6.0 * table["lost_share"] * table["penumbra_ml"] / 60
        + 6.0 * (table["side"] == "left")  # language
    )

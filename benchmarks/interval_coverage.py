"""How often does an interval of 95 % miss the truth, and how often is one of two equals called better?

    .venv/bin/python benchmarks/interval_coverage.py [--repetitions 2000]

- cross-validated: patients with exponential times, a one-step Cox score trained in k folds on one of two sets of columns
  that are worth the same. The truth is the mean worth of the trained models on new patients (.5 without effect). Intervals
  of the c-index, of the difference of the two models, the log-rank test above against below the median risk of the fold,
  and Wald's test of the held-out score beside age in a Cox regression.
- given: risks that were trained on nobody, with few patients and a high c-index
- patients with spots: two exchangeable models of 3, 4, 8 patients who differ; mean AUC over patients and its difference

Each beside the percentile bootstrap that takes the models as given, as papers report it (of patients, within fold and
event; of patients and then of blocks). Bar: every rate of ours lies within 2 and 6 %, give or take twice its own error.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from lib.files import write_csv
from lib.gcmlm.statistics import multivariable
from lib.stage import processor
from lib.statistics import intervals
from lib.statistics.comparison import paired_difference
from lib.statistics.concordance import harrell
from lib.statistics.metrics_table import survival_differences, survival_draws, survival_interval
from lib.statistics.survival import HeldOut, logrank, median_groups

Rates = dict[str, float]
TRUTH = 200  # repetitions whose models are tried on new patients


def patients(random: np.random.Generator, n: int, columns: int, effect: float) -> tuple[np.ndarray, ...]:
    """Months, events, and two sets of columns of like effect; censored after 5 to 90 months."""
    x = random.normal(size=(n, 2 * columns))
    hazard = np.exp(effect * (x[:, 0] + x[:, columns]) / np.sqrt(2)) / 40
    death, left = random.exponential(1 / hazard), random.uniform(5, 90, n)
    return np.minimum(death, left), death <= left, x


def cox_score(x: np.ndarray, months: np.ndarray, event: np.ndarray) -> np.ndarray:
    """Weights (columns,): columns times martingale residuals of the null model, one step of a Cox regression."""
    order = np.argsort(months)
    residuals = np.empty(months.size)
    residuals[order] = event[order] - np.cumsum(event[order] / np.arange(months.size, 0, -1))
    return x.T @ residuals


def folds_of(random: np.random.Generator, event: np.ndarray, folds: int) -> np.ndarray:
    fold = np.empty(event.size, int)
    for side in (event, ~event):
        members = random.permutation(np.flatnonzero(side))
        fold[members] = (np.arange(members.size) + random.integers(folds)) % folds
    return fold


def cross_validated(
    *, n: int, folds: int, columns: int, effect: float, repetitions: int, draws: int = 300
) -> tuple[Rates, Rates]:
    """Rates of ours and of the percentile bootstrap."""
    rows, worth = [], []
    for repetition in range(repetitions):
        random = np.random.default_rng([n, folds, columns, repetition])
        months, event, x = patients(random, n, columns, effect)
        fold, age = folds_of(random, event, folds), random.normal(size=n)
        new_months, new_event, new = patients(random, 2000 if effect else 2, columns, effect)
        models = []
        for sight in (slice(0, columns), slice(columns, None)):
            risk = np.empty(n)
            for each in range(folds):
                out = fold == each
                weights = cox_score(x[~out, sight], months[~out], event[~out])
                risk[out] = x[out, sight] @ weights
                if effect and sight.start == 0 and repetition < TRUTH:
                    worth.append(harrell(new_months, new_event, new[:, sight] @ weights))
            names = np.arange(n), fold.astype(str), months, event
            models.append(HeldOut(*names, risk[None]))
        first = models[0]
        found = survival_interval(first, "c_index", draws=draws, seed=repetition)
        (apart,) = survival_differences(
            dict(zip("ab", models, strict=True)), draws=draws, seed=repetition
        ).itertuples()
        counts = intervals.draw_counts(
            first.patient, draws, repetition, intervals.strata(first.fold, first.event)
        )
        one, other = (survival_draws(model, "c_index")(counts) for model in models)
        table = pd.DataFrame({"months": months, "event": event, "age": age, "score": first.risk[0]})
        group = median_groups(first.risk[0], first.fold)
        tests = [
            [logrank(months, event, group, trained=t).p, wald_p(table, ["score"] if t else [])]
            for t in (True, False)
        ]
        percentiles = [np.nanquantile(values, [0.025, 0.975]) for values in (one, one - other)]
        rows.append(
            [[found.low, found.high, apart.low, apart.high, *tests[0]], [*np.ravel(percentiles), *tests[1]]]
        )
    truth = float(np.mean(worth)) if effect else 0.5
    return tuple(_rates(np.array(rows)[:, which], truth, effect) for which in (0, 1))


def _rates(rows: np.ndarray, truth: float, effect: float) -> Rates:
    low, high, less, more, logrank_p, cox_p = rows.T
    rates = {
        "interval": np.mean((low > truth) | (high < truth)),
        "difference": np.mean((less > 0) | (more < 0)),
    }
    return rates if effect else rates | {"log-rank": np.mean(logrank_p < 0.05), "Cox": np.mean(cox_p < 0.05)}


def wald_p(table: pd.DataFrame, trained: list[str]) -> float:
    """p of the held-out score beside age."""
    found = multivariable(table, "months", "event", ["age", "score"], trained)
    return found.set_index("column").loc["score", "p"]


def given(*, n: int, folds: int, effect: float, repetitions: int, draws: int = 300) -> tuple[Rates, Rates]:
    """Rates of ours and of the percentile bootstrap, of risks that nothing was trained for."""
    months, event, x = patients(np.random.default_rng(9), 8000, 1, effect)
    truth, missed = harrell(months, event, x.sum(axis=1)), []
    for repetition in range(repetitions):
        random = np.random.default_rng([n, folds, repetition])
        months, event, x = patients(random, n, 1, effect)
        fold = folds_of(random, event, folds).astype(str)
        model = HeldOut(np.arange(n), fold, months, event, x.sum(axis=1)[None], trained=False)
        found = survival_interval(model, "c_index", draws=draws, seed=repetition)
        counts = intervals.draw_counts(model.patient, draws, repetition, intervals.strata(fold, event))
        low, high = np.nanquantile(survival_draws(model, "c_index")(counts), [0.025, 0.975])
        missed.append([not found.low <= truth <= found.high, not low <= truth <= high])
    return tuple({"interval": float(rate)} for rate in np.mean(missed, axis=0))


def with_spots(
    *, patients: int, repetitions: int, spots: int = 150, spread: float = 0.4, draws: int = 300
) -> tuple[Rates, Rates]:
    """Rates of ours and of the two-level percentile bootstrap, of two models whose effect on a patient is drawn alike."""
    random = np.random.default_rng(patients)
    truth = norm.cdf(random.normal(1, spread, 400_000) / np.sqrt(2)).mean()
    rows = []
    for repetition in range(repetitions):
        models = [], []
        for patient in range(patients):
            labels = (random.random(spots) < 0.4).astype(float)
            for sections in models:
                scores = random.normal(1, spread) * labels + random.normal(size=spots)
                blocks = np.arange(spots) // 6
                sections.append(intervals.ScoredSection(str(patient), "s", labels, scores, blocks))
        found = intervals.interval(models[0], "auc", draws, repetition)
        apart = paired_difference(*models, "auc", draws, repetition)
        one, other = two_levels(models, np.random.default_rng(repetition), draws)
        percentiles = [np.quantile(values, [0.025, 0.975]) for values in (one, one - other)]
        rows.append([[found.low, found.high, apart.low, apart.high, 1, 1], [*np.ravel(percentiles), 1, 1]])
    return tuple(_rates(np.array(rows)[:, which], truth, 1.0) for which in (0, 1))


def two_levels(models: tuple, random: np.random.Generator, draws: int) -> np.ndarray:
    """Mean AUC over patients drawn with replacement, and blocks of spots within each: (models, draws)."""
    drawn = np.stack(
        [
            intervals.section_draws(same, "auc", draws, int(random.integers(2**32)))[0]
            for same in zip(*[[[s] for s in m] for m in models], strict=True)
        ]
    )  # (patients, models, draws)
    picked = random.integers(len(drawn), size=(len(drawn), draws))
    return np.mean([drawn[row, :, np.arange(draws)].T for row in picked], axis=0)


# patients, folds, columns, effect
CROSS_VALIDATED = {
    "null, 160 patients, 3 folds, 3 columns": (160, 3, 3, 0.0),
    "null, 160 patients, 5 folds, 50 columns": (160, 5, 50, 0.0),
    "null, 60 patients, 3 folds, 6 columns": (60, 3, 6, 0.0),
    "c .58, 160 patients, 5 folds, 3 columns": (160, 5, 3, 0.5),
    "c .59, 360 patients, 5 folds, 3 columns": (360, 5, 3, 0.5),
    "c .61, 160 patients, 5 folds, 20 columns": (160, 5, 20, 1.0),
    "c .63, 360 patients, 5 folds, 20 columns": (360, 5, 20, 1.0),
}
ROWS = {
    **{
        name: (cross_validated, dict(zip(("n", "folds", "columns", "effect"), settings, strict=True)))
        for name, settings in CROSS_VALIDATED.items()
    },
    "given risks, c .87, 60 patients, 3 folds": (given, {"n": 60, "folds": 3, "effect": 2.5}),
    **{f"{n} patients with spots": (with_spots, {"patients": n}) for n in (3, 4, 8)},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    repetitions = parser.parse_args().repetitions
    error = np.sqrt(0.05 * 0.95 / repetitions)
    table, start = [], time.perf_counter()
    for name, (simulation, settings) in ROWS.items():
        ours, percentile = simulation(**settings, repetitions=repetitions)
        for what, rate in ours.items():
            held = 0.02 - 2 * error <= rate <= 0.06 + 2 * error
            table.append((name, what, round(rate, 4), round(percentile[what], 4), held))
            print(f"{name}, {what}: {rate:.1%} (percentile bootstrap {percentile[what]:.1%})", flush=True)
    table = pd.DataFrame(table, columns=["setting", "what", "ours", "as_given", "held"])
    seconds = round(time.perf_counter() - start)
    about = {"repetitions": repetitions, "seconds": seconds, "processor": processor()}
    write_csv(table.assign(**about), Path(__file__).parent / "results" / "interval_coverage.csv")
    missed = (~table["held"]).sum()
    print(
        f"{len(table) - missed} of {len(table)} rates within 2 to 6 % (two errors of {error:.1%}), {seconds} s"
    )
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())

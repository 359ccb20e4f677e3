"""How often does an interval pooled over cohorts miss the truth, and how often are two equals called different?

    .venv/bin/python -m benchmarks.over_cohorts [--pool 100] [--sets 4000]

Two Cox scores trained in five folds on columns that are worth the same, as in `interval_coverage`, in cohorts as large as
the bench's fourteen cancers. The differences of their c-indices, with the standard errors that the bench prints, are drawn
into sets of fourteen, one of each size, from a pool of simulated cohorts. `pooled` is lib.statistics.over_cohorts.pooled;
`posterior` the 95 % interval of the hierarchical model; `as_given` a fixed-effect mean that takes the bootstrap at its word,
as a meta-analysis of printed intervals would. `called` is how often the posterior gives one of two equals more than .95.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from benchmarks.interval_coverage import cox_score, folds_of, patients
from lib.files import write_csv
from lib.stage import processor
from lib.statistics.metrics_table import survival_differences
from lib.statistics.over_cohorts import pooled, posterior
from lib.statistics.survival import HeldOut

SIZES = (373, 956, 340, 569, 416, 345, 260, 333, 453, 450, 166, 230, 349, 480)
# columns of each model, effect, how much the worth of the two sets differs from cohort to cohort
SETTINGS = {
    "null": (20, 0.0, 0.0),
    "c about .6, alike everywhere": (20, 0.8, 0.0),
    "c about .6, one better here, the other there": (20, 0.8, 0.6),
}


def difference(n: int, columns: int, effect: float, apart: float, seed: int) -> tuple[float, ...]:
    """Difference of the c-index of two scores, its corrected error, and the error that takes the models as given."""
    random = np.random.default_rng([n, columns, seed, int(100 * effect), int(100 * apart)])
    tilt = apart * random.normal()
    x_months, x_event, x = patients(random, n, columns, 0.0)
    if effect:
        hazard = np.exp((effect + tilt) * x[:, 0] / np.sqrt(2) + (effect - tilt) * x[:, columns] / np.sqrt(2))
        death, left = random.exponential(40 / hazard), random.uniform(5, 90, n)
        x_months, x_event = np.minimum(death, left), death <= left
    fold, models = folds_of(random, x_event, 5), []
    for sight in (slice(0, columns), slice(columns, None)):
        risk = np.empty(n)
        for each in range(5):
            out = fold == each
            risk[out] = x[out, sight] @ cox_score(x[~out, sight], x_months[~out], x_event[~out])
        models.append(HeldOut(np.arange(n), fold.astype(str), x_months, x_event, risk[None]))
    given = [HeldOut(*list(vars(one).values())[:-1], trained=False) for one in models]
    rows = [survival_differences(dict(zip("ab", both, strict=True)), draws=200) for both in (models, given)]
    errors = [float((row["high"] - row["low"]).item() / (2 * norm.isf(0.025))) for row in rows]
    return float(rows[0]["difference"].item()), *errors


def rates(pool: np.ndarray, sets: int, seed: int = 0) -> dict[str, float]:
    """Of sets of one cohort of each size, from a pool (sizes, cohorts, 3): misses of 0, and calls."""
    random, rows = np.random.default_rng(seed), []
    sizes = np.arange(len(pool))
    for _ in range(sets):
        apart, error, given = pool[sizes, random.integers(pool.shape[1], size=len(pool))].T
        found, believed = pooled(apart, error), posterior(apart, error)
        weights = given**-2 / (given**-2).sum()
        fixed = abs(weights @ apart) > norm.isf(0.025) * (given**-2).sum() ** -0.5
        called = max(believed.worse, believed.better) > 0.95
        rows.append((not found.low <= 0 <= found.high, not believed.low <= 0 <= believed.high, fixed, called))
    return dict(zip(("pooled", "posterior", "as_given", "called"), np.mean(rows, axis=0), strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=int, default=100)
    parser.add_argument("--sets", type=int, default=4000)
    given, table, start = parser.parse_args(), [], time.perf_counter()
    for name, settings in SETTINGS.items():
        pool = np.array([[difference(n, *settings, seed) for seed in range(given.pool)] for n in SIZES])
        found = rates(pool, given.sets)
        print(name, {key: f"{rate:.1%}" for key, rate in found.items()}, flush=True)
        table.append({"setting": name, **{key: round(float(rate), 4) for key, rate in found.items()}})
    about = {"cohorts": len(SIZES), "pool": given.pool, "sets": given.sets}
    about |= {"seconds": round(time.perf_counter() - start), "processor": processor()}
    write_csv(pd.DataFrame(table).assign(**about), Path(__file__).parent / "results" / "over_cohorts.csv")
    return int(max(row["pooled"] for row in table) > 0.065)


if __name__ == "__main__":
    raise SystemExit(main())

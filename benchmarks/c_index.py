"""Harrell's c-index, beside lifelines and scikit-survival, in one run: a bootstrap, a large cohort, and memory.

    .venv/bin/python benchmarks/c_index.py

- bootstrap: 1,000 resamples of 350 patients. Ours takes all counts at once; the others take the repeated rows one
  resample after the other, as one has to. The rows are made before the clock starts. Every resample's value is compared.
- cohort: one c-index of 1,100 patients, as many as the largest cohort has
- memory: the most that our arrays held beside their input, per patient, for cohorts up to sixteen times as large

Random outcomes with ties, 40 % censored. The tools take turns; the median counts. Bars, for ours: the bootstrap in 0.2
of lifelines' time and 0.05 of scikit-survival's, values equal to 1e-12; the cohort in 0.5 of lifelines'; memory a
patient the same at all sizes.
"""

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from lifelines.utils import concordance_index
from sksurv.metrics import concordance_index_censored

from lib.files import write_csv
from lib.stage import processor
from lib.statistics.concordance import harrell, harrell_draws

PATIENTS, DRAWS, LARGE = 350, 1_000, 1_100
SIZES = (1_250, 2_500, 5_000, 10_000, 20_000)
MEMORY_DRAWS = 100
BARS = {("bootstrap", "lifelines"): 0.2, ("bootstrap", "scikit-survival"): 0.05, ("cohort", "lifelines"): 0.5}
EQUAL = 1e-12
GROWTH = 1.1  # of memory a patient, from the smallest cohort to the largest

SINGLE: dict[str, Callable[..., float]] = {
    "crossbook": harrell,
    "lifelines": lambda time, event, risk: concordance_index(time, -risk, event),
    "scikit-survival": lambda time, event, risk: concordance_index_censored(event, time, risk)[0],
}


def cohort(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Months, events, risks."""
    random = np.random.default_rng(n)
    months = np.ceil(random.exponential(30, n) * 10) / 10
    return months, random.random(n) < 0.6, np.round(random.normal(size=n) - months / 60, 3)


def in_turns(tasks: dict[str, Callable], repeats: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Median seconds, and the values, of each tool."""
    seconds, values = {tool: [] for tool in tasks}, {}
    for _ in range(repeats):
        for tool, task in tasks.items():
            start = time.perf_counter()
            values[tool] = task()
            seconds[tool].append(time.perf_counter() - start)
    return {tool: float(np.median(taken)) for tool, taken in seconds.items()}, values


def timed(task: str, n: int, draws: int, tasks: dict[str, Callable], repeats: int) -> list[dict]:
    seconds, values = in_turns(tasks, repeats)
    return [
        {
            "task": task,
            "tool": tool,
            "n": n,
            "draws": draws,
            "seconds": round(seconds[tool], 5),
            "ours_over_it": round(seconds["crossbook"] / seconds[tool], 4),
            "largest_difference": np.max(np.abs(np.subtract(values[tool], values["crossbook"]))),
        }
        for tool in tasks
    ]


def bootstrap(repeats: int) -> list[dict]:
    outcomes = cohort(PATIENTS)
    counts = np.random.default_rng(0).multinomial(PATIENTS, np.full(PATIENTS, 1 / PATIENTS), size=DRAWS)
    rows = [np.repeat(np.arange(PATIENTS), count) for count in counts]
    resamples = [tuple(values[row] for values in outcomes) for row in rows]

    def looped(one: Callable) -> list[float]:
        return [one(*each) for each in resamples]

    tasks = {tool: partial(looped, one) for tool, one in SINGLE.items()}
    tasks["crossbook"] = partial(harrell_draws, *outcomes, counts)
    return timed("bootstrap", PATIENTS, DRAWS, tasks, repeats)


def large(repeats: int) -> list[dict]:
    outcomes = cohort(LARGE)
    tasks = {tool: partial(one, *outcomes) for tool, one in SINGLE.items()}
    return timed("cohort", LARGE, 1, tasks, repeats)


def peak(task: Callable) -> int:
    """The most bytes held at once, the input not counted."""
    tracemalloc.start()
    task()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def memory() -> list[dict]:
    rows = []
    for n in SIZES:
        outcomes, counts = cohort(n), np.ones((MEMORY_DRAWS, n), dtype=np.int64)
        tasks = {1: partial(harrell, *outcomes), MEMORY_DRAWS: partial(harrell_draws, *outcomes, counts)}
        for draws, task in tasks.items():
            most = peak(task)
            about = {"task": "memory", "tool": "crossbook", "n": n, "draws": draws}
            rows.append({**about, "peak_mb": round(most / 1e6, 2), "bytes_per_patient": round(most / n)})
    return rows


def verdicts(table: pd.DataFrame) -> list[str]:
    lines = []
    for (task, tool), bar in BARS.items():
        ratio = table[(table.task == task) & (table.tool == tool)].ours_over_it.item()
        lines.append(
            f"{task}: {ratio:.4f} of the time of {tool}, bar {bar}: {'held' if ratio < bar else 'MISSED'}"
        )
    apart = table.largest_difference.max()
    lines.append(
        f"values differ by {apart:.1e} at most, bar {EQUAL}: {'held' if apart <= EQUAL else 'MISSED'}"
    )
    for draws, rows in table[table.task == "memory"].groupby("draws"):
        grown = rows.bytes_per_patient.iloc[-1] / rows.bytes_per_patient.iloc[0]
        lines.append(
            f"memory a patient, {int(draws)} draws: {grown:.2f} of the smallest cohort's in one "
            f"{SIZES[-1] // SIZES[0]} times as large, bar {GROWTH}: {'held' if grown <= GROWTH else 'MISSED'}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "c_index.csv")
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 2)
    table = pd.DataFrame([*bootstrap(options.repeats), *large(options.repeats), *memory()])
    table = table.assign(load_before=load, cpu=processor())
    write_csv(table, options.out)
    print(table.drop(columns=["load_before", "cpu"]).to_string(index=False, na_rep=""))
    print(f"{table.cpu[0]}, load before {load}")
    print("\n".join(verdicts(table)))


if __name__ == "__main__":
    main()

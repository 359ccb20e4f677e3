"""Radiomics of six cases in two processes beside one after another, in one run; and memory against the number of cases.

    .venv/bin/python benchmarks/radiomics_cases.py

A case is 256 x 256 x 64 voxels of 0.8 x 0.8 x 3 mm, noise of 30 HU, with a ball of 34,000 voxels, under the preset ct:
1 mm, five Laplacians of Gaussian, eight wavelets, 1,218 features. Both ways take turns and read the same files; the
median counts; starting the processes counts; their tables are compared, exactly. Memory is the most that one process
held, the parent and the largest child, in a process of its own for each number of cases. (This file is not called
radiomics.py: run as a script it would stand before the package of that name.) Bars: two processes in 0.58 of
the time of one; memory at most 1.1 times from 2 cases to 12.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from lib.features.radiomics import extract
from lib.files import write_csv
from lib.inputs.masks import read_label
from lib.inputs.volumes import Geometry, Volume, read_volume, write_volume
from lib.stage import processor

PRESET, CASES, JOBS = "ct", 6, 2
BAR, FLAT = 0.58, 1.1
NUMBERS = (2, 12)
GRID = Geometry(
    (0.8, 0.8, 3.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), (256, 256, 64)
)
RADIUS_MM = 25.0


def stored(folder: Path, number: int) -> list[Path]:
    """Cases on disk; beyond the first six the files serve again under another name."""
    shape = GRID.size[::-1]
    places = np.indices(shape, dtype=np.float32) * np.reshape(GRID.spacing_mm[::-1], (3, 1, 1, 1))
    middle = np.reshape(np.multiply(shape, GRID.spacing_mm[::-1]) / 2, (3, 1, 1, 1))
    ball = ((places - middle) ** 2).sum(0) <= RADIUS_MM**2
    mask = folder / "mask.nii.gz"
    write_volume(mask, Volume(ball.astype(np.float32), GRID), "uint8")
    for seed in range(min(number, CASES)):
        noise = np.random.default_rng(seed).normal(0, 30, shape)
        values = np.rint(noise + 40 + 60 * ball).astype(np.float32)
        write_volume(folder / f"{seed}.nii", Volume(values, GRID), "int16")
    return images(folder, number)


def images(folder: Path, number: int) -> list[Path]:
    return [folder / f"{each % CASES}.nii" for each in range(number)]


def measured(image: Path) -> dict[str, float]:
    """A case as a stage measures it: read, then its features."""
    volume = read_volume(image)
    return extract(volume, read_label(image.with_name("mask.nii.gz"), volume.geometry, 1), PRESET)


def features(cases: list[Path], jobs: int) -> pd.DataFrame:
    if jobs == 1:
        return pd.DataFrame([measured(case) for case in cases])
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return pd.DataFrame(list(pool.map(measured, cases)))


def timed(cases: list[Path], repeats: int) -> list[dict]:
    ways = {"one after another": 1, "processes": JOBS}
    seconds, found = {way: [] for way in ways}, {}
    for _ in range(repeats):
        for way, jobs in ways.items():
            start = time.perf_counter()
            found[way] = features(cases, jobs)
            seconds[way].append(time.perf_counter() - start)
    one, other = found.values()
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    middle = {way: float(np.median(taken)) for way, taken in seconds.items()}
    return [
        {
            "case": "time",
            "way": way,
            "cases": len(cases),
            "jobs": jobs,
            "features": one.shape[1],
            "seconds": round(middle[way], 2),
            "of_sequential": round(middle[way] / middle["one after another"], 3),
        }
        for way, jobs in ways.items()
    ]


def peak(folder: Path, number: int) -> dict:
    """Most memory of a process of `number` cases."""
    command = [sys.executable, __file__, "--peak", str(number), "--folder", str(folder)]
    held = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"case": "memory", "way": "processes", "cases": number, "jobs": JOBS} | held


def held(folder: Path, number: int) -> None:
    assert len(features(images(folder, number), JOBS)) == number
    # the parent's own ru_maxrss would remember the process that started it, VmHWM does not
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    parent, child = (
        round(each * 1024 / 1e6, 1) for each in (own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    )
    print(json.dumps({"parent_mb": parent, "child_mb": child}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "radiomics_cases.csv")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        held(options.folder, options.peak)
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        cases = stored(Path(folder), CASES)
        rows = timed(cases, options.repeats)
        memory = [peak(Path(folder), number) for number in NUMBERS]
    table = pd.DataFrame(rows + memory).assign(load_before=round(load, 2), cpu=processor())
    write_csv(table, options.out)
    print(table.to_string(index=False))
    ours = rows[-1]["of_sequential"]
    print(
        f"bar: {BAR} of the sequential time, identical features; ours {ours}: {'held' if ours <= BAR else 'MISSED'}"
    )
    for who in ("parent_mb", "child_mb"):
        few, many = (each[who] for each in memory)
        print(
            f"bar: {who} grows {FLAT} times at most from {NUMBERS[0]} cases to {NUMBERS[1]}; ours {many / few:.2f} "
            f"({few} to {many} MB): {'held' if many <= FLAT * few else 'MISSED'}"
        )


if __name__ == "__main__":
    main()

"""What a number of slides would cost in hours, disk and money, from what was measured and what is assumed.

    python -m lib.study.cost_estimate slides=6000 price_machine_hour=0.8

Assumptions are data/assumptions/cost.csv; any of them can be given on the line instead. Measured are
benchmarks/results/slide_embedding.csv and crossfusion_step.csv, in processor seconds of one thread.
"""

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]


class Factor(NamedTuple):
    """A number that the estimate is made of, with its origin and how sure it is."""

    value: float
    unit: str
    source: str
    certainty: str


class Machine(NamedTuple):
    """Cores like those the benchmarks ran on, and whether one GPU encodes the tiles."""

    name: str
    cores: int
    gpu: bool = False


class Step(NamedTuple):
    """A step's hours on one machine, and how they come about."""

    name: str
    arithmetic: str
    hours: float


MACHINES = (
    Machine("this one: AMD EPYC, 2 cores", 2),
    Machine("16 such cores", 16),
    Machine("16 such cores, one NVIDIA RTX 4090", 16, gpu=True),
)
MEASURED = {
    "ms_per_tile": (
        "slide_embedding",
        "encoder",
        "resnet50",
        "processor_ms_per_tile",
        "ms a tile, one thread",
    ),
    "ms_to_decode": ("tile_decoding", "scales", "20, 10, 5", "cpu_s", "ms a tile, one thread"),
    "bytes_per_tile": ("slide_embedding", "encoder", "resnet50", "bytes_per_tile", "bytes a tile"),
    "s_per_step": ("crossfusion_step", "size", "4,096", "seconds", "s a slide, one thread"),
    "s_per_look": ("crossfusion_step", "size", "mean slide", "forward_s", "s a slide, one thread"),
}
WHAT = {
    "ms_per_tile": "decoded and encoded by ResNet50, float32",
    "ms_to_decode": "decoded at three scales",
    "bytes_per_tile": "2,048 numbers as float16, with their places",
    "s_per_step": "forward and backward, 4,096 of its tiles",
    "s_per_look": "forward alone, all its tiles",
}


def factors(root: Path = ROOT, given: Mapping[str, float] | None = None) -> dict[str, Factor]:
    """Every factor by name: assumptions, what was given instead, and what was measured.

    Raises
    ------
    FileNotFoundError
        If an assumption's or benchmark's table is missing.
    ValueError
        If a given name is unknown, or a value not above 0.
    """
    path = root / "data" / "assumptions" / "cost.csv"
    found = {
        row.name: Factor(row.value, row.unit, row.source, row.certainty)
        for row in _table(path, "restore it from git").itertuples(index=False)
    }
    for name, value in (given or {}).items():
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1)
            raise ValueError(
                f"no factor is called {name}; {f'did you mean {near[0]}?' if near else ', '.join(found)}"
            )
        found[name] = found[name]._replace(value=value, source="given", certainty="yours")
    if wrong := [name for name, factor in found.items() if not factor.value > 0]:
        raise ValueError(f"{wrong[0]} is {found[wrong[0]].value:g}; every factor is above 0")
    for name, (benchmark, column, row, value, unit) in MEASURED.items():
        table = _table(
            root / "benchmarks" / "results" / f"{benchmark}.csv", f"python -m benchmarks {benchmark}"
        )
        lines = table[table[column] == row]
        if benchmark == "tile_decoding":
            line = lines[lines["tool"] == "crossbook"].iloc[0]
            number = 1e3 * line[value] / line["tiles"]
        else:
            number = (lines[lines["scheme"] == "described"] if "scheme" in lines else lines).iloc[0][value]
        source = f"{WHAT[name]}: benchmarks/results/{benchmark}.csv"
        found[name] = Factor(float(number), unit, source, f"measured, {lines.iloc[0]['cpu']}")
    return found


def steps(factor: Mapping[str, Factor], machine: Machine) -> list[Step]:
    """Hours of every step on a machine.

    Tiles are decoded by the cores and encoded by them or by the GPU, whichever is slower then counts. Training on a GPU
    was never measured: it is reckoned on the cores, an upper bound.
    """
    v = {name: each.value for name, each in factor.items()}
    cores = machine.cores * v["cores_efficiency"] if machine.cores > 1 else 1
    tiles = v["slides"] * tiles_of(factor)
    fetched = v["slides"] * v["slide_gb"] * 1e3 / v["download_mb_per_s"] / 3600
    decoded = tiles * v["ms_to_decode"] / 1e3 / cores / 3600
    if machine.gpu:
        encoded = tiles / v["gpu_tiles_per_s"] / 3600
        seen, how = (
            max(decoded, encoded),
            (
                f"the slower of decoding, {tiles:,.0f} tiles × {v['ms_to_decode']:.2f} ms / {cores:g} = {decoded:.2f} h, and "
                f"encoding, {tiles:,.0f} / {v['gpu_tiles_per_s']:,.0f} a second = {encoded:.2f} h"
            ),
        )
    else:
        seen = tiles * v["ms_per_tile"] / 1e3 / cores / 3600
        how = f"{tiles:,.0f} tiles × {v['ms_per_tile']:.2f} ms / {cores:g}"
    runs = v["epochs"] * v["seeds"] * v["models"]
    learnt = v["slides"] * (v["folds"] - 1) * runs
    looked = v["slides"] * runs
    return [
        Step(
            "download",
            f"{v['slides']:,.0f} × {v['slide_gb']:g} GB / {v['download_mb_per_s']:g} MB a second",
            fetched,
        ),
        Step("tiles to features", how, seen),
        Step(
            "training",
            f"{learnt:,.0f} steps × {v['s_per_step']:.2f} s / {cores:g}",
            learnt * v["s_per_step"] / cores / 3600,
        ),
        Step(
            "held-out slides, every epoch",
            f"{looked:,.0f} slides × {v['s_per_look']:.2f} s / {cores:g}",
            looked * v["s_per_look"] / cores / 3600,
        ),
    ]


def disk_gb(factor: Mapping[str, Factor]) -> dict[str, float]:
    """GB of slides, features and weights."""
    v = {name: each.value for name, each in factor.items()}
    return {
        "slides": v["slides"] * v["slide_gb"],
        "features": v["slides"] * tiles_of(factor) * v["bytes_per_tile"] / 1e9,
        "weights": v["weights_mb"] * v["folds"] * v["seeds"] * v["models"] * v["cancer_types"] / 1e3,
    }


def money(factor: Mapping[str, Factor], hours: float) -> float:
    """Hours × price an hour + TB × price a TB and month × months, in the unit that the prices are in."""
    v = {name: each.value for name, each in factor.items()}
    stored = sum(disk_gb(factor).values()) / 1e3 * v["price_tb_month"] * v["months"]
    return hours * v["price_machine_hour"] + stored


def tiles_of(factor: Mapping[str, Factor]) -> float:
    """Tiles of a slide, at all scales."""
    return sum(factor[f"tiles_{scale}x"].value for scale in (20, 10, 5))


def _table(path: Path, remedy: str) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent.name}/{path.name} is missing: {remedy}")
    return pd.read_csv(path)


def main(arguments: list[str] | None = None) -> int:
    """Print the estimate for what is given as `name=number`; returns the exit code."""
    given = {}
    try:
        for argument in sys.argv[1:] if arguments is None else arguments:
            name, _, value = argument.partition("=")
            try:
                given[name] = float(value)
            except ValueError:
                raise ValueError(f"{argument}: expected name=number, as in slides=6000") from None
        factor = factors(given=given)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    for machine in MACHINES:
        print(machine.name)
        found = steps(factor, machine)
        for step in found:
            print(f"  {step.name:<30}{step.hours:>10,.1f} h   {step.arithmetic}")
        hours = sum(step.hours for step in found)
        print(
            f"  {'all':<30}{hours:>10,.1f} h   {money(factor, hours):,.0f} at {factor['price_machine_hour'].value:g} an hour"
        )
    print(", ".join(f"{name} {count:,.1f} GB" for name, count in disk_gb(factor).items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Time of a training step against the size of the bag, with and without a cap on its tiles.

    .venv/bin/python benchmarks/bag_growth.py

One thread, forward and backward, random features 1,024 wide; a bag of k 5x tiles has 4 k 10x and 16 k 20x tiles. With
the cap the draw (`lib.crossfusion.bags.drawn`) is in the time. The exponent is the slope of log seconds over log tiles:
1 linear, 2 quadratic; for all sizes, and between the last two, where the law of large bags shows. No bar.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.crossfusion.bags import Bag, TileFeatures, drawn
from lib.crossfusion.model import CrossFusion
from lib.files import write_csv
from lib.models.attention import AMIL, DSMIL, MeanPool, TransMIL
from lib.stage import processor

CELLS = (32, 64, 128, 256, 512)  # 5x tiles
CAP = 2_048  # 20x tiles
WIDTH = 1_024
MODELS: dict[str, Callable] = {
    "crossfusion": CrossFusion,
    "transmil": TransMIL,
    "amil": AMIL,
    "dsmil": DSMIL,
    "mean-pool": MeanPool,
}


def bag_of(cells: int) -> Bag:
    """A bag whose 5x tiles lie in a row, each with its 4 and 16 smaller ones."""
    random, bag = np.random.default_rng(cells), {}
    for scale in (5, 10, 20):
        side = scale // 5  # tiles a side of a cell
        x, y = np.meshgrid(np.arange(cells * side), np.arange(side), indexing="ij")
        centres = np.column_stack([x.ravel(), y.ravel()]) * 2048 / side + 1024 / side
        features = random.standard_normal((cells * side**2, WIDTH), dtype=np.float32)
        bag[scale] = TileFeatures(features, centres.astype(np.float32))
    return bag


def step(model: torch.nn.Module, bag: Bag, cap: int) -> float:
    model.zero_grad()
    start = time.process_time()
    some = drawn(bag, cap, seed=0) if cap else bag
    x5, x10, x20 = (torch.as_tensor(some[scale].features)[None] for scale in (5, 10, 20))
    model(x5, x10, x20).logits.sum().backward()
    return time.process_time() - start


def slope(tiles: pd.Series, seconds: pd.Series) -> float:
    return float(np.polyfit(np.log(tiles), np.log(seconds), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=CELLS, help="5x tiles of each bag")
    parser.add_argument("--cap", type=int, default=CAP, help="most 20x tiles")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "bag_growth.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    load, rows = round(os.getloadavg()[0], 2), []
    models = {name: make(WIDTH).train() for name, make in MODELS.items()}
    for model in models.values():
        step(model, bag_of(options.cells[0]), 0)
    for cells in options.cells:
        bag = bag_of(cells)
        for name, model in models.items():
            for cap in (0, options.cap):
                seconds = min(step(model, bag, cap) for _ in range(options.repeats))
                rows.append(
                    {"model": name, "cap": cap, "tiles_20x": 16 * cells, "seconds": round(seconds, 4)}
                )
    table = pd.DataFrame(rows).assign(load_before=load, cpu=processor())
    write_csv(table, options.out)
    wide = table.pivot(index=["model", "cap"], columns="tiles_20x", values="seconds")
    slopes = table.groupby(["model", "cap"]).apply(
        lambda rows: pd.Series(
            {
                "exponent": round(slope(rows.tiles_20x, rows.seconds), 2),
                "last_two": round(slope(rows.tiles_20x[-2:], rows.seconds[-2:]), 2),
            }
        ),
        include_groups=False,
    )
    print(wide.join(slopes).reset_index().to_string(index=False))
    print(
        f"seconds of a step; cap 0: none. 1 thread, torch {torch.__version__}, {table.cpu[0]}, load before {load}"
    )


if __name__ == "__main__":
    main()

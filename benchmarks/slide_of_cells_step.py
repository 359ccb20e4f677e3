"""CrossFusion on all tiles of one real slide: a forward pass and a training step, beside the released scheme.

    .venv/bin/python -m benchmarks.slide_of_cells_step       needs `make data COHORT=hgsc` and 8 GB

The bag of cells of `slide_of_cells.py`, in tiles of 448 pixels (10,992, 2,933 and 789 at 20x, 10x, 5x, about the mean slide
of the paper) and of 256 pixels (31,821, 8,532 and 2,279). Width 512, one thread, each row in a process of its own, so that
its peak memory is its own. Seconds are the processor's, of one pass after a small one. "shipped", "released" and "described" are those
of `crossfusion_step.py`. A forward pass makes no gradients; in it the released dropout is on, as in the released code. The released
schemes are measured at 448 pixels only: a training step of theirs at 256 would need some 30 GB.
"""

import argparse
import json
import os
import time
from pathlib import Path

from benchmarks._process import ROOT, in_its_own_process, megabytes
from benchmarks.crossfusion_step import SCHEMES, shipped_scheme

SIDES = (448, 256)
OURS = "described"
PASSES = ("forward", "step")
ROWS = [
    (side, what, scheme)
    for side in SIDES
    for what in PASSES
    for scheme in ("shipped", "released", OURS)
    if side == SIDES[0] or scheme == OURS
]


def measured(side: int, what: str, scheme: str) -> dict:
    """Run in a process of its own."""
    import torch

    from benchmarks._cells import cell_bag, cell_tiles, find_slide, read_cells
    from lib.crossfusion.model import CrossFusion
    from lib.crossfusion.train import tensors

    torch.set_num_threads(1)
    torch.manual_seed(0)
    bag = cell_bag(cell_tiles(read_cells(find_slide(ROOT / "data" / "raw")), side), side)
    x = [(x - x.mean((0, 1))) / (x.std((0, 1)) + 1e-6) for x in tensors(bag)]
    model = CrossFusion(x[0].shape[2], **SCHEMES[scheme]).train(what == "step")
    shipped = shipped_scheme()(model.named_parameters())
    before = megabytes()

    def taken(bags: list) -> float:
        start = time.process_time()
        with torch.set_grad_enabled(what == "step"):
            logits = shipped(*(bag[0] for bag in bags)) if scheme == "shipped" else model(*bags).logits
            if what == "step":
                logits.sum().backward()
        return time.process_time() - start

    taken([bag[:, : bag.shape[1] // 16] for bag in x])
    model.zero_grad()
    seconds = taken(x)
    row = {"side_px": side, "pass": what, "scheme": scheme}
    row |= {f"tiles_{scale}x": bag.shape[1] for scale, bag in zip((20, 10, 5), x[::-1], strict=True)}
    return row | {"seconds": round(seconds, 2), "peak_mb": round(megabytes()), "before_mb": round(before)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row is not None:
        print(json.dumps(measured(*ROWS[options.row])))
        return
    rows = []
    for number in range(len(ROWS)):
        load = round(os.getloadavg()[0], 2)
        row = in_its_own_process("slide_of_cells_step", "--row", number, OMP_NUM_THREADS="1")
        rows.append(row | {"load_before": load})
        print(rows[-1], flush=True)

    import pandas as pd

    from lib.files import write_csv
    from lib.stage import processor

    table = pd.DataFrame(rows)
    ours = table[table["scheme"] == OURS].set_index(["side_px", "pass"])
    keys = pd.MultiIndex.from_frame(table[["side_px", "pass"]])
    for name, column in {"time": "seconds", "peak": "peak_mb"}.items():
        # how many times what the described scheme takes
        table[f"{name}_to_described"] = (table[column] / ours[column].loc[keys].to_numpy()).round(2)
    table = table.assign(cpu=processor())
    write_csv(table, Path(__file__).parent / "results" / "slide_of_cells_step.csv")
    print(table.drop(columns="cpu").to_string(index=False))


if __name__ == "__main__":
    main()

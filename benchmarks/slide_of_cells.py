"""Where does CrossFusion look on a slide whose tissue is known, untrained and trained on half of it?

    .venv/bin/python -m benchmarks.slide_of_cells            needs `make data COHORT=hgsc`; about ten minutes on one core

The slide's cells in tiles (`benchmarks._cells`), at 256 pixels 31,821, 8,532 and 2,279 of them. It is cut into a left and
a right half. A network of one output is trained on windows of 4 by 4 5x tiles of one half to say which share of them is
tumour, and asked about the windows of the other half, beside a ridge on the windows' mean features and the share of
neoplastic nuclei as it is. Then all tiles of the other half are its bag, and what each tile receives is held against the
truth. "untrained" is the same network before its first step; "shuffled" (left half, first seed) was trained on
the shares of other windows.

Written: `slide_of_cells.csv` (attention against what is known), `slide_of_cells_windows.csv` (the shares told), and
`slide_of_cells_maps.csv`, pictures of the slide as text, a digit a tile: its tenth within the half, each
half as the network that learnt on the other sees it.
"""

import argparse
import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from benchmarks._cells import (
    TISSUE,
    cell_bag,
    cell_tiles,
    edge_distances,
    find_slide,
    read_cells,
    tissue_shares,
)
from lib.crossfusion.bags import Bag, TileFeatures
from lib.crossfusion.model import CrossFusion
from lib.crossfusion.train import Standardised, received, tensors
from lib.files import write_csv
from lib.params import ROOT
from lib.stage import processor

RESULTS = Path(__file__).parent / "results"
WINDOW = 4  # 5x tiles a side of a window
WIDTH, HEADS, RATE, TOGETHER = 128, 4, 1e-3, 4  # TOGETHER: windows whose gradients make a step
HALVES = ("left", "right")


class Slide:
    """The whole bag and what is known of its tiles, and parts of it."""

    def __init__(self, raw: Path):
        folder = find_slide(raw)
        self.tiles = cell_tiles(read_cells(folder))
        self.bag = cell_bag(self.tiles)
        shares, edges = (
            tissue_shares(pd.read_parquet(folder / TISSUE), self.tiles),
            edge_distances(self.tiles),
        )
        for scale, table in self.tiles.items():
            self.tiles[scale] = table.assign(
                tumour=shares[scale],
                edge=edges[scale],
                neoplastic_share=table["neoplastic"] / table["cells"],
                coarse_row=table["row"] // (scale // 5),
                coarse_column=table["column"] // (scale // 5),
            )
        self.border = int(self.tiles[5]["column"].median())  # the first 5x column of the right half

    def part(self, rows: range, columns: range) -> tuple[Bag, dict[int, pd.DataFrame]]:
        """The tiles within some 5x rows and columns."""
        bag, known = {}, {}
        for scale, table in self.tiles.items():
            inside = table["coarse_row"].isin(rows) & table["coarse_column"].isin(columns)
            features, coords = self.bag[scale]
            bag[scale], known[scale] = TileFeatures(features[inside], coords[inside]), table[inside]
        return bag, known

    def half(self, name: str) -> tuple[range, range]:
        rows, columns = (range(int(self.tiles[5][axis].max()) + 1) for axis in ("row", "column"))
        return rows, columns[: self.border] if name == "left" else columns[self.border :]

    def windows(self, name: str, step: int) -> list[tuple[Bag, dict[int, pd.DataFrame]]]:
        """Windows within a half, half of whose places at least hold a 5x tile."""
        rows, columns = self.half(name)
        found = [
            self.part(rows[row : row + WINDOW], columns[column : column + WINDOW])
            for row in range(0, len(rows) - WINDOW + 1, step)
            for column in range(0, len(columns) - WINDOW + 1, step)
        ]
        return [window for window in found if len(window[1][5]) >= WINDOW**2 / 2]


def tumour(windows: list) -> np.ndarray:
    return np.array([known[20]["tumour"].mean() for _, known in windows])


def trained(model: Standardised, windows: list, truth: np.ndarray, epochs: int, seed: int) -> Standardised:
    """The model after training: one output, the cross-entropy of a share."""
    torch.manual_seed(seed)
    adam = torch.optim.Adam(model.parameters(), RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs, RATE / 10)
    random, inputs = np.random.default_rng(seed), [tensors(bag) for bag, _ in windows]
    model.train()
    for _ in range(epochs):
        for number, at in enumerate(random.permutation(len(windows)), 1):
            logit = model(*inputs[at]).logits[0, 0]
            (F.binary_cross_entropy_with_logits(logit, torch.tensor(truth[at]).float()) / TOGETHER).backward()
            if number % TOGETHER == 0 or number == len(windows):
                adam.step()
                adam.zero_grad()
        schedule.step()
    return model.eval()


@torch.inference_mode()
def told(model: Standardised, windows: list) -> np.ndarray:
    """Shares of tumour as the model tells them."""
    return np.array([model(*tensors(bag)).logits[0, 0].sigmoid().item() for bag, _ in windows])


def rank_correlation(x, y) -> float:
    return float(spearmanr(x, y).statistic)


def window_row(network: str, half: str, seed: int, said: np.ndarray, truth: np.ndarray) -> dict:
    about = {"trained_on": half, "network": network, "seed": seed, "windows": len(truth)}
    errors = {
        "rank_correlation": rank_correlation(said, truth),
        "mean_error": float(np.abs(said - truth).mean()),
    }
    return about | {name: round(value, 3) for name, value in errors.items()}


def attention_rows(network: str, half: str, seed: int, shares: dict, known: dict) -> list[dict]:
    """Rank correlations of what tiles receive, and how even it is: 1, all tiles alike; 0.1, as if a tenth shared all."""
    rows = []
    for scale, received_by in shares.items():
        table = known[scale]
        row = {"trained_on": half, "network": network, "seed": seed, "scale": scale, "tiles": len(table)}
        for name in ("tumour", "cells", "edge"):
            row[name] = round(rank_correlation(received_by, table[name]), 3)
        even = np.exp(-(received_by * np.log(received_by + 1e-30)).sum()) / len(received_by)
        rows.append(row | {"evenness": round(float(even), 4)})
    return rows


def simple_rows(half: str, train: list, test: list) -> list[dict]:
    """What needs no network: the mean share, a ridge on mean features of 20x tiles, and the nuclei as they are."""
    truth = tumour(test)
    means = [np.array([bag[20].features.mean(0) for bag, _ in windows]) for windows in (train, test)]
    scaler = StandardScaler().fit(means[0])
    ridge = RidgeCV(np.logspace(-2, 4, 13)).fit(scaler.transform(means[0]), tumour(train))
    nuclei = [known[20]["neoplastic"].sum() / known[20]["cells"].sum() for _, known in test]
    said = {"ridge on mean features": np.clip(ridge.predict(scaler.transform(means[1])), 0, 1)}
    said["share of neoplastic nuclei"] = np.array(nuclei)
    rows = [window_row(name, half, 0, values, truth) for name, values in said.items()]
    error = round(float(np.abs(truth - tumour(train).mean()).mean()), 3)
    return [
        *rows,
        rows[0] | {"network": "mean of the other half", "rank_correlation": None, "mean_error": error},
    ]


def text_maps(slide: Slide, received_by: dict[str, dict[str, dict]]) -> pd.DataFrame:
    """Maps of the slide, half by half: map, scale, row, deciles (a digit a place, "." without a tile; at 20x 2 by 2 tiles a digit).

    `received_by` holds what tiles of each half receive, by network and scale.
    """
    lines = []
    for name in ("tumour", "cells", *received_by["left"]):
        for scale in (5, 20):
            places = []
            for half in HALVES:
                table = slide.part(*slide.half(half))[1][scale]
                values = (
                    table[name] if name in table else pd.Series(received_by[half][name][scale], table.index)
                )
                values = values if name == "tumour" else values.rank(pct=True)
                places.append(table[["row", "column"]].assign(value=values))
            whole, times = pd.concat(places), max(1, scale // 10)
            grid = whole.groupby([whole["row"] // times, whole["column"] // times])["value"].mean().unstack()
            grid = grid.reindex(range(grid.index.max() + 1)).reindex(columns=range(grid.columns.max() + 1))
            for row, line in zip(grid.index, np.clip(grid.to_numpy() * 10, 0, 9.99), strict=True):
                text = "".join("." if np.isnan(value) else str(int(value)) for value in line)
                lines.append({"map": name, "scale": scale, "row": row, "deciles": text})
    return pd.DataFrame(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    slide = Slide(ROOT / "data" / "raw")
    told_rows, looks, shown = [], [], {half: {} for half in HALVES}
    for half, other in zip(HALVES, HALVES[::-1], strict=True):
        train, test = slide.windows(half, step=2), slide.windows(other, step=WINDOW)
        told_rows += simple_rows(half, train, test)
        everything, known = slide.part(*slide.half(other))
        learnt = slide.part(*slide.half(half))[0]
        for seed in options.seeds:
            torch.manual_seed(seed)
            model = CrossFusion(learnt[20].features.shape[1], bins=1, width=WIDTH, heads=HEADS)
            model = Standardised(model, model.in_dim).fit([SimpleNamespace(bag=learnt)]).eval()
            mixed = np.random.default_rng(seed).permutation(tumour(train))
            networks = {"untrained": model}
            for name, truth in {"trained": tumour(train), "shuffled": mixed}.items():
                if name == "shuffled" and (half, seed) != (HALVES[0], options.seeds[0]):
                    continue
                networks[name] = trained(copy.deepcopy(model), train, truth, options.epochs, seed)
            for name, network in networks.items():
                told_rows.append(window_row(name, half, seed, told(network, test), tumour(test)))
                maps = received(network, everything)
                looks += attention_rows(name, half, seed, maps, known)
                if seed == options.seeds[0] and name != "shuffled":
                    shown[other][name] = maps
                print(told_rows[-1], *looks[-2:], sep="\n", flush=True)
    about = {"epochs": options.epochs, "processor": processor()}
    write_csv(pd.DataFrame(looks).assign(**about), RESULTS / "slide_of_cells.csv")
    write_csv(pd.DataFrame(told_rows).assign(**about), RESULTS / "slide_of_cells_windows.csv")
    write_csv(text_maps(slide, shown), RESULTS / "slide_of_cells_maps.csv")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

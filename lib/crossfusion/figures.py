"""Pictures of the CrossFusion study alone: tiles in rows, and what a model looks at."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lib.crossfusion.bags import read_bag
from lib.crossfusion.cohort import Cohort, feature_home
from lib.crossfusion.train import load_model, received
from lib.features.tiles import TileGrid, read_grid
from lib.figures.pictures import draw_received
from lib.stage import Stage


def tile_row(axes: Sequence, tiles: Sequence[np.ndarray], name: str) -> None:
    """Tiles side by side, the row's name at its left."""
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for ax, tile in zip(axes, tiles, strict=False):
        ax.imshow(tile)
    axes[0].set_ylabel(name, rotation=0, ha="right", va="center")


CROSSINGS = {"coarse_cross": "5x", "fine_cross": "20x"}


def draw_crossings(axes, moments: Mapping[str, Mapping]) -> None:
    """Cross-attention, mean over heads: a row a moment of training, 10x tiles asking those at 5x and at 20x.

    The colours of one scale are the same at every moment, from no attention to the most that any tile gets.
    """
    top = {name: max(maps[name][0].mean(0).max() for maps in moments.values()) for name in CROSSINGS}
    for row, (when, maps) in zip(axes, moments.items(), strict=True):
        for ax, (name, scale) in zip(row, CROSSINGS.items(), strict=True):
            ax.imshow(maps[name][0].mean(0), aspect="auto", cmap="magma", vmin=0, vmax=top[name])
            ax.set(title=f"{when}: 10x asks {scale}", xlabel=f"tiles at {scale}", ylabel="tiles at 10x")


class Seen(NamedTuple):
    """A slide, its patient's risk, and the attention that its tiles receive, by scale."""

    slide: str
    risk: float
    grid: TileGrid
    maps: dict[int, np.ndarray]


def seen_by(stage: Stage, raw: Cohort, model: str) -> list[Seen]:
    """What a model looks at in the held-out patients of highest and of lowest risk in the first fold (first seed).

    Empty where the model was not trained, or fewer than two of these patients have slides on this disk.
    """
    params, slides = stage.params, stage.read("slides.csv")
    ready = slides[(slides["status"] == "ok") & slides["slide"].isin(raw.paths)]
    slide_of = ready.drop_duplicates("patient").set_index("patient")["slide"]
    rows = stage.read("predictions.csv").query("model == @model and seed == @params.seeds[0]")
    rows = rows[(rows["setting"] == rows["setting"].min()) & rows["patient"].isin(slide_of.index)]
    rows = rows[rows["fold"] == rows["fold"].min()].sort_values("score", ascending=False)
    if len(rows) < 2:
        return []
    seen = []
    for row in rows.iloc[[0, -1]].itertuples():
        slide, run = slide_of[row.patient], f"{row.setting}.{row.fold}.{model}.s{row.seed}"
        bag = read_bag(feature_home(stage), slide)
        weights = stage.reads(f"weights/{run}.safetensors")
        network = load_model(weights, model, bag[20].features.shape[1], params)
        grid = read_grid(stage.folder / "tiles" / f"{slide}.h5")
        seen.append(Seen(slide, row.score, grid, received(network, bag)))
    return seen


def attention_maps(
    raw: Cohort, slide: str, grid: TileGrid, maps: Mapping[int, np.ndarray], axes, title: str
) -> None:
    """A slide, and the rank of the attention that its tiles receive at each scale of `maps`."""
    with raw.open(slide) as picture:
        thumbnail = picture.thumbnail(768)
    axes[0].imshow(thumbnail)
    axes[0].set(xticks=[], yticks=[])
    axes[0].set_title(title, fontsize=7)
    for ax, (scale, attention) in zip(axes[1:], maps.items(), strict=True):
        draw_received(ax, thumbnail, grid, scale, attention)


def extreme_tiles(
    raw: Cohort, slide: str, grid: TileGrid, attention: np.ndarray, rows, count: int = 8
) -> None:
    """The 20x tiles that receive most attention, and those that receive least, a row each."""
    order = np.argsort(attention)
    with raw.open(slide) as picture:
        for row, places, name in zip(
            rows, (order[::-1][:count], order[:count]), ("most", "least"), strict=True
        ):
            side = round(grid.side_px(20))
            tile_row(row, [picture.read(*grid.tiles[20].coords[index], side) for index in places], name)


def growth_figure(growth) -> Figure:
    """Seconds of a training step against tiles at 20x, of `benchmarks/results/bag_growth.csv`; dashed: with a cap."""
    figure, ax = plt.subplots(figsize=(6.6, 3.4))
    colours = dict(
        zip(growth["model"].unique(), plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False)
    )
    for (model, cap), rows in growth.sort_values("tiles_20x").groupby(["model", "cap"], sort=False):
        line = {"color": colours[model], "label": None if cap else model}
        ax.plot(rows["tiles_20x"], rows["seconds"], "--o" if cap else "-o", ms=4, **line)
    sizes = sorted(growth["tiles_20x"].unique())
    ax.set(xscale="log", yscale="log", xlabel="tiles at 20x", ylabel="seconds a step")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
    ax.set_xticks([], minor=True)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure

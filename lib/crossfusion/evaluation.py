"""What is measured of the predictions of a CrossFusion cohort, and the pictures of this study alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.stats import rankdata

from lib.crossfusion.bags import Bag, finest_side, read_bag
from lib.crossfusion.cohort import Cohort, feature_home, stored_predictions
from lib.crossfusion.params import NUMBERS, CrossFusionParams
from lib.data import RAW
from lib.features.feature_files import bag_files, read_foreign
from lib.features.tiles import CELL_SCALE, TileGrid, Tiles, read_grid
from lib.figures.curves import calibration_panel, decision_curve
from lib.figures.pictures import draw_received, tile_row
from lib.stage import Stage
from lib.statistics import metrics_table
from lib.statistics.calibration import decision_curve_at_horizon
from lib.statistics.classification import NotComputable
from lib.statistics.comparison import false_alarms, survival_null
from lib.statistics.survival import HeldOut

WHITE = 220  # of 255 in the darkest channel: above it, no stain
Models = dict[str, dict[str, HeldOut]]  # cancer type -> model -> its held-out patients


def held_out_patients(stage: Stage, cohort: pd.DataFrame) -> Models:
    """Predictions of the clinical baselines, of the models trained here and of those that others stored.

    A prediction whose patient, outcome or fold is not that of the cohort is refused (`HeldOut.of`). What others stored, or a
    phantom planted, is taken as given: no training of this cohort made it.
    """
    tables = [stage.read("clinical.csv")]
    if (stage.folder / "predictions.csv").is_file():
        tables.append(stage.read("predictions.csv"))
    for model, place in stage.params.predictions.items():
        if place == "planted":
            stored = stage.read("raw/predictions.csv")
            stored = stored[stored["model"] == model.partition(":")[2]]
            stored = stored.assign(fold=stored["patient"].map(cohort["fold"]))
        else:
            stored = stored_predictions(RAW / place)
            for path in sorted((RAW / place).glob("*.pkl")):
                stage.reads(path)
        stored = stored.rename(columns={"risk": "score"}).assign(model=model, seed=0)
        tables.append(stored.assign(setting=stored["patient"].map(cohort["cancer"])))
    predictions = pd.concat([table for table in tables if len(table)], ignore_index=True)
    models: Models = {}
    for (setting, model), rows in predictions.groupby(["setting", "model"], sort=False):
        one = replace(HeldOut.of(rows, cohort), trained=model not in stage.params.predictions)
        models.setdefault(setting, {})[model] = one
    return models


def difference_rows(models: Models, cohort: pd.DataFrame, params: CrossFusionParams, metrics) -> pd.DataFrame:
    """Paired differences of metrics between all models of each cancer type that have them."""
    parts = []
    for setting, contenders in models.items():
        about = (params.horizons, metrics_table.censoring(cohort, setting), params.bootstrap_draws)
        for metric in metrics:
            error = metric.startswith(("brier", "ibs"))
            able = {name: one for name, one in contenders.items() if not error or one.survival is not None}
            table = metrics_table.survival_differences(able, metric, *about)
            parts.append(table.assign(metric=metric, setting=setting))
    return pd.concat(parts, ignore_index=True)


def false_alarm_rows(models: Models, cohort: pd.DataFrame, nulls=200) -> tuple[pd.DataFrame, dict[str, list]]:
    """What a linear model on the clinical numbers reaches where outcomes were dealt out anew, for each cancer type.

    The table has setting, model, metric, the columns of `lib.statistics.comparison.false_alarms`, and why there are none; the
    intervals it was made of are by setting. They are of 200 draws: many nulls say more than long ones.
    """
    rows, found = [], {}
    for setting in models:
        patients = cohort[cohort["cancer"] == setting]
        columns = patients[[name for name in NUMBERS if name in patients]].astype(float)
        columns = columns.loc[:, columns.std() > 0]
        row = {"setting": setting, "model": "linear model", "metric": "c_index"}
        try:
            if columns.empty:
                raise NotComputable("no clinical number differs between the patients")
            one = survival_null(columns, patients, draws=200)
            found[setting] = [one(seed) for seed in range(nulls)]
            rows.append(row | false_alarms(found[setting]) | {"why": ""})
        except NotComputable as reason:
            rows.append(row | {"why": str(reason)})
    names = ["nulls", "false_alarms", "error", "mean", "sd", "detected", "why"]
    return pd.DataFrame(rows, columns=["setting", "model", "metric", *names]), found


def with_reasons(table: pd.DataFrame) -> pd.DataFrame:
    """A table without `how`; where a row has no interval, `why` says the reason."""
    why = table["how"].where(table["low"].isna(), "")
    return table.drop(columns="how").assign(**({"why": why} if why.any() else {}))


def shown_metrics(metrics: pd.DataFrame, models: Models) -> Iterator[tuple[str, pd.DataFrame]]:
    """A caption and a table, model against metric: those of order, then those of error, for each cancer type."""
    rows = metrics[~metrics["metric"].str.startswith("logrank")]
    rows = rows.assign(text=rows.apply(metrics_table.written_out, axis=1))
    error = rows["metric"].str.contains("brier") | (rows["metric"] == "ibs")
    for setting in models:
        for kind, which in (("order", ~error), ("error (lower is better)", error)):
            some = rows[which & (rows["setting"] == setting)]
            wide = some.pivot(index="model", columns="metric", values="text")[some["metric"].unique()]
            named = [name for name in models[setting] if (wide.loc[name] != "not computable").any()]
            why = "" if named or some.empty else f"; {some['how'].iloc[0]}"
            yield f"**{setting}**, {kind}{why}", wide.loc[named or list(models[setting])].reset_index()


def calibration_panels(axes, models: Mapping[str, HeldOut], horizon: float, draws: int) -> None:
    """Calibration (left) and net benefit (right) of the models that give probabilities, at one horizon; a band of net
    benefit has the form (cox-clinical) and the model of the study, for more would hide one another.
    """
    sure = {n: one for n, one in models.items() if one.survival is not None and np.ptp(one.risk) > 0}
    most, thresholds = max((one.time.size for one in sure.values()), default=0), np.arange(0.02, 0.7, 0.02)
    for name, (dead, colour) in calibration_panel(axes[0], sure, horizon).items():
        if (one := sure[name]).time.size == most:
            shown = draws if name in ("cox-clinical", "crossfusion") else 0
            benefit = decision_curve_at_horizon(one.time, one.event, dead, horizon, thresholds, shown)
            decision_curve(axes[1], benefit, name, colour)


class Seen(NamedTuple):
    """A slide, its patient's risk, the attention that its tiles receive, by scale, and whose it is, in words."""

    slide: str
    risk: float
    grid: TileGrid
    maps: dict[int, np.ndarray]
    about: str = ""


def _extremes(rows: pd.DataFrame) -> list[tuple]:
    """The patients of highest and of lowest risk in the first fold, and words for them."""
    rows = rows[rows["fold"] == rows["fold"].min()].sort_values("score", ascending=False)
    pairs = zip(rows.iloc[[0, -1]].itertuples(), ("highest", "lowest"), strict=True)
    return [(row, f"{word} risk: {row.score:.2f}") for row, word in pairs]


def _failures(rows: pd.DataFrame, cohort: pd.DataFrame) -> list[tuple]:
    """The patient who died soonest for so low a risk, and the one who lived longest for so high a one, ranked within folds."""
    rows = rows.join(cohort[["time_months", "event"]], on="patient")
    rank = rows.groupby("fold")[["score", "time_months"]].rank(pct=True)
    gap = rank.sum(axis=1).sort_values()  # 0: a low risk and a short life; 2: a high risk and a long one
    died = gap[rows["event"][gap.index] == 1]
    found = []
    for at in [*died.index[:1], gap.index[-1]]:
        row = rows.loc[[at]].assign(rank=rank.loc[at, "score"])
        row = next(row.itertuples())
        ended = "died" if row.event else "alive"
        found.append((row, f"risk above {row.rank:.0%} of the fold, {ended} at {row.time_months:.0f} months"))
    return found


def seen_by(stage: Stage, model: str, ready: Sequence[str], failures: bool = False) -> list[Seen]:
    """What a model looks at in the held-out patients of highest and of lowest risk in the first fold (first seed).

    With `failures`, in the two of all folds whom it misjudged most: who died soonest for so low a risk, and who lived longest
    for so high a one. Of slides that are `ready`, on this disk; empty where the model was not trained, or fewer than two
    patients have one.
    """
    from lib.crossfusion.train import load_model, received  # and with it torch, which metrics do without

    slides, rows = stage.read("slides.csv"), stage.read("predictions.csv")
    slides = slides[(slides["status"] == "ok") & slides["slide"].isin(ready)]
    slide_of = slides.drop_duplicates("patient").set_index("patient")["slide"]
    rows = rows[(rows["model"] == model) & (rows["seed"] == stage.params.seeds[0])]
    rows = rows[(rows["setting"] == rows["setting"].min()) & rows["patient"].isin(slide_of.index)]
    cohort, chosen, seen = stage.read("cohort.csv").set_index("patient") if failures else None, [], []
    if len(rows) > 1:
        chosen = _failures(rows.reset_index(drop=True), cohort) if failures else _extremes(rows)
    for row, words in chosen:
        slide, run = slide_of[row.patient], f"{row.setting}.{row.fold}.{model}.s{row.seed}"
        bag = read_bag(feature_home(stage), slide)
        weights = stage.reads(f"weights/{run}.safetensors")
        network = load_model(weights, model, bag[20].features.shape[1], stage.params)
        grid = read_grid(stage.folder / "tiles" / f"{slide}.h5")
        about = read_foreign(bag_files(feature_home(stage), slide, (20,))[20]).attributes
        unit = about["coords_unit"] if all(tiles.coords is not None for tiles in bag.values()) else ""
        if not unit:
            print(f"{slide} is not drawn: its files of features do not say where the tiles lie")
            continue
        if stage.params.features:  # tiles of another pipeline
            scale = {"px": 1.0, "um": 1 / grid.um_per_px}[unit]
            side = finest_side({of: tiles.coords for of, tiles in bag.items()}) * scale or grid.side_px(20)
            grid = replace(grid, cell_px=side * 20 / CELL_SCALE)
            bag = {of: tiles._replace(coords=tiles.coords * scale) for of, tiles in bag.items()}
        seen.append(Seen(slide, row.score, where_seen(grid, bag), received(network, bag), words))
    return seen


def where_seen(grid: TileGrid, bag: Bag) -> TileGrid:
    """The grid of a slide with the tiles of a bag, whose centres are level-0 pixels: tiles that could not be decoded have no
    features, and those of another pipeline lie elsewhere.
    """
    tiles = {}
    for scale, (_, centres) in bag.items():
        corners, none = centres - grid.side_px(scale) / 2, np.zeros(len(centres), np.int64)
        places = np.rint(corners / grid.side_px(scale)).astype(np.int64)
        tiles[scale] = Tiles(np.rint(corners).astype(np.int64), places, none, np.full(len(centres), np.nan))
    return replace(grid, tiles=tiles, origins=np.zeros((1, 2), np.int64))


def at_the_edge(seen: Seen, most: int = 8, scale: int = 20) -> tuple[int, float]:
    """How many of the `most` attended tiles of a slide lack one of their eight neighbours, and the share of all its tiles that
    do: where tissue ends there is background, and a tear or a fold is no tumour.
    """
    corners, reach = seen.grid.tiles[scale].coords, 1.5 * seen.grid.side_px(scale)
    places = cKDTree(np.unique(corners, axis=0))
    around = places.query_ball_point(corners, reach, p=np.inf, return_length=True)
    edge = around < 9  # with itself
    return int(edge[np.argsort(seen.maps[scale])[::-1][:most]].sum()), float(edge.mean())


def white_share(thumbnail: np.ndarray, grid: TileGrid, scale: int = 20) -> np.ndarray:
    """Share of each tile of a scale that is white on a slide's thumbnail (height, width, 3): (n,), 0 to 1."""
    white, times = thumbnail.min(axis=2) > WHITE, thumbnail.shape[1] / grid.size[0]
    side = max(1, round(grid.side_px(scale) * times))
    corners = np.floor(grid.tiles[scale].coords.clip(0) * times).astype(int)
    return np.array([white[y : y + side, x : x + side].mean() for x, y in corners])


def attention_maps(raw: Cohort, seen: Seen, axes) -> float:
    """A slide, the rank of its 20x tiles by how much tissue they hold, and of the attention that its tiles receive at each scale.

    Returns the rank correlation (Spearman) of a 20x tile's attention with its share of white, NaN where all hold as much.
    """
    with raw.open(seen.slide) as picture:
        thumbnail = picture.thumbnail(1024)
    white = white_share(thumbnail, seen.grid)
    axes[0].imshow(thumbnail)
    axes[0].set(xticks=[], yticks=[])
    axes[0].set_title(seen.slide.partition(".")[0], fontsize=8)
    draw_received(axes[1], thumbnail, seen.grid, 20, 1 - white)
    axes[1].set_title("tissue in the tile")
    for ax, (scale, attention) in zip(axes[2:], seen.maps.items(), strict=True):
        draw_received(ax, thumbnail, seen.grid, scale, attention)
    return float(np.corrcoef(rankdata(white), rankdata(seen.maps[20]))[0, 1]) if np.ptp(white) else np.nan


def extreme_tiles(raw: Cohort, seen: Seen, rows) -> None:
    """The 20x tiles that receive most attention, and those that receive least, a row each."""
    order, side = np.argsort(seen.maps[20]), round(seen.grid.side_px(20))
    with raw.open(seen.slide) as picture:
        for row, places, name in zip(rows, (order[::-1], order), ("most", "least"), strict=True):
            corners = seen.grid.tiles[20].coords[places[: len(row)]]
            tile_row(row, [picture.read(*corner, side) for corner in corners], name)

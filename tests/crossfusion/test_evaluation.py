from dataclasses import replace

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from lib.crossfusion import evaluation
from lib.crossfusion.bags import TileFeatures
from lib.crossfusion.cohort import clinical_baselines
from lib.crossfusion.params import CrossFusionParams
from lib.crossfusion.phantom import planted_patients, write_planted
from lib.features.tiles import TileGrid, Tiles, write_grid
from lib.figures.pictures import draw_received
from lib.statistics.metrics_table import c_index_by_fold, risk_groups, survival_table
from lib.training.folds import Fold

PARAMS = CrossFusionParams(cohort="demo", kind="phantom", horizons=[12.0, 36.0], bootstrap_draws=100)


class Folder:
    """As much of a stage as reading the predictions takes."""

    params = PARAMS

    def __init__(self, folder):
        self.folder = folder

    def read(self, name):
        return pd.read_csv(self.folder / name, dtype={"fold": str})


@pytest.fixture
def planted(tmp_path):
    """A phantom's cohort with its clinical baselines and stored predictions, three folds."""
    drawn = planted_patients(patients=90, seed=3)
    write_planted(tmp_path / "raw", drawn, seed=7)
    cohort = drawn.rename(columns={"time": "time_months"}).set_index("patient", drop=False)
    cohort["stage"] = cohort["stage"].map(["", "Stage I", "Stage II", "Stage III", "Stage IV"].index)
    fold = pd.Series(np.arange(90) // 2 % 3, index=cohort.index).astype(str)
    parts = {each: (fold.index[fold != each], fold.index[fold == each]) for each in "012"}
    folds = [Fold(each, *map(tuple, some)) for each, some in parts.items()]
    clinical_baselines(cohort, folds, PARAMS)[0].to_csv(tmp_path / "clinical.csv", index=False)
    return Folder(tmp_path), cohort.assign(fold=fold)


def measured(models, cohort):
    about = (PARAMS.cohort, PARAMS.horizons, PARAMS.bootstrap_draws)
    return survival_table(models, cohort, *about).set_index(["setting", "model", "metric"])


def test_stored_risks_are_taken_as_given_and_the_rows_say_so(planted):
    stage, cohort = planted
    models = evaluation.held_out_patients(stage, cohort)
    trained = {name: one.trained for name, one in models["phantom-a"].items()}
    made, given = ["kaplan-meier", "age", "cox-clinical"], ["phantom:seen", "phantom:blind"]
    assert trained == dict.fromkeys(made, True) | dict.fromkeys(given, False)
    rows = measured(models, cohort)["how"]
    for metric in ("c_index", "logrank_p_fold_median"):
        given, made = (rows["phantom-a", model, metric] for model in ("phantom:seen", "cox-clinical"))
        assert ("as given" in given, "shared training patients" in given) == (metric == "c_index", False)
        assert ("as given" in made, "shared training patients" in made) == (False, True)


def test_a_fold_without_a_death_has_reasons_and_takes_nothing_along(planted):
    stage, cohort = planted
    dead = (cohort["cancer"] == "phantom-a") & (cohort["fold"] == "0")
    cohort = cohort.assign(event=cohort["event"].mask(dead, 0))
    models = evaluation.held_out_patients(stage, cohort)
    metrics = measured(models, cohort)
    row = metrics.loc[("phantom-a", "cox-clinical", "c_index")]
    assert np.isnan(row["estimate"])
    assert row["how"] == "not computable: the metric has no value in fold 0 (no event, one class or no pair)"
    order = next(evaluation.shown_metrics(metrics.reset_index(), models))
    assert "no value in fold 0" in order[0]
    assert (order[1].set_index("model") == "not computable").all(axis=None)
    assert metrics.loc[("phantom-b", "cox-clinical", "c_index"), ["low", "high"]].notna().all()
    differences = evaluation.with_reasons(evaluation.difference_rows(models, cohort, PARAMS, ["c_index"]))
    assert (differences["why"] != "").equals(differences["low"].isna())
    assert c_index_by_fold(models["phantom-a"])["c_index"].isna().sum() == 5
    assert risk_groups(models["phantom-a"])["hazard_ratio"].notna().sum() == 8
    alarms, nulls = evaluation.false_alarm_rows(models, cohort, nulls=5)
    alarms = alarms.set_index("setting")
    assert list(nulls) == ["phantom-b"]
    assert alarms["why"].ne("").to_dict() == {"phantom-a": True, "phantom-b": False}
    assert 0.5 < alarms.loc["phantom-b", "detected"] < 0.9


def test_nulls_work_with_missing_numbers_and_say_where_there_are_none(planted):
    stage, cohort = planted
    models = evaluation.held_out_patients(stage, cohort)
    missing = cohort.assign(age=np.nan, stage=cohort["stage"].where(cohort["stage"] < 4))
    alarms, _ = evaluation.false_alarm_rows(models, missing, 5)
    assert alarms["false_alarms"].notna().all()
    alarms, nulls = evaluation.false_alarm_rows(models, cohort.assign(age=np.nan, stage=1.0, female=1.0), 5)
    assert not nulls
    assert alarms["why"].str.contains("no clinical number differs").all()
    assert alarms["false_alarms"].isna().all()


def test_attended_tiles_at_the_edge_are_counted():
    places = np.array([(x, y) for y in range(5) for x in range(5)])
    origins, tissue = np.zeros(25, np.int64), np.ones(25, np.float32)
    tiles = {20: Tiles(places * 512, places, origins, tissue)}
    grid = TileGrid("s", "ok", "exact", 256, 2048.0, 0.5, (5000, 5000), tiles)
    inside = np.isin(places, (1, 2, 3)).all(axis=1)
    for attention, expected in ((inside, 0), (~inside, 8)):
        seen = evaluation.Seen("s", 0.0, grid, {20: attention.astype(float)})
        assert evaluation.at_the_edge(seen) == (expected, 16 / 25)


def small_bag(scale_px=1.0, without=()):
    """Centres of a slide of 2 x 2 cells of 5x, 2048 level-0 pixels each; `without`: tiles at 20x that are not there."""
    bag = {}
    for scale in (20, 10, 5):
        n, side = 2 * scale // 5, 2048 * 5 / scale
        centres = (np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2) + 0.5) * side
        kept = np.delete(np.arange(n * n), without) if scale == 20 else np.arange(n * n)
        bag[scale] = TileFeatures(np.ones((len(kept), 4), np.float32), centres[kept] * scale_px)
    return bag


def own_grid(bag):
    empty = np.zeros(0, np.int64)
    corners = {scale: (one.coords - 2048 * 2.5 / scale).astype(int) for scale, one in bag.items()}
    tiles = {scale: Tiles(at, np.zeros_like(at), empty, empty) for scale, at in corners.items()}
    return TileGrid("s", "ok", "exact", 256, 2048.0, 0.25, (4096, 4096), tiles)


def test_a_tile_that_could_not_be_decoded_is_missing_from_the_map_and_no_more():
    whole = own_grid(small_bag())
    seen = evaluation.where_seen(whole, small_bag(without=[9]))
    np.testing.assert_array_equal(seen.tiles[20].coords, np.delete(whole.tiles[20].coords, 9, axis=0))
    np.testing.assert_array_equal(seen.tiles[5].coords, whole.tiles[5].coords)
    figure, ax = plt.subplots()
    draw_received(ax, np.zeros((8, 8, 3), np.uint8), seen, 20, np.arange(63))
    plt.close(figure)
    inner = evaluation.at_the_edge(evaluation.Seen("s", 0.0, seen, {20: np.arange(63.0)}))[1]
    assert inner == (28 + 3) / 63  # the border, and those beside the hole that do not touch it


@pytest.mark.parametrize(("layout", "unit"), [("clam", 1.0), ("stamp", 0.25), ("tensor", 1.0)])
def test_features_given_beside_slides_are_drawn_where_they_lie(tmp_path, monkeypatch, capsys, layout, unit):
    """Features of another pipeline, on another grid than stage 1 laid; those of `tensor` do not say where."""
    bag = small_bag(unit, without=[0])
    for scale, tiles in bag.items():
        path = tmp_path / f"given/x{scale}/P.h5"
        path.parent.mkdir(parents=True)
        if layout == "tensor":
            torch.save(torch.from_numpy(tiles.features), path.with_suffix(".pt"))
            continue
        corners = tiles.coords - 2048 * 2.5 / scale * unit
        with h5py.File(path, "w") as file:
            file["feats" if layout == "stamp" else "features"], file["coords"] = tiles.features, corners
            if layout == "stamp":
                file.attrs.update({"unit": "um", "tile_size": 2048 * 5 / scale * unit})
    write_grid(tmp_path / "tiles" / "P.h5", replace(own_grid(small_bag(without=range(60))), slide="P"))
    stage = Folder(tmp_path)
    stage.params = PARAMS.model_copy(update={"phantom": None, "outcomes": "o.csv", "features": "given"})
    stage.reads = lambda path: path
    rows = [("TCGA-A", "crossfusion", 1, "0", patient, score) for patient, score in (("p", 1.0), ("q", 0.0))]
    names = ["setting", "model", "seed", "fold", "patient", "score"]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "predictions.csv", index=False)
    slides = [("p", "P", "ok"), ("q", "P", "ok")]
    pd.DataFrame(slides, columns=["patient", "slide", "status"]).to_csv(tmp_path / "slides.csv", index=False)
    monkeypatch.setattr("lib.crossfusion.cohort.RAW", tmp_path)
    monkeypatch.setattr("lib.crossfusion.train.load_model", lambda *_: None)
    received = lambda _, bag: {20: np.arange(len(bag[20].features))}  # noqa: E731
    monkeypatch.setattr("lib.crossfusion.train.received", received)
    seen = evaluation.seen_by(stage, "crossfusion", ["P"])
    if layout == "tensor":
        assert seen == []
        assert "P is not drawn" in capsys.readouterr().out
        return
    expected = own_grid(small_bag(without=[0])).tiles[20].coords
    np.testing.assert_allclose(seen[0].grid.tiles[20].coords, expected, atol=1)
    assert seen[0].grid.side_px(20) == pytest.approx(512)


def test_the_share_of_white_is_of_the_tile_that_lies_there():
    grid = own_grid(small_bag())  # 8 x 8 tiles at 20x of 512 pixels; a thumbnail of 64 pixels has 8 for each
    thumbnail = np.full((64, 64, 3), 120, np.uint8)
    thumbnail[:, :4] = 245  # half of the first column of tiles
    thumbnail[8:16, 8:16] = (250, 250, 180)  # bright, but stained
    share = evaluation.white_share(thumbnail, grid).reshape(8, 8)
    np.testing.assert_array_equal(share[:, 0], 0.5)
    assert share[:, 1:].max() == 0


def test_failures_are_who_died_soonest_for_a_low_risk_and_who_lived_longest_for_a_high_one():
    patients = list("abcdef")
    rows = pd.DataFrame({"patient": patients, "fold": 0, "score": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]})
    cohort = pd.DataFrame({"time_months": [1, 2, 30, 40, 90, 5], "event": [0, 1, 1, 1, 0, 1]}, index=patients)
    found = evaluation._failures(rows, cohort)
    assert [row.patient for row, _ in found] == ["b", "e"]  # a was lost from sight, and tells nothing
    assert found[0][1] == "risk above 33% of the fold, died at 2 months"
    other = pd.concat([rows, rows.assign(fold=1, score=rows["score"] + 9, patient=list("ghijkl"))])
    both = pd.concat([cohort, cohort.set_axis(list("ghijkl")).assign(time_months=100.0)])
    # another fold has another scale
    assert evaluation._failures(other.reset_index(drop=True), both)[0][0].patient == "b"

import numpy as np
import pandas as pd
import pytest

from lib.crossfusion import evaluation
from lib.crossfusion.cohort import clinical_baselines, planted_patients, write_planted
from lib.crossfusion.params import CrossFusionParams
from lib.features.tiles import TileGrid, Tiles
from lib.statistics.metrics_table import c_index_by_fold, risk_groups
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
    write_planted(tmp_path / "raw", drawn)
    cohort = drawn.rename(columns={"time": "time_months"}).set_index("patient", drop=False)
    cohort["stage"] = cohort["stage"].map(["", "Stage I", "Stage II", "Stage III", "Stage IV"].index)
    fold = pd.Series(np.arange(90) // 2 % 3, index=cohort.index).astype(str)
    folds = [
        Fold(each, *(tuple(fold.index[part]) for part in (fold != each, fold == each))) for each in "012"
    ]
    clinical_baselines(cohort, folds, PARAMS)[0].to_csv(tmp_path / "clinical.csv", index=False)
    return Folder(tmp_path), cohort.assign(fold=fold)


def test_stored_risks_are_taken_as_given_and_the_rows_say_so(planted):
    stage, cohort = planted
    models = evaluation.held_out_patients(stage, cohort)
    trained = {name: one.trained for name, one in models["phantom-a"].items()}
    assert trained == {
        "kaplan-meier": True,
        "age": True,
        "cox-clinical": True,
        "phantom:seen": False,
        "phantom:blind": False,
    }
    rows = evaluation.metric_rows(models, cohort, PARAMS).set_index(["setting", "model", "metric"])["how"]
    for metric in ("c_index", "logrank_p_fold_median"):
        given, made = (rows["phantom-a", model, metric] for model in ("phantom:seen", "cox-clinical"))
        assert ("as given" in given, "shared training patients" in given) == (metric == "c_index", False)
        assert ("as given" in made, "shared training patients" in made) == (False, True)


def test_a_fold_without_a_death_has_reasons_and_takes_nothing_along(planted):
    stage, cohort = planted
    dead = (cohort["cancer"] == "phantom-a") & (cohort["fold"] == "0")
    cohort = cohort.assign(event=cohort["event"].mask(dead, 0))
    models = evaluation.held_out_patients(stage, cohort)
    metrics = evaluation.metric_rows(models, cohort, PARAMS).set_index(["setting", "model", "metric"])
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
    alarms, _ = evaluation.false_alarm_rows(
        models, cohort.assign(age=np.nan, stage=cohort["stage"].where(cohort["stage"] < 4)), 5
    )
    assert alarms["false_alarms"].notna().all()
    alarms, nulls = evaluation.false_alarm_rows(models, cohort.assign(age=np.nan, stage=1.0, female=1.0), 5)
    assert not nulls
    assert alarms["why"].str.contains("no clinical number differs").all()
    assert alarms["false_alarms"].isna().all()


def test_attended_tiles_at_the_edge_are_counted():
    places = np.array([(x, y) for y in range(5) for x in range(5)])
    origins, tissue = np.zeros(25, np.int64), np.ones(25, np.float32)
    grid = TileGrid(
        "s", "ok", "exact", 256, 2048.0, 0.5, (5000, 5000), {20: Tiles(places * 512, places, origins, tissue)}
    )
    inside = np.isin(places, (1, 2, 3)).all(axis=1)
    for attention, expected in ((inside, 0), (~inside, 8)):
        seen = evaluation.Seen("s", 0.0, grid, {20: attention.astype(float)})
        assert evaluation.at_the_edge(seen) == (expected, 16 / 25)

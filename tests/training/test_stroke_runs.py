"""Runs of the stroke study on disk: what is read, written and remembered, and what sees what."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import expit

from lib.inputs.clinical import ADMISSION, CATEGORICAL, POSTPROCEDURAL
from lib.stroke import train as stroke_runs
from lib.stroke.series import write_series_features
from lib.stroke.train import SCAN, VOLUMES, Runs, Unit, auc, logits, variables_of
from lib.training import loop
from lib.training.folds import Fold

OPTIONS = {
    "variant": "described",
    "shape": [16, 16, 16],
    "frames": 2,
    "epochs": 2,
    "batch": 4,
    "learning_rate": 5e-3,
    "schedule": "one_fall",
    "widths": [2, 2, 2, 2],
    "channels": 4,
    "heads": 2,
    "mirrored": True,
}
PEOPLE = [f"P{i:02d}" for i in range(24)]
FOLD = Fold("0", tuple(PEOPLE[8:]), tuple(PEOPLE[:8]))


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("stroke"), np.random.default_rng(0)
    for name in PEOPLE:
        write_series_features(folder / "features" / f"{name}.h5", random.normal(size=(2, 16, 16, 16)))
    return folder / "features"


@pytest.fixture
def folder(features, tmp_path):
    (tmp_path / "features").symlink_to(features)
    return tmp_path


@pytest.fixture
def cohort() -> pd.DataFrame:
    """Smoking is known of nobody, as in ISLES'24; other values are missing here and there."""
    random = np.random.default_rng(1)
    label = np.arange(24) % 2
    table = pd.DataFrame(
        {
            "label": label,
            "age": random.integers(60, 80, 24) + 8.0 * label,
            "onset_to_ctp_min": random.integers(60, 400, 24).astype(float),
            "ctp_to_recanalisation_min": random.integers(60, 200, 24).astype(float),
            "nihss": random.integers(0, 25, 24).astype(float),
            **{
                name: (np.arange(24) // 2 % len(levels)).astype(float) for name, levels in CATEGORICAL.items()
            },
            "smoking": np.nan,
            **{name: random.uniform(0, 100, 24) for name in VOLUMES},
        },
        index=pd.Index(PEOPLE, name="patient"),
    )
    table.loc[["P01", "P10", "P11"], "nihss"] = np.nan
    table.loc[["P02", "P12"], "hypertension"] = np.nan
    return table


def runs(folder, cohort, **options) -> Runs:
    return Runs(folder, cohort, {**OPTIONS, **options}, 1, "cpu")


def unit(model="fusion", setting="postprocedural", seed=1) -> Unit:
    return Unit(setting, FOLD, model, seed)


def scored(work: Runs, one: Unit) -> pd.DataFrame:
    work.train(one)
    return pd.read_csv(work.outputs(one)[0])


def weights(work: Runs, one: Unit) -> dict:
    work.train(one)
    return load_file(work.outputs(one)[2])


def equal(one: dict, other: dict) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


# files


def test_files_of_a_run(folder, cohort):
    work = runs(folder, cohort)
    assert sorted(path.stem for path in work.inputs(unit())) == PEOPLE
    assert all(path.is_file() for path in work.inputs(unit()))
    for model in ("clinical-branch", "logistic-clinical", "logistic-volumes", "logistic-both"):
        assert work.inputs(unit(model)) == []
    names = [path.relative_to(folder).as_posix() for path in work.outputs(unit())]
    assert names == [
        "train/postprocedural.0.fusion.s1.scores.csv",
        "train/postprocedural.0.fusion.s1.history.csv",
        "weights/postprocedural.0.fusion.s1.safetensors",
    ]
    assert len(work.outputs(unit(seed=2))) == len(work.outputs(unit("logistic-both"))) == 2


@pytest.mark.parametrize(
    ("model", "setting"),
    [
        ("fusion", "postprocedural"),
        ("fusion-released", "admission"),
        ("concatenation", "admission"),
        ("ctp", SCAN),
        ("clinical-branch", "admission"),
        ("logistic-clinical", "admission"),
        ("logistic-volumes", SCAN),
        ("logistic-both", "postprocedural"),
    ],
)
def test_held_out_patients_get_a_probability_though_smoking_is_missing_for_everybody(
    folder, cohort, model, setting
):
    work, one = runs(folder, cohort), unit(model, setting)
    table = scored(work, one)
    assert table["patient"].tolist() == list(FOLD.test)
    assert list(table.columns) == ["patient", "score", "probability"]
    assert np.isfinite(table["score"]).all()
    assert table["score"].nunique() > 4
    np.testing.assert_allclose(table["probability"], expit(table["score"]))
    history = pd.read_csv(work.outputs(one)[1])
    assert list(history.columns) == ["part", "epoch", "loss", "held_out_auc", "chosen"]
    assert history["chosen"].tolist() == ([] if model.startswith("logistic") else [False, True])
    assert not list((folder / "train").glob("*.checkpoint*"))


def test_weights_on_disk_are_those_that_gave_the_scores(folder, cohort):
    work, one = runs(folder, cohort), unit()
    table = scored(work, one)
    model, held_out = work.untrained("fusion", FOLD, "postprocedural")
    model.load_state_dict(load_file(work.outputs(one)[2]))
    np.testing.assert_allclose(logits(model, held_out, 4), table["score"], atol=1e-6)
    label = cohort.loc[list(FOLD.test), "label"].tolist()
    assert [case.label for case in held_out] == label
    assert pd.read_csv(work.outputs(one)[1])["held_out_auc"].iloc[-1] == auc(
        held_out, table["score"].to_numpy()
    )


# what a run depends on


def test_run_depends_on_outcomes_options_and_its_own_variables(folder, cohort):
    def told(change=None, model="fusion", setting="admission", **options):
        return runs(folder, cohort if change is None else change, **options).depends(unit(model, setting))

    assert told() == told()
    assert told(epochs=3) != told()
    assert told(cohort.assign(label=1 - cohort["label"])) != told()
    older, later = cohort.assign(age=cohort["age"] + 1), cohort.assign(mtici=0.0)
    larger = cohort.assign(core_ml=cohort["core_ml"] + 1)
    assert told(older) != told()
    assert told(later) == told(), "not known at admission"
    assert told(later, setting="postprocedural") != told(setting="postprocedural")
    assert told(larger) == told()
    for model, setting in (("ctp", SCAN), ("logistic-volumes", SCAN)):
        assert told(older, model, setting) == told(None, model, setting)
    for model, setting in (("logistic-volumes", SCAN), ("logistic-both", "admission")):
        assert told(larger, model, setting) != told(None, model, setting)


def test_half_trained_run_is_taken_up_only_where_nothing_changed(folder, cohort, monkeypatch):
    asked, fit = [], stroke_runs.fit
    monkeypatch.setattr(
        stroke_runs, "fit", lambda *a, **k: (asked.append((k["checkpoint"], k["key"])), fit(*a, **k))[1]
    )
    one = unit("clinical-branch", "admission", seed=4)
    older = cohort.assign(age=cohort["age"] + 1)
    for table, options in ((cohort, {}), (cohort, {}), (cohort, {"learning_rate": 0.01}), (older, {})):
        runs(folder, table, **options).train(one)
    (path, key), again, *others = asked
    assert path.name == "admission.0.clinical-branch.s4.whole.checkpoint.safetensors"
    assert again == (path, key)
    assert len({key, *(other[1] for other in others)}) == 3
    del asked[:]
    runs(folder, cohort, inner_folds=2).train(one)
    assert [path.name.split(".s4.")[1].removesuffix(".checkpoint.safetensors") for path, _ in asked] == [
        "0.0",
        "0.1",
        "whole",
    ]
    assert len({key for _, key in asked}) == 3


class Killed(Exception):
    """Stands for kill -9 at the end of an epoch."""


@pytest.mark.parametrize("where", ["0.1", "whole"])
def test_run_killed_among_its_inner_folds_ends_as_an_undisturbed_one(folder, cohort, where, monkeypatch):
    options = {"inner_folds": 4, "epochs": 6, "learning_rate": 0.03}
    one = unit("clinical-branch", "admission")
    work = runs(folder, cohort, **options)
    work.train(one)
    whole = [path.read_bytes() for path in work.outputs(one)]
    keeper, fit = loop._keeper, stroke_runs.fit

    def mortal(path, *arguments):
        keep = keeper(path, *arguments)

        def kept(it):
            keep(it)
            if f".{where}." in path.name and path.is_file():
                raise Killed

        return kept

    monkeypatch.setattr(stroke_runs, "fit", lambda *a, **k: fit(*a, **k, every_s=0))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_keeper", mortal)
        with pytest.raises(Killed):
            work.train(one)
    assert len(list((folder / "train").glob("*.checkpoint.safetensors"))) == 1
    torch.manual_seed(99)
    work.train(one)
    assert [path.read_bytes() for path in work.outputs(one)] == whole
    assert not list((folder / "train").glob("*.checkpoint*"))


# what is seen


def other_held_out(cohort: pd.DataFrame) -> pd.DataFrame:
    """The held-out patients with other outcomes and other values."""
    table, held_out = cohort.copy(), list(FOLD.test)
    table.loc[held_out, "label"] = 1 - table.loc[held_out, "label"]
    table.loc[held_out, "age"] = [20.0, 110.0] * 4
    table.loc[held_out, "nihss"] = [0.0, 42.0] * 4
    table.loc[held_out, "sex"] = 1.0
    table.loc[held_out, list(VOLUMES)] = 1000.0
    return table


@pytest.mark.parametrize("model", ["fusion", "clinical-branch"])
@pytest.mark.parametrize("inner_folds", [0, 2])
def test_held_out_patients_influence_nothing(folder, cohort, model, inner_folds):
    one = unit(model)
    first = weights(runs(folder, cohort, inner_folds=inner_folds), one)
    assert equal(first, weights(runs(folder, other_held_out(cohort), inner_folds=inner_folds), one))


def test_scaler_that_has_seen_everybody_is_a_quirk(folder, cohort):
    older = cohort.copy()
    older.loc["P00", "age"] = 119.0
    for model, influenced in (("fusion", False), ("fusion+scaler_on_all", True), ("fusion-released", True)):
        one = unit(model)
        first, second = (weights(runs(folder, table), one) for table in (cohort, older))
        assert equal(first, second) != influenced
    # a held-out patient's outcome is none of the scaler's business
    flipped = cohort.copy()
    flipped.loc[list(FOLD.test), "label"] = 1 - flipped.loc[list(FOLD.test), "label"]
    assert equal(second, weights(runs(folder, flipped.assign(age=older["age"])), unit("fusion-released")))


def test_epoch_that_was_best_on_the_held_out_is_a_quirk(folder, cohort):
    one = unit("fusion+epoch_by_test", "admission")
    work = runs(folder, cohort, epochs=5, inner_folds=2, learning_rate=0.02)
    table = scored(work, one)
    history = pd.read_csv(work.outputs(one)[1])
    assert set(history["part"]) == {"whole"}, "no inner folds: the held-out patients choose"
    assert history["chosen"].idxmax() == history["held_out_auc"].idxmax()
    held_out = work.untrained("fusion", FOLD, "admission")[1]
    assert auc(held_out, table["score"].to_numpy()) == history["held_out_auc"].max()


def test_inner_folds_choose_the_epoch_by_their_mean_auc_and_never_see_the_held_out(
    folder, cohort, monkeypatch
):
    seen, fit = [], stroke_runs.fit

    def watched(build, train, held_out, *arguments, **options):
        seen.append(({c.patient for c in train}, {c.patient for c in held_out}))
        return fit(build, train, held_out, *arguments, **options)

    monkeypatch.setattr(stroke_runs, "fit", watched)
    one = unit("clinical-branch", "admission")
    work = runs(folder, cohort, epochs=6, inner_folds=4, learning_rate=0.03)
    work.train(one)
    *inner, whole = seen
    assert len(inner) == 4
    assert sorted(name for _, held_out in inner for name in held_out) == list(FOLD.train)
    assert all(train | held_out == set(FOLD.train) and not train & held_out for train, held_out in inner)
    assert whole == (set(FOLD.train), set(FOLD.test))
    history = pd.read_csv(work.outputs(one)[1])
    told = history[history["part"] != "whole"]
    assert sorted(set(told["part"])) == ["0.0", "0.1", "0.2", "0.3"]
    assert not told["chosen"].any()
    mean = told.pivot_table(index="epoch", columns="part", values="held_out_auc").mean(axis=1)
    own = history[history["part"] == "whole"]
    assert len(own) == mean.idxmax() + 1
    assert own["chosen"].tolist() == [False] * mean.idxmax() + [True]
    assert 0 < mean.idxmax() < 5, "else the test shows little"


def test_inner_folds_are_balanced_and_depend_on_the_seed(folder, cohort):
    work = runs(folder, cohort)
    inner = work.inner(FOLD, 4, 1)
    assert [sorted(cohort.loc[list(fold.test), "label"]) for fold in inner] == 4 * [[0, 0, 1, 1]]
    assert inner == work.inner(FOLD, 4, 1)
    assert inner != work.inner(FOLD, 4, 2)


def test_scan_alone_depends_on_no_clinical_value(folder, cohort):
    assert variables_of(SCAN) == "admission"
    other = cohort.assign(age=cohort["age"] - 30, nihss=1.0, sex=np.nan)
    for variant in ("described", "released"):
        first, second = (
            scored(runs(folder, table, variant=variant), unit("ctp", SCAN)) for table in (cohort, other)
        )
        pd.testing.assert_frame_equal(first, second)


# what is missing


def test_gaps_are_masked_or_as_released_filled_from_training(folder, cohort):
    work = runs(folder, cohort)
    _, held_out = work.untrained("fusion", FOLD, "postprocedural")
    gaps = {case.patient: {POSTPROCEDURAL[i] for i in np.flatnonzero(case.missing)} for case in held_out}
    assert gaps["P00"] == {"smoking"}
    assert gaps["P01"] == {"nihss", "smoking"}
    assert gaps["P02"] == {"hypertension", "smoking"}
    _, held_out = work.untrained("fusion-released", FOLD, "postprocedural")
    assert not any(case.missing.any() for case in held_out)
    smoking = list(CATEGORICAL).index("smoking")
    assert {int(case.categorical[smoking]) for case in held_out} == {0}
    known = cohort["nihss"].drop("P01")
    low, high = known.min(), known.max()
    middle = cohort.loc[list(FOLD.train), "nihss"].median()
    assert held_out[1].continuous[3] == pytest.approx((middle - low) / (high - low))


@pytest.mark.parametrize("name", ["smoking", "nihss"])
def test_variable_that_only_held_out_patients_have_is_treated_as_if_nobody_had(folder, cohort, name):
    """Nothing could be learnt of it: its token, or its scale, would be random."""
    nobody = cohort.assign(**{name: np.nan})
    somebody = nobody.copy()
    somebody.loc[list(FOLD.test), name] = 1.0
    for model in ("clinical-branch", "fusion-released", "logistic-both"):
        one = unit(model)
        first, second = (scored(runs(folder, table), one) for table in (nobody, somebody))
        pd.testing.assert_frame_equal(first, second)


def test_logistic_regression_leaves_out_what_no_training_patient_has(folder, cohort, monkeypatch):
    seen, logistic = [], stroke_runs.logistic
    monkeypatch.setattr(stroke_runs, "logistic", lambda t, *a: (seen.append(t), logistic(t, *a))[1])
    work = runs(folder, cohort)
    work.train(unit("logistic-both", "admission"))
    work.train(unit("logistic-volumes", SCAN))
    both, volumes = seen
    assert list(both) == [*(name for name in ADMISSION if name != "smoking"), *VOLUMES]
    assert list(volumes) == list(VOLUMES)
    assert list(both.index) == list(FOLD.train), "the held-out take no part in the fit"
    assert not both.isna().any().any()
    assert both.loc["P10", "nihss"] == cohort.loc[list(FOLD.train), "nihss"].median()
    np.testing.assert_allclose(both["core_ml"], np.log1p(cohort.loc[list(FOLD.train), "core_ml"]))
    np.testing.assert_array_equal(both["age"], cohort.loc[list(FOLD.train), "age"])


def test_volume_that_no_training_patient_has_is_refused(folder, cohort):
    """Without volumes `logistic-both` would be `logistic-clinical` under another name."""
    with pytest.raises(ValueError, match="no training patient has core_ml"):
        runs(folder, cohort.assign(core_ml=np.nan)).train(unit("logistic-both"))


def test_logistic_without_any_variable_is_refused(folder, cohort):
    with pytest.raises(ValueError, match="a logistic regression needs a variable"):
        runs(folder, cohort.assign(**dict.fromkeys(POSTPROCEDURAL, np.nan))).train(unit("logistic-clinical"))


@pytest.mark.parametrize("model", ["logistic-clinical", "logistic-both"])
def test_logistic_regression_is_refitted_in_the_fold_alone(folder, cohort, model):
    """Scores of a held-out patient do not depend on the other held-out ones."""
    other = other_held_out(cohort)
    other.loc["P03"] = cohort.loc["P03"]
    first, second = (
        scored(runs(folder, table), unit(model)).set_index("patient") for table in (cohort, other)
    )
    assert first.loc["P03", "score"] == pytest.approx(second.loc["P03", "score"], abs=1e-12)
    assert not np.isclose(first["score"], second["score"])[:3].any()


# memory


def test_series_are_read_when_wanted_and_kept_within_bounds(folder, cohort, monkeypatch):
    read, reader = [], stroke_runs.read_series_features
    monkeypatch.setattr(
        stroke_runs, "read_series_features", lambda path: (read.append(path.stem), reader(path))[1]
    )
    _, held_out = runs(folder, cohort).untrained("fusion", FOLD, "admission")
    assert read == []
    for _ in range(2):
        for case in held_out[:2]:
            assert case.read().shape == (2, 16, 16, 16)
    assert read == ["P00", "P01"], "kept for the next epoch"
    monkeypatch.setattr(stroke_runs, "MEMORY", 1)
    del read[:]
    _, held_out = runs(folder, cohort).untrained("fusion", FOLD, "admission")
    for _ in range(2):
        for case in held_out[:2]:
            case.read()
    assert read == ["P00", "P01"] * 2, "no room: read again"

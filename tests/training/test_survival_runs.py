"""Runs on disk: what is read, written and remembered."""

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from lib.crossfusion.bags import read_bag
from lib.crossfusion.train import Recipe, Runs, Unit, load_model, received, scores
from lib.features.feature_files import write_features
from lib.training.folds import Fold

OPTIONS = {"variant": "described", "grid": [6.0, 12.0], "epochs": 2, "width": 16, "heads": 2, "accumulate": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Twelve patients, the first with two slides; features of three scales."""
    folder = tmp_path_factory.mktemp("runs")
    random = np.random.default_rng(0)
    rows = [
        {"patient": f"P{i:02d}", "slide": f"P{i:02d}-{k}"}
        for i in range(24)
        for k in range(2 if not i else 1)
    ]
    for row in rows:
        for scale, n in ((20, 16), (10, 4), (5, 1)):
            side = 256 * 20 // scale
            steps = int(n**0.5)
            xy = (
                np.stack(np.meshgrid(np.arange(steps), np.arange(steps)), -1).reshape(-1, 2) * side + side / 2
            )
            write_features(
                folder / "features" / f"x{scale}" / f"{row['slide']}.h5",
                random.normal(size=(n, 5)),
                xy,
                encoder="test",
                revision="1",
                um_per_px=0.5,
                crop_um=128 * 20 / scale,
                counts={"n_white": 0, "n_failed": 0, "scale": scale},
            )
    cohort = pd.DataFrame(
        {
            "patient": [f"P{i:02d}" for i in range(24)],
            "time_months": random.uniform(1, 40, 24).round(1),
            "event": [1, 1, 0] * 8,
        }
    )
    return folder, cohort.set_index("patient"), pd.DataFrame(rows)


def runs(place, **options) -> Runs:
    folder, cohort, slides = place
    return Runs(folder, folder / "features", cohort, slides, {**OPTIONS, **options}, 1, "cpu")


def unit(place, model="crossfusion", seed=1) -> Unit:
    patients = tuple(place[1].index)
    return Unit("a", Fold("0", patients[6:], patients[:6]), model, seed)


def test_files_of_a_run(place):
    work, one = runs(place), unit(place)
    assert len(work.inputs(one)) == 3 * 25
    assert all(path.is_file() for path in work.inputs(one))
    names = [path.name for path in work.outputs(one)]
    assert names == [
        "a.0.crossfusion.s1.risks.csv",
        "a.0.crossfusion.s1.history.csv",
        "a.0.crossfusion.s1.safetensors",
    ]
    assert len(work.outputs(unit(place, seed=2))) == 2


def test_run_depends_on_outcomes_and_options(place):
    one = unit(place)
    before = runs(place).depends(one)
    assert runs(place).depends(one) == before
    assert runs(place, epochs=3).depends(one) != before
    folder, cohort, slides = place
    later = cohort.assign(time_months=cohort["time_months"] + 1)
    assert runs((folder, later, slides)).depends(one) != before


def test_held_out_patients_get_a_risk_and_survival(place):
    work, one = runs(place), unit(place)
    work.train(one)
    risks, history, weights = work.outputs(one)
    table = pd.read_csv(risks)
    assert table["patient"].tolist() == list(one.fold.test)
    assert list(table.columns) == ["patient", "score", "survival_6", "survival_12"]
    assert (table["survival_6"] >= table["survival_12"]).all()
    assert len(pd.read_csv(history)) == 2
    with safe_open(weights, "np") as file:
        assert file.metadata()["edges"].startswith("[")
    # the weights on disk are those that gave the risks
    model = load_model(weights, "crossfusion", 5, Recipe(epochs=2, width=16, heads=2), "described")
    again, _ = scores(model, work.cases(one.fold.test))
    np.testing.assert_allclose(again, table["score"], atol=1e-6)
    # and say where they looked
    seen = received(model, read_bag(place[0] / "features", "P03-0"))
    assert {scale: len(values) for scale, values in seen.items()} == {5: 1, 20: 16}
    assert seen[20].sum() == pytest.approx(1, abs=1e-5)


def test_slides_of_a_patient_are_one_bag_or_as_released_cases_of_their_own(place):
    work = runs(place)
    (whole,) = work.cases(["P00"])
    assert whole.bag[20].features.shape == (32, 5)
    apart = work.cases(["P00"], by_slide=True)
    assert [case.name for case in apart] == ["P00-0", "P00-1"]
    assert {case.time for case in apart} == {whole.time}
    one = unit(place, "crossfusion+slide_unit", seed=2)
    work.train(one)
    assert pd.read_csv(work.outputs(one)[0])["patient"].tolist() == list(one.fold.test)


def test_half_trained_run_is_taken_up_only_where_nothing_changed(place, monkeypatch):
    from lib.crossfusion import train as survival_runs

    asked = []
    fit = survival_runs.fit
    monkeypatch.setattr(
        survival_runs, "fit", lambda *a, **k: (asked.append((k["checkpoint"], k["key"])), fit(*a, **k))[1]
    )
    one = unit(place, "mean-pool", seed=4)
    for options in ({}, {}, {"learning_rate": 0.01}):
        runs(place, **options).train(one)
    (path, key), again, other = asked
    assert path.name == "a.0.mean-pool.s4.checkpoint.safetensors"
    assert again == (path, key)
    assert other[1] != key
    assert not path.exists()


def test_nested_choice_sets_training_patients_aside(place):
    work, one = runs(place, nested=True), unit(place, "mean-pool", seed=3)
    work.train(one)
    history = pd.read_csv(work.outputs(one)[1])
    assert "chosen_c_index" in history
    assert history["chosen"].sum() == 1


def test_tiles_are_read_when_wanted_and_kept_within_bounds(place, monkeypatch):
    """A few hundred real slides are more than a machine holds."""
    from lib.crossfusion import train as survival_runs

    read = []
    monkeypatch.setattr(survival_runs, "read_bag", lambda *a: (read.append(a[1]), read_bag(*a))[1])
    cases = runs(place).cases(["P01", "P02"])
    assert read == []
    for _ in range(2):
        for case in cases:
            assert case.bag[20].features.shape == (16, 5)
    assert read == ["P01-0", "P02-0"], "kept for the next epoch"
    monkeypatch.setattr(survival_runs, "MEMORY", 1)
    (poor,) = runs(place).cases(["P01"])
    del read[:]
    for _ in range(2):
        poor.read()
    assert len(read) == 2, "no room: read again"

"""One plan and one way to carry it out: what runs there are, what is kept, what is collected."""

import pandas as pd
import pytest
import torch

from lib.params import StudyParams
from lib.stage import Stage
from lib.training.folds import Fold
from lib.training.runs import Result, carry_out, counted, no_runs, plan_runs

FOLDS = [Fold("0", ("b", "c"), ("a",)), Fold("1", ("a",), ("b", "c"))]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSBOOK_RESULTS", str(tmp_path))
    return Stage("toy", "3-train", StudyParams())


def the_plan(seeds=(1, 2)):
    return plan_runs(
        {"x": (FOLDS, ["net", "line", "slow"])}, seeds, trained={"net", "slow"}, first_seed_only={"slow"}
    )


def inputs(run):
    return []


def test_only_what_is_trained_by_epochs_has_several_seeds_and_weights():
    runs = the_plan()
    assert len(runs) == 2 * (2 + 1 + 1)
    assert runs["x.1.net.s2"].fold == FOLDS[1]
    assert {name for name, run in runs.items() if run.keeps_weights} == {
        f"x.{fold}.{model}.s1" for fold in "01" for model in ("net", "slow")
    }
    assert counted(runs).set_index("model")["runs"].to_dict() == {"net": 4, "line": 2, "slow": 2}


def test_runs_are_done_once_and_collected_in_the_plans_order(stage):
    asked = []

    def fit(run, checkpoint):
        asked.append(run.name)
        assert checkpoint.key == stage.unit_key
        scores = pd.DataFrame({"patient": run.fold.test, "score": float(run.seed)})
        weights = {"w": torch.tensor([float(run.seed)])}
        return Result(scores, pd.DataFrame({"epoch": [0, 1], "loss": [2.0, 1.0]}), weights)

    runs = the_plan()
    results = carry_out(stage, runs, fit, inputs=inputs)
    assert sorted(asked) == sorted(runs)
    assert results["scores"].columns.tolist() == ["setting", "model", "seed", "fold", "patient", "score"]
    assert list(results["scores"]["fold"].unique()) == ["0", "1"], "names of folds are text"
    assert len(results["scores"]) == 3 * (2 + 1 + 1)
    assert len(results["history"]) == 2 * len(runs)
    assert len(list((stage.folder / "weights").iterdir())) == 4
    again = carry_out(stage, runs, fit, inputs=inputs)
    assert len(asked) == len(runs), "whole runs are kept"
    assert again["scores"].equals(results["scores"])
    (stage.folder / "train" / "x.0.net.s1.scores.csv").write_text("broken")
    carry_out(stage, runs, fit, inputs=inputs)
    assert asked[len(runs) :] == ["x.0.net.s1"], "what is not what was written is made again"


def test_nothing_to_train_leaves_tables_without_rows(stage):
    no_runs(stage)
    assert stage.read("predictions.csv").empty
    assert stage.read("history.csv").empty


def test_a_shard_goes_on_after_no_runs_and_trains_its_share(tmp_path, monkeypatch):
    """A notebook that watches a first training only where it is alone must not end its shards there."""
    monkeypatch.setenv("CROSSBOOK_RESULTS", str(tmp_path))
    stage, done = Stage("toy", "3-train", StudyParams(shard=1, shards=2)), []

    def fit(run, checkpoint):
        done.append(run.name)
        return Result(
            pd.DataFrame({"patient": run.fold.test, "score": 1.0}), pd.DataFrame(), {"w": torch.ones(1)}
        )

    assert carry_out(stage, {}, fit, inputs=inputs)["history"].empty
    with pytest.raises(SystemExit):
        carry_out(stage, the_plan(), fit, inputs=inputs)
    assert len(done) == len(the_plan()) / 2

"""kill -9 at any moment: the next run ends as if nothing had happened."""

import json
import random
import shutil
from pathlib import Path

import pytest

POINTS = 20
UNITS = 6
# A stage of two files a unit, a table that gathers them and a manifest: what a notebook does, without its imports.
SOURCE = """
import numpy as np
import pandas as pd
from lib import files
from lib.study import stage as stages
from lib.params import Checked

class Params(Checked):
    cohort: str = "tiny"
    shard: int = 0
    shards: int = 1
    max_failed: int = 0

stages.schema_of = lambda study: Params
stage = stages.begin("stroke", "2-embed", {"In": [""], **values})
paths = lambda name: [stage.folder / "features" / f"{name}{end}" for end in (".h5", ".json")]

def make(name):
    numbers = np.random.default_rng(int(name)).normal(size=2000)
    with files.written_hdf5(paths(name)[0]) as file:
        file.create_dataset("features", data=numbers, track_times=False)
    files.write_json({"mean": numbers.mean()}, paths(name)[1])

done = stage.units(
    [str(number) for number in range(6)], make, outputs=paths, inputs=lambda name: [], depends=lambda name: {},
    code=(files,),
)
means = [pd.read_json(paths(name)[1], typ="series")["mean"] for name in done]
files.write_csv(pd.DataFrame({"unit": done, "mean": means}), stage.writes("means.csv"))
stage.finish()
"""


def record(folder: Path, stage: str) -> dict:
    return json.loads((folder / "runs" / f"{stage}.json").read_text(encoding="utf-8"))


def kill_and_resume(stages, hashes, before: Path, at: Path, run: dict, resumed: tuple, whole: dict) -> int:
    """Kill a run that starts from `before`, run again; how many units the second run found whole."""
    folder = at / "stroke" / "tiny"
    for _ in range(5):
        shutil.copytree(before, folder, dirs_exist_ok=True)
        killed = stages.run(at, *resumed[:1], **run)
        if killed["code"] == -9:
            break
        # too late: this run was quicker than the undisturbed one, or had fewer folders to make
        assert killed["code"] == 0, killed["said"][-4000:]
        shutil.rmtree(at)
        run = run | {
            name: type(run[name])(0.7 * run[name]) for name in ("kill_at", "kill_after") if name in run
        }
    assert killed["code"] == -9, run
    stages.must_run(at, *resumed, **({"source": run["source"]} if "source" in run else {}))
    assert hashes(folder) == whole, f"killed at {run}"
    found = record(folder, resumed[0] if resumed else "2-embed")
    assert found["finished"]
    shutil.rmtree(at)
    return found["units"]["kept"]


def test_stage_killed_at_any_write_ends_as_an_undisturbed_one(stages, hashes, tmp_path):
    """Every twelfth of the some hundred things it does to its folder."""
    undisturbed = stages.must_run(tmp_path / "whole", source=SOURCE)
    whole = hashes(tmp_path / "whole" / "stroke" / "tiny")
    assert len(whole) == 3 * UNITS + 2, "two files and a record a unit, the table, the manifest"
    (tmp_path / "before").mkdir()
    kept = [
        kill_and_resume(
            stages, hashes, tmp_path / "before", tmp_path / "at", {"kill_at": at, "source": SOURCE}, (), whole
        )
        for at in range(2, undisturbed["events"] - 4, 12)  # the folder itself is made by the first run only
    ]
    assert kept == sorted(kept)
    assert 0 in kept
    assert UNITS in kept
    assert len(set(kept)) == UNITS + 1, "a later kill leaves more of the work"


@pytest.fixture(scope="module")
def undisturbed(stages, tmp_path_factory) -> dict:
    """The cohort before each stage, and what an undisturbed run of the stage took and left."""
    results, found = tmp_path_factory.mktemp("whole"), {}
    stages.must_run(results, "1-preprocess")
    for one in (("2-embed",), ("3-train", "4-evaluate")):
        before = tmp_path_factory.mktemp("before") / "tiny"
        shutil.copytree(results / "stroke" / "tiny", before)
        found[one] = {"before": before, **stages.must_run(results, *one[:1])}
        stages.must_run(results, *one[1:])
        found[one]["after"] = shutil.copytree(results / "stroke" / "tiny", before.parent / "after")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("resumed", [("2-embed",), ("3-train", "4-evaluate")], ids="-".join)
def test_stage_killed_at_20_random_points_ends_as_an_undisturbed_one(
    stages, hashes, undisturbed, resumed, tmp_path
):
    """Ten writes drawn by lot, and ten moments; of 3-train the metrics that follow are compared too."""
    told, draw = undisturbed[resumed], random.Random(8)
    points = [{"kill_at": at} for at in draw.sample(range(1, told["events"] + 1), POINTS // 2)]
    points += [{"kill_after": told["seconds"] * draw.uniform(0.02, 0.6)} for _ in range(POINTS // 2)]
    whole = hashes(told["after"])
    assert {name.split("/")[0] for name in whole} >= {"features", "units", "manifests"}
    if resumed[0] == "3-train":
        assert {"predictions.csv", "metrics.csv", "weights", "train"} <= {
            name.split("/")[0] for name in whole
        }
    kept = [
        kill_and_resume(stages, hashes, told["before"], tmp_path / "at", point, resumed, whole)
        for point in points
    ]
    assert len(kept) == POINTS
    assert max(kept) > 0, "no run was resumed: all began anew"

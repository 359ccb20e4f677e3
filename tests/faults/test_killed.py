"""kill -9 at any moment: the next run ends as if nothing had happened. The same seed gives the same bits, also in shards."""

import json
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest

POINTS = 20
UNITS = 6
# A stage of two files a unit, a table that gathers them and a manifest: what a notebook does, without its imports.
SOURCE = """
import numpy as np
import pandas as pd
from lib import files, params
from lib.params import Checked
from lib.stage import begin

class Params(Checked):
    cohort: str = "tiny"
    shard: int = 0
    shards: int = 1
    max_failed: int = 0

params.schema_of = lambda study: Params
stage = begin("toy", "2-embed", {"In": [""], **values})
features = stage.folder / "features"

def make(name):
    numbers = np.random.default_rng(int(name)).normal(size=2000)
    with files.written_hdf5(features / f"{name}.h5") as file:
        file.create_dataset("features", data=numbers, track_times=False)
    files.write_json({"mean": numbers.mean()}, features / f"{name}.json")

done = stage.each(map(str, range(6)), make, outputs=["features/{}.h5", "features/{}.json"])
means = [pd.read_json(features / f"{name}.json", typ="series")["mean"] for name in done]
stage.write(pd.DataFrame({"unit": done, "mean": means}), "means.csv")
stage.finish()
"""


def record(folder: Path, stage: str) -> dict:
    return json.loads((folder / "runs" / f"{stage}.json").read_text(encoding="utf-8"))


def kill_and_resume(stages, hashes, before: Path, at: Path, run: dict, resumed: tuple, whole: dict) -> int:
    """Kill a run that starts from `before`, run again; how many units the second run found whole."""
    folder = at / ("toy" if "source" in run else "stroke") / "tiny"
    for _ in range(5):
        shutil.copytree(before, folder, dirs_exist_ok=True)
        killed = stages.run(at, *resumed[:1], **run)
        if killed["code"] == -9:
            break
        # too late: this run was quicker than the undisturbed one, or had fewer folders to make
        assert killed["code"] == 0, killed["said"][-4000:]
        shutil.rmtree(at)
        run = {name: type(x)(0.7 * x) if name in ("kill_at", "kill_after") else x for name, x in run.items()}
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
    whole = hashes(tmp_path / "whole" / "toy" / "tiny")
    assert len(whole) == 3 * UNITS + 2, "two files and a record a unit, the table, the manifest"
    (tmp_path / "before").mkdir()
    kept = []
    for at in range(2, undisturbed["events"] - 4, 12):  # the folder itself is made by the first run only
        killed, places = {"kill_at": at, "source": SOURCE}, (tmp_path / "before", tmp_path / "at")
        kept.append(kill_and_resume(stages, hashes, *places, killed, (), whole))
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
    places = (told["before"], tmp_path / "at")
    kept = [kill_and_resume(stages, hashes, *places, point, resumed, whole) for point in points]
    assert len(kept) == POINTS
    assert max(kept) > 0, "no run was resumed: all began anew"


STAGES = ("2-embed", "3-train", "4-evaluate")


def in_shards(stages, results: Path, *names: str, **options) -> None:
    """Each stage in two shards, the second first, and then gathered."""
    for name in names or ("",):
        given = (name,) if name else ()
        for shard in (1, 0):
            stages.must_run(results, *given, shard=shard, shards=2, **options)
        assert "0 made now" in stages.must_run(results, *given, **options)["said"]


def test_stage_in_two_shards_leaves_what_one_run_does(stages, hashes, tmp_path):
    stages.must_run(tmp_path / "one", source=SOURCE)
    in_shards(stages, tmp_path / "two", source=SOURCE)
    one, two = (hashes(tmp_path / name / "toy" / "tiny") for name in ("one", "two"))
    assert len(one) == 3 * UNITS + 2
    assert one == two


@pytest.mark.slow
def test_two_runs_with_one_seed_are_equal_to_the_last_bit_also_in_two_shards(stages, hashes, tmp_path):
    """Every file from the phantom to the metrics, the manifests and the weights among them."""
    for name in ("one", "again"):
        stages.must_run(tmp_path / name, "1-preprocess")
    for name in ("shards", "other"):
        shutil.copytree(tmp_path / "one", tmp_path / name)
    for name, changes in (("one", {}), ("again", {}), ("other", {"seeds": [2]})):
        stages.must_run(tmp_path / name, *STAGES, **changes)
    in_shards(stages, tmp_path / "shards", *STAGES[:2])
    stages.must_run(tmp_path / "shards", STAGES[2])
    one, again, shards = (hashes(tmp_path / name / "stroke" / "tiny") for name in ("one", "again", "shards"))
    assert {"metrics.csv", "predictions.csv", "history.csv"} <= set(one)
    assert len([name for name in one if name.startswith("weights/")]) == 6
    assert one == again
    assert {name for name in one if one[name] != shards.get(name)} <= {"manifests/3-train.json"}
    tables = (tmp_path / name / "stroke/tiny/predictions.csv" for name in ("one", "other"))
    one, other = (pd.read_csv(path)["score"] for path in tables)
    assert not one.equals(other), "the seed must matter, or nothing was proved"

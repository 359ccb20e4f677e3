"""The same seed gives the same bits on the CPU, in one run or cut into shards; other seeds do not."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

UNITS = """
import numpy as np
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
path = lambda name: stage.folder / "features" / f"{name}.json"
done = stage.units(
    [str(number) for number in range(5)],
    lambda name: files.write_json(np.random.default_rng(int(name)).random(3).tolist(), path(name)),
    outputs=lambda name: [path(name)], inputs=lambda name: [], depends=lambda name: {}, code=(files,),
)
files.write_json(done, stage.writes("done.json"))
stage.finish()
"""
STAGES = ("2-embed", "3-train", "4-evaluate")


def in_shards(stages, results: Path, *names: str, **options) -> None:
    """Each stage in two shards, the second first, and then gathered."""
    for name in names or ("",):
        given = (name,) if name else ()
        for shard in (1, 0):
            stages.must_run(results, *given, shard=shard, shards=2, **options)
        gathered = stages.must_run(results, *given, **options)
        assert "0 made now" in gathered["said"]


def test_stage_in_two_shards_leaves_what_one_run_does(stages, hashes, tmp_path):
    stages.must_run(tmp_path / "one", source=UNITS)
    in_shards(stages, tmp_path / "two", source=UNITS)
    one, two = (hashes(tmp_path / name / "stroke" / "tiny") for name in ("one", "two"))
    assert len(one) == 5 + 5 + 1 + 1
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
    assert one == shards
    auc, other = (
        pd.read_csv(tmp_path / name / "stroke" / "tiny" / "predictions.csv")["score"]
        for name in ("one", "other")
    )
    assert not auc.equals(other), "the seed must matter, or nothing was proved"
    for shard in range(2):
        record = tmp_path / "shards" / "stroke" / "tiny" / "runs" / f"3-train.{shard}of2.json"
        assert json.loads(record.read_text())["units"]["made"] == 4

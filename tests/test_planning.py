"""The benchmark of many units: what it counts is what a stage leaves, and its bars can be missed."""

import pandas as pd

from benchmarks import planning


def test_a_unit_leaves_two_files_and_a_second_run_none():
    made, kept = planning.units(5)
    # five outputs, five records, the manifest, the run's record
    assert made["files"] == kept["files"] == 12
    assert "5 made now, 0 kept" in made["said"]
    assert "0 made now, 5 kept" in kept["said"]
    assert made["peak_mb"] > 20


def test_a_shard_does_its_share():
    made, _ = planning.units(5, shards=2)
    assert "shard 0 of 2: 3 of 3 units are whole" in made["said"]


def test_bars_are_held_by_the_committed_table_and_can_be_missed(root, capsys):
    table = pd.read_csv(root / "benchmarks" / "results" / "planning.csv")
    planning.said(table)
    assert capsys.readouterr().out.count("held") == 3
    planning.said(table.assign(processor_seconds=100 * table.processor_seconds, peak_mb=table.peak_mb**3))
    assert capsys.readouterr().out.count("MISSED") == 3

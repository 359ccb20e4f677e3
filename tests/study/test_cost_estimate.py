"""The estimate: its arithmetic by hand, its origins, and that it moves as its factors do."""

import pytest

from lib.study import cost_estimate
from lib.study.cost_estimate import MACHINES, Machine, disk_gb, factors, money, steps, tiles_of

ONE = Machine("one", 1)


def hours(factor, machine):
    return {step.name: step.hours for step in steps(factor, machine)}


def test_the_committed_factors_by_hand(root):
    factor = factors(root)
    v = {name: each.value for name, each in factor.items()}
    assert tiles_of(factor) == 17_840
    found = hours(factor, MACHINES[1])
    cores = 16 * 0.85
    assert found["tiles to features"] == pytest.approx(1000 * 17_840 * v["ms_per_tile"] / 3.6e6 / cores)
    assert found["training"] == pytest.approx(1000 * 4 * 20 * 3 * v["s_per_step"] / 3600 / cores)
    assert found["held-out slides, every epoch"] == pytest.approx(
        1000 * 20 * 3 * v["s_per_look"] / 3600 / cores
    )
    assert found["download"] == pytest.approx(1000 * 0.989e3 / 50 / 3600)


def test_what_was_measured_comes_from_the_benchmarks(root):
    import pandas as pd

    steps_ = pd.read_csv(root / "benchmarks/results/crossfusion_step.csv").set_index(["size", "scheme"])
    decoding = pd.read_csv(root / "benchmarks/results/tile_decoding.csv").set_index(["tool", "scales"])
    row = decoding.loc[("crossbook", "20, 10, 5")]
    factor = factors(root)
    assert factor["s_per_step"].value == steps_.loc[("4,096", "described"), "seconds"]
    assert factor["s_per_look"].value == steps_.loc[("mean slide", "described"), "forward_s"]
    assert factor["ms_to_decode"].value == pytest.approx(1e3 * row.cpu_s / row.tiles)
    assert all(each.certainty.startswith("measured") for name, each in factor.items() if "ms_" in name)


def test_no_price_is_stated_only_examples(root):
    factor = factors(root)
    for name, each in factor.items():
        assert each.source
        assert each.certainty
        if "price" in name:
            assert (each.value, each.certainty) == (1, "example")


def test_six_times_the_slides_cost_six_times_as_much(root):
    once, six = factors(root), factors(root, {"slides": 6000})
    for machine in MACHINES:
        for name, each in hours(once, machine).items():
            assert hours(six, machine)[name] == pytest.approx(6 * each)
    assert disk_gb(six)["features"] == pytest.approx(6 * disk_gb(once)["features"])
    assert disk_gb(six)["weights"] == disk_gb(once)["weights"]


def test_money_is_hours_and_disk_times_their_prices(root):
    factor = factors(root, {"price_machine_hour": 2, "price_tb_month": 10, "months": 3})
    stored = sum(disk_gb(factor).values()) / 1000
    assert money(factor, 50) == pytest.approx(50 * 2 + stored * 10 * 3)


def test_a_gpu_is_no_faster_than_the_cores_that_feed_it(root):
    slow = factors(root, {"gpu_tiles_per_s": 1e9})
    v = {name: each.value for name, each in slow.items()}
    found = hours(slow, Machine("fed", 1, gpu=True))
    assert found["tiles to features"] == pytest.approx(1000 * 17_840 * v["ms_to_decode"] / 3.6e6)
    assert found["training"] == hours(slow, ONE)["training"]  # never measured on a GPU: as on the cores


def test_one_core_loses_nothing_to_its_neighbours(root):
    factor = factors(root)
    two = hours(factor, Machine("two", 2))["training"]
    assert hours(factor, ONE)["training"] / two == pytest.approx(1.7)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["slide=5"], "no factor is called slide; did you mean slides?"),
        (["slides=0"], "slides is 0; every factor is above 0"),
        (["slides"], "slides: expected name=number, as in slides=6000"),
    ],
)
def test_what_cannot_be_meant_is_refused(line, said, capsys):
    assert cost_estimate.main(line) == 2
    assert capsys.readouterr().err.strip() == said


def test_the_terminal_shows_every_machine_and_its_sum(capsys):
    assert cost_estimate.main(["price_machine_hour=0.5"]) == 0
    said = capsys.readouterr().out
    assert all(machine.name in said for machine in MACHINES)
    assert said.count("at 0.5 an hour") == 3


def test_a_missing_benchmark_is_named_with_its_command(root, tmp_path):
    (tmp_path / "data" / "assumptions").mkdir(parents=True)
    text = (root / "data/assumptions/cost.csv").read_text(encoding="utf-8")
    (tmp_path / "data/assumptions/cost.csv").write_text(text, encoding="utf-8")
    with pytest.raises(
        FileNotFoundError, match=r"results/slide_embedding\.csv is missing: python -m benchmarks slide"
    ):
        factors(tmp_path)

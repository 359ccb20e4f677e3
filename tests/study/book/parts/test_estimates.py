"""The estimate in the book: arithmetic and origin of every factor, and no price that somebody might believe."""

import shutil

import pytest

from lib.study.book.parts.costs import SHOWN, cost
from lib.study.book.parts.estimates import estimate
from lib.study.cost_estimate import MACHINES, factors, steps


@pytest.fixture
def measured(bare, root):
    for name in ("data/assumptions", "benchmarks/results"):
        shutil.copytree(root / name, bare.root / name)
    return bare.records()


def test_hours_arithmetic_and_origins(measured, root):
    made = estimate(measured, "book/appendix/cost.qmd")[0]
    factor = factors(root)
    for machine in MACHINES:
        for step in steps(factor, machine):
            assert f"| {step.name} | {machine.name} | {step.arithmetic} |" in made
    for name, each in factor.items():
        assert f"| `{name}` |" in made
        assert each.source in made
    assert "An example, no price" in made
    assert "never run" in made


def test_without_measurements_it_says_what_is_missing(bare):
    made = estimate(bare.records(), "a.qmd")[0]
    assert made == "No estimate in this copy: assumptions/cost.csv is missing: restore it from git.\n"


def test_every_committed_benchmark_is_shown(measured, root):
    assert {path.stem for path in (root / "benchmarks" / "results").glob("*.csv")} <= set(SHOWN)
    made = cost(measured, "a.qmd")[0]
    assert "`benchmarks/results/slide_embedding.csv`" in made

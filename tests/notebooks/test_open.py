"""The open cohorts whose raw files are small: none of their numbers moves."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from goldens import golden_of, moved, summary

pytestmark = [pytest.mark.real, pytest.mark.slow]
STAGES = ["1-preprocess", "2-embed", "3-train", "4-evaluate", "5-figures"]
COHORTS = [
    *(("crossfusion", cancer) for cancer in ("blca", "brca", "coad", "coadread", "gbmlgg", "luad", "ucec")),
    ("gcmlm", "lro"),
    ("gcmlm", "stad"),
]


@pytest.mark.parametrize(("study", "cohort"), COHORTS)
def test_no_number_moves(study, cohort, open_study):
    run = open_study(study, cohort)
    run.must_run(*STAGES)
    assert moved(golden_of(study, cohort), summary(run.folder)) == []

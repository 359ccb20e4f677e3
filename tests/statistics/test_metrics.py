import numpy as np
import pytest

from lib.files import write_csv
from lib.statistics.classification import f1, gmm_threshold, platt, probability
from lib.statistics.intervals import ScoredSection
from lib.statistics.metrics_table import COLUMNS, section_rows, spot_row, spot_rows
from lib.statistics.metrics_table import _calls as calls


def probabilities_of(sections):
    fit = platt(np.concatenate([s.labels for s in sections]), np.concatenate([s.scores[0] for s in sections]))
    return [s.with_scores(probability(s.scores, *fit)) for s in sections]


def test_every_metric_and_the_columns_of_the_design(cohort, tmp_path):
    sections = cohort(effect=2.0, seeds=2)
    frame = spot_rows("spacrd", "demo", "both", sections, probabilities_of(sections), draws=50)
    assert (
        frame.columns.tolist()
        == COLUMNS
        == (
            ["model", "cohort", "setting", "metric", "estimate", "low", "high", "n", "events", "seeds", "how"]
        )
    )
    names = {"auc", "ap", "prevalence", "brier", "f1_gmm", "f1_calibrated", "f1_oracle"}
    assert names <= set(frame["metric"])
    assert frame["metric"].is_unique
    assert (frame["low"] <= frame["high"]).all()
    assert set(frame["seeds"]) == {2}
    by_name = frame.set_index("metric")
    assert "ORACLE" in by_name.loc["f1_oracle", "how"]
    assert by_name.loc["auc", "estimate"] > 0.85
    write_csv(frame, tmp_path / "metrics.csv")


def test_a_rule_cuts_section_by_section_and_seed_by_seed(cohort):
    sections = cohort(effect=3.0, seeds=2)
    value = np.mean([[f1(s.labels, row >= gmm_threshold(row)) for row in s.scores] for s in sections])
    assert spot_row("m", "c", "s", "f1_gmm", sections, draws=20)["estimate"] == pytest.approx(value)


def test_the_mixture_sees_undetermined_spots(cohort):
    whole = cohort(patients=1, effect=4.0)[0]
    labels = np.where(np.arange(144) < 40, np.nan, whole.labels)
    xy = np.c_[np.arange(144) % 12, np.arange(144) // 12]
    section = ScoredSection.of_spots("P", "s", labels, whole.scores, xy, 4)
    (decided,), left_out = calls([section], "gmm")
    assert left_out == {}
    np.testing.assert_array_equal(decided.scores[0], whole.scores[0, 40:] >= gmm_threshold(whole.scores[0]))


def test_oracle_calls_the_true_share(cohort):
    section = cohort(patients=1)[0]
    section = section.with_scores(np.random.default_rng(0).normal(size=144))
    (decided,), _ = calls([section], "oracle")
    assert decided.scores.sum() == pytest.approx(section.labels.sum(), abs=1)


def test_not_computable_is_an_empty_estimate_with_its_reason(cohort, tmp_path):
    section = cohort(patients=1)[0]
    flat = section.with_scores(np.zeros(144))
    one_class = ScoredSection("P", "s", np.ones(144), section.scores, section.blocks)
    rows = [
        spot_row("m", "c", "s", "f1_gmm", [flat], draws=20),
        spot_row("m", "c", "s", "auc", [one_class], draws=20),
        spot_row("m", "c", "s", "f1_oracle", [one_class], draws=20),
    ]
    assert all(np.isnan(found["estimate"]) for found in rows)
    assert "fewer than two values" in rows[0]["how"]
    assert "all 144 cases are positive" in rows[1]["how"]
    assert "one class only" in rows[2]["how"]
    import pandas as pd

    write_csv(pd.DataFrame(rows, columns=COLUMNS), tmp_path / "metrics.csv")
    assert "m,c,s,f1_gmm,,,,144," in (tmp_path / "metrics.csv").read_text(encoding="utf-8")


def test_a_section_without_a_cut_is_left_out_and_named(cohort):
    sections = cohort(patients=3, effect=3.0)
    sections[2] = sections[2].with_scores(np.zeros(144))
    found = spot_row("m", "c", "s", "f1_gmm", sections, draws=20)
    assert "mean over 2 patients" in found["how"]
    assert "section P2a of P2 left out: the scores take fewer than two values" in found["how"]


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("f1", "f1_gmm"),
        ("auc_gmm", "takes no threshold"),
        ("f1_best", "unknown rule"),
        ("roc", "unknown metric"),
    ],
)
def test_metric_names_are_fixed(cohort, metric, message):
    with pytest.raises(ValueError, match=message):
        spot_row("m", "c", "s", metric, cohort(patients=1), draws=20)


def test_calibrated_needs_probabilities(cohort):
    with pytest.raises(ValueError, match="needs probabilities"):
        spot_row("m", "c", "s", "f1_calibrated", cohort(patients=1), draws=20)


def test_by_section_gives_a_forests_table(cohort):
    frame = section_rows(cohort(patients=3), "auc", draws=50)
    assert frame["label"].tolist() == ["P0a", "P1a", "P2a"]
    assert (frame["low"] < frame["estimate"]).all()
    assert frame["how"].str.contains("spatial blocks only").all()

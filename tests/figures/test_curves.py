import numpy as np
import pandas as pd
import pytest

from lib.figures.curves import history, mean_precision_recall, mean_roc, precision_recall, roc
from lib.statistics.classification import NotComputable, auc, average_precision
from lib.statistics.intervals import Interval, ScoredSection, interval

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.random(150) < 0.4).astype(float)
SCORES = np.round(LABELS + RANDOM.normal(size=150), 1)
FOUND = Interval(0.871, 0.779, 0.95, 10, 5, "")


def sections():
    made = []
    for number in range(3):
        labels = (RANDOM.random(120) < 0.2 + 0.2 * number).astype(float)
        scores = labels * number + RANDOM.normal(size=(2, 120))
        made.append(ScoredSection(f"P{number}", f"S{number}", labels, scores, np.arange(120) // 10))
    return made


def line_of(ax, word):
    (line,) = (line for line in ax.lines if word in str(line.get_label()))
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def test_area_under_the_drawn_roc_is_the_auc(ax, words):
    roc(ax, LABELS, SCORES, label="ERBB2")
    x, y = line_of(ax, "ERBB2")
    assert np.trapezoid(y, x) == pytest.approx(auc(LABELS, SCORES))
    assert f"ERBB2: AUC {auc(LABELS, SCORES):.3f}" in words(ax)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("1 − specificity", "sensitivity")


def test_interval_goes_into_the_key(ax, words):
    roc(ax, LABELS, SCORES, interval=FOUND, label="ERBB2")
    assert "ERBB2: AUC 0.871 (0.779 to 0.950)" in words(ax)


def test_area_under_the_drawn_steps_is_the_average_precision(ax, words):
    precision_recall(ax, LABELS, SCORES, label="ERBB2")
    recall, precision = line_of(ax, "ERBB2")
    (line,) = (line for line in ax.lines if "ERBB2" in line.get_label())
    assert line.get_drawstyle() == "steps-post"  # recall falls: a precision holds down to the next recall
    assert recall[-1] == 0
    area = np.sum(-np.diff(recall) * precision[:-1])
    assert area == pytest.approx(average_precision(LABELS, SCORES))
    assert f"prevalence {LABELS.mean():.2f}" in words(ax)


def test_area_under_the_mean_curves_is_the_mean_metric(ax):
    own = sections()
    mean_roc(ax, own, interval(own, "auc", 20), label="model")
    x, y = line_of(ax, "model")
    assert np.trapezoid(y, x) == pytest.approx(interval(own, "auc", 20).estimate, abs=0.006)
    assert len(ax.lines) == 1 + 1 + 3  # chance, the mean, each patient
    other = ax.figure.add_subplot()
    mean_precision_recall(other, own, interval(own, "ap", 20), label="model", each=False)
    _, y = line_of(other, "model")
    assert y.mean() == pytest.approx(interval(own, "ap", 20).estimate, abs=0.006)


def test_a_second_model_shares_the_frame(ax):
    roc(ax, LABELS, SCORES, label="a")
    roc(ax, LABELS, -SCORES, label="b")
    assert len(ax.lines) == 3
    assert len({line.get_color() for line in ax.lines[1:]}) == 2


def test_one_class_is_refused(ax):
    with pytest.raises(NotComputable):
        roc(ax, np.ones(3), [1, 2, 3])


def test_history_draws_the_mean_and_the_range_of_runs(ax):
    frame = pd.DataFrame(
        {
            "epoch": [0, 1, 0, 1, 0, 1],
            "seed": [1, 1, 2, 2, 1, 1],
            "stage": ["fusion"] * 4 + ["contrastive"] * 2,
            "loss": [4.0, 2, 6, 4, 9, np.nan],
        }
    )
    history(ax, frame, "loss", by="stage")
    x, y = line_of(ax, "fusion")
    assert (x.tolist(), y.tolist()) == ([0, 1], [5, 3])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (2, 6)
    assert line_of(ax, "contrastive")[1].tolist() == [9]  # what was not logged is not drawn as 0
    with pytest.raises(ValueError, match="lacks"):
        history(ax, frame, "auc")
    with pytest.raises(ValueError, match="no value"):
        history(ax, frame.assign(loss=np.nan), "loss")

import numpy as np
import pandas as pd
import pytest

from lib.figures.curves import decision_curve

THRESHOLDS = np.array([0.1, 0.2, 0.3, 0.4, 0.5])


def table(share=0.3, gains=(0.25, 0.2, 0.15, 0.0, 0.0), called=(9, 8, 5, 0, 0)):
    odds = THRESHOLDS / (1 - THRESHOLDS)
    treat_all = share - (1 - share) * odds
    return pd.DataFrame(
        {"threshold": THRESHOLDS, "called": called, "net_benefit": gains, "treat_all": treat_all}
    )


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def test_a_model_stands_between_all_and_none(ax):
    decision_curve(ax, table().iloc[::-1], "Cox")
    drawn = lines(ax)
    assert list(drawn) == ["treat all", "treat none", "Cox"]
    np.testing.assert_allclose(drawn["treat all"].get_ydata(), table()["treat_all"])
    assert set(drawn["treat none"].get_ydata()) == {0}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("threshold probability", "net benefit (per patient)")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(drawn)


def test_the_line_ends_at_the_first_threshold_that_nobody_reaches(ax):
    decision_curve(ax, table(), "Cox")
    assert lines(ax)["Cox"].get_xdata().tolist() == [0.1, 0.2, 0.3, 0.4]
    assert ax.get_xlim() == (0.1, 0.4)
    decision_curve(ax, table(called=(9, 8, 5, 2, 1)), "age")
    assert ax.get_xlim() == (0.1, 0.5)


def test_what_is_far_below_nothing_is_cut_off_and_what_is_just_below_is_seen(ax):
    decision_curve(ax, table(), "Cox")
    low, high = ax.get_ylim()
    assert ax.lines[0].get_ydata().min() < low < 0  # treat all
    assert high > 0.25
    decision_curve(ax, table(gains=(0.25, 0.2, -0.05, -0.01, 0)), "worse")
    assert -0.1 < ax.get_ylim()[0] < -0.05


def test_a_threshold_without_a_value_is_a_gap(ax):
    decision_curve(ax, table(gains=(0.25, np.nan, 0.15, 0, 0)), "Cox")
    assert np.isnan(lines(ax)["Cox"].get_ydata()).tolist() == [False, True, False, False]


def test_a_second_model_shares_the_frame_if_it_has_the_same_patients(ax):
    decision_curve(ax, table(), "Cox")
    decision_curve(ax, table().iloc[1:4], "age")
    assert list(lines(ax)) == ["treat all", "treat none", "Cox", "age"]
    with pytest.raises(ValueError, match="not the same patients"):
        decision_curve(ax, table(share=0.31), "others")
    assert "others" not in lines(ax)


def test_refusals(ax):
    with pytest.raises(ValueError, match=r"lacks \['called'\]"):
        decision_curve(ax, table().drop(columns="called"))
    with pytest.raises(ValueError, match="no threshold has a net benefit"):
        decision_curve(ax, table(gains=np.nan))

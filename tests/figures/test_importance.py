import numpy as np
import pandas as pd
import pytest

from lib.features.radiomics import feature_names
from lib.gcmlm.figures import importance, readable


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("original_glcm_JointEntropy", "GLCM joint entropy"),
        ("log-sigma-2-0-mm-3D_glcm_Imc1", "LoG 2 mm · GLCM IMC1"),
        ("log-sigma-2-5-mm-3D_firstorder_90Percentile", "LoG 2.5 mm · first-order 90th percentile"),
        ("wavelet-LLH_gldm_DependenceNonUniformity", "wavelet LLH · GLDM dependence non uniformity"),
        ("ct_original_shape_Maximum2DDiameterSlice", "CT · shape maximum 2D diameter slice"),
        ("squareroot_ngtdm_Busyness", "square root · NGTDM busyness"),
        ("original_firstorder_RootMeanSquared", "first-order root mean squared"),
        ("slide_0123", "slide_0123"),
        ("age", "age"),
        ("T stage", "T stage"),
    ],
)
def test_names_in_words(name, said):
    assert readable(name) == said


@pytest.mark.parametrize("preset", ["slicer", "default", "ct"])
def test_every_feature_keeps_a_name_of_its_own(preset):
    names = feature_names(preset)
    short = [readable(name) for name in names]
    assert len(set(short)) == len(names)
    assert not any("_" in each or "log-sigma" in each for each in short)


def features(count: int = 20) -> pd.DataFrame:
    mean = np.linspace(1, 0.05, count) * np.where(np.arange(count) % 2, -1, 1)
    names = [f"f{number:02d}" for number in range(count)]
    frequency = np.linspace(1, 0.2, count)
    return pd.DataFrame(
        {"feature": names, "mean": mean, "low": mean - 0.1, "high": mean + 0.2, "frequency": frequency}
    )


def test_largest_effects_are_drawn_first_row_on_top(ax, words):
    table = features().sample(frac=1, random_state=2)
    importance(ax, table, top=4, outcome="metastasis")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["f00", "f01", "f02", "f03"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    spreads = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_lw() == 1.6]
    assert [list(line.get_xdata()) for line in spreads] == features()[["low", "high"]][:4].to_numpy().tolist()
    assert "above 0: metastasis more likely" in words(ax)


def test_sign_is_coloured_and_frequencies_are_written(ax, words):
    importance(ax, features(3))
    bars = ax.child_axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([1, 0.6, 0.2])
    assert bars[0].get_facecolor() == bars[2].get_facecolor() != bars[1].get_facecolor()
    for said in ("100 %", "60 %", "20 %"):
        assert said in words(ax)


def test_the_fit_on_all_patients_is_an_open_diamond(ax):
    importance(ax, features(3).assign(coefficient=[2.0, 0.0, 0.1]))
    diamonds = [line for line in ax.lines if line.get_marker() == "D" and len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in diamonds] == [2.0, 0.0, 0.1]
    assert all(ax.get_xlim()[1] >= 2.0 for _ in diamonds)


def test_features_never_used_are_not_drawn(ax):
    table = features(4)
    table.loc[2:, ["mean", "low", "high", "frequency"]] = 0.0
    importance(ax, table)
    assert len(ax.get_yticklabels()) == 2


def test_long_names_keep_apart_and_inside(ax):
    names = ["ct_" + name for name in feature_names("ct") if "LowGrayLevelEmphasis" in name][:15]
    ax.figure.set_size_inches(8.5, 5)
    importance(ax, features(15).assign(feature=names))
    ax.figure.canvas.draw()
    boxes = [tick.get_window_extent() for tick in ax.get_yticklabels()]
    assert not any(one.overlaps(two) for n, one in enumerate(boxes) for two in boxes[n + 1 :])
    texts = [text.get_window_extent() for text in ax.child_axes[0].texts]
    assert all(box.x0 >= 0 for box in boxes)
    assert all(box.x1 <= ax.figure.bbox.width for box in texts)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (features().drop(columns="frequency"), "lacks"),
        (features().assign(feature="f1"), "is twice"),
        (features().assign(mean=np.nan), "not finite"),
        (features().assign(mean=0.0, frequency=0.0), "no feature was selected"),
    ],
)
def test_refusals(ax, table, said):
    with pytest.raises(ValueError, match=said):
        importance(ax, table)

"""The study's figures: what is drawn is what the tables say."""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.contour import ContourSet
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from lib.figures import style
from lib.gcmlm.figures import PLANES, Nomogram, ablation_bars, importance, nomogram, three_planes
from lib.inputs.volumes import Geometry, Volume


def table(*modalities: str, group: str = "signature", step: float = 0.05) -> pd.DataFrame:
    subsets = [each for size in range(1, len(modalities) + 1) for each in combinations(modalities, size)]
    estimate = [0.55 + step * number for number in range(len(subsets))]
    rows = pd.DataFrame(
        {"setting": ["+".join(each) for each in subsets], "estimate": estimate, "group": group}
    )
    return rows.assign(low=rows["estimate"] - 0.04, high=rows["estimate"] + 0.03)


def matrix(ax) -> list[tuple[float, str]]:
    """Place of each subset's joined dots, the modalities it is labelled with, and how many."""
    found = [line for line in ax.child_axes[0].lines if line.get_linestyle() == "-"]
    return [(float(line.get_xdata()[0]), line.get_label(), len(line.get_xdata())) for line in found]


def test_bars_rise_from_chance_to_their_estimates(ax, words):
    rows = table("clinical", "ct", "slide").sample(frac=1, random_state=1)
    ablation_bars(ax, rows, ["clinical", "ct", "slide"])
    ends = sorted((bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height()) for bar in ax.patches)
    assert [bar.get_y() for bar in ax.patches] == [0.5] * 7
    assert len(ends) == 7
    for (place, subset, size), (x, top) in zip(matrix(ax), ends, strict=True):
        assert place == pytest.approx(x)
        assert subset.count("+") + 1 == size
        own = rows[rows["setting"].map(lambda s, subset=subset: set(s.split("+")) == set(subset.split("+")))]
        assert top == pytest.approx(own["estimate"].iloc[0])
        (interval,) = [
            path for each in ax.collections for path in each.get_paths() if path.vertices[0, 0] == x
        ]
        assert list(interval.vertices[:, 1]) == own[["low", "high"]].iloc[0].tolist()
    assert "0.85" in words(ax)
    assert "chance" in words(ax)


# three planes of a region: in mm, with the patient's sides where a radiologist looks for them

SIZE, SPACING_MM = (20, 16, 8), (0.8, 0.9, 5.0)
GRID = Geometry(SPACING_MM, (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), SIZE)
# the largest cross-sections are z 2, y 5, x 14
INSIDE = np.zeros(SIZE[::-1], bool)
INSIDE[2, 3:8, 12:17] = True
INSIDE[1:4, 5, 14] = True


@pytest.fixture
def axes():
    with plt.rc_context(style.RC):
        yield plt.subplots(1, 3, figsize=(9, 3))[1]
    plt.close("all")


def volume() -> Volume:
    values = np.random.default_rng(0).normal(40, 20, SIZE[::-1]).astype(np.float32)
    values[INSIDE] = 1000
    return Volume(values, GRID)


def contour_of(ax) -> np.ndarray:
    (found,) = (each for each in ax.get_children() if isinstance(each, ContourSet))
    return np.concatenate([path.vertices for path in found.get_paths()])


def seen(ax) -> tuple[np.ndarray, tuple[float, ...]]:
    image = ax.images[0]
    return np.asarray(image.get_array()), tuple(image.get_extent())


def test_contour_follows_the_edges_of_the_voxels(axes):
    three_planes(axes, volume(), INSIDE)
    for ax, (low, high) in zip(
        axes,
        (
            ((12 * 0.8, 3 * 0.9), (17 * 0.8, 8 * 0.9)),
            ((12 * 0.8, 1 * 5.0), (17 * 0.8, 4 * 5.0)),
            ((3 * 0.9, 1 * 5.0), (8 * 0.9, 4 * 5.0)),
        ),
        strict=True,
    ):
        line = contour_of(ax)
        np.testing.assert_allclose(line.min(0), low, atol=0.35)  # a sixteenth of a voxel, 5 mm at most
        np.testing.assert_allclose(line.max(0), high, atol=0.35)


def test_sides_are_where_a_radiologist_looks_for_them(axes):
    """White where the contour is: in the picture, not only in the array."""
    three_planes(axes, volume(), INSIDE)
    expected = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
    for ax, (name, (_, _, sides)) in zip(axes, PLANES.items(), strict=True):
        letters = {text.get_text(): text.get_position() for text in ax.texts}
        left, right, top, bottom = expected[name]
        assert sides == expected[name]
        assert letters[left][0] < 0.1 < 0.9 < letters[right][0]
        assert letters[bottom][1] < 0.1 < 0.9 < letters[top][1]
        assert not ax.xaxis_inverted()  # right, or front, at the left: where x, or y, begins
        assert ax.yaxis_inverted() == (name == "axial")  # front up; head up
        array, ends = seen(ax)
        columns = np.nonzero(array == 1000)[1]
        centre = (columns.mean() + 0.5) / array.shape[1] * ends[1]
        assert abs(centre - contour_of(ax)[:, 0].mean()) < 1.5


# features


def features(count: int = 20) -> pd.DataFrame:
    mean = np.linspace(1, 0.05, count) * np.where(np.arange(count) % 2, -1, 1)
    names = [f"f{number:02d}" for number in range(count)]
    frequency = np.linspace(1, 0.2, count)
    return pd.DataFrame(
        {"feature": names, "mean": mean, "low": mean - 0.1, "high": mean + 0.2, "frequency": frequency}
    ).assign(coefficient=mean)


def test_largest_effects_are_drawn_first_row_on_top(ax, words):
    table = features().sample(frac=1, random_state=2)
    importance(ax, table, top=4, outcome="metastasis")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["f00", "f01", "f02", "f03"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    spreads = [path.vertices[:, 0].tolist() for path in ax.collections[0].get_paths()]
    assert spreads == features()[["low", "high"]][:4].to_numpy().tolist()
    assert "above 0: metastasis more likely" in words(ax)


# points read off the picture give the model's probability

TERMS = pd.DataFrame(
    {
        "coefficient": [0.3, 1.8, -0.4, 0.4, 0.0],
        "centre": [60.0, 0.1, 120.0, 0.3, 1.0],
        "spread": [10.0, 2.0, 20.0, 0.5, 1.0],
        "low": [35.0, -2.5, 80.0, 0.0, 0.0],
        "high": [85.0, 2.4, 160.0, 1.0, 9.0],
    },
    ["age (years)", "CT signature", "haemoglobin", "vessel invasion", "no weight"],
)
INTERCEPT, USED = -0.4, TERMS.index[:4]


def drawn_patient(rng: np.random.Generator) -> pd.Series:
    patient = pd.Series(rng.uniform(TERMS["low"], TERMS["high"]), TERMS.index)
    patient["vessel invasion"] = rng.integers(2)
    return patient


def log_odds(patient: pd.Series) -> float:
    return INTERCEPT + ((patient - TERMS["centre"]) / TERMS["spread"] * TERMS["coefficient"]).sum()


def test_scales_give_the_models_probability_exactly():
    model, rng = Nomogram(TERMS, INTERCEPT), np.random.default_rng([1])
    for _ in range(20):
        patient = drawn_patient(rng)
        total = model.total(patient)
        assert 0 <= total <= model.most
        assert model.probability(total) == pytest.approx(expit(log_odds(patient)))
        assert model.total_of(model.probability(total)) == pytest.approx(total)
    assert model.points("CT signature", 2.4) == pytest.approx(100)
    assert [model.points("CT signature", -2.5), model.points("vessel invasion", 0)] == [0, 0]
    assert model.points("haemoglobin", 160) == pytest.approx(0)  # a protective number runs backwards


def test_it_is_the_model_of_standardised_columns():
    rng = np.random.default_rng([3])
    table = pd.DataFrame({"age": rng.normal(60, 9, 300), "score": rng.normal(2, 0.5, 300)})
    label = rng.random(300) < expit(0.05 * (table["age"] - 60) + table["score"] - 2)
    rows = pd.DataFrame(
        {"centre": table.mean(), "spread": table.std(), "low": table.min(), "high": table.max()}
    )
    scaled = (table - rows["centre"]) / rows["spread"]
    fitted = LogisticRegression().fit(scaled, label)
    model = Nomogram(rows.assign(coefficient=fitted.coef_[0]), fitted.intercept_[0])
    read = [model.probability(model.total(row)) for row in table.to_dict("records")]
    np.testing.assert_allclose(read, fitted.predict_proba(scaled)[:, 1])


def scale(ax, row: int) -> tuple[list[str], np.ndarray]:
    """Texts of one line of the picture and where they stand, from left to right."""
    found = [text for text in ax.texts if abs(text.get_position()[1] - row) < 0.49]
    x, texts = zip(*sorted((text.get_position()[0], text.get_text()) for text in found), strict=True)
    return list(texts), np.array(x)


def test_reading_the_picture_reproduces_the_model(ax):
    ax.figure.set_size_inches(7.5, 4)
    nomogram(ax, Nomogram(TERMS, INTERCEPT), "metastasis")
    totals, along = scale(ax, len(USED) + 1)
    chances, below = scale(ax, len(USED) + 2)
    rng = np.random.default_rng([2])
    for _ in range(10):
        patient, points = drawn_patient(rng), 0.0
        for row, name in enumerate(USED, 1):
            texts, x = scale(ax, row)
            if name == "vessel invasion":
                points += x[texts.index(["no", "yes"][int(patient[name])])]
            else:  # numbers between and beyond the printed ticks, by ruler
                points += np.polyval(np.polyfit([float(text) for text in texts], x, 1), patient[name])
        place = np.polyval(np.polyfit([float(text) for text in totals], along, 1), points)
        read = expit(np.polyval(np.polyfit(below, logit([float(text) for text in chances]), 1), place))
        assert read == pytest.approx(expit(log_odds(patient)), abs=0.005)

"""The study's figures: what is drawn is what the tables say."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.contour import ContourSet
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from lib.figures import style
from lib.gcmlm.figures import PLANES, Nomogram, nomogram, three_planes
from lib.inputs.volumes import Geometry, Volume

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

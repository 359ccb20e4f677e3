"""What the book's pieces are drawn from: numbers of the statistics, films and marks that come back as they went in."""

import base64

import numpy as np
import pytest
from PIL import Image

from lib.figures import live
from lib.statistics.classification import NotComputable, gmm_threshold, prevalence_threshold
from lib.statistics.metrics_table import risk_group, risk_groups
from lib.statistics.survival import HeldOut


def held_out(risk):
    rng = np.random.default_rng(0)
    time, event = rng.exponential(20, 60) + 1, rng.integers(0, 2, 60)
    return HeldOut(np.arange(60).astype(str), np.repeat([*"01"], 30), time, event, risk[None], trained=False)


def test_survival_holds_both_cuts_of_models_that_have_two_groups():
    models = {"flat": held_out(np.ones(60)), "risk": held_out(np.arange(60) % 17 + np.repeat([0.0, 9.0], 30))}
    groups = risk_groups(models)
    data = live.survival(models, groups)
    assert [model["name"] for model in data["models"]] == ["risk"]
    for cut, made in zip(live.CUTS, data["models"][0]["cuts"], strict=True):
        assert [*made["high"]] == ["1" if side == "high" else "0" for side in risk_group(models["risk"], cut)]
        assert made["p"] == groups.set_index(["model", "cut"]).loc[("risk", cut), "p"]
    with pytest.raises(NotComputable, match="no model has two risk groups"):
        live.survival({"flat": models["flat"]}, risk_groups({"flat": models["flat"]}))


def test_threshold_leaves_out_spots_without_label_and_cuts_that_cannot_be_had():
    rng = np.random.default_rng(0)
    labels, scores = np.repeat([0.0, 1.0, np.nan], 50), rng.normal(size=150)
    first, alone = live.threshold({"A": (labels, scores), "B": (np.ones(100), scores[:100])})["sections"]
    assert first["labels"] == "0" * 50 + "1" * 50
    assert first["scores"] == pytest.approx(scores[:100], rel=1e-4)
    free, leak = (cut["at"] for cut in first["cuts"])
    assert free == pytest.approx(gmm_threshold(scores[:100]), rel=1e-4)
    assert leak == pytest.approx(prevalence_threshold(scores[:100], 0.5), rel=1e-4)
    assert [cut["at"] is None for cut in alone["cuts"]] == [False, True]


def decoded(packed, rows, columns):
    values = np.frombuffer(base64.b64decode(packed["values"]), "<i2").reshape(-1, rows, columns)
    return np.where(values == -32_768, np.nan, values * packed["unit"])


def test_film_comes_back_cut_to_the_brain_and_averaged_in_blocks():
    frames = np.random.default_rng(0).normal(size=(3, 20, 30)) * 40
    mask = np.zeros((20, 30), bool)
    mask[4:16, 6:28] = True
    mask[5, 7] = False
    data = live.film(frames, [0, 1, 2.5], mask, {"CBF": (frames[0], "ml")})
    assert (data["rows"], data["columns"], data["seconds"]) == (12, 22, [0, 1, 2.5])
    expected = np.where(mask, frames, np.nan)[:, 4:16, 6:28]
    step = data["film"]["unit"]
    np.testing.assert_allclose(decoded(data["film"], 12, 22), expected, atol=step)
    np.testing.assert_allclose(decoded(data["maps"][0], 12, 22)[0], expected[0], atol=step)
    small = live.film(frames, [0, 1, 2.5], mask, {}, most=11)
    assert (small["rows"], small["columns"]) == (6, 11)
    blocks = np.nanmean(expected.reshape(3, 6, 2, 11, 2), axis=(2, 4))
    np.testing.assert_allclose(decoded(small["film"], 6, 11), blocks, atol=step)


def test_marks_without_value_are_left_out_and_colours_end_where_told():
    layer = {"name": "score", "x": [1, 2, 3], "y": [4, 5, 6], "side": 10, "value": [0.5, np.nan, 1.5]}
    (made,) = live.slide((100, 50), [layer])["layers"]
    assert (made["x"], made["y"], made["value"], made["low"], made["high"]) == (
        [1, 3],
        [4, 6],
        [0.5, 1.5],
        0.5,
        1.5,
    )
    classes, ends = live.slide((100, 50), [{**layer, "classes": ["a", "b"]}, {**layer, "low": 0}])["layers"]
    assert "low" not in classes
    assert (ends["low"], ends["high"]) == (0, 1.5)


def test_a_photograph_is_as_small_as_asked_or_refused(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 600, 3), dtype=np.uint8))
    assert live.photograph(noise, tmp_path / "a.jpg", side=200) == (200, 100)
    live.photograph(noise, tmp_path / "b.jpg", most=80_000)
    assert (tmp_path / "b.jpg").stat().st_size <= 80_000
    with pytest.raises(ValueError, match=r"c\.jpg is larger than 1,000 bytes"):
        live.photograph(noise, tmp_path / "c.jpg", most=1_000)

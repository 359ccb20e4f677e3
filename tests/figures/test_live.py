"""What the book's slides and films are drawn from: films and marks come back as they went in."""

import base64

import numpy as np
import pytest
from PIL import Image

from lib.features.tiles import TileGrid, Tiles
from lib.figures import live


def decoded(packed, rows, columns):
    values = np.frombuffer(base64.b64decode(packed["values"]), "<i2").reshape(-1, rows, columns)
    return np.where(values == -32_768, np.nan, values * packed["unit"])


def test_film_comes_back_cut_to_the_brain_and_averaged_in_blocks():
    frames = np.random.default_rng(0).normal(size=(3, 20, 30)) * 40
    mask = np.zeros((20, 30), bool)
    mask[4:16, 6:28] = True
    mask[5, 7] = False
    data = live.film(frames, [0, 1, 2.5], mask, {"CBF": (frames[0], "ml", (0, 50), True)})
    assert (data["rows"], data["columns"], data["seconds"]) == (12, 22, [0, 1, 2.5])
    expected = np.where(mask, frames, np.nan)[:, 4:16, 6:28]
    step = data["film"]["unit"]
    np.testing.assert_allclose(decoded(data["film"], 12, 22), expected, atol=step)
    np.testing.assert_allclose(decoded(data["maps"][0], 12, 22)[0], expected[0], atol=step)
    about = {key: data["maps"][0][key] for key in ("name", "of", "low", "high", "turned")}
    assert about == {"name": "CBF", "of": "ml", "low": 0, "high": 50, "turned": True}
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


def test_tiles_become_squares_around_their_centres():
    corners = np.array([[0, 0], [512, 0], [512, 512]])
    tiles = Tiles(corners, corners // 512, np.zeros(3, int), np.ones(3))
    grid = TileGrid("s", "ok", "exact", 256, 2048.0, 0.5, (1024, 1024), {20: tiles})
    (layer,) = live.slide(grid.size, live.tile_layers(grid, {"attention": (20, [0.2, 0.4, 0.6])}))["layers"]
    assert (layer["side"], layer["x"], layer["y"]) == (512, [256, 768, 768], [256, 256, 768])
    assert layer["value"] == [0.2, 0.4, 0.6]


def test_a_photograph_is_as_small_as_asked_or_refused(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 600, 3), dtype=np.uint8))
    assert live.photograph(noise, tmp_path / "a.jpg", side=200) == (200, 100)
    live.photograph(noise, tmp_path / "b.jpg", most=80_000)
    assert (tmp_path / "b.jpg").stat().st_size <= 80_000
    with pytest.raises(ValueError, match=r"c\.jpg is larger than 1,000 bytes"):
        live.photograph(noise, tmp_path / "c.jpg", most=1_000)

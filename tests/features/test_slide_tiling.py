"""Slides are found by name, and tiled one way or the other."""

import numpy as np
import pytest

from lib.features.tiles import found_slides, tiled
from lib.inputs.slides import open_slide
from lib.phantoms.slides import write_slide


def test_slides_are_found_below_the_folder_by_name(tmp_path):
    for name in ("a/S1.svs", "S2.TIF", "b/c/S3.ndpi", "S4.txt", "other.svs"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = found_slides(tmp_path, ["S1", "S2", "S3", "S4", "S5"])
    assert {name: path.name for name, path in found.items()} == {
        "S1": "S1.svs",
        "S2": "S2.TIF",
        "S3": "S3.ndpi",
    }
    assert set(found_slides(tmp_path)) == {"S1", "S2", "S3", "other"}
    assert found_slides(tmp_path / "nowhere", ["S1"]) == {}


def test_slide_that_is_there_twice_is_refused(tmp_path):
    for name in ("S1.svs", "S1.tif"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match="slide S1 is there twice"):
        found_slides(tmp_path, ["S1"])


def test_both_ways_of_tiling(tmp_path):
    write_slide(tmp_path / "p.tif", fine=0, coarse=0, cancer=0, seed=1)
    with open_slide(tmp_path / "p.tif") as slide:
        exact = tiled(slide, "exact", "tcga", 256, 0.5)
        # a phantom is far smaller than what CLAM's presets take for tissue on a real slide
        compat = tiled(slide, "clam_compat", "bwh_biopsy", 256, 0.5)
        with pytest.raises(ValueError, match="tiling 'other' is neither"):
            tiled(slide, "other", "tcga", 256, 0.5)
    assert (exact.mode, exact.status, compat.mode) == ("exact", "ok", "clam_compat")
    assert np.all(exact.tiles[20].coords % 256 == 0)

import numpy as np
import pytest
from anndata import AnnData

from lib.features.embedding import embed_spots
from lib.features.encoders import Encoder

SCALE = (0.25, 0.5)


@pytest.fixture
def picture():
    """White glass with a dark square of 40 x 80 picture pixels round x 60, y 100."""
    picture = np.full((200, 120, 3), 255, np.uint8)
    picture[60:140, 40:80] = (90, 60, 140)
    return picture


@pytest.fixture
def section():
    centres = np.array([[60, 100], [60, 20], [40, 100]]) / SCALE  # inside, on glass, on the edge
    section = AnnData(np.zeros((3, 1), np.float32), obsm={"spatial": centres})
    section.uns["section"] = {
        "name": "Z1",
        "um_per_px": 0.5,
        "picture": "z1.png",
        "picture_scale": list(SCALE),
    }
    return section


@pytest.fixture
def encoder():
    """Takes the mean and the shape of what it sees; crops of 40 µm = 80 full pixels = 20 x 40 picture pixels."""
    seen = []

    def encode(crops):
        seen.append(crops.copy())
        return crops.mean(axis=(1, 2)).astype(np.float32)

    made = Encoder("mean", "v1", 3, 8, 40.0, encode)
    object.__setattr__(made, "seen", seen)
    return made


def test_crops_lie_at_the_spots_in_both_scales(section, picture, encoder):
    features, counts = embed_spots(section, picture, encoder)
    assert encoder.seen[0].shape == (3, 8, 8, 3)
    np.testing.assert_allclose(features[0], [90, 60, 140])
    np.testing.assert_allclose(features[1], 255)
    np.testing.assert_allclose(features[2], (features[0] + 255) / 2, atol=3)  # half tissue, half glass
    assert counts == {"n_white": 1, "n_failed": 0}


def test_a_crop_covers_the_asked_micrometres(section, picture):
    def encode(crops):
        return crops.min(axis=3)[:, 4].astype(np.float32)  # the middle row

    # 80 µm = 160 full pixels = 40 x 80 picture pixels: exactly the square
    exact, _ = embed_spots(section, picture, Encoder("row", "v1", 8, 8, 80.0, encode))
    np.testing.assert_array_equal(exact[0], 60)
    wider, _ = embed_spots(section, picture, Encoder("row", "v1", 8, 8, 160.0, encode))
    assert wider[0, 0] == wider[0, -1] == 255


def test_a_spot_outside_and_a_missing_picture_are_named(section, picture, encoder):
    section.obsm["spatial"][1] = (500, 20)
    with pytest.raises(ValueError, match=r"section Z1: spot 1 at .*outside"):
        embed_spots(section, picture, encoder)
    section.uns["section"]["picture"] = ""
    with pytest.raises(ValueError, match="section Z1 has no picture"):
        embed_spots(section, picture, encoder)

import itertools

import numpy as np
import pytest

from lib.phantoms.slides import Stain, paint


def picture(looks, seed=0, stain=None, um_per_px=2.5):
    tissue = np.ones((24, 24), dtype=bool)
    tissue[:, :6] = False
    return paint(
        np.full((24, 24), looks), tissue, 10, um_per_px, stain or Stain(), np.random.default_rng(seed)
    )


def test_shape_and_same_seed_same_pixels():
    assert picture(0.0).shape == (240, 240, 3)
    assert picture(0.0).dtype == np.uint8
    np.testing.assert_array_equal(picture(0.0), picture(0.0))
    assert (picture(0.0) != picture(0.0, seed=1)).mean() > 0.5


def test_glass_is_empty():
    glass = picture(2.0)[:, :40].astype(float)
    assert np.abs(glass - Stain().glass).max() < 12


def test_more_cancer_like_is_darker_with_more_and_larger_nuclei():
    dark = [(picture(looks)[:, 80:, 0] < 110).mean() for looks in (-2.0, 0.0, 2.0, 4.0)]
    assert all(b > 1.5 * a for a, b in itertools.pairwise(dark))
    means = [picture(looks)[:, 80:, 0].mean() for looks in (-2.0, 0.0, 2.0, 4.0)]
    assert means == sorted(means, reverse=True)


def test_nuclei_keep_their_size_in_micrometres():
    """Twice the resolution, four times the pixels a nucleus: the dark share of the area stays."""
    coarse = (picture(1.0)[:, 80:, 0] < 110).mean()
    tissue = np.ones((24, 24), dtype=bool)
    fine = paint(np.full((24, 24), 1.0), tissue, 20, 1.25, Stain(), np.random.default_rng(0))
    assert (fine[..., 0] < 110).mean() == pytest.approx(coarse, rel=0.35)


def test_the_stain_is_what_colours():
    """Without haematoxylin nothing is blue; the vectors set the hue."""
    blue = Stain(haematoxylin=(0.9, 0.2, 0.05))
    assert picture(3.0, stain=blue)[:, 80:, 0].mean() < picture(3.0)[:, 80:, 0].mean()
    assert picture(3.0, stain=blue)[:, 80:, 2].mean() > picture(3.0)[:, 80:, 2].mean()

import numpy as np
import pytest

from lib.phantoms.slides import at, outline, smooth_field


@pytest.mark.parametrize("scale", [0.8, 3.0, 8.0])
def test_unit_variance_everywhere_and_correlation_by_scale(scale):
    rng = np.random.default_rng(0)
    fields = np.array([smooth_field((20, 30), scale, rng) for _ in range(600)])
    assert fields.shape == (600, 20, 30)
    assert fields.std() == pytest.approx(1, abs=0.06)
    edge, middle = fields[:, 0, 0].std(), fields[:, 10, 15].std()
    assert edge == pytest.approx(middle, rel=0.15), "the border varies as the middle does"
    lag = 2
    correlation = np.corrcoef(fields[:, 10, 10], fields[:, 10, 10 + lag])[0, 1]
    # white noise smoothed by a Gaussian of width s is correlated as exp(-lag² / 4 s²)
    assert correlation == pytest.approx(np.exp(-(lag**2) / (4 * scale**2)), abs=0.1)


def test_reading_a_field_is_linear_between_cells():
    field = np.add.outer(10.0 * np.arange(5), np.arange(7))
    np.testing.assert_allclose(at(field, np.array([[2, 3], [2.5, 0.25], [99, 99]])), [32, 5, 46])


def test_tissue_is_one_piece_with_an_empty_border():
    from scipy.ndimage import label

    for seed in range(8):
        tissue = outline((80, 80), 8, np.random.default_rng(seed))
        assert label(tissue)[1] == 1
        assert 0.5 < tissue.mean() < 0.9
        assert not tissue[:2].any()
        assert not tissue[:, -2:].any()

"""The head: what lies where."""

import numpy as np
import pytest

from lib.stroke.phantom_scan import LABELS, Head, head, smooth

SHAPE, SPACING = (16, 64, 64), (3.0, 3.0, 5.0)


@pytest.fixture(scope="module", params=range(4))
def drawn(request) -> Head:
    return head(np.random.default_rng(request.param), SHAPE, SPACING)


def ml(drawn: Head, *names: str) -> float:
    return np.isin(drawn.labels, [LABELS[name] for name in names]).sum() * np.prod(SPACING) / 1000


def test_a_head_without_a_stroke_has_none(drawn):
    assert drawn.labels.dtype == np.uint8
    assert not np.isin(drawn.labels, [LABELS[name] for name in ("oligaemia", "penumbra", "core")]).any()


def test_volumes_are_a_head_s(drawn):
    assert 550 < ml(drawn, "grey", "white") < 950
    assert 0.3 < ml(drawn, "grey") / ml(drawn, "grey", "white") < 0.6
    assert 60 < ml(drawn, "csf") < 200
    assert 4 < ml(drawn, "artery") < 25
    assert 10 < ml(drawn, "vein") < 45


def test_skull_is_closed_around_the_brain(drawn):
    brain = drawn.labels >= LABELS["csf"]
    outside = drawn.labels <= LABELS["scalp"]
    for axis in (1, 2):
        assert not (brain & np.roll(outside, 1, axis)).any()
        assert not (brain & np.roll(outside, -1, axis)).any()


def test_head_does_not_touch_the_edge(drawn):
    for edge in (drawn.labels[:, :1], drawn.labels[:, -1:], drawn.labels[:, :, :1], drawn.labels[:, :, -1:]):
        assert (edge == LABELS["air"]).all()


def test_sides_are_alike(drawn):
    x = np.broadcast_to(drawn.middle[0], SHAPE)
    tissue = np.isin(drawn.labels, [LABELS["grey"], LABELS["white"]])
    left, right = (tissue & (x > 0)).sum(), (tissue & (x < 0)).sum()
    assert abs(left - right) < 0.06 * (left + right)


def test_ventricles_lie_in_the_middle_and_the_sagittal_sinus_at_the_back(drawn):
    x, y, z = (np.broadcast_to(place, SHAPE) for place in drawn.middle)
    middle = (np.abs(x) < 15) & (np.abs(y) < 20) & (z > 12) & (z < 28)
    lateral = (np.abs(x) > 30) & (np.abs(x) < 40) & (np.abs(y) < 20) & (z > 12) & (z < 28)
    assert (drawn.labels[middle] == LABELS["csf"]).mean() > 0.15
    assert (drawn.labels[lateral] == LABELS["csf"]).mean() < 0.02
    assert np.median(y[(drawn.labels == LABELS["vein"]) & (z > 15) & (z < 40)]) > 50


def test_middle_cerebral_arteries_lie_on_both_sides(drawn):
    x = np.broadcast_to(drawn.middle[0], SHAPE)[drawn.branches]
    assert (x > 20).sum() > 10
    assert (x < -20).sum() > 10
    assert (drawn.labels[drawn.branches] == LABELS["artery"]).all()


def test_a_finer_grid_shows_the_same_head():
    coarse = head(np.random.default_rng(1), SHAPE, SPACING)
    fine = head(np.random.default_rng(1), (16, 128, 128), (1.5, 1.5, 5.0))
    for name, share in (("csf", 0.2), ("skull", 0.1), ("vein", 0.4)):
        volume = (fine.labels == LABELS[name]).sum() * np.prod((1.5, 1.5, 5.0)) / 1000
        assert abs(volume / ml(coarse, name) - 1) < share


def test_smooth_noise_is_smooth_and_normed():
    noise = smooth(np.random.default_rng(0), (8, 32, 32), (1, 2, 2))
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 1], atol=1e-4)
    assert np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1] > 0.8

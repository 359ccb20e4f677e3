"""What is refused of a film whatever file it came from, and what is said of it."""

import numpy as np
import pytest

from lib.stroke.film import timed


def head(frames: int = 12) -> np.ndarray:
    """A still head with skull, noise of its own in every frame: (t, z, y, x) HU."""
    z, y, x = np.mgrid[:3, :20, :20]
    radius = np.hypot(y - 9.5, x - 9.5)
    still = np.select([radius < 7, radius < 9], [40.0, 900.0], -1000.0)
    return (still + np.random.default_rng(0).normal(0, 2, (frames, *z.shape))).astype(np.float32)


def test_an_even_film_is_left_as_it_is_and_little_jitter_too():
    values = head()
    for jitter in (0, 0.03):
        seconds = 1.5 * np.arange(12) + jitter * np.random.default_rng(1).uniform(-1, 1, 12)
        same, interval_s, notes = timed(values, 43_200 + seconds, "film")
        assert same is values
        assert interval_s == pytest.approx(1.5, abs=0.01)
        assert notes == ()


def test_uneven_times_are_interpolated_to_the_shortest_usual_step():
    values, seconds = head(14), np.r_[np.arange(8.0), np.arange(10.0, 28.0, 3)]
    curve = np.exp(-(((seconds - 6) / 4) ** 2))
    values += 50 * curve[:, None, None, None]
    even, interval_s, notes = timed(values, seconds, "film")
    assert interval_s == 1
    assert len(even) == 26
    assert notes == ("frames are 1 to 3 s apart: interpolated to every 1 s",)
    np.testing.assert_allclose(even[:8], values[:8], atol=1e-2)
    truth = 50 * np.exp(-(((np.arange(26.0) - 6) / 4) ** 2))
    inside = values[0] > 0
    found = even[:, inside].mean(1) - head()[:, inside].mean()
    np.testing.assert_allclose(found, truth, atol=2)


def test_frames_are_sorted_by_their_times():
    values, order = head(), np.random.default_rng(2).permutation(12)
    sorted_, _, notes = timed(values[order], np.arange(12.0)[order], "film")
    assert (sorted_ == values).all()
    assert notes == ("frames sorted by their times",)


def test_broken_frames_are_refused_by_number():
    for number, value in ((11, 0), (5, -1024)):
        values = head()
        values[number] = value
        with pytest.raises(
            ValueError, match=f"film: of frames 0 to 11, frame {number} holds {value} throughout"
        ):
            timed(values, np.arange(12.0), "film")
    values = head()
    values[7] = values[6]
    assert timed(values, np.arange(12.0), "film")[2] == ("copies of the frame before: 7",)


@pytest.mark.parametrize("seconds", [np.zeros(12), 1500.0 * np.arange(12), np.r_[0:6, 600:606]])
def test_times_that_no_film_has_are_refused(seconds):
    with pytest.raises(
        ValueError, match=r"0\.05 to 20 s are expected: times in another unit, or two films in one"
    ):
        timed(head(), seconds, "film")


def test_a_film_that_is_not_in_hu_is_refused():
    with pytest.raises(ValueError, match="film is not in HU"):
        timed(head() + 1024, np.arange(12.0), "film")
    with pytest.raises(ValueError, match=r"film is not in HU: its header says.*MGML"):
        timed(head(), np.arange(12.0), "film", units="MGML")


@pytest.mark.parametrize(("voxels", "axis"), [(1, 3), (2, 2)])
def test_a_head_that_moves_is_remarked(voxels, axis):
    values = head()
    values[8:] = np.roll(values[8:], voxels, axis)
    (note,) = timed(values, np.arange(12.0), "film")[2]
    assert note.startswith("the head moved: 4 frames from 8 to 11 differ from the first")
    brain = np.where(head() > 300, -1000, head())  # skull taken off
    assert timed(brain, np.arange(12.0), "film")[2] == ()

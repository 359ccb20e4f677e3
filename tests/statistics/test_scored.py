import numpy as np
import pytest

from lib.statistics.intervals import ScoredSection, spatial_blocks


def test_blocks_are_squares_of_the_side():
    xy = np.array([[10.0, 10], [13.9, 13.9], [14, 10], [30, 10], [10, 14], [30, 30]])
    assert spatial_blocks(xy, 4).tolist() == [0, 0, 1, 2, 3, 4]


def test_blocks_move_with_the_spots_and_not_with_the_origin():
    random = np.random.default_rng(0)
    xy = random.random((200, 2)) * 50
    order = random.permutation(200)
    np.testing.assert_array_equal(spatial_blocks(xy, 7)[order], spatial_blocks(xy[order], 7))
    np.testing.assert_array_equal(spatial_blocks(xy, 7), spatial_blocks(8 * xy, 56))
    assert max(np.bincount(spatial_blocks(xy, 7))) < 30


@pytest.mark.parametrize(("xy", "side"), [([[0, 0], [np.nan, 1]], 1), ([0, 1, 2], 1), ([[0, 0]], 0)])
def test_blocks_refuse(xy, side):
    with pytest.raises(ValueError, match="must be"):
        spatial_blocks(xy, side)


def test_undetermined_spots_leave_and_are_counted():
    labels, scores = [1, np.nan, 0, np.nan], [0.1, 0.2, 0.3, 0.4]
    xy = [[0, 0], [1, 0], [2, 0], [3, 0]]
    section = ScoredSection.of_spots("P", "s", labels, scores, xy, 1)
    assert section.labels.tolist() == [1, 0]
    assert section.scores.tolist() == [[0.1, 0.3]]
    assert section.undetermined == 2
    assert section.every_score().tolist() == [[0.1, 0.3, 0.2, 0.4]]
    assert section.with_scores([0, 1]).every_score().tolist() == [[0, 1]]
    assert section.with_scores([0, 1]).undetermined == 2
    negative = ScoredSection.of_spots("P", "s", labels, scores, xy, 1, undetermined="negative")
    assert negative.labels.tolist() == [1, 0, 0, 0]
    assert negative.undetermined == 0
    with pytest.raises(ValueError, match='"excluded" or "negative"'):
        ScoredSection.of_spots("P", "s", labels, scores, xy, 1, undetermined="dropped")


def test_sections_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="section s of patient P: labels"):
        ScoredSection("P", "s", [1, 0], [0.1], [0, 0])
    with pytest.raises(ValueError, match="1 spots are undetermined"):
        ScoredSection("P", "s", [1, np.nan], [0.1, 0.2], [0, 0])
    with pytest.raises(ValueError, match="no spot has a label"):
        ScoredSection.of_spots("P", "s", [np.nan], [0.1], [[0, 0]], 1)

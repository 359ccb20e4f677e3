import time

import numpy as np
import openslide
import pytest

from lib.features.encoders import load_encoder
from lib.features.tiles import exact_tiles, tile_batches
from lib.features.tissue import find_tissue
from lib.inputs.slides import open_slide
from lib.phantoms.slides import LOOKS, Look, write_pyramid, write_slide

SLIDES = 40


def described(path, encoder) -> dict[int, np.ndarray]:
    """A slide's mean descriptor at each scale."""
    with open_slide(path) as slide:
        features = {}
        for scale, _, crops in tile_batches(slide, exact_tiles(slide), encoder.input_px):
            features.setdefault(scale, []).append(encoder.encode(crops))
    return {scale: np.concatenate(parts).mean(0) for scale, parts in features.items()}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Slides of one cancer type: what was planted (n, 2), and descriptors by scale (n, 38)."""
    folder, encoder = tmp_path_factory.mktemp("cohort"), load_encoder("colour")
    planted = np.random.default_rng(0).standard_normal((SLIDES, 2))
    features = {20: [], 5: []}
    for i, (fine, coarse) in enumerate(planted):
        write_slide(folder / "s.tiff", fine=fine, coarse=coarse, cancer=0, seed=i)
        found = described(folder / "s.tiff", encoder)
        for scale in features:
            features[scale].append(found[scale])
    return planted, {scale: np.stack(rows) for scale, rows in features.items()}


def told(features, target, repeats=20, hold=8) -> float:
    """Correlation of held-out predictions of a ridge regression with the truth, over random splits."""
    rng = np.random.default_rng(1)
    standard = (features - features.mean(0)) / (features.std(0) + 1e-12)
    found = []
    for _ in range(repeats):
        order, guess = rng.permutation(len(target)), np.empty(len(target))
        for test in np.array_split(order, len(order) // hold):
            train = np.setdiff1d(order, test)
            x, y = standard[train], target[train] - target[train].mean()
            weights = np.linalg.solve(x.T @ x + 5 * np.eye(x.shape[1]), x.T @ y)
            guess[test] = standard[test] @ weights
        found.append(np.corrcoef(guess, target)[0, 1])
    return float(np.mean(found))


def strongest(features, target) -> float:
    """Largest correlation of a single number of the descriptor with the truth."""
    varied = features[:, features.std(0) > 0]
    return max(abs(np.corrcoef(column, target)[0, 1]) for column in varied.T)


def test_fine_is_told_at_20x_and_coarse_at_5x(cohort):
    planted, features = cohort
    fine, coarse = planted.T
    assert told(features[20], fine) > 0.9
    assert told(features[5], coarse) > 0.75
    assert strongest(features[20], fine) > 0.85
    assert strongest(features[5], coarse) > 0.7


def test_the_other_scale_shows_less(cohort):
    planted, features = cohort
    fine, coarse = planted.T
    assert strongest(features[20], coarse) < strongest(features[5], coarse) - 0.25
    assert strongest(features[5], fine) < strongest(features[20], fine) - 0.25


def test_nothing_is_told_of_what_was_not_planted(cohort):
    # the same slides' descriptors against standard normals that did not make them
    _, features = cohort
    strangers = np.random.default_rng(9).standard_normal((12, SLIDES))
    for scale in features:
        # 1 / sqrt(40) is 0.16 a draw; cross-validation pulls below 0
        assert abs(np.mean([told(features[scale], stranger, 3) for stranger in strangers])) < 0.2


def test_mean_colour_tells_neither(cohort):
    planted, features = cohort
    colour = features[20][:, [0, 5, 10]]  # mean red, green, blue
    for target in planted.T:
        assert abs(told(colour, target)) < 0.5


@pytest.fixture
def made(tmp_path):
    """Function: the pixels of a slide."""

    def made(**changed):
        how = {"fine": 0.0, "coarse": 0.0, "cancer": 0, "seed": 3, "side_px": 1024} | changed
        write_slide(tmp_path / "s.tiff", **how)
        with open_slide(tmp_path / "s.tiff") as slide:
            return slide.read(0, 0, slide.size)

    return made


def test_equal_arguments_give_equal_bytes_and_a_seed_another_slide(tmp_path):
    how = {"fine": 0.5, "coarse": -1, "cancer": 1, "side_px": 512}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_slide(tmp_path / f"{name}.tiff", seed=seed, **how)
    a, b, c = ((tmp_path / f"{name}.tiff").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_cancer_types_look_different_and_seeds_alike(made):
    def colour(rgb):
        return rgb[256:768, 256:768].reshape(-1, 3).mean(0)

    first, second = ([colour(made(cancer=cancer, seed=seed)) for seed in range(5)] for cancer in (0, 1))
    within = max(np.ptp(first, axis=0).max(), np.ptp(second, axis=0).max())
    assert np.abs(np.mean(first, 0) - np.mean(second, 0)).max() > 0.5 * within
    assert np.abs(np.mean(first, 0) - np.mean(second, 0)).max() > 8


def test_another_look_stains_the_same_tissue(made):
    plain, other = made(), made(look=Look(LOOKS[0].stain, eosin=0.4, stretch=LOOKS[0].stretch))
    np.testing.assert_array_equal(plain, made(look=LOOKS[0]))
    assert ((plain.min(2) > 235) != (other.min(2) > 235)).mean() < 0.02
    green = [rgb[256:768, 256:768, 1].mean() for rgb in (plain, other)]
    assert green[1] < green[0] - 15


def test_outline_and_places_of_nuclei_do_not_depend_on_the_morphology(made):
    # one seed, two morphologies: only what is planted differs
    plain, fine, coarse = made(), made(fine=2), made(coarse=2)
    glass = plain.min(2) > 235
    assert 0.05 < glass.mean() < 0.4
    for other in (fine, coarse):
        assert (glass != (other.min(2) > 235)).mean() < 0.01
        assert np.abs(plain[~glass].mean(0) - other[~glass].mean(0)).max() < 4


def test_extremes_are_held_within_tissue(made):
    np.testing.assert_array_equal(made(fine=2.5, coarse=-2.5), made(fine=9, coarse=-9))
    for cancer in (0, 1):
        for value in (-9, 9):
            rgb = made(fine=value, coarse=value, cancer=cancer)
            assert rgb[256:768, 256:768].mean() < 200


def test_openslide_reads_levels_and_scale(tmp_path):
    write_slide(tmp_path / "s.tiff", fine=0, coarse=0, cancer=0, seed=0, side_px=2048, um_per_px=0.25)
    with openslide.OpenSlide(tmp_path / "s.tiff") as slide:
        assert slide.dimensions == (2048, 2048)
        assert slide.level_downsamples == (1.0, 4.0)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        assert slide.properties["openslide.level[0].tile-width"] == "256"
    with open_slide(tmp_path / "s.tiff") as slide:
        tissue = find_tissue(slide)
        assert 0.7 < tissue.mask.mean() < 0.95
        assert exact_tiles(slide, tissue=tissue).status == "ok"


def test_a_slide_is_written_quickly(tmp_path):
    taken = []
    for seed in range(5):
        start = time.process_time()
        write_slide(tmp_path / "s.tiff", fine=0, coarse=0, cancer=1, seed=seed)
        taken.append(time.process_time() - start)
    assert min(taken) < 0.25


def test_what_is_no_phantom_is_refused(tmp_path):
    for wrong in ({"cancer": 2}, {"fine": np.nan}):
        with pytest.raises(ValueError, match="must be 0 or 1"):
            write_slide(tmp_path / "s.tiff", **({"fine": 0, "coarse": 0, "cancer": 0, "seed": 0} | wrong))
    with pytest.raises(ValueError, match="from fine to coarse"):
        write_pyramid(tmp_path / "s.tiff", [np.zeros((64, 64, 3), np.uint8)] * 2, 0.5)
    assert list(tmp_path.iterdir()) == []

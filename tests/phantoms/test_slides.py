import numpy as np
import openslide
import pytest
from scipy.ndimage import label

from lib.features.encoders import load_encoder
from lib.features.tiles import exact_tiles, tile_batches
from lib.inputs.slides import open_slide
from lib.phantoms.slides import LOOKS, Look, outline, smooth_field, write_slide

SLIDES = 40

# fields


@pytest.mark.parametrize("scale", [0.8, 3.0])
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


def test_tissue_is_one_piece_with_an_empty_border():
    for seed in range(8):
        tissue = outline((80, 80), 8, np.random.default_rng(seed))
        assert label(tissue)[1] == 1
        assert 0.5 < tissue.mean() < 0.9
        assert not tissue[:2].any()
        assert not tissue[:, -2:].any()


# slides with a morphology planted at two scales


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


def correlation(features, target, repeats=20, hold=8) -> float:
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


def test_each_scale_tells_what_was_planted_there_and_mean_colour_nothing(cohort):
    (fine, coarse), features = cohort[0].T, cohort[1]
    assert correlation(features[20], fine) > 0.9
    assert correlation(features[5], coarse) > 0.75
    assert strongest(features[20], fine) > max(0.85, strongest(features[5], fine) + 0.25)
    assert strongest(features[5], coarse) > max(0.7, strongest(features[20], coarse) + 0.25)
    colour = features[20][:, [0, 5, 10]]  # mean red, green, blue
    assert max(abs(correlation(colour, planted)) for planted in (fine, coarse)) < 0.5


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


def test_openslide_reads_levels_and_scale(tmp_path):
    write_slide(tmp_path / "s.tiff", fine=0, coarse=0, cancer=0, seed=0, side_px=2048, um_per_px=0.25)
    with openslide.OpenSlide(tmp_path / "s.tiff") as slide:
        assert slide.dimensions == (2048, 2048)
        assert slide.level_downsamples == (1.0, 4.0)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        assert slide.properties["openslide.level[0].tile-width"] == "256"
    with open_slide(tmp_path / "s.tiff") as slide:
        assert exact_tiles(slide).status == "ok"

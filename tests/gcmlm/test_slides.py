"""Pooling tiles to slides and patients: against a loop, with slides that fail and files that do not go together."""

import h5py
import numpy as np
import pandas as pd
import pytest

from lib.features.encoders import Encoder
from lib.features.feature_files import write_features
from lib.features.tiles import Embedded, TileGrid, Tiles, write_embedding
from lib.gcmlm.slides import feature_columns, patient_table, slide_table, write_reference_csv

OWNERS = {"S1": "GA2", "S2": "GA1", "S3": "GA2", "S4": "GA2"}
TILES = {"S1": 5, "S2": 3, "S3": 40, "S4": 1}


def write(folder, slide, features, coords=None, **changed):
    given = {"encoder": "colour", "revision": "1", "um_per_px": 0.25, "crop_um": 128.0}
    counts = {"n_white": 0, "n_failed": 0, "scale": 20}
    if coords is None:
        coords = np.arange(2 * len(features)).reshape(-1, 2) * 512
    write_features(
        folder / "x20" / f"{slide}.h5", features, coords, counts=counts, dtype="float16", **given | changed
    )


@pytest.fixture
def folder(tmp_path):
    """Four slides of two patients, six features a tile."""
    random = np.random.default_rng(8)
    for slide, n in TILES.items():
        write(tmp_path, slide, random.normal(3, 2, (n, 6)))
    return tmp_path


@pytest.fixture
def slides():
    return pd.DataFrame({"patient": OWNERS.values(), "slide": OWNERS.keys()})


def tiles_of(folder, slide):
    with h5py.File(folder / "x20" / f"{slide}.h5") as file:
        return file["features"][:].astype(float), file["coords"][:]


def test_mean_over_tiles_of_each_slide(folder, slides):
    table, problems, about = slide_table(slides, folder)
    assert problems.empty
    assert about == {"encoder": "colour", "revision": "1", "tile_um": 128.0, "scale": 20.0, "dim": 6}
    assert table["tiles"].to_dict() == dict(enumerate(TILES.values()))
    assert (table["duplicates"] == 0).all()
    for _, row in table.iterrows():
        tiles, _ = tiles_of(folder, row["slide"])
        expected = [sum(tiles[:, i]) / len(tiles) for i in range(6)]
        np.testing.assert_allclose(row[feature_columns(table)].astype(float), expected, rtol=1e-12)


def test_both_rules_equal_a_loop(folder, slides):
    table = slide_table(slides, folder).table
    by_slides, by_tiles = patient_table(table), patient_table(table, "tiles")
    assert by_slides["patient"].tolist() == by_tiles["patient"].tolist() == ["GA2", "GA1"]
    for patient in ("GA1", "GA2"):
        own = [tiles_of(folder, slide)[0] for slide, owner in OWNERS.items() if owner == patient]
        for found, expected in (
            (by_slides, np.mean([tiles.mean(0) for tiles in own], axis=0)),
            (by_tiles, np.concatenate(own).mean(0)),
        ):
            row = found.set_index("patient").loc[patient]
            np.testing.assert_allclose(row[feature_columns(found)].astype(float), expected, rtol=1e-12)
            assert (row["slides"], row["tiles"]) == (len(own), sum(map(len, own)))
    ga2 = [found.set_index("patient").loc["GA2", feature_columns(found)] for found in (by_slides, by_tiles)]
    assert np.abs(ga2[0] - ga2[1]).max() > 0.01


def test_a_slide_cut_in_two_changes_the_rule_of_slides_alone(folder, slides):
    """Tiles of one slide in two files: over all tiles nothing changes, over slides it does."""
    whole = slide_table(slides, folder).table
    tiles, coords = tiles_of(folder, "S3")
    write(folder, "S3", tiles[:3], coords[:3])
    write(folder, "S5", tiles[3:], coords[3:])
    more = pd.concat([slides, pd.DataFrame({"patient": ["GA2"], "slide": ["S5"]})])
    cut = slide_table(more, folder).table
    columns = feature_columns(whole)
    np.testing.assert_allclose(
        patient_table(cut, "tiles")[columns], patient_table(whole, "tiles")[columns], rtol=1e-12
    )
    assert not np.allclose(patient_table(cut)[columns], patient_table(whole)[columns], rtol=1e-3)


def test_a_tile_of_the_same_place_counts_once_unless_as_the_reference_does(folder, slides):
    alone = slide_table(slides, folder).table
    tiles, coords = tiles_of(folder, "S1")
    again = [0, 1, 2, 3, 4, 2, 2, 0]
    write(folder, "S1", tiles[again], coords[again])
    once, kept = slide_table(slides, folder).table, slide_table(slides, folder, duplicates=True).table
    assert once.loc[0, ["tiles", "duplicates"]].tolist() == [5, 3]
    assert kept.loc[0, ["tiles", "duplicates"]].tolist() == [8, 0]
    columns = feature_columns(alone)
    np.testing.assert_array_equal(once[columns], alone[columns])
    np.testing.assert_allclose(kept.loc[0, columns].astype(float), tiles[again].mean(0), rtol=1e-12)
    assert patient_table(once)["duplicates"].tolist() == [3, 0]


def test_slides_that_fail_are_reported(folder, slides):
    (folder / "x20" / "S1.h5").unlink()
    path = folder / "x20" / "S3.h5"
    path.write_bytes(path.read_bytes()[:-400])
    with h5py.File(folder / "x20" / "S4.h5", "a") as file:
        file["features"][0, 2] = np.nan
    table, problems, _ = slide_table(slides, folder)
    assert table["slide"].tolist() == ["S2"]
    assert problems["slide"].tolist() == ["S1", "S3", "S4"]
    assert problems["patient"].tolist() == ["GA2"] * 3
    for said, expected in zip(
        problems["problem"], ["slide S1 has no features at 20x", "cut short", "NaN or infinity"], strict=True
    ):
        assert expected in said
    assert patient_table(table)["patient"].tolist() == ["GA1"]
    with pytest.raises(ValueError, match="none of 1 slides has features; S1: slide S1 has no features"):
        slide_table(slides.iloc[:1], folder)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"encoder": "uni"}, "slides S1 and S3 do not go together: encoder is 'colour' of the one and 'uni'"),
        ({"revision": "2"}, "slides S1 and S3 do not go together: revision is '1' of the one and '2'"),
        ({"crop_um": 64.0}, r"slides S1 and S3 do not go together: tile_um is 128\.0 of the one and 64\.0"),
        ({"dim": 7}, "slides S1 and S3 do not go together: dim is 6 of the one and 7"),
    ],
)
def test_mixed_files_are_refused(folder, slides, changed, said):
    changed = dict(changed)
    write(folder, "S3", np.ones((4, changed.pop("dim", 6))), **changed)
    with pytest.raises(ValueError, match=said):
        slide_table(slides, folder)


def test_scanners_of_another_resolution_may_be_mixed(folder, slides):
    """Level-0 pixels differ; the tissue behind a tile does not."""
    write(folder, "S3", np.ones((4, 6)), um_per_px=0.5)
    assert len(slide_table(slides, folder).table) == 4


def test_files_without_encoder_go_together_but_not_with_others(folder, slides):
    for slide in ("S1", "S2"):
        tiles, coords = tiles_of(folder, slide)
        with h5py.File(folder / "x20" / f"{slide}.h5", "w") as file:  # as CLAM writes it
            file["features"], file["coords"] = tiles.astype(np.float32), coords.astype(np.int32)
    found = slide_table(slides.iloc[:2], folder)
    assert (found.about["encoder"], found.about["tile_um"]) == ("", None)
    with pytest.raises(ValueError, match="slides S1 and S3 do not go together: encoder is ''"):
        slide_table(slides, folder)


def test_reference_csv(folder, slides, tmp_path):
    table = slide_table(slides[::-1], folder).table
    write_reference_csv(tmp_path / "wsi.csv", table)
    raw = pd.read_csv(tmp_path / "wsi.csv")
    assert list(raw) == ["wsi", *(f"feat_{i}" for i in range(6))]
    assert raw["wsi"].tolist() == ["S1", "S2", "S3", "S4"]


def test_a_slide_twice_is_refused(folder, slides):
    with pytest.raises(ValueError, match="slide S1 stands twice"):
        slide_table(pd.concat([slides, slides]), folder)


def test_reads_what_the_embedding_wrote(tmp_path):
    side = np.arange(4)
    places = np.stack([side % 2, side // 2], 1)
    zeros = np.zeros(4, np.int64)
    tiles = {20: Tiles(places * 256, places, zeros, np.ones(4, np.float32))}
    grid = TileGrid("S9", "ok", "exact", 256, 1024.0, 0.5, (512, 512), tiles)
    encoder = Encoder("hf-hub:some/mean", "v1", 3, 8, 112.0, None)
    features = np.arange(12, dtype=np.float32).reshape(4, 3)
    embedded = {20: Embedded(features, grid.centres(20), {"n_white": 0, "n_failed": 0})}
    written = write_embedding(tmp_path, grid, encoder, embedded)
    slides = pd.DataFrame({"patient": ["GA9"], "slide": ["S9"]})
    table, _, about = slide_table(slides, written[20].parents[1])
    assert table.loc[0, feature_columns(table)].tolist() == [4.5, 5.5, 6.5]
    assert (about["encoder"], about["tile_um"]) == ("hf-hub:some/mean", 128.0)

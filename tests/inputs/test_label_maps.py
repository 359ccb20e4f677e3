"""A region lands on the patient's place or is refused; its label may be a number or a name."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from lib.inputs.masks import read_label
from lib.inputs.volumes import Geometry, image_of, read_volume

SIZE = (14, 12, 6)
GRID = Geometry((0.8, 0.9, 5.0), (-20.0, 10.0, 40.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), SIZE)
HERE = np.s_[1:3, 2:6, 1:6]  # off the middle along each axis


def map_of(**regions) -> np.ndarray:
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[HERE] = 5
    labels[4, 8:10, 9:12] = 2
    return labels


def store(path, labels=None, grid=GRID):
    sitk.WriteImage(image_of(map_of() if labels is None else labels, grid), str(path))
    return path


@pytest.mark.parametrize("orientation", ["RPS", "LAS", "LPI", "RAI", "SPL"])
def test_mask_stored_with_reversed_axes_lands_right(tmp_path, orientation):
    turned = sitk.DICOMOrient(image_of(map_of(), GRID), orientation)
    sitk.WriteImage(turned, str(tmp_path / "mask.nii.gz"))
    assert sitk.GetArrayFromImage(turned).tolist() != map_of().tolist()
    np.testing.assert_array_equal(read_label(tmp_path / "mask.nii.gz", GRID, 5), map_of() == 5)


def test_voxels_reversed_without_the_header_land_elsewhere(tmp_path):
    """Nothing in the file tells: the header is believed, and the picture shows it."""
    store(tmp_path / "mask.nii.gz", map_of()[::-1].copy())
    found = read_label(tmp_path / "mask.nii.gz", GRID, 5)
    np.testing.assert_array_equal(found, (map_of() == 5)[::-1])
    assert not (found & (map_of() == 5)).any()


@pytest.mark.parametrize(("axis", "flip"), [(0, (-1, 1, 1)), (1, (1, -1, 1)), (2, (1, 1, -1))])
def test_header_reversed_without_the_voxels_is_never_overlaid_by_index(tmp_path, axis, flip):
    wrong = GRID._replace(direction=tuple(np.diag(np.array(flip, dtype=float)).ravel().tolist()))
    store(tmp_path / "mask.nii.gz", grid=wrong)
    with pytest.raises(ValueError, match=r"mask.nii.gz lies on another grid than its volume.*resample=True"):
        read_label(tmp_path / "mask.nii.gz", GRID, 5)
    with pytest.raises(ValueError, match="no voxel of label 5 falls inside the volume"):
        read_label(tmp_path / "mask.nii.gz", GRID, 5, resample=True)


def test_mask_of_another_grid_is_brought_over_by_its_place(tmp_path):
    wide = GRID._replace(
        origin_mm=tuple(GRID.points(np.array([[-3, -2, -1]]))[0].tolist()), size=tuple(n + 6 for n in SIZE)
    )
    labels = np.zeros(wide.size[::-1], np.uint8)
    labels[1:7, 2:14, 3:17] = map_of()
    store(tmp_path / "mask.nrrd", labels, wide)
    np.testing.assert_array_equal(read_label(tmp_path / "mask.nrrd", GRID, 5, resample=True), map_of() == 5)


def test_mask_outside_the_image(tmp_path):
    store(tmp_path / "mask.nii.gz", grid=GRID._replace(origin_mm=(500.0, 10.0, 40.0)))
    with pytest.raises(ValueError, match="another grid"):
        read_label(tmp_path / "mask.nii.gz", GRID, 5)
    with pytest.raises(ValueError, match="no voxel of label 5 falls inside the volume"):
        read_label(tmp_path / "mask.nii.gz", GRID, 5, resample=True)


def test_empty_mask_one_voxel_and_wrong_label(tmp_path):
    store(tmp_path / "empty.nii.gz", np.zeros(SIZE[::-1], np.uint8))
    for label in (1, None, "1"):
        with pytest.raises(ValueError, match=r"empty.nii.gz is empty"):
            read_label(tmp_path / "empty.nii.gz", GRID, label)
    one = np.zeros(SIZE[::-1], np.uint8)
    one[2, 3, 4] = 1
    assert np.argwhere(read_label(store(tmp_path / "one.nii.gz", one), GRID)).tolist() == [[2, 3, 4]]
    store(tmp_path / "mask.nii.gz")
    for label in (1, "1"):
        with pytest.raises(ValueError, match="has no label 1: its labels are 2, 5"):
            read_label(tmp_path / "mask.nii.gz", GRID, label)
    for label in ("0", "-1"):
        with pytest.raises(ValueError, match="a whole number of 1 or more"):
            read_label(tmp_path / "mask.nii.gz", GRID, label)


def test_label_by_name(tmp_path):
    store(tmp_path / "mask.nii.gz")
    (tmp_path / "mask.json").write_text(json.dumps({"Liver": 5, "kidney_right": 2, "spleen": 1}))
    for label in (5, "5", "Liver", "liver", "LIVER "):
        np.testing.assert_array_equal(read_label(tmp_path / "mask.nii.gz", GRID, label), map_of() == 5)
    for label in ("kidney right", "Kidney-Right"):
        np.testing.assert_array_equal(read_label(tmp_path / "mask.nii.gz", GRID, label), map_of() == 2)
    with pytest.raises(ValueError, match=r"no label 1 \(spleen\): its labels are 2, 5"):
        read_label(tmp_path / "mask.nii.gz", GRID, "spleen")
    with pytest.raises(
        ValueError, match=r"no label named 'livr'; nearest: liver; the names in .*mask.json are Liver"
    ):
        read_label(tmp_path / "mask.nii.gz", GRID, "livr")


def test_thick_slices_keep_their_volume(tmp_path):
    """A map drawn on slices of 1 mm, brought onto those of 5 mm."""
    fine = GRID._replace(
        spacing_mm=(0.8, 0.9, 1.0), origin_mm=(-20.0, 10.0, 38.0), size=(SIZE[0], SIZE[1], 5 * SIZE[2])
    )
    store(tmp_path / "mask.nii.gz", map_of().repeat(5, 0), fine)
    np.testing.assert_array_equal(read_label(tmp_path / "mask.nii.gz", GRID, 5, resample=True), map_of() == 5)


@pytest.mark.real
def test_regions_of_totalsegmentators_example_by_the_names_in_its_file(mirror):
    folder = mirror / "ct" / "totalsegmentator"
    if not folder.is_dir():
        pytest.skip("the mirror has no ct/totalsegmentator")
    volume = read_volume(folder / "example_ct_sm.nii.gz")
    known = {
        "spleen": (32.8, 9452),
        "liver": (45.3, 38634),
        "kidney_right": (10.9, None),
        "kidney_left": (14.7, None),
        "aorta": (42.3, None),
        "stomach": (-21.8, 4675),
        "pancreas": (-7.9, None),
    }
    for name, (mean, count) in known.items():
        inside = read_label(folder / "example_seg.nii.gz", volume.geometry, name)
        assert round(float(volume.values[inside].mean(dtype=float)), 1) == mean, name
        assert count in (None, inside.sum()), name

"""A scan in Hounsfield units and its region: from a folder or a file, on another grid, in a window."""

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from lib.gcmlm.ct import MEASURED, measured, read_ct, read_region
from lib.gcmlm.phantom import write_dicom
from lib.inputs.volumes import Geometry, Volume, image_of, same_grid, write_volume

LPS = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
SIZE = (20, 18, 8)
THICK = Geometry((0.8, 0.8, 5.0), (-50.0, -40.0, 100.0), LPS, SIZE)


def body(seed: int = 0) -> np.ndarray:
    """A slice through a patient, say: air, fat, organs, a little bone, noise as a scanner has it."""
    random = np.random.default_rng(seed)
    values = np.full(SIZE[::-1], -1000.0)
    values[:, 2:-2, 2:-2] = -100
    values[:, 4:-4, 4:-4] = 50
    values[:, 12:14, 8:12] = 700
    return np.maximum(np.rint(values + random.normal(0, 15, values.shape)), -1024).astype(np.float32)


def test_a_folder_and_a_file_of_one_scan_are_one_volume(tmp_path):
    scan = Volume(body(), THICK)
    write_volume(tmp_path / "scan.nii.gz", scan, "int16")
    write_dicom(tmp_path / "scan", scan.values.astype(np.int16), THICK, "P1")
    for path in (tmp_path / "scan", tmp_path / "scan.nii.gz"):
        found = read_ct(path)
        np.testing.assert_array_equal(found.values, scan.values)
        assert same_grid(found.geometry, THICK)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_ct(tmp_path / "nowhere")


def test_what_is_no_hu_is_refused(tmp_path):
    write_volume(tmp_path / "scan.nii.gz", Volume(body() + 1024, THICK))
    with pytest.raises(ValueError, match="is not in HU"):
        read_ct(tmp_path / "scan.nii.gz")


@pytest.mark.parametrize(
    ("sidecar", "said"),
    [({"Modality": "MR"}, "says MR"), ({"Modality": "CT", "ImageType": ["DERIVED", "IODINE"]}, "IODINE")],
)
def test_a_sidecar_that_says_what_it_is_is_believed(tmp_path, sidecar, said):
    write_volume(tmp_path / "scan.nii.gz", Volume(body(), THICK), "int16")
    (tmp_path / "scan.json").write_text(json.dumps(sidecar))
    with pytest.raises(ValueError, match=f"is not in HU.*{said}"):
        read_ct(tmp_path / "scan.nii.gz")


def test_what_is_odd_is_a_remark_and_names_no_folder(tmp_path):
    """A header of two places, a region of air, another series: for scans.csv."""
    image = nibabel.Nifti1Image(body().T, np.diag([-0.8, -0.8, 5, 1]))
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine + np.outer([0, 0, 9, 0], [0, 0, 0, 1]), 1)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    inside = np.zeros(SIZE[::-1], np.uint8)
    inside[:, :5] = 1
    nibabel.save(nibabel.Nifti1Image(inside.T, image.affine), tmp_path / "mask.nii.gz")
    volume, found = read_region(tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz")
    told = measured(volume, found)["remark"]
    assert "scan.nii.gz states two places for its voxels, 9 mm apart" in told
    assert "% of the region is air" in told
    assert str(tmp_path) not in told
    write_dicom(tmp_path / "scan", body().astype(np.int16), THICK, "P1")
    assert read_ct(tmp_path / "scan").remark == ""


def test_region_of_thick_slices(tmp_path):
    write_volume(tmp_path / "scan.nii.gz", Volume(body(), THICK), "int16")
    inside = np.zeros(SIZE[::-1], bool)
    inside[2:5, 6:11, 7:12] = True
    sitk.WriteImage(
        sitk.DICOMOrient(image_of(inside.astype(np.uint8) * 3, THICK), "RAI"), str(tmp_path / "mask.nii.gz")
    )
    _, found = read_region(tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz", 3)
    np.testing.assert_array_equal(found, inside)
    with pytest.raises(ValueError, match="has no label 1: its labels are 3"):
        read_region(tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz")


def test_what_is_measured_of_a_region_is_its_size_and_its_hu():
    mask = np.zeros(SIZE[::-1], bool)
    mask[2:4, 5:8, 6:10] = True
    told = measured(Volume(np.where(mask, 40.0, -100.0).astype(np.float32), THICK, "RAS"), mask)
    assert tuple(told) == MEASURED
    assert told["voxels"] == 24
    assert told["volume_ml"] == pytest.approx(24 * 0.8 * 0.8 * 5 / 1000, abs=5e-4)
    assert (told["mean_hu"], told["sd_hu"], told["stored_as"]) == (40.0, 0.0, "RAS")
    assert told["spacing_mm"] == "0.8 x 0.8 x 5"

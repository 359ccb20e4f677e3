"""Cases in nnU-Net's folders: layout, names, one grid for image and mask, and what is refused."""

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from lib.files import sha256_of
from lib.gcmlm.nnunet_files import Case, Dataset, case_names, export_cases, predicted_mask
from lib.inputs.volumes import (
    Geometry,
    Volume,
    brought_onto,
    geometry_of,
    image_of,
    read_volume,
    write_volume,
)

GRID = Geometry((1.5, 1.0, 3.0), (-10.0, 20.0, 5.0), tuple(np.eye(3).ravel()), (12, 14, 6))


def scan(rng) -> np.ndarray:
    return np.rint(rng.normal(40, 30, GRID.size[::-1])).astype(np.float32)


def corner() -> np.ndarray:
    """A mask that no flip or swap of axes leaves in place."""
    mask = np.zeros(GRID.size[::-1], dtype=bool)
    mask[1:3, 2:5, 7:11] = mask[1, 2, 1:7] = True
    return mask


@pytest.fixture
def five(tmp_path) -> list[Case]:
    """Five cases with a mask and one without."""
    cases = []
    for number in range(6):
        image, mask = tmp_path / f"{number}.nii.gz", tmp_path / f"{number}_mask.nii.gz"
        write_volume(image, Volume(scan(np.random.default_rng([6, number])), GRID), "int16")
        write_volume(mask, Volume(corner(), GRID), "uint8")
        cases.append(Case(f"patient_{number:04d}", image, mask if number < 5 else None))
    return cases


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return Dataset(tmp_path / "nnunet", 501, "Stomach")


def test_layout_and_dataset_json_are_what_nnunet_asks_for(five, dataset):
    table = export_cases(dataset, five, region="cancer")
    raw = dataset.folder / "nnUNet_raw" / "Dataset501_Stomach"
    files = sorted(path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file())
    assert files == sorted(
        ["dataset.json", "imagesTs/patient_0005_0000.nii.gz"]
        + [f"imagesTr/patient_{n:04d}_0000.nii.gz" for n in range(5)]
        + [f"labelsTr/patient_{n:04d}.nii.gz" for n in range(5)]
    )
    assert json.loads((raw / "dataset.json").read_text(encoding="utf-8")) == {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "cancer": 1},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    assert list(table["set"]) == ["train"] * 5 + ["test"]
    assert list(table["mask_voxels"]) == [corner().sum()] * 5 + [0]
    np.testing.assert_allclose(table["mask_ml"][:5], corner().sum() * 4.5 / 1000)
    # as nnU-Net cuts names: ending and channel off the image, the ending off the label
    assert case_names(raw / "imagesTr") == [f"patient_{n:04d}" for n in range(5)]


def test_image_and_label_have_the_same_header_and_the_voxels_of_the_source(five, dataset):
    export_cases(dataset, five)
    raw = dataset.stage("raw")
    for case in five[:5]:
        image = nibabel.load(raw / "imagesTr" / f"{case.name}_0000.nii.gz")
        label = nibabel.load(raw / "labelsTr" / f"{case.name}.nii.gz")
        assert image.shape == label.shape
        np.testing.assert_array_equal(image.affine, label.affine)
        assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
        np.testing.assert_array_equal(read_volume(case.image).values, image.get_fdata().T)
        np.testing.assert_array_equal(label.get_fdata().T, corner())


def test_fractions_of_a_unit_are_kept(five, dataset, tmp_path):
    values = scan(np.random.default_rng(1)) * np.float32(1.3)
    write_volume(tmp_path / "0.nii.gz", Volume(values, GRID))
    export_cases(dataset, five)
    stored = read_volume(dataset.stage("raw") / "imagesTr" / "patient_0000_0000.nii.gz")
    np.testing.assert_array_equal(stored.values, values)


@pytest.mark.parametrize("turn", ["RAS", "LAS", "PIR"])
def test_a_file_stored_with_turned_axes_gives_the_same_export(five, dataset, tmp_path, turn):
    export_cases(dataset, five)
    before = {path: sha256_of(path) for path in dataset.stage("raw").rglob("*.nii.gz")}
    for name in ("0", "0_mask"):  # one turned, the mask of another turned alone
        sitk.WriteImage(
            sitk.DICOMOrient(sitk.ReadImage(tmp_path / f"{name}.nii.gz"), turn), tmp_path / f"{name}.nii.gz"
        )
    sitk.WriteImage(
        sitk.DICOMOrient(sitk.ReadImage(tmp_path / "1_mask.nii.gz"), turn), tmp_path / "1_mask.nii.gz"
    )
    export_cases(dataset, five)
    assert {path: sha256_of(path) for path in before} == before


def test_a_mask_of_another_grid_is_brought_over_by_its_place(five, dataset, tmp_path):
    wide = Geometry(GRID.spacing_mm, (-14.5, 18.0, 2.0), GRID.direction, (20, 20, 10))
    mask = (
        sitk.GetArrayFromImage(brought_onto(image_of(corner(), GRID), wide, 0, sitk.sitkNearestNeighbor)) > 0
    )
    assert mask.sum() == corner().sum()
    write_volume(tmp_path / "2_mask.nii.gz", Volume(mask, wide), "uint8")
    export_cases(dataset, five)
    label = read_volume(dataset.stage("raw") / "labelsTr" / "patient_0002.nii.gz")
    np.testing.assert_array_equal(label.values, corner())


def test_the_wanted_label_of_a_map_becomes_one(five, dataset, tmp_path):
    labels = np.where(corner(), 5, 2).astype(np.float32)
    write_volume(tmp_path / "0_mask.nii.gz", Volume(labels, GRID), "uint8")
    table = export_cases(dataset, [five[0]._replace(label=5), *five[1:]])
    stored = read_volume(dataset.stage("raw") / "labelsTr" / "patient_0000.nii.gz").values
    np.testing.assert_array_equal(stored, corner())
    assert table["label"][0] == "5"


def test_another_reader_can_be_given(five, dataset):
    asked = []

    def read(path):
        asked.append(path)
        return read_volume(path)

    export_cases(dataset, five, read=read)
    assert asked == [case.image for case in five]


def test_a_ct_is_verified_and_another_image_is_not(five, dataset, tmp_path):
    standardised = scan(np.random.default_rng(1)) / 100
    write_volume(tmp_path / "0.nii.gz", Volume(standardised, GRID))
    with pytest.raises(ValueError, match=r"patient_0000.*not in HU"):
        export_cases(dataset, five)
    export_cases(dataset, five, channel="T2")
    assert json.loads((dataset.stage("raw") / "dataset.json").read_text(encoding="utf-8"))[
        "channel_names"
    ] == {"0": "T2"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a/b", "misread"),
        ("", "misread"),
        (".hidden", "misread"),
        ("two words", "misread"),
        ("tumour_seg", "misread"),
        ("p1.nii.gz", "file's name"),
        ("PATIENT_0001", "two cases are called 'patient_0001' and 'PATIENT_0001'"),
        ("patient_0001", "two cases are called 'patient_0001' and 'patient_0001'"),
    ],
)
def test_names_nnunet_would_misread_or_mix_are_refused(five, dataset, name, said):
    with pytest.raises(ValueError, match=said):
        export_cases(dataset, [five[0], five[1], five[2]._replace(name=name), *five[3:]])
    assert not dataset.stage("raw").exists()


@pytest.mark.parametrize(("number", "name"), [(0, "A"), (1000, "A"), (5, "a b"), (5, "")])
def test_datasets_nnunet_cannot_name_are_refused(five, tmp_path, number, name):
    with pytest.raises(ValueError, match="1 to 999"):
        export_cases(Dataset(tmp_path, number, name), five)


def test_the_region_is_not_the_background(five, dataset):
    with pytest.raises(ValueError, match="cannot be called background"):
        export_cases(dataset, five, region="background")


def test_too_few_masks_for_the_folds_are_refused(five, dataset):
    with pytest.raises(ValueError, match="4 cases with a mask, at least 5 are needed for nnU-Net's 5 folds"):
        export_cases(dataset, five[1:])
    assert len(export_cases(dataset, five[4:], least=1)) == 2


def test_cases_that_cannot_be_used_are_named_together_and_the_dataset_is_not_whole(five, dataset, tmp_path):
    export_cases(dataset, five)
    empty = Volume(np.zeros(GRID.size[::-1], dtype=bool), GRID)
    write_volume(tmp_path / "1_mask.nii.gz", empty, "uint8")
    bad = [five[0]._replace(label=3), *five[1:3], five[3]._replace(image=tmp_path / "gone.nii.gz"), *five[4:]]
    with pytest.raises(ValueError, match="3 of 6 cases cannot be exported") as refused:
        export_cases(dataset, bad)
    for word in ("patient_0000", "no label 3", "patient_0001", "empty", "patient_0003", "gone.nii.gz"):
        assert word in str(refused.value)
    assert not (dataset.stage("raw") / "dataset.json").exists()


def test_cases_of_another_export_are_not_mixed_in(five, dataset):
    export_cases(dataset, five)
    with pytest.raises(ValueError, match=r"patient_0000_0000.nii.gz of another export"):
        export_cases(dataset, [five[0]._replace(name="other"), *five[1:]])
    with pytest.raises(ValueError, match="Dataset501_Stomach has the number of Dataset501_Liver"):
        export_cases(dataset._replace(name="Liver"), five)
    # a case that lost its mask would otherwise be trained on with the old one
    with pytest.raises(ValueError, match="of another export"):
        export_cases(dataset, [five[0]._replace(mask=None), *five[1:]], least=4)


def test_a_prediction_is_read_on_its_volumes_grid(five, dataset, tmp_path):
    export_cases(dataset, five)
    like = read_volume(five[0].image).geometry
    label = dataset.stage("raw") / "labelsTr" / "patient_0000.nii.gz"
    np.testing.assert_array_equal(predicted_mask(label, like), corner())
    assert geometry_of(sitk.ReadImage(label)).size == like.size
    write_volume(tmp_path / "none.nii.gz", Volume(np.zeros(GRID.size[::-1], dtype=bool), GRID), "uint8")
    assert predicted_mask(tmp_path / "none.nii.gz", like).sum() == 0
    with pytest.raises(ValueError, match="another grid"):
        predicted_mask(label, like._replace(origin_mm=(0.0, 0.0, 0.0)))
    with pytest.raises(FileNotFoundError, match=r"missing\.nii\.gz"):
        predicted_mask(tmp_path / "missing.nii.gz", like)

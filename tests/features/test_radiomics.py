"""Radiomics: upstream's own baselines, what is refused, and many cases at a time."""

import ast
import csv
import importlib.util
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from lib.features.radiomics import (
    PRESETS,
    Case,
    Radiomics,
    extract,
    extract_cases,
    feature_names,
    preset_named,
    recorded,
    write_radiomics,
)
from lib.inputs.masks import read_label
from lib.inputs.volumes import Geometry, Volume, brought_onto, geometry_of, image_of, read_volume

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("radiomics") is None, reason="PyRadiomics is not installed (scripts/setup.sh)"
)

UPSTREAM = 0.03
"""Upstream's tolerance, relative (AIM-Harvard/pyradiomics, tests/testUtils.py)."""

LPS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
SIZE, SPACING_MM = (28, 24, 10), (1.0, 1.2, 2.5)


def drawn(seed: int = 0, axes: tuple[float, ...] = (8, 7, 8)) -> tuple[Volume, np.ndarray]:
    """Whole HU with an ellipsoid of other texture; semi-axes in mm, along z, y, x."""
    random = np.random.default_rng(seed)
    grid = Geometry(SPACING_MM, (-10.0, 4.0, 30.0), LPS, SIZE)
    places = np.indices(SIZE[::-1]) * np.reshape(SPACING_MM[::-1], (3, 1, 1, 1))
    middle = np.reshape(
        [(n - 1) / 2 * mm for n, mm in zip(SIZE[::-1], SPACING_MM[::-1], strict=True)], (3, 1, 1, 1)
    )
    mask = (((places - middle) / np.reshape(axes, (3, 1, 1, 1))) ** 2).sum(0) <= 1
    values = np.rint(40 + random.normal(0, 20, SIZE[::-1]) + 60 * mask).astype(np.float32)
    return Volume(values, grid), mask


def stored(folder: Path, name: str, seed: int = 0, label: int = 1, mask: np.ndarray | None = None) -> Case:
    volume, inside = drawn(seed)
    image, labels = folder / f"{name}.nii.gz", folder / f"{name}_mask.nii.gz"
    sitk.WriteImage(image_of(volume.values.astype(np.int16), volume.geometry), str(image))
    region = (inside if mask is None else mask).astype(np.uint8) * label
    sitk.WriteImage(image_of(region, volume.geometry), str(labels))
    return Case(name, image, labels, label)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> list[Case]:
    """Five cases, not in alphabetical order; the third has an empty mask, the fourth no mask at all."""
    folder = tmp_path_factory.mktemp("cohort")
    empty = stored(folder, "c", 2, mask=np.zeros(SIZE[::-1], bool))
    absent = stored(folder, "b", 3)._replace(mask=folder / "nowhere.nii.gz")
    return [stored(folder, "d", 0), stored(folder, "a", 1, label=7), empty, absent, stored(folder, "e", 4)]


@pytest.fixture(scope="module")
def sequential(cohort) -> Radiomics:
    return extract_cases(cohort, "ct", jobs=1)


@pytest.mark.parametrize(("preset", "count"), [("slicer", 18), ("default", 107), ("ct", 1218)])
def test_presets_have_as_many_features_as_they_say_and_give_them_in_their_order(preset, count):
    names = feature_names(preset)
    assert len(names) == len(set(names)) == count
    row = extract(*drawn(), preset)
    assert list(row) == names
    assert np.isfinite(list(row.values())).all()
    assert recorded(preset)["features"] == count


def test_presets_cannot_be_changed_from_outside():
    preset_named("ct")["setting"]["binWidth"] = 1
    assert PRESETS["ct"]["setting"]["binWidth"] == preset_named("ct")["setting"]["binWidth"] == 25


def test_first_order_features_are_those_of_the_voxels():
    volume, mask = drawn()
    inside, row = volume.values[mask].astype(float), extract(volume, mask, "slicer")
    expected = {
        "Mean": inside.mean(),
        "Variance": inside.var(),
        "Median": np.median(inside),
        "90Percentile": np.percentile(inside, 90),
        "TotalEnergy": (inside**2).sum() * np.prod(SPACING_MM),
        "Minimum": inside.min(),
    }
    for name, value in expected.items():
        assert row[f"original_firstorder_{name}"] == pytest.approx(value, rel=1e-9), name


def test_default_resamples_to_one_millimetre():
    volume, mask = drawn()
    row = extract(volume, mask, "default")
    assert row["original_shape_VoxelVolume"] == pytest.approx(4 / 3 * np.pi * 8 * 7 * 8, rel=0.05)
    energy, total = (row[f"original_firstorder_{name}Energy"] for name in ("", "Total"))
    assert total / energy == pytest.approx(1)  # by definition the volume of a voxel, mm³


@pytest.mark.real
@pytest.mark.parametrize("case", ["brain1", "breast1"])
@pytest.mark.parametrize("kind", ["firstorder", "glcm", "gldm", "glrlm", "glszm", "ngtdm", "shape"])
def test_upstream_baselines(mirror, case, kind, monkeypatch):
    folder = mirror / "ct" / "pyradiomics"
    # as stored: brain1 runs from posterior to anterior, and PyRadiomics resamples from the first voxel of the file
    image, labels = (sitk.ReadImage(str(folder / f"{case}_{each}.nrrd")) for each in ("image", "label"))
    volume = Volume(sitk.GetArrayFromImage(image).astype(np.float32), geometry_of(image))
    mask = sitk.GetArrayFromImage(labels) == 1
    with open(folder / "baseline" / f"baseline_{kind}.csv", newline="") as file:
        table = {row["featureName"]: row for row in csv.DictReader(file)}
    columns = [name for name in next(iter(table.values())) if name.split("_")[0] == case]
    assert columns
    for column in columns:
        stated = ast.literal_eval(table["diagnostics_Configuration_Settings"][column])
        parameters = {
            "setting": {key: value for key, value in stated.items() if value is not None},
            "imageType": ast.literal_eval(table["diagnostics_Configuration_EnabledImageTypes"][column]),
            "featureClass": {kind: []},
        }
        monkeypatch.setitem(PRESETS, "baseline", parameters)
        expected = {name: float(row[column]) for name, row in table.items() if name.startswith("original_")}
        found = extract(volume, mask, "baseline")
        assert set(expected) == set(found)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=UPSTREAM, abs=1e-10), (column, name)


@pytest.mark.real
def test_file_read_as_a_case_meets_the_baseline(mirror):
    folder = mirror / "ct" / "pyradiomics"
    case = Case("breast1", folder / "breast1_image.nrrd", folder / "breast1_label.nrrd")
    found = extract_cases([case], "slicer", jobs=1).features.iloc[0]
    table = pd.read_csv(folder / "baseline" / "baseline_firstorder.csv", index_col=0)["breast1"]
    table = table[table.index.str.startswith("original_")].astype(float)
    table = table.drop(
        [
            "original_firstorder_Energy",
            "original_firstorder_TotalEnergy",
            "original_firstorder_RootMeanSquared",
        ]
    )
    assert len(table) == 15  # the three that are left out were computed with another voxelArrayShift
    np.testing.assert_allclose(found[table.index].astype(float), table, rtol=UPSTREAM)


@pytest.mark.real
def test_organ_of_a_label_map_gives_the_known_mean(mirror):
    folder = mirror / "ct" / "totalsegmentator"
    if not folder.is_dir():
        pytest.skip("the mirror has no ct/totalsegmentator")
    found = extract_cases(
        [
            Case(organ, folder / "example_ct_sm.nii.gz", folder / "example_seg.nii.gz", label)
            for organ, label in (("spleen", 1), ("liver", 5))
        ],
        "slicer",
        jobs=1,
    )
    assert found.report["voxels"].tolist() == [9452, 38634]
    assert found.features["original_firstorder_Mean"].round(1).tolist() == [32.8, 45.3]


@pytest.mark.real
def test_organ_by_name_gives_107_features(mirror):
    folder = mirror / "ct" / "totalsegmentator"
    if not folder.is_dir():
        pytest.skip("the mirror has no ct/totalsegmentator")
    scan, mask = folder / "example_ct_sm.nii.gz", folder / "example_seg.nii.gz"
    cases = [Case("by name", scan, mask, "spleen"), Case("unknown", scan, mask, "splen")]
    found = extract_cases(cases, "default", jobs=1)
    assert list(found.features) == ["case", *feature_names("default")]
    assert found.features.shape == (1, 108)
    assert found.report["voxels"][0] == 9452
    row = found.features.iloc[0]
    assert row["original_firstorder_Mean"] == pytest.approx(32.8, abs=2)  # at 1 mm its rim is another
    assert row["original_shape_VoxelVolume"] == pytest.approx(9452 * 27, rel=0.02)
    assert found.report["status"].tolist() == ["done", "failed"]
    assert "no label named 'splen'; nearest: spleen" in found.report["reason"][1]


def test_folder_with_a_dicom_series_is_a_case_like_its_file(tmp_path):
    case = stored(tmp_path, "case")
    folder = tmp_path / "series"
    folder.mkdir()
    volume = read_volume(case.image)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k, values in enumerate(volume.values):
        image = sitk.GetImageFromArray(values.astype(np.int16))
        image.SetSpacing(SPACING_MM[:2])
        place = volume.geometry.points(np.array([[0, 0, k]]))[0]
        tags = {
            "0008|0060": "CT",
            "0020|000e": "1.2.3",
            "0020|0032": "\\".join(f"{number:g}" for number in place),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{k}.dcm"))
        writer.Execute(image)
    (tmp_path / "labels.json").write_text('{"tumour": 1}')
    found = extract_cases([case, Case("dicom", folder, case.mask, "tumour")], "default", jobs=1)
    assert found.report["reason"].tolist() == ["", ""]
    values = found.features.drop(columns="case")
    np.testing.assert_allclose(values.iloc[1], values.iloc[0], rtol=1e-6)


def test_parallel_equals_sequential_exactly_and_a_bad_case_takes_no_other_with_it(cohort, sequential):
    parallel = extract_cases(cohort, "ct", jobs=2)
    pd.testing.assert_frame_equal(parallel.features, sequential.features, check_exact=True)
    pd.testing.assert_frame_equal(parallel.report, sequential.report, check_exact=True)
    assert parallel.settings == sequential.settings
    assert parallel.features["case"].tolist() == ["d", "a", "e"]
    assert parallel.report["case"].tolist() == ["d", "a", "c", "b", "e"]
    assert parallel.report["status"].tolist() == ["done", "done", "failed", "failed", "done"]
    reasons = parallel.report["reason"]
    assert reasons[0] == ""
    assert "c_mask.nii.gz is empty" in reasons[2]
    assert "no image at" in reasons[3]


def test_row_of_a_case_does_not_depend_on_its_company(cohort, sequential):
    turned = extract_cases(cohort[::-1], "ct", jobs=1).features
    pd.testing.assert_frame_equal(
        turned.iloc[::-1].reset_index(drop=True), sequential.features, check_exact=True
    )
    assert (
        sequential.features.drop(columns="case").nunique().gt(1).mean() > 0.95
    )  # rows are not one another's copies


def test_a_process_that_dies_is_the_failure_of_its_case_only(cohort):
    fatal = cohort[0]._replace(name="fatal", label=_Fatal())
    found = extract_cases([cohort[0], fatal, cohort[4]], "slicer", jobs=2)
    assert found.report["status"].tolist() == ["done", "failed", "done"]
    assert "its process ended" in found.report["reason"][1]


class _Fatal(int):
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (9,)


def test_itk_threads_are_given_back(cohort):
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3)
        extract_cases(cohort[:1], "slicer", jobs=1)
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 3
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def test_files_and_what_is_recorded(sequential, tmp_path):
    write_radiomics(tmp_path, sequential)
    features = pd.read_csv(tmp_path / "radiomics.csv")
    assert list(features) == ["case", *feature_names("ct")]
    pd.testing.assert_frame_equal(features, sequential.features, check_exact=False, rtol=1e-12)
    report = pd.read_csv(tmp_path / "radiomics_report.csv")
    assert set(report["settings_id"]) == {sequential.settings["settings_id"]}
    assert set(sequential.settings["versions"]) == {
        "pyradiomics",
        "SimpleITK",
        "numpy",
        "PyWavelets",
        "python",
    }
    assert sequential.settings["setting"]["interpolator"] == "sitkBSpline"
    assert sequential.settings["setting"]["padDistance"] == 10
    assert (tmp_path / "radiomics_settings.json").is_file()
    ids = {recorded(preset)["settings_id"] for preset in PRESETS}
    assert len(ids) == 3


@pytest.mark.parametrize("orientation", ["RAS", "LAI", "PSR"])
def test_storage_in_another_orientation_changes_nothing(tmp_path, orientation):
    case = stored(tmp_path, "as_is")
    turned = tmp_path / "turned.nii.gz"
    turned_mask = tmp_path / "turned_mask.nii.gz"
    sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(case.image)), orientation), str(turned))
    # the image alone, the mask alone, both
    sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(case.mask)), orientation), str(turned_mask))
    cases = [case, Case("image", turned, case.mask), Case("mask", case.image, turned_mask)]
    cases.append(Case("both", turned, turned_mask))
    values = extract_cases(cases, "default", jobs=1).features.drop(columns="case")
    assert len(values) == 4
    for number in range(1, 4):
        np.testing.assert_allclose(values.iloc[number], values.iloc[0], rtol=1e-6)


def test_mask_on_another_grid_is_refused_or_brought_over_by_its_place(tmp_path):
    case = stored(tmp_path, "case", label=3)
    volume = read_volume(case.image)
    wide = volume.geometry._replace(
        origin_mm=tuple(np.subtract(volume.geometry.origin_mm, np.multiply(SPACING_MM, 4)).tolist()),
        size=tuple(n + 8 for n in SIZE),
    )
    shifted = tmp_path / "shifted.nii.gz"
    sitk.WriteImage(
        brought_onto(sitk.ReadImage(str(case.mask)), wide, 0, sitk.sitkNearestNeighbor), str(shifted)
    )
    elsewhere = case._replace(mask=shifted)
    refused = extract_cases([elsewhere], "slicer", jobs=1)
    assert refused.features.empty
    assert list(refused.features) == ["case", *feature_names("slicer")]
    assert "another grid" in refused.report["reason"][0]
    brought = extract_cases([elsewhere], "slicer", jobs=1, resample=True)
    expected = extract_cases([case], "slicer", jobs=1)
    pd.testing.assert_frame_equal(brought.features, expected.features, check_exact=True)
    moved = sitk.ReadImage(
        str(case.mask)
    )  # as many voxels, two of them away: an overlay by index would not notice
    moved.SetOrigin(volume.geometry.points(np.array([[2, 0, 0]]))[0].tolist())
    sitk.WriteImage(moved, str(tmp_path / "moved.nii.gz"))
    apart = extract_cases([case._replace(mask=tmp_path / "moved.nii.gz")], "slicer", jobs=1)
    assert "another grid" in apart.report["reason"][0]
    far = sitk.ReadImage(str(shifted))
    far.SetOrigin((500.0, 500.0, 500.0))
    sitk.WriteImage(far, str(tmp_path / "far.nii.gz"))
    outside = extract_cases([case._replace(mask=tmp_path / "far.nii.gz")], "slicer", jobs=1, resample=True)
    assert "falls inside the volume" in outside.report["reason"][0]


def region(*slices: slice) -> np.ndarray:
    mask = np.zeros(SIZE[::-1], bool)
    mask[slices] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "preset", "said"),
    [
        (region(slice(0)), "slicer", "is empty"),
        (region(slice(4, 5), slice(5, 6), slice(6, 7)), "slicer", "has one voxel"),
        (region(slice(4, 5), slice(5, 12), slice(6, 15)), "default", "9 x 7 x 1 voxels .* flat"),
        (region(slice(4, 5), slice(5, 12), slice(6, 15)), "ct", "the preset slicer does without"),
        (np.ones((2, 2, 2), bool), "slicer", r"the mask has \(2, 2, 2\) voxels"),
    ],
    ids=["empty", "one voxel", "one slice", "one slice, ct", "another shape"],
)
def test_regions_without_anything_to_measure_are_refused(mask, preset, said):
    with pytest.raises(ValueError, match=said):
        extract(drawn()[0], mask, preset)


def test_one_slice_does_for_first_order_features():
    mask = region(slice(4, 5), slice(5, 12), slice(6, 15))
    volume = drawn()[0]
    row = extract(volume, mask, "slicer")
    assert row["original_firstorder_Mean"] == pytest.approx(volume.values[mask].mean(), rel=1e-6)


def test_region_of_one_value_and_slices_of_5_mm():
    volume, mask = drawn()
    with pytest.raises(ValueError, match="have the value -1024: the mask lies on padding"):
        extract(volume._replace(values=np.full_like(volume.values, -1024)), mask, "default")
    thick = volume._replace(geometry=volume.geometry._replace(spacing_mm=(0.7, 0.7, 5.0)))
    assert np.isfinite(list(extract(thick, mask, "default").values())).all()


def test_wrong_label_names_those_there_are(tmp_path):
    case = stored(tmp_path, "case", label=5)
    grid = geometry_of(sitk.ReadImage(str(case.image)))
    with pytest.raises(ValueError, match="has no label 1: its labels are 5"):
        read_label(case.mask, grid, 1)
    for label in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="a whole number of 1 or more"):
            read_label(case.mask, grid, label)
    np.testing.assert_array_equal(read_label(case.mask, grid, 5), drawn()[1])
    np.testing.assert_array_equal(read_label(case.mask, grid, None), drawn()[1])
    sitk.WriteImage(sitk.ReadImage(str(case.mask), sitk.sitkFloat32) * 0.3, str(tmp_path / "soft.nii.gz"))
    with pytest.raises(ValueError, match="is no mask"):
        read_label(tmp_path / "soft.nii.gz", grid, 1)


def test_calls_that_cannot_be_meant_are_refused(cohort):
    for arguments, said in (
        (([], "slicer"), "no case was given"),
        (([cohort[0], cohort[0]], "slicer"), "'d' is there twice"),
        ((cohort, "all"), "no radiomics preset 'all'"),
    ):
        with pytest.raises(ValueError, match=said):
            extract_cases(*arguments)
    with pytest.raises(ValueError, match="jobs must be 1 or more"):
        extract_cases(cohort, "slicer", jobs=0)

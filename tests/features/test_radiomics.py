"""Radiomics: upstream's own baselines, and what is refused."""

import ast
import csv
import importlib.util

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from lib.features.radiomics import PRESETS, extract, feature_names, pyradiomics, recorded
from lib.inputs.masks import read_label
from lib.inputs.volumes import Geometry, Volume, geometry_of, image_of, read_volume

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("radiomics") is None, reason="PyRadiomics is not installed (scripts/setup.sh)"
)

UPSTREAM = 0.03
"""Upstream's tolerance, relative (AIM-Harvard/pyradiomics, tests/testUtils.py)."""

LPS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
SIZE, SPACING_MM = (28, 24, 10), (1.0, 1.2, 2.5)


def drawn(seed: int = 0) -> tuple[Volume, np.ndarray]:
    """Whole HU with an ellipsoid of other texture; semi-axes of 8, 7 and 8 mm along z, y, x."""
    shape, spacing = SIZE[::-1], np.reshape(SPACING_MM[::-1], (3, 1, 1, 1))
    middle = np.reshape([(n - 1) / 2 for n in shape], (3, 1, 1, 1)) * spacing
    places = np.indices(shape) * spacing
    mask = (((places - middle) / np.reshape((8, 7, 8), (3, 1, 1, 1))) ** 2).sum(0) <= 1
    noise = np.random.default_rng(seed).normal(0, 20, shape)
    values = np.rint(40 + noise + 60 * mask).astype(np.float32)
    return Volume(values, Geometry(SPACING_MM, (-10.0, 4.0, 30.0), LPS, SIZE)), mask


@pytest.mark.parametrize(("preset", "count"), [("slicer", 18), ("default", 107), ("ct", 1218)])
def test_presets_have_as_many_features_as_they_say_and_give_them_in_their_order(preset, count):
    names = feature_names(preset)
    assert len(names) == len(set(names)) == recorded(preset)["features"] == count
    row = extract(*drawn(), preset)
    assert list(row) == names
    assert np.isfinite(list(row.values())).all()
    assert extract(*drawn(), preset) == row
    assert extract(*drawn(1), preset) != row


def test_presets_are_parameter_files_that_pyradiomics_reads(tmp_path):
    for name, parameters in PRESETS.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(parameters))
        extractor = pyradiomics().featureextractor.RadiomicsFeatureExtractor(str(tmp_path / f"{name}.yaml"))
        assert recorded(name)["setting"] == extractor.settings
        assert recorded(name)["image_types"] == extractor.enabledImagetypes
    versions = {"pyradiomics", "SimpleITK", "numpy", "PyWavelets", "python"}
    assert set(recorded("ct")["versions"]) == versions
    assert len({recorded(preset)["settings_id"] for preset in PRESETS}) == 3


def test_first_order_features_are_those_of_the_voxels():
    volume, mask = drawn()
    flat = extract(volume, FLAT, "slicer")  # for which one slice does
    assert flat["original_firstorder_Mean"] == pytest.approx(volume.values[FLAT].mean(), rel=1e-6)
    inside, row = volume.values[mask].astype(float), extract(volume, mask, "slicer")
    expected = {
        "Mean": inside.mean(),
        "Variance": inside.var(),
        "Median": np.median(inside),
        "90Percentile": np.percentile(inside, 90),
        "TotalEnergy": (inside**2).sum() * np.prod(SPACING_MM),
    }
    for name, value in expected.items():
        assert row[f"original_firstorder_{name}"] == pytest.approx(value, rel=1e-9), name


def test_default_resamples_to_one_millimetre():
    row = extract(*drawn(), "default")
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
def test_organ_of_a_label_map_gives_the_known_mean(mirrored):
    folder = mirrored("ct/totalsegmentator")
    volume = read_volume(folder / "example_ct_sm.nii.gz")
    for label, voxels, mean in (("spleen", 9452, 32.8), (5, 38634, 45.3)):
        mask = read_label(folder / "example_seg.nii.gz", volume.geometry, label)
        assert mask.sum() == voxels
        assert extract(volume, mask, "slicer")["original_firstorder_Mean"] == pytest.approx(mean, abs=0.05)


@pytest.mark.parametrize("orientation", ["RAS", "LAI", "PSR"])
def test_storage_in_another_orientation_changes_nothing(tmp_path, orientation):
    volume, mask = drawn()
    expected = list(extract(volume, mask).values())
    for name, values in (("image", volume.values.astype(np.int16)), ("mask", mask.astype(np.uint8))):
        image = sitk.DICOMOrient(image_of(values, volume.geometry), orientation)
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    turned = read_volume(tmp_path / "image.nii.gz")
    found = extract(turned, read_label(tmp_path / "mask.nii.gz", turned.geometry, 1))
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-6)


def test_itk_threads_are_given_back():
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3)
        extract(*drawn(), "slicer")
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 3
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def region(*slices: slice) -> np.ndarray:
    mask = np.zeros(SIZE[::-1], bool)
    mask[slices] = True
    return mask


FLAT = region(slice(4, 5), slice(5, 12), slice(6, 15))


@pytest.mark.parametrize(
    ("mask", "preset", "says"),
    [
        (region(slice(0)), "slicer", "the 0 voxels .* it is empty"),
        (
            region(slice(4, 5), slice(5, 6), slice(6, 7)),
            "slicer",
            "the 1 voxels of the region have the value",
        ),
        (FLAT, "default", "9 x 7 x 1 voxels .* flat.*the preset slicer does without"),
    ],
    ids=["empty", "one voxel", "one slice"],
)
def test_regions_without_anything_to_measure_are_refused(mask, preset, says):
    with pytest.raises(ValueError, match=says):
        extract(drawn()[0], mask, preset)


def test_region_of_one_value_and_slices_of_5_mm():
    volume, mask = drawn()
    with pytest.raises(ValueError, match=r"have the value \[-1024.\]: it is empty, or lies on padding"):
        extract(volume._replace(values=np.full_like(volume.values, -1024)), mask, "default")
    thick = volume._replace(geometry=volume.geometry._replace(spacing_mm=(0.7, 0.7, 5.0)))
    assert np.isfinite(list(extract(thick, mask, "default").values())).all()

import numpy as np
import SimpleITK as sitk

from lib.files import sha256_of
from lib.gcmlm.phantom_ct import write_dicom
from lib.inputs.dicom import read_dicom
from lib.inputs.volumes import Geometry, same_grid

GRID = Geometry((1.5, 2.0, 5.0), (-20.5, 3.25, 100.0), tuple(np.eye(3).ravel()), (12, 8, 4))
VALUES = np.random.default_rng(0).integers(-1024, 2000, GRID.size[::-1]).astype(np.int16)


def test_a_series_is_read_back_voxel_by_voxel(tmp_path):
    write_dicom(tmp_path / "s", VALUES, GRID, "GC-0020")
    volume = read_dicom(tmp_path / "s")
    np.testing.assert_array_equal(volume.values, VALUES)
    assert same_grid(volume.geometry, GRID)


def test_files_are_named_against_the_slices_order(tmp_path):
    write_dicom(tmp_path / "s", VALUES, GRID, "GC-0020")
    first = sitk.GetArrayFromImage(sitk.ReadImage(str(sorted((tmp_path / "s").iterdir())[0])))
    np.testing.assert_array_equal(first[0], VALUES[-1])


def test_equal_arguments_give_equal_bytes_before_and_after_a_reading(tmp_path):
    # GDCM keeps a state between calls, so that a slice without a thickness of its own got another
    for name in "ab":
        write_dicom(tmp_path / name, VALUES, GRID, "GC-0020")
        read_dicom(tmp_path / name)
    a, b = ({path.name: sha256_of(path) for path in (tmp_path / name).iterdir()} for name in "ab")
    assert len(a) == 4
    assert a == b


def test_a_shorter_series_replaces_a_longer_one(tmp_path):
    write_dicom(tmp_path / "s", VALUES, GRID, "GC-0020")
    write_dicom(tmp_path / "s", VALUES[:2], GRID._replace(size=(12, 8, 2)), "GC-0020")
    assert len(list((tmp_path / "s").iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["s"]

"""A region lands on the patient's place or is refused; what number it has is read where it stands, and never guessed."""

import json
import warnings

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from lib.inputs.masks import TOTALSEGMENTATOR, label_names, label_number, read_label
from lib.inputs.volumes import Geometry, image_of, read_volume

SIZE = (14, 12, 6)
GRID = Geometry((0.8, 0.9, 5.0), (-20.0, 10.0, 40.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), SIZE)
HERE = np.s_[1:3, 2:6, 1:6]  # off the middle along each axis


def map_of() -> np.ndarray:
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[HERE] = 5
    labels[4, 8:10, 9:12] = 2
    return labels


def store(path, labels=None, grid=GRID):
    sitk.WriteImage(image_of(map_of() if labels is None else labels, grid), str(path))
    return path


@pytest.mark.parametrize(
    ("mm", "said"), [(500.0, r"0\.\d+ ml in its file, 0\.000 ml"), (3.2, "ml in its file")]
)
def test_mask_outside_the_image_is_refused_with_both_volumes(tmp_path, mm, said):
    labels = np.pad(map_of(), ((0, 1), (0, 0), (0, 0)))
    grid = GRID._replace(origin_mm=(-20.0 - mm, 10.0, 40.0), size=(*SIZE[:2], SIZE[2] + 1))
    store(tmp_path / "mask.nii.gz", labels, grid)
    with pytest.raises(ValueError, match=f"does not fit its volume: label 5 has .*{said}"):
        read_label(tmp_path / "mask.nii.gz", GRID, 5)


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
    for value in (0.5, 0.98, -1):
        store(tmp_path / "other.nii.gz", np.full(SIZE[::-1], value, np.float32))
        with pytest.raises(ValueError, match="is no mask: its values reach from"):
            read_label(tmp_path / "other.nii.gz", GRID, 1)
    for label in ("0", "-1"):
        with pytest.raises(ValueError, match="a whole number of 1 or more"):
            read_label(tmp_path / "mask.nii.gz", GRID, label)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_labels_that_were_stored_with_a_slope_are_whole_again(tmp_path, dtype):
    """A mask in floating point under the header of its CT: nibabel stores it with a slope, and 2 comes back as 2.0000001."""
    labels, affine = map_of().T.astype(float), np.diag([-0.8, -0.9, 5, 1])
    affine[:3, 3] = np.array(GRID.origin_mm) * (-1, -1, 1)
    image = nibabel.Nifti1Image(labels, affine)
    image.set_data_dtype(dtype)
    nibabel.save(image, tmp_path / "mask.nii.gz")
    assert (nibabel.load(tmp_path / "mask.nii.gz").get_fdata() % 1).any()
    np.testing.assert_array_equal(read_label(tmp_path / "mask.nii.gz", GRID, 5), map_of() == 5)


def test_that_others_were_not_read_is_said_where_a_number_chose(tmp_path):
    """1 is the liver and 2 the tumour in one set, and 1 the tumour in another."""
    path = store(tmp_path / "mask.nii.gz")
    with pytest.warns(UserWarning, match="mask.nii.gz: label 2 is read, of 2, 5"):
        read_label(path, GRID, 2)
    (tmp_path / "mask.json").write_text(json.dumps({"organ": 5, "tumour": 2}))
    with warnings.catch_warnings(action="error"):
        read_label(path, GRID, "tumour")
        read_label(path, GRID, "2")  # as the table of scans says it
        read_label(store(tmp_path / "one.nii.gz", (map_of() == 5).astype(np.uint8)), GRID, 1)


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
        ValueError, match=r"which label is 'livr': .*mask.json has the names Liver.*nearest: liver"
    ):
        read_label(tmp_path / "mask.nii.gz", GRID, "livr")


# names of regions

TABLE = (
    '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension>  <VolumeInformation Index="0">   <LabelTable>\n'
    '<Label Key="3" Red="0.0" Green="1.0" Blue="0.0" Alpha="1"><![CDATA[stomach]]></Label>\n'
    '<Label Key="8" Red="0.0" Green="1.0" Blue="0.0" Alpha="1"><![CDATA[tumour]]></Label>\n'
    "</LabelTable> </VolumeInformation></CaretExtension>\n   "
)


@pytest.fixture
def mask(tmp_path):
    """A map in the folder nnU-Net keeps maps in."""
    folder = tmp_path / "labelsTr"
    folder.mkdir()
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), folder / "case.nii.gz")
    return folder / "case.nii.gz"


@pytest.mark.parametrize(
    ("where", "content"),
    [
        ("case.json", {"gastric tumour": 2}),
        ("case.json", {"labels": {"gastric tumour": 2}}),
        ("case.json", {"2": "gastric tumour", "1": "stomach"}),
        ("labels.json", {"gastric tumour": "2"}),
        ("../dataset.json", {"labels": {"background": 0, "gastric tumour": 2}, "numTraining": 1}),
        ("dataset.json", {"labels": {"0": "background", "2": "gastric tumour"}}),
    ],
)
def test_where_names_stand(mask, where, content):
    assert label_names(mask).numbers == {}
    (mask.parent / where).write_text(json.dumps(content))
    assert label_number(mask, "gastric tumour") == label_number(mask, "Gastric_Tumour") == 2
    assert "background" not in label_names(mask).numbers
    assert where.split("/")[-1] in label_names(mask).source


def test_the_files_own_table_goes_before_those_beside_it(mask):
    image = nibabel.load(mask)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, TABLE.encode()))
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4), image.header), mask)
    (mask.parent / "case.json").write_text('{"tumour": 5}')
    assert label_names(mask).numbers == {"stomach": 3, "tumour": 8}
    assert label_number(mask, "tumour") == 8
    (mask.parent / "plain.json").write_text('{"tumour": 5}')
    sitk.WriteImage(sitk.ReadImage(str(mask)), str(mask.parent / "plain.nii.gz"))  # loses the table
    assert label_number(mask.parent / "plain.nii.gz", "tumour") == 5


def test_segments_of_3d_slicer(tmp_path):
    image = sitk.GetImageFromArray(np.ones((3, 3, 3), np.uint8))
    for number, (name, value) in enumerate({"liver": "4", "tumour": "1"}.items()):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", value)
    sitk.WriteImage(image, str(tmp_path / "a.seg.nrrd"))
    assert label_names(tmp_path / "a.seg.nrrd").numbers == {"liver": 4, "tumour": 1}


def test_nothing_is_guessed(mask):
    assert label_number(mask, 4) == label_number(mask, "4") == label_number(mask, " 4 ") == 4
    said = "which label is 'liver': give its number, or totalsegmentator:liver if .* or lay a case.json"
    with pytest.raises(ValueError, match=said):
        label_number(mask, "liver")
    for label, number in {"TotalSegmentator: Liver": 5, "totalsegmentator:kidney right": 2}.items():
        assert label_number(mask, label) == number
    with pytest.raises(ValueError, match=r"'totalsegmentator:gut': the table verified here has .* spleen"):
        label_number(mask, "totalsegmentator:gut")


@pytest.mark.parametrize(
    ("where", "content", "said"),
    [
        ("case.json", "{", "holds no JSON object"),
        ("dataset.json", '{"name": "x"}', "does not say which label is 'tumour': give its number"),
        ("case.json", '{"tumour": 1.5}', "the label of 'tumour' is 1.5, where a whole number"),
        ("case.json", '{"tumour": true}', "the label of 'tumour' is True"),
        ("case.json", '{"whole tumour": [1, 2]}', r"the label of 'whole tumour' is \[1, 2\]"),
        ("case.json", '{"tumour": 1, "Tumour": 2}', "the label of 'Tumour' is 2, where .* only one"),
    ],
)
def test_tables_that_cannot_be_read(mask, where, content, said):
    (mask.parent / where).write_text(content)
    with pytest.raises(ValueError, match=said):
        label_number(mask, "tumour")


# real maps


@pytest.mark.real
def test_regions_of_totalsegmentators_example_by_the_names_in_its_file(mirrored):
    folder = mirrored("ct/totalsegmentator")
    volume = read_volume(folder / "example_ct_sm.nii.gz")
    known = {"spleen": (32.8, 9452), "liver": (45.3, 38634), "stomach": (-21.8, 4675), "aorta": (42.3, None)}
    for name, (mean, count) in known.items():
        inside = read_label(folder / "example_seg.nii.gz", volume.geometry, name)
        assert round(float(volume.values[inside].mean(dtype=float)), 1) == mean, name
        assert count in (None, inside.sum()), name
    found = label_names(folder / "example_seg.nii.gz")
    assert len(found.numbers) == 117
    assert TOTALSEGMENTATOR.items() <= found.numbers.items()

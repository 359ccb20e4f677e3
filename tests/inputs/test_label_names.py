"""What number a region has: every place it is written in, and nothing guessed."""

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from lib.inputs.masks import TOTALSEGMENTATOR, label_names, label_number

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


def test_number_is_given_back(mask):
    assert label_number(mask, 4) == label_number(mask, "4") == label_number(mask, " 4 ") == 4


@pytest.mark.parametrize(
    ("where", "content"),
    [
        ("case.json", {"gastric tumour": 2}),
        ("case.json", {"labels": {"gastric tumour": 2}}),
        ("case.json", {"2": "gastric tumour", "1": "stomach"}),
        ("labels.json", {"gastric tumour": "2"}),
        ("../dataset.json", {"labels": {"background": 0, "gastric tumour": 2}, "numTraining": 1}),
        ("dataset.json", {"labels": {"0": "background", "2": "gastric tumour"}}),
        ("case.csv", "label,name\n1,stomach\n2,gastric tumour\n"),
        ("labels.csv", "Structure;Value;note\ngastric tumour;2;x\n"),
    ],
)
def test_where_names_stand(mask, where, content):
    assert label_names(mask) is None
    text = content if isinstance(content, str) else json.dumps(content)
    (mask.parent / where).write_text(text)
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
    for key, value in {
        "Segment0_Name": "liver",
        "Segment0_LabelValue": "4",
        "Segment1_Name": "tumour",
        "Segment1_LabelValue": "1",
    }.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(tmp_path / "a.seg.nrrd"))
    assert label_names(tmp_path / "a.seg.nrrd").numbers == {"liver": 4, "tumour": 1}


def test_nothing_is_guessed(mask):
    with pytest.raises(
        ValueError, match=r"does not say which label is 'liver'.*totalsegmentator:liver if Total.*case.json"
    ):
        label_number(mask, "liver")
    with pytest.raises(ValueError, match="does not say which label is 'tumour': give its number, or lay"):
        label_number(mask, "tumour")
    assert label_number(mask, "TotalSegmentator:Liver") == 5
    assert label_number(mask, "totalsegmentator:kidney right") == 2
    with pytest.raises(
        ValueError, match="'totalsegmentator:gut'; the names in the classes verified here are spleen"
    ):
        label_number(mask, "totalsegmentator:gut")
    with pytest.raises(FileNotFoundError, match="no image at"):
        label_number(mask.parent / "none.nii.gz", "liver")


@pytest.mark.parametrize(
    ("where", "content", "said"),
    [
        ("case.json", "{", "no json that can be read"),
        ("case.json", "[1, 2]", "does not map names to numbers"),
        ("dataset.json", '{"name": "x"}', "does not map names to numbers"),
        ("case.json", '{"tumour": 1.5}', "the label of 'tumour' is 1.5, a whole number"),
        ("case.json", '{"tumour": true}', "the label of 'tumour' is True"),
        ("case.json", '{"whole tumour": [1, 2]}', r"'whole tumour' is made of several labels \[1, 2\]"),
        ("case.json", '{"tumour": 1, "Tumour": 2}', "has the name 'Tumour' for the labels 1 and 2"),
        ("case.csv", "a,b\n1,2\n", "needs the columns label"),
    ],
)
def test_tables_that_cannot_be_read(mask, where, content, said):
    (mask.parent / where).write_text(content)
    with pytest.raises(ValueError, match=said):
        label_number(mask, "tumour")


@pytest.mark.parametrize("name", ["map.nii.gz", "map.nii", "map.nrrd"])
def test_damaged_maps_are_said_to_be_so(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x1f\x8b no image at all")
    with pytest.raises(
        ValueError, match=f"{name} (was cut short|cannot be read as an image).*fetch it again"
    ):
        label_number(tmp_path / name, "liver")


@pytest.mark.real
def test_the_classes_are_those_of_a_map_the_tool_made(mirror):
    path = mirror / "ct" / "totalsegmentator" / "example_seg.nii.gz"
    if not path.is_file():
        pytest.skip("the mirror has no ct/totalsegmentator")
    found = label_names(path)
    assert len(found.numbers) == 117
    assert TOTALSEGMENTATOR.items() <= found.numbers.items()

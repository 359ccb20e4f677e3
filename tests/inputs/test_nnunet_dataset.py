import json

import pytest

from lib.gcmlm.nnunet_files import cases_in, read_dataset

ABOUT = {
    "channel_names": {"0": "CT"}, "labels": {"background": 0, "tumour": 1}, "numTraining": 2, "file_ending": ".nii.gz",
}  # fmt: skip


@pytest.fixture
def raw(tmp_path):
    for name in ("imagesTr/a_0000", "imagesTr/b_0000", "labelsTr/a", "labelsTr/b", "imagesTs/c_0000"):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "dataset.json").write_text(json.dumps(ABOUT))
    return tmp_path


def test_a_whole_dataset_is_read_and_what_belongs_to_nobody_is_not_asked(raw):
    (raw / "imagesTr/.DS_Store").touch()
    (raw / "imagesTr/notes.txt").touch()
    assert read_dataset(raw) == ABOUT
    assert cases_in(raw / "imagesTr") == ["a", "b"]
    assert cases_in(raw / "none") == []


def test_images_and_masks_are_matched_by_name(raw):
    (raw / "labelsTr/b.nii.gz").rename(raw / "labelsTr/B.nii.gz")
    with pytest.raises(ValueError, match="1 cases have no mask, the first is b, but one called B"):
        read_dataset(raw)
    (raw / "imagesTr/b_0000.nii.gz").unlink()
    with pytest.raises(ValueError, match="1 cases have no image, the first is B"):
        read_dataset(raw)
    (raw / "labelsTr/B.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"dataset\.json tells of 2 cases and imagesTr has 1"):
        read_dataset(raw)


def test_a_link_is_refused_where_it_leads_out(raw):
    (raw / "labelsTr/b.nii.gz").unlink()
    (raw / "labelsTr/b.nii.gz").symlink_to(raw / "labelsTr/a.nii.gz")
    assert read_dataset(raw) == ABOUT
    (raw / "labelsTr/b.nii.gz").unlink()
    (raw / "labelsTr/b.nii.gz").symlink_to(__file__)
    with pytest.raises(ValueError, match=r"b\.nii\.gz is a link out of its dataset"):
        read_dataset(raw)

"""Hostile folders of nnU-Net: raw datasets, dataset.json, notes beside what was made, predicted masks."""

import json
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lib.gcmlm.nnunet import contents, made_of, plan, predict, train
from lib.gcmlm.nnunet_files import Case as Scan
from lib.gcmlm.nnunet_files import Dataset, case_names, export_cases, predicted_mask, read_dataset
from lib.inputs.volumes import Geometry, Volume, write_volume

sys.path.insert(0, str(Path(__file__).parent))
from judge import Case, judge, shown

KEPT = tempfile.TemporaryDirectory()
GRID = Geometry((1.5, 1.0, 3.0), (-10.0, 20.0, 5.0), tuple(np.eye(3).ravel()), (8, 7, 5))
OTHER = GRID._replace(spacing_mm=(1.5, 1.0, 4.0))
HU = np.random.default_rng(0).integers(-100, 200, GRID.size[::-1]).astype(np.float32)
MASK = np.zeros(GRID.size[::-1], dtype=bool)
MASK[1:3, 2:5, 3:6] = True
NAMES = [f"patient_{number}" for number in range(5)]


def volume(path: Path, values=HU, grid=GRID, kind="int16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, Volume(values, grid), kind)
    return path


@cache
def whole() -> Path:
    """An exported dataset of five cases and one to predict."""
    folder = Path(KEPT.name)
    scan, mask = volume(folder / "scan.nii.gz"), volume(folder / "mask.nii.gz", MASK, kind="uint8")
    cases = [*(Scan(name, scan, mask) for name in NAMES), Scan("later", scan)]
    export_cases(Dataset(folder / "nnunet", 501, "Stomach"), cases)
    return folder / "nnunet"


def dataset_of(room: Path) -> Dataset:
    return Dataset(room / "nnunet", 501, "Stomach")


def spoilt(change):
    def make(room):
        shutil.copytree(whole(), room / "nnunet")
        change(dataset_of(room).stage("raw"))
        return room

    return make


def raw(name, change, says, read=lambda room: read_dataset(dataset_of(room).stage("raw")), **settings):
    return Case(f"raw: {name}", spoilt(change), read, says=says, **settings)


def about(change):
    """dataset.json changed as an object."""

    def edit(folder):
        content = json.loads((folder / "dataset.json").read_text())
        change(content)
        (folder / "dataset.json").write_text(json.dumps(content))

    return edit


def text(content):
    return lambda folder: (folder / "dataset.json").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


def moved(before, after):
    return lambda folder: (folder / before).rename(folder / after)


def linked(name, target):
    """A file that is a link."""

    def edit(folder):
        (folder / name).unlink()
        (folder / name).symlink_to(target(folder))

    return edit


def secret(folder: Path) -> Path:
    return volume(folder.parents[2] / "secret.nii.gz")


RAW = [
    raw("sound", lambda folder: None, "x", check=lambda read: "same" if read["numTraining"] == 5 else "", must_read=True),
    raw("no dataset.json", lambda folder: (folder / "dataset.json").unlink(), "dataset.json"),
    raw("dataset.json a folder", lambda folder: ((folder / "dataset.json").unlink(), (folder / "dataset.json").mkdir()), "dataset.json"),
    *(
        raw(f"dataset.json {content[:20]!r}", text(content), "dataset.json")
        for content in ("", "{", "[]", "null", "5", "[" * 10**5, '{"a":' * 10**5, b"\xff\xfe{", '{"labels": {}, "labels": {}}', '{"numTraining": NaN}', "{}" + " " * 11_000_000)
    ),
    *(
        raw(f"no {key}", about(lambda content, key=key: content.pop(key)), f"dataset.json .*{key}")
        for key in ("channel_names", "labels", "numTraining", "file_ending")
    ),
    raw("two channels", about(lambda content: content["channel_names"].__setitem__("1", "PET")), "channel_names"),
    raw("a channel from 1", about(lambda content: content.__setitem__("channel_names", {"1": "CT"})), "channel_names"),
    raw("channels as a list", about(lambda content: content.__setitem__("channel_names", ["CT"])), "channel_names"),
    raw("a channel that is a number", about(lambda content: content.__setitem__("channel_names", {"0": 1})), "channel_names"),
    raw("three labels", about(lambda content: content["labels"].__setitem__("node", 2)), "labels"),
    raw("no background", about(lambda content: content.__setitem__("labels", {"tumour": 1})), "labels"),
    raw("background 1", about(lambda content: content.__setitem__("labels", {"background": 1, "tumour": 0})), "labels"),
    raw("a label 255", about(lambda content: content.__setitem__("labels", {"background": 0, "tumour": 255})), "labels"),
    raw("a label true", about(lambda content: content.__setitem__("labels", {"background": 0, "tumour": True})), "labels"),
    raw("labels as a list", about(lambda content: content.__setitem__("labels", ["background", "tumour"])), "labels"),
    raw("labels of 10^4 regions", about(lambda content: content.__setitem__("labels", {str(i): i for i in range(10**4)})), "labels"),
    raw("another number of cases", about(lambda content: content.__setitem__("numTraining", 6)), "dataset.json"),
    raw("a number in words", about(lambda content: content.__setitem__("numTraining", "five")), "numTraining"),
    raw("a number true", about(lambda content: content.__setitem__("numTraining", True)), "numTraining"),
    raw("another ending", about(lambda content: content.__setitem__("file_ending", "../x")), "file_ending"),
    raw("an image lacks", lambda folder: (folder / "imagesTr/patient_2_0000.nii.gz").unlink(), "patient_2"),
    raw("a mask lacks", lambda folder: (folder / "labelsTr/patient_2.nii.gz").unlink(), "patient_2"),
    raw("no images at all", lambda folder: shutil.rmtree(folder / "imagesTr"), "Dataset501"),
    raw("an image too many", lambda folder: volume(folder / "imagesTr/other_0000.nii.gz"), "other"),
    raw("a mask in other capitals", moved("labelsTr/patient_2.nii.gz", "labelsTr/Patient_2.nii.gz"), "Patient_2"),
    raw("an image in other capitals", moved("imagesTr/patient_2_0000.nii.gz", "imagesTr/PATIENT_2_0000.nii.gz"), "PATIENT_2"),
    raw("a second channel of one case", lambda folder: volume(folder / "imagesTr/patient_2_0001.nii.gz"), "patient_2_0001"),
    raw("an image without its channel", moved("imagesTr/patient_2_0000.nii.gz", "imagesTr/patient_2.nii.gz"), r"patient_2\.nii"),
    raw("an ending in capitals", moved("imagesTr/patient_2_0000.nii.gz", "imagesTr/patient_2_0000.NII.GZ"), r"patient_2_0000\.NII"),
    raw("an image that is not packed", moved("imagesTr/patient_2_0000.nii.gz", "imagesTr/patient_2_0000.nii"), r"patient_2_0000\.nii"),
    raw("an image that is a folder", lambda folder: ((folder / "imagesTr/patient_2_0000.nii.gz").unlink(), (folder / "imagesTr/patient_2_0000.nii.gz").mkdir()), "patient_2"),
    raw("an image that leads out", linked("imagesTr/patient_2_0000.nii.gz", secret), "patient_2"),
    raw("a mask that leads out", linked("labelsTr/patient_2.nii.gz", secret), "patient_2"),
    raw("an image that leads nowhere", linked("imagesTr/patient_2_0000.nii.gz", lambda folder: folder / "gone"), "patient_2"),
    raw("an image that leads to itself", linked("imagesTr/patient_2_0000.nii.gz", lambda folder: folder / "imagesTr/patient_2_0000.nii.gz"), "patient_2"),
]  # fmt: skip


def staged(name, change, says, read, **settings):
    return Case(f"stage: {name}", spoilt(change), read, says=says, **settings)


def network(folder: Path) -> None:
    """A file where a trained network would lie."""
    model = folder.parents[1] / "nnUNet_results/Dataset501_Stomach/nnUNetTrainer__nnUNetPlans__3d_fullres"
    (model / "fold_0").mkdir(parents=True)
    (model / "fold_0/checkpoint_final.pth").write_bytes(b"weights")


def masked(folder: Path) -> None:
    network(folder)
    volume(folder.parents[2] / "out/later.nii.gz", MASK, kind="uint8")


STAGES = [
    staged("plan of a damaged dataset.json", text("{"), "dataset.json", lambda room: plan(dataset_of(room))),
    staged("plan of a mask that lacks", lambda folder: (folder / "labelsTr/patient_2.nii.gz").unlink(), "patient_2", lambda room: plan(dataset_of(room))),
    staged("train of what is not planned", lambda folder: None, "Dataset501", lambda room: train(dataset_of(room))),
    staged("train of fold 7", lambda folder: None, "7", lambda room: train(dataset_of(room), fold=7)),
    staged("train of a fold that is a path", lambda folder: None, r"\.\./x", lambda room: train(dataset_of(room), fold="../x")),
    staged("predict without a network", lambda folder: None, "checkpoint_final", lambda room: predict(dataset_of(room), room / "out")),
    staged("predict without images", lambda folder: shutil.rmtree(folder / "imagesTs"), "imagesTs", lambda room: predict(dataset_of(room), room / "out")),
    staged("predict beside a mask of others", masked, r"later\.nii\.gz", lambda room: predict(dataset_of(room), room / "out")),
    staged("predict with an image passed over", lambda folder: (network(folder), volume(folder / "imagesTs/more.nii.gz")), "more", lambda room: predict(dataset_of(room), room / "out")),
    staged("predict with an image that leads nowhere", lambda folder: (network(folder), (folder / "imagesTs/x_0000.nii.gz").symlink_to("gone")), "x_0000", lambda room: predict(dataset_of(room), room / "out")),
]  # fmt: skip


def stamp(content):
    def make(room):
        (room / "crossbook.json").write_bytes(content if isinstance(content, bytes) else content.encode())
        return room / "crossbook.json"

    return make


STAMPS = [
    Case(f"stamp: {content[:16]!r}", stamp(content), made_of, check=lambda read: "legal: made again" if read == "" else "", must_read=True)
    for content in ("", "{", "[]", "5", "null", '"made_of"', "[" * 10**5, b"\xff\xfe", '{"made": 1}')
]  # fmt: skip
STAMPS.append(
    Case(
        "stamp: a folder", lambda room: (room / "crossbook.json").mkdir() or room / "crossbook.json", made_of
    )
)


def predicted(values=MASK, grid=GRID, kind="uint8", change=None, name="patient_1.nii.gz"):
    def make(room):
        path = volume(room / name, values, grid, kind)
        if change:
            change(path)
        return path

    return make


def mask(name, make, **settings):
    return Case(f"mask: {name}", make, lambda path: predicted_mask(path, GRID), **settings)


def cut(share):
    def change(path):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return change


def nan_within(path):
    content = path.read_bytes()
    path.write_bytes(content[:-4] + np.float32(np.nan).tobytes())


MASKS = [
    mask("sound", predicted(), check=lambda read: "same" if np.array_equal(read, MASK) else "", must_read=True),
    mask("of nothing", predicted(MASK & False), check=lambda read: "legal: nothing found" if not read.any() else "", must_read=True),
    mask("not there", lambda room: room / "patient_1.nii.gz"),
    mask("a folder", lambda room: (room / "patient_1.nii.gz").mkdir() or room / "patient_1.nii.gz"),
    mask("that leads nowhere", lambda room: (room / "patient_1.nii.gz").symlink_to("gone") or room / "patient_1.nii.gz"),
    *(mask(f"cut at {share:.0%}", predicted(change=cut(share))) for share in (0, 0.2, 0.7, 0.99)),
    mask("of text", predicted(change=lambda path: path.write_text("no mask"))),
    mask("with a label 2", predicted(MASK * np.uint8(2))),
    mask("with labels 1 and 3", predicted(MASK + 2 * (HU > 150), kind="uint8")),
    mask("below 0", predicted(-1.0 * MASK, kind="int16")),
    mask("of probabilities", predicted(MASK * np.float32(0.7), kind="float32")),
    mask("NaN", predicted(MASK * np.float32(1), kind="float32", change=nan_within, name="patient_1.nii")),
    mask("on another grid", predicted(grid=OTHER)),
    mask("of fewer slices", predicted(MASK[:3], grid=GRID._replace(size=(8, 7, 3)))),
    mask("of one slice", predicted(MASK[:1], grid=GRID._replace(size=(8, 7, 1)))),
    mask("moved by 100 mm", predicted(grid=GRID._replace(origin_mm=(90.0, 20.0, 5.0)))),
]  # fmt: skip


def exported(*cases, name="Stomach", number=501, least=1, prepare=None):
    """What export_cases makes of cases; images and masks are found in the room."""

    def make(room):
        volume(room / "results" / "scan.nii.gz")
        volume(room / "results" / "mask.nii.gz", MASK, kind="uint8")
        if prepare:
            prepare(room / "results")
        return room

    def read(room):
        here = room / "results"
        scans = [
            Scan(one, here / image, here / label if label else None)
            for one, image, label in cases or [("a", "scan.nii.gz", "mask.nii.gz")]
        ]
        return export_cases(Dataset(here / "nnunet", number, name), scans, least=least)

    return make, read


def export(title, says, *cases, check=None, must_read=False, **settings):
    make, read = exported(*cases, **settings)
    return Case(f"export: {title}", make, read, says=says, check=check, must_read=must_read)


def named(name):
    return (name, "scan.nii.gz", "mask.nii.gz")


def stray(name):
    return lambda here: volume(here / "nnunet/nnUNet_raw/Dataset501_Stomach" / name, MASK, kind="uint8")


EXPORTS = [
    export("sound", "x", check=lambda table: "same" if table["mask_voxels"].sum() == MASK.sum() else "", must_read=True),
    *(
        export(f"a case called {str(name)[:20]!r}", "case", named(name))
        for name in ("../x", "a/b", "/etc/x", "..", "", "a b", "a\nb", "a_SEG", "a.nii.gz", "é", "x" * 300, ".a", "-a", 5, None, "a\x00")
    ),
    export("two cases that differ in capitals", "'a' and 'A'", named("a"), named("A")),
    export("a case twice", "'a' and 'a'", named("a"), named("a")),
    export("a dataset that leaves", r"\.\./x", name="../x"),
    export("a dataset without name", "''", name=""),
    export("dataset 0", "not 0", number=0),
    export("dataset 1000", "1000", number=1000),
    export("too few cases", "1 cases", least=5),
    export("an image that lacks", "a: .*gone", ("a", "gone.nii.gz", "mask.nii.gz")),
    export("a mask that lacks", "a: .*gone", ("a", "scan.nii.gz", "gone.nii.gz")),
    export("an image that is a mask", "a: ", ("a", "mask.nii.gz", "scan.nii.gz")),
    export("a mask far away", "a: .*far", ("a", "scan.nii.gz", "far.nii.gz"), prepare=lambda here: volume(here / "far.nii.gz", MASK, GRID._replace(origin_mm=(9e3, 0.0, 0.0)), "uint8")),
    export("a mask without its label", "a: .*two", ("a", "scan.nii.gz", "two.nii.gz"), prepare=lambda here: volume(here / "two.nii.gz", MASK * np.uint8(2), kind="uint8")),
    export("beside an image of another export", "old_0000", prepare=stray("imagesTr/old_0000.nii.gz")),
    export("beside a mask of another export", r"old\.nii", prepare=stray("labelsTr/old.nii.gz")),
    export("beside another dataset of the number", "Dataset501_Lung", prepare=lambda here: (here / "nnunet/nnUNet_raw/Dataset501_Lung").mkdir(parents=True)),
    export("beside it in other capitals", "Dataset501_stomach", prepare=lambda here: (here / "nnunet/nnUNet_results/Dataset501_stomach").mkdir(parents=True)),
]  # fmt: skip


def folder_of(*names):
    def make(room):
        for name in names:
            volume(room / "images" / name)
        return room / "images"

    return make


FOLDERS = [
    Case("names: hidden ones are none", folder_of("a_0000.nii.gz", "._a_0000.nii.gz"), case_names, check=lambda names: "same" if names == ["a"] else "", must_read=True),
    Case("names: no folder", lambda room: room / "images", case_names, check=lambda names: "legal: none, which predict refuses" if names == [] else ""),
    Case("names: no name", folder_of("_0000.nii.gz"), case_names, says="_0000"),
    Case("names: another channel", folder_of("a_0000.nii.gz", "a_0001.nii.gz"), case_names, says="a_0001"),
    Case("names: no channel", folder_of("a_0000.nii.gz", "b.nii.gz"), case_names, says=r"b\.nii"),
    Case("contents: an empty file", lambda room: (room / "images").mkdir() or (room / "images/a.nii.gz").touch() or room / "images", lambda folder: contents([folder]), check=lambda found: "same" if found == {"images/a.nii.gz": ""} else "", must_read=True),
]  # fmt: skip


@pytest.mark.parametrize(
    "case", shown([*RAW, *STAGES, *STAMPS, *MASKS, *EXPORTS, *FOLDERS]), ids=lambda case: case.name
)
def test_nnunet(case, tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    judge(case, room)


def test_a_dataset_behind_a_link_is_read(tmp_path):
    """The folder itself may lie on another disk; only what leads out of it is refused."""
    (tmp_path / "nnunet").symlink_to(whole())
    assert read_dataset(dataset_of(tmp_path).stage("raw"))["numTraining"] == 5

"""nnU-Net's commands: a stand-in package for their order, variables and failures, and the real ones on demand."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from lib.gcmlm import nnunet
from lib.gcmlm.nnunet import TITLE, export_cases
from lib.inputs.volumes import Geometry, Volume, brought_onto, image_of, read_volume, write_volume

# leaves what the real commands leave, and writes down how it was called
STAND_IN = """
    import json, os, shutil, sys, time
    from pathlib import Path

    TITLE, HOME = "Dataset501_Gastric", Path(os.environ["nnUNet_raw"]).parent
    FAILS = os.environ.get("STAND_IN") == "fails" or (
        os.environ.get("STAND_IN") == "fails later" and "plan" not in sys.argv[0]
    )

    def note():
        with open(HOME / "calls.jsonl", "a") as file:
            variables = {name: os.environ[name] for name in os.environ if name.startswith("nnUNet_")}
            guarded = any(getattr(each, "__name__", "") == "TorchvisionFinder" for each in sys.meta_path)
            file.write(json.dumps({"argv": sys.argv, "variables": variables, "guarded": guarded}) + "\\n")
        if FAILS:
            print("\\n".join(f"line {number}" for number in range(40)))
            sys.exit(3)
        if os.environ.get("STAND_IN") == "hangs":
            (HOME / "process.txt").write_text(str(os.getpid()))
            time.sleep(60)

    def after(flag):
        return sys.argv[sys.argv.index(flag) + 1]

    def plan():
        note()
        folder = Path(os.environ["nnUNet_preprocessed"]) / TITLE
        (folder / f"nnUNetPlans_{after('-c')}").mkdir(parents=True, exist_ok=True)

    def train():
        network = f"{after('-tr')}__nnUNetPlans__{sys.argv[2]}"
        folder = Path(os.environ["nnUNet_results"]) / TITLE / network / f"fold_{sys.argv[3]}"
        folder.mkdir(parents=True, exist_ok=True)
        if FAILS:
            (folder / "checkpoint_latest.pth").write_bytes(b"half")
        note()
        (folder / "checkpoint_final.pth").write_bytes(b"network")

    def predict():
        images, output = Path(after("-i")), Path(after("-o"))
        names = [path.name for path in sorted(images.glob("*_0000.nii.gz"))]
        done = [name for name in names if (output / name.replace("_0000", "")).exists()]
        if FAILS:
            shutil.copy(images / names[0], output / names[0].replace("_0000", ""))
            (output / names[1].replace("_0000", "")).write_bytes((images / names[1]).read_bytes()[:60])
        note()
        for name in names:
            shutil.copy(images / name, output / name.replace("_0000", ""))
        (HOME / "resumed.txt").write_text(" ".join(done))
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> Path:
    """A package called nnunetv2 with the console scripts, in front of any real one."""
    site = tmp_path / "site"
    about = site / "nnunetv2-2.8.1.dist-info"
    for folder in (site / "nnunetv2", about):
        folder.mkdir(parents=True)
    (site / "nnunetv2" / "__init__.py").write_text("")
    (site / "nnunetv2" / "stand_in.py").write_text(textwrap.dedent(STAND_IN))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nnunetv2\nVersion: 2.8.1\n")
    names = {"nnUNetv2_plan_and_preprocess": "plan", "nnUNetv2_train": "train", "nnUNetv2_predict": "predict"}
    lines = [f"{name} = nnunetv2.stand_in:{function}" for name, function in names.items()]
    (about / "entry_points.txt").write_text("[console_scripts]\n" + "\n".join(lines) + "\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(site)
    for name in ("STAND_IN", "nnUNet_compile", "nnUNet_n_proc_DA", "nnUNet_def_n_proc"):
        monkeypatch.delenv(name, raising=False)
    yield site
    for name in [name for name in sys.modules if name.split(".")[0] == "nnunetv2"]:
        del sys.modules[name]


GRID = Geometry((1.5, 1.0, 3.0), (-10.0, 20.0, 5.0), tuple(np.eye(3).ravel()), (12, 14, 6))


class Case(NamedTuple):
    """A row of the table of scans."""

    patient: str
    image: Path
    mask: Path | None = None
    label: int = 1
    series: str = ""


def corner() -> np.ndarray:
    """A mask that no flip or swap of axes leaves in place."""
    mask = np.zeros(GRID.size[::-1], dtype=bool)
    mask[1:3, 2:5, 7:11] = mask[1, 2, 1:7] = True
    return mask


@pytest.fixture
def cases(tmp_path) -> list[Case]:
    """Five cases with a mask and three without."""
    made = []
    for number in range(8):
        image, mask = tmp_path / f"{number}.nii.gz", tmp_path / f"{number}_mask.nii.gz"
        values = np.rint(np.random.default_rng([6, number]).normal(40, 30, GRID.size[::-1]))
        write_volume(image, Volume(values.astype(np.float32), GRID), "int16")
        write_volume(mask, Volume(corner(), GRID), "uint8")
        made.append(Case(f"p{number}", image, mask if number < 5 else None))
    return made


@pytest.fixture
def home(tmp_path, cases) -> Path:
    """Of a dataset that is exported."""
    return export_cases(tmp_path / "nnunet", cases)


def calls(home: Path) -> list[dict]:
    path = home / "calls.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def everything(home: Path, **more) -> dict[str, Path]:
    nnunet.train(home, device="cpu", **more)
    return nnunet.predict(home, device="cpu", **more)


def test_commands_are_those_of_the_documentation_in_its_order(stand_in, home, monkeypatch):
    monkeypatch.setenv("nnUNet_compile", "t")
    everything(home, fold=2, trainer="nnUNetTrainer_5epochs")
    plan, train, predict = calls(home)
    assert " ".join(plan["argv"]) == (
        "nnUNetv2_plan_and_preprocess -d 501 -c 3d_fullres --verify_dataset_integrity --clean -np 1 -npfp 1"
    )
    # dataset, configuration, fold; the trainer behind -tr (a v1 habit puts it in the fold's place)
    assert " ".join(train["argv"]) == (
        "nnUNetv2_train 501 3d_fullres 2 -tr nnUNetTrainer_5epochs -p nnUNetPlans -device cpu"
    )
    images, part = home / "nnUNet_raw" / TITLE / "imagesTs", home / ".part-masks_nnUNetTrainer_5epochs_2"
    assert " ".join(predict["argv"]) == (
        f"nnUNetv2_predict -i {images} -o {part} -d 501 -c 3d_fullres -f 2 -tr nnUNetTrainer_5epochs -p nnUNetPlans "
        "-device cpu -npp 0 -nps 0 --continue_prediction --disable_progress_bar"
    )
    plan, train, predict = [call["variables"] for call in calls(home)]
    for each in (plan, train, predict):
        for stage in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            assert Path(each[stage]) == home / stage
    # a run on the CPU stays in one process
    assert (train["nnUNet_compile"], train["nnUNet_n_proc_DA"], train["nnUNet_def_n_proc"]) == ("f", "0", "1")
    assert predict["nnUNet_compile"] == "f"
    assert plan["nnUNet_n_proc_DA"] == "1"  # planning sets as many threads, and none is an error
    assert all(call["guarded"] for call in calls(home)), "torchvision would stop nnU-Net"


def test_what_is_whole_is_not_run_again_even_without_nnunet(stand_in, home, cases, monkeypatch):
    masks = everything(home)
    assert list(masks) == ["p5", "p6", "p7"]
    assert all(path.is_relative_to(home) for path in masks.values())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert export_cases(home.parent, cases) == home
    assert everything(home) == masks
    assert len(calls(home)) == 3
    with pytest.raises(ModuleNotFoundError, match=r"pip install -c requirements\.lock 'nnunetv2"):
        nnunet.train(home, fold=1, device="cpu")


def test_other_cases_or_masks_meet_no_network_of_these(home, cases):
    """nnU-Net would go on using splits and networks of the old cases."""
    homes = {home}
    for first in (cases[0]._replace(patient="q0"), cases[0]._replace(mask=None)):
        homes.add(export_cases(home.parent, [first, *cases[1:]]))
    assert len(homes) == 3
    assert not list((home.parent / ".part").glob("*"))


def test_a_failure_says_how_the_log_ends_and_a_killed_training_goes_on(stand_in, home, monkeypatch):
    monkeypatch.setenv("STAND_IN", "fails")
    with pytest.raises(RuntimeError, match="nnUNetv2_plan_and_preprocess failed with exit code 3") as failed:
        nnunet.train(home, device="cpu")
    assert str(home / "logs" / "plan.log") in str(failed.value)
    assert str(failed.value).endswith("line 38\nline 39")
    assert "line 20" not in str(failed.value)
    monkeypatch.setenv("STAND_IN", "fails later")
    with pytest.raises(RuntimeError, match="nnUNetv2_train failed"):
        nnunet.train(home, device="cpu")
    monkeypatch.delenv("STAND_IN")
    nnunet.train(home, device="cpu")
    first, second = [call["argv"] for call in calls(home)[2:]]
    assert second == [*first, "--c"]


def test_a_stopped_notebook_leaves_no_process_behind(stand_in, home, monkeypatch):
    note, wait, asked = home / "process.txt", subprocess.Popen.wait, []

    def interrupted(process, *given, **named):
        asked.append(process)
        while len(asked) == 1 and not note.exists():
            time.sleep(0.02)
        if len(asked) == 1:
            raise KeyboardInterrupt
        return wait(process, *given, **named)

    monkeypatch.setenv("STAND_IN", "hangs")
    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nnunet.train(home, device="cpu")
    assert asked[0].returncode == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(asked[0].pid, 0)


def test_a_killed_prediction_goes_on_without_the_damaged_mask(stand_in, home, monkeypatch):
    nnunet.train(home, device="cpu")
    monkeypatch.setenv("STAND_IN", "fails")
    with pytest.raises(RuntimeError, match="nnUNetv2_predict failed"):
        nnunet.predict(home, device="cpu")
    assert not list(home.glob("masks*"))
    monkeypatch.delenv("STAND_IN")
    masks = nnunet.predict(home, device="cpu")
    assert (home / "resumed.txt").read_text(encoding="utf-8") == "p5_0000.nii.gz"
    images = home / "nnUNet_raw" / TITLE / "imagesTs"
    for case, path in masks.items():
        assert path.read_bytes() == (images / f"{case}_0000.nii.gz").read_bytes()


def test_scans_without_a_mask_get_one_and_the_other_hospital_teaches_nothing(stand_in, cases, tmp_path):
    from types import SimpleNamespace

    from lib.gcmlm.params import Segmentation

    params = SimpleNamespace(oblique="keep", device="cpu", segmentation=Segmentation())
    rows = [(case.patient, str(case.image), str(case.mask or ""), 1, "", "") for case in cases]
    scans = pd.DataFrame(rows, columns=["patient", "image", "mask", "label", "series", "problem"])
    filled = nnunet.fill_masks(SimpleNamespace(folder=tmp_path, params=params), scans, ["p0", "p7"])
    assert filled["mask"].tolist()[:5] == scans["mask"].tolist()[:5]
    assert [Path(mask).name for mask in filled["mask"][5:]] == ["p5.nii.gz", "p6.nii.gz", "p7.nii.gz"]
    taught = (tmp_path / "nnunet").glob("*/nnUNet_raw/*/labelsTr/*")
    assert sorted(path.name for path in taught) == [f"p{n}.nii.gz" for n in (1, 2, 3, 4)]


SMALL_TRAINER = """
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class nnUNetTrainerSmall(nnUNetTrainer):
        def __init__(self, plans, configuration, fold, dataset_json, device):
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 10, 2
"""


@pytest.mark.skipif(
    importlib.util.find_spec("nnunetv2") is None or not os.environ.get("CROSSBOOK_NNUNET"),
    reason="the real nnU-Net takes minutes: install the extra 'segmentation' and set CROSSBOOK_NNUNET=1",
)
def test_the_real_nnunet_from_scans_to_a_mask(tmp_path, monkeypatch):
    """Plumbing only: how good a network of ten steps is says nothing. nnU-Net 2.8 looks for trainers in a folder."""
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "small.py").write_text(textwrap.dedent(SMALL_TRAINER))
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "trainers"))
    grid = GRID._replace(size=(48, 48, 24))
    places, cases = np.moveaxis(np.indices(grid.size[::-1]), 0, -1) * (3.0, 1.0, 1.5), []
    for number in range(6):
        rng = np.random.default_rng([501, number])
        centre = np.array(grid.size[::-1]) * (3.0, 1.0, 1.5) / 2 + rng.uniform(-5, 5, 3)
        mask = ((places - centre) ** 2).sum(-1) < rng.uniform(8, 12) ** 2
        values = np.where(mask, 60.0, 0.0) + rng.normal(0, 20, mask.shape)
        image, label = tmp_path / f"p{number}.nii.gz", tmp_path / f"p{number}_mask.nii.gz"
        write_volume(image, Volume(values.astype(np.float32), grid), "int16")
        write_volume(label, Volume(mask, grid), "uint8")
        cases.append(Case(f"p{number}", image, label if number < 5 else None))
    masks = everything(export_cases(tmp_path / "nnunet", cases), trainer="nnUNetTrainerSmall")
    assert list(masks) == ["p5"]
    assert read_volume(masks["p5"]).values.shape == read_volume(cases[5].image).values.shape


# cases in nnU-Net's folders


def test_layout_and_dataset_json_are_what_nnunet_asks_for(home, cases):
    raw = home / "nnUNet_raw" / "Dataset501_Gastric"
    assert json.loads((raw / "dataset.json").read_text(encoding="utf-8")) == {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "tumour": 1},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    assert sorted(path.name for path in raw.glob("imagesTs/*")) == [f"p{n}_0000.nii.gz" for n in (5, 6, 7)]
    for case in cases[:5]:
        image = nibabel.load(raw / "imagesTr" / f"{case.patient}_0000.nii.gz")
        label = nibabel.load(raw / "labelsTr" / f"{case.patient}.nii.gz")
        np.testing.assert_array_equal(image.affine, label.affine)
        assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
        np.testing.assert_array_equal(read_volume(case.image).values, image.get_fdata().T)
        np.testing.assert_array_equal(label.get_fdata().T, corner())


def test_fractions_of_a_unit_are_kept_and_the_wanted_label_becomes_one(cases, tmp_path):
    values = read_volume(cases[0].image).values * np.float32(1.3)
    write_volume(tmp_path / "0.nii.gz", Volume(values, GRID))
    labels = np.where(corner(), 5, 2).astype(np.float32)
    write_volume(tmp_path / "0_mask.nii.gz", Volume(labels, GRID), "uint8")
    home = export_cases(tmp_path / "nnunet", [cases[0]._replace(label=5), *cases[1:]])
    raw = home / "nnUNet_raw" / TITLE
    np.testing.assert_array_equal(read_volume(raw / "imagesTr" / "p0_0000.nii.gz").values, values)
    np.testing.assert_array_equal(read_volume(raw / "labelsTr" / "p0.nii.gz").values, corner())


@pytest.mark.parametrize("turn", ["RAS", "PIR"])
def test_a_file_stored_with_turned_axes_gives_the_same_export(home, cases, tmp_path, turn):
    for name in ("0", "0_mask", "1_mask"):  # one turned, the mask of another turned alone
        path = str(tmp_path / f"{name}.nii.gz")
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(path), turn), path)
    assert export_cases(home.parent, cases) == home, "it is named by its content"


def test_a_mask_of_another_grid_is_brought_over_by_its_place(cases, tmp_path):
    wide = Geometry(GRID.spacing_mm, (-14.5, 18.0, 2.0), GRID.direction, (20, 20, 10))
    there = brought_onto(image_of(corner(), GRID), wide, 0, sitk.sitkNearestNeighbor)
    write_volume(tmp_path / "2_mask.nii.gz", Volume(sitk.GetArrayFromImage(there) > 0, wide), "uint8")
    raw = export_cases(tmp_path / "nnunet", cases) / "nnUNet_raw" / TITLE
    label = read_volume(raw / "labelsTr" / "p2.nii.gz")
    np.testing.assert_array_equal(label.values, corner())


def test_cases_that_cannot_be_used_are_named_together(cases, tmp_path):
    write_volume(tmp_path / "1_mask.nii.gz", Volume(corner() & False, GRID), "uint8")
    gone, odd = cases[3]._replace(image=tmp_path / "gone.nii.gz"), cases[4]._replace(patient="tumour_seg")
    bad = [cases[0]._replace(label=3), *cases[1:3], gone, odd, *cases[5:]]
    with pytest.raises(ValueError, match="4 of 8 scans cannot be segmented") as refused:
        export_cases(tmp_path / "nnunet", bad)
    for word in ("p0", "p1", "empty", "p3", "gone.nii.gz", "tumour_seg: nnU-Net would misread this name"):
        assert word in str(refused.value)

"""nnU-Net's commands: a stand-in package for their order, variables and failures, and the real ones on demand."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from lib.files import sha256_of
from lib.gcmlm import nnunet, nnunet_command
from lib.gcmlm.nnunet import Case, Dataset, cases_in, export_cases
from lib.inputs.volumes import Geometry, Volume, brought_onto, image_of, read_volume, write_volume

ROOT = Path(__file__).resolve().parents[2]
FULLRES = "3d_fullres"

# leaves what the real commands leave, and writes down how it was called
STAND_IN = """
    import json, os, shutil, sys, time
    from pathlib import Path

    TITLE = "Dataset501_Phantom"
    VARIABLES = [name for name in os.environ if name.startswith("nnUNet_")]

    def note():
        with open(Path(os.environ["nnUNet_raw"]).parent / "calls.jsonl", "a") as file:
            variables = {name: os.environ[name] for name in VARIABLES}
            guarded = any(getattr(each, "__name__", "") == "TorchvisionFinder" for each in sys.meta_path)
            file.write(json.dumps({"argv": sys.argv, "variables": variables, "guarded": guarded}) + "\\n")
        if os.environ.get("STAND_IN") == "fails":
            print("\\n".join(f"line {number}" for number in range(40)))
            sys.exit(3)
        if os.environ.get("STAND_IN") == "hangs":
            (Path(os.environ["nnUNet_raw"]).parent / "process.txt").write_text(str(os.getpid()))
            time.sleep(60)

    def after(flag):
        return sys.argv[sys.argv.index(flag) + 1]

    def plan():
        note()
        folder = Path(os.environ["nnUNet_preprocessed"]) / TITLE
        (folder / f"nnUNetPlans_{after('-c')}").mkdir(parents=True, exist_ok=True)
        (folder / "nnUNetPlans.json").write_text("{}")

    def train():
        trainer = after("-tr")
        folder = Path(os.environ["nnUNet_results"]) / TITLE / f"{trainer}__nnUNetPlans__{sys.argv[2]}"
        folder = folder / f"fold_{sys.argv[3]}"
        folder.mkdir(parents=True, exist_ok=True)
        if os.environ.get("STAND_IN") == "fails":
            (folder / "checkpoint_latest.pth").write_bytes(b"half")
        note()
        (folder / "checkpoint_final.pth").write_bytes(os.environ.get("STAND_IN", "network").encode())

    def predict():
        images, output = Path(after("-i")), Path(after("-o"))
        output.mkdir(parents=True, exist_ok=True)
        (output / "plans.json").write_text("{}")
        names = [path.name for path in sorted(images.glob("*_0000.nii.gz"))]
        done = [name for name in names if (output / name.replace("_0000", "")).exists()]
        print("done before:", done)
        if os.environ.get("STAND_IN") == "fails":
            shutil.copy(images / names[0], output / names[0].replace("_0000", ""))
            (output / names[1].replace("_0000", "")).write_bytes((images / names[1]).read_bytes()[:60])
        note()
        (output / "done.txt").write_text(" ".join(done))
        for name in names[int(os.environ.get("STAND_IN") == "leaves out"):]:
            shutil.copy(images / name, output / name.replace("_0000", ""))
        (output.parent / "resumed.txt").write_text(" ".join(done))
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> Path:
    """A package called nnunetv2 with the console scripts, in front of any real one."""
    site = tmp_path / "site"
    about = site / "nnunetv2-2.8.1.dist-info"
    trainers = site / "nnunetv2" / "training" / "nnUNetTrainer"
    trainers.mkdir(parents=True)
    about.mkdir()
    for folder in (trainers, trainers.parent, trainers.parents[1]):
        (folder / "__init__.py").write_text("")
    (site / "nnunetv2" / "stand_in.py").write_text(textwrap.dedent(STAND_IN))
    (site / "nnunetv2" / "paths.py").write_text("nnUNet_extTrainer = None\n")
    (trainers / "nnUNetTrainer.py").write_text(
        "class nnUNetTrainer:\n"
        "    def __init__(self, plans, configuration, fold, dataset_json, device):\n"
        "        self.given = (plans, configuration, fold, dataset_json, device)\n"
        "        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1000, 250, 50\n"
    )
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nnunetv2\nVersion: 2.8.1\n")
    names = {"nnUNetv2_plan_and_preprocess": "plan", "nnUNetv2_train": "train", "nnUNetv2_predict": "predict"}
    lines = [f"{name} = nnunetv2.stand_in:{function}" for name, function in names.items()]
    (about / "entry_points.txt").write_text("[console_scripts]\n" + "\n".join(lines) + "\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(site)
    monkeypatch.delenv("STAND_IN", raising=False)
    for name in ("nnUNet_compile", "nnUNet_n_proc_DA", "nnUNet_def_n_proc"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "nnunetv2"]:
        monkeypatch.delitem(sys.modules, name)
    yield site
    for name in [name for name in sys.modules if name.split(".")[0] == "nnunetv2"]:
        del sys.modules[name]


def phantom(folder: Path, size: tuple[int, int, int]) -> tuple[Dataset, list[Case]]:
    """Six volumes of a bright ellipsoid in noise, the last without a mask."""
    grid = Geometry((1.5, 1.5, 3.0), (-30.0, -40.0, 10.0), tuple(np.eye(3).ravel()), size)
    places = np.moveaxis(np.indices(size[::-1]), 0, -1) * (3.0, 1.5, 1.5)
    cases = []
    for number in range(6):
        rng = np.random.default_rng([501, number])
        centre = np.array(size[::-1]) * (3.0, 1.5, 1.5) / 2 + rng.uniform(-5, 5, 3)
        mask = ((places - centre) ** 2).sum(-1) < rng.uniform(8, 12) ** 2
        values = np.where(mask, 60.0, 0.0) + rng.normal(0, 20, mask.shape)
        image, label = folder / f"p{number}.nii.gz", folder / f"p{number}_mask.nii.gz"
        write_volume(image, Volume(values.astype(np.float32), grid), "int16")
        write_volume(label, Volume(mask, grid), "uint8")
        cases.append(Case(f"p{number}", image, label if number < 5 else None))
    return Dataset(folder / "nnunet", 501, "Phantom"), cases


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    export_cases(*phantom(folder, (16, 16, 8)))
    return folder / "nnunet"


@pytest.fixture
def dataset(tmp_path, exported) -> Dataset:
    shutil.copytree(exported, tmp_path / "nnunet")
    return Dataset(tmp_path / "nnunet", 501, "Phantom")


def calls(dataset: Dataset) -> list[dict]:
    path = dataset.folder / "calls.jsonl"
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


def test_commands_are_those_of_the_documentation_in_its_order(stand_in, dataset, tmp_path):
    nnunet.plan(dataset)
    nnunet.train(dataset, fold=2, trainer="nnUNetTrainer_5epochs", device="cpu")
    nnunet.predict(dataset, tmp_path / "masks", fold=2, trainer="nnUNetTrainer_5epochs", device="cpu")
    plan, train, predict = calls(dataset)
    assert " ".join(plan["argv"]) == (
        "nnUNetv2_plan_and_preprocess -d 501 -c 3d_fullres --verify_dataset_integrity --clean -np 1 -npfp 1"
    )
    # dataset, configuration, fold; the trainer behind -tr (a v1 habit puts it in the fold's place)
    assert " ".join(train["argv"]) == (
        "nnUNetv2_train 501 3d_fullres 2 -tr nnUNetTrainer_5epochs -p nnUNetPlans -device cpu"
    )
    given = dict(zip(predict["argv"][1:-2:2], predict["argv"][2:-2:2], strict=True))
    assert predict["argv"][0] == "nnUNetv2_predict"
    assert given.pop("-i") == str(dataset.stage("raw") / "imagesTs")
    assert given.pop("-o") == str(tmp_path / ".part-masks")
    assert given == {
        **{"-d": "501", "-c": FULLRES, "-f": "2", "-tr": "nnUNetTrainer_5epochs", "-p": "nnUNetPlans"},
        **{"-device": "cpu", "-npp": "0", "-nps": "0"},
    }


def test_variables_name_the_folders_and_keep_a_cpu_run_in_one_process(
    stand_in, dataset, tmp_path, monkeypatch
):
    monkeypatch.setenv("nnUNet_compile", "t")
    nnunet.plan(dataset)
    nnunet.train(dataset, device="cpu")
    nnunet.predict(dataset, tmp_path / "masks", device="cpu")
    plan, train, predict = [call["variables"] for call in calls(dataset)]
    for each in (plan, train, predict):
        for stage in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            assert Path(each[stage]) == dataset.folder / stage
        assert Path(each["nnUNet_extTrainer"]) == ROOT / "lib" / "gcmlm" / "nnunet_trainers"
    assert (train["nnUNet_compile"], train["nnUNet_n_proc_DA"], train["nnUNet_def_n_proc"]) == ("f", "0", "1")
    assert predict["nnUNet_compile"] == "f"
    assert plan["nnUNet_n_proc_DA"] == "1"  # planning sets as many threads, and none is an error
    assert all(call["guarded"] for call in calls(dataset)), "torchvision would stop nnU-Net"


def test_what_is_whole_is_not_run_again_even_without_nnunet(stand_in, dataset, tmp_path, monkeypatch):
    def everything():
        nnunet.plan(dataset)
        nnunet.train(dataset, device="cpu")
        return nnunet.predict(dataset, tmp_path / "masks", device="cpu")

    masks = everything()
    assert list(masks) == ["p5"]
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["crossbook.json", "p5.nii.gz"]
    assert not (tmp_path / ".part-masks").exists()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert everything() == masks
    assert len(calls(dataset)) == 3
    with pytest.raises(ModuleNotFoundError, match="segmentation"):
        nnunet.train(dataset, fold=1, device="cpu")


def test_other_cases_are_planned_again_and_an_old_network_is_not_mixed_in(stand_in, dataset, tmp_path):
    nnunet.plan(dataset)
    folder = nnunet.train(dataset, device="cpu")
    splits = dataset.stage("preprocessed") / "splits_final.json"
    splits.write_text("of the old cases")
    image = dataset.stage("raw") / "imagesTr" / "p0_0000.nii.gz"
    volume = read_volume(image)
    write_volume(image, volume._replace(values=volume.values + 1), "int16")
    with pytest.raises(ValueError, match="its cases changed: plan it first"):
        nnunet.train(dataset, device="cpu")
    nnunet.plan(dataset)
    assert not splits.exists()
    with pytest.raises(ValueError, match="trained on other data"):
        nnunet.train(dataset, device="cpu")
    shutil.rmtree(folder)
    nnunet.train(dataset, device="cpu")
    assert [call["argv"][0] for call in calls(dataset)] == [
        *("nnUNetv2_plan_and_preprocess", "nnUNetv2_train") * 2
    ]


def test_a_failure_says_how_the_log_ends_and_where_it_is(stand_in, dataset, monkeypatch):
    monkeypatch.setenv("STAND_IN", "fails")
    with pytest.raises(RuntimeError, match="nnUNetv2_plan_and_preprocess failed with exit code 3") as failed:
        nnunet.plan(dataset)
    log = dataset.folder / "logs" / "Dataset501_Phantom_plan.log"
    assert str(log) in str(failed.value)
    assert str(failed.value).endswith("line 38\nline 39")
    assert "line 20" not in str(failed.value)
    assert "line 0\n" in log.read_text(encoding="utf-8")
    monkeypatch.delenv("STAND_IN")
    nnunet.plan(dataset)
    assert len(calls(dataset)) == 2, "a failed plan must be run again"


def test_a_stopped_notebook_leaves_no_process_behind(stand_in, dataset, monkeypatch):
    note, wait, asked = dataset.folder / "process.txt", subprocess.Popen.wait, []

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
        nnunet.plan(dataset)
    assert asked[0].returncode == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(asked[0].pid, 0)


def test_a_killed_training_goes_on_from_its_checkpoint(stand_in, dataset, monkeypatch):
    nnunet.plan(dataset)
    monkeypatch.setenv("STAND_IN", "fails")
    with pytest.raises(RuntimeError, match="nnUNetv2_train failed"):
        nnunet.train(dataset, device="cpu")
    monkeypatch.delenv("STAND_IN")
    nnunet.train(dataset, device="cpu")
    first, second = [call["argv"] for call in calls(dataset)[1:]]
    assert "--c" not in first
    assert second == [*first, "--c"]


@pytest.fixture
def more(dataset) -> Dataset:
    """Two further cases to predict."""
    raw = dataset.stage("raw")
    for name in ("p6", "p7"):
        shutil.copy(raw / "imagesTs" / "p5_0000.nii.gz", raw / "imagesTs" / f"{name}_0000.nii.gz")
    nnunet.plan(dataset)
    nnunet.train(dataset, device="cpu")
    return dataset


def test_a_killed_prediction_goes_on_without_the_damaged_mask(stand_in, more, tmp_path, monkeypatch):
    images, output = more.stage("raw") / "imagesTs", tmp_path / "masks"
    monkeypatch.setenv("STAND_IN", "fails")
    with pytest.raises(RuntimeError, match="nnUNetv2_predict failed"):
        nnunet.predict(more, output, device="cpu")
    assert not output.exists()
    monkeypatch.delenv("STAND_IN")
    masks = nnunet.predict(more, output, device="cpu")
    assert (tmp_path / "resumed.txt").read_text(encoding="utf-8") == "p5_0000.nii.gz"
    for case, path in masks.items():
        assert path.read_bytes() == (images / f"{case}_0000.nii.gz").read_bytes()


def test_cases_left_out_are_named(stand_in, more, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN", "leaves out")
    with pytest.raises(RuntimeError, match=r"left out 1 of 3 cases \(p5\)"):
        nnunet.predict(more, tmp_path / "masks", device="cpu")
    assert not (tmp_path / "masks").exists()


def test_masks_from_elsewhere_are_not_replaced(stand_in, dataset, tmp_path):
    nnunet.plan(dataset)
    nnunet.train(dataset, device="cpu")
    drawn = tmp_path / "masks" / "p5.nii.gz"
    drawn.parent.mkdir()
    drawn.write_bytes(b"drawn by hand")
    with pytest.raises(ValueError, match="another origin"):
        nnunet.predict(dataset, tmp_path / "masks", device="cpu")
    assert drawn.read_bytes() == b"drawn by hand"


def test_stages_are_asked_for_in_order(stand_in, dataset, tmp_path):
    with pytest.raises(ValueError, match="plan it first"):
        nnunet.train(dataset, device="cpu")
    with pytest.raises(FileNotFoundError, match="train fold 0 with nnUNetTrainer first"):
        nnunet.predict(dataset, tmp_path / "masks", device="cpu")
    (dataset.stage("raw") / "dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match="export the cases again"):
        nnunet.plan(dataset)
    assert calls(dataset) == []


def test_without_nnunet_one_sentence_says_what_to_run(dataset, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -c requirements\.lock 'nnunetv2"):
        nnunet.plan(dataset)


def test_the_small_trainer_is_small_and_takes_what_nnunet_passes(stand_in, monkeypatch):
    spec = importlib.util.spec_from_file_location("smoke", nnunet.TRAINERS / "crossbook_smoke.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = getattr(module, nnunet.SMOKE)("plans", FULLRES, 0, "json", "cpu")
    assert made.given == ("plans", FULLRES, 0, "json", "cpu")
    assert (made.num_epochs, made.num_iterations_per_epoch, made.num_val_iterations_per_epoch) == (1, 10, 2)


@pytest.mark.parametrize("version", ["2.7", "2.8"])
def test_nnunet_before_2_8_is_handed_our_trainer(stand_in, monkeypatch, version):
    if version == "2.7":
        (stand_in / "nnunetv2" / "paths.py").write_text("nnUNet_raw = None\n")
    monkeypatch.delitem(sys.modules, "lib.gcmlm.nnunet_trainers.crossbook_smoke", raising=False)
    nnunet_command.offer_trainers()
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as module

    # 2.8 and later import the folder named by nnUNet_extTrainer themselves
    assert hasattr(module, nnunet.SMOKE) == (version == "2.7")
    monkeypatch.delitem(sys.modules, "lib.gcmlm.nnunet_trainers.crossbook_smoke", raising=False)


@pytest.mark.skipif(
    importlib.util.find_spec("nnunetv2") is None or not os.environ.get("CROSSBOOK_NNUNET"),
    reason="the real nnU-Net takes minutes: install the extra 'segmentation' and set CROSSBOOK_NNUNET=1",
)
def test_the_real_nnunet_from_scans_to_a_mask(tmp_path):
    """Plumbing only: how good a network of ten steps is says nothing, so no Dice is looked at."""
    dataset, cases = phantom(tmp_path, (48, 48, 24))
    export_cases(dataset, cases)
    nnunet.plan(dataset)
    folder = nnunet.train(dataset, trainer=nnunet.SMOKE, device="cpu")
    log = next(folder.glob("training_log_*.txt")).read_text(encoding="utf-8")
    assert "Epoch 0" in log
    assert "Epoch 1" not in log
    masks = nnunet.predict(dataset, tmp_path / "masks", trainer=nnunet.SMOKE, device="cpu")
    assert list(masks) == ["p5"]
    assert read_volume(masks["p5"]).values.shape == read_volume(cases[5].image).values.shape


# cases in nnU-Net's folders

GRID = Geometry((1.5, 1.0, 3.0), (-10.0, 20.0, 5.0), tuple(np.eye(3).ravel()), (12, 14, 6))


def corner() -> np.ndarray:
    """A mask that no flip or swap of axes leaves in place."""
    mask = np.zeros(GRID.size[::-1], dtype=bool)
    mask[1:3, 2:5, 7:11] = mask[1, 2, 1:7] = True
    return mask


@pytest.fixture
def six(tmp_path) -> list[Case]:
    """Five cases with a mask and one without."""
    cases = []
    for number in range(6):
        image, mask = tmp_path / f"{number}.nii.gz", tmp_path / f"{number}_mask.nii.gz"
        values = np.rint(np.random.default_rng([6, number]).normal(40, 30, GRID.size[::-1]))
        write_volume(image, Volume(values.astype(np.float32), GRID), "int16")
        write_volume(mask, Volume(corner(), GRID), "uint8")
        cases.append(Case(f"patient_{number:04d}", image, mask if number < 5 else None))
    return cases


@pytest.fixture
def fresh(tmp_path) -> Dataset:
    return Dataset(tmp_path / "nnunet", 501, "Stomach")


def test_layout_and_dataset_json_are_what_nnunet_asks_for(six, fresh):
    export_cases(fresh, six)
    raw = fresh.folder / "nnUNet_raw" / "Dataset501_Stomach"
    assert json.loads((raw / "dataset.json").read_text(encoding="utf-8")) == {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "tumour": 1},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    assert cases_in(raw / "imagesTr") == [f"patient_{n:04d}" for n in range(5)]
    assert cases_in(raw / "imagesTs") == ["patient_0005"]
    for case in six[:5]:
        image = nibabel.load(raw / "imagesTr" / f"{case.name}_0000.nii.gz")
        label = nibabel.load(raw / "labelsTr" / f"{case.name}.nii.gz")
        np.testing.assert_array_equal(image.affine, label.affine)
        assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
        np.testing.assert_array_equal(read_volume(case.image).values, image.get_fdata().T)
        np.testing.assert_array_equal(label.get_fdata().T, corner())


def test_fractions_of_a_unit_are_kept_and_the_wanted_label_becomes_one(six, fresh, tmp_path):
    values = read_volume(six[0].image).values * np.float32(1.3)
    write_volume(tmp_path / "0.nii.gz", Volume(values, GRID))
    labels = np.where(corner(), 5, 2).astype(np.float32)
    write_volume(tmp_path / "0_mask.nii.gz", Volume(labels, GRID), "uint8")
    export_cases(fresh, [six[0]._replace(label=5), *six[1:]])
    raw = fresh.stage("raw")
    np.testing.assert_array_equal(read_volume(raw / "imagesTr" / "patient_0000_0000.nii.gz").values, values)
    np.testing.assert_array_equal(read_volume(raw / "labelsTr" / "patient_0000.nii.gz").values, corner())


@pytest.mark.parametrize("turn", ["RAS", "PIR"])
def test_a_file_stored_with_turned_axes_gives_the_same_export(six, fresh, tmp_path, turn):
    export_cases(fresh, six)
    before = {path: sha256_of(path) for path in fresh.stage("raw").rglob("*.nii.gz")}
    for name in ("0", "0_mask", "1_mask"):  # one turned, the mask of another turned alone
        path = str(tmp_path / f"{name}.nii.gz")
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(path), turn), path)
    export_cases(fresh, six)
    assert {path: sha256_of(path) for path in before} == before


def test_a_mask_of_another_grid_is_brought_over_by_its_place(six, fresh, tmp_path):
    wide = Geometry(GRID.spacing_mm, (-14.5, 18.0, 2.0), GRID.direction, (20, 20, 10))
    there = brought_onto(image_of(corner(), GRID), wide, 0, sitk.sitkNearestNeighbor)
    write_volume(tmp_path / "2_mask.nii.gz", Volume(sitk.GetArrayFromImage(there) > 0, wide), "uint8")
    export_cases(fresh, six)
    label = read_volume(fresh.stage("raw") / "labelsTr" / "patient_0002.nii.gz")
    np.testing.assert_array_equal(label.values, corner())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a/b", "misread"),
        ("two words", "misread"),
        ("tumour_seg", "misread"),
        ("p1.nii.gz", "misread"),
        ("PATIENT_0001", "two cases are called 'patient_0001' and 'PATIENT_0001'"),
    ],
)
def test_names_nnunet_would_misread_or_mix_are_refused(six, fresh, name, said):
    with pytest.raises(ValueError, match=said):
        export_cases(fresh, [six[0], six[1], six[2]._replace(name=name), *six[3:]])
    assert not fresh.stage("raw").exists()


def test_cases_that_cannot_be_used_are_named_together_and_the_dataset_is_not_whole(six, fresh, tmp_path):
    with pytest.raises(ValueError, match="has 4 cases with a mask, nnU-Net's 5 folds need 5"):
        export_cases(fresh, six[1:])
    export_cases(fresh, six)
    write_volume(tmp_path / "1_mask.nii.gz", Volume(corner() & False, GRID), "uint8")
    bad = [six[0]._replace(label=3), *six[1:3], six[3]._replace(image=tmp_path / "gone.nii.gz"), *six[4:]]
    with pytest.raises(ValueError, match="3 of 6 cases cannot be exported") as refused:
        export_cases(fresh, bad)
    for word in ("patient_0000", "patient_0001", "empty", "patient_0003", "gone.nii.gz"):
        assert word in str(refused.value)
    assert not (fresh.stage("raw") / "dataset.json").exists()


def test_cases_of_another_export_are_not_mixed_in(six, fresh):
    export_cases(fresh, six)
    with pytest.raises(ValueError, match=r"patient_0000\.nii\.gz.* of another export"):
        export_cases(fresh, [six[0]._replace(name="other"), *six[1:]])
    with pytest.raises(ValueError, match="Dataset501_Stomach has the number of Dataset501_Liver"):
        export_cases(fresh._replace(name="Liver"), six)


@pytest.mark.parametrize("stray", ["imagesTr/patient_0002_0001.nii.gz", "imagesTr/patient_0002_0000.nii"])
def test_an_image_nnunet_would_take_for_another_is_refused(stand_in, six, fresh, stray):
    export_cases(fresh, six)
    raw = fresh.stage("raw")
    shutil.copy(raw / "imagesTr" / "patient_0002_0000.nii.gz", raw / stray)
    with pytest.raises(ValueError, match="would misread it"):
        nnunet.plan(fresh)
    (raw / stray).unlink()
    (raw / "labelsTr" / "patient_0002.nii.gz").unlink()
    with pytest.raises(ValueError, match="are of different cases: export the cases again"):
        nnunet.plan(fresh)

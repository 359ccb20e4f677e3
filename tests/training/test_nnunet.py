"""nnU-Net's commands: a stand-in package for their order, variables and failures, and the real ones on demand."""

import ast
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

import numpy as np
import pytest

from lib.gcmlm import nnunet, nnunet_command
from lib.gcmlm import nnunet as nnunet_process
from lib.gcmlm.nnunet_files import Case, Dataset, export_cases, predicted_mask
from lib.inputs.volumes import Geometry, Volume, read_volume, write_volume

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
    assert train["argv"] == (
        [
            "nnUNetv2_train",
            "501",
            "3d_fullres",
            "2",
            "-tr",
            "nnUNetTrainer_5epochs",
            "-p",
            "nnUNetPlans",
            "-device",
            "cpu",
        ]
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
        assert Path(each["nnUNet_extTrainer"]) == ROOT / "lib" / "training" / "nnunet_trainers"
    assert (train["nnUNet_compile"], train["nnUNet_n_proc_DA"], train["nnUNet_def_n_proc"]) == ("f", "0", "1")
    assert predict["nnUNet_compile"] == "f"
    assert plan["nnUNet_n_proc_DA"] == "1"  # planning sets as many threads, and none is an error
    assert all(call["guarded"] for call in calls(dataset)), "torchvision would stop nnU-Net"


def test_a_gpu_keeps_the_users_own_choice_of_compiling():
    assert nnunet_process.compiling("cuda") == {}
    assert nnunet_process.compiling("cpu") == {"nnUNet_compile": "f"}


def test_workers_reach_every_command(stand_in, dataset, tmp_path):
    nnunet.plan(dataset, workers=3)
    nnunet.train(dataset, device="cpu", workers=3)
    nnunet.predict(dataset, tmp_path / "masks", device="cpu", workers=3)
    plan, train, predict = calls(dataset)
    assert plan["argv"][-4:] == ["-np", "3", "-npfp", "3"]
    assert (train["variables"]["nnUNet_n_proc_DA"], train["variables"]["nnUNet_def_n_proc"]) == ("3", "3")
    assert predict["argv"][predict["argv"].index("-npp") :][:4] == ["-npp", "3", "-nps", "3"]


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


def test_a_changed_network_or_image_is_predicted_again(stand_in, dataset, tmp_path):
    nnunet.plan(dataset)
    folder = nnunet.train(dataset, device="cpu")
    nnunet.predict(dataset, tmp_path / "masks", device="cpu")
    (folder / "checkpoint_final.pth").write_bytes(b"another")
    nnunet.predict(dataset, tmp_path / "masks", device="cpu")
    every = nnunet.predict(dataset, tmp_path / "all", dataset.stage("raw") / "imagesTr", device="cpu")
    assert list(every) == [f"p{number}" for number in range(5)]
    assert len(calls(dataset)) == 5


def test_a_failure_says_how_the_log_ends_and_where_it_is(stand_in, dataset, monkeypatch):
    monkeypatch.setenv("STAND_IN", "fails")
    with pytest.raises(RuntimeError, match="nnUNetv2_plan_and_preprocess failed with exit code 3") as failed:
        nnunet.plan(dataset)
    log = dataset.folder / "logs" / "Dataset501_Phantom_plan_3d_fullres.log"
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


def test_a_killed_prediction_goes_on_without_the_damaged_mask(stand_in, dataset, tmp_path, monkeypatch):
    nnunet.plan(dataset)
    nnunet.train(dataset, device="cpu")
    images, output = dataset.stage("raw") / "imagesTr", tmp_path / "masks"
    monkeypatch.setenv("STAND_IN", "fails")
    with pytest.raises(RuntimeError, match="nnUNetv2_predict failed"):
        nnunet.predict(dataset, output, images, device="cpu")
    assert not output.exists()
    monkeypatch.delenv("STAND_IN")
    masks = nnunet.predict(dataset, output, images, device="cpu")
    assert (tmp_path / "resumed.txt").read_text(encoding="utf-8") == "p0_0000.nii.gz"
    for case, path in masks.items():
        assert path.read_bytes() == (images / f"{case}_0000.nii.gz").read_bytes()


def test_cases_left_out_are_named(stand_in, dataset, tmp_path, monkeypatch):
    nnunet.plan(dataset)
    nnunet.train(dataset, device="cpu")
    monkeypatch.setenv("STAND_IN", "leaves out")
    with pytest.raises(RuntimeError, match=r"left out 1 of 5 cases \(p0\)"):
        nnunet.predict(dataset, tmp_path / "masks", dataset.stage("raw") / "imagesTr", device="cpu")
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
    with pytest.raises(FileNotFoundError, match="no images"):
        nnunet.predict(dataset, tmp_path / "masks", tmp_path / "nothing", device="cpu")
    (dataset.stage("raw") / "dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match="export the cases again"):
        nnunet.plan(dataset)
    assert calls(dataset) == []


@pytest.mark.parametrize("fold", [5, -1, "nnUNetTrainerV2"])
def test_unknown_folds_are_refused(dataset, fold):
    with pytest.raises(ValueError, match="fold is 0 to 4"):
        nnunet.train(dataset, fold=fold)


def test_devices(monkeypatch):
    monkeypatch.setattr(nnunet_process.torch.cuda, "is_available", lambda: False)
    assert (nnunet_process.chosen_device("auto"), nnunet_process.chosen_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(ValueError, match="sees no GPU"):
        nnunet_process.chosen_device("cuda")
    with pytest.raises(ValueError, match="auto, cpu or cuda"):
        nnunet_process.chosen_device("gpu")
    monkeypatch.setattr(nnunet_process.torch.cuda, "is_available", lambda: True)
    assert (nnunet_process.chosen_device("auto"), nnunet_process.chosen_device("cpu")) == ("cuda", "cpu")


def test_without_nnunet_one_sentence_says_what_to_run(dataset, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -c requirements\.lock 'nnunetv2"):
        nnunet.plan(dataset)


def test_the_small_trainer_is_small_and_takes_what_nnunet_passes(stand_in, monkeypatch):
    spec = importlib.util.spec_from_file_location("smoke", nnunet_process.TRAINERS / "crossbook_smoke.py")
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


def test_importing_crossbook_needs_no_nnunet():
    """Outside functions, only the trainers' folder imports nnunetv2, and nothing imports that folder."""
    for path in (ROOT / "lib").rglob("*.py"):
        if path.parent.name == "nnunet_trainers":
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in getattr(node, "names", [])] + [
                getattr(node, "module", None) or ""
            ]
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not any("nnunetv2" in name or "nnunet_trainers" in name for name in names), path


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
    volume = read_volume(cases[5].image)
    assert predicted_mask(masks["p5"], volume.geometry).shape == volume.values.shape

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from lib.features.feature_files import write_features
from lib.files import sha256_of
from lib.spacrd import train as runs
from lib.spacrd.features import fold_features
from lib.spacrd.model import SpaCRD
from lib.spacrd.spots import write_section
from lib.spacrd.train import Runs, Unit, predict
from lib.training.folds import Fold

FOLD = Fold("A", ("B1", "C1"), ("A1", "A2"))
OPTIONS = {
    "variant": "described", "undetermined": "excluded", "marker": "ERBB2", "genes": 10, "scaling": "minmax",
    "neighbours": 7, "neighbour_radius": 2.2, "contrastive_epochs": 1, "fusion_epochs": 1, "classifier_epochs": 1,
    "learning_rate": 1e-3, "batch_size": 64,
}  # fmt: skip


def unit(model, seed=1, encoder="colour", genes=True):
    return Unit("both", encoder, genes, FOLD, model, seed)


def write_pictures(folder, name, names, features):
    about = {"encoder": "colour", "revision": "1", "um_per_px": 2.0, "crop_um": 150.0}
    xy = np.zeros((len(names), 2))
    counts = {"n_white": 0, "n_failed": 0}
    write_features(
        folder / "features" / f"{name}.colour.h5", features, xy, names=names, counts=counts, **about
    )


@pytest.fixture
def folder(tmp_path, cohort, pictures):
    (tmp_path / "sections").mkdir()
    for name, section in cohort.items():
        whole = section.copy()
        whole.obs = whole.obs.assign(array_x=0.0, array_y=0.0, tissue="", label_source="pathologist")
        whole.uns["section"] |= {
            "platform": "st", "spot_diameter_um": 100.0, "pitch_um": 200.0, "um_per_px": 2.0,
            "picture": "", "picture_scale": [1.0, 1.0], "dropped": "",
        }  # fmt: skip
        write_section(whole, tmp_path / "sections" / f"{name}.h5ad")
        write_pictures(tmp_path, name, list(section.obs_names), pictures[name])
    return tmp_path


def test_a_unit_names_what_it_reads_and_writes(tmp_path):
    work = Runs(tmp_path, OPTIONS, keep_weights_of=1)

    def short(paths):
        return [path.relative_to(tmp_path).as_posix() for path in paths]

    sections = [f"sections/{name}.h5ad" for name in ("B1", "C1", "A1", "A2")]
    assert short(work.inputs(unit("linear-genes", encoder=""))) == sections
    assert short(work.inputs(unit("spacrd"))) == [
        *sections, *(f"features/{name}.colour.h5" for name in ("B1", "C1", "A1", "A2")),
    ]  # fmt: skip
    assert short(work.outputs(unit("linear-genes"))) == ["train/both.A.linear-genes.s1.scores.csv"]
    assert short(work.outputs(unit("spacrd"))) == [
        "train/both.A.spacrd.s1.scores.csv",
        "train/both.A.spacrd.s1.history.csv",
        "weights/both.A.spacrd.s1.safetensors",
    ]
    assert len(work.outputs(unit("spacrd", seed=2))) == 2


def test_what_a_unit_depends_on_tells_units_apart(tmp_path):
    work = Runs(tmp_path, OPTIONS, keep_weights_of=1)
    units = [unit("spacrd"), unit("spacrd", 2), unit("spacrd-genes"), unit("spacrd", genes=False)]
    assert len({str(work.depends(each)) for each in units}) == 4
    other = Runs(tmp_path, {**OPTIONS, "learning_rate": 1e-4}, keep_weights_of=1)
    assert work.depends(units[0]) != other.depends(units[0])


@pytest.mark.parametrize(
    "work_unit",
    [unit("linear-both-smoothed"), unit("spacrd"), unit("spacrd", seed=2), unit("spacrd-genes", encoder="")],
    ids=lambda u: f"{u.model} {u.seed} {u.encoder}",
)
def test_a_unit_writes_exactly_its_outputs_and_the_same_twice(folder, work_unit):
    def files():
        return {p for p in folder.rglob("*") if p.is_file()}

    before, hashes = files(), []
    for _ in range(2):  # a fresh start each time, as after a kill
        work = Runs(folder, OPTIONS, keep_weights_of=1, device="cpu")
        work.train(work_unit)
        outputs = work.outputs(work_unit)
        assert files() - before == set(outputs)
        hashes.append([sha256_of(path) for path in outputs])
        for path in outputs:
            path.unlink()
    assert hashes[0] == hashes[1]


def test_the_order_of_units_does_not_change_them(folder):
    """Contenders of one fold share features; none leaves a trace in them."""
    hashes = []
    for before in (["spacrd-released", "linear-both", "marker-smoothed"], []):
        work = Runs(folder, OPTIONS, keep_weights_of=1, device="cpu")
        for name in before:
            work.train(unit(name))
        work.train(unit("spacrd"))
        hashes.append([sha256_of(path) for path in work.outputs(unit("spacrd"))])
    assert hashes[0] == hashes[1]


def test_weights_give_the_scores_back(folder, cohort, pictures):
    work = Runs(folder, OPTIONS, keep_weights_of=1, device="cpu")
    work.train(unit("spacrd"))
    scores, history, weights = work.outputs(unit("spacrd"))
    model = SpaCRD(8, 10)
    model.load_state_dict(load_file(weights))
    _, test = fold_features(FOLD, cohort, pictures, genes=10, marker="ERBB2")
    table = pd.read_csv(scores).set_index("section")
    found = predict(model, test[1].tensors("minmax", image=True, genes=True))
    np.testing.assert_allclose(table.loc["A2", "score"], found, rtol=1e-4, atol=1e-6)
    assert table.loc["A2", "spot"].tolist() == cohort["A2"].obs_names.tolist()
    assert pd.read_csv(history)["stage"].tolist() == ["I contrastive", "II fusion", "III classifier"]
    assert torch.isfinite(model.class_centres).all()


def test_features_are_read_once_a_fold_and_variant(folder, monkeypatch):
    read = []

    def counted(path):
        read.append(path)
        return real(path)

    real = runs.read_features
    monkeypatch.setattr(runs, "read_features", counted)
    work = Runs(folder, OPTIONS, keep_weights_of=1, device="cpu")
    for name in ("linear-image", "linear-both", "linear-genes"):
        work.train(unit(name))
    assert len(read) == 4
    work.train(unit("spacrd-released"))
    assert len(read) == 8, "the released variant chooses its own genes"


@pytest.mark.parametrize("how", ["other order", "one spot less"])
def test_pictures_of_other_spots_are_refused(folder, cohort, pictures, how):
    names, features = list(cohort["B1"].obs_names), pictures["B1"]
    kept = slice(None, None, -1) if how == "other order" else slice(0, -1)
    write_pictures(folder, "B1", names[kept], features[kept])
    work = Runs(folder, OPTIONS, keep_weights_of=1, device="cpu")
    with pytest.raises(ValueError, match=r"B1.*spots"):
        work.train(unit("linear-image"))

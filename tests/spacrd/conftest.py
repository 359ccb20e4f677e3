"""Small raw trees in real layouts, and small sections with a planted effect."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from lib.spacrd.features import Spots, nearest
from lib.spacrd.phantom import write_cohort

WIDTH, HEIGHT, PITCH = 10, 6, 50.0
GENES = ["ERBB2", *(f"G{i:02}" for i in range(24))]


def grid(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 2).astype(float)


@pytest.fixture
def toy():
    """Function (name, seed, effect, image, genes) -> Spots: 60 spots, the left part cancer, two undetermined."""

    def made(name="A1", seed=0, effect=2.0, image=12, genes=20) -> Spots:
        random = np.random.default_rng(seed)
        xy = grid()
        labels = (xy[:, 0] < WIDTH / 2).astype(np.float32)
        parts = [random.normal(size=(len(xy), d)).astype(np.float32) for d in (image, genes)]
        for part in parts:
            part[:, :5] += effect * labels[:, None]
        labels[[7, 33]] = np.nan
        tensors = [torch.as_tensor(part) if part.shape[1] else None for part in parts]
        neighbours = torch.as_tensor(nearest(xy, 7, radius=2.2))
        return Spots(*tensors, torch.as_tensor(labels), neighbours, xy, np.full(len(xy), name))

    return made


@pytest.fixture
def section():
    """Function (name, patient, seed) -> AnnData of 60 spots x 25 genes, ERBB2 and four more high in cancer."""

    def made(name, patient=None, seed=0, genes=GENES) -> AnnData:
        random = np.random.default_rng(seed)
        xy = grid()
        cancer = xy[:, 0] < 3 + seed % 4
        level = np.tile(np.geomspace(2, 15, len(genes)), (len(xy), 1))
        level[cancer, :5] *= 4
        label = cancer.astype(np.float32)
        label[5] = np.nan
        obs = pd.DataFrame({"label": label}, index=[f"{name}-{int(x)}x{int(y)}" for x, y in xy])
        about = {"name": name, "patient": patient or name[0], "pitch_px": PITCH}
        return AnnData(
            sparse.csr_matrix(random.poisson(level), dtype=np.float32),
            obs=obs,
            var=pd.DataFrame(index=list(genes)),
            obsm={"spatial": PITCH * xy},
            uns={"section": about},
        )

    return made


@pytest.fixture
def cohort(section):
    """Four sections of three patients, by name."""
    return {name: section(name, seed=seed) for seed, name in enumerate(["A1", "A2", "B1", "C1"])}


@pytest.fixture
def pictures(cohort):
    """Image features of the cohort: eight numbers, two of them higher in cancer."""
    random = np.random.default_rng(9)
    found = {}
    for name, one in cohort.items():
        features = random.normal(size=(one.n_obs, 8)).astype(np.float32)
        features[:, :2] += np.nan_to_num(one.obs["label"].to_numpy())[:, None]
        found[name] = features
    return found


@pytest.fixture(scope="session")
def st_tree(tmp_path_factory) -> Path:
    """Two patients, A and B, one section each, in the layout of HER2ST."""
    folder = tmp_path_factory.mktemp("st")
    write_cohort(folder, seed=5, patients=2, spots_side=8, genes=60)
    return folder


@pytest.fixture(scope="session")
def visium_tree(tmp_path_factory) -> Path:
    """Patients VA and VB, one Space Ranger folder each."""
    folder = tmp_path_factory.mktemp("visium")
    write_cohort(folder, seed=5, patients=2, spots_side=8, genes=60, platform="visium")
    return folder


@pytest.fixture
def st(st_tree, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(st_tree, tmp_path / "st"))

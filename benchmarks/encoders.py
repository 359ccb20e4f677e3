"""Which encoder's numbers tell cancer from the rest on another patient?

    .venv/bin/python benchmarks/encoders.py            needs `make data COHORT=her2st` (pictures of patients B and C)

A logistic regression on the image features of the labelled spots of HER2ST, trained on patient C's five sections and
tested on B4, and the other way round. Crops of 192 µm, so that SHELL sees 1 µm a pixel. "shuffled" is SHELL with its
weights in random order: what its shape alone is worth. Two patients decide nothing; they show what is not to be assumed.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.features.encoders import SHELL, load_encoder
from lib.files import write_csv
from lib.params import ROOT
from lib.spacrd.cohort import read_section, read_table
from lib.spacrd.features import nearest, smooth
from lib.spacrd.pictures import embed_spots, open_picture
from lib.stage import processor

SECTIONS = ("B4", "C2", "C3", "C4", "C5", "C6")
CROP_UM = 192.0


def shuffled(network: Path, folder: Path) -> Path:
    """The network with its weights in random order."""
    (folder / network.name).write_bytes(network.read_bytes())
    weights = np.fromfile(f"{network}.data", np.float32)
    np.random.default_rng(0).permutation(weights).tofile(folder / f"{network.name}.data")
    return folder / network.name


def measured(name: str, weights: str | Path, sections: dict) -> dict:
    """AUC of C -> B and of B -> C, of the spots' own crops and of their neighbourhood's mean."""
    encoder, row = load_encoder(name, weights, "cpu", CROP_UM), {}
    features = {
        each: embed_spots(section, picture, encoder)[0] for each, (section, picture) in sections.items()
    }
    for smoothed in (False, True):
        parts = {"B": [], "C": []}
        for each, (section, _) in sections.items():
            own = features[each]
            seen = smooth(own, nearest(section.obsm["spatial"], 7)) if smoothed else own
            labels = section.obs["label"].to_numpy(float)
            known = ~np.isnan(labels)
            parts[each[0]].append((seen[known], labels[known]))
        parts = {
            patient: [np.concatenate(p) for p in zip(*found, strict=True)] for patient, found in parts.items()
        }
        for train, test in ("CB", "BC"):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=3000)).fit(
                *parts[train]
            )
            auc = roc_auc_score(parts[test][1], model.decision_function(parts[test][0]))
            row[f"{train} to {test}{', smoothed' * smoothed}"] = round(auc, 3)
    return {"numbers": encoder.dim, **row}


def main() -> int:
    torch.set_num_threads(1)
    raw = ROOT / "data" / "raw"
    table = read_table(ROOT / "data" / "cohorts" / "spacrd" / "her2st.csv").set_index("section", drop=False)
    sections = {}
    for name in SECTIONS:
        section = read_section(table.loc[name], raw / "her2st")
        sections[name] = section, open_picture(raw / "her2st" / section.uns["section"]["picture"])
    with tempfile.TemporaryDirectory() as folder:
        tasks = {
            "colour": ("colour", ""),
            "mobilenetv2_100 (ImageNet)": (
                "mobilenetv2_100",
                raw / "weights" / "mobilenetv2_100_dequant.pth",
            ),
            "shell": ("shell", ROOT / SHELL),
            "shell, shuffled": ("shell", shuffled(ROOT / SHELL, Path(folder))),
        }
        rows = []
        for label, (name, weights) in tasks.items():
            rows.append({"encoder": label, **measured(name, weights, sections), "processor": processor()})
            print(rows[-1], flush=True)
    write_csv(pd.DataFrame(rows), Path(__file__).parent / "results" / "encoders.csv")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

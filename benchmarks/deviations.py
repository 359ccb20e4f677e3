"""What departures from the references are worth on phantoms: the rows of book/deviations.yaml that no cohort's results hold.

    .venv/bin/python benchmarks/deviations.py

Each is the same model on the same patients and folds of a demo, once as we do it and once as the reference does; AUC is of
the held-out patients, mean over the folds. One training each, so a difference of some hundredths may be chance: `stroke-seed`
is how far two seeds of one model lie apart. No bar.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from clam_tiling import Drawn

from lib.features import radiomics, tiles
from lib.features.clam import read_preset, segment
from lib.files import write_csv
from lib.gcmlm import ct, phantom
from lib.gcmlm.cohort import metachronous
from lib.gcmlm.signature import SignatureFusion
from lib.gcmlm.train import folds_of as gastric_folds
from lib.inputs.slides import open_slide
from lib.params import load
from lib.stage import processor
from lib.statistics.classification import auc
from lib.stroke.perfusion import network_input, prepare
from lib.stroke.raw import raw_input
from lib.stroke.series import write_series_features
from lib.stroke.train import Data, fit
from lib.training.folds import folds_of, stratified_folds
from lib.training.runs import Checkpoint, Run

ROOT = Path(__file__).resolve().parents[1]
# ISLES24-PrediCTP, the authors' later code: no smoothing but for the mask, no ceiling
AUTHORS = {"baseline": 3, "ceiling_hu": None}


def mean_auc(scores: pd.DataFrame, label: pd.Series) -> float:
    """Mean over the folds; scores have fold, patient, score."""
    return float(np.mean([auc(label[part["patient"]], part["score"]) for _, part in scores.groupby("fold")]))


def stroke(home: Path) -> Iterator[dict]:
    """The demo's fusion with one habit, and on films prepared as the authors prepare ISLES'24."""
    params = load(ROOT / "params" / "stroke" / "demo.yaml")
    raw = raw_input(params, home, home)
    preparations = {"here": params.preparation, "authors": params.preparation.model_copy(update=AUTHORS)}
    for name in raw.scans:
        film = raw.film(name)
        for where, how in preparations.items():
            seen = network_input(prepare(film, how), params.shape, params.frames)
            write_series_features(home / where / "features" / f"{name}.h5", seen)
    people = raw.patients(list(raw.scans)).astype({"label": int})
    people["fold"] = raw.folds(people)

    def worth(model: str, where: str = "here", seed: int = 1) -> float:
        data = Data(people, home / where, params)
        runs = [Run("admission", fold, model, seed, False) for fold in folds_of(people)]
        parts = [fit(run, data, Checkpoint()).scores.assign(fold=run.fold.name) for run in runs]
        return mean_auc(pd.concat(parts), people["label"])

    sound, about = worth("fusion"), {"what": "AUC of `fusion`", "patients": len(people)}
    yield {"name": "stroke-seed", "here": sound, "reference": worth("fusion", seed=2)} | about
    for habit in ("frozen_positions", "scaler_on_all", "whole_batches", "epoch_by_test"):
        yield {"name": f"stroke-{habit}", "here": sound, "reference": worth(f"fusion+{habit}")} | about
    yield {"name": "stroke-preparation", "here": sound, "reference": worth("fusion", "authors")} | about


def gastric(home: Path) -> Iterator[dict]:
    """Signatures of the demo's internal patients on other features of the same files."""
    params = load(ROOT / "params" / "gcmlm" / "demo.yaml")
    people = phantom.draw(params.phantom.patients, 0, params.phantom.seed).set_index("patient", drop=False)
    rules = (params.earliest_months, params.least_follow_up_months)
    became = metachronous(people["time_months"], people["event"], *rules)
    everybody = {"name": "gcmlm-endpoint", "what": "patients with a label", "patients": len(people)}
    yield everybody | {"here": became["label"].notna().sum(), "reference": len(people)}
    people = people.assign(label=became["label"], status=became["status"], set="internal")
    strata = dict(people["status"] == "metastasis")
    split = stratified_folds({name: name for name in people.index}, strata, params.folds, params.seed)
    people["fold"] = people.index.map({name: fold.name for fold in split for name in fold.test})
    laying = params.preset, params.tile_px, params.least_tissue, (params.scale,)
    scans, kept = {"default": {}, "slicer": {}}, {"exact": 0, "clam_compat": 0}
    for row in people.itertuples():
        files = phantom.write_patient(home, row, params.phantom.seed)
        for path in files.slides:
            with open_slide(path) as slide:
                kept = {
                    how: n + len(tiles.tiled(slide, how, *laying).tiles[params.scale])
                    for how, n in kept.items()
                }
        if files.image is not None:
            how = {"oblique": params.oblique, "resample": True}
            region = ct.read_region(files.image, files.mask, params.mask_label, **how)
            for preset, found in scans.items():
                found[row.patient] = radiomics.extract(*region, preset)
    counts = {"here": kept["exact"], "reference": kept["clam_compat"]}
    yield {"name": "gcmlm-preset", "what": "tiles of all slides", "patients": len(people)} | counts

    def worth(preset: str) -> float:
        table, parts = pd.DataFrame.from_dict(scans[preset], orient="index"), []
        outcome = people[["label", "time_months", "event"]].astype(float)
        for fold in gastric_folds(people):
            fusion = SignatureFusion("ct", params.inner_folds, params.seeds[0])
            fusion.fit({"ct": table}, outcome.loc[list(fold.train)])
            found = fusion.predict({"ct": table[table.index.isin(fold.test)]})[["score"]]
            parts.append(found[people.loc[found.index, "label"].notna()].assign(fold=fold.name))
        scores = pd.concat(parts).rename_axis("patient").reset_index()
        return mean_auc(scores, people["label"].dropna().astype(int))

    about = {"name": "gcmlm-radiomics", "what": "AUC of `signature: ct`", "patients": len(scans["default"])}
    yield about | {"here": worth("default"), "reference": worth("slicer")}


def laid(_: Path) -> Iterator[dict]:
    """CLAM's tiles of pieces that lie close: each piece has a grid of its own."""
    # four needle cores of 1 mm by 12 mm, askew and 50 µm apart
    mask = np.zeros((4096, 4096), np.uint8)
    for number in range(4):
        start, stop = (400, 600 + 280 * number), (3300, 1700 + 280 * number)
        cv2.line(mask, start, stop, 1, 250)
    cores, preset = Drawn(16 * 4096, mask), read_preset("bwh_biopsy")
    theirs = tiles.clam_tiles(cores, preset, segment(cores, preset), 256)
    (x, y), piece = theirs.coords.T, theirs.origins
    over = [
        np.any((abs(x - x[i]) < 256) & (abs(y - y[i]) < 256) & (piece != piece[i])) for i in range(len(x))
    ]
    about = {
        "name": "gcmlm-overlap",
        "what": f"of {len(x)} tiles of {piece.max() + 1} cores, over another core's",
    }
    yield about | {"patients": 1, "here": 0, "reference": int(np.sum(over))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "deviations.csv")
    options = parser.parse_args()
    rows, began = [], time.perf_counter()
    for part in (laid, gastric, stroke):
        with tempfile.TemporaryDirectory() as home:
            for row in part(Path(home)):
                rows.append({key: row[key] for key in ("name", "what", "here", "reference", "patients")})
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows).round(4)
    seconds = round(time.perf_counter() - began)
    write_csv(table.assign(seconds=seconds, processor=processor()), options.out)


if __name__ == "__main__":
    main()

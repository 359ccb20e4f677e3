"""A cohort of slides: raw tables and slides, published folds, what the clinic knows, and predictions others stored."""

import io
import pickle
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy._core.multiarray import _reconstruct, scalar

from lib.crossfusion import phantom
from lib.crossfusion.params import CATEGORIES, CrossFusionParams
from lib.data import RAW, fetch_all, read_sources
from lib.features.feature_files import bag_files
from lib.features.tiles import SCALES, embedding_paths, read_grid
from lib.inputs import tcga
from lib.inputs.slides import Slide, found_slides, open_slide
from lib.inputs.tables import read_columns
from lib.phantoms.slides import write_slide
from lib.stage import Stage
from lib.statistics.concordance import CoxBaseline, null_survival
from lib.training.folds import Fold, refuse_leak, stratified_folds


class Cohort:
    """Where a cohort's slides and tables are.

    Attributes
    ----------
    slides : DataFrame
        One row a slide: slide, patient, and the outcome where it is known (`lib.inputs.tcga.read_outcomes`).
    paths : dict of str to Path
        Slides that are on this disk. A phantom's slide is drawn when it is first opened.
    """

    def __init__(self, stage: Stage):
        self.stage, self.params = stage, stage.params
        self.drawn = None
        raw = RAW
        if self.params.phantom:
            raw = stage.folder / "raw"
            planted = self.params.phantom.model_dump(exclude={"patients"})
            drawn = phantom.patients(self.params.phantom.patients, **planted)
            if stage.name.startswith("1"):
                phantom.write_cohort(raw, drawn, self.params.phantom.seed)
            self.drawn = drawn.set_index("patient")
        elif stage.name.startswith("1"):
            if self.params.cohort in read_sources().cohorts:
                fetch_all(self.params.cohort)
            else:
                print(
                    f"data/sources.yaml does not know {self.params.cohort}: files are taken from data/raw as they are"
                )
        self.raw = raw
        if self.params.followed:
            table = raw / (self.params.outcomes or "outcomes.csv")
            self.slides = tcga.read_outcomes(stage.reads(tcga.outcomes_at(table)))
        else:
            self.slides = pd.DataFrame({"slide": list(found_slides(raw / self.params.slides))})
            self.slides["patient"] = self.slides["slide"].map(tcga.patient_of)
        self.paths = {}
        if self.params.phantom:
            self.paths = {name: raw / "slides" / f"{name}.tif" for name in self.slides["slide"]}
        elif self.params.slides:
            self.paths = found_slides(raw / self.params.slides, self.slides["slide"])
        self._patient = self.slides.set_index("slide")["patient"]

    def open(self, name: str) -> Slide:
        """A slide; close it, or use it in a `with`."""
        path = self.paths[name]
        if self.drawn is not None and not path.is_file():
            row = self.drawn.loc[self._patient[name]]
            looks = {
                "fine": row["fine"],
                "coarse": row["coarse"],
                "cancer": phantom.CANCERS.index(row["cancer"]),
            }
            write_slide(path, **looks, seed=zlib.crc32(name.encode()))
        return open_slide(path, self.params.um_per_px.get(name))

    def depends(self, name: str) -> dict[str, object]:
        """What a slide's tiles depend on beside parameters. A slide of gigabytes is known by its size, not read."""
        if self.drawn is not None:
            return {"phantom": self.drawn.loc[self._patient[name]].drop("time").to_dict()}
        return {"bytes": self.paths[name].stat().st_size, "um_per_px": self.params.um_per_px.get(name)}

    def tiled(self, done: Iterable[str]) -> pd.DataFrame:
        """One row a slide: patient, slide, status, um_per_px, tiles at 20x, 10x and 5x, note."""
        rows, done = [], set(done)
        for patient, slide in zip(self.slides["patient"], self.slides["slide"], strict=True):
            row = {
                "patient": patient,
                "slide": slide,
                "status": "failed" if slide in self.paths else "not here",
            }
            row |= {"um_per_px": np.nan, **{f"tiles_{scale}x": 0 for scale in SCALES}, "note": ""}
            if slide in done:
                grid = read_grid(self.stage.folder / "tiles" / f"{slide}.h5")
                row |= {"status": grid.status, "um_per_px": grid.um_per_px, "note": grid.note}
                row |= {f"tiles_{scale}x": len(grid.tiles[scale]) for scale in SCALES}
            rows.append(row)
        return pd.DataFrame(rows)

    def patients(self) -> pd.DataFrame:
        """One row a patient: time_months, event (1 died), cancer, age, female, stage and grade where they are known.

        A stage that is not known is missing, never stage 0.
        """
        cohort = tcga.by_patient(self.slides).set_index("patient", drop=False)
        cohort["cancer"] = cohort["oncotree_code"] if self.params.phantom else self.params.cohort
        if not (self.params.clinical_table or self.params.phantom):
            return cohort
        clinic = tcga.read_cdr(self.stage.reads(self.raw / (self.params.clinical_table or "clinical.csv")))
        clinic = clinic.set_index("patient")
        print(
            f"{len(cohort.index.difference(clinic.index))} of {len(cohort)} patients are not in the clinical table"
        )
        for name in ("age", "female"):
            if cohort[name].isna().all() and name in clinic:  # a table of outcomes alone
                cohort[name] = clinic[name].reindex(cohort.index)
        columns = [name for name in ("ajcc_pathologic_tumor_stage", "clinical_stage") if name in clinic]
        cohort["stage"] = tcga.first_known(clinic, columns).reindex(cohort.index)
        if "histological_grade" in clinic:
            cohort["grade"] = clinic["histological_grade"].map(tcga.grade_number).reindex(cohort.index)
        return cohort

    def folds(self, cohort: pd.DataFrame) -> list[Fold]:
        """The official folds, every name that does not fit said; or folds stratified by cancer type and event."""
        if not self.params.official_folds:
            strata = dict(cohort["cancer"] + cohort["event"].astype(str))
            return stratified_folds({p: p for p in cohort.index}, strata, self.params.folds, self.params.seed)
        official = self.raw / self.params.official_folds
        for path in sorted(official.glob("splits_*.csv")):
            self.stage.reads(path)
        folds, remarks = with_outcomes(of_patients(read_folds(official)), cohort.index)
        print("\n".join(remarks) or "folds and outcomes name the same patients")
        return folds


def feature_home(stage: Stage) -> Path:
    """The folder with a cohort's features at x20, x10 and x5: those of 2-embed, or made elsewhere (`features`)."""
    if stage.params.features:
        return RAW / stage.params.features
    one = embedding_paths(stage.folder / "features", stage.params.encoder, "", (20,))
    return one[20].parent.parent


def embedded_slides(stage: Stage, slides: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The slides (patient, slide) that have features at every scale, and the names of those that have not."""
    home, without = feature_home(stage), []
    for slide in slides["slide"]:
        try:
            bag_files(home, slide)
        except FileNotFoundError:
            without.append(slide)
    embedded = slides.loc[~slides["slide"].isin(without), ["patient", "slide"]]
    return embedded, without


def fold_table(cohort: pd.DataFrame, folds: Iterable[Fold]) -> pd.DataFrame:
    """Patients and deaths on both sides of every fold, and the hospitals that stand on both sides."""
    rows = []
    for fold in folds:
        train, test = (cohort[cohort.index.isin(part)] for part in (fold.train, fold.test))
        rows.append(
            {
                "fold": fold.name,
                "training patients": len(train),
                "deaths": int(train["event"].sum()),
                "held-out patients": len(test),
                "deaths ": int(test["event"].sum()),
                "hospitals on both sides": len(set(train["site"]) & set(test["site"])),
            }
        )
    return pd.DataFrame(rows)


def clinical_baselines(
    cohort: pd.DataFrame, folds: Iterable[Fold], params: CrossFusionParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the clinic alone predicts for held-out patients, and its hazard ratios, fold by fold.

    `kaplan-meier` gives everybody the curve of the training patients, `age` is a Cox regression on age alone for the
    patients whose age is known, `cox-clinical` one on the columns of `params.clinical`.

    Returns
    -------
    predictions : DataFrame
        setting (cancer type), model, seed, fold, patient, score (log hazard), survival at `params.months`.
    ratios : DataFrame
    """
    categories = [name for name in params.clinical if name in CATEGORIES]
    columns = {
        "age": (["age"], []),
        "cox-clinical": ([n for n in params.clinical if n not in categories], categories),
    }
    predictions, ratios = [], []
    for model in ("kaplan-meier", *columns):
        for cancer, patients in cohort.groupby("cancer"):
            known = patients.dropna(subset="age") if model == "age" else patients
            for fold in folds:
                train, test = (known[known.index.isin(part)] for part in (fold.train, fold.test))
                outcome = train["time_months"], train["event"]
                if model == "kaplan-meier":
                    risk, survival = np.zeros(len(test)), null_survival(*outcome, params.months, len(test))
                else:
                    cox = CoxBaseline(*columns[model]).fit(train, *outcome)
                    risk, survival = cox.risk(test), cox.survival(test, params.months)
                    ratios.append(cox.hazard_ratios().assign(cancer=cancer, model=model, fold=fold.name))
                about = {"setting": cancer, "model": model, "seed": 0, "fold": fold.name}
                rows = pd.DataFrame({**about, "patient": test["patient"].to_numpy(), "score": risk})
                rows[[f"survival_{month:g}" for month in params.months]] = survival
                predictions.append(rows)
    return pd.concat(predictions, ignore_index=True), pd.concat(ratios, ignore_index=True)


# ------------------------------------------------------- published folds: splits_{k}.csv with columns train and val


def read_folds(folder: str | Path) -> list[Fold]:
    """`splits_0.csv`, `splits_1.csv`, ... of a folder, as MCAT, PORPOISE and CrossFusion publish them.

    An id is a patient's barcode or, in CrossFusion's COAD, a slide's name. val is the tested part; the shorter of the
    two columns is padded with blanks.

    Raises
    ------
    FileNotFoundError
        No such file, or a number is skipped.
    ValueError
        An id stands twice in a part, is tested in two folds, or its patient is on both sides of one.
    """
    names = re.findall(
        r"splits_(\d+)\.csv", "\n".join(path.name for path in Path(folder).glob("splits_*.csv"))
    )
    numbers = sorted(map(int, names))
    if not numbers or numbers != list(range(len(numbers))):
        raise FileNotFoundError(
            f"{folder} has the folds {numbers or 'none'}: splits_0.csv, splits_1.csv, ... without a gap are needed"
        )
    folds = []
    for number in numbers:
        path = Path(folder, f"splits_{number}.csv")
        table, parts = read_columns(path, dtype=str), []
        for part in ("train", "val"):
            ids = table[part].dropna().str.strip()
            ids = ids[ids != ""]
            if ids.empty or ids.duplicated().any():
                raise ValueError(
                    f"{path}: column {part} is empty or has an id twice ({ids[ids.duplicated()][:1].tolist()})"
                )
            parts.append(tuple(ids))
        refuse_leak(*parts, {one: tcga.patient_of(one) for part in parts for one in part})
        folds.append(Fold(str(number), *parts))
    _tested_once(folds, folder)
    return folds


def of_patients(folds: Iterable[Fold]) -> list[Fold]:
    """Folds that name slides as folds of their patients; those that name patients come back as they are."""
    parts = [
        Fold(f.name, *(tuple(dict.fromkeys(map(tcga.patient_of, part))) for part in f[1:])) for f in folds
    ]
    _tested_once(parts, "these folds of slides")
    return parts


def _tested_once(folds: Iterable[Fold], where: object) -> None:
    times = Counter(one for fold in folds for one in fold.test)
    if twice := [one for one, count in times.items() if count > 1]:
        raise ValueError(f"{where}: {_some(twice)} tested in more than one fold")


def with_outcomes(folds: Iterable[Fold], known: Iterable[str]) -> tuple[list[Fold], list[str]]:
    """Keep the ids of published folds whose outcome is known; one sentence for each kind of misfit.

    Raises
    ------
    ValueError
        A part of a fold would be empty: folds and outcomes do not belong together.
    """
    folds, known = list(folds), dict.fromkeys(known)
    kept = [Fold(f.name, *(tuple(one for one in part if one in known) for part in f[1:])) for f in folds]
    if empty := [fold.name for fold in kept if not (fold.train and fold.test)]:
        raise ValueError(
            f"fold {empty[0]} has no outcome for any id it trains on, or tests: is it this cohort's?"
        )
    named = dict.fromkeys(one for fold in folds for one in fold.train + fold.test)
    tested = {one for fold in folds for one in fold.test}
    misfits = [
        ([one for one in named if one not in known], "named by the folds have no outcome and are left out"),
        ([one for one in known if one not in named], "with an outcome are in no fold"),
        ([one for one in known if one in named and one not in tested], "train and are never tested"),
    ]
    for fold in kept:
        parts = {*fold.train, *fold.test}
        absent = [one for one in known if one in named and one not in parts]
        misfits.append((absent, f"are in neither part of fold {fold.name}"))
    return kept, [f"{len(ids)} {what}: {_some(ids)}" for ids, what in misfits if ids]


def _some(ids: Iterable[str], most: int = 10) -> str:
    ids = list(ids)
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")


# ---------------------------------------------------------- risks that MCAT's authors stored for their held-out folds

COHORT = re.compile(r"tcga_(?P<cancer>[a-z]+)_(?P<model>.+?)(?:sm)?_nll_surv.*")
FOLD = re.compile(r"split_latest_val_(?P<fold>\d+)_results\.pkl")
NUMPY = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": _reconstruct, "scalar": scalar}


class _Arrays(pickle.Unpickler):
    """A pickle can run any program: this unpickler knows plain numpy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        if module not in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") or name not in NUMPY:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are admitted")
        return self._dtype if name == "dtype" else NUMPY[name]

    def _dtype(self, kind: str, *_: bool) -> np.dtype:
        # arrays of objects hold addresses: their bytes, forged, would be followed
        if not re.fullmatch(r"[<>=|]?[biufcSU]\d+", str(kind)):
            raise pickle.UnpicklingError(
                f"it holds an array of {kind}, and only numbers and texts are admitted"
            )
        return np.dtype(kind)


def read_arrays(content: bytes) -> object:
    """Content of a pickle made of dicts, lists, numbers, texts and numpy arrays; a ValueError for anything else."""
    try:
        return _Arrays(io.BytesIO(content)).load()
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(f"refused to unpickle: {error}") from error


def stored_predictions(folder: str | Path) -> pd.DataFrame:
    """Every stored prediction below a folder of MCAT's results.

    Chen et al., ICCV 2021, doi 10.1109/ICCV48922.2021.00398; repository mahmoodlab/MCAT, results/ICCV: below it lie
    `tcga_<cancer>_<model>_nll_surv.../split_latest_val_<fold>_results.pkl`.

    Returns
    -------
    DataFrame
        One row a patient, model and fold: model ("AMIL", "MCAT"), cancer ("blca"), fold (int, from 0), patient, risk
        (higher = earlier death expected), time (months), event (1 died, 0 censored).

    Raises
    ------
    ValueError
        A file holds more than arrays, a patient has no finite risk, or stands in two folds of one model.
    """
    rows = []
    for path in sorted(Path(folder).rglob("split_latest_val_*_results.pkl")):
        fold, about = FOLD.fullmatch(path.name), COHORT.fullmatch(path.parent.name)
        if not fold or not about:
            raise ValueError(f"{path} is not named as MCAT names its results: model and cancer are not known")
        for patient, stored in read_arrays(path.read_bytes()).items():
            values = [float(stored[name]) for name in ("risk", "survival", "censorship")]
            if not np.isfinite(values).all() or values[2] not in (0, 1):
                raise ValueError(f"{path}: patient {patient} has risk, survival and censorship {values}")
            about_row = (about["model"], about["cancer"], int(fold["fold"]), str(patient))
            rows.append((*about_row, values[0], values[1], 1 - int(values[2])))
    if not rows:
        raise FileNotFoundError(
            f"{folder} holds no split_latest_val_*_results.pkl: run `make data COHORT=mcat`"
        )
    table = pd.DataFrame(rows, columns=["model", "cancer", "fold", "patient", "risk", "time", "event"])
    twice = table[table.duplicated(["model", "cancer", "patient"])]
    if len(twice):
        raise ValueError(f"{folder}: patient {twice['patient'].iloc[0]} has two risks of one model")
    return table.sort_values(["model", "cancer", "fold"], kind="stable", ignore_index=True)

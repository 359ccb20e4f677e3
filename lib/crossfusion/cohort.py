"""A cohort of slides: raw tables and slides, published folds, what the clinic knows, predictions others stored."""

import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lib.crossfusion.params import CATEGORIES, CrossFusionParams
from lib.crossfusion.phantom import CANCERS, planted_patients, write_planted
from lib.data import RAW, fetch_all, read_sources
from lib.features.feature_files import bag_files
from lib.features.tiles import LEFT_OUT, SCALES, embedding_paths, presets_of, read_grid
from lib.files import also_there
from lib.inputs import tcga
from lib.inputs.slides import SUFFIXES, Slide, check_scales, found_slides, open_slide
from lib.inputs.tables import read_pickle
from lib.names import some
from lib.phantoms.slides import write_slide
from lib.stage import Stage
from lib.statistics.survival import survival_at
from lib.training.folds import Fold, stratified_folds
from lib.training.published_folds import of_patients, read_folds, with_outcomes

NORMAL_TISSUE = "normal tissue, left out"


class Cohort:
    """Where a cohort's slides and tables are.

    `slides` has one row a slide: slide, patient, sample (type) and the outcome where it is known
    (`lib.inputs.tcga.read_outcomes`); `normal` those of normal tissue, which take no part unless `normal_tissue` asks for
    them. `paths` are of slides on this disk; a phantom's is drawn when it is first opened. `presets`, in the first stage, are
    of the slides that are to be tiled (`lib.features.tiles.presets_of`).
    """

    def __init__(self, stage: Stage):
        params = stage.params
        self.stage, self.params, self.raw, self.drawn = stage, params, RAW, None
        if params.phantom:
            self.raw = stage.folder / "raw"
            drawn = planted_patients(**params.phantom.model_dump())
            self.drawn = drawn.set_index("patient")
            if stage.name.startswith("1"):
                write_planted(self.raw, drawn, params.phantom.seed)
        elif stage.name.startswith("1") and params.cohort in read_sources().cohorts:
            fetch_all(params.cohort)
        if params.followed:
            table = self.raw / (params.outcomes or "outcomes.csv")
            self.slides = tcga.read_outcomes(stage.reads(tcga.outcomes_at(table)))
        else:
            self.slides = pd.DataFrame({"slide": list(found_slides(self.raw / params.slides))})
            self.slides["patient"] = self.slides["slide"].map(tcga.patient_of)
            self.slides["sample"] = self.slides["slide"].map(tcga.sample_of)
        check_scales(params.um_per_px, self.slides["slide"])
        self._rows = self.slides
        normal = self.slides["sample"].isin(tcga.NORMAL.values()) & (not params.normal_tissue)
        self.slides, self.normal = self.slides[~normal], self.slides[normal]
        self.paths = {}
        if params.phantom:
            self.paths = {name: self.raw / "slides" / f"{name}.tif" for name in self.slides["slide"]}
        elif params.slides:
            self.paths = found_slides(self.raw / params.slides, self.slides["slide"])
        self.presets = presets_of(params, self.slides["slide"]) if stage.name.startswith("1") else {}
        self._patient = self.slides.set_index("slide")["patient"]

    def open(self, name: str) -> Slide:
        """A slide; close it, or use it in a `with`."""
        path = self.paths[name]
        if self.drawn is not None and not path.is_file():
            row, seed = self.drawn.loc[self._patient[name]], zlib.crc32(name.encode())
            cancer = CANCERS.index(row["cancer"])
            write_slide(path, fine=row["fine"], coarse=row["coarse"], cancer=cancer, seed=seed)
        return open_slide(path, self.params.um_per_px.get(name), name)

    def depends(self, name: str) -> dict[str, object]:
        """What a slide's tiles depend on beside parameters. A slide of gigabytes is known by its size, not read."""
        if self.drawn is not None:
            return {"phantom": self.drawn.loc[self._patient[name]].drop("time").to_dict()}
        about = {"um_per_px": self.params.um_per_px.get(name), "preset": self.presets.get(name)}
        return {"bytes": self.paths[name].stat().st_size, **about}

    def tiled(self, done: Iterable[str]) -> pd.DataFrame:
        """One row a slide: patient, slide, sample, status, um_per_px, tiles of each scale and how much tissue they cover, note."""
        rows, done, normal = [], set(done), set(self.normal["slide"])
        given = self.params.slides and self.drawn is None
        files, ours = (self.raw / self.params.slides).rglob("*") if given else (), {*self.paths.values()}
        idle = sorted(f.name for f in files if f.suffix.lower() in SUFFIXES[:-1] and f not in ours)
        if idle and self.paths:
            print(f"slides that no row of the table names: {some(idle)}")
        for patient, slide, sample in self._rows[["patient", "slide", "sample"]].itertuples(index=False):
            status, um_per_px, covered, tiles = "failed", np.nan, {}, dict.fromkeys(SCALES, 0)
            note = self.stage.failed.get(slide, "").replace(f"{self.raw}/", "")
            if slide in done:
                grid = read_grid(self.stage.folder / "tiles" / f"{slide}.h5")
                status, um_per_px, covered, note = grid.status, grid.um_per_px, grid.coverage, grid.note
                tiles = {scale: len(grid.tiles[scale]) for scale in SCALES}
            elif slide in normal:
                status, note = NORMAL_TISSUE, "normal_tissue: true would keep it"
            elif slide not in self.presets:
                status, note = "left out", LEFT_OUT
            elif slide not in self.paths:
                place, near = self.params.slides, also_there(slide, idle)
                status = "not here"
                note = f"no file {slide}.svs, .tif, .ndpi, ... below {place}{near}" if place else ""
            about = {"sample": sample, "status": status, "um_per_px": um_per_px}
            counts = {f"tiles_{scale}x": count for scale, count in tiles.items()}
            counts |= {f"coverage_{scale}x": round(covered.get(scale, np.nan), 3) for scale in SCALES}
            rows.append({"patient": patient, "slide": slide, **about, **counts, "note": note})
        return pd.DataFrame(rows)

    def patients(self) -> pd.DataFrame:
        """One row a patient: time_months, event (1 died), cancer, age, female, stage and grade where they are known.

        A stage that is not known is missing, never stage 0.
        """
        cohort = tcga.by_patient(self._rows).set_index("patient", drop=False)
        cohort["slides"] = self.slides["patient"].value_counts().reindex(cohort.index, fill_value=0)
        cohort["cancer"] = cohort["oncotree_code"] if self.params.phantom else self.params.cancer
        if not (self.params.clinical_table or self.params.phantom):
            return cohort
        clinic = tcga.read_cdr(self.stage.reads(self.raw / (self.params.clinical_table or "clinical.csv")))
        clinic = clinic.set_index("patient")
        absent = cohort.index.difference(clinic.index)
        print(f"{len(absent)} of {len(cohort)} patients are not in the clinical table")
        if odd := tcga.contradicted(cohort, clinic):
            print(f"TCGA-CDR says otherwise whether {len(odd)} died; the outcomes are kept: {', '.join(odd)}")
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
    slides = slides[slides["status"] != NORMAL_TISSUE]
    for slide in slides["slide"]:
        try:
            bag_files(home, slide)
        except FileNotFoundError:
            without.append(slide)
    embedded = slides.loc[~slides["slide"].isin(without), ["patient", "slide"]]
    return embedded, without


def clinical_baselines(
    cohort: pd.DataFrame, folds: Iterable[Fold], params: CrossFusionParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the clinic alone predicts for held-out patients, and its hazard ratios, fold by fold.

    `kaplan-meier` gives everybody the curve of the training patients, `age` is a Cox regression on age alone for the
    patients whose age is known, `cox-clinical` one on the columns of `params.clinical`. Predictions have the columns setting
    (cancer type), model, seed, fold, patient, score (log hazard) and survival at `params.months`.
    """
    categories = [name for name in params.clinical if name in CATEGORIES]
    numbers = [name for name in params.clinical if name not in categories]
    columns = {"age": (["age"], []), "cox-clinical": (numbers, categories)}
    predictions, ratios = [], []
    for model in ("kaplan-meier", *columns):
        for cancer, patients in cohort.groupby("cancer"):
            known = patients.dropna(subset="age") if model == "age" else patients
            for fold in folds:
                train, test = (known[known.index.isin(part)] for part in (fold.train, fold.test))
                outcome = train["time_months"], train["event"]
                if model == "kaplan-meier":
                    risk, curve = np.zeros(len(test)), survival_at(*outcome, params.months)
                    survival = np.tile(curve, (len(test), 1))
                else:
                    cox = CoxBaseline(*columns[model]).fit(train, *outcome)
                    risk, survival = cox.risk(test), cox.survival(test, params.months)
                    ratios.append(cox.hazard_ratios().assign(cancer=cancer, model=model, fold=fold.name))
                about = {"setting": cancer, "model": model, "seed": 0, "fold": fold.name}
                rows = pd.DataFrame({**about, "patient": test["patient"].to_numpy(), "score": risk})
                rows[[f"survival_{month:g}" for month in params.months]] = survival
                predictions.append(rows)
    return pd.concat(predictions, ignore_index=True), pd.concat(ratios, ignore_index=True)


# ---------------------------------------------------------- risks that MCAT's authors stored for their held-out folds

STORED = re.compile(r"tcga_([a-z]+)_([^/]+?)(?:sm)?_nll_surv[^/]*/split_latest_val_(\d+)_results\.pkl$")


def stored_predictions(folder: str | Path) -> pd.DataFrame:
    """Every stored prediction below a folder of MCAT's results; `HeldOut.of` compares them with the cohort.

    Chen et al., ICCV 2021, doi 10.1109/ICCV48922.2021.00398; repository mahmoodlab/MCAT, results/ICCV: below it lie
    `tcga_<cancer>_<model>_nll_surv.../split_latest_val_<fold>_results.pkl`. One row a patient, model and fold: model ("AMIL",
    "MCAT"), cancer ("blca"), fold (int, from 0), patient, risk (higher = earlier death expected), time (months), event (1
    died, 0 censored).
    """
    rows = []
    for path in sorted(Path(folder).rglob("split_latest_val_*_results.pkl")):
        if stored := STORED.search(path.absolute().as_posix()):
            cancer, model, fold = stored.groups()
            for patient, known in read_pickle(path).items():
                numbers = (float(known[name]) for name in ("risk", "survival", "censorship"))
                rows.append((model, cancer, int(fold), str(patient), *numbers))
    if not rows:
        raise FileNotFoundError(f"no split_latest_val_*_results.pkl in {folder}: run `make data COHORT=mcat`")
    table = pd.DataFrame(rows, columns=["model", "cancer", "fold", "patient", "risk", "time", "event"])
    table["event"] = 1 - table["event"].astype(int)
    return table.sort_values(["model", "cancer", "fold"], kind="stable", ignore_index=True)


class CoxBaseline:
    """Cox regression with everything fitted on the training patients: medians, scales, categories, coefficients.

    Numbers are standardised, and missing ones take the training median: that a number is missing says more of the
    hospital than of the patient, so it is no column of its own. Categories seen in fewer than `rare` training patients,
    or never, share one column. `ridge` is the weight of the L2 penalty on standardised coefficients, against the mean log
    likelihood. Cox, J. R. Stat. Soc. B 34:187 (1972); Efron's ties and Breslow's baseline, by lifelines.
    """

    def __init__(
        self, numbers: Sequence[str], categories: Sequence[str] = (), ridge: float = 0.01, rare: int = 10
    ):
        self.numbers, self.categories = list(numbers), list(categories)
        self.ridge, self.rare = ridge, rare

    def fit(self, table: pd.DataFrame, time: Sequence[float], event: Sequence[int]) -> "CoxBaseline":
        """Fit on the training patients; ValueError where a column is constant, or no event happened."""
        event = np.asarray(event).astype(bool)
        columns = [*self.numbers, *self.categories]
        if not event.any():
            raise ValueError(f"none of the {event.size} training patients had an event: nothing to fit")
        if constant := [name for name in columns if table[name].nunique(dropna=True) < 2]:
            raise ValueError(f"column {constant[0]} is the same for every training patient: leave it out")
        standardised = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        rare = {"min_frequency": self.rare, "handle_unknown": "infrequent_if_exist"}
        one_hot = OneHotEncoder(drop="first", sparse_output=False, **rare)
        named = make_pipeline(SimpleImputer(strategy="constant", fill_value="unknown"), one_hot)
        parts = [("n", standardised, self.numbers), ("c", named, self.categories)]
        self._columns = ColumnTransformer(parts, verbose_feature_names_out=False)
        encoded = self._columns.set_output(transform="pandas").fit_transform(table)
        encoded = encoded.loc[:, encoded.std() > 0]  # a column of one value has no coefficient
        self.used = list(encoded.columns)
        self.model = CoxPHFitter(penalizer=self.ridge)
        self.model.fit(encoded.assign(_time=np.asarray(time, dtype=float), _event=event), "_time", "_event")
        return self

    def risk(self, table: pd.DataFrame) -> np.ndarray:
        """Log partial hazard, (n,): higher = earlier event; 0 is the average training patient."""
        return self.model.predict_log_partial_hazard(self._encoded(table)).to_numpy()

    def survival(self, table: pd.DataFrame, times: Sequence[float]) -> np.ndarray:
        """Probability of being free of the event at each time, (n, times), 0 to 1."""
        return self.model.predict_survival_function(self._encoded(table), times=list(times)).to_numpy().T

    def hazard_ratios(self) -> pd.DataFrame:
        """Column, hazard ratio per standard deviation (or against the first category), 95 % interval, p: with a ridge those
        of a shrunken fit, for orientation, not for testing.
        """
        names = {"exp(coef)": "hazard_ratio", "exp(coef) lower 95%": "low", "exp(coef) upper 95%": "high"}
        table = self.model.summary.rename(columns=names)[[*names.values(), "p"]]
        return table.rename_axis("column").reset_index()

    def _encoded(self, table: pd.DataFrame) -> pd.DataFrame:
        return self._columns.transform(table)[self.used]

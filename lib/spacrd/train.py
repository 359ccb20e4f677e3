"""The plain yardstick: principal components and logistic regression.

Train SpaCRD: stage I by contrast, stages II and III in one model (Lightning does the loops).

Every model of the SpaCRD study under one call: SpaCRD, its ablations and the baselines.

The work units of a study: one contender, trained on one fold of one setting with one seed.

Carry out training units: read features, train, write predictions, history and weights.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lib.features.feature_files import read_features
from lib.files import write_csv
from lib.spacrd.features import SectionFeatures, SpotBatches, Spots, fold_features, smooth
from lib.spacrd.model import SpaCRD, contrastive_loss, fusion_losses
from lib.spacrd.spots import read_section
from lib.training.folds import Fold, fixed_split, leave_one_patient_out
from lib.training.loop import write_weights

COMPONENTS = 50


def design(section: SectionFeatures, *, image: bool, genes: bool, smoothed: bool) -> np.ndarray:
    """Unscaled features side by side (n, p), each the mean over the neighbourhood where `smoothed`."""
    parts = [part for part, used in ((section.image, image), (section.genes, genes)) if used]
    return np.concatenate(
        [smooth(p, section.neighbours) if smoothed else p for p in parts], 1, dtype=np.float64
    )


def fit_linear(train: Sequence[SectionFeatures], *, image: bool, genes: bool, smoothed: bool) -> Pipeline:
    """z-score, at most 50 components, logistic regression (C = 0.01, classes balanced, sections weighted alike).

    Everything is fitted on the labelled spots of the training sections, the components on all their spots.
    """
    features = np.concatenate([design(s, image=image, genes=genes, smoothed=smoothed) for s in train])
    labels = np.concatenate([s.labels for s in train])
    weights = np.concatenate([np.full(len(s.labels), 1 / len(s.labels)) for s in train])
    known = ~np.isnan(labels)
    components = min(COMPONENTS, *features.shape)
    project = make_pipeline(StandardScaler(), PCA(components, random_state=0)).fit(features)
    regression = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
    scaled = weights[known] / weights[known].mean()
    regression.fit(project.transform(features[known]), labels[known].astype(int), sample_weight=scaled)
    return make_pipeline(*(step for _, step in project.steps), regression)


@dataclass(frozen=True)
class Recipe:
    """How SpaCRD is trained; the released code's values are in `params/spacrd/her2st-released.yaml`.

    Attributes
    ----------
    contrastive_epochs, fusion_epochs, classifier_epochs : int
        Stage I, II (labels act through the class centres only) and III.
    learning_rate, batch_size, patch_size, temperature
        Adam without weight decay; see `SpotBatches`.
    category_weight, separation_weight, fusion_weight : float
        beta, the weight of the released code's undocumented term, and gamma.
    watch_every : int
        Epochs between two looks at the held-out spots; 0 never looks. Only drawn, never used to choose.
    """

    contrastive_epochs: int = 20
    fusion_epochs: int = 10
    classifier_epochs: int = 20
    learning_rate: float = 1e-4
    batch_size: int = 512
    patch_size: int = 512
    temperature: float = 0.07
    category_weight: float = 0.5
    separation_weight: float = 0.0
    fusion_weight: float = 0.1
    watch_every: int = 5


class PairBatches(IterableDataset):
    """Stage I: shuffled batches of single spots, both modalities, labels unused."""

    def __init__(self, spots: Spots, batch_size: int, seed: int):
        self.spots, self.batch_size, self.random = spots, batch_size, np.random.default_rng(seed)

    def __iter__(self):
        order = torch.as_tensor(self.random.permutation(len(self.spots)))
        batches = list(order.split(self.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:  # batch statistics need two
            batches[-2:] = [torch.cat(batches[-2:])]
        for rows in batches:
            yield self.spots.image[rows], self.spots.genes[rows]


class Stage(L.LightningModule):
    """What the two stages share: Adam, and epoch means of every term."""

    def __init__(self, model: SpaCRD, recipe: Recipe):
        super().__init__()
        self.model, self.recipe = model, recipe
        self.history: list[dict[str, float]] = []
        self.terms: list[dict[str, Tensor]] = []

    def configure_optimizers(self):
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.Adam(parameters, lr=self.recipe.learning_rate, fused=True)

    def on_train_epoch_end(self):
        means = {name: torch.stack([t[name] for t in self.terms]).mean().item() for name in self.terms[0]}
        self.history.append({"epoch": self.current_epoch, **means})
        self.terms = []


class Contrast(Stage):
    """Stage I: a spot's picture and its genes are drawn together, other spots apart."""

    def training_step(self, batch, _):
        loss = contrastive_loss(*self.model.encode(*batch), self.recipe.temperature)
        self.terms.append({"contrastive": loss.detach()})
        return loss


class Fusion(Stage):
    """Stage II (reconstruction and class centres), then III (classifier), one optimiser."""

    def __init__(self, model: SpaCRD, recipe: Recipe, held_out: Spots | None = None):
        super().__init__(model, recipe)
        self.held_out = held_out

    def training_step(self, batch, _):
        output = self.model(batch["image"], batch["genes"], batch["neighbours"])
        terms = fusion_losses(output, batch["labels"], self.model.class_centres)
        fused = (
            terms["reconstruction"]
            + self.recipe.category_weight * terms["category"]
            + self.recipe.separation_weight * terms["separation"]
        )
        watched = {name: term.detach() for name, term in terms.items()}
        self.terms.append({**watched, "fused_variance": output.fused.detach().var(0).mean()})
        if self.current_epoch < self.recipe.fusion_epochs:
            return fused
        return terms["classification"] + self.recipe.fusion_weight * fused

    def on_train_epoch_end(self):
        super().on_train_epoch_end()
        every = self.recipe.watch_every
        if self.held_out is not None and every and (self.current_epoch + 1) % every == 0:
            known = ~torch.isnan(self.held_out.labels)
            labels = self.held_out.labels[known].numpy()
            if 0 < labels.mean() < 1:
                score = predict(self.model, self.held_out)[known.numpy()]
                self.history[-1]["held_out_auc"] = roc_auc_score(labels, score)
            self.model.train()


def _fit(stage: Stage, batches: IterableDataset, epochs: int, device: str) -> None:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # gathered neighbours are added up in their gradient: in a fixed order, or two runs differ in the last digits
        trainer = L.Trainer(max_epochs=epochs, accelerator=device, devices=1, deterministic="warn", **quiet)
        trainer.fit(stage, DataLoader(batches, batch_size=None))
    stage.model.cpu()


def fit(
    train: Spots,
    recipe: Recipe,
    *,
    seed: int,
    variant: str = "described",
    fusion: str = "attention",
    held_out: Spots | None = None,
    device: str = "auto",
) -> tuple[SpaCRD, pd.DataFrame]:
    """Train one model.

    Parameters
    ----------
    train : Spots
        Training sections, scaled. A modality that is None is left out, and with it stage I.
    seed : int
        Weights, dropout and the order of batches.
    held_out : Spots, optional
        Watched for the history, never learnt from.
    device : str
        Lightning's accelerator: "auto", "cpu", "gpu".

    Returns
    -------
    model : SpaCRD
        On the CPU, in evaluation mode.
    history : DataFrame
        One row an epoch: stage, epoch, epoch means of all loss terms, variance of h*, held-out AUC where watched.
    """
    L.seed_everything(seed, verbose=False)
    dims = [0 if x is None else x.shape[1] for x in (train.image, train.genes)]
    model = SpaCRD(*dims, variant=variant, fusion=fusion)
    stages = []
    if all(dims) and recipe.contrastive_epochs:
        contrast = Contrast(model, recipe)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("encoder" in name)
        _fit(contrast, PairBatches(train, recipe.batch_size, seed), recipe.contrastive_epochs, device)
        model.requires_grad_(True)
        stages.append(pd.DataFrame(contrast.history).assign(stage="I contrastive"))
    joint = Fusion(model, recipe, held_out)
    batches = SpotBatches(train, recipe.batch_size, 1 if variant == "released" else recipe.patch_size, seed)
    _fit(joint, batches, recipe.fusion_epochs + recipe.classifier_epochs, device)
    history = pd.DataFrame(joint.history)
    history["stage"] = np.where(history["epoch"] < recipe.fusion_epochs, "II fusion", "III classifier")
    return model.eval(), pd.concat([*stages, history], ignore_index=True)


@torch.inference_mode()
def predict(model: SpaCRD, spots: Spots) -> np.ndarray:
    """Logits of all spots, float32 (n,): higher = more cancer-like. Runs on the model's device."""
    model.eval()
    device = model.class_centres.device
    image, genes = (None if x is None else x.to(device) for x in (spots.image, spots.genes))
    return model(image, genes, spots.neighbours.to(device)).logit.float().cpu().numpy()


class Contender(NamedTuple):
    """What a model sees and how it decides."""

    kind: str  # "marker" | "linear" | "neural"
    image: bool = False
    genes: bool = False
    smoothed: bool = False  # linear: mean over the neighbourhood first
    fusion: str = "attention"
    variant: str = ""  # "" = the study's parameter


CONTENDERS = {
    "marker-smoothed": Contender("marker", genes=True, smoothed=True),
    "linear-genes": Contender("linear", genes=True),
    "linear-genes-smoothed": Contender("linear", genes=True, smoothed=True),
    "linear-image": Contender("linear", image=True),
    "linear-image-smoothed": Contender("linear", image=True, smoothed=True),
    "linear-both": Contender("linear", image=True, genes=True),
    "linear-both-smoothed": Contender("linear", image=True, genes=True, smoothed=True),
    "concatenation": Contender("neural", image=True, genes=True, fusion="concatenation"),
    "spacrd-genes": Contender("neural", genes=True),
    "spacrd-image": Contender("neural", image=True),
    "spacrd": Contender("neural", image=True, genes=True),
    "spacrd-released": Contender("neural", image=True, genes=True, variant="released"),
    "concatenation-genes": Contender("neural", genes=True, fusion="concatenation"),
    "spacrd-genes-released": Contender("neural", genes=True, variant="released"),
}


def applicable(names: Sequence[str], *, image: bool, genes: bool) -> list[str]:
    """The contenders whose modalities a setting has."""
    return [n for n in names if image >= CONTENDERS[n].image and genes >= CONTENDERS[n].genes]


class Result(NamedTuple):
    """One trained contender on one fold."""

    scores: pd.DataFrame  # section, patient, spot, label, split, score
    history: pd.DataFrame  # empty where nothing is trained by epochs
    model: SpaCRD | None


def compete(
    name: str,
    train: Sequence[SectionFeatures],
    test: Sequence[SectionFeatures],
    *,
    recipe: Recipe,
    scaling: str,
    variant: str,
    seed: int,
    device: str = "auto",
) -> Result:
    """Train one contender on a fold and score the spots of its training and test sections.

    Returns
    -------
    Result
        Scores: higher = more cancer-like, each contender on its own scale.
    """
    contender = CONTENDERS[name]
    sections, history, model = [*train, *test], pd.DataFrame(), None
    seen = {"image": contender.image, "genes": contender.genes}
    if contender.kind == "marker":
        absent = [s.name for s in sections if s.marker is None]
        if absent:
            raise ValueError(
                f"the marker gene is missing in section {', '.join(absent)}: set `marker` to a gene all sections have"
            )
        scores = [smooth(s.marker, s.neighbours) for s in sections]
    elif contender.kind == "linear":
        seen["smoothed"] = contender.smoothed
        pipeline = fit_linear(train, **seen)
        scores = [pipeline.decision_function(design(s, **seen)) for s in sections]
    else:
        variant = contender.variant or variant
        if variant == "released":
            recipe = replace(recipe, separation_weight=0.1)
        tensors = [s.tensors(scaling, **seen, anywhere=variant == "released") for s in sections]
        model, history = fit(
            Spots.stack(tensors[: len(train)]),
            recipe,
            seed=seed,
            variant=variant,
            fusion=contender.fusion,
            held_out=Spots.stack(tensors[len(train) :]),
            device=device,
        )
        scores = [predict(model, t) for t in tensors]
    tables = [
        pd.DataFrame(
            {
                "section": s.name,
                "patient": s.patient,
                "spot": s.spots,
                "label": s.labels,
                "split": split,
                "score": score,
            }
        )
        for s, score, split in zip(
            sections, scores, ["train"] * len(train) + ["test"] * len(test), strict=True
        )
    ]
    table = pd.concat(tables, ignore_index=True)
    if not np.isfinite(table["score"]).all():
        raise ValueError(
            f"{name} gave scores that are not finite: lower `learning_rate` or look at the history"
        )
    return Result(table.astype({"score": np.float32}), history, model)


class Unit(NamedTuple):
    """One training run."""

    setting: str
    encoder: str  # "" = genes only
    genes: bool
    fold: Fold
    model: str
    seed: int

    @property
    def name(self) -> str:
        """Names the unit's files."""
        return f"{self.setting}.{self.fold.name}.{self.model}.s{self.seed}"


def plan_units(
    settings: Mapping,
    cohort: pd.DataFrame,
    models: Sequence[str],
    seeds: Sequence[int],
    first_seed_only: Sequence[str] = (),
) -> dict[str, Unit]:
    """All units of a cohort, by name.

    Parameters
    ----------
    settings : mapping of str to setting
        Each with `sections`, `test`, `encoder`, `genes`, `models` (see `lib.spacrd.params.Setting`).
    cohort : DataFrame
        The stage's `cohort.csv`: section, patient, picture.
    models : sequence of str
        Contenders; those that need a modality a setting lacks are left out of it.
    seeds : sequence of int
        For contenders trained by epochs; the others have one answer and run once, as the first seed.
    first_seed_only : sequence of str
        Contenders that are run with the first seed alone, to save time.

    Raises
    ------
    ValueError
        A setting names a section the cohort lacks, or a section without picture although it has an encoder.
    """
    units = {}
    patient_of = dict(zip(cohort["section"], cohort["patient"], strict=True))
    pictured = set(cohort.loc[cohort["picture"].fillna("") != "", "section"])
    for name, setting in settings.items():
        sections = list(setting.sections or patient_of)
        absent = [s for s in (*sections, *setting.test) if s not in patient_of]
        blind = (
            [s for s in (*sections, *setting.test) if s in patient_of and s not in pictured]
            if setting.encoder
            else []
        )
        if absent or blind:
            raise ValueError(
                f"setting {name!r}: section {', '.join(absent or blind)} "
                + (
                    f"is not in the cohort, which has {', '.join(patient_of)}"
                    if absent
                    else "has no picture, but the setting has an encoder"
                )
            )
        if setting.test:
            folds = [fixed_split([s for s in sections if s not in setting.test], setting.test, patient_of)]
        else:
            folds = leave_one_patient_out({s: patient_of[s] for s in sections})
        if not all(fold.train for fold in folds):
            raise ValueError(f"setting {name!r} tests every section it has and leaves no section to train on")
        for fold in folds:
            for model in applicable(
                setting.models or models, image=bool(setting.encoder), genes=setting.genes
            ):
                many = CONTENDERS[model].kind == "neural" and model not in first_seed_only
                for seed in seeds if many else seeds[:1]:
                    unit = Unit(name, setting.encoder, setting.genes, fold, model, seed)
                    units[unit.name] = unit
    return units


class Runs:
    """A cohort's sections and features on disk, and what is trained on them.

    Parameters
    ----------
    folder : path
        `results/<study>/<cohort>/`, with `sections/` and `features/`.
    options : mapping
        The parameters a unit's result depends on: those of `fold_features`, of `Recipe`, `scaling` and `variant`.
    keep_weights_of : int
        Seed whose weights are written.
    device : str
        Where Lightning trains.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any], keep_weights_of: int, device: str = "auto"):
        self.folder, self.options, self.kept, self.device = folder, dict(options), keep_weights_of, device
        self._features = lru_cache(maxsize=2)(self._fold_features)

    def inputs(self, unit: Unit) -> list[Path]:
        """Files a unit reads."""
        names = (*unit.fold.train, *unit.fold.test)
        features = (
            [self.folder / "features" / f"{n}.{unit.encoder}.h5" for n in names] if unit.encoder else []
        )
        return [*(self.folder / "sections" / f"{n}.h5ad" for n in names), *features]

    def outputs(self, unit: Unit) -> list[Path]:
        """Files a unit writes: scores of all its spots; history and weights where it has them."""
        paths = [self.folder / "train" / f"{unit.name}.scores.csv"]
        if CONTENDERS[unit.model].kind == "neural":
            paths.append(self.folder / "train" / f"{unit.name}.history.csv")
            if unit.seed == self.kept:
                paths.append(self.folder / "weights" / f"{unit.name}.safetensors")
        return paths

    def depends(self, unit: Unit) -> dict[str, Any]:
        """What else a unit's result depends on."""
        return {**self.options, "unit": unit._asdict()}

    def train(self, unit: Unit) -> None:
        """Do one unit and write its outputs."""
        # an encoder's numbers do not depend on who learns from them: contenders of one fold share them
        names = (
            unit.encoder,
            unit.genes,
            unit.fold,
            CONTENDERS[unit.model].variant or self.options["variant"],
        )
        train, test = self._features(*names)
        recipe = Recipe(**{k: v for k, v in self.options.items() if k in Recipe.__dataclass_fields__})
        result = compete(
            unit.model,
            train,
            test,
            recipe=recipe,
            scaling=self.options["scaling"],
            variant=self.options["variant"],
            seed=unit.seed,
            device=self.device,
        )
        scores, *others = self.outputs(unit)
        write_csv(result.scores, scores)
        if others:
            write_csv(result.history, others[0])
        for path in others[1:]:
            write_weights(result.model.state_dict(), path)

    def _fold_features(self, encoder, genes, fold, variant):
        names = (*fold.train, *fold.test)
        sections = {n: read_section(self.folder / "sections" / f"{n}.h5ad") for n in names}
        images = None
        if encoder:
            files = {n: read_features(self.folder / "features" / f"{n}.{encoder}.h5") for n in names}
            for n, file in files.items():
                if list(file.names if file.names is not None else ()) != list(sections[n].obs_names):
                    raise ValueError(
                        f"features/{n}.{encoder}.h5 describes other spots than sections/{n}.h5ad: run 2-embed again"
                    )
            images = {n: file.features.astype("float32") for n, file in files.items()}
        return fold_features(
            fold,
            sections,
            images,
            genes=self.options["genes"] if genes else 0,
            marker=self.options["marker"],
            neighbours=self.options["neighbours"],
            neighbour_radius=self.options["neighbour_radius"],
            as_released=variant == "released",
            undetermined=self.options["undetermined"],
        )

"""Train and score one contender on one fold: SpaCRD and its ablations in three stages, and the plain yardsticks."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.utils.data import DataLoader

from lib.features.feature_files import read_features
from lib.spacrd.features import Batches, SectionFeatures, Spots, fold_features, labelled_patches, smooth
from lib.spacrd.model import SpaCRD, contrastive_loss, fused_loss, fusion_losses
from lib.spacrd.params import CONTENDERS, Contender, SpaCRDParams
from lib.spacrd.spots import read_section
from lib.statistics.metrics_table import calibrated
from lib.training.folds import Fold, fixed_split, leave_one_patient_out
from lib.training.runs import Checkpoint, Loop, Result, Run, run

COMPONENTS = 50
PATCH = 512  # spots a patch, see `labelled_patches`
NO_HISTORY = pd.DataFrame(columns=["epoch", "stage"])
WATCH_EVERY = 5  # epochs between two looks at the held-out spots
# parameters that say what a run reads from the disk, or how it is run, but not what is made of it
NOT_OF_A_RUN = {"cohort", "kind", "sections", "phantom", "encoders", "encoder_weights", "crop_um", "settings"}
NOT_OF_A_RUN |= {"models", "seeds", "first_seed_only", "bootstrap_draws", "block_pitches"}
NOT_OF_A_RUN |= {"shard", "shards", "device", "max_failed"}


class Contrast(Loop):
    """Stage I: a spot's picture and its genes are drawn together, other spots apart."""

    def __init__(self, model: SpaCRD, params: SpaCRDParams):
        super().__init__(model)
        self.params = params
        self.terms: list[dict[str, Tensor]] = []

    def descent(self):
        trained = [p for p in self.model.parameters() if p.requires_grad]
        adam = torch.optim.Adam(trained, lr=self.params.learning_rate, fused=True)
        return adam, torch.optim.lr_scheduler.ConstantLR(adam, factor=1.0), "epoch"

    def loss_of(self, batch) -> Tensor:
        loss = contrastive_loss(*self.model.encode(*batch))
        self.terms.append({"contrastive": loss.detach()})
        return loss

    def watched(self) -> dict[str, float]:
        """Epoch means of every term."""
        means = {name: torch.stack([t[name] for t in self.terms]).mean().item() for name in self.terms[0]}
        self.terms = []
        return means


class Fusion(Contrast):
    """Stage II (reconstruction and class centres), then III (classifier), one optimiser.

    `held_out` is looked at every few epochs, to be drawn, and never learnt from.
    """

    def __init__(self, model: SpaCRD, params: SpaCRDParams, held_out: Spots | None = None):
        super().__init__(model, params)
        self.held_out = held_out

    def loss_of(self, batch) -> Tensor:
        """The fused loss, and from stage III on cross-entropy with a tenth of it."""
        output = self.model(batch["image"], batch["genes"], batch["neighbours"])
        terms = fusion_losses(output, batch["labels"], self.model.class_centres)
        detached = {name: term.detach() for name, term in terms.items()}
        self.terms.append({**detached, "fused_variance": output.fused.detach().var(0).mean()})
        fused = fused_loss(terms, self.model.variant)
        if len(self.history) < self.params.fusion_epochs:
            return fused
        return terms["classification"] + 0.1 * fused

    def watched(self) -> dict[str, float]:
        """Epoch means, and now and then the AUC of the held-out spots."""
        row = super().watched()
        if self.held_out is not None and (len(self.history) + 1) % WATCH_EVERY == 0:
            known = ~torch.isnan(self.held_out.labels).numpy()
            labels = self.held_out.labels.numpy()[known]
            if 0 < labels.mean() < 1:
                row["held_out_auc"] = roc_auc_score(labels, predict(self.model, self.held_out)[known])
        return row


def train(
    spots: Spots,
    params: SpaCRDParams,
    *,
    seed: int,
    variant: str = "described",
    fusion: str = "attention",
    held_out: Spots | None = None,
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008  never changed
) -> tuple[SpaCRD, pd.DataFrame]:
    """Train one model.

    `spots` are those of the training sections, scaled; a modality that is None is left out, and with it stage I. `seed`
    decides on weights, dropout and the order of batches. `held_out` is watched for the history, never learnt from.
    `checkpoint` is that of stages II and III, which take nearly all of the time. The model comes back on the CPU, in evaluation
    mode; its history has one row an epoch: stage, epoch, means of all loss terms, variance of h*, held-out AUC where watched.
    """
    L.seed_everything(seed, verbose=False)
    dims = [0 if x is None else x.shape[1] for x in (spots.image, spots.genes)]
    model = SpaCRD(*dims, variant=variant, fusion=fusion)

    def done(loop: Loop, batches: Batches, epochs: int, to: Checkpoint = Checkpoint()) -> pd.DataFrame:  # noqa: B008
        random = {"order": torch.Generator(), "drawing": batches.random, "device": params.device}
        history = run(loop, DataLoader(batches, batch_size=None), epochs, checkpoint=to, **random)
        return history.drop(columns=["loss", "chosen"])

    histories = []
    if all(dims) and params.contrastive_epochs:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("encoder" in name)
        single = np.arange(len(spots))[:, None]
        pairs = Batches(single, params.batch_size, seed, lambda rows: (spots.image[rows], spots.genes[rows]))
        history = done(Contrast(model, params), pairs, params.contrastive_epochs)
        histories.append(history.assign(stage="I contrastive"))
        model.requires_grad_(True).train()  # the first loop left it in evaluation
    released = variant == "released"
    pieces = labelled_patches(spots, 1 if released else PATCH)
    # there a lone last spot is a batch of its own: its neighbours' copies give statistics
    least = 1 if released and params.neighbours > 1 else 2
    batches = Batches(pieces, params.batch_size, seed, spots.batch, least)
    epochs = params.fusion_epochs + params.classifier_epochs
    history = done(Fusion(model, params, held_out), batches, epochs, checkpoint)
    history["stage"] = np.where(history["epoch"] < params.fusion_epochs, "II fusion", "III classifier")
    return model, pd.concat([*histories, history], ignore_index=True)


@torch.inference_mode()
def predict(model: SpaCRD, spots: Spots) -> np.ndarray:
    """Logits of all spots, float32 (n,): higher = more cancer-like. Runs on the model's device."""
    model.eval()
    device = model.class_centres.device
    image, genes = (None if x is None else x.to(device) for x in (spots.image, spots.genes))
    return model(image, genes, spots.neighbours.to(device)).logit.float().cpu().numpy()


def design(section: SectionFeatures, sees: Contender) -> np.ndarray:
    """Unscaled features side by side (n, p), each the mean over the neighbourhood where the contender smooths."""
    parts = [part for part, used in ((section.image, sees.image), (section.genes, sees.genes)) if used]
    parts = [smooth(part, section.neighbours) if sees.smoothed else part for part in parts]
    return np.concatenate(parts, 1, dtype=np.float64)


def fit_linear(sections: Sequence[SectionFeatures], sees: Contender) -> Pipeline:
    """z-score, at most 50 components, logistic regression (C = 0.01, classes balanced, sections weighted alike).

    Everything is fitted on the labelled spots of the training sections, the components on all their spots.
    """
    features = np.concatenate([design(s, sees) for s in sections])
    labels = np.concatenate([s.labels for s in sections])
    weights = np.concatenate([np.full(len(s.labels), 1 / len(s.labels)) for s in sections])
    known = ~np.isnan(labels)
    components = min(COMPONENTS, *features.shape)
    project = make_pipeline(StandardScaler(), PCA(components, random_state=0)).fit(features)
    regression = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
    scaled = weights[known] / weights[known].mean()
    regression.fit(project.transform(features[known]), labels[known].astype(int), sample_weight=scaled)
    return make_pipeline(*(step for _, step in project.steps), regression)


def components(sections: Sequence[SectionFeatures], sees: Contender, number: int = 5) -> list[np.ndarray]:
    """The first principal components (n, number) of what a contender sees, z-scored a section; no label is used."""
    features = [StandardScaler().fit_transform(design(s, sees)) for s in sections]
    together = np.concatenate(features)
    fitted = PCA(min(number, *together.shape), random_state=0).fit(together)
    return [fitted.transform(each) for each in features]


def compete(
    name: str,
    training: Sequence[SectionFeatures],
    test: Sequence[SectionFeatures],
    params: SpaCRDParams,
    seed: int,
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008  never changed
) -> tuple[list[np.ndarray], pd.DataFrame, SpaCRD | None]:
    """Train one contender on a fold.

    Returned are scores of every spot of each training section and each test section, in this order, higher = more
    cancer-like; history and model as of `train`, empty and None where nothing is trained by epochs.
    """
    sees, sections = CONTENDERS[name], [*training, *test]
    if sees.kind == "marker":
        if absent := [s.name for s in sections if s.marker is None]:
            raise ValueError(f"section {', '.join(absent)} lacks {params.marker}: set another `marker`")
        return [smooth(s.marker, s.neighbours) for s in sections], NO_HISTORY, None
    if sees.kind == "linear":
        pipeline = fit_linear(training, sees)
        return [pipeline.decision_function(design(s, sees)) for s in sections], NO_HISTORY, None
    variant = sees.variant or params.variant
    shown = {"image": sees.image, "genes": sees.genes, "anywhere": variant == "released"}
    spots = [s.tensors(params.scaling, **shown) for s in sections]
    seen, held_out = Spots.stack(spots[: len(training)]), Spots.stack(spots[len(training) :])
    how = {"variant": variant, "fusion": sees.fusion, "held_out": held_out, "checkpoint": checkpoint}
    model, history = train(seen, params, seed=seed, **how)
    return [predict(model, each) for each in spots], history, model


def settings_of(params: SpaCRDParams, cohort: pd.DataFrame) -> dict[str, tuple[list[Fold], list[str]]]:
    """Each setting's folds, one a patient or the named split, and the contenders that fit it; for `plan_runs`.

    `cohort` is `cohort.csv`: section, patient, picture (empty where there is none). Refused: a setting that names a
    section the cohort lacks, or one without picture although it has an encoder, or tests all.
    """
    plan = {}
    everyone = dict(zip(cohort["section"], cohort["patient"], strict=True))
    pictured = cohort.loc[cohort["picture"].fillna("") != "", "section"].tolist()
    for name, setting in params.settings.items():
        sections, known = setting.sections or [*everyone], pictured if setting.encoder else [*everyone]
        if lost := [section for section in (*sections, *setting.test) if section not in known]:
            what = "section with a picture (it has an encoder)" if setting.encoder else "section"
            raise ValueError(f"setting {name!r}: {lost[0]} is no {what} of the cohort: {', '.join(known)}")
        if setting.test:
            folds = [fixed_split([s for s in sections if s not in setting.test], setting.test, everyone)]
        else:
            folds = leave_one_patient_out({s: everyone[s] for s in sections})
        if not all(fold.train for fold in folds):
            raise ValueError(f"setting {name!r} tests every section it has and leaves none to train on")
        plan[name] = (folds, [m for m in setting.models or params.models if params.sees(setting, m)])
    return plan


class Data:
    """A cohort on disk: `folder` is `results/spacrd/<cohort>/`, with `sections/` and `features/`."""

    def __init__(self, folder: Path, params: SpaCRDParams):
        self.folder, self.params = folder, params
        # what a fold's contenders see does not depend on who learns from it: they share it
        self._features = lru_cache(maxsize=2)(self._read)

    def files(self, run: Run) -> list[Path]:
        names, encoder = (*run.fold.train, *run.fold.test), self.params.settings[run.setting].encoder
        features = [self.folder / "features" / f"{n}.{encoder}.h5" for n in names] if encoder else []
        return [*(self.folder / "sections" / f"{n}.h5ad" for n in names), *features]

    def depends(self, run: Run) -> dict[str, Any]:
        setting = self.params.settings[run.setting]
        about = {"encoder": setting.encoder, "genes_seen": setting.genes}
        return self.params.model_dump(exclude=NOT_OF_A_RUN) | about

    def features(self, run: Run) -> tuple[list[SectionFeatures], list[SectionFeatures]]:
        setting = self.params.settings[run.setting]
        variant = CONTENDERS[run.model].variant or self.params.variant
        return self._features(setting.encoder, setting.genes, run.fold, variant == "released")

    def _read(self, encoder: str, genes: bool, fold: Fold, as_released: bool):
        names = (*fold.train, *fold.test)
        sections = {n: read_section(self.folder / "sections" / f"{n}.h5ad") for n in names}
        images = {n: self._image(n, encoder, sections[n]) for n in names} if encoder else None
        return fold_features(fold, sections, images, self.params, genes, as_released)

    def _image(self, name: str, encoder: str, section: AnnData) -> np.ndarray:
        file = read_features(self.folder / "features" / f"{name}.{encoder}.h5")
        if list(file.names if file.names is not None else ()) != list(section.obs_names):
            raise ValueError(
                f"features/{name}.{encoder}.h5 has other spots than the section: run 2-embed again"
            )
        return file.features.astype("float32")


def fit(run: Run, data: Data, checkpoint: Checkpoint = Checkpoint()) -> Result:  # noqa: B008  never changed
    """Do one run: its test spots' scores (logit; higher = more cancer-like) and calibrated probabilities.

    The probability is Platt's fit on the run's training spots. Scores of different models and sections are not on one
    scale: they are compared within a section.
    """
    training, test = data.features(run)
    found, history, model = compete(run.model, training, test, data.params, run.seed, checkpoint)
    rows = []
    for i, (s, score) in enumerate(zip([*training, *test], found, strict=True)):
        about = {"patient": s.patient, "section": s.name, "spot": s.spots, "label": s.labels}
        about |= {"split": "train" if i < len(training) else "test", "score": score.astype(np.float32)}
        rows.append(pd.DataFrame(about))
    scores = pd.concat(rows, ignore_index=True)
    if not np.isfinite(scores["score"]).all():
        raise ValueError(f"{run.model} gave scores that are not finite: lower `learning_rate`")
    return Result(calibrated(scores), history, model.state_dict() if model else {})

"""Train SpaCRD: stage I by contrast, stages II and III in one model (Lightning does the loops)."""

import logging
import warnings
from dataclasses import dataclass

import lightning as L
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lib.models.spacrd import SpaCRD, contrastive_loss, fusion_losses
from lib.training.batches import SpotBatches, Spots


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

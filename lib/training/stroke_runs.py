"""Carry out the training runs of the stroke study: read series, train, write probabilities, history and weights."""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from lib.features.series_files import read_series_features
from lib.files import file_digest, write_csv
from lib.inputs.clinical import variables
from lib.models.clinical_tokens import ClinicalTokens
from lib.models.stroke import StrokeNet
from lib.models.volume_encoder import VolumeEncoder
from lib.models.wide_attention import WideAttention
from lib.training.folds import Fold, nested
from lib.training.loop import Loop
from lib.training.stroke import fit, logits
from lib.training.stroke_cases import Case, cases, filled, unknown
from lib.training.stroke_contenders import CONTENDERS, VOLUMES, builder, columns, logistic
from lib.training.stroke_plan import SCAN, Unit
from lib.training.stroke_recipe import Recipe
from lib.training.warm_restarts import warm_restarts
from lib.training.weight_files import write_weights

MEMORY = 2**32  # bytes of series kept for the next epoch; the others are read again
RESUMED = (fit, Loop, Case, StrokeNet, VolumeEncoder, WideAttention, ClinicalTokens, warm_restarts)
HISTORY = ["part", "epoch", "loss", "held_out_auc", "chosen"]


class Runs:
    """A cohort's patients with their series, and what is trained on them.

    Parameters
    ----------
    folder : path
        `results/<study>/<cohort>/`.
    cohort : DataFrame
        Indexed by patient: label (1 unfavourable), the clinical variables, the volumes.
    options : mapping
        What a run depends on: `variant`, `shape`, `frames`, and the fields of `Recipe`.
    keep_weights_of : int
        Seed whose weights are written.
    device : str

    Notes
    -----
    A clinical variable that no training patient has (ISLES'24 has no smoking) is left out of a logistic regression,
    masked for everybody in a network, and 0 for everybody in one that knows no mask (`released`): the same for a
    held-out patient who has it, as nothing could be learnt of it. Other gaps are masked, or filled from the training
    patients, see `lib.training.stroke_cases.filled`. A volume that no training patient has is refused.
    """

    def __init__(
        self,
        folder: Path,
        cohort: pd.DataFrame,
        options: Mapping[str, Any],
        keep_weights_of: int,
        device: str = "auto",
    ):
        self.folder, self.cohort, self.options = folder, cohort, dict(options)
        self.kept, self.device = keep_weights_of, device
        size = 4 * options["frames"] * int(np.prod(options["shape"]))
        self._series = lru_cache(maxsize=max(1, MEMORY // size))(self._read)

    def series_path(self, patient: str) -> Path:
        """A patient's series as the networks take it."""
        return self.folder / "features" / f"{patient}.h5"

    def inputs(self, unit: Unit) -> list[Path]:
        """Files a run reads."""
        if CONTENDERS[unit.model].kind == "logistic" or not CONTENDERS[unit.model].series:
            return []
        return [self.series_path(name) for name in (*unit.fold.train, *unit.fold.test)]

    def outputs(self, unit: Unit) -> list[Path]:
        """Files a run writes: probabilities of the held-out patients, history, weights of the first seed."""
        paths = [self.folder / "train" / f"{unit.name}.{what}.csv" for what in ("scores", "history")]
        if unit.seed == self.kept and CONTENDERS[unit.model].kind == "network":
            paths.append(self.folder / "weights" / f"{unit.name}.safetensors")
        return paths

    def depends(self, unit: Unit) -> dict[str, Any]:
        """What else a run's result depends on."""
        rows = self.cohort.loc[[*unit.fold.train, *unit.fold.test], ["label", *self._columns(unit)]]
        known = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
        return {**self.options, "unit": unit._asdict(), "patients": known}

    def train(self, unit: Unit) -> None:
        """Do one run and write its outputs."""
        scores, history, *weights = self.outputs(unit)
        if CONTENDERS[unit.model].kind == "logistic":
            score, epochs = self._logistic(unit), pd.DataFrame(columns=HISTORY)
        else:
            model, held_out, epochs = self._network(unit)
            score = logits(model, held_out, self.options["batch"])
            for path in weights:
                write_weights(model.state_dict(), path)
        table = pd.DataFrame({"patient": unit.fold.test, "score": score, "probability": expit(score)})
        write_csv(table, scores)
        write_csv(epochs[HISTORY], history)

    def _logistic(self, unit: Unit) -> np.ndarray:
        train, test = list(unit.fold.train), list(unit.fold.test)
        names = columns(unit.model, unit.setting)
        lost = unknown(self.cohort[[name for name in names if name not in VOLUMES]], train)
        table = filled(self.cohort[[name for name in names if name not in lost]], train)
        volumes = [name for name in VOLUMES if name in table]
        table[volumes] = np.log1p(table[volumes])
        model = logistic(table.loc[train], self.cohort.loc[train, "label"], unit.seed)
        return model.decision_function(table.loc[test])

    def _network(self, unit: Unit) -> tuple[StrokeNet, list[Case], pd.DataFrame]:
        build, recipe, gapless = self._builder(unit)
        setting = variables_of(unit.setting)
        train = partial(fit, build, recipe=recipe, seed=unit.seed, device=self.device)
        told, stop = [], 0
        if recipe.inner_folds and "epoch_by_test" not in recipe.quirks:
            for inner in self.inner(unit.fold, recipe.inner_folds, unit.seed):
                trained = train(
                    *self._sides(inner, setting, recipe, gapless), **self._resume(unit, inner.name)
                )
                told.append(trained.history.assign(part=inner.name, chosen=False))
            mean = pd.concat(told).groupby("epoch")["held_out_auc"].mean()
            stop = int(mean.idxmax()) + 1
        learnt, held_out = self._sides(unit.fold, setting, recipe, gapless)
        trained = train(learnt, held_out, stop_after=stop, **self._resume(unit, "whole"))
        told.append(trained.history.assign(part="whole"))
        return trained.model, held_out, pd.concat(told, ignore_index=True)

    def untrained(self, model: str, fold: Fold, setting: str) -> tuple[StrokeNet, list[Case]]:
        """A network as `train` builds it, and the held-out cases of a fold."""
        build, recipe, gapless = self._builder(Unit(setting, fold, model, self.kept))
        return build(), self._sides(fold, setting, recipe, gapless)[1]

    def _builder(self, unit: Unit):
        known = Recipe.__dataclass_fields__
        recipe = Recipe(**{name: value for name, value in self.options.items() if name in known})
        shape, frames, variant = (self.options[name] for name in ("shape", "frames", "variant"))
        return builder(unit.model, variables_of(unit.setting), shape, frames, recipe, variant)

    def inner(self, fold: Fold, k: int, seed: int) -> list[Fold]:
        """Folds within the training patients of a fold, balanced by outcome."""
        return nested(fold, {name: name for name in self.cohort.index}, dict(self.cohort["label"]), k, seed)

    def _sides(
        self, fold: Fold, setting: str, recipe: Recipe, gapless: bool
    ) -> tuple[list[Case], list[Case]]:
        """Training and held-out cases of a fold."""
        table = self.cohort[list(variables(setting))]
        table = table.assign(**dict.fromkeys(unknown(table, fold.train), 0.0 if gapless else np.nan))
        if gapless:
            table = filled(table, fold.train)
        everybody = (*fold.train, *fold.test)
        scaled_on = everybody if "scaler_on_all" in recipe.quirks else fold.train

        def ready(people: Sequence[str]) -> list[Case]:
            label = self.cohort["label"]
            return cases(people, scaled_on, table, label, setting, lambda name: partial(self._series, name))

        return ready(fold.train), ready(fold.test)

    def _resume(self, unit: Unit, part: str) -> dict[str, Any]:
        """Where a half-trained model lies, and of what it is: it goes on only if nothing changed."""
        files = [(path.name, file_digest(path)) for path in self.inputs(unit)]
        code = [Path(inspect.getfile(one)).read_text(encoding="utf-8") for one in RESUMED]
        told = json.dumps([self.depends(unit), part, files, code], sort_keys=True, default=str)
        path = self.folder / "train" / f"{unit.name}.{part}.checkpoint.safetensors"
        return {"checkpoint": path, "key": hashlib.sha256(told.encode()).hexdigest()}

    def _columns(self, unit: Unit) -> list[str]:
        if CONTENDERS[unit.model].kind == "logistic":
            return columns(unit.model, unit.setting)
        return list(variables(unit.setting)) if CONTENDERS[unit.model].clinical else []

    def _read(self, patient: str) -> np.ndarray:
        return read_series_features(self.series_path(patient))


def variables_of(setting: str) -> str:
    """The clinical setting a network is built for; one that sees the scan alone has the tokens of none of them."""
    return "admission" if setting == SCAN else setting

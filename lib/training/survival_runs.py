"""Carry out the training runs of the CrossFusion study: read bags, train, write risks, history and weights."""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.features.bag_files import bag_files
from lib.features.bags import Bag, patient_bag, read_bag
from lib.files import file_digest, write_csv
from lib.training.discrete_time import survival_nll
from lib.training.folds import stratified_folds
from lib.training.loop import Loop
from lib.training.survival import fit, scores, survival_at
from lib.training.survival_cases import Case
from lib.training.survival_contenders import CONTENDERS, builder
from lib.training.survival_plan import Unit
from lib.training.survival_recipe import Recipe
from lib.training.weight_files import write_weights

ASIDE = 5  # a fifth of the training patients chooses the epoch
MEMORY = 2**31  # bytes of features kept for the next epoch; the others are read again


class Runs:
    """A cohort's slides with their features, and what is trained on them.

    Parameters
    ----------
    folder : path
        `results/<study>/<cohort>/`.
    features : path
        Folder of one encoder's features, see `lib.features.bags`.
    cohort : DataFrame
        Indexed by patient: time_months, event.
    slides : DataFrame
        patient, slide: slides with features.
    options : mapping
        The parameters a run depends on: `variant`, `grid` (months at which survival is written) and those of `Recipe`.
    keep_weights_of : int
        Seed whose weights are written.
    device : str
    """

    def __init__(
        self,
        folder: Path,
        features: Path,
        cohort: pd.DataFrame,
        slides: pd.DataFrame,
        options: Mapping[str, Any],
        keep_weights_of: int,
        device: str = "auto",
    ):
        self.folder, self.features, self.cohort = folder, features, cohort
        self.slides = slides.groupby("patient")["slide"].apply(sorted).to_dict()
        self.options, self.kept, self.device = dict(options), keep_weights_of, device
        sizes = [path.stat().st_size for s in slides["slide"] for path in bag_files(features, s).values()]
        mean_bytes = sum(sizes) / max(1, len(self.slides))
        self._bag = lru_cache(maxsize=int(MEMORY / max(1.0, mean_bytes)))(self._read)

    def inputs(self, unit: Unit) -> list[Path]:
        """Files a run reads."""
        people = (*unit.fold.train, *unit.fold.test)
        return [
            path
            for p in people
            for slide in self.slides[p]
            for path in bag_files(self.features, slide).values()
        ]

    def outputs(self, unit: Unit) -> list[Path]:
        """Files a run writes: risks and survival of the held-out patients, history, weights of the first seed."""
        paths = [self.folder / "train" / f"{unit.name}.{what}.csv" for what in ("risks", "history")]
        if unit.seed == self.kept:
            paths.append(self.folder / "weights" / f"{unit.name}.safetensors")
        return paths

    def depends(self, unit: Unit) -> dict[str, Any]:
        """What else a run's result depends on."""
        people = [*unit.fold.train, *unit.fold.test]
        outcome = self.cohort.loc[people, ["time_months", "event"]].to_numpy().tolist()
        return {**self.options, "unit": unit._asdict(), "outcome": outcome}

    def train(self, unit: Unit) -> None:
        """Do one run and write its outputs."""
        known = Recipe.__dataclass_fields__
        recipe = Recipe(**{name: value for name, value in self.options.items() if name in known})
        dim = self._bag((self.slides[unit.fold.train[0]][0],))[20].features.shape[1]
        build, recipe = builder(unit.model, dim, recipe, self.options["variant"])
        by_slide = "slide_unit" in recipe.quirks
        people, aside = list(unit.fold.train), []
        if recipe.nested and "best_epoch" not in recipe.quirks:
            event = dict(self.cohort["event"])
            inner = stratified_folds({p: p for p in people}, event, ASIDE, unit.seed)[0]
            people, aside = list(inner.train), list(inner.test)
        held_out = self.cases(unit.fold.test, by_slide)
        trained = fit(
            build,
            self.cases(people, by_slide),
            held_out,
            recipe,
            aside=self.cases(aside, by_slide),
            seed=unit.seed,
            device=self.device,
            checkpoint=self.folder / "train" / f"{unit.name}.checkpoint.safetensors",
            key=self._key(unit),
        )
        risk, survival = scores(trained.model, held_out)
        told = survival_at(survival, trained.edges, self.options["grid"])
        table = pd.DataFrame({"patient": [c.patient for c in held_out], "score": risk})
        table[[f"survival_{at:g}" for at in self.options["grid"]]] = told
        risks, history, *weights = self.outputs(unit)
        # a patient whose slides were scored one by one has the mean of them
        write_csv(table.groupby("patient", sort=False).mean().reset_index(), risks)
        write_csv(trained.history, history)
        for path in weights:
            write_weights(
                trained.model.state_dict(), path, {"edges": np.array2string(trained.edges, separator=",")}
            )

    def _key(self, unit: Unit) -> str:
        """Of all that a half-trained run depends on: it goes on from its checkpoint only if nothing changed."""
        files = [(path.name, file_digest(path)) for path in self.inputs(unit)]
        code = [
            Path(inspect.getfile(part)).read_text(encoding="utf-8")
            for part in (fit, Loop, Case, survival_nll, CONTENDERS[unit.model].model)
        ]
        told = json.dumps([self.depends(unit), files, code], sort_keys=True, default=str)
        return hashlib.sha256(told.encode()).hexdigest()

    def cases(self, people: Sequence[str], by_slide: bool = False) -> list[Case]:
        """Patients with all their slides in one bag, or every slide a case of its own."""
        found = []
        for patient in people:
            groups = [(s,) for s in self.slides[patient]] if by_slide else [tuple(self.slides[patient])]
            time, event = self.cohort.loc[patient, ["time_months", "event"]]
            for names in groups:
                read = partial(self._bag, names)
                found.append(Case("+".join(names), patient, read, float(time), int(event)))
        return found

    def _read(self, names: tuple[str, ...]) -> Bag:
        return patient_bag([read_bag(self.features, name) for name in names])

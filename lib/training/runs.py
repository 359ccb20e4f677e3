"""Carry out training units: read features, train, write predictions, history and weights."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from lib.features.feature_files import read_features
from lib.files import write_csv
from lib.inputs.section_files import read_section
from lib.training.contenders import CONTENDERS, compete
from lib.training.fold_features import fold_features
from lib.training.plan import Unit
from lib.training.spacrd import Recipe
from lib.training.weight_files import write_weights


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

"""The training runs of the stroke study: one contender, on one fold, with one seed, given some clinical variables."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lib.training.folds import Fold
from lib.training.stroke_contenders import CONTENDERS

SCAN = "scan"  # where a model sees no clinical variable, one run serves every setting


class Unit(NamedTuple):
    """One training run."""

    setting: str
    fold: Fold
    model: str
    seed: int

    @property
    def name(self) -> str:
        """Names the run's files."""
        return f"{self.setting}.{self.fold.name}.{self.model}.s{self.seed}"


def plan_units(
    folds: Sequence[Fold],
    models: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    first_seed_only: Sequence[str] = (),
) -> dict[str, Unit]:
    """All runs, by name.

    Parameters
    ----------
    folds : sequence of Fold
    models : mapping
        Setting -> contenders. `late-fusion` is no run: it is made of `ctp` and `clinical-branch`.
    seeds : sequence of int
    first_seed_only : sequence of str
        Contenders run with the first seed alone; a logistic regression always is.
    """
    units = {}
    for setting, names in models.items():
        for fold in folds:
            for model in names:
                kind = CONTENDERS[model].kind
                if kind == "late":
                    continue
                once = kind == "logistic" or model in first_seed_only
                for seed in seeds[:1] if once else seeds:
                    unit = Unit(setting if CONTENDERS[model].clinical else SCAN, fold, model, seed)
                    units[unit.name] = unit
    return units


def settings_of(unit: Unit, models: Mapping[str, Sequence[str]]) -> list[str]:
    """The settings a run's predictions count in."""
    return (
        [unit.setting] if unit.setting != SCAN else [s for s, names in models.items() if unit.model in names]
    )

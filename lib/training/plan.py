"""The work units of a study: one contender, trained on one fold of one setting with one seed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from lib.training.contenders import CONTENDERS, applicable
from lib.training.folds import Fold, fixed_split, leave_one_patient_out


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
        Each with `sections`, `test`, `encoder`, `genes`, `models` (see `lib.study.spacrd.Setting`).
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

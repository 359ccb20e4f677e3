"""The parameters of the CrossFusion study. The defaults are the demo, so that Run All works on a fresh clone."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from lib.study.params import Checked

NUMBERS = ("age", "female", "stage", "grade")
CATEGORIES = ("oncotree_code",)


class Phantom(Checked):
    """What the phantom generator is asked for; see `lib.phantoms.survival`. Effects are log hazard ratios per SD."""

    seed: int = 2
    patients: int = Field(240, ge=20)
    age_effect: float = 0.4
    stage_effect: float = 0.4
    slide_effect: float = 0.8


class CrossFusionParams(Checked):
    """Parameters of `notebooks/crossfusion/`, in the order of the notebooks' parameter cell.

    Paths count from data/raw, where a cohort's sources of data/sources.yaml are fetched to.

    Attributes
    ----------
    outcomes : str
        Table of slides with the outcome of their patients; "" for a phantom.
    clinical_table : str
        TCGA-CDR, for stage and grade; "" leaves both out.
    official_folds : str
        Folder of `splits_{k}.csv`; "" draws `folds` folds stratified by event.
    clinical : list of str
        Columns of the clinical Cox baseline.
    predictions : dict
        Model -> where its stored predictions are: a folder of MCAT's results, or (phantom) "planted".
    horizons : list of float
        Months at which survival is asked for; the last one is the limit of the IPCW c-index and the Brier integral.
    """

    cohort: str = Field("demo", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    kind: Literal["phantom", "open", "gated"] = "phantom"
    # 1-preprocess
    outcomes: str = ""
    clinical_table: str = ""
    official_folds: str = ""
    folds: int = Field(5, ge=2)
    phantom: Phantom | None = Phantom()
    clinical: list[Literal[NUMBERS + CATEGORIES]] = Field(["age", "female", "stage"], min_length=1)
    seed: int = 1
    # 4-evaluate
    predictions: dict[str, str] = {"phantom:seen": "planted", "phantom:blind": "planted"}
    horizons: list[float] = Field([12.0, 36.0, 60.0], min_length=2)
    bootstrap_draws: int = Field(1000, ge=100)
    # how to run
    shard: int = Field(0, ge=0)
    shards: int = Field(1, ge=1)
    device: Literal["auto", "cpu", "gpu"] = "auto"
    max_failed: int = Field(0, ge=0)

    @field_validator("horizons")
    @classmethod
    def ascending(cls, horizons: list[float]) -> list[float]:
        if horizons[0] <= 0 or horizons != sorted(set(horizons)):
            raise ValueError("horizons are months above 0, in ascending order")
        return horizons

    @model_validator(mode="after")
    def fits_together(self) -> "CrossFusionParams":
        if (self.phantom is None) == (not self.outcomes):
            raise ValueError(
                "give either `phantom` or `outcomes` (the table of outcomes), not both or neither"
            )
        if (stray := {"stage", "grade"} & set(self.clinical)) and not (self.clinical_table or self.phantom):
            raise ValueError(
                f"`clinical` lists {', '.join(sorted(stray))}, which comes from `clinical_table`: name it"
            )
        if self.phantom is None and "planted" in self.predictions.values():
            raise ValueError('only a phantom has "planted" predictions')
        if self.shard >= self.shards:
            raise ValueError(f"shard {self.shard} of {self.shards} shards does not exist: count from 0")
        return self

"""The parameters of the CrossFusion study. The defaults are the demo, so that Run All works on a fresh clone."""

from typing import Literal

from pydantic import Field, NonNegativeInt, field_validator, model_validator

from lib.params import Checked

NUMBERS = ("age", "female", "stage", "grade")
CATEGORIES = ("oncotree_code",)
# Written out, not imported: checking a YAML must not take the seconds that torch needs to load.
QUIRKS = ("dropout_in_evaluation", "rate_to_zero", "slide_unit", "cohort_bins", "best_epoch")
CONTENDERS = (
    "crossfusion",
    "crossfusion-concat",
    "crossfusion-single",
    "crossfusion-released",
    *(f"crossfusion+{quirk}" for quirk in QUIRKS),
    "amil",
    "dsmil",
    "transmil",
    "mean-pool",
)


class Phantom(Checked):
    """What the phantom generator is asked for; see `lib.crossfusion.phantom`. Effects are log hazard ratios per SD."""

    seed: int = Field(2, ge=0)
    patients: int = Field(160, ge=20)
    age_effect: float = 0.4
    stage_effect: float = 0.4
    slide_effect: float = 2.5


class CrossFusionParams(Checked):
    """Parameters of `notebooks/crossfusion/`, in the order of the notebooks' parameter cell.

    Paths count from data/raw, where a cohort's sources of data/sources.yaml are fetched to.

    Attributes
    ----------
    outcomes : str
        Table of slides with the outcome of their patients; "" for a phantom, and for slides without follow-up,
        which are tiled and embedded and go no further.
    clinical_table : str
        TCGA-CDR, for stage and grade; "" leaves both out.
    official_folds : str
        Folder of `splits_{k}.csv`; "" draws `folds` folds stratified by event.
    clinical : list of str
        Columns of the clinical Cox baseline.
    slides : str
        Folder with slides; "" for a phantom, or where there are none.
    um_per_px : dict
        Slide -> µm per level-0 pixel, where the file does not say it or is wrong.
    tiling : str
        "exact", one grid in µm, or "clam_compat", CLAM's tiles under `preset`.
    features : str
        Folder with features made elsewhere (CLAM, TRIDENT, STAMP, CrossFusion's own); then no slide is read.
    models, seeds, first_seed_only
        Contenders; those listed last run with the first seed alone.
    variant : str
        "released" gives every model all habits of the released code, see `lib.crossfusion.train.QUIRKS`.
    epochs, learning_rate, weight_decay, accumulate, bins, alpha, balanced, cap, width, heads, bf16, standardise,
    nested
        See `lib.crossfusion.train.Recipe`.
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
    folds: int = Field(3, ge=2)
    phantom: Phantom | None = Phantom()
    clinical: list[Literal[NUMBERS + CATEGORIES]] = Field(["age", "female", "stage"], min_length=1)
    seed: int = Field(1, ge=0)
    slides: str = ""
    um_per_px: dict[str, float] = {}
    tiling: Literal["exact", "clam_compat"] = "exact"
    preset: str = "tcga"
    tile_px: int = Field(256, ge=32)
    least_tissue: float = Field(0.5, ge=0, le=1)
    # 2-embed
    encoder: str = "colour"
    encoder_weights: str = ""
    features: str = ""
    most_failed: float = Field(0.02, ge=0, le=1)
    # 3-train
    models: list[Literal[CONTENDERS]] = ["crossfusion", "crossfusion-released", "amil", "mean-pool"]
    seeds: list[NonNegativeInt] = Field([1], min_length=1)
    first_seed_only: list[Literal[CONTENDERS]] = []
    variant: Literal["described", "released"] = "described"
    epochs: int = Field(7, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(4e-6, ge=0)
    accumulate: int = Field(2, ge=1)
    bins: int = Field(4, ge=2)
    alpha: float = Field(0.2, ge=0, le=1)
    balanced: bool = True
    cap: int = Field(0, ge=0)
    width: int = Field(128, ge=8)
    heads: int = Field(8, ge=1)
    bf16: bool = False
    standardise: bool = True
    nested: bool = False
    # 4-evaluate
    predictions: dict[str, str] = {"phantom:seen": "planted", "phantom:blind": "planted"}
    horizons: list[float] = Field([12.0, 36.0, 60.0], min_length=2)
    bootstrap_draws: int = Field(1000, ge=100)
    # how to run
    shard: int = Field(0, ge=0)
    shards: int = Field(1, ge=1)
    device: Literal["auto", "cpu", "gpu"] = "auto"
    max_failed: int = Field(0, ge=0)

    @property
    def followed(self) -> bool:
        """Whether there are outcomes to learn from."""
        return bool(self.outcomes) or self.phantom is not None

    @field_validator("horizons")
    @classmethod
    def ascending(cls, horizons: list[float]) -> list[float]:
        if horizons[0] <= 0 or horizons != sorted(set(horizons)):
            raise ValueError("horizons are months above 0, in ascending order")
        return horizons

    @model_validator(mode="after")
    def fits_together(self) -> "CrossFusionParams":
        if (self.phantom is None) == (not (self.outcomes or self.slides)):
            raise ValueError(
                "give either `phantom` or `outcomes` (the table of outcomes) or `slides` alone, not both or neither"
            )
        if (stray := {"stage", "grade"} & set(self.clinical)) and self.outcomes and not self.clinical_table:
            raise ValueError(
                f"`clinical` lists {', '.join(sorted(stray))}, which comes from `clinical_table`: name it"
            )
        if self.phantom is None and "planted" in self.predictions.values():
            raise ValueError('only a phantom has "planted" predictions')
        if self.shard >= self.shards:
            raise ValueError(f"shard {self.shard} of {self.shards} shards does not exist: count from 0")
        return self

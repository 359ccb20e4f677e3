"""The parameters of the CrossFusion study, and its contenders. The defaults are the demo."""

from typing import Literal, NamedTuple

from pydantic import Field, NonNegativeInt, model_validator

from lib.params import Checked, StudyParams

NUMBERS = ("age", "female", "stage", "grade")
CATEGORIES = ("oncotree_code",)
# Habits of the released code: dropout also in evaluation; a learning rate that falls to zero at every tenth epoch;
# slides as cases; bins that saw the held-out patients; the epoch that was best on them.
HABITS = ("dropout_in_evaluation", "rate_to_zero", "slide_unit", "cohort_bins", "best_epoch")


class Contender(NamedTuple):
    """A network of `lib.crossfusion.train.NETWORKS`, how it fuses its streams, habits of the released code it has."""

    network: str
    fusion: str = ""
    habits: tuple[str, ...] = ()


CONTENDERS = {
    "crossfusion": Contender("CrossFusion", "conv"),
    "crossfusion-concat": Contender("CrossFusion", "concat"),
    "crossfusion-single": Contender("CrossFusion", "single"),
    "crossfusion-released": Contender("CrossFusion", "conv", HABITS),
    **{f"crossfusion+{habit}": Contender("CrossFusion", "conv", (habit,)) for habit in HABITS},
    "amil": Contender("AMIL"),
    "dsmil": Contender("DSMIL"),
    "transmil": Contender("TransMIL"),
    "mean-pool": Contender("MeanPool"),
}


def habits_of(name: str, variant: str = "described") -> tuple[str, ...]:
    """Habits of the released code that a contender is trained with; "released" gives every contender all."""
    return HABITS if variant == "released" else CONTENDERS[name].habits


class Phantom(Checked):
    """What the phantom generator is asked for; see `lib.crossfusion.cohort`. Effects are log hazard ratios per SD."""

    seed: int = Field(2, ge=0)
    patients: int = Field(160, ge=20)
    age_effect: float = 0.4
    stage_effect: float = 0.4
    slide_effect: float = 2.5


class Training(Checked):
    """How a survival model is made and trained: all that a training depends on beside its patients.

    Attributes
    ----------
    variant : str
        "released" gives every model all `HABITS`.
    epochs, learning_rate, weight_decay
        Adam, weight decay as a penalty on the loss. The rate falls to a tenth along a cosine over all epochs.
    accumulate : int
        Cases whose gradients make one step.
    bins, alpha
        See `lib.training.discrete_time`.
    balanced : bool
        Draw cases so that every bin of the dead and of the censored comes up equally often.
    cap : int
        Most 20x tiles of a case in training, drawn anew each epoch together with the tiles around them; 0 all.
    width, heads : int
        Size of the model.
    bf16 : bool
        CrossFusion's matrix products in bfloat16: about half the time on a CPU that has it, logits move by thousandths.
    standardise : bool
        Bring every feature to mean 0 and spread 1 over the training tiles, scale by scale: for descriptors whose
        numbers have units of their own. A network's features are taken as they are.
    nested : bool
        Keep the epoch that was best on a fifth of the training patients, set aside; else the last epoch.
    """

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


class CrossFusionParams(Training, StudyParams):
    """Parameters of `notebooks/crossfusion/`. Paths count from data/raw.

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
    predictions : dict
        Model -> where its stored predictions are: a folder of MCAT's results, or (phantom) "planted".
    horizons : list of float
        Months at which survival is asked for; the last one is the limit of the IPCW c-index and the Brier integral.
    attention_of : str
        The contender whose attention is drawn.
    """

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
    models: list[Literal[tuple(CONTENDERS)]] = ["crossfusion", "crossfusion-released", "amil", "mean-pool"]
    seeds: list[NonNegativeInt] = Field([1], min_length=1)
    first_seed_only: list[Literal[tuple(CONTENDERS)]] = []
    # 4-evaluate
    predictions: dict[str, str] = {"phantom:seen": "planted", "phantom:blind": "planted"}
    horizons: list[float] = Field([12.0, 36.0, 60.0], min_length=2)
    bootstrap_draws: int = Field(1000, ge=100)
    # 5-figures
    attention_of: Literal["crossfusion", "crossfusion-released", "crossfusion-concat"] = "crossfusion"

    @property
    def followed(self) -> bool:
        """Whether there are outcomes to learn from."""
        return bool(self.outcomes) or self.phantom is not None

    @property
    def months(self) -> list[float]:
        """Months at which survival is written down: every half year, and the horizons."""
        halves = (6.0 * number for number in range(1, 1000))
        return sorted({*self.horizons, *(month for month in halves if month < self.horizons[-1])})

    @model_validator(mode="after")
    def _fits_together(self) -> "CrossFusionParams":
        staged = sorted({"stage", "grade"} & set(self.clinical))
        faults = {
            "horizons are months above 0, in ascending order": (
                self.horizons[0] <= 0 or self.horizons != sorted(set(self.horizons))
            ),
            "give either `phantom` or `outcomes` (the table of outcomes) or `slides` alone": (
                (self.phantom is None) == (not (self.outcomes or self.slides))
            ),
            f"`clinical` lists {', '.join(staged)}, which comes from `clinical_table`: name it": (
                staged and self.outcomes and not self.clinical_table
            ),
            'only a phantom has "planted" predictions': (
                self.phantom is None and "planted" in self.predictions.values()
            ),
        }
        for fault, there in faults.items():
            if there:
                raise ValueError(fault)
        return self

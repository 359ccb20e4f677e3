"""The parameters of the CrossFusion study, and its contenders. The defaults are the demo."""

from typing import Literal, NamedTuple

from pydantic import Field, NonNegativeInt, model_validator

from lib.params import Checked, StudyParams, Tiling

NUMBERS = ("age", "female", "stage", "grade")
CATEGORIES = ("oncotree_code",)
# Habits of the released code: dropout also in evaluation; a learning rate that falls to zero at every tenth epoch;
# slides as cases; bins that saw the held-out patients; the epoch that was best on them; no step on the cases left over
# at an epoch's end, whose gradients go into the next epoch's first; probabilities of the loss cut off at 1e-7.
HABITS = ("dropout_in_evaluation", "rate_to_zero", "slide_unit", "cohort_bins", "best_epoch")
HABITS += ("carried_gradients", "clamped_loss")


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
    """How a survival model is made and trained: all that a training depends on beside its patients."""

    variant: Literal["described", "released"] = "described"  # released: every model has all `HABITS`
    epochs: int = Field(7, ge=1)
    # Adam, weight decay as a penalty on the loss; the rate falls to a tenth along a cosine over all epochs
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(4e-6, ge=0)
    accumulate: int = Field(2, ge=1)  # cases whose gradients make one step
    bins: int = Field(4, ge=2)  # see `lib.training.discrete_time`
    # likelihood, or cross-entropy of having died by a bin's end
    loss: Literal["nll_surv", "ce_surv"] = "nll_surv"
    alpha: float = Field(0.2, ge=0, le=1)
    balanced: bool = True  # every bin of the dead and of the censored comes up equally often
    # most 20x tiles of a case, drawn anew each epoch with the tiles around them; 0: all
    cap: int = Field(0, ge=0)
    width: int = Field(128, ge=8)
    heads: int = Field(8, ge=1)
    attention_layers: int = Field(1, ge=1)  # on each side of a Pad-Transformer's convolutions
    bf16: bool = False  # CrossFusion's products in bfloat16: half the time where a CPU has it, logits move by thousandths
    # features to mean 0 and spread 1 over the training tiles, scale by scale: for descriptors whose numbers have units
    standardise: bool = True
    # keep the epoch that was best on a fifth of the training patients, set aside; else the last
    nested: bool = False
    # where somebody chooses the epoch (`nested`, or the habit "best_epoch"): the first epochs that are not chosen, and
    # epochs without gain after which training ends, 0 for never. null: 0 and 0, with the habit 5 and 20
    warmup_epochs: int | None = Field(None, ge=0)
    patience: int | None = Field(None, ge=0)

    def choosing(self, habits: tuple[str, ...]) -> tuple[int, int]:
        """Warm-up and patience of a model with these habits of the released code."""
        usual = (5, 20) if "best_epoch" in habits else (0, 0)
        given = (self.warmup_epochs, self.patience)
        return tuple(usual if value is None else value for value, usual in zip(given, usual, strict=True))


class CrossFusionParams(Training, Tiling, StudyParams):
    """Parameters of `notebooks/crossfusion/`. Paths count from data/raw."""

    # 1-preprocess
    # table of slides with outcomes; "": a phantom, or slides without follow-up, which go no further
    outcomes: str = ""
    clinical_table: str = ""  # TCGA-CDR, for stage and grade; "" leaves both out
    official_folds: str = ""  # folder of `splits_{k}.csv`; "" draws `folds` folds stratified by event
    folds: int = Field(3, ge=2)
    phantom: Phantom | None = Phantom()
    # of the Cox baseline
    clinical: list[Literal[NUMBERS + CATEGORIES]] = Field(["age", "female", "stage"], min_length=1)
    seed: int = Field(1, ge=0)
    slides: str = ""  # folder with slides; "" for a phantom, or where there are none
    # slide -> µm per level-0 pixel, where the file does not say it or is wrong
    um_per_px: dict[str, float] = {}
    # keep slides whose TCGA barcode says normal tissue or blood (sample types 10 to 20)
    normal_tissue: bool = False
    # 2-embed
    encoder: str = "colour"
    encoder_weights: str = ""
    # folder with features made elsewhere (CLAM, TRIDENT, STAMP, CrossFusion's own): no slide is read
    features: str = ""
    most_failed: float = Field(0.02, ge=0, le=1)
    # 3-train
    models: list[Literal[tuple(CONTENDERS)]] = ["crossfusion", "crossfusion-released", "amil", "mean-pool"]
    seeds: list[NonNegativeInt] = Field([1], min_length=1)
    first_seed_only: list[Literal[tuple(CONTENDERS)]] = []
    # 4-evaluate
    # model -> its stored predictions: a folder of MCAT's results, or (phantom) "planted"
    predictions: dict[str, str] = {"phantom:seen": "planted", "phantom:blind": "planted"}
    # months; the last is the limit of all integrals
    horizons: list[float] = Field([12.0, 36.0, 60.0], min_length=2)
    bootstrap_draws: int = Field(1000, ge=100)
    # 5-figures
    attention_of: Literal["crossfusion", "crossfusion-released", "crossfusion-concat"] = "crossfusion"

    @property
    def cancer(self) -> str:
        """Cancer type of a cohort of real patients: its name, whichever the recipe."""
        return self.cohort.removesuffix("-released")

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
        planted = "planted" in self.predictions.values()
        staged = sorted({"stage", "grade"} & set(self.clinical))
        untold = staged and self.outcomes and not self.clinical_table
        given = [self.phantom is not None, bool(self.outcomes or self.slides)]
        faults = {
            "horizons are months above 0, in ascending order": self.horizons
            != sorted({0, *self.horizons})[1:],
            "give either `phantom` or `outcomes` (the table of outcomes) or `slides` alone": sum(given) != 1,
            f"`clinical` lists {', '.join(staged)}, which comes from `clinical_table`: name it": untold,
            "nobody chooses an epoch, so `warmup_epochs` and `patience` do nothing: leave them null, or set "
            "`nested: true` or `variant: released`": (
                (self.warmup_epochs, self.patience) != (None, None)
                and not (self.nested or any("best_epoch" in habits_of(m, self.variant) for m in self.models))
            ),
            "`warmup_epochs` must be lower than `epochs`": (self.warmup_epochs or 0) >= self.epochs,
            'only a phantom has "planted" predictions': planted and not self.phantom,
        }
        for fault, there in faults.items():
            if there:
                raise ValueError(fault)
        return self

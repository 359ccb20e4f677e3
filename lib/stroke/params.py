"""The parameters of the stroke study, and its contenders. The defaults are the demo: Run All works on a fresh clone."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from lib.params import Checked, StudyParams

QUIRKS = ("frozen_positions", "scaler_on_all", "whole_batches", "epoch_by_test")
"""Habits of the released code: position vectors that are random and never learnt; a scaler of the clinical numbers that
has seen the held-out patients; patients beyond whole batches left out of an epoch, and of the steps that a schedule counts;
the epoch that was best on the held-out patients. The last one is not what the code does, but what its validation on the
test patients invites to: `RELEASED` is without it."""
RELEASED = ("frozen_positions", "scaler_on_all", "whole_batches")


class Contender(NamedTuple):
    """What a model sees and how it decides."""

    kind: str  # "network" | "logistic" | "late"
    fusion: str = ""  # of a network, see `lib.stroke.model.StrokeNet`
    series: bool = True  # sees the scan: its series, or the volumes of its maps
    clinical: bool = True
    quirks: tuple[str, ...] = ()


CONTENDERS = {
    "fusion": Contender("network", "cross"),
    "fusion-released": Contender("network", "cross", quirks=RELEASED),
    **{f"fusion+{quirk}": Contender("network", "cross", quirks=(quirk,)) for quirk in QUIRKS},
    "concatenation": Contender("network", "concatenation"),
    "ctp": Contender("network", "imaging", clinical=False),
    "clinical-branch": Contender("network", "clinical", series=False),
    "late-fusion": Contender("late"),  # no run: the mean probability of ctp and clinical-branch
    "logistic-clinical": Contender("logistic", series=False),
    "logistic-volumes": Contender("logistic", clinical=False),
    "logistic-both": Contender("logistic"),
}
NETWORKS = tuple(name for name, contender in CONTENDERS.items() if contender.kind == "network")
OF_VOLUMES = ("logistic-volumes", "logistic-both")
Side = Annotated[int, Field(gt=0, multiple_of=16)]  # voxels: the network's encoder halves them four times
VOLUMES = ["core_ml", "hypoperfused_ml", "mismatch_ml"]
SETTINGS = ("admission", "postprocedural")


class Phantom(Checked):
    """What the phantom generator is asked for; see `lib.stroke.phantom`. Effect 0: the outcome is drawn by lot."""

    seed: int = Field(3, ge=0)
    patients: int = Field(100, ge=12)
    effect: float = Field(1.5, ge=0)


class Preparation(Checked):
    """How a scan is prepared; see `lib.stroke.perfusion`. In ISLES24-PrediCTP: 3; (0.45, 0.45, 2); (416, 416); 16; None.

    A fixed number of baseline frames goes wrong without a word when the bolus is early. 16 slices of 2 mm are a quarter
    of a brain: `tissue_kept` says how much. Without a ceiling vessels set the scale: they enhance thirty times as much as
    tissue, whose differences then count little.
    """

    baseline: PositiveInt | Literal["found"] = "found"  # first frames averaged; found: all before contrast
    tissue_hu: tuple[float, float] = (1.0, 100.0)  # soft tissue and fluid
    blur_mm: float = Field(1.0, ge=0)  # standard deviation, in a slice, before the mask
    erosion_mm: float = Field(1.0, ge=0)  # the rim that cuts scalp and orbits off
    spacing_mm: tuple[float, float, float] | None = None  # (x, y, z) to resample to; None keeps the voxels
    size: tuple[Side, Side] | None = None  # (y, x) around the brain; None keeps all, padded to such sides
    slices: Side | None = None
    frames: int = Field(32, ge=4)  # around the peak
    ceiling_hu: float | None = Field(8.0, gt=0)  # enhancement above it is set to it in what networks read
    # the brain's mean curve may be (Durbin-Watson); a bolus has 0.03 to 0.1
    roughest: float = Field(0.2, gt=0)


class Recipe(Checked):
    """What the networks read and how they are trained.

    Schedules: the paper's 16 cosines, each three quarters as high as the one before, or a tenth of warming up and one
    cosine. The last epoch counts, unless a quirk says otherwise.
    """

    shape: tuple[Side, Side, Side] = (16, 16, 16)  # (h, w, z) of the film: fractions of what is prepared
    frames: int = Field(4, ge=2)
    variant: Literal["described", "released"] = "described"  # released: every network has `RELEASED`
    epochs: PositiveInt = 25
    batch: PositiveInt = 8  # patients a step
    learning_rate: float = Field(1e-3, gt=0)  # of Adam, where its schedule begins
    schedule: Literal["warm_restarts", "one_fall"] = "one_fall"
    widths: tuple[int, int, int, int] = (4, 8, 16, 16)  # channels of the encoder; the paper's 16, 32, 64, 128
    channels: int = Field(16, ge=1)  # of its last convolution; the paper's 1
    heads: int = Field(8, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    frames_at_once: int = Field(0, ge=0)  # that the encoder reads; 0 all. Changes memory and time alone
    bf16: bool = False  # the encoder's convolutions: faster on some processors, logits move by hundredths
    standardise: bool = True  # take the training patients' mean film away; the paper does not


class StrokeParams(Recipe, StudyParams):
    """Parameters of `notebooks/stroke/`.

    Paths count from data/raw, where a cohort's sources of data/sources.yaml are fetched to.

    In `models`, "admission" is what is known before thrombectomy, "postprocedural" mTICI and the time to recanalisation
    too.
    """

    # 1-preprocess
    isles: str = ""  # folder of an ISLES'24 tree, in any of its releases
    isles_form: str = ""  # its clinical table alone, without films: models that see none
    own_patients: str = ""  # folder of one's own patients instead: `lib.stroke.clinical.read_patients`
    arrays: str = ""  # the reference's own input instead: folder of <ID>/preprocessed.npz
    arrays_clinical: str = ""  # its clinical csv
    partition: str = ""  # its train, val and test patients; "" draws folds
    mapping: dict[str, str | float] = {}  # variable -> column, sum of two, number, "": `lib.stroke.clinical`
    phantom: Phantom | None = Phantom()
    implausible: Literal["refuse", "missing"] = "refuse"  # what becomes of a number that no patient has
    interval_s: float = Field(0.0, ge=0, le=20)  # between frames where nothing else says it; 0: files do
    oblique: Literal["refuse", "keep", "resample"] = "refuse"  # a scan tilted by more than 1 degree
    preparation: Preparation = Preparation()
    unfavourable_from: int = Field(3, ge=1, le=6)  # first grade of the modified Rankin scale that is bad
    folds: int = Field(3, ge=2)
    seed: int = Field(1, ge=0)
    # 2-embed
    lambda_: float = Field(0.1, gt=0, lt=1)  # singular values below this share of the largest are dropped
    core_rcbf: float = Field(0.3, gt=0, lt=1)
    tmax_s: float = Field(6.0, gt=0)
    # 3-train
    models: dict[Literal[SETTINGS], list[Literal[tuple(CONTENDERS)]]] = {
        "admission": [
            *("fusion", "ctp", "clinical-branch", "late-fusion"),
            *("logistic-clinical", "logistic-volumes", "logistic-both"),
        ],
        "postprocedural": ["clinical-branch", "logistic-clinical", "logistic-both"],
    }
    seeds: list[NonNegativeInt] = Field([1], min_length=1)
    first_seed_only: list[Literal[tuple(CONTENDERS)]] = []
    # 4-evaluate
    bootstrap_draws: int = Field(1000, ge=100)

    @model_validator(mode="after")
    def fits_together(self) -> "StrokeParams":
        parts, film = {"ctp", "clinical-branch"}, self.preparation.frames
        late = [names for names in self.models.values() if "late-fusion" in names]
        once = [name for name in self.first_seed_only if name in parts]
        faults = {
            "give exactly one of `phantom`, `isles`, `isles_form`, `own_patients` and `arrays` (the reference's own input)": (
                sum(map(bool, (self.phantom, self.isles, self.isles_form, self.own_patients, self.arrays)))
                != 1
            ),
            "`isles_form` has no films: `models` may list clinical-branch and logistic-clinical": (
                self.isles_form
                and any(CONTENDERS[one].series for names in self.models.values() for one in names)
            ),
            "`arrays` and `arrays_clinical` (its clinical CSV) go together, `partition` with them": (
                bool(self.arrays) != bool(self.arrays_clinical) or (self.partition and not self.arrays)
            ),
            "late-fusion is made of ctp and clinical-branch, list both in `models`": (
                any(not parts <= set(names) for names in late)
            ),
            f"`first_seed_only` has {once}: late-fusion needs ctp and clinical-branch of the same seeds": (
                late and len(self.seeds) > 1 and len(set(once)) == 1
            ),
            f"`frames` is {self.frames}, which is no whole fraction of the {film} of `preparation`": (
                not self.arrays and film % self.frames
            ),
        }
        if wrong := [words for words, true in faults.items() if true]:
            raise ValueError("; ".join(wrong))
        return self

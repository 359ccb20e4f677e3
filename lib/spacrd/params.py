"""The parameters of the SpaCRD study and its contenders. The defaults are the demo: Run All works on a fresh clone."""

from typing import Literal, NamedTuple

from pydantic import Field, NonNegativeInt, model_validator

from lib.params import ROOT, Checked, StudyParams


class Contender(NamedTuple):
    """What a model sees and how it decides."""

    kind: Literal["marker", "linear", "neural"]
    image: bool = False
    genes: bool = False
    smoothed: bool = False  # marker, linear: mean over the neighbourhood first
    fusion: str = "attention"
    variant: str = ""  # "" = the study's parameter


CONTENDERS = {
    "marker-smoothed": Contender("marker", genes=True, smoothed=True),
    "linear-genes": Contender("linear", genes=True),
    "linear-genes-smoothed": Contender("linear", genes=True, smoothed=True),
    "linear-image": Contender("linear", image=True),
    "linear-image-smoothed": Contender("linear", image=True, smoothed=True),
    "linear-both": Contender("linear", image=True, genes=True),
    "linear-both-smoothed": Contender("linear", image=True, genes=True, smoothed=True),
    "concatenation": Contender("neural", image=True, genes=True, fusion="concatenation"),
    "concatenation-genes": Contender("neural", genes=True, fusion="concatenation"),
    "spacrd-genes": Contender("neural", genes=True),
    "spacrd-image": Contender("neural", image=True),
    "spacrd": Contender("neural", image=True, genes=True),
    "spacrd-released": Contender("neural", image=True, genes=True, variant="released"),
    "spacrd-genes-released": Contender("neural", genes=True, variant="released"),
}
NEURAL = tuple(name for name, contender in CONTENDERS.items() if contender.kind == "neural")
WITHOUT_PICTURES = ("concatenation-genes", "spacrd-genes-released")  # for cohorts that have none
Name = Literal[tuple(CONTENDERS)]
MAIN = ("spacrd", "spacrd-genes", "spacrd-image")  # the first of a setting's contenders is the one under test


class Phantom(Checked):
    """What the phantom generator is asked for; see `lib.spacrd.phantom`."""

    seed: int = Field(7, ge=0)
    patients: int = Field(4, ge=2, le=26)
    spots_side: int = Field(14, ge=6)
    effect: float = Field(1.5, ge=0)
    unrelated_labels: bool = False
    second_platform: bool = False


class Setting(Checked):
    """One way to put the cohort to the test."""

    sections: list[str] = []  # that take part; empty = all
    test: list[str] = []  # the others train; empty = leave one patient out
    encoder: str = "colour"  # image features; "" leaves the pictures out
    genes: bool = True  # whether gene expression takes part
    models: list[Name] = []  # empty = those of the cohort


class SpaCRDParams(StudyParams):
    """Parameters of `notebooks/spacrd/`, in the order of the notebooks' parameter cell.

    `sections` lists section tables. The files of one below data/raw lie beside it; of another, below the folder of data/raw
    that has the table's name.
    """

    # 1-preprocess
    sections: list[str] = []
    phantom: Phantom | None = Phantom()
    undetermined: Literal["excluded", "negative"] = "excluded"
    # 2-embed
    encoders: list[str] = ["colour"]
    encoder_weights: dict[str, str] = {}
    crop_um: float = Field(150.0, gt=0)
    # 3-train
    settings: dict[str, Setting] = Field({"both": Setting()}, min_length=1)
    models: list[Name] = [name for name in CONTENDERS if name not in WITHOUT_PICTURES]
    seeds: list[NonNegativeInt] = Field([1, 2], min_length=1)
    first_seed_only: list[Name] = ["concatenation", "spacrd-genes", "spacrd-image", "spacrd-released"]
    variant: Literal["described", "released"] = "described"
    marker: str = "ERBB2"
    genes: int = Field(300, ge=2)
    scaling: Literal["minmax", "robust", "zscore"] = "minmax"
    neighbours: int = Field(7, ge=1)
    neighbour_radius: float = Field(2.2, gt=0)
    contrastive_epochs: int = Field(3, ge=0)
    fusion_epochs: int = Field(2, ge=0)
    classifier_epochs: int = Field(9, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    batch_size: int = Field(64, ge=2)
    # 4-evaluate
    bootstrap_draws: int = Field(1000, ge=100)
    block_pitches: float | None = Field(None, gt=0)  # side of a spatial block; None = measured a section

    @model_validator(mode="after")
    def fits_together(self) -> "SpaCRDParams":
        if (self.phantom is None) == (not self.sections):
            raise ValueError("give either `phantom` or `sections`, the cohort's section tables")
        if lost := [t for t in self.sections if not (t.startswith("data/raw/") or (ROOT / t).is_file())]:
            raise ValueError(f"there is no section table at {lost[0]}, relative to the repository")
        for name, setting in self.settings.items():
            if setting.encoder and setting.encoder not in self.encoders:
                raise ValueError(f"setting {name!r} uses {setting.encoder!r}, which `encoders` does not list")
            fitting = [model for model in MAIN if self.sees(setting, model)]
            if not set(fitting) & set(setting.models or self.models):
                wanted = " or ".join(fitting or MAIN)
                raise ValueError(
                    f"setting {name!r} trains no SpaCRD: it needs an encoder or genes, and {wanted} under `models`"
                )
        return self

    @staticmethod
    def sees(setting: Setting, model: str) -> bool:
        """Whether a setting has the modalities that a contender needs."""
        needs = CONTENDERS[model]
        return bool(setting.encoder) >= needs.image and setting.genes >= needs.genes

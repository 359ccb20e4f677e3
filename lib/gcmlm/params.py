"""The parameters of the GC-MLM-RCSA study. The defaults are the demo, so that Run All works on a fresh clone."""

from typing import Literal

from pydantic import Field, NonNegativeInt, model_validator

from lib.params import Checked, StudyParams, Tiling

MODELS = ("signature", "attention")
CLINICAL = "clinical"


class Phantom(Checked):
    """What the phantom generator is asked for; see `lib.gcmlm.phantom`. Effect 0: the outcome is drawn by lot."""

    seed: int = Field(7, ge=0)
    patients: int = Field(160, ge=24)
    external: int = Field(40, ge=0)
    effect: float = Field(1.0, ge=0, le=1)


class Segmentation(Checked):
    """Trainer and fold of nnU-Net; see `lib.gcmlm.nnunet.train`."""

    trainer: str = "nnUNetTrainer"
    fold: int | Literal["all"] = 0


class GastricParams(Tiling, StudyParams):
    """Parameters of `notebooks/gcmlm/`, in the order of the notebooks' parameter cell.

    Paths count from data/raw, where a cohort's sources of data/sources.yaml are fetched to.
    """

    # 1-preprocess
    phantom: Phantom | None = Phantom()
    matched_cohort: str = ""  # folder of one: `patients.csv`, or three tables, see `lib.gcmlm.cohort`
    lro_folder: str = ""  # instead: folder of the head-and-neck radiomics tables
    stad_table: str = ""  # instead: TCGA-CDR's table,
    stad_slides: str = ""  # and the table of follow-up whose patients have a slide
    feature_tables: dict[str, str] = {}  # modality -> CSV made elsewhere, a row a patient
    mapping: dict[str, str] = {}  # patient, hospital, time_months, event or a factor -> its column
    factors: list[str] = ["age", "male", "t_stage", "n_stage", "lauren", "histology", "cea"]
    modalities: list[str] = Field(["clinical", "ct", "slide"], min_length=1)  # in the order of subsets
    external_hospitals: list[str] = ["B"]  # whose patients are never trained on
    outcome_name: str = "liver metastasis"  # for axes and tables
    remark: str = ""  # what a reader of the cohort's pages has to know
    earliest_months: float = Field(6.0, ge=0)  # see `lib.gcmlm.cohort.metachronous`
    least_follow_up_months: float = Field(24.0, ge=0)
    folds: int = Field(3, ge=2)
    seed: int = Field(1, ge=0)
    oblique: Literal["refuse", "keep", "resample"] = "keep"
    mask_label: int | str = 1  # number or name of the region that is measured
    masks: Literal["given", "nnunet"] = "given"  # nnunet: made by it, trained on the scans that have a mask
    segmentation: Segmentation = Segmentation()
    preset: str = "bwh_resection"
    scale: Literal[5, 10, 20] = 20  # magnification of the tiles; 20 means 0.5 µm per pixel
    um_per_px: dict[str, float] = {}  # slide -> µm per level-0 pixel, where nothing else says it
    normal_tissue: bool = False  # keep slides whose TCGA barcode says normal tissue or blood (types 10 to 20)
    # 2-embed
    radiomics_preset: Literal["slicer", "default", "ct"] = "default"
    encoder: str = "colour"
    encoder_weights: str = ""
    most_failed: float = Field(0.02, ge=0, le=1)
    pooling: Literal["slides", "tiles"] = "slides"  # mean of the slides' means, or each tile alike
    # 3-train
    models: list[Literal[MODELS]] = Field(["signature", "attention"], min_length=1)
    seeds: list[NonNegativeInt] = Field([1], min_length=1)
    inner_folds: int = Field(5, ge=2)  # that choose a signature's penalty and cross-fit its scores
    allowed: list[str] = []  # features that the guard against disguised outcomes lets pass
    # 4-evaluate
    horizons: list[float] = [12.0, 24.0, 36.0]
    bootstrap_draws: int = Field(1000, ge=100)
    # 5-figures
    resamples: int = Field(40, ge=10)

    @model_validator(mode="after")
    def fits_together(self) -> "GastricParams":
        sources = (self.phantom, self.matched_cohort, self.lro_folder, self.stad_table)
        known = {CLINICAL, "ct", "slide", *self.feature_tables} | ({"pet"} if self.lro_folder else set())
        lost = [name for name in self.modalities if name not in known or "+" in name]
        strange = sorted(set(self.feature_tables) - set(self.modalities))
        without = CLINICAL in self.modalities and not self.factors and not self.lro_folder
        wrong = {
            "give exactly one of `phantom`, `matched_cohort` (its folder), `lro_folder` and `stad_table`": (
                sum(map(bool, sources)) != 1
            ),
            "`modalities` names one twice": len(set(self.modalities)) < len(self.modalities),
            "`factors` and `modalities` have one name in common: rename the factor": (
                set(self.factors) & set(self.modalities)
            ),
            f"`feature_tables` has {strange[:1]}, which `modalities` does not name": strange,
            f"`modalities` has {lost[:1]}: give its table, of a name without +, under `feature_tables`": lost,
            "`modalities` has clinical, but `factors` names no column": without,
        }
        if said := next((said for said, is_so in wrong.items() if is_so), ""):
            raise ValueError(said)
        return self

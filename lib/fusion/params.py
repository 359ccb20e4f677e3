"""The parameters of the fusion bench, and its contenders by name. The defaults are the demo."""

from typing import Literal

from pydantic import Field, NonNegativeInt, model_validator

from lib.params import Checked, StudyParams, nearest

# columns of PORPOISE's signatures.csv -> the token of their genes, in the order of the tokens
GENE_GROUPS = {
    "Tumor Suppressor Genes": "tumor_suppressors",
    "Oncogenes": "oncogenes",
    "Protein Kinases": "protein_kinases",
    "Cell Differentiation Markers": "differentiation",
    "Transcription Factors": "transcription_factors",
    "Cytokines and Growth Factors": "cytokines",
}
RNA = tuple(GENE_GROUPS.values())
MODALITIES = ("clinic", *RNA, "copy_number", "mutations")
# ways to fuse tokens: the classes are in lib/fusion/heads.py. With "+offset" the logits begin at what the clinic alone
# predicts, and the network learns what is missing
HEADS = (
    *("concat", "mean", "gated", "kronecker", "late", "self-attention", "uniform-attention"),
    *("crossfusion", "spacrd", "mrs90", "rcsa", "mcat"),
)
OFFSET = "+offset"
WITH_OFFSET = tuple(head + OFFSET for head in HEADS)
NETWORKS = (*HEADS, *WITH_OFFSET)
# regressions and forests on the same columns and folds: lib/fusion/rivals.py
RIVALS = (
    *("age", "clinic", "rna", "copy-number", "mutations", "ridge-all", "ridge-by-block", "elastic-net"),
    *("clinic-free+rna", "clinic-offset+rna", "late:clinic+rna", "late:all", "forest"),
)
CONTENDERS = (*NETWORKS, *RIVALS)


class Phantom(Checked):
    """What the phantom generator is asked for; see `lib.fusion.phantom`. Effects are log hazard ratios per SD."""

    seed: int = Field(3, ge=0)
    patients: int = Field(240, ge=40)
    clinic_effect: float = 0.5  # of age and stage
    gene_effect: float = 0.5  # of one group of genes, alike in all patients
    interaction_effect: float = 1.0  # of another group of genes, whose sign the tumour's subtype turns round


class Training(Checked):
    """How a network is made and trained: all that a training depends on beside its patients."""

    bins: int = Field(4, ge=2)  # see `lib.training.discrete_time`
    width: int = Field(16, ge=8, multiple_of=4)  # numbers of a token
    # settings tried of each head in each fold: learning rate, weight decay, dropout
    trials: int = Field(6, ge=1)
    epochs: int = Field(40, ge=5)  # most, each one step on all patients; chosen with the setting


class FusionParams(Training, StudyParams):
    """Parameters of `notebooks/fusion/`. Paths count from data/raw."""

    # 1-preprocess
    outcome: Literal["survival", "binary"] = "survival"
    porpoise: str = ""  # folder with PORPOISE's tables, folds and signatures.csv; "" for a phantom or `table`
    cancers: list[str] = []  # of PORPOISE's tables, as blca
    clinical_tables: list[str] = []  # of TCGA-CDR, for stage and grade
    # one row a case of anybody: patient, time_months and event (or label), fold where there are folds, and columns
    table: str = ""
    modalities: dict[str, list[str]] = {}  # of `table`: modality -> its columns, * stands for any text
    phantom: Phantom | None = Phantom()
    folds: int = Field(5, ge=2)  # drawn, stratified by event, where none are published
    seed: int = Field(1, ge=0)
    least_events: int = Field(30, ge=2)  # a cancer with fewer is left out, with a row that says so
    # 2-embed
    rna_scale: Literal["rank-normal", "clipped", "raw"] = "rank-normal"
    clip: float = Field(4.0, gt=0)  # standard deviations of the training patients
    random_groups: bool = False  # control: genes dealt to groups of the same sizes by chance
    # 3-train
    models: list[str] = ["concat", "self-attention", "clinic", "clinic-offset+rna"]
    # heads that are not the bench's: name -> file.py:Class, the path from the repository's folder
    own_heads: dict[str, str] = {}
    seeds: list[NonNegativeInt] = Field([1], min_length=1)
    first_seed_only: list[str] = []
    # 4-evaluate
    # months; the last is the limit of all integrals
    horizons: list[float] = Field([12.0, 36.0, 60.0], min_length=2)
    bootstrap_draws: int = Field(1000, ge=100)
    # 5-figures
    drawn_head: str = (
        ""  # whose survival curves stand beside the clinic's; "": the network that the inner folds liked best
    )

    @property
    def months(self) -> list[float]:
        """Months at which survival is written down: every half year, and the horizons."""
        halves = (6.0 * number for number in range(1, 1000))
        return sorted({*self.horizons, *(month for month in halves if month < self.horizons[-1])})

    @property
    def networks(self) -> list[str]:
        """Those of `models` that are trained by epochs."""
        return [name for name in self.models if name not in RIVALS]

    @model_validator(mode="after")
    def _known_contenders(self) -> "FusionParams":
        own = [name + suffix for name in self.own_heads for suffix in ("", OFFSET)]
        if taken := sorted(set(own) & set(CONTENDERS)):
            raise ValueError(
                f"`own_heads` names a head {taken[0]}, which the bench has: give yours another name"
            )
        if unknown := [n for n in (*self.models, *self.first_seed_only) if n not in (*CONTENDERS, *own)]:
            hint = nearest(unknown[0], (*CONTENDERS, *own))
            raise ValueError(
                f"no contender is called {unknown[0]!r}: {hint}; a head of yours goes into `own_heads`"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> "FusionParams":
        given = [bool(each) for each in (self.phantom, self.porpoise, self.table)]
        cancers, modalities = bool(self.cancers), bool(self.modalities)
        undrawn = self.drawn_head not in ("", *self.models)
        faults = {
            "give one of `phantom`, `porpoise` and `table`: they say whose patients these are": sum(given)
            != 1,
            "`cancers` and `porpoise` go together: name the cancers of its tables": cancers != given[1],
            "`modalities` and `table` go together: name the columns of each modality": modalities != given[2],
            f"`drawn_head` is {self.drawn_head!r}, which is none of `models`": undrawn,
            "horizons are months above 0, in ascending order": self.horizons
            != sorted({0, *self.horizons})[1:],
        }
        for fault, there in faults.items():
            if there:
                raise ValueError(fault)
        return self

"""The other studies' real data as benches: each is made a plain table, which is then read as anybody's own.

- `lro`: head-and-neck cancer; the clinic, radiomics of CT and of PET before radiotherapy; locoregional recurrence or none.
- `stad-liver`: PORPOISE's gastric cancers with another outcome, the time to a metastasis of the liver.
- `her2st`: spots of HER2-positive breast tumours; the picture and the genes; cancer or not, one patient held out at a time.
"""

from collections.abc import Callable

import anndata
import numpy as np
import pandas as pd

from lib.data import RAW, fetch_all
from lib.files import opened, write_csv
from lib.fusion.cohort import Read, read_cohort, read_own, read_porpoise, read_signatures
from lib.inputs import tcga
from lib.inputs.tables import plain, read_columns
from lib.stage import Stage, results_folder
from lib.training.published_folds import read_folds, with_folds, with_outcomes

GENES = 500  # of a spot: those in all sections whose mean is highest
ENCODER = "shell"  # of the pictures of spots: the open network trained on this stain


def cohort_of(stage: Stage) -> Read:
    """The patients of a stage's cohort, whichever it is; a bench of this module leaves its table in raw/table.csv."""
    make = TABLES.get(stage.params.cohort)
    if make is None:
        return read_cohort(stage)
    path, remarks = stage.file("raw/table.csv"), []
    write_csv(make(stage, remarks), path)
    patients, said = read_own(path, stage.params)
    rows = [(stage.params.cohort, *remark) for remark in remarks + said]
    return Read(patients, pd.DataFrame(rows, columns=["cancer", "what", "number", "remark"]))


def recurrence(stage: Stage, remarks: list[tuple]) -> pd.DataFrame:
    """Head and neck: patient, label (1 recurrence), the clinic's columns, and ct:, pet: of 257 features each."""
    fetch_all("lro")
    folder = RAW / stage.params.table
    tables = {
        kind: read_columns(stage.reads(folder / f"{kind}_fea_pre.csv.gz"), dtype={"patient": str})
        for kind in ("ct", "pet")
    }
    clinic = read_columns(stage.reads(folder / "clinical.csv"), dtype={"patient": str})
    table = clinic.rename(columns=lambda name: plain(name).replace(" ", "_").replace("-", "_"))
    table = table.set_index("patient")
    parts = [part.set_index("patient").add_prefix(f"{kind}:") for kind, part in tables.items()]
    missing = int(table.isna().any(axis=1).sum())
    said = "patients with a missing column: it takes the median of the training patients"
    remarks.append(("clinic", missing, said))
    return table.join(parts, how="left").reset_index()


def liver_metastasis(stage: Stage, remarks: list[tuple]) -> pd.DataFrame:
    """Gastric cancer: patient, time_months and event (1 metastasis of the liver), fold, site, the clinic, `<modality>:` columns.

    Who died without one is censored (`lib.inputs.tcga.liver_metastasis`). Patients of whom no day is known are left out.
    """
    fetch_all("bench")
    porpoise = RAW / "tcga" / "porpoise"
    cdr = tcga.read_cdr(stage.reads(RAW / "tcga" / "tcga_cdr_subset.csv")).set_index("patient")
    groups = read_signatures(stage.reads(porpoise / "datasets_csv" / "signatures.csv"))
    path = stage.reads(porpoise / stage.params.table)
    patients, said = read_porpoise(path, groups, cdr)
    remarks += said
    outcome = tcga.liver_metastasis(cdr).reindex(patients.table.index)
    table = patients.table[["site"]].join(outcome)
    remarks.append(
        (
            "outcome",
            int(table["event"].sum()),
            "metastases of the liver; only the first new tumour is recorded",
        )
    )
    remarks.append(("left out", int(table["time_months"].isna().sum()), "patients of whom no day is known"))
    table = table.dropna(subset="time_months").astype({"event": int})
    folds, said = with_outcomes(read_folds(porpoise / "splits" / "5foldcv" / "tcga_stad"), table.index)
    remarks += [("folds", len(said), remark) for remark in said]
    table = with_folds(table, folds).dropna(subset="fold")
    blocks = patients.blocks.items()
    blocks = [block.add_prefix("" if name == "clinic" else f"{name}:") for name, block in blocks]
    return table.join(blocks).rename_axis("patient").reset_index()


def spots(stage: Stage, remarks: list[tuple]) -> pd.DataFrame:
    """HER2ST: case (section and spot), patient, fold (the patient held out), label (1 cancer), `image:` and `genes:` columns.

    Read from what stages 1 and 2 of spacrd leave. Genes are log counts per ten thousand. Both are standardised within a
    section, which needs no label: sections differ by stain and depth more than by disease. Spots without a label are left
    out.
    """
    home = results_folder() / stage.params.table
    sections = pd.read_csv(stage.reads(home / "cohort.csv"))
    there = [(home / "features" / f"{name}.{ENCODER}.h5").is_file() for name in sections["section"]]
    sections = sections[there]
    if sections.empty:
        raise FileNotFoundError(
            f"{stage.params.table} has no pictures of spots: make run STUDY=spacrd COHORT=her2st"
        )
    read = {}
    for section in sections.itertuples():
        counts = anndata.read_h5ad(stage.reads(home / "sections" / f"{section.section}.h5ad"))
        path = stage.reads(home / "features" / f"{section.section}.{ENCODER}.h5")
        with opened(path, "features of spots", "run spacrd's 2-embed again") as file:
            image = pd.DataFrame(file["features"][:], file["names"].asstr()[:])
        read[section.section] = counts, image
    shared = sorted(set.intersection(*(set(counts.var_names) for counts, _ in read.values())))
    logs = {}
    for name, (counts, _) in read.items():
        dense = counts[:, shared].X.toarray()
        depth = np.asarray(counts.X.sum(1)).reshape(-1, 1)
        logs[name] = pd.DataFrame(np.log1p(1e4 * dense / np.maximum(depth, 1)), counts.obs_names, shared)
    most = pd.concat(logs.values()).mean().nlargest(GENES).index
    parts = []
    for section in sections.itertuples():
        counts, image = read[section.section]
        tables = {"image": image, "genes": logs[section.section][most]}
        scaled = [((t - t.mean()) / t.std().replace(0, 1)).add_prefix(f"{n}:") for n, t in tables.items()]
        part = pd.DataFrame({"patient": section.patient, "label": counts.obs["label"]}).join(scaled)
        parts.append(part.set_index(section.section + "-" + part.index).rename_axis("case"))
    table = pd.concat(parts)
    remarks.append(("sections", len(sections), f"with pictures, of {sections['patient'].nunique()} patients"))
    remarks.append(("left out", int(table["label"].isna().sum()), "spots without a label"))
    table = table.dropna(subset="label").reset_index()
    return table.assign(fold=table["patient"], label=table["label"].astype(int))


TABLES: dict[str, Callable[[Stage, list[tuple]], pd.DataFrame]] = {
    "lro": recurrence,
    "stad-liver": liver_metastasis,
    "her2st": spots,
}

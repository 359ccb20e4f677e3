"""What every study's tables of patients refuse, because it would be another number and nobody would see it.

Two spellings of one patient, zeros that a spreadsheet took, decimal commas, dates for months, codes that are none, the
outcome among the features, a patient in training and test.
"""

import pytest

from lib.gcmlm.cohort import read_feature_table, read_lro, read_matched
from lib.spacrd.cohort import read_table
from lib.stroke.clinical import read_reference_table
from lib.stroke.raw import read_partition
from lib.training.published_folds import read_folds

CLINICAL = "patient,hospital,age,time_months,event\nP1,A,61,12.5,1\nP2,B,70,30,0\nP3,A,55,8,1\n"
FEATURES = "patient,f1,f2\nP1,0.5,2\nP2,0.7,3\n"
STROKE = (
    "PATIENT_ID,Age,Onset2CTP,CTP2Recanalization,NIHSS00,Sex,Hypertension,Smoking,Atrial_Fibrillation,mTICI,mRs90_binary\n"
    "P1,61,80,90,12,0,1,0,0,1,1\nP2,70,120,60,5,1,0,0,1,2,0\n"
)
LRO = {
    "clinical.csv": "patient,Age,label\nP1,61,1\nP2,70,0\nP3,55,1\nP4,58,0\n",
    **{f"{kind}_fea_pre.csv": "patient,a,b\nP1,1,5\nP2,2,6\nP3,4,7\nP4,3,9\n" for kind in ("ct", "pet")},
}
SPLIT = "train,val\nTCGA-A6-2683,TCGA-A6-2684\nTCGA-A6-2685,\n"
SECTIONS = "section,patient,platform,folder,labels,label_grade,note\nA1,A,st,,,pathologist,\n"


def matched(folder):
    return read_matched(folder, ["age"]).patients["age"].tolist()


def of(read, name):
    return lambda folder: read(folder / name)


def partition(folder):
    return read_partition(folder / "p.yaml", ["007", "8"])


READERS = {
    "matched": (matched, {"clinical.csv": CLINICAL}),
    "features": (of(read_feature_table, "f.csv"), {"f.csv": FEATURES}),
    "lro": (read_lro, LRO),
    "arrays": (of(read_reference_table, "s.csv"), {"s.csv": STROKE}),
    "partition": (partition, {"p.yaml": "train: [007]\ntest: [8]\n"}),
    "folds": (read_folds, {"splits_0.csv": SPLIT}),
    "sections": (of(read_table, "t.csv"), {"t.csv": SECTIONS}),
}
WRONG = [
    ("matched", "P3", "P2", "P2"),
    ("matched", "P3", "p2", "p2"),
    ("matched", "P3", "P 2", "P 2"),
    ("matched", "P2,B,70,30,0\nP3", "007,B,70,30,0\n7", "007"),
    ("matched", "P2", "", "clinical.csv"),
    ("matched", "hospital", "Age", "clinical.csv"),
    ("matched", "P2,B", "P2,B,x,y", "clinical.csv"),
    ("matched", "12.5", "2019-05-01", "P1"),
    ("matched", "12.5", "43586", "P1"),  # a spreadsheet's day
    ("matched", "12.5", "-3", "P1"),
    ("matched", "12.5", '"12,5"', "P1"),
    ("matched", "70", "old", "P2"),
    ("matched", ",8,1", ",8,2", "P3"),
    ("matched", ",8,1", ",8,dead", "P3"),
    ("features", "0.7", '"0,7"', "P2"),
    ("features", "0.7", "1e999", "P2"),
    ("features", "P2", "p1", "p1"),
    ("lro", "P2,2", "P2,x", "P2"),
    ("lro", "61,1", "61,2", "P1"),
    ("lro", "P1,1,5\nP2,2,6", "x,P1,1,5\nx,P2,2,6", "_fea_pre"),
    ("arrays", "P2", "p1", "p1"),
    ("arrays", "61", "610", "P1"),
    ("arrays", "1,1\n", "1,3\n", "P1"),
    ("partition", "8", "007", "007"),
    ("partition", "8", "7", "007"),
    ("partition", "train", "trian", "trian"),
    ("folds", "2685", "2684", "2684"),
    ("folds", "2684\n", "2684,x,y\n", "splits_0"),
    ("sections", "note", "patient", "t.csv"),
    ("sections", "pathologist,", "pathologist,,,x", "t.csv"),
]


def folder_of(folder, files, old="", new=""):
    for name, text in files.items():
        (folder / name).write_text(text.replace(old, new) if old else text)
    return folder


@pytest.mark.parametrize("name", READERS)
def test_sound_tables_are_read(tmp_path, name):
    read, files = READERS[name]
    read(folder_of(tmp_path, files))


@pytest.mark.parametrize("dialect", ["\ufeff,", ";", "\t"])
def test_dialects_of_csv_give_the_same_ages(tmp_path, dialect):
    text = dialect[:-1] + CLINICAL.replace(",", dialect[-1])
    assert matched(folder_of(tmp_path, {"clinical.csv": text})) == [61.0, 70.0, 55.0]


@pytest.mark.parametrize(("name", "old", "new", "said"), WRONG)
def test_another_number_is_refused_by_name(tmp_path, name, old, new, said):
    read, files = READERS[name]
    assert any(old in text for text in files.values())
    with pytest.raises(ValueError, match=said):
        read(folder_of(tmp_path, files, old, new))

"""Who counts as a metastasis; a matched cohort's folder, and every way in which somebody's table is wrong; features made
elsewhere; two real public sources."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.gcmlm.cohort import metachronous, read_cohort, read_feature_table, read_lro, read_matched, read_stad
from lib.gcmlm.params import GastricParams
from lib.inputs.tcga import read_outcomes

# metachronous


@pytest.mark.parametrize(
    ("time", "event", "label", "status"),
    [
        (6.0, 1, np.nan, "synchronous"),
        (6.01, 1, 1.0, "metastasis"),
        (90.0, 1, 1.0, "metastasis"),
        (0.0, 1, np.nan, "synchronous"),
        (24.0, 0, 0.0, "free"),
        (23.9, 0, np.nan, "censored early"),
    ],
)
def test_each_case(time, event, label, status):
    found = metachronous(pd.Series([time]), pd.Series([event])).iloc[0]
    assert found["status"] == status
    np.testing.assert_equal(found["label"], label)


# a matched cohort

CLINICAL = """patient,hospital,age,male,lauren,cea,time_months,event
GA1,A,61,1,intestinal,3.5,30.2,0
GA2,A,70,0,diffuse,,9,1
GA3,B,NA,1,mixed,12,4.5,yes
GA4,B,55,0,,8,,
"""
SCANS = """patient,image,mask,label
GA1,scans/GA1.nii.gz,scans/GA1_mask.nii.gz,
GA2,scans/GA2,,liver
GA3,scans/GA3.nii.gz,scans/GA3_mask.nii.gz,2
"""
SLIDES = """patient,slide,path,um_per_px
GA1,GA1-a,slides/GA1-a.svs,0.25
GA1,GA1-b,slides/GA1-b.svs,
GA2,,slides/GA2-a.tiff,0.5
GA4,GA4-a,slides/GA4-a.svs,
"""
BARCODES = """patient,path
GA1,slides/TCGA-BR-A1FU-01Z-00-DX1.svs
GA1,slides/TCGA-BR-A1FU-11A-02-TSB.svs
GA2,slides/S21-11A-3.svs
"""
WANTED = ["age", "male", "lauren", "cea"]


@pytest.fixture
def folder(tmp_path):
    """Four patients: GA1 has all, GA2 a DICOM folder without mask, GA3 no slide, GA4 neither CT nor follow-up."""
    for name, text in (("clinical", CLINICAL), ("scans", SCANS), ("slides", SLIDES)):
        (tmp_path / f"{name}.csv").write_text(text)
    for name in ("GA1.nii.gz", "GA1_mask.nii.gz", "GA3.nii.gz", "GA3_mask.nii.gz", "GA2/one.dcm"):
        put(tmp_path / "scans" / name)
    for name in ("GA1-a.svs", "GA1-b.svs", "GA2-a.tiff", "GA4-a.svs"):
        put(tmp_path / "slides" / name)
    return tmp_path


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def change(folder, table, old, new):
    path = folder / f"{table}.csv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_matched_what_is_read(folder):
    people, scans, slides, *_ = read_matched(folder, WANTED)
    assert people["patient"].tolist() == ["GA1", "GA2", "GA3", "GA4"]
    assert people["hospital"].tolist() == ["A", "A", "B", "B"]
    np.testing.assert_array_equal(people["age"], [61, 70, np.nan, 55])
    np.testing.assert_array_equal(people["cea"], [3.5, np.nan, 12, 8])
    assert people["lauren"].tolist() == ["intestinal", "diffuse", "mixed", None]
    np.testing.assert_array_equal(people["event"], [0, 1, 1, np.nan])
    assert people["problem"].tolist() == ["", "", "", "no follow-up"]
    assert scans["label"].tolist() == [1, "liver", "2"]
    assert read_matched(folder, label="tumour").scans["label"].tolist() == ["tumour", "liver", "2"]
    assert scans["image"].tolist()[1] == str(folder / "scans" / "GA2")
    assert scans["mask"].tolist()[1] == ""
    assert slides["slide"].tolist() == ["GA1-a", "GA1-b", "GA2-a", "GA4-a"]
    np.testing.assert_array_equal(slides["um_per_px"], [0.25, np.nan, 0.5, np.nan])
    assert (scans["problem"] == "").all()
    assert (slides["problem"] == "").all()


def test_matched_one_table_holds_it_all(folder):
    before = read_matched(folder, WANTED)
    for name in ("clinical", "scans", "slides"):
        (folder / f"{name}.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"patients\.csv"):
        read_matched(folder, WANTED)
    rows = [
        "Patient,hospital,age,male,lauren,cea,time_months,event,image,mask,label,slides,um_per_px",
        "GA1,A,61,1,intestinal,3.5,30.2,0,scans/GA1.nii.gz,scans/GA1_mask.nii.gz,,slides/GA1-a.svs; slides/GA1-b.svs,0.25",
        "GA2,A,70,0,diffuse,,9,1,scans/GA2,,liver,slides/GA2-a.tiff,0.5",
        "GA3,B,NA,1,mixed,12,4.5,yes,scans/GA3.nii.gz,scans/GA3_mask.nii.gz,2,,",
        "GA4,B,55,0,,8,,,,,,slides/GA4-a.svs,",
    ]
    (folder / "patients.csv").write_text("\n".join(rows) + "\n")
    read = read_matched(folder, WANTED)
    pd.testing.assert_frame_equal(read.patients, before.patients)
    pd.testing.assert_frame_equal(read.scans, before.scans)
    of_one = ["patient", "slide", "path", "problem"]
    pd.testing.assert_frame_equal(read.slides[of_one], before.slides[of_one])
    np.testing.assert_array_equal(read.slides["um_per_px"], [0.25, 0.25, 0.5, np.nan])
    change(folder, "patients", "slides/GA2-a", "../GA2-a")
    with pytest.raises(ValueError, match=r"slide of patient GA2 is \.\./GA2-a\.tiff, and a path must stay"):
        read_matched(folder, WANTED)
    (folder / "clinical.csv").write_text(CLINICAL)
    with pytest.raises(ValueError, match=r"has both clinical\.csv and patients\.csv: remove one"):
        read_matched(folder, WANTED)


def test_matched_listed_file_that_is_not_there_is_reported_in_its_row(folder):
    (folder / "scans" / "GA3_mask.nii.gz").unlink()
    (folder / "scans" / "GA2" / "one.dcm").unlink()
    (folder / "slides" / "GA1-b.svs").write_bytes(b"")
    change(folder, "slides", "slides/GA4-a.svs", "slides/other.svs")
    matched = read_matched(folder, WANTED)
    assert matched.scans["problem"].tolist() == [
        "",
        "image scans/GA2 is empty",
        "mask scans/GA3_mask.nii.gz is not there",
    ]
    assert matched.slides["problem"].tolist() == [
        "",
        "slide slides/GA1-b.svs is empty",
        "",
        "slide slides/other.svs is not there",
    ]


def test_matched_a_series_is_a_column_of_scans(folder):
    assert read_matched(folder).scans["series"].tolist() == [""] * 3
    lines = (folder / "scans.csv").read_text(encoding="utf-8").splitlines()
    marks = ["series", "B30f", "8", ""]
    (folder / "scans.csv").write_text("\n".join(map(",".join, zip(lines, marks, strict=True))))
    assert read_matched(folder).scans["series"].tolist() == ["B30f", "8", ""]


def test_matched_a_follow_up_in_days_is_remarked(folder):
    """By what it would be in months."""
    table = pd.read_csv(folder / "clinical.csv")
    assert not read_matched(folder).columns["remark"].any()
    table.assign(time_months=(30.44 * table["time_months"]).round()).to_csv(
        folder / "clinical.csv", index=False
    )
    told = read_matched(folder).columns.set_index("column")
    assert told.loc["time_months", "remark"].endswith("are these days?")


def test_matched_a_spreadsheet_reads_alike(folder):
    before = read_matched(folder, WANTED)
    pd.read_csv(folder / "clinical.csv").to_excel(folder / "clinical.xlsx", index=False)
    with pytest.raises(ValueError, match=r"both clinical\.csv and clinical\.xlsx: remove one"):
        read_matched(folder, WANTED)
    (folder / "clinical.csv").unlink()
    pd.testing.assert_frame_equal(read_matched(folder, WANTED).patients, before.patients)


def test_matched_declared_columns(folder):
    change(folder, "clinical", "patient,hospital,age,male", "Patient ID,Centre,Age at surgery,Sex")
    mapping = {"patient": "patient id", "hospital": "Centre", "age": "Age at surgery", "male": "Sex"}
    people = read_matched(folder, ["age", "male"], mapping).patients
    assert people["male"].tolist() == [1, 0, 1, 0]
    assert people["hospital"].tolist() == ["A", "A", "B", "B"]
    with pytest.raises(ValueError, match="mapping names cea, not asked for"):
        read_matched(folder, ["age", "male"], mapping | {"cea": "CEA"})


def test_matched_files_of_a_modality_may_be_absent_altogether(folder):
    (folder / "slides.csv").unlink()
    assert read_matched(folder, WANTED).slides.empty
    (folder / "clinical.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"patients\.csv"):
        read_matched(folder)


def test_matched_one_of_two_scans_is_chosen_by_name(folder):
    put(folder / "scans" / "GA1_late.nii.gz")
    change(folder, "scans", "GA2,", "GA1,scans/GA1_late.nii.gz,,\nGA2,")
    with pytest.raises(ValueError, match="patient GA1 has 2 scans: remove all but one, or add a column use"):
        read_matched(folder)
    lines = (folder / "scans.csv").read_text(encoding="utf-8").splitlines()
    marks = ["use", "no", "yes", "yes", "yes"]
    (folder / "scans.csv").write_text(
        "\n".join(f"{line},{mark}" for line, mark in zip(lines, marks, strict=True))
    )
    scans = read_matched(folder).scans
    assert scans["patient"].tolist() == ["GA1", "GA2", "GA3"]
    assert scans["image"].iloc[0].endswith("GA1_late.nii.gz")


@pytest.mark.parametrize(
    ("table", "old", "new", "said"),
    [
        ("clinical", "GA2,A", "GA1,A", "patient GA1 stands twice"),
        ("clinical", "GA2,A", "unknown,A", "row 3 names no patient"),
        ("clinical", "GA2,A,70", "GA2,A,seventy", "age of patient GA2: 'seventy' is no number, as 2 others are; correct the table"),
        ("clinical", "8,,", "8,soon,", "time_months of patient GA4: 'soon' is no number"),
        ("clinical", "30.2", "43586", "time_months of patient GA1 is 43586, 0 to 1200 months are expected"),
        ("clinical", "GA2,A,70", "GA2,A,999", r"clinical.*age of patient GA2 is 999, .* 999: a code"),
        ("clinical", "4.5,yes", "4.5,2", "event of patient GA3: '2' is no category"),
        ("clinical", ",cea,", ",cea_level,", "has no column cea; nearest: cea_level"),
        ("scans", "GA3,", "GA03,", "patient GA03 is not in the clinical table; nearest: GA3"),
        ("scans", "image", "scan", "has no column image"),
        ("scans", "scans/GA3.nii.gz", "scans/GA1.nii.gz", r"image scans/GA1.nii.gz stands twice, of GA1 and GA3"),
        ("scans", "scans/GA3.nii.gz", "../GA3.nii.gz", "image of patient GA3 is ../GA3.nii.gz, and a path must stay"),
        ("scans", "scans/GA3.nii.gz", "/data/GA3.nii.gz", "image of patient GA3 is /data/GA3.nii.gz"),
        ("slides", "slides/GA2-a.tiff", "C:\\x\\GA2-a.tiff", "slide of patient GA2 is C:/x/GA2-a.tiff"),
        ("slides", "slides/GA2-a.tiff", "slides\\..\\..\\a.tiff", "a path must stay in"),
        ("slides", "GA1-b,", "GA1-a,", "slide GA1-a stands twice: remove one"),
        ("slides", "GA4-a,slides/GA4-a", "GA4-a,slides/GA1-a", "slide slides/GA1-a.svs stands twice, of GA1 and GA4"),
        ("slides", "GA4-a,slides", "x/GA4-a,slides", "slide 'x/GA4-a' holds a slash"),
        ("slides", "0.25", "40x", "um_per_px of slide GA1-a: '40x' is no number"),
        ("slides", "GA4,GA4-a", "GB4,GA4-a", "patient GB4 is not in the clinical table"),
    ],
)  # fmt: skip
def test_matched_refused_in_a_sentence(folder, table, old, new, said):
    change(folder, table, old, new)
    with pytest.raises(ValueError, match=said):
        read_matched(folder, WANTED)


@pytest.mark.parametrize("cell", ["=1+2", "61,5", "2019-05-01", "1/5/2019"])
def test_matched_a_formula_a_date_or_a_decimal_comma_is_no_category(folder, cell):
    change(folder, "clinical", "intestinal", f'"{cell}"')
    with pytest.raises(ValueError, match=r"lauren of patient GA1: .* numbers with a point"):
        read_matched(folder, WANTED)


def test_matched_measurements_with_a_unit_are_no_categories_and_spellings_of_one_category_are_one(tmp_path):
    count = 12
    table = pd.DataFrame({"patient": [f"P{i}" for i in range(count)], "time_months": 30.0, "event": 0})
    table["hospital"], table["stage"] = ["B", "b "] * 6, ["T1", "t1", " T2", "T2"] * 3
    table["cea"] = [f"{i}.5 ng/ml" for i in range(count)]
    table.to_csv(tmp_path / "patients.csv", index=False)
    patients = read_matched(tmp_path, ["stage"]).patients
    assert set(patients["hospital"]) == {"B"}  # else half of an external hospital would be trained on
    assert set(patients["stage"]) == {"T1", "T2"}
    with pytest.raises(ValueError, match=r"cea of patient P0: '0.5 ng/ml' is no number.*no units"):
        read_matched(tmp_path, ["cea"])


# where a file lies


# features made elsewhere


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_features_are_numbers_by_patient(tmp_path):
    text = "\ufeffPatient;diagnostics_Versions;original_shape_Volume;size\n7;3.0;1.5;\n10;3.0;-2e3;NA\n"
    table = read_feature_table(written(tmp_path / "ct.csv", text))
    assert list(table.index) == ["7", "10"]
    assert list(table) == ["original_shape_Volume", "size"]
    assert table["original_shape_Volume"].tolist() == [1.5, -2000.0]
    assert table["size"].isna().all()
    table = pd.DataFrame({"patient": ["a", "b"], "f": [1.25, np.nan]})
    table.to_excel(tmp_path / "x.xlsx", index=False)
    assert read_feature_table(tmp_path / "x.xlsx")["f"].iloc[0] == 1.25


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pat,f\na,1\n", "has no column patient; "),
        ("patient,f\na,1\na,2\n", "patient a stands twice"),
        ("patient,f,g\na,1,2\nb,x1,inf\n", r"f of patient b: 'x1' is no number\n.*g of patient b: 'inf' is"),
    ],
)
def test_features_refused(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        read_feature_table(written(tmp_path / "ct.csv", text))


# head and neck


def test_lro_tables_are_read_by_patient(tmp_path):
    files = {
        "clinical.csv": "patient,Male,T-Stage,CRT or RT,label\n1,0,1,1,0\n2,1,2,0,0\n10,1,2,0,1\n",
        "ct_fea_pre.csv": "patient,f000,f001\n1,0.5,2\n2,1.5,3\n10,2.5,4\n",
        "pet_fea_pre.csv": "patient,f000,f001\n10,7,8\n2,5,6\n1,3,4\n",
    }
    for name, text in files.items():
        written(tmp_path / name, text)
    tables, label = read_lro(tmp_path)
    assert list(tables) == ["clinical", "ct", "pet"]
    assert list(tables["clinical"]) == ["male", "t_stage", "crt_or_rt"]
    assert label.to_dict() == {"1": 0, "2": 0, "10": 1}
    assert tables["pet"].loc["2"].to_dict() == {"f000": 5, "f001": 6}
    pd.DataFrame([["SUV_max", "volume"]]).to_excel(
        tmp_path / "RadiomicsFeatureName.xlsx", header=False, index=False
    )
    assert list(read_lro(tmp_path)[0]["ct"]) == ["SUV_max", "volume"]
    written(tmp_path / "ct_fea_pre.csv", "patient,f000,f001\n1,0.5,2\n2,n,3\n10,2.5,4\n")
    with pytest.raises(ValueError, match="f000 of patient 2: 'n' is no number"):
        read_lro(tmp_path)


@pytest.mark.real
def test_lro_real_tables(mirror):
    tables, label = read_lro(mirror / "ct" / "lro_headneck")
    assert [table.shape for table in tables.values()] == [(150, 10), (150, 257), (150, 257)]
    assert (len(label), label.sum()) == (150, 38)
    assert not any(table.isna().any(axis=None) for table in tables.values())
    for name in ("ct", "pet"):
        assert (tables[name]["SUV_min"] <= tables[name]["SUV_median"]).all(), "the names fit the columns"
        assert (tables[name]["SUV_mean"] <= tables[name]["SUV_max"]).all()
    assert tables["clinical"]["age"].between(28, 82).all()


# TCGA-STAD

BASE = {
    "type": "STAD", "age_at_initial_pathologic_diagnosis": 60, "gender": "MALE",
    "ajcc_pathologic_tumor_stage": "Stage IIIA", "clinical_stage": "[Not Applicable]", "histological_grade": "G3",
    "new_tumor_event_type": "", "new_tumor_event_site": "", "new_tumor_event_site_other": "",
    "new_tumor_event_dx_days_to": "", "OS": 0, "OS.time": 900, "PFI": 0, "PFI.time": 900,
}  # fmt: skip


def spread(kind, site, other, day, last=900):
    sites = {"new_tumor_event_site": site, "new_tumor_event_site_other": other}
    return {"new_tumor_event_type": kind, **sites, "new_tumor_event_dx_days_to": day, "OS.time": last}


ROWS = {
    "TCGA-AA-0001": {},
    "TCGA-AA-0002": spread("Distant Metastasis", "Liver", "", 304.4),
    "TCGA-AA-0003": spread("Distant Metastasis", "Other, specify", "LIVER and lung", 152.2),
    "TCGA-AA-0004": spread("Locoregional Recurrence|Distant Metastasis", "Liver", "", 400),
    "TCGA-BB-0005": spread("New Primary Tumor", "Liver", "", 100),
    "TCGA-BB-0006": spread("Distant Metastasis", "Lung", "", 467, 21),
    "TCGA-BB-0007": {"OS.time": "", "PFI.time": ""},
    "TCGA-BB-0008": {
        "gender": "",
        "ajcc_pathologic_tumor_stage": "[Discrepancy]",
        "histological_grade": "GX",
    },
    "TCGA-ZZ-0009": {"type": "COAD", **spread("Distant Metastasis", "Liver", "", 10)},
}
FACTORS = ["age", "male", "stage", "grade"]


def cdr(folder, rows=ROWS):
    table = pd.DataFrame([{"bcr_patient_barcode": name, **BASE, **row} for name, row in rows.items()])
    table.to_csv(folder / "cdr.csv", index=False)
    return folder / "cdr.csv"


def test_stad_liver_in_either_site_but_no_new_primary(tmp_path):
    found = read_stad(cdr(tmp_path)).set_index("patient")
    assert found["event"].tolist() == [0, 1, 1, 1, 0, 0, 0, 0]
    np.testing.assert_allclose(found["time_months"] * 30.44, [900, 304.4, 152.2, 400, 900, 900, np.nan, 900])
    assert found["problem"].tolist() == [""] * 6 + ["no follow-up", ""]
    assert found["hospital"].tolist() == ["AA"] * 4 + ["BB"] * 4
    assert found.loc["TCGA-AA-0001", FACTORS].tolist() == [60, 1, 3, 3]
    np.testing.assert_array_equal(
        found.loc["TCGA-BB-0008", FACTORS].astype(float), [60, np.nan, np.nan, np.nan]
    )
    later = {"TCGA-BB-0006": ROWS["TCGA-BB-0006"] | {"PFI.time": 21}}  # seen later than the follow-up says
    assert read_stad(cdr(tmp_path, later))["time_months"].iloc[0] == pytest.approx(467 / 30.44)


def test_stad_patients_asked_for_and_an_event_without_a_day(tmp_path):
    found = read_stad(cdr(tmp_path), ["TCGA-BB-0005", "TCGA-AA-0002"])
    assert found["patient"].tolist() == ["TCGA-AA-0002", "TCGA-BB-0005"]
    dayless = read_stad(cdr(tmp_path, {"TCGA-AA-0002": spread("Distant Metastasis", "Liver", "", "")}))
    assert dayless["problem"].tolist() == ["no follow-up"]


@pytest.mark.real
def test_stad_real_numbers(mirror):
    """25 of the 349 patients with slides in PORPOISE's table; 29 of all 443."""
    path = mirror / "tcga" / "tcga_cdr_subset.csv"
    assert read_stad(path)["event"].agg(["size", "sum"]).tolist() == [443, 29]
    slides = read_outcomes(mirror / "tcga" / "survival" / "tcga_stad_survival.csv")
    found = read_stad(path, slides["patient"])
    assert found["event"].agg(["size", "sum"]).tolist() == [349, 25]
    assert (found["problem"] == "").all()
    assert found[FACTORS].isna().sum().tolist() == [3, 0, 8, 9]
    status = metachronous(found["time_months"], found["event"])["status"].value_counts().to_dict()
    assert status == {"censored early": 222, "free": 102, "metastasis": 18, "synchronous": 7}


def test_normal_tissue_among_the_slides_has_its_reason_and_a_wrong_slide_under_um_per_px_is_told(
    folder, monkeypatch, capsys
):
    (folder / "slides.csv").write_text(BARCODES)
    (folder / "slides").mkdir(exist_ok=True)
    for line in BARCODES.splitlines()[1:]:
        (folder / line.split(",")[1]).write_bytes(b"x")
    monkeypatch.setattr("lib.gcmlm.cohort.raw_folder", lambda stage: folder)

    def slides(**changes):
        about = {"phantom": None, "matched_cohort": "here", "factors": WANTED, "external_hospitals": []}
        params = GastricParams(cohort="mine", kind="open", **about | changes)
        return read_cohort(SimpleNamespace(params=params)).slides.set_index("slide")["problem"]

    assert [bool(each) for each in slides()] == [False, True, False]
    assert "normal_tissue: true" in slides()["TCGA-BR-A1FU-11A-02-TSB"]
    assert "1 slides of normal tissue" in capsys.readouterr().out
    assert (slides(normal_tissue=True) == "").all()
    with pytest.raises(ValueError, match="um_per_px names S21, which is no slide of this cohort"):
        slides(um_per_px={"S21": 0.25})

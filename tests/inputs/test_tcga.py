"""TCGA's tables of outcomes: each of their traps, in a small table and in the real ones."""

import re
import zipfile

import numpy as np
import openpyxl
import pandas as pd
import pytest

from lib.inputs.tcga import (
    DAYS_PER_MONTH,
    by_patient,
    contradicted,
    first_known,
    grade_number,
    patient_of,
    read_cdr,
    read_outcomes,
    sample_of,
    site_of,
    stage_number,
)

CANCERS = {"blca": 373, "brca": 956, "coadread": 340, "gbmlgg": 569, "luad": 453, "ucec": 480}
ROWS = [
    ("TCGA-05-4249", "TCGA-05-4249-01Z-00-DX1.9fce.svs", "LUAD", "5", "0.0", "67.0", "50.03", "1.0"),
    ("TCGA-05-4249", "TCGA-05-4249-01Z-00-DX2.77aa.svs", "LUAD", "5", "0.0", "67.0", "50.03", "1.0"),
    ("TCGA-A6-4250", "TCGA-A6-4250-01Z-00-DX1.90f6.svs", "LUAD", "A6", "1.0", "", "0", "0.0"),
]
HEAD = ("case_id", "slide_id", "oncotree_code", "site", "is_female", "age", "survival_months", "censorship")


def table(folder, rows=ROWS, head=HEAD, name="tcga_x_survival.csv"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(",".join(row) for row in [head, *rows]) + "\n")
    return path


def changed(row=0, **fields):
    rows = [dict(zip(HEAD, one, strict=True)) for one in ROWS]
    rows[row] |= fields
    return [tuple(one.values()) for one in rows]


def test_rows_are_slides_and_become_patients(tmp_path):
    slides = read_outcomes(table(tmp_path))
    assert slides["slide"].tolist() == [row[1].removesuffix(".svs") for row in ROWS]
    assert slides["event"].tolist() == [0, 0, 1]  # censorship 1 is no event
    assert slides["site"].tolist() == ["05", "05", "A6"]  # from the barcode, with its zero
    cases = by_patient(slides)
    np.testing.assert_array_equal(cases["age"], [67, np.nan])  # missing stays missing
    np.testing.assert_array_equal(cases["female"], [0, 1])
    assert cases["patient"].tolist() == ["TCGA-05-4249", "TCGA-A6-4250"]
    assert cases["slides"].tolist() == [2, 1]
    assert cases["time_months"].tolist() == [50.03, 0.0]


def test_table_keyed_by_slide_finds_its_patients(tmp_path):
    """CrossFusion's COAD: `case_id` is a slide's name, and there is no age, sex, site or type."""
    name = "TCGA-A6-2683-01Z-00-DX1.0dfc5d0a"
    head = ("", *HEAD[:2], "censorship", "survival_days", HEAD[6])
    row = read_outcomes(table(tmp_path, [("0", name, f"{name}.svs", "0", "504", "17")], head)).iloc[0]
    assert row[["patient", "slide", "site", "oncotree_code"]].tolist() == ["TCGA-A6-2683", name, "A6", ""]
    assert (row["time_months"], row["event"]) == (17, 1)
    assert np.isnan(row["age"])
    assert np.isnan(row["female"])


@pytest.mark.parametrize(
    ("patient", "slide"),
    [
        ("patient_0", "slide_1.ndpi"),
        ("P1", "P10_a.svs"),
        ("P001", "S21-A1"),
        ("007", "1.TIFF"),
        ("P2", "scan.vmu"),
        ("P3", "series.dcm"),
        ("TCGA-A6-2683", "S21-A1"),  # one barcode alone is compared with nothing
        ("TCGA-A6-2683", "TCGA-A6-26834-01Z"),  # no barcode
        ("P4", "TCGA-A6-2683-01Z-00-DX1"),
    ],
)
def test_names_that_are_no_barcodes_are_taken_as_they_stand(tmp_path, patient, slide):
    path = table(tmp_path, [(patient, slide, "PHANTOM", "PH", "1", "60", "5", "0")])
    row = read_outcomes(path).iloc[0]
    site = patient[5:7] if patient.startswith("TCGA") else "PH"
    assert row[["patient", "slide", "site"]].tolist() == [patient, slide.partition(".")[0], site]


def test_a_hospital_s_own_columns(tmp_path):
    path = tmp_path / "patients.csv"
    text = "patient,slide,time_months,event,age,female,hospital,ward\nPat. 1,S1 A.svs,12.5,1,60,1,North,3\n2,S2,7,0,,,,4\n"
    path.write_text(text)
    slides = read_outcomes(path)
    assert [*slides["patient"], *slides["slide"]] == ["Pat. 1", "2", "S1 A", "S2"]
    assert slides["site"].tolist() == ["North", ""]
    np.testing.assert_array_equal(slides[["time_months", "event"]], [[12.5, 1], [7, 0]])
    np.testing.assert_array_equal(slides[["age", "female"]], [[60, 1], [np.nan, np.nan]])
    for old, new, said in [
        ("12.5,1", "12.5,", "event of Pat. 1: the cell is empty"),
        (",60,", ",21915,", "age of patient Pat. 1 is 21915, 0 to 120 years"),
        ("event", "dead", "no column event"),
    ]:
        path.write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=re.escape(said)):
            read_outcomes(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"patients\.csv is not there$"):
        read_outcomes(path)


def test_a_hospital_s_spreadsheet(tmp_path):
    book = openpyxl.Workbook()
    head = ["patient", "slide", "time_months", "event", "female"]
    for row in (head, [4711, 12, 7, "Dead", "f"], [15, 13, 9.5, "alive", "m"]):
        book.active.append(row)
    for cell in ("A2", "A3", "B2"):
        book.active[cell].number_format = "0000000"
    book.save(tmp_path / "patients.xlsx")
    found = read_outcomes(tmp_path / "patients.csv")
    assert found[["patient", "slide"]].to_numpy().tolist() == [["0004711", "0000012"], ["0000015", "13"]]
    np.testing.assert_array_equal(found[["time_months", "event", "female"]], [[7, 1, 1], [9.5, 0, 0]])
    (tmp_path / "patients.csv").write_text("patient\n")
    with pytest.raises(ValueError, match=r"both patients\.csv and patients\.xlsx: remove one"):
        read_outcomes(tmp_path / "patients.csv")
    for name, said in (("Fall", "no column patient among Fall"), ("patient", r"(?s)slide 'a.*of 1: 'tot'")):
        (tmp_path / "t.csv").write_text(f"{name};slide;time_months;event\n1;a\\b;7;tot\n")
        with pytest.raises(ValueError, match=said):
            read_outcomes(tmp_path / "t.csv")


def test_missing_table_is_read_from_the_one_it_was_taken_from(tmp_path):
    wanted = tmp_path / "survival" / "tcga_x_survival.csv"
    with pytest.raises(FileNotFoundError, match=r"neither .*survival\.csv nor .*_all_clean\.csv\.zip"):
        read_outcomes(wanted)
    archive = tmp_path / "porpoise" / "datasets_csv_mutsig" / "tcga_x_all_clean.csv.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as content:
        content.write(table(tmp_path, [(*row, "0.5") for row in ROWS], (*HEAD, "AAK1_rnaseq")), "x.csv")
    pd.testing.assert_frame_equal(read_outcomes(wanted), read_outcomes(table(tmp_path)))  # without the omics
    table(tmp_path / "survival", ROWS[:1])
    assert len(read_outcomes(wanted)) == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(censorship="2"), "censorship of TCGA-05-4249: '2' is no category it has"),
        (changed(2, survival_months=""), "survival_months of TCGA-A6-4250: the cell is empty"),
        (changed(survival_months="2019-05-01"), "survival_months of TCGA-05-4249: '2019-05-01' is no number"),
        (changed(survival_months="43586"), "survival_months of patient TCGA-05-4249 is 43586"),
        (changed(survival_months='"12,5"'), "survival_months of TCGA-05-4249: '12,5' is no number"),
        (changed(age="22000"), "age of patient TCGA-05-4249 is 22000, 0 to 120 years .*: are these days"),
        (changed(slide_id=ROWS[1][1]), r"slide TCGA-05-4249-01Z-00-DX2\.77aa stands twice"),
        (changed(2, slide_id="TCGA-A6-4251-01Z.svs"), "slide TCGA-A6-4251-01Z is another patient's"),
        (changed(case_id=""), "names no patient"),
        (changed(case_id="tcga-05-4249"), "'tcga-05-4249'"),
        ([], "is no table of slides with follow-up"),
    ],
)
def test_unusable_rows_are_named(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        read_outcomes(table(tmp_path, rows))


@pytest.mark.parametrize(
    ("field", "value"),
    [("survival_months", "50.04"), ("censorship", "0"), ("age", ""), ("oncotree_code", "READ")],
)
def test_slides_that_disagree_about_their_patient_are_refused(tmp_path, field, value):
    slides = read_outcomes(table(tmp_path, changed(1, **{field: value})))
    with pytest.raises(ValueError, match="patient TCGA-05-4249: slides disagree in"):
        by_patient(slides)


def test_barcodes():
    assert patient_of("TCGA-A6-2683-01Z-00-DX1.0dfc5d0a.svs") == patient_of("TCGA-A6-2683") == "TCGA-A6-2683"
    assert patient_of("TCGA-A6-26834") == "TCGA-A6-26834"
    assert patient_of("case 12 of Leeds") == "case 12 of Leeds"
    assert site_of("TCGA-A6-2683") == "A6"
    with pytest.raises(ValueError, match="PHANTOM-0007 is no TCGA barcode"):
        site_of("PHANTOM-0007")


CDR_HEAD = ("bcr_patient_barcode", "type", "gender", "OS", "OS.time", "DFI", "DFI.time", "clinical_stage")


def test_cdr_os_1_is_dead_and_missing_stays_missing(tmp_path):
    rows = [
        ("TCGA-2F-A9KO", "BLCA", "MALE", "1.0", "734.0", "", "", "[Not Applicable]"),
        ("TCGA-2F-A9KP", "BLCA", "FEMALE", "0", "", "1", "9", ""),
    ]
    found = read_cdr(table(tmp_path, rows, CDR_HEAD))
    assert found["os_event"].tolist() == [1, 0]
    np.testing.assert_array_equal(found["os_days"], [734, np.nan])
    np.testing.assert_array_equal(found["dfi_event"], [np.nan, 1])
    assert found["female"].tolist() == [0, 1]
    assert found["clinical_stage"].tolist() == ["[Not Applicable]", ""]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (0, "TCGA-2F-A9KO", "patient TCGA-2F-A9KO stands twice"),
        (0, "TCGA-2F-A9KO ", "stands twice"),
        (0, "", "names no patient"),
        (2, "M", "gender of TCGA-2F-A9KP: 'M' is no category it has; .*male"),
        (3, "3", "OS of TCGA-2F-A9KP: '3'"),
        (4, "soon", "OS.time of TCGA-2F-A9KP: 'soon'"),
    ],
)
def test_rows_of_cdr_that_cannot_be(tmp_path, field, value, message):
    row = ["TCGA-2F-A9KP", "BLCA", "MALE", "1", "734", "", "", ""]
    other = [*row[:field], value, *row[field + 1 :]]
    with pytest.raises(ValueError, match=message):
        read_cdr(table(tmp_path, [["TCGA-2F-A9KO", *row[1:]], other], CDR_HEAD))
    with pytest.raises(KeyError, match="bcr_patient_barcode"):
        read_cdr(table(tmp_path))


STAGES = {"Stage I": 1, "Stage IA": 1, "stage iii": 3, "Stage IIIC2": 3, "IV": 4, "Stage IVC": 4}
GRADES = {"G1": 1, " g2 ": 2, "High Grade": 3, "Low Grade": 1}
NEITHER = ("Stage X", "[Not Available]", "", None, np.nan, "Stage IIII", "Stage 2", "GX", "[Unknown]", "G5")


def test_sample_types_are_those_of_the_barcode():
    types = {"01Z-00-DX1": "primary tumour", "02A-01-TS1": "recurrence", "06Z-00-DX1": "metastasis"}
    types |= {"11A-02-TSB": "normal tissue", "10A-01-BS1": "normal blood", "61A-01-TS1": "type 61"}
    assert {end: sample_of(f"TCGA-BH-A1FU-{end}.svs") for end in types} == types
    for name in ("S21-11A-3", "P1-01", "TCGA-BH-A1FU", "TCGA-BH-A1FU-DX1"):
        assert sample_of(name) == ""


def test_stage_and_grade_are_numbers_or_missing():
    for read, known in ((stage_number, STAGES), (grade_number, GRADES)):
        assert [read(text) for text in known] == list(known.values())
        assert np.isnan([read(text) for text in NEITHER]).all()


def test_second_column_fills_in_where_the_first_has_no_stage():
    none = "[Not Available]"
    table = pd.DataFrame({"ajcc": ["Stage IV", none, none], "clinical": ["Stage I", "Stage IIA", none]})
    stages = first_known(table, ["ajcc", "clinical"])
    np.testing.assert_array_equal(stages, [4, 2, np.nan])


@pytest.mark.parametrize("cancer", CANCERS)
def test_real_tables_agree_with_tcga_cdr(cancer, mirror):
    """Two tables of different authors: months x 30.44 are days, and 0 censored is 1 dead."""
    cases = by_patient(read_outcomes(mirror / "tcga" / "survival" / f"tcga_{cancer}_survival.csv"))
    assert len(cases) == CANCERS[cancer]
    both = cases.merge(read_cdr(mirror / "tcga" / "tcga_cdr_subset.csv"), on="patient", validate="1:1")
    assert len(both) == len(cases)
    same_days = (both["time_months"] * DAYS_PER_MONTH).round() == both["os_days"]
    same_event = both["event"] == both["os_event"]
    assert cases["age"].isna().sum() == {"luad": 10, "ucec": 2}.get(cancer, 0)
    least = 0.997 if cancer == "coadread" else 1
    assert same_days.mean() >= least
    assert same_event.mean() >= least
    assert (both["site"] == both["patient"].str[5:7]).all()


def test_coad_is_keyed_by_slide_in_whole_months_with_zeros(mirror):
    slides = read_outcomes(mirror / "tcga/crossfusion/data/tcga_coad_all_clean.csv")
    cases = by_patient(slides)
    assert (len(slides), len(cases), slides["event"].sum(), cases["event"].sum()) == (424, 416, 96, 95)
    assert (slides["time_months"] % 1 == 0).all()
    assert (slides["time_months"] == 0).sum() == 23
    assert slides["age"].isna().all()


def test_luad_of_crossfusion_lacks_nine_patients(mirror):
    ours = by_patient(read_outcomes(mirror / "tcga/survival/tcga_luad_survival.csv")).set_index("patient")
    theirs = by_patient(read_outcomes(mirror / "tcga/crossfusion/data/tcga_luad_all_clean.csv.zip"))
    theirs = theirs.set_index("patient")
    assert (len(ours), len(theirs)) == (453, 444)
    assert len(ours.index.difference(theirs.index)) == 9
    assert theirs.index.isin(ours.index).all()
    same = ours.loc[theirs.index, ["time_months", "event"]] == theirs[["time_months", "event"]]
    assert same.all(axis=None)


def test_an_inverted_censorship_is_refused_where_tcga_cdr_says_so_and_a_single_contradiction_is_named(
    tmp_path,
):
    random = np.random.default_rng(0)
    died, names = random.random(60) < 0.35, [f"TCGA-ZZ-{i:04d}" for i in range(60)]
    head = ("case_id", "slide_id", "survival_months", "censorship")
    about = ("bcr_patient_barcode", "type", "OS", "OS.time")
    cdr = [(name, "LUAD", str(int(dead)), "600") for name, dead in zip(names, died, strict=True)]
    clinic = read_cdr(table(tmp_path, cdr, about, "cdr.csv")).set_index("patient")

    def outcomes(censored):
        rows = [
            (name, f"{name}-01Z-00-DX1.svs", "20", str(int(each)))
            for name, each in zip(names, censored, strict=True)
        ]
        return by_patient(read_outcomes(table(tmp_path, rows, head))).set_index("patient")

    assert contradicted(outcomes(~died), clinic) == []
    with pytest.raises(ValueError, match="contradicts the outcome of 60 of 60 patients"):
        contradicted(outcomes(died), clinic)
    assert contradicted(outcomes(np.r_[died[:1], ~died[1:]]), clinic) == ["TCGA-ZZ-0000"]
    assert contradicted(outcomes(died), clinic[["cancer"]]) == []  # a table without outcomes


def test_the_one_contradiction_of_coadread(mirror):
    folder = mirror / "tcga"
    cases = by_patient(read_outcomes(folder / "survival" / "tcga_coadread_survival.csv")).set_index("patient")
    assert contradicted(cases, read_cdr(folder / "tcga_cdr_subset.csv").set_index("patient")) == [
        "TCGA-F5-6702"
    ]

"""Hostile tables: what patients, follow-up, features, folds and sections are read from."""

import io
import sys
import zipfile
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from lib.crossfusion.cohort import read_folds, stored_predictions
from lib.gcmlm import cohort as lro
from lib.gcmlm import matched
from lib.gcmlm.cohort import read_feature_table
from lib.inputs import manifests, tcga
from lib.inputs.tables import read_texts
from lib.spacrd.cohort import read_table
from lib.stroke import arrays as stroke_arrays
from lib.stroke import cohort as isles
from lib.stroke.cohort import read_partition

sys.path.insert(0, str(Path(__file__).parent))
from judge import Case, judge, shown

CLINICAL = "patient,hospital,age,time_months,event\nP1,A,61,12.5,1\nP2,B,70,30,0\nP3,A,55,8,1\n"
OUTCOMES = (
    "case_id,slide_id,survival_months,censorship,age,is_female,site,oncotree_code\n"
    "TCGA-A6-2683,TCGA-A6-2683-01Z-00-DX1.svs,12.5,0,61,1,A6,COAD\n"
    "TCGA-A6-2684,TCGA-A6-2684-01Z-00-DX1.svs,30,1,70,0,A6,COAD\n"
)
CDR = (
    "bcr_patient_barcode,type,age_at_initial_pathologic_diagnosis,gender,OS,OS.time\n"
    "TCGA-A6-2683,COAD,61,FEMALE,1,380\nTCGA-A6-2684,COAD,70,MALE,0,900\n"
)
FEATURES = "patient,f1,f2\nP1,0.5,2\nP2,0.7,3\n"
STROKE = (
    "PATIENT_ID,Age,Onset2CTP,CTP2Recanalization,NIHSS00,Sex,Hypertension,Smoking,Atrial_Fibrillation,mTICI,mRs90_binary\n"
    "P1,61,80,90,12,0,1,0,0,1,1\nP2,70,120,60,5,1,0,0,1,2,0\n"
)
LRO = {
    "clinical.csv": "patient,Age,label\nP1,61,1\nP2,70,0\nP3,55,1\nP4,58,0\n",
    **{f"{kind}_fea_pre.csv": "patient,a,b\nP1,1,5\nP2,2,6\nP3,4,7\nP4,3,9\n" for kind in ("ct", "pet")},
}
SECTIONS = "section,patient,platform,folder,labels,label_grade,note\nA1,A,st,,,pathologist,\n"
SPLIT = "train,val\nTCGA-A6-2683,TCGA-A6-2684\nTCGA-A6-2685,\n"
MANIFEST = "id\tfilename\tmd5\tsize\n12345678-1234-1234-1234-123456789abc\tA-DX1.svs\t" + "0" * 32 + "\t9\n"
UTF16, LATIN = "utf-16", "latin-1"


def put(name: str, text: str | bytes, encoding: str = "utf-8", **others: str):
    """A file in the room; what is read is the file."""

    def make(room):
        for other, content in {name: text, **others}.items():
            data = content if isinstance(content, bytes) else content.encode(encoding)
            (room / other).write_bytes(data)
        return room / name

    return make


def cohort(clinical: str | bytes | None = CLINICAL, encoding="utf-8", name="clinical.csv", **tables):
    """A matched cohort's folder with two scans' files."""

    def make(room):
        folder = room / "cohort"
        folder.mkdir()
        if clinical is not None:
            data = clinical if isinstance(clinical, bytes) else clinical.encode(encoding)
            (folder / name).write_bytes(data)
        for file in ("p1.nii.gz", "p1.svs", "p2.svs"):
            (folder / file).write_bytes(b"content")
        (room / "outside.svs").write_bytes(b"content")
        for table, text in tables.items():
            (folder / f"{table}.csv").write_bytes(text.encode(encoding))
        return folder

    return make


def matched_of(folder: Path):
    return matched.read_matched(folder, ["age"])


def ages(expected=(61.0, 70.0, 55.0)):
    def check(read) -> str:
        right = read.patients["patient"].tolist() == ["P1", "P2", "P3"]
        return "same" if right and read.patients["age"].tolist() == list(expected) else ""

    return check


def problem(word: str):
    """Named in the cohort's tables."""

    def check(read) -> str:
        said = "; ".join(one for table in read for one in table["problem"] if one)
        return f"named: {said}" if word in said else ""

    return check


HEADER = ("patient", "hospital", "age", "time_months", "event")
ROWS = (HEADER, ("P1", "A", 61, 12.5, 1), ("P2", "B", 70, 30, 0), ("P3", "A", 55, 8, 1))


def xlsx(change=None, rows=ROWS):
    """A spreadsheet, its sheet's XML changed."""

    def make(room):
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        whole = io.BytesIO()
        book.save(whole)
        if change is None:
            return cohort(whole.getvalue(), name="clinical.xlsx")(room)
        changed = io.BytesIO()
        with zipfile.ZipFile(whole) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, change(name, old.read(name)))
        return cohort(changed.getvalue(), name="clinical.xlsx")(room)

    return make


def sheet(edit):
    return lambda name, data: edit(data) if name.endswith("sheet1.xml") else data


LAUGHS = b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9)
)
OUTSIDE = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>'


def far_cell(data: bytes) -> bytes:
    return data.replace(b"</sheetData>", b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>')


def far_column(data: bytes) -> bytes:
    rows = b"".join(b'<row r="%d"><c r="XFD%d"><v>1</v></c></row>' % (n, n) for n in range(5, 3000))
    return data.replace(b"</sheetData>", rows + b"</sheetData>")


def folder_of(files: dict[str, str | bytes]):
    def make(room):
        folder = room / "tables"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder

    return make


def zipped(name: str, members: dict[str, bytes], level=zipfile.ZIP_DEFLATED):
    def make(room):
        with zipfile.ZipFile(room / name, "w", level) as file:
            for member, data in members.items():
                file.writestr(member, data)
        return room / name

    return make


CELL = "x" * 10_000_000
MATCHED = [
    Case("a byte-order mark", cohort("\ufeff" + CLINICAL), matched_of, check=ages(), must_read=True),
    Case("semicolons", cohort(CLINICAL.replace(",", ";")), matched_of, check=ages(), must_read=True),
    Case("tabs", cohort(CLINICAL.replace(",", "\t")), matched_of, check=ages(), must_read=True),
    Case(
        "Windows' line ends", cohort(CLINICAL.replace("\n", "\r\n")), matched_of, check=ages(), must_read=True
    ),
    Case(
        "old Mac's line ends", cohort(CLINICAL.replace("\n", "\r")), matched_of, says="clinical", check=ages()
    ),
    Case("outer spaces", cohort(CLINICAL.replace(",", " , ")), matched_of, check=ages(), must_read=True),
    Case(
        "Latin-1",
        cohort(CLINICAL.replace("P3,A", "P3,Köln"), "latin-1"),
        matched_of,
        check=ages(),
        must_read=True,
    ),
    Case("UTF-16", cohort(CLINICAL, "utf-16"), matched_of, says="clinical.csv"),
    Case("empty", cohort(""), matched_of, says="clinical.csv"),
    Case("spaces alone", cohort("  \n \n"), matched_of, says="clinical.csv"),
    Case("header alone", cohort(CLINICAL.split("\n")[0]), matched_of, says="clinical.csv"),
    Case("no header", cohort(CLINICAL.split("\n", 1)[1]), matched_of, says="clinical.csv"),
    Case("ragged, longer", cohort(CLINICAL.replace("P2,B", "P2,B,x,y")), matched_of, says="clinical.csv"),
    Case(
        "ragged, shorter",
        cohort(CLINICAL.replace("P2,B,70,30,0", "P2,B")),
        matched_of,
        says="P2",
        check=problem("no follow-up"),
    ),
    Case("NUL bytes", cohort(CLINICAL.replace("P2", "P2\0")), matched_of, says="clinical.csv"),
    Case("binary", cohort(bytes(range(256)) * 40), matched_of, says="clinical.csv"),
    Case("a cell of 10 MB", cohort(CLINICAL.replace("P2,B", f"P2,{CELL}")), matched_of, says="clinical.csv"),
    Case("a patient of 10 MB", cohort(CLINICAL.replace("P2", CELL)), matched_of, says="clinical.csv"),
    Case("an open quote", cohort(CLINICAL.replace("P2", '"P2')), matched_of, says="clinical.csv"),
    Case("a column twice", cohort(CLINICAL.replace("hospital", "Age")), matched_of, says="clinical.csv"),
    Case("a patient twice", cohort(CLINICAL.replace("P3", "P2")), matched_of, says="P2"),
    Case("a patient twice in another case", cohort(CLINICAL.replace("P3", "p2")), matched_of, says="p2"),
    Case("a patient twice with a space", cohort(CLINICAL.replace("P3", "P 2")), matched_of, says="P 2"),
    Case(
        "a patient twice without zeros",
        cohort(CLINICAL.replace("P2", "007").replace("P3", "7")),
        matched_of,
        says="007",
    ),
    Case("a patient without name", cohort(CLINICAL.replace("P2", "")), matched_of, says="clinical.csv"),
    Case(
        "a patient that leaves the folder",
        cohort(CLINICAL.replace("P2", "../../evil")),
        matched_of,
        says="evil",
    ),
    Case(
        "a patient with a backslash", cohort(CLINICAL.replace("P2", "a\\b")), matched_of, says="clinical.csv"
    ),
    Case(
        "a patient with a newline", cohort(CLINICAL.replace("P2", '"P\n2"')), matched_of, says="clinical.csv"
    ),
    Case(
        "a patient that is a formula",
        cohort(CLINICAL.replace("P2", "=cmd|' /C calc'!A0")),
        matched_of,
        says="cmd",
    ),
    Case(
        "a patient that is a formula by @",
        cohort(CLINICAL.replace("P2", "@SUM(1+1)")),
        matched_of,
        says="SUM",
    ),
    Case(
        "a patient of 300 letters", cohort(CLINICAL.replace("P2", "P" * 300)), matched_of, says="clinical.csv"
    ),
    Case(
        "a hospital that is a formula",
        cohort(CLINICAL.replace("P2,B", "P2,=HYPERLINK(1)")),
        matched_of,
        says="HYPERLINK",
    ),
    Case(
        "a category that is a formula",
        cohort(CLINICAL.replace("61", "=1+1").replace("70", "old").replace("55", "old")),
        matched_of,
        says="age",
    ),
    Case("a date for months", cohort(CLINICAL.replace("12.5", "2019-05-01")), matched_of, says="P1"),
    Case("a German date for months", cohort(CLINICAL.replace("12.5", "01.05.2019")), matched_of, says="P1"),
    Case("a spreadsheet's day for months", cohort(CLINICAL.replace("12.5", "43586")), matched_of, says="P1"),
    Case("months below 0", cohort(CLINICAL.replace("12.5", "-3")), matched_of, says="P1"),
    Case("months infinite", cohort(CLINICAL.replace("12.5", "inf")), matched_of, says="P1"),
    Case("months with an underscore", cohort(CLINICAL.replace("12.5", "1_2")), matched_of, says="P1"),
    Case("months in Arabic digits", cohort(CLINICAL.replace("12.5", "١٢")), matched_of, says="P1"),
    Case(
        "decimal commas in months",
        cohort(CLINICAL.replace(",", ";").replace("12.5", "12,5")),
        matched_of,
        says="P1",
    ),
    Case(
        "decimal commas in all ages",
        cohort(CLINICAL.replace(",", ";").replace("61", "61,5").replace("70", "70,5").replace("55", "55,5")),
        matched_of,
        says="age",
    ),
    Case(
        "dates in all ages",
        cohort(CLINICAL.replace("61", "1960-01-01").replace("70", "1950-03-02").replace("55", "1970-01-01")),
        matched_of,
        says="age",
    ),
    Case("one word among ages", cohort(CLINICAL.replace("70", "old")), matched_of, says="P2"),
    Case("an event of 2", cohort(CLINICAL.replace(",8,1", ",8,2")), matched_of, says="P3"),
    Case("an event in words", cohort(CLINICAL.replace(",8,1", ",8,dead")), matched_of, says="P3"),
    Case("no table", cohort(None), matched_of, says="clinical"),
    Case(
        "two tables",
        lambda room: cohort()(room) and cohort_add(room, "clinical.tsv", CLINICAL),
        matched_of,
        says="clinical.tsv",
    ),
    Case("no folder", lambda room: room / "no", matched_of),
    Case(
        "scans with zeros lost",
        cohort(CLINICAL.replace("P1", "007"), scans="patient,image\n7,p1.nii.gz\n"),
        matched_of,
        says="7",
    ),
    Case("scans in another case", cohort(scans="patient,image\np1,p1.nii.gz\n"), matched_of, says="p1"),
    Case("a scan outside", cohort(scans="patient,image\nP1,../outside.svs\n"), matched_of, says="P1"),
    Case(
        "a scan at an absolute path", cohort(scans="patient,image\nP1,/etc/hostname\n"), matched_of, says="P1"
    ),
    Case("a scan on a drive", cohort(scans="patient,image\nP1,C:\\x.nii\n"), matched_of, says="P1"),
    Case(
        "a scan on a share", cohort(scans="patient,image\nP1,\\\\host\\share\\x.nii\n"), matched_of, says="P1"
    ),
    Case(
        "a scan that is not there",
        cohort(scans="patient,image\nP1,p9.nii.gz\n"),
        matched_of,
        check=problem("p9.nii.gz"),
    ),
    Case(
        "a scan's name of 5000 letters",
        cohort(scans=f"patient,image\nP1,{'x' * 5000}.nii\n"),
        matched_of,
        check=problem("no file's name"),
    ),
    Case("two scans", cohort(scans="patient,image\nP1,p1.nii.gz\nP1,p1.svs\n"), matched_of, says="P1"),
    Case("a link to a scan outside", lambda room: linked(room), matched_of, says="p3.svs.*outside"),
    Case(
        "a slide's name that leaves",
        cohort(slides="patient,slide,path\nP1,../x,p1.svs\n"),
        matched_of,
        says="x",
    ),
    Case(
        "a slide's name a formula",
        cohort(slides="patient,slide,path\nP1,=1+1,p1.svs\n"),
        matched_of,
        says="1",
    ),
    Case(
        "slides' names that differ in case",
        cohort(slides="patient,slide,path\nP1,s,p1.svs\nP2,S,p2.svs\n"),
        matched_of,
        says="S",
    ),
    Case(
        "a slide of two patients",
        cohort(slides="patient,slide,path\nP1,s,p1.svs\nP2,t,p1.svs\n"),
        matched_of,
        says="p1.svs",
    ),
    Case(
        "um_per_px of 10x",
        cohort(slides="patient,slide,path,um_per_px\nP1,s,p1.svs,5\n"),
        matched_of,
        says="s",
    ),
    Case("xlsx sound", xlsx(), matched_of, check=ages(), must_read=True),
    Case("csv named .xlsx", cohort(CLINICAL, name="clinical.xlsx"), matched_of, says="clinical.xlsx"),
    Case("an empty .xlsx", cohort(b"", name="clinical.xlsx"), matched_of, says="clinical.xlsx"),
    Case(
        "a zip that is no xlsx",
        cohort(b"PK\x05\x06" + bytes(18), name="clinical.xlsx"),
        matched_of,
        says="clinical.xlsx",
    ),
    Case("an xlsx cut", lambda room: shortened(xlsx()(room)), matched_of, says="clinical.xlsx"),
    Case(
        "an xlsx of 210 MB",
        xlsx(sheet(lambda data: data.replace(b"<sheetData>", b"<sheetData>" + b" " * (210 << 20)))),
        matched_of,
        says="clinical.xlsx",
    ),
    Case(
        "an xlsx of laughs",
        xlsx(
            sheet(
                lambda data: data.replace(b"<worksheet", LAUGHS + b"]><worksheet", 1).replace(b"61", b"&j;")
            )
        ),
        matched_of,
        says="clinical.xlsx",
    ),
    Case(
        "an xlsx that asks for a file",
        xlsx(sheet(lambda data: OUTSIDE + data.replace(b"<v>61</v>", b"<v>&a;</v>"))),
        matched_of,
        says="clinical.xlsx",
    ),
    Case("an xlsx with a far cell", xlsx(sheet(far_cell)), matched_of, says="clinical.xlsx"),
    Case("an xlsx with a far column", xlsx(sheet(far_column)), matched_of, says="clinical.xlsx"),
    Case(
        "an xlsx with a formula",
        xlsx(rows=(("patient", "age", "time_months", "event"), ("P1", "=50+11", 12, 1), ("P2", 70, 30, 0))),
        matched_of,
        says="P1|age|formula",
    ),
    Case(
        "an xlsx with dates for months",
        xlsx(
            rows=(
                ("patient", "age", "time_months", "event"),
                ("P1", 61, pd.Timestamp("2019-05-01").to_pydatetime(), 1),
                ("P2", 70, 30, 0),
            )
        ),
        matched_of,
        says="P1",
    ),
    Case(
        "an xlsx of true and false",
        xlsx(rows=(("patient", "age", "time_months", "event"), ("P1", 61, 12, True), ("P2", 70, 30, False))),
        matched_of,
        check=lambda read: "same" if read.patients["event"].tolist() == [1, 0] else "",
    ),
    Case(
        "an xlsx of errors",
        xlsx(rows=(("patient", "age", "time_months", "event"), ("P1", "#DIV/0!", 12, 1), ("P2", 70, 30, 0))),
        matched_of,
        says="B2",
    ),
]


def outcomes(text, name="tcga_blca_survival.csv", encoding="utf-8"):
    return Case("outcomes: ", put(name, text, encoding), tcga.read_outcomes)


def renamed(case: Case, name: str, **settings) -> Case:
    return Case(**{**case.__dict__, "name": case.name + name, **settings})


def right_outcomes(read: pd.DataFrame) -> str:
    right = read["patient"].tolist() == ["TCGA-A6-2683", "TCGA-A6-2684"] and read["time_months"].tolist() == [
        12.5,
        30,
    ]
    return "same" if right and read["event"].tolist() == [1, 0] else ""


TCGA = [
    renamed(outcomes("\ufeff" + OUTCOMES), "a byte-order mark", check=right_outcomes, must_read=True),
    renamed(outcomes(OUTCOMES.replace(",", ";")), "semicolons"),
    renamed(outcomes(OUTCOMES.replace(",", "\t")), "tabs"),
    renamed(outcomes(""), "empty"),
    renamed(outcomes(OUTCOMES.split("\n")[0]), "header alone"),
    renamed(outcomes(OUTCOMES, encoding="utf-16"), "UTF-16"),
    renamed(outcomes(OUTCOMES.replace("COAD", "Köln"), encoding="latin-1"), "Latin-1", check=right_outcomes),
    renamed(outcomes(OUTCOMES.replace("12.5", "12\0")), "NUL bytes"),
    renamed(outcomes(OUTCOMES.replace("COAD\n", "COAD,1,2\n")), "ragged, all longer"),
    renamed(outcomes(OUTCOMES + "TCGA-A6-2685,x,1,0,1,1,1,1,1,1,1\n"), "ragged, one longer"),
    renamed(outcomes(OUTCOMES + "TCGA-A6-2685\n"), "ragged, one shorter"),
    renamed(outcomes(OUTCOMES.replace("age", "survival_months")), "a column twice"),
    renamed(outcomes(OUTCOMES.replace("2684", "2683")), "a slide twice", says="2683"),
    renamed(
        outcomes(OUTCOMES.lower().replace("case_id", "case_id")),
        "barcodes in small letters",
        says="tcga-a6-2683",
    ),
    renamed(
        outcomes(OUTCOMES.replace("TCGA-A6-2683,", " TCGA-A6-2683 ,")),
        "spaces around a barcode",
        says="TCGA-A6-2683",
    ),
    renamed(outcomes(OUTCOMES.replace("12.5", "2019-05-01")), "a date for months", says="TCGA-A6-2683"),
    renamed(
        outcomes(OUTCOMES.replace("12.5", "43586")), "a spreadsheet's day for months", says="TCGA-A6-2683"
    ),
    renamed(outcomes(OUTCOMES.replace("12.5", '"12,5"')), "decimal commas", says="TCGA-A6-2683"),
    renamed(outcomes(OUTCOMES.replace("12.5", "inf")), "months infinite", says="TCGA-A6-2683"),
    renamed(outcomes(OUTCOMES.replace("12.5,0", "12.5,dead")), "censorship in words", says="TCGA-A6-2683"),
    renamed(
        outcomes(
            OUTCOMES.replace("TCGA-A6-2684-01Z-00-DX1.svs", "../../evil").replace(
                "TCGA-A6-2684", "../../evil"
            )
        ),
        "a slide that leaves",
        says="evil",
    ),
    renamed(
        outcomes(OUTCOMES.replace("TCGA-A6-2684-01Z-00-DX1.svs", "=1+1").replace("TCGA-A6-2684", "=1+1")),
        "a formula",
        says="=1",
    ),
    renamed(outcomes(OUTCOMES.replace("TCGA-A6-2684", CELL)), "a patient of 10 MB"),
    renamed(outcomes(OUTCOMES.replace("TCGA-A6-2684,", '"TCGA-A6-2684,')), "an open quote"),
    renamed(outcomes(b"\x1f\x8b" + bytes(100)), "binary"),
    Case(
        "outcomes.zip of two tables",
        zipped("o.csv.zip", {"a.csv": OUTCOMES.encode(), "b.csv": b"1"}),
        tcga.read_outcomes,
    ),
    Case("outcomes.zip empty", zipped("o.csv.zip", {}), tcga.read_outcomes),
    Case("outcomes.zip no zip", put("o.csv.zip", b"PK nothing"), tcga.read_outcomes),
    Case(
        "outcomes.zip of 256 MB",
        zipped("o.csv.zip", {"a.csv": OUTCOMES.encode() + b" " * (1 << 28)}),
        tcga.read_outcomes,
    ),
    Case("outcomes: a folder", lambda room: (room / "o.csv").mkdir() or room / "o.csv", tcga.read_outcomes),
    Case(
        "cdr: gender in small letters",
        put("cdr.csv", CDR.lower().replace("os", "OS")),
        tcga.read_cdr,
        says="cdr.csv",
    ),
    Case("cdr: gender unknown", put("cdr.csv", CDR.replace(",MALE", ",M")), tcga.read_cdr, says="2684"),
    Case(
        "cdr: days no number",
        put("cdr.csv", CDR.replace("OS.time", "new_tumor_event_dx_days_to").replace("900", "soon")),
        tcga.read_cdr,
        says="2684",
    ),
    Case(
        "cdr: a patient twice in two spellings",
        put("cdr.csv", CDR.replace("2684", "2683 ")),
        tcga.read_cdr,
        says="2683",
    ),
    Case("cdr: an empty patient", put("cdr.csv", CDR.replace("TCGA-A6-2684", "")), tcga.read_cdr),
    Case("cdr: semicolons", put("cdr.csv", CDR.replace(",", ";")), tcga.read_cdr),
    Case("cdr: empty", put("cdr.csv", ""), tcga.read_cdr),
    Case("cdr: age of 610", put("cdr.csv", CDR.replace("61,", "6100,")), tcga.read_cdr, says="2683"),
]


def lro_with(**changed):
    return folder_of({**LRO, **{name.replace("__", "."): text for name, text in changed.items()}})


def isles_clinical(root: Path):
    return isles.read_clinical(isles.find_patients(root))


def splits(text: str | bytes, name: str = "splits_0.csv"):
    return folder_of({name: text})


OTHERS = [
    Case("features: a word", put("f.csv", FEATURES.replace("0.7", "high")), read_feature_table, says="P2"),
    Case("features: infinite", put("f.csv", FEATURES.replace("0.7", "1e999")), read_feature_table, says="P2"),
    Case(
        "features: decimal commas",
        put("f.csv", FEATURES.replace(",", ";").replace("0.7", "0,7")),
        read_feature_table,
        says="P2",
    ),
    Case(
        "features: a patient twice", put("f.csv", FEATURES.replace("P2", "P1")), read_feature_table, says="P1"
    ),
    Case(
        "features: two spellings", put("f.csv", FEATURES.replace("P2", "p1")), read_feature_table, says="p1"
    ),
    Case("features: none", put("f.csv", "patient\nP1\n"), read_feature_table),
    Case("features: no row", put("f.csv", "patient,f1\n"), read_feature_table),
    Case(
        "features: a patient that leaves",
        put("f.csv", FEATURES.replace("P2", "../P2")),
        read_feature_table,
        says="P2",
    ),
    Case(
        "features: a column of nothing",
        put("f.csv", "patient,f1,f2\nP1,,2\nP2,,3\n"),
        read_feature_table,
        check=lambda read: "named: NaN" if read["f1"].isna().all() else "",
    ),
    Case("features: an open quote", put("f.csv", FEATURES.replace("P2", '"P2')), read_feature_table),
    Case("texts: a Word file", put("t.docx", b"PK"), read_texts),
    Case("texts: an old .xls", put("t.xls", bytes(512)), read_texts),
    Case("texts: a folder", lambda room: (room / "t.csv").mkdir() or room / "t.csv", read_texts),
    Case(
        "texts: 20,000 columns",
        put("t.csv", ",".join(f"c{i}" for i in range(20_000)) + "\n1\n"),
        read_texts,
        check=lambda read: "same" if read.shape == (1, 20_000) else "",
    ),
    Case(
        "lro: sound",
        lro_with(),
        lro.read_lro,
        check=lambda read: "same" if read.label.tolist() == [1, 0, 1, 0] else "",
        must_read=True,
    ),
    Case(
        "lro: a word",
        lro_with(ct_fea_pre__csv=LRO["ct_fea_pre.csv"].replace("P2,2", "P2,x")),
        lro.read_lro,
        says="P2",
    ),
    Case(
        "lro: zeros lost",
        lro_with(
            ct_fea_pre__csv=LRO["ct_fea_pre.csv"].replace("P1", "007"),
            clinical__csv=LRO["clinical.csv"].replace("P1", "7"),
        ),
        lro.read_lro,
        says="7",
    ),
    Case(
        "lro: ragged",
        lro_with(ct_fea_pre__csv=LRO["ct_fea_pre.csv"].replace("P1,1,5", "P1,1,5,6,7")),
        lro.read_lro,
        says="ct_fea_pre",
    ),
    Case(
        "lro: all rows longer",
        lro_with(ct_fea_pre__csv="patient,a,b\nx,P1,1,5\nx,P2,2,6\nx,P3,4,7\nx,P4,3,9\n"),
        lro.read_lro,
        says="ct_fea_pre",
    ),
    Case(
        "lro: semicolons",
        lro_with(clinical__csv=LRO["clinical.csv"].replace(",", ";")),
        lro.read_lro,
        says="clinical.csv",
    ),
    Case(
        "lro: a label of 2",
        lro_with(clinical__csv=LRO["clinical.csv"].replace("61,1", "61,2")),
        lro.read_lro,
        says="P1",
    ),
    Case(
        "lro: the outcome as a feature",
        lro_with(ct_fea_pre__csv="patient,a\nP1,1\nP2,0\nP3,1\nP4,0\n"),
        lro.read_lro,
        says="ct_fea_pre",
    ),
    Case(
        "lro: gz cut",
        folder_of(
            {
                **{k: v for k, v in LRO.items() if not k.startswith("ct")},
                "ct_fea_pre.csv.gz": b"\x1f\x8b\x08\0\0\0\0\0\0\0x",
            }
        ),
        lro.read_lro,
        says="ct_fea_pre",
    ),
    Case("lro: empty", lro_with(clinical__csv=""), lro.read_lro, says="clinical.csv"),
    Case(
        "lro: UTF-16",
        lro_with(clinical__csv=LRO["clinical.csv"].encode("utf-16")),
        lro.read_lro,
        says="clinical.csv",
    ),
    Case(
        "lro: NUL",
        lro_with(clinical__csv=LRO["clinical.csv"].replace("61", "6\x001")),
        lro.read_lro,
        says="clinical.csv",
    ),
    Case(
        "stroke: sound",
        put("s.csv", STROKE),
        stroke_arrays.read_clinical,
        check=lambda read: "same" if read["outcome"].tolist() == [1, 0] else "",
        must_read=True,
    ),
    Case(
        "stroke: a patient that leaves",
        put("s.csv", STROKE.replace("P2", "../P2")),
        stroke_arrays.read_clinical,
        says="P2",
    ),
    Case(
        "stroke: two spellings",
        put("s.csv", STROKE.replace("P2", "p1")),
        stroke_arrays.read_clinical,
        says="p1",
    ),
    Case(
        "stroke: age 610", put("s.csv", STROKE.replace("61", "610")), stroke_arrays.read_clinical, says="P1"
    ),
    Case(
        "stroke: an outcome of 3",
        put("s.csv", STROKE.replace("1,1\n", "1,3\n")),
        stroke_arrays.read_clinical,
        says="P1",
    ),
    Case(
        "stroke: arrays of a patient that leaves",
        lambda room: folder_of({"secret/preprocessed.npz": b"x", "in/a": b""})(room) / "in",
        lambda folder: stroke_arrays.array_paths(folder, ["../secret"]),
        says="secret",
    ),
    Case(
        "sections: a section that leaves",
        put("s.csv", SECTIONS.replace("A1", "../A1")),
        read_table,
        says="A1",
    ),
    Case(
        "sections: a folder that leaves",
        put("s.csv", SECTIONS.replace("st,,", "st,../../x,")),
        read_table,
        says="A1",
    ),
    Case(
        "sections: labels at an absolute path",
        put("s.csv", SECTIONS.replace("st,,", "st,,/etc/hostname")),
        read_table,
        says="A1",
    ),
    Case("sections: empty", put("s.csv", ""), read_table),
    Case("sections: UTF-16", put("s.csv", SECTIONS, "utf-16"), read_table),
    Case("sections: ragged", put("s.csv", SECTIONS.replace("pathologist,", "pathologist,,,,,")), read_table),
    Case("sections: a column twice", put("s.csv", SECTIONS.replace("note", "patient")), read_table),
    Case(
        "folds: a byte-order mark",
        splits("\ufeff" + SPLIT),
        read_folds,
        check=lambda read: "same" if read[0].test == ("TCGA-A6-2684",) else "",
        must_read=True,
    ),
    Case("folds: empty", splits(""), read_folds, says="splits_0"),
    Case("folds: UTF-16", splits(SPLIT.encode("utf-16")), read_folds, says="splits_0"),
    Case("folds: semicolons", splits(SPLIT.replace(",", ";")), read_folds, says="splits_0"),
    Case("folds: a patient in both", splits(SPLIT.replace("2685", "2684")), read_folds, says="2684"),
    Case(
        "folds: a patient in both in small letters",
        splits(SPLIT.replace("TCGA-A6-2685", "tcga-a6-2684")),
        read_folds,
        says="2684",
    ),
    Case("folds: ragged", splits(SPLIT.replace("2684\n", "2684,x,y\n")), read_folds, says="splits_0"),
    Case("folds: a gap", splits(SPLIT, "splits_1.csv"), read_folds),
    Case(
        "manifest: a name that leaves",
        put("m.txt", MANIFEST.replace("A-DX1", "../A")),
        manifests.read_manifest,
    ),
    Case(
        "manifest: an id that is a path",
        put("m.txt", MANIFEST.replace("12345678-", "../../78-")),
        manifests.read_manifest,
    ),
    Case("manifest: a size below 0", put("m.txt", MANIFEST.replace("\t9", "\t-9")), manifests.read_manifest),
    Case(
        "manifest: a size of 1e30", put("m.txt", MANIFEST.replace("\t9", "\t1e30")), manifests.read_manifest
    ),
    Case("manifest: empty", put("m.txt", ""), manifests.read_manifest),
    Case("manifest: UTF-16", put("m.txt", MANIFEST, "utf-16"), manifests.read_manifest),
    Case("manifest: ragged", put("m.txt", MANIFEST + "a\tb\tc\td\te\tf\n"), manifests.read_manifest),
    Case("manifest: NUL", put("m.txt", MANIFEST.replace("A-DX1", "A\0-DX1")), manifests.read_manifest),
    Case(
        "partition: a patient twice",
        put("p.csv", "patient,part\nP1,train\nP1,test\n"),
        read_partition,
        says="P1",
    ),
    Case(
        "partition: two spellings",
        put("p.csv", "patient,part\nP1,train\np1,test\n"),
        read_partition,
        says="p1",
    ),
    Case(
        "partition: zeros lost", put("p.csv", "patient,part\n007,train\n7,test\n"), read_partition, says="007"
    ),
    Case(
        "partition: an unknown part",
        put("p.csv", "patient,part\nP1,trian\nP2,test\n"),
        read_partition,
        says="trian",
    ),
    Case(
        "partition: patients unknown",
        put("p.csv", "patient,part\n7,train\n8,test\n"),
        lambda path: read_partition(path, ["007", "008"]),
        says="7",
    ),
    Case("mcat: no folder", lambda room: room / "no", stored_predictions),
    Case("isles: no folder", lambda room: room / "no", isles.find_patients),
    Case(
        "isles: a link in a circle",
        lambda room: circle(room),
        isles.find_patients,
        says="sub-stroke0001",
        check=lambda read: f"named: {read['problem'][0]}",
    ),
    Case(
        "isles: an empty series",
        lambda room: patient_files(room, b""),
        isles.find_patients,
        check=lambda read: (
            f"named: {read['problem'][0]}, {read['note'][0]}" if "is empty" in read["note"][0] else ""
        ),
    ),
    Case(
        "isles: a broken table",
        lambda room: patient_files(room, b"x", b"\0\1\2"),
        isles_clinical,
        says="sub-stroke0001",
    ),
    Case(
        "isles: a table of two rows",
        lambda room: patient_files(room, b"x", b"mRS 3 months\n1\n2\n"),
        isles_clinical,
        says="sub-stroke0001",
    ),
]


def patient_files(room: Path, series: bytes, table: bytes = b"mRS 3 months\n1\n") -> Path:
    return folder_of(
        {
            "sub-stroke0001/ses-01/sub-stroke0001_ses-01_ctp.nii.gz": series,
            "sub-stroke0001/ses-02/sub-stroke0001_ses-02_outcome.csv": table,
        }
    )(room)


def circle(room: Path) -> Path:
    root = patient_files(room, b"x")
    (root / "sub-stroke0001" / "again").symlink_to(root)
    (root / "sub-stroke0001" / "sub-stroke0001_ses-01_cta.nii.gz").symlink_to("nowhere")
    return root


def cohort_add(room: Path, name: str, text: str) -> Path:
    (room / "cohort" / name).write_text(text)
    return room / "cohort"


def linked(room: Path) -> Path:
    folder = cohort(slides="patient,slide,path\nP2,s,p3.svs\n")(room)
    (folder / "p3.svs").symlink_to(room / "outside.svs")
    return folder


def shortened(folder: Path) -> Path:
    path = folder / "clinical.xlsx"
    path.write_bytes(path.read_bytes()[:-400])
    return folder


@pytest.mark.parametrize("case", shown([*MATCHED, *TCGA, *OTHERS]), ids=lambda case: case.name)
def test_tables(case, tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    judge(case, room)

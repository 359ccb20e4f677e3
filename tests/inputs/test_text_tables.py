"""Tables as texts: csv in the dialects that occur, xlsx with the types a spreadsheet gives."""

import datetime

import openpyxl
import pandas as pd
import pytest

from lib.inputs.tables import nearest_name, plain, read_texts, text_of


def test_csv_is_read_as_it_stands(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\ufeff Age ,Sex,TICI,Onset\n 71.0,F,2b,01:23:00\n,nan,null,\n")
    table = read_texts(path)
    assert list(table) == ["Age", "Sex", "TICI", "Onset"]
    assert table.to_numpy().tolist() == [["71.0", "F", "2b", "01:23:00"], ["", "nan", "null", ""]]


@pytest.mark.parametrize(("name", "mark"), [("t.csv", ","), ("t.csv", ";"), ("t.tsv", "\t"), ("t.txt", "\t")])
def test_delimiter_is_the_header_s(tmp_path, name, mark):
    path = tmp_path / name
    path.write_text(f'Age{mark}"a, b; c"{mark}Sex\n1{mark}"x, y;"{mark}M\n\n')
    assert read_texts(path).iloc[0].tolist() == ["1", "x, y;", "M"]


def test_latin_letters_and_lines_within_a_cell(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('Center,Note\nZürich,"one\ntwo"\n'.encode("latin-1"))
    assert read_texts(path).iloc[0].tolist() == ["Zürich", "one\ntwo"]


def test_index_of_an_export_is_not_a_column(tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame({"Age": [71]}).to_csv(path)
    assert list(read_texts(path)) == ["Age"]
    path.write_text("Unnamed: 0,Age\n0,71\n")
    assert list(read_texts(path)) == ["Age"]


def test_short_row_is_filled(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("Age,Sex\n71\n")
    assert read_texts(path).iloc[0].tolist() == ["71", ""]


def test_xlsx_types_become_the_texts_somebody_would_type(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append([None, " Age", "Onset", "Long", "Span", "TICI", "CRP", "Wake-up", "Sex", "Empty"])
    long = datetime.timedelta(hours=27, minutes=10)
    sheet.append([0, 71.0, datetime.time(1, 23), long, long, "2b", 3.5, True, "nan", None])
    sheet["D2"].number_format = "h:mm:ss"
    sheet["E2"].number_format = "[h]:mm:ss"
    book.save(tmp_path / "t.xlsx")
    assert read_texts(tmp_path / "t.xlsx").iloc[0].to_dict() == {
        "Age": "71",
        "Onset": "1:23:00",
        "Long": "27:10:00",
        "Span": "27:10:00",
        "TICI": "2b",
        "CRP": "3.5",
        "Wake-up": "1",
        "Sex": "nan",
        "Empty": "",
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime.timedelta(minutes=-5), "-0:05:00"),
        (datetime.datetime(2024, 3, 1, 8, 30), "2024-03-01 08:30:00"),
        (float("nan"), ""),
        (float("inf"), "inf"),
        (3, "3"),
        (0.25, "0.25"),
    ],
)
def test_text_of_a_cell(value, text):
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "is empty"),
        ("t.csv", " \n,\n", "is empty"),
        ("t.csv", "Age,age \n1,2\n", "has the column Age twice"),
        ("t.csv", "Age,Sex\n1,F,3\n", "row 1 has 3 cells and the header 2"),
        ("t.xls", "x", "no table that can be read: save it as .csv or .xlsx"),
        ("t.xlsx", "no zip", "is no readable xlsx"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_texts(tmp_path / name)


def test_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"t\.csv is not there"):
        read_texts(tmp_path / "t.csv")


def test_names_are_compared_without_case_and_spaces():
    assert plain(" \ufeffMRS  3 Months\t") == plain("mRS 3 months")
    assert nearest_name("mRS 3 month", ["Age", "mRS 3 months "]) == "; nearest: mRS 3 months"
    assert nearest_name("zzz", ["Age", "Sex"]) == "; known: Age, Sex"
    assert nearest_name("zzz", [str(n) for n in range(20)]).endswith("10, 11, ...")
    assert nearest_name("zzz", []) == "; known: none"

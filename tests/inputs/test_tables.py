"""Tables: csv in the dialects that occur, xlsx with the types a spreadsheet gives, and nothing lost without a word."""

import datetime
import gzip
import io
import pickle
import zipfile

import numpy as np
import openpyxl
import pandas as pd
import pytest

from lib.inputs.tables import (
    Faults,
    code,
    column_report,
    is_missing,
    looked_over,
    nearest_name,
    number,
    plain,
    read_columns,
    read_pickle,
    read_texts,
    values,
)


def put(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_csv_is_read_as_it_stands(tmp_path):
    path = put(tmp_path / "t.csv", "\ufeff Age ,Sex,TICI,Onset\n 71.0,F,2b,01:23:00\n,nan,null,\n")
    table = read_texts(path)
    assert list(table) == ["Age", "Sex", "TICI", "Onset"]
    assert table.to_numpy().tolist() == [["71.0", "F", "2b", "01:23:00"], ["", "nan", "null", ""]]


@pytest.mark.parametrize(("name", "mark"), [("t.csv", ","), ("t.csv", ";"), ("t.tsv", "\t")])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiter_is_the_header_s(tmp_path, name, mark, end):
    path = put(tmp_path / name, f'Age{mark}"a, b; c"{mark}Sex{end}1{mark}"x, y;"{mark}M{end}{end}')
    assert read_texts(path).iloc[0].tolist() == ["1", "x, y;", "M"]


def test_latin_letters_and_lines_within_a_cell(tmp_path):
    path = put(tmp_path / "t.csv", 'Center,Note\nZürich,"one\ntwo"\n'.encode("latin-1"))
    assert read_texts(path).iloc[0].tolist() == ["Zürich", "one\ntwo"]
    assert read_columns(path).Center.tolist() == ["Zürich"]


def test_an_export_s_index_is_no_column_and_a_short_row_is_filled(tmp_path):
    pd.DataFrame({"Age": [71]}).to_csv(tmp_path / "t.csv")
    assert list(read_texts(tmp_path / "t.csv")) == ["Age"]
    assert list(read_texts(put(tmp_path / "t.csv", "Unnamed: 0,Age\n0,71\n"))) == ["Age"]
    assert read_texts(put(tmp_path / "t.csv", "Age,Sex\n71\n")).iloc[0].tolist() == ["71", ""]
    assert read_texts(put(tmp_path / "t.csv", "Age,Sex\n71,F,\n")).iloc[0].tolist() == ["71", "F"]
    assert read_texts(put(tmp_path / "t.csv", 'Note\na "b" c\n')).iloc[0].tolist() == ['a "b" c']


def workbook(path, *rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return book


def test_xlsx_types_become_the_texts_somebody_would_type(tmp_path):
    long = datetime.timedelta(hours=27, minutes=10)
    header = [None, " Age", "Onset", "Long", "Span", "TICI", "CRP", "Wake-up", "Sex", "Empty", "Grade"]
    row = [0, 71.0, datetime.time(1, 23), long, long, "2b", 3.5, True, "nan", None, "#N/A"]
    book = workbook(tmp_path / "t.xlsx", header, row, [None] * 11, [1, 80])
    book.active["D2"].number_format, book.active["E2"].number_format = "h:mm:ss", "[h]:mm:ss"
    book.save(tmp_path / "t.xlsx")
    expected = ["71", "1:23:00", "27:10:00", "27:10:00", "2b", "3.5", "1", "nan", "", ""]
    first, second = read_texts(tmp_path / "t.xlsx").to_numpy().tolist()
    assert first == expected
    assert second == ["80", *[""] * 9]


def test_formulas_never_computed_and_errors_of_a_spreadsheet_are_no_missing_values(tmp_path):
    workbook(tmp_path / "t.xlsx", ["patient", "age"], ["P1", 61], ["P2", "=B2+1"])
    with pytest.raises(ValueError, match="cell B3 is a formula never computed"):
        read_texts(tmp_path / "t.xlsx")
    workbook(tmp_path / "t.xlsx", ["patient", "age"], ["P1", "#DIV/0!"])
    with pytest.raises(ValueError, match="cell B2 is the error #DIV/0!"):
        read_texts(tmp_path / "t.xlsx")
    workbook(tmp_path / "t.xlsx", ["patient", "age"], ["P1", "=60+1"])
    computed = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "t.xlsx") as old, zipfile.ZipFile(computed, "w") as new:
        for name in old.namelist():
            sheet = old.read(name).replace(b"<v></v>", b"<v>61</v>").replace(b"<v />", b"<v>61</v>")
            new.writestr(name, sheet)
    assert read_texts(put(tmp_path / "t.xlsx", computed.getvalue())).age.tolist() == ["61"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "is empty"),
        ("t.csv", " \n,\n", "is empty"),
        ("t.csv", "Age,age \n1,2\n", "has the column age twice"),
        ("t.csv", "Age,Sex\n1,F,3\n", "in row 2 3 cells and in the header 2"),
        ("t.csv", 'Age,Sex\n1,"F\n2,M\n', "quote that is opened and never closed"),
        ("t.csv", 'Age\n"1' + "\n2" * 99_999, "quote that is opened and never closed"),
        ("t.csv", "Age\n1\0\n", "zero bytes"),
        ("t.csv", "Age\n1\n".encode("utf-16"), "UTF-16"),
        ("t.xls", "x", "no table that can be read: save it as .csv or .xlsx"),
        ("t.xlsx", "no zip", "is no readable xlsx"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_texts(put(tmp_path / name, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        # pandas would shift all columns by one
        ("a,b\n1,2,3\n4,5,6\n", "in row 2 3 cells and in the header 2"),
        ("a,b\n1,2,\n4,5,\n", "in row 2 3 cells"),  # the same
        ("a,b\n1,2\n4,5,6\n", "Expected 2 fields in line 3, saw 3"),
        ("a,A\n1,2\n", "has the column a twice"),  # pandas would rename the second of two equal ones
        ("a,b\n1\0,2\n", "zero bytes"),
        ('a,b\n1,"2\n', "cannot be read as a table"),
    ],
)
def test_what_pandas_would_pass_over_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_columns(put(tmp_path / "t.csv", content))


def test_a_zip_of_one_table_is_read_and_of_two_refused(tmp_path):
    for names in (["a.csv"], ["a.csv", "b.csv"]):
        with zipfile.ZipFile(tmp_path / "t.csv.zip", "w") as archive:
            for name in names:
                archive.writestr(name, "a,b\n1,x\n")
        if len(names) == 1:
            table = read_columns(tmp_path / "t.csv.zip", usecols=lambda name: name == "a")
            assert table.to_dict("list") == {"a": [1]}
    for path in (tmp_path / "t.csv.zip", put(tmp_path / "t.csv.gz", b"\x1f\x8b\x08 cut")):
        with pytest.raises(ValueError, match=f"{path.name} cannot be read as a table"):
            read_columns(path)


def test_names_are_compared_without_case_and_spaces():
    assert plain(" \ufeffMRS  3 Months\t") == plain("mRS 3 months")
    assert nearest_name("mRS 3 month", ["Age", "mRS 3 months "]) == "; nearest: mRS 3 months"
    assert nearest_name("zzz", ["Age", "Sex"]) == "; known: Age, Sex"
    assert nearest_name("zzz", [str(n) for n in range(20)]).endswith("10, 11, ...")
    assert nearest_name("zzz", []) == "; known: none"


def test_what_a_cell_says():
    for text in ("", " ", "nan", "NULL", "None", "NA", "n/a", "NaT", "-", "?", "unknown"):
        assert is_missing(text)
        assert np.isnan([number(text), code(text, {"0": 0})]).all()
    assert not any(map(is_missing, ("0", "0.0", "no", "false", "00:00:00")))
    assert code("3.0", {"3": 2}) == code(" 3 ", {3: 2}) == 2
    for text in ("12,5", "1_2", "١٢", "inf", "1e999", "2019-05-01", "old"):
        with pytest.raises(ValueError, match=f"'{text}' is no number"):
            number(text)
    for text, said in (("2", "'2' is no category it has; known: 2a, 2b, 5"), ("0.5", "is no category")):
        with pytest.raises(ValueError, match=said):
            code(text, {"2a": 0, "2b": 1, "5": 2})


def of(*values):
    return pd.Series(values, [f"P{n}" for n in range(1, len(values) + 1)], dtype=float)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("time_months", of(400, 1100, 900), "median 900 months: are these days?"),
        ("time_months", of(1.5, 2.5, 0.5), "median 1.5 months: are these years?"),
        ("time_months", of(14, 30, 999.5), "999.5 months of patient P3, and 0 more as far off"),
        ("time_months", of(14, 30, 180), ""),
        ("age", of(60, np.nan, 71), ""),
        ("cea", of(1, 5, 99), "99 of patient P3: measured, or a code of missing?"),
        ("cea", of(1, 5, 99, 60), ""),
        ("t_stage", of(1, 2, 9), "9 of patient P3"),
        ("z", of(-9, -3, 2), ""),
        ("age", of(), ""),
    ],
)
def test_a_column_of_another_unit_is_remarked(name, values, said):
    found = looked_over(values, name)
    assert found.startswith(said) if said else not found


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("age", of(21915, 22280), "age of patient P1 is 21915, P2 is 22280, 0 to 120 years.* days"),
        ("age", of(720, 800, 650), "months"),
        ("age", of(60, 999, 58), "patient P2 is 999, 0 to 120 years are expected; 999: a code"),
        ("cea", of(1, -9, 4), "patient P2 is -9, .*; -9: a code"),
        ("cea", of(1, -9, 4, 999, -9), r"patient P2 is -9, P4 is 999, P5 is -9, .*; -9, 999: a code"),
        ("time_months", of(4, 11, 999), "patient P3 is 999, .* a code"),
        ("time_months", of(4, -1, 9), "patient P2 is -1, 0 to 1200 months"),
    ],
)
def test_what_nobody_has_and_codes_of_missing_are_refused(name, values, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(").replace(")", r"\)")):
        looked_over(values, name)


def test_a_report_has_one_row_a_column_of_numbers():
    table = pd.DataFrame({"age": of(60, np.nan, 71), "sex": list("fm "), "time_months": of(400, 1100, 900)})
    found = column_report(table, "clinical.csv").set_index("column")
    assert found.index.tolist() == ["age", "time_months"]
    assert found.loc["age"].tolist() == ["years", 2, 1, 60, 65.5, 71, ""]
    assert "days" in found.loc["time_months", "remark"]
    with pytest.raises(ValueError, match=r"clinical\.csv: age of patient P1 is 999.*\n.*cea of patient P2"):
        column_report(table.assign(age=999.0, cea=[1.0, -9.0, 4.0]), "clinical.csv")


def test_all_that_is_wrong_is_said_at_once_and_those_who_say_the_same_share_a_sentence():
    wrong = Faults()
    cells = pd.Series({f"P{n}": "old" for n in range(14)} | {"P14": "7", "P15": "3,5", "P16": ""})
    found = values(cells, "t.csv: age of patient", wrong)
    assert found.dropna().to_dict() == {"P14": 7.0}
    assert len(wrong) == 2
    assert "P0, P1," in wrong[0]
    assert "P11 and 2 more: 'old' is no number" in wrong[0]
    with wrong.held():
        raise ValueError("one\ntwo")
    values(cells["P16":], "t.csv: event of", wrong, needed=True)
    with pytest.raises(ValueError, match="P16: the cell is empty") as said:
        wrong.refuse()
    assert len(str(said.value).splitlines()) == 5
    Faults().refuse()


def test_a_spreadsheet_in_another_language(tmp_path):
    """Semicolons and decimal commas; 1,234 may be a thousand and stays, as does a comma where points are used."""
    text = "\ufeffName;cea;scale\nP1;3,5;0,25\nP2;-12,125;0,2513\nP3;1,234;0,123\n"
    table = read_texts(put(tmp_path / "t.csv", text))
    assert table["cea"].tolist() == ["3.5", "-12,125", "1,234"]
    assert table["scale"].tolist() == ["0.25", "0.2513", "0.123"]
    assert read_texts(put(tmp_path / "told.csv", "sep=;\r\n" + text[1:])).equals(table)
    assert read_texts(put(tmp_path / "t.csv", text.replace("0,25\n", "0.25\n")))["cea"][0] == "3,5"
    assert read_texts(put(tmp_path / "t.csv", 'Name,cea\nP1,"3,5"\n'))["cea"][0] == "3,5"


def test_wanted_columns_of_a_wide_table(tmp_path):
    path = put(tmp_path / "t.csv.gz", gzip.compress(b"Gene1,PATIENT,Age\n0.5,P1,71\n0.7,P2\n"))
    wanted = read_texts(path, ["age", "patient", "stage"]).to_dict("list")
    assert wanted == {"patient": ["P1", "P2"], "age": ["71", ""]}
    with pytest.raises(ValueError, match="has in row 2 "):
        read_texts(put(tmp_path / "t.csv", "Gene1,PATIENT\n0.5,P1,71\n"), ["patient"])


# pickles


class Calls:
    """A pickle of it calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def pickled(folder, content, protocol=4):
    (folder / "p.pickle").write_bytes(pickle.dumps(content, protocol=protocol))
    return folder / "p.pickle"


@pytest.mark.parametrize("protocol", [0, 3, 5])
def test_arrays_numbers_texts_and_containers_of_them_are_unpickled(protocol, tmp_path):
    content = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(["x", "yy"]), "c": np.float32(2.5)}
    content["e"] = np.array([3, 101], ">i8")
    found = read_pickle(pickled(tmp_path, content | {"d": [1, None, {"x"}, ("y",)]}, protocol))
    for name in "ae":
        np.testing.assert_array_equal(found[name], content[name])
    assert (found["b"].tolist(), found["c"], found["d"]) == (["x", "yy"], 2.5, [1, None, {"x"}, ("y",)])


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("where", ["top", "among names", "in an array of objects", "as a key"])
def test_a_hostile_pickle_is_refused_and_not_run(where, protocol, tmp_path):
    trace = tmp_path / "trace"
    hostile = Calls(exec, f"open({str(trace)!r}, 'w')")
    content = {
        "top": hostile,
        "among names": {"train": ["p1", hostile]},
        "in an array of objects": {"train": np.array([hostile, "p1"], dtype=object)},
        "as a key": {hostile: ["p1"]},
    }[where]
    path = pickled(tmp_path, content, protocol)
    with pytest.raises(ValueError, match=r"p\.pickle: refused .*: it (asks for .*exec|holds an array of O)"):
        read_pickle(path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists(), "the pickle would not have done anything"

"""Tables as they stand in a file, csv or xlsx: every cell a text, so that nothing is guessed before it is checked."""

import csv
import datetime
import difflib
import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

DELIMITERS = ",;\t"
DAY_ZERO = datetime.datetime(1899, 12, 31)  # of spreadsheets, until their 29 February 1900 that never was


def plain(name: object) -> str:
    """A column's name without what people spell differently: case, outer and doubled spaces, a byte-order mark."""
    return " ".join(str(name).replace("\ufeff", "").split()).casefold()


def nearest_name(name: object, known: Iterable[object]) -> str:
    """The end of an error's sentence: "; nearest: NIHSS at admission", or all that is known where nothing is near."""
    names = {plain(one): str(one).strip() for one in known}
    near = difflib.get_close_matches(plain(name), names, 3, cutoff=0.5)
    if near:
        return "; nearest: " + ", ".join(names[one] for one in near)
    return "; known: " + (", ".join([*names.values()][:12]) or "none") + (", ..." if len(names) > 12 else "")


def read_texts(path: str | Path) -> pd.DataFrame:
    """Read a table of one header and any number of rows.

    Parameters
    ----------
    path : path
        .csv, .tsv or .txt (delimited by comma, semicolon or tab, whichever the header has most of; UTF-8, else
        Latin-1) or .xlsx (its first sheet).

    Returns
    -------
    DataFrame
        Texts without outer spaces, "" for an empty cell. Durations and times of day of an xlsx are "H:MM:SS" (more
        than 24 hours are possible), whole numbers have no ".0". Columns keep their names; columns without a name,
        such as an index somebody's export left, are not read.

    Raises
    ------
    FileNotFoundError
        The file is missing.
    ValueError
        It is no table: of another kind, empty, a row longer than the header, or a column twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    readers = {".csv": _csv, ".tsv": _csv, ".txt": _csv, ".xlsx": _xlsx}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path} is no table that can be read: save it as .csv or .xlsx")
    rows = [row for row in readers[path.suffix.lower()](path) if any(row)]
    if not rows:
        raise ValueError(f"{path} is empty: a header and a row are expected")
    header, *body = rows
    for number, row in enumerate(body, 1):
        if any(row[len(header) :]):
            raise ValueError(f"{path}: row {number} has {len(row)} cells and the header {len(header)}")
    body = [[*row, *[""] * len(header)][: len(header)] for row in body]
    table = pd.DataFrame(body, columns=header, dtype=str)
    table = table.loc[:, [bool(plain(name)) and not plain(name).startswith("unnamed:") for name in header]]
    names = [plain(name) for name in table]
    if twice := [name for name in table if names.count(plain(name)) > 1]:
        raise ValueError(f"{path} has the column {twice[0]} twice; remove one")
    return table


def text_of(value: object) -> str:
    """A cell of a spreadsheet as the text somebody would type."""
    if isinstance(value, datetime.datetime):  # what a spreadsheet makes of a duration beyond 24 hours
        value = value - DAY_ZERO if value < datetime.datetime(1900, 3, 1) else value
    if isinstance(value, datetime.time):
        value = datetime.timedelta(
            hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
        )
    if isinstance(value, datetime.timedelta):
        seconds = round(value.total_seconds())
        sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
        return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return str(value).strip()


def _csv(path: Path) -> list[list[str]]:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)
    lines = io.StringIO(text, newline="")
    return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]


def _xlsx(path: Path) -> list[list[str]]:
    try:
        sheet = pd.read_excel(path, header=None, dtype=object, na_filter=False, engine="openpyxl")
    except ImportError:
        raise
    except Exception as error:  # a broken zip or sheet raises nearly anything
        raise ValueError(f"{path} is no readable xlsx: {error}") from error
    return [[text_of(value) for value in row] for row in sheet.itertuples(index=False)]

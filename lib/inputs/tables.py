"""Tables as they stand in a file, csv or xlsx: every cell a text, so that nothing is guessed before it is checked."""

import csv
import datetime
import difflib
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

DELIMITERS = ",;\t"
MOST_BYTES = 200 << 20
"""Of a table, unpacked: more is no table of patients or slides."""

MOST_CELLS = 10_000_000
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
    refuse_doubles(table, path)
    return table


def refuse_doubles(columns: Iterable[object], path: str | Path) -> None:
    """Refuse two columns of one name, whatever their case and spaces.

    Raises
    ------
    ValueError
    """
    been: dict[str, str] = {}
    for name in map(str, columns):
        if (first := been.setdefault(plain(name), name)) is not name:
            raise ValueError(f"{path} has the column {first[:60]} twice; remove one")


def read_columns(path: str | Path, sep: str = ",", **settings: object) -> pd.DataFrame:
    """Read a delimited table as pandas does, which guesses types, after what pandas would pass over is refused.

    pandas takes the first column for row names where rows are longer than the header, renames a column that is there
    twice, and ends a cell at a zero byte.

    Parameters
    ----------
    path : path
        .csv or its like, or a .gz or a .zip of one; UTF-8, else Latin-1.
    sep : str
    **settings
        Of `pandas.read_csv`.

    Raises
    ------
    FileNotFoundError
    ValueError
        Empty, no text, damaged, too large, a row longer than the header, a column twice.
    """
    text = whole_text(Path(path))
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=sep)
        header, first = next(rows, []), next(rows, [])
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as a table ({error}): save it again as .csv") from error
    if not header:
        raise ValueError(f"{path} is empty: a header and a row are expected")
    if len(first) > len(header):
        raise ValueError(f"{path}: row 1 has {len(first)} cells and the header {len(header)}")
    wanted = settings.get("usecols")
    refuse_doubles([name for name in header if name and (wanted is None or wanted(name))], path)
    try:
        return pd.read_csv(io.StringIO(text, newline=""), sep=sep, **settings)
    except ValueError as error:  # pandas' own are of that kind
        said = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as a table ({said}): save it again as .csv") from error


def whole_text(path: Path) -> str:
    """The text of a file, unpacked, or a sentence."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there, or is no file")
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                if len(members := archive.infolist()) != 1:
                    raise ValueError(f"{path} holds {len(members)} files: a zip of one table is expected")
                with archive.open(members[0]) as file:
                    content = file.read(MOST_BYTES + 1)
        else:
            with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
                content = file.read(MOST_BYTES + 1)
    except (zipfile.BadZipFile, EOFError, zlib.error, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be read as a table ({error}): fetch it again") from error
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} holds more than {MOST_BYTES >> 20} MB of text: it is no table of this kind")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if "\0" in text:
        raise ValueError(f"{path} holds zero bytes, so it is no text, or is one in UTF-16: save it as UTF-8")
    return text


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
    text = whole_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)

    def rows(strict: bool) -> list[list[str]]:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
        return [[cell.strip() for cell in row] for row in lines]

    try:
        return rows(strict=True)
    except csv.Error as error:
        if "unexpected end" not in str(error) and "field larger" not in str(error):
            return rows(strict=False)  # a quote within a cell
        fault = "a quote is opened and never closed" if "end" in str(error) else str(error)
        raise ValueError(f"{path} cannot be read as a table ({fault}): correct it") from error


def _xlsx(path: Path) -> list[list[str]]:
    try:
        _verify_xlsx(path)
        sheet = pd.read_excel(path, header=None, dtype=object, na_filter=False, engine="openpyxl")
    except ImportError:
        raise
    except Exception as error:  # a broken zip or sheet raises nearly anything
        raise ValueError(f"{path} is no readable xlsx: {' '.join(str(error).split())[:300]}") from error
    return [[text_of(value) for value in row] for row in sheet.itertuples(index=False)]


def _verify_xlsx(path: Path) -> None:
    """Refuse what would fill the memory, or be read as missing: formulas never computed, and errors."""
    with zipfile.ZipFile(path) as archive:
        if (size := sum(member.file_size for member in archive.infolist())) > MOST_BYTES:
            raise ValueError(f"it unpacks to {size >> 20} MB")
        for member in archive.infolist():
            if not member.filename.endswith(".xml"):
                continue
            content = archive.read(member)
            if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
                raise ValueError(f"{member.filename} defines entities, which no spreadsheet program writes")
            if member.filename.startswith("xl/worksheets/"):
                _verify_sheet(content)


def _verify_sheet(content: bytes) -> None:
    places = re.findall(rb'<c r="([A-Z]{1,3})([0-9]{1,9})"', content)
    rows = max((int(row) for _, row in places), default=0)
    columns = max(
        (sum((letter - 64) * 26**i for i, letter in enumerate(reversed(name))) for name, _ in set(places)),
        default=0,
    )
    if rows * columns > MOST_CELLS:
        raise ValueError(
            f"it reaches to row {rows} and column {columns}: remove what stands far from the table"
        )
    if found := re.search(rb'<c r="([A-Z]+[0-9]+)"[^>]*><f[^>]*>[^<]*</f>(?:<v ?/>|<v></v>)?</c>', content):
        raise ValueError(
            f"cell {found[1].decode()} is a formula never computed: save it with a spreadsheet program"
        )
    for cell, error in re.findall(
        rb'<c r="([A-Z]+[0-9]+)"[^>]* t="e"[^>]*>(?:<f[^>]*>[^<]*</f>)?<v>([^<]*)</v>', content
    ):
        if error != b"#N/A":
            raise ValueError(f"cell {cell.decode()} is the error {error.decode('utf-8', 'replace')}")

"""Tables as they stand in a file, csv or xlsx; names of columns and what cells say, as people spell them."""

import csv
import datetime
import difflib
import gzip
import io
import pickle
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.files import check_names, leaves_folder, problem_of
from lib.names import MOST_NAMED, some

DELIMITERS = ",;\t"
DAY_ZERO = datetime.datetime(1899, 12, 31)  # of spreadsheets, until their 29 February 1900 that never was
NO_YES = {"0": 0, "no": 0, "n": 0, "false": 0, "1": 1, "yes": 1, "y": 1, "true": 1}
MISSING = {"nan", "null", "none", "na", "n/a", "#n/a", "<na>", "nat", "missing", "unknown", "not available"}
MISSING |= {"", ".", "-", "--", "?"}
PLAIN_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)
DECIMAL_POINT = re.compile(r"[+-]?\d+\.\d+")
DECIMAL_COMMA = re.compile(r"[+-]?(\d+,(\d{1,2}|\d{4,})|0+,\d+)")
MISSING_CODE = re.compile(r"-1|-?(7+|8+|9+)")  # what forms write where nothing is known
OTHER_UNITS = {
    "years": {"days": 365.25, "months": 12.0},
    "months": {"days": 30.44, "weeks": 4.35, "years": 1 / 12},
    "minutes": {"hours": 1 / 60, "seconds": 60.0},
}


class Usual(NamedTuple):
    """What a clinical column holds: its unit, the range beyond which nobody is, and where a cohort's median is expected."""

    unit: str
    low: float
    high: float
    middle: tuple[float, float]


USUAL = {"age": Usual("years", 0, 120, (15, 100)), "time_months": Usual("months", 0, 1200, (2, 240))}


class Faults(list[str]):
    """What is wrong with tables, a sentence each, gathered so that all of it is said at once."""

    @contextmanager
    def held(self, path: object = "") -> Iterator[None]:
        """A ValueError within ends the block and is gathered, each of its lines, behind the path where one is given."""
        try:
            yield
        except ValueError as error:
            self.extend(f"{path}: {line}" if path else line for line in str(error).splitlines())

    def refuse(self) -> None:
        """A ValueError with all of it, a line each; nothing where nothing is wrong."""
        if self:
            raise ValueError("\n".join(dict.fromkeys(self)))


def plain(name: object) -> str:
    """A column's name without what people spell differently: case, outer and doubled spaces, a byte-order mark."""
    return " ".join(str(name).replace("\ufeff", "").split()).casefold()


def nearest_name(name: object, known: Iterable[object]) -> str:
    """The end of an error's sentence: "; nearest: NIHSS at admission", or all that is known where nothing is near."""
    names = {plain(one): str(one).strip() for one in known}
    if near := difflib.get_close_matches(plain(name), names, 3, cutoff=0.5):
        return "; nearest: " + ", ".join(names[one] for one in near)
    return "; known: " + (", ".join([*names.values()][:12]) or "none") + (", ..." if len(names) > 12 else "")


def is_missing(text: str) -> bool:
    """Whether a cell says that there is no value (`MISSING`, in any case)."""
    return text.strip().casefold() in MISSING


def number(text: str) -> float:
    """A number, NaN where missing; a ValueError for anything else, such as "12,5", "inf" or "1_2"."""
    if is_missing(text):
        return np.nan
    value = float(text) if PLAIN_NUMBER.fullmatch(text) else np.inf
    if not np.isfinite(value):
        raise ValueError(f"{text!r} is no number")
    return value


def check_once(
    names: pd.Series, path: object, wrong: Faults, what: str = "patient", zeros: bool = True
) -> None:
    """Rows without a name, a name of two rows, and one spelled in two ways (`lib.files.check_names`) go to `wrong`."""
    blank = names.map(is_missing).to_numpy(bool)
    if blank.any():
        wrong.append(f"{path}: row {some(np.flatnonzero(blank) + 2)} names no {what}")
    named = names[~blank]
    wrong += [f"{path}: {what} {one} stands twice: remove one" for one in named[named.duplicated()].unique()]
    with wrong.held():
        check_names(named, path, what, zeros)


def files_named(
    folder: Path, cells: pd.Series, source: object, what: str, wrong: Faults
) -> tuple[list[str], list[str]]:
    """Paths below a folder that a column of texts (indexed by patient) names, "" where none, and why each cannot be read.

    A path that leaves the folder, or is named twice, goes to `wrong`; `source` and `what` are for the sentences.
    """
    texts = cells.map(lambda text: "" if is_missing(text) else text.replace("\\", "/"))
    named = texts[texts != ""]
    wrong += [
        f"{source}: {what} of patient {patient} is {text}, and a path must stay in {folder}"
        for patient, text in named.items()
        if leaves_folder(text)
    ]
    for text, rows in named.groupby(named, sort=False):
        if len(rows) > 1:
            whose = " and ".join(rows.index.unique()[:2])
            wrong.append(f"{source}: {what} {text} stands twice, of {whose}: remove one")
    paths = [str(folder / text) if text else "" for text in texts]
    return paths, [problem_of(folder, text, what) for text in texts]


def values(
    cells: pd.Series, what: str, faults: Faults, read: Callable[[str], float] = number, needed: bool = False
) -> pd.Series:
    """What a column of texts (indexed by patient) says: float64, NaN where a cell is missing or wrong.

    A cell that `read` refuses, or an empty one that is `needed`, is a sentence in `faults`, which begins with `what` ("t.csv:
    age of patient"); patients whose cells say the same share one.
    """
    numbers, wrong = [], {}
    for patient, text in cells.items():
        try:
            numbers.append(read(text))
            if needed and numbers[-1] != numbers[-1]:
                wrong.setdefault("the cell is empty", []).append(patient)
        except ValueError as error:
            numbers.append(np.nan)
            wrong.setdefault(str(error), []).append(patient)
    said = [f"{what} {some(whose)}: {words}" for words, whose in wrong.items()]
    faults += said[:MOST_NAMED]
    if rest := [*wrong.values()][MOST_NAMED:]:
        faults.append(f"{what} {some(one for whose in rest for one in whose)}: the same kind of fault")
    return pd.Series(numbers, cells.index, dtype=float, name=cells.name)


def looked_over(values: pd.Series, name: str, usual: Usual | None = None, remedy: str = "") -> str:
    """What is odd about a column of numbers, in one sentence, "" if nothing is: for the table that the stage shows.

    That is a median outside `usual.middle`, and the unit in which it would lie there; single values beyond twice that; 9, 99
    or the like, more than twice the next number, or a -1. `values` are indexed by patient, NaN where missing; `usual` is that
    of `USUAL` where it has the name, else codes of missing alone are looked for; `remedy` ends a refusal's sentence.

    A ValueError for numbers that nobody has, with patient and unit; -9 or the like where nothing else is negative; 999 or
    more of one digit, more than twice the next number. Such codes are named.
    """
    known, usual = values.dropna().astype(float), usual or USUAL.get(name)
    coded = known.map(lambda one: bool(MISSING_CODE.fullmatch(f"{one:g}")))
    others = known[~coded]
    lone = coded & ((known < 0) & (others >= 0).all() | (known > 2 * others.max()))
    wrong = lone & ((known < -1) | (known >= 777))
    if usual:
        wrong |= (known < usual.low) | (known > usual.high)
    hint = _other_unit(others, usual) if len(others) else ""
    if wrong.any():
        expected = f"{usual.low:g} to {usual.high:g} {usual.unit} are" if usual else "a measurement is"
        cells = some(f"{patient} is {one:g}" for patient, one in known[wrong].items())
        said = f"{name} of patient {cells}, {expected} expected{hint}"
        if codes := sorted(set(known[wrong & coded])):
            said += f"; {', '.join(f'{one:g}' for one in codes)}: a code of what is missing? Leave such cells empty"
        raise ValueError(said + remedy)
    remarks = [f"median {others.median():g} {usual.unit}{hint}"] if hint else []
    far = others[others > 2 * usual.middle[1]] if usual and not hint else others[:0]
    if len(far):
        patient, more = far.index[0], len(far) - 1
        remarks.append(f"{far.iloc[0]:g} {usual.unit} of patient {patient}, and {more} more as far off")
    if lone.any():
        remarks.append(f"{known[lone].iloc[0]:g} of patient {lone.idxmax()}: measured, or a code of missing?")
    return "; ".join(remarks)


def column_report(table: pd.DataFrame, source: str | Path) -> pd.DataFrame:
    """What the columns of numbers of a clinical table (indexed by patient) hold, one row each.

    column, unit ("" where it is not known), known and missing (patients), lowest, median, highest, remark: see
    `looked_over`, whose refusals name the `source`.
    """
    rows, wrong = [], Faults()
    for name in table.select_dtypes("number"):
        values, meant, remark = table[name], USUAL.get(name), ""
        with wrong.held():
            remark = looked_over(values, name)
        counts = (int(values.notna().sum()), int(values.isna().sum()))
        rows.append((name, meant.unit if meant else "", *counts, *values.quantile([0, 0.5, 1]), remark))
    Faults(f"{source}: {each}" for each in wrong).refuse()
    head = ["column", "unit", "known", "missing", "lowest", "median", "highest", "remark"]
    return pd.DataFrame(rows, columns=head)


def _other_unit(values: pd.Series, usual: Usual | None) -> str:
    """The unit that makes a median plausible which is not so; "" where it is."""
    low, high = usual.middle if usual else (-np.inf, np.inf)
    middle = values.median()
    if low <= middle <= high:
        return ""
    units = OTHER_UNITS.get(usual.unit, {}).items()
    fits = next((unit for unit, number in units if low <= middle / number <= high), "")
    return f": are these {fits}?" if fits else f", where {low:g} to {high:g} is usual"


def code(text: str, levels: Mapping[str, int]) -> float:
    """Code of a category, NaN where missing. Case, spaces and ".0" behind a number do not matter."""
    if is_missing(text):
        return np.nan
    name = re.sub(r"^(\d+)\.0+$", r"\1", plain(text))
    known = {plain(level): value for level, value in levels.items()}
    if name not in known:
        raise ValueError(f"{text!r} is no category it has; known: {', '.join(known)}")
    return float(known[name])


def table_in(folder: Path, name: str) -> Path:
    """The one table of this name in a folder, csv, xlsx, tsv or txt; NAME.csv where there is none."""
    paths = [path for end in ("csv", "xlsx", "tsv", "txt") if (path := folder / f"{name}.{end}").is_file()]
    if len(paths) > 1:
        raise ValueError(f"{folder} has both {paths[0].name} and {paths[1].name}: remove one")
    return paths[0] if paths else folder / f"{name}.csv"


def read_texts(path: str | Path, wanted: Collection[str] = ()) -> pd.DataFrame:
    """Read a table with every cell as a text, so that nothing is guessed before it is checked.

    `path` is .csv, .tsv or .txt (delimited by comma, semicolon or tab, whichever the header has most of; UTF-8, else Latin-1;
    a .gz or .zip of one) or .xlsx (its first sheet). `wanted` reads these columns alone, whatever their case, and calls them
    so. Texts have no outer spaces, "" is an empty cell. Durations and times of day of an xlsx are "H:MM:SS" (more than 24
    hours are possible), whole numbers have no ".0" and the zeros that a format shows. Columns without a name, such as an export's index, are not
    read. A spreadsheet set to another language delimits by semicolons and writes 3,5 for 3.5: see `_with_points`.

    A ValueError where it is no table: of another kind, empty, a row longer than the header, a column twice, a formula never
    computed.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".txt", ".xlsx", ".gz", ".zip"):
        raise ValueError(f"{path} is no table that can be read: save it as .csv or .xlsx")
    rows = [row for row in (_xlsx(path) if kind == ".xlsx" else _delimited(path, wanted)) if any(row)]
    header, *body = rows or [[]]
    width = len(header)
    _check(header, [row if any(row[width:]) else row[:width] for row in body], path)
    body = [[*row, *[""] * width][:width] for row in body]
    table = pd.DataFrame(body, columns=header, dtype=str)
    if wanted:
        table = table.rename(columns=plain)
        return table[[name for name in table if name in wanted]]
    return table.loc[:, [bool(plain(name)) and not plain(name).startswith("unnamed:") for name in header]]


def _check(header: list[str], rows: list[list[str]], path: str | Path) -> None:
    """Refuse what pandas would pass over: it renames a column that is there twice, and takes the first one for row names
    where rows are longer than the header.
    """
    twice = [name for name, count in Counter(map(plain, header)).items() if name and count > 1]
    longer = [(n, len(row)) for n, row in enumerate(rows, 2) if len(row) > len(header)]
    fault = "is empty: a header and a row are expected" if not header else ""
    if twice:
        fault = f"has the column {twice[0][:60]} twice; remove one"
    elif longer and header:
        fault = "has in row {} {} cells and in the header {}: name all columns".format(
            *longer[0], len(header)
        )
    if fault:
        raise ValueError(f"{path} {fault}")


def read_columns(path: str | Path, sep: str = "", **settings: object) -> pd.DataFrame:
    """Read a delimited table as pandas does, which guesses types, after what pandas would pass over is refused.

    A .csv or its like, or a .gz or a .zip of one; UTF-8, else Latin-1; between `sep`, else what the header has most of (between
    semicolons 3,5 is 3.5). `settings` are those of `pandas.read_csv`, where `usecols` is a function of a column's name. A
    ValueError where it is empty, no text, damaged, has a row longer than the header or a column twice.
    """
    text = _text(Path(path))
    sep = sep or _delimiter(text)
    point = "," if sep == ";" else "."
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=sep)
    header, first = next(rows, []), next(rows, [])
    wanted = settings.get("usecols") or bool
    _check([name if wanted(name) else "" for name in header], [first], path)
    try:
        return pd.read_csv(io.StringIO(text, newline=""), sep=sep, decimal=point, **settings)
    except ValueError as error:  # pandas' own are of that kind, and name no file
        said = f"{path} cannot be read as a table ({str(error).strip()}): save it again as .csv"
        raise ValueError(said) from error


def _text(path: Path) -> str:
    """The text of a file, unpacked where it is a .gz or a .zip of one file."""
    content = path.read_bytes()
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                (member,) = archive.namelist()
                content = archive.read(member)
        elif path.suffix == ".gz":
            content = gzip.decompress(content)
    except (zipfile.BadZipFile, EOFError, zlib.error, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a table ({error}): fetch it again") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if "\0" in text:  # at which pandas would end a cell
        raise ValueError(f"{path} holds zero bytes, so it is no text, or is one in UTF-16: save it as UTF-8")
    return text


def _shown(cell) -> str:
    """A cell of a spreadsheet as somebody would type it, with the zeros that a format 0000 puts before an identifier."""
    value, form = cell.value, cell.number_format or ""
    if isinstance(value, datetime.datetime) and value < datetime.datetime(1900, 3, 1):
        value -= DAY_ZERO  # what a spreadsheet makes of a duration beyond 24 hours
    if isinstance(value, datetime.time):
        value = datetime.datetime.combine(DAY_ZERO, value) - DAY_ZERO
    if isinstance(value, datetime.timedelta):
        seconds = round(value.total_seconds())
        sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
        return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    return str(value).strip().zfill(0 if form.strip("0") or not isinstance(value, int) else len(form))


def _delimited(path: Path, wanted: Collection[str]) -> list[list[str]]:
    text = _text(path)
    text = re.sub(r"^sep=.\s*", "", text, flags=re.IGNORECASE)  # a spreadsheet's word to itself
    about = {"delimiter": _delimiter(text)}
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True, **about))
    except csv.Error as error:
        if "unexpected end" in str(error) or "field larger" in str(error):
            # a lenient reader makes one cell of all the rows behind it
            raise ValueError(f"{path} has a quote that is opened and never closed: correct it") from error
        rows = list(csv.reader(io.StringIO(text, newline=""), **about))  # a quote within a cell
    if wanted:  # of a table of thousands of columns; what a row has beyond the header is refused later
        header = next(filter(any, rows), [])
        of = [n for n, name in enumerate(header) if plain(name) in wanted]
        rows = [[*(row[n] for n in of if n < len(row)), *row[len(header) :]] for row in rows]
    rows = [[cell.strip() for cell in row] for row in rows]
    return rows if about["delimiter"] == "," else _with_points(rows)


def _delimiter(text: str) -> str:
    return max(DELIMITERS, key=next((line for line in text.splitlines() if line.strip()), "").count)


def _with_points(rows: list[list[str]]) -> list[list[str]]:
    """Cells as 3,5 with a point, where none has one already; but 1,234, which may be a thousand, as it stands."""
    if any(DECIMAL_POINT.fullmatch(cell) for row in rows for cell in row):
        return rows
    comma = DECIMAL_COMMA.fullmatch
    return [[cell.replace(",", ".") if comma(cell) else cell for cell in row] for row in rows]


def _xlsx(path: Path) -> list[list[str]]:
    """Cells of the first sheet; what would be read as missing and is not, formulas never computed and errors, refused."""
    import openpyxl

    content, rows, fault = io.BytesIO(path.read_bytes()), [], ""
    try:
        books = [openpyxl.load_workbook(content, read_only=True, data_only=kind) for kind in (True, False)]
        values, formulas = (book.worksheets[0] for book in books)
        for sheet in (values, formulas):
            sheet.reset_dimensions()  # what a file says of its size may be wrong
        for row, stated in zip(values.rows, formulas.rows, strict=True):
            for cell, formula in zip(row, stated, strict=True):
                if formula.data_type == "f" and cell.value is None:
                    fault = f"cell {formula.coordinate} is a formula never computed: save it with a spreadsheet program"
                elif cell.data_type == "e" and cell.value != "#N/A":
                    fault = f"cell {cell.coordinate} is the error {cell.value}"
            rows.append(["" if cell.data_type == "e" else _shown(cell) for cell in row])
    except Exception as error:  # a broken zip or sheet raises nearly anything
        fault = str(error)
    if fault:
        raise ValueError(f"{path} is no readable xlsx: {fault}")
    return rows


class _Plain(pickle.Unpickler):
    """A pickle can run any program: this unpickler knows containers, and numpy's arrays of plain values, and nothing else."""

    ADMITTED = {"_codecs": {"encode"}, "builtins": {"set", "frozenset", "bytes"}, "numpy": {"ndarray"}}
    ADMITTED |= {"multiarray": {"_reconstruct", "scalar"}, "numeric": {"_frombuffer"}}

    def find_class(self, module: str, name: str) -> object:
        home = module.removeprefix("numpy.core.").removeprefix("numpy._core.")
        if (home, name) == ("numpy", "dtype"):
            return _dtype
        if name in self.ADMITTED.get("builtins" if home == "__builtin__" else home, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, and only numpy arrays and names are admitted"
        )


def _dtype(kind: str, *how: bool) -> np.dtype:
    # arrays of objects hold addresses: their bytes, forged, would be followed
    if not re.fullmatch(r"[<>=|]?[biufcSU]\d+", str(kind)):
        raise pickle.UnpicklingError(f"it holds an array of {kind}, and only numbers and texts are admitted")
    return np.dtype(kind, *how)  # a copy, on which the order of bytes is then set


def read_pickle(path: str | Path) -> object:
    """Content of a pickle made of containers, numbers, texts and numpy arrays of them; a ValueError for anything else."""
    try:
        return _Plain(io.BytesIO(Path(path).read_bytes())).load()
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(
            f"{path}: refused to unpickle: {error}; fetch it again, or save it with lists of names (or as .yaml)"
        ) from error

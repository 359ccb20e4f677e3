"""Names of patients, slides and sections: what may become the name of a file and stand in a table."""

import re
from collections.abc import Iterable

from lib.inputs.text_tables import plain

LONGEST = 150
"""Bytes of a name: a file's name has 255, and stages add to it."""

ODD = re.compile(r"[\x00-\x1f\x7f/\\]")
FORMULA = re.compile(r"\s*[=+@\-]")


def fault_of(name: str) -> str:
    """Why a text cannot be the name of a patient or a file, in words; empty if nothing."""
    if not name.strip() or name in (".", ".."):
        return "is no name"
    if ODD.search(name):
        return "holds a slash or a character that cannot be printed, and files are named after it"
    if FORMULA.match(name):
        return "begins as a formula does, which a spreadsheet would run"
    try:
        return f"is longer than {LONGEST} bytes" if len(name.encode()) > LONGEST else ""
    except UnicodeEncodeError:
        return "is no UTF-8"


def check_names(names: Iterable[str], where: object, what: str = "patient", zeros: bool = True) -> None:
    """Refuse names that are none, and two that differ only in how they are typed.

    Parameters
    ----------
    names : iterable of str
        The same name may come more than once.
    where : object
        File or folder, for the sentence.
    what : str
        What is named.
    zeros : bool
        Names that differ in leading zeros or spaces are one (007 that a spreadsheet made 7); else in case alone.

    Raises
    ------
    ValueError
    """
    typed: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if fault := fault_of(name):
            raise ValueError(f"{where}: {what} {name[:60]!r} {fault}: rename it")
        key = re.sub(r"(?<!\d)0+(?=\d)", "", plain(name).replace(" ", "")) if zeros else name.casefold()
        if typed.setdefault(key, name) != name:
            differ = "case, spaces or leading zeros" if zeros else "case"
            raise ValueError(
                f"{where}: {what} {typed[key]!r} and {name!r} differ only in {differ}: write them alike, or rename one"
            )

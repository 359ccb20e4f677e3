"""Look a cohort over before anything is trained: its first stage is run, and what that found, thought odd and missed is
printed and written as one page, `results/<study>/<cohort>/check.html`: `make check STUDY=stroke COHORT=patients`.

Ends with 0 where everything can be used, with 1 where something would stop the study or drop a patient. There is no second
rule here: what the stage says of a file is what is said. `--hospital` writes a made-up hospital to try it on.
"""

import argparse
import html
import importlib
import logging
import os
import re
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

import nbformat
import pandas as pd
import papermill
from papermill.exceptions import PapermillExecutionError

from lib.files import written
from lib.names import some
from lib.params import ROOT, load
from lib.stage import results_folder

REMARKS = ("note", "remark", "problem")
# of an empty table
CONSEQUENCES = ("IndexError", "KeyError", "TypeError", "AttributeError", "ZeroDivisionError")
FINE = ("", "ok", "left out", "normal tissue, left out")  # the last two by request
DROPPED = re.compile(r"\bleft out\b(?!: 0 )")
NO_NEWS = re.compile(
    r"FAILED |max_failed = |no column of |.* units are whole$|.* files written|.*left out: 0 "
)
PARAMETERS = "params/<study>/<cohort>.yaml"
UNTOLD = ("fold", "note", "unused_in", "label", "oncotree_code")  # columns that may have gaps
MANY = 5  # remarks alike from which they are one line
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
img,svg{max-width:100%;height:auto}table{border-collapse:collapse;font-size:.8rem}td,th{border:1px solid #ccc;padding:.2rem .5rem;
text-align:left}.stops{color:#a00}div{overflow-x:auto}"""


class Looked(NamedTuple):
    """What a first stage found: lines of text, pictures with captions (html), tables by name."""

    found: list[str]
    stops: list[str]
    odd: list[str]
    missing: list[str]
    pictures: list[tuple[str, str]]
    tables: dict[str, pd.DataFrame]


def look(study: str, cohort: str) -> Looked:
    """Run the first stage of a cohort, whatever fails in it, and gather what it says.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such cohort, or its parameters are wrong.
    """
    own, began = f"params/{study}/{cohort}.yaml", time.time()
    given = load(ROOT / own).model_dump(mode="json") | {"max_failed": 10**6}  # all that fails is to be named
    notebook = next((ROOT / "notebooks" / study).glob("1-*.ipynb"))
    folder = results_folder() / study / cohort
    executed = folder / "notebooks" / "check.ipynb"
    executed.parent.mkdir(parents=True, exist_ok=True)
    ended = None
    try:
        logging.getLogger("papermill").setLevel(logging.ERROR)  # parameters of later stages are no news
        quiet = {"progress_bar": False, "extra_arguments": ["--log-level=50"]}
        papermill.execute_notebook(notebook, executed, given, cwd=ROOT, **quiet)
    except PapermillExecutionError as error:
        ended = error
    cells = nbformat.read(executed, as_version=4).cells
    outputs = [(cell, output) for cell in cells for output in cell.get("outputs", ())]
    said = "".join(output.text for _, output in outputs if output.get("name") == "stdout").splitlines()
    paths = [*sorted(folder.glob("*.csv")), *sorted(folder.glob("tables/*.csv"))]
    paths = [path for path in paths if path.stat().st_mtime >= began - 1]  # not those of a run before
    tables = {path.stem: pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths}
    rows = [row for name, table in tables.items() if name != "cohort" for row in remarked(table)]
    stops = [line.removeprefix("FAILED ") for line in said if line.startswith("FAILED ")]
    told = len(stops)
    stops += [f"{who}: {words}" for who, words, stop in rows if stop and not _told(who, stops)]
    stops += [line for line in said if DROPPED.search(line)]
    if ended and not (told and ended.ename in CONSEQUENCES):  # behind what may be its cause
        kind = f"{ended.ename}: " * (ended.ename in CONSEQUENCES)
        stops += [kind + line for line in str(ended.evalue).splitlines()]
    without = [line for line in said if line.startswith("no column of ")]
    unread = {line.removeprefix("no column of ").split(";")[0] for line in without}
    lines = [line for line in said if line.strip() and not (NO_NEWS.match(line) or DROPPED.search(line))]
    own = f"params/{study}/{cohort}.yaml"
    return Looked(
        found=[*lines, *(f"{name}.csv: {len(table)} rows" for name, table in tables.items())],
        stops=[_plain(line).replace(PARAMETERS, own) for line in dict.fromkeys(stops)],
        odd=[_plain(line) for line in alike([(who, words) for who, words, stop in rows if not stop])],
        missing=without + [line for line in gaps(tables.get("cohort")) if line.split(":")[0] not in unread],
        pictures=[(_caption(cell), _picture(out)) for cell, out in outputs if _picture(out)],
        tables=tables,
    )


def remarked(table: pd.DataFrame) -> list[tuple[str, str, bool]]:
    """What a table of a stage says of its rows: of whom, what, and whether the row cannot be used."""
    columns = [column for column in REMARKS if column in table]
    who = next((column for column in ("slide", "section", "patient", "column") if column in table), None)
    if who is None or not columns:
        return []
    state = table["status"] if "status" in table else pd.Series("", table.index)
    words = table[columns].apply(lambda row: "; ".join(filter(None, row)), axis=1)
    words = words.where((words != "") | state.isin(FINE), state)
    told = zip(table[who], words, ~state.isin(FINE), strict=True)
    return [(f"{who} {one}" if who == "column" else one, text, stop) for one, text, stop in told if text]


def alike(remarks: Iterable[tuple[str, str]]) -> list[str]:
    """Remarks (of whom, what) as sentences; those of many that differ in their numbers alone are one."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for who, words in remarks:
        groups.setdefault(re.sub(r"[\d.]+", "0", words), []).append((who, words.removeprefix(f"{who}: ")))
    lines = []
    for group in groups.values():
        many = len(group) >= MANY
        shown = [f"{len(group)} as {group[0][0]}: {group[0][1]} ({some(who for who, _ in group)})"]
        lines += shown if many else [f"{who}: {words}" for who, words in group]
    return lines


def gaps(cohort: pd.DataFrame | None) -> list[str]:
    """Of each column of the table of patients, who lacks it."""
    lines, cohort = [], pd.DataFrame() if cohort is None else cohort
    for name in cohort.columns.difference([*UNTOLD], sort=False):
        lacking = cohort.loc[cohort[name].isin(["", "False"] if name.startswith("has_") else [""])].iloc[:, 0]
        words = f"{len(lacking)} of {len(cohort)} are without ({some(lacking)})" if len(lacking) else ""
        if words and len(lacking) == len(cohort):
            words = "nobody has it" * (name not in ("hospital", "site"))  # which may be left out
        lines += [f"{name.removeprefix('has_')}: {words}"] if words else []
    return lines


def page(title: str, looked: Looked) -> str:
    """The page, one file that needs no other."""
    parts = [f"<p{' class=stops' * bool(looked.stops)}>{html.escape(verdict(looked))}</p>"]
    for heading, lines in sections(looked):
        shown = "".join(f"<li>{html.escape(line)}</li>" for line in lines) or "<li>nothing</li>"
        parts.append(f"<h2>{heading}</h2><ul>{shown}</ul>")
    parts.append("<h2>Pictures</h2>" * bool(looked.pictures))
    parts += [
        f"<figure>{shown}<figcaption>{html.escape(words)}</figcaption></figure>"
        for words, shown in looked.pictures
    ]
    for name, table in looked.tables.items():
        parts.append(f"<h2>{html.escape(name)}.csv</h2><div>{table.head(200).to_html(index=False)}</div>")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
    return f"{head}<style>{STYLE}</style><body><h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>\n"


def sections(looked: Looked) -> list[tuple[str, list[str]]]:
    """What was looked at, by heading."""
    stops = "To mend: stops the study, or drops a patient, a slide or a scan"
    return [("Found", looked.found), (stops, looked.stops), ("Odd", looked.odd), ("Missing", looked.missing)]


def verdict(looked: Looked) -> str:
    if looked.stops:
        return f"Not ready: {len(looked.stops)} to mend, each would stop the study or drop a patient, a slide or a scan."
    return f"Ready: everything was read; {len(looked.odd)} remarks."


def _told(who: str, stops: list[str]) -> bool:
    return any(re.match(rf"(\w+/)?{re.escape(who)}:", line) for line in stops)


def _plain(line: str) -> str:
    """Without the folder of this machine and the kind of an error."""
    line = line.replace(f"{ROOT}/", "").replace(f"{results_folder()}/", "results/")
    line = re.sub(r"\[Errno 2\] No such file or directory: '(.*)'", r"\1 is not there", line)
    return re.sub(r": [A-Z]\w*Error: ", ": ", " ".join(line.split()))


def _caption(cell) -> str:
    found = re.search(r'#\| fig-cap: "(.*)"', cell.source)
    return found[1] if found else ""


def _picture(output) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="" src="data:image/png;base64,{"".join(data["image/png"].split())}">'
    return data.get("image/svg+xml", "")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib.check", description=__doc__.splitlines()[0])
    studies = sorted(path.name for path in (ROOT / "notebooks").iterdir() if path.is_dir())
    parser.add_argument("study", choices=studies)
    parser.add_argument("cohort", nargs="?", default="patients")
    parser.add_argument("--hospital", action="store_true", help="write a made-up hospital instead")
    asked = parser.parse_args(arguments)
    try:
        if asked.hospital:
            where = f"data/raw/patients/{asked.study}"
            folder = ROOT / where
            if folder.is_dir() and any(folder.iterdir()):
                raise ValueError(f"{where} is not empty: a made-up hospital goes into no real one")
            importlib.import_module(f"lib.{asked.study}.phantom").write_hospital(folder)
            print(f"{where} holds a made-up hospital: make check STUDY={asked.study} COHORT=patients")
            return 0
        looked = look(asked.study, asked.cohort)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    title = f"{asked.study}/{asked.cohort}, looked over"
    path = results_folder() / asked.study / asked.cohort / "check.html"
    with written(path) as part:
        part.write_text(page(title, looked), encoding="utf-8")
    for heading, lines in sections(looked):
        print(f"{heading}:", *(f"  {line}" for line in lines or ["nothing"]), "", sep="\n")
    print(
        verdict(looked),
        f"The page{', with pictures' * bool(looked.pictures)}: {os.path.relpath(path, ROOT)}",
        sep="\n",
    )
    return 1 if looked.stops else 0


if __name__ == "__main__":
    sys.exit(main())

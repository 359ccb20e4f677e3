"""What was run, as tables, and numbers as Markdown: what the notebooks in ``book/`` share.

They read small result files of all cohorts, those of ``results/`` or, where a real cohort was not run here, those that were
committed below ``data/results/`` (`python -m lib.kept`); a part of a page is what one of their cells hands to `glue`.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import yaml
from IPython.display import Markdown, display

from lib.names import interval, number, with_interval  # noqa: F401 (notebooks take them from here)
from lib.params import ROOT

PHANTOMS_FIRST = {"demo": 0, "null": 1}
KEPT, PROVENANCE = "data/results", "provenance.json"
PARTS: dict[str, str] = {}  # of pages, by name: what `glue` was handed in this process


def repository() -> Path:
    """The folder that holds ``_quarto.yml``: the working folder, the nearest above it, or that of this ``lib``."""
    here = Path.cwd().resolve()
    return next((folder for folder in (here, *here.parents) if (folder / "_quarto.yml").is_file()), ROOT)


def results_folder(root: Path) -> Path:
    """``results/`` of a repository, or the folder that the environment variable CROSSBOOK_RESULTS names."""
    return Path(os.environ.get("CROSSBOOK_RESULTS") or Path(root) / "results").resolve()


def parameters(root: Path, study: str, cohort: str) -> dict:
    """A cohort's parameter file, as it stands."""
    path = Path(root) / "params" / study / f"{cohort}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def kind_of(root: Path, study: str, cohort: str) -> str:
    """A cohort's kind (phantom, open, gated), from its parameter file."""
    return parameters(root, study, cohort)["kind"]


def studies() -> dict[str, dict]:
    """``book/studies.yaml``: what the book's tables need to know of each study, in the book's order."""
    return yaml.safe_load((repository() / "book" / "studies.yaml").read_text(encoding="utf-8"))


def cohorts() -> pd.DataFrame:
    """Every cohort of which a stage was finished here, or whose results are committed: study, cohort, kind, folder, here.

    Demo and null come first. Where a cohort was evaluated here, its folder is that of ``results/`` and `here` is true;
    else it is that of ``data/results/``, if there is one. A folder of results without a parameter file is somebody's trial, and
    no cohort.
    """
    root, rows = repository(), []
    for study in studies():
        begun = {path.parent.name: path.parent for path in results_folder(root).glob(f"{study}/*/manifests")}
        committed = {path.parent.name: path.parent for path in (root / KEPT / study).glob(f"*/{PROVENANCE}")}
        for name in sorted(begun | committed, key=lambda name: (PHANTOMS_FIRST.get(name, 2), name)):
            if (root / "params" / study / f"{name}.yaml").is_file():
                evaluated = name in begun and (begun[name] / "metrics.csv").is_file()
                here = evaluated or name not in committed
                folder = (begun if here else committed)[name]
                rows.append((study, name, kind_of(root, study, name), folder, here))
    return pd.DataFrame(rows, columns=["study", "cohort", "kind", "folder", "here"])


def real() -> pd.DataFrame:
    """Cohorts of real patients that were evaluated, here or in the committed results; as `cohorts` gives them."""
    found = cohorts()
    evaluated = found["folder"].map(lambda folder: (folder / "metrics.csv").is_file()).astype(bool)
    return found[evaluated & (found["kind"] != "phantom")]


def read(path: Path) -> pd.DataFrame:
    """A table of results; "null" is a name, and only an empty cell is missing. No rows where there is no file."""
    if not path.is_file() or not path.read_text(encoding="utf-8").strip():
        return pd.DataFrame()
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def read_all(cohorts: pd.DataFrame, name: str, columns: Sequence[str], change=lambda it: it) -> pd.DataFrame:
    """One table of all cohorts, e.g. ``tables/differences.csv`` below their folders, with study, cohort and kind.

    `columns` are there even where no cohort has the file; `change` is done to each cohort's table first.
    """
    tables = [pd.DataFrame(columns=["study", "cohort", "kind", *columns])]
    for cohort in cohorts.itertuples():
        table = read(cohort.folder / name)
        if len(table):
            tables.append(change(table).assign(study=cohort.study, cohort=cohort.cohort, kind=cohort.kind))
    return pd.concat(tables[1:] or tables, ignore_index=True)


def metrics(cohorts: pd.DataFrame) -> pd.DataFrame:
    """Every ``metrics.csv``: a row for each study, cohort, setting, model and metric."""
    columns = ["model", "setting", "metric", "estimate", "low", "high", "n", "events", "seeds", "how"]
    return read_all(cohorts, "metrics.csv", columns)


def differences(cohorts: pd.DataFrame) -> pd.DataFrame:
    """Every paired difference, both ways round: setting, model, minus, difference, low, high, patients (where it is said)."""
    keys, values = ["study", "cohort", "kind", "setting", "model", "minus"], ["difference", "low", "high"]
    table = read_all(cohorts, "tables/differences.csv", [*keys[3:], *values], _named).reindex(
        columns=[*keys, *values, "patients"]
    )
    turned = table.rename(columns={"model": "minus", "minus": "model", "low": "high", "high": "low"})
    turned[values] *= -1
    both = pd.concat([table, turned])[[*keys, *values, "patients"]]
    return both.drop_duplicates(keys).reset_index(drop=True)


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """A table of differences whose columns are called alike: some name the metric, and the setting "where"."""
    if "difference" not in table:
        value = next(column for column in table if column not in ("model", "minus", "setting", "where"))
        table = table.rename(columns={value: "difference"})
    return table if "setting" in table else table.rename(columns={"where": "setting"})


def published(study: str) -> pd.DataFrame:
    """``data/published/<study>.csv``; no rows where there is none."""
    return read(repository() / "data" / "published" / f"{study}.csv")


def manifests(folder: Path) -> dict[str, dict]:
    """A cohort's manifests by stage, in order."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("manifests/*.json"))
    }


def provenance(folder: Path) -> dict:
    """Who made a cohort's results: study, cohort, kind, command, commit, date, machine, seconds, versions, parameters, inputs.

    That of committed results is their ``provenance.json``; of a cohort run here it is put together from the manifests and the
    records of its stages, `commit` by that of the evaluation. ValueError where the cohort was not evaluated.
    """
    if (folder / PROVENANCE).is_file():
        return json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    stages = manifests(folder)
    if "4-evaluate" not in stages:
        raise ValueError(f"{folder.parent.name}/{folder.name} was not evaluated: make run does that")
    records = {
        stage: json.loads(path.read_text(encoding="utf-8"))
        for stage in stages
        for path in sorted(folder.glob(f"runs/{stage}*.json"))
    }
    last, record = stages["4-evaluate"], records.get("4-evaluate", {})
    then = (folder / "manifests" / "4-evaluate.json").stat().st_mtime
    inputs = {name: digest for each in stages.values() for name, digest in each.get("inputs", {}).items()}
    return {
        "study": folder.parent.name,
        "cohort": folder.name,
        "kind": last["parameters"].get("kind", ""),
        "command": f"make run STUDY={folder.parent.name} COHORT={folder.name}",
        "commit": last["commit"],
        "commits": {stage: each["commit"] for stage, each in stages.items()},
        "date": record.get("date") or time.strftime("%Y-%m-%d", time.gmtime(then)),
        "machine": record.get("host", {}),
        "seconds": round(sum(each["seconds"] for each in records.values())),
        "versions": last["versions"],
        "parameters": last["parameters"],
        "inputs": {name: digest for name, digest in inputs.items() if name.startswith("data/")},
        "failed": {stage: sorted(each["failed"]) for stage, each in stages.items() if each.get("failed")},
    }


def machine(host: dict) -> str:
    """A machine in words: "AMD EPYC, 2 cores, 25 GB, no GPU"; what no record tells is left out."""
    parts = [host.get("processor"), f"{host['cores']} cores" if "cores" in host else ""]
    parts += [f"{host['memory_gb']:.0f} GB"] if "memory_gb" in host else []
    parts += [host["gpu"] or "no GPU"] if "gpu" in host else []
    return ", ".join(part for part in parts if part) or "a machine that left no record"


def computed(folder: Path) -> str:
    """One sentence: on which machine, when and from which commit a cohort's numbers come, and how to make them again."""
    about = provenance(folder)
    digest, _, changes = about["commit"].partition("+")
    how = "committed" if (folder / PROVENANCE).is_file() else "made here"
    return (
        f"Computed on {machine(about['machine'])}, {about['date']}, commit `{digest[:10]}`{f' with {changes}' if changes else ''}, "
        f"and {how}; run it yourself with `{about['command']}`."
    )


def deviations() -> dict[str, list[dict]]:
    """``book/deviations.yaml``: the departures of each study's reference; "unmeasured" explains why some have no number."""
    return yaml.safe_load((repository() / "book" / "deviations.yaml").read_text(encoding="utf-8"))


def estimate(row: pd.Series) -> str:
    """A row's estimate with its interval: "0.573 (0.512 to 0.634)"; the reason where it cannot be computed."""
    if pd.isna(row["estimate"]):
        return f"not computable: {row['how']}"
    return with_interval(*row[["estimate", "low", "high"]])


def difference(table: pd.DataFrame, **where: str) -> tuple[float, float, float, float] | None:
    """A paired difference, its interval and its patients, or None: ``difference(table, study=, cohort=, setting=, model=, minus=)``."""
    for column, value in where.items():
        table = table[table[column] == value]
    return tuple(table.iloc[0][["difference", "low", "high", "patients"]]) if len(table) else None


def signed(found: tuple[float, ...] | None) -> str:
    """A difference with its interval: "+0.038 (−0.012 to +0.088)", "" where there is none."""
    return "" if found is None else with_interval(*found[:3], sign=True)


def verdict(low: float, high: float, patients: float) -> str:
    """What a paired difference says, by its interval; of fewer than six patients it says nothing."""
    if patients < 6:
        return "too few patients to call"
    return "better" if low > 0 else "**worse**" if high < 0 else "not settled"


def link(words: str, target: str) -> str:
    """Words as a link to a page or result, given as seen from the repository: the book drops links to pages it lacks."""
    return f"[{words}](/{target})"


def chapter(study: str, cohort: str, stage: str = "5-figures", words: str = "") -> str:
    """A link to a cohort's chapter, named by the cohort; where it was not run here, to its place on the study's page of results."""
    run = results_folder(repository()) / study / cohort / "notebooks" / f"{stage}.ipynb"
    page = f"notebooks/{study}/{cohort}/{stage}.ipynb"
    if not run.is_file() and (repository() / KEPT / study / cohort / PROVENANCE).is_file():
        page = f"book/results/{study}.qmd#sec-{study}-{cohort}"
    return link(words or f"`{cohort}`", page)


def table(
    columns: dict[str, str], rows: Iterable[Sequence], caption: str, label: str, wide=False, widths: str = ""
) -> str:
    """A pipe table with a caption that can be referred to, e.g. as "tbl-studies"; `wide`: in the margin as well.

    `widths` in percent, as "[60,40]", are for columns of sentences, which no content should stretch.

    `columns` are heads with "l" (words), "r" (numbers) or "c"; `rows` have as many cells (ValueError), of which only
    the bar that would end a cell is escaped.
    """
    rules = {"l": ":---", "r": "---:", "c": ":--:"}
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(rules[side] for side in columns.values())}|"]
    for row in rows:
        cells = (str(cell).replace("|", "\\|") for _, cell in zip(columns, row, strict=True))
        lines.append(f"| {' | '.join(cells)} |".replace("\n", " "))
    if widths:
        return "\n".join([*lines, "", f': {caption} {{#{label} tbl-colwidths="{widths}"}}', ""])
    lines += ["", f": {caption} {{#{label}}}"]
    return "\n".join([f"::: {{.printed{' .column-page-right' if wide else ''}}}", "", *lines, "", ":::", ""])


def glue(name: str, *markdown: str) -> None:
    """Show Markdown, and make it the part of a page that the line ``<!-- generated: NAME -->`` stands for."""
    PARTS[name] = "\n".join(markdown)
    display(Markdown(PARTS[name]))


def folded(words: str, markdown: str) -> str:
    """Markdown that a click on its words opens."""
    return f"<details><summary>{words}</summary>\n\n{markdown}\n\n</details>\n"


def distrust(*reasons: str) -> str:
    """The box that ends what a chapter claims."""
    lines = "\n".join(f"- {each}" for each in reasons)
    return f'::: {{.callout-warning title="Distrust this because"}}\n{lines}\n:::\n'


def picture(figure, place: str, caption: str) -> str:
    """Save a matplotlib figure below ``results/``, e.g. at "real/folds", and the Markdown that shows it, as ``fig-real-folds``.

    Of a list of two the second is shown where the window is as narrow as a telephone.
    """
    from lib.figures import style  # here, for `make book` itself draws nothing

    figures = figure if isinstance(figure, list) else [figure]
    for each, name in zip(figures, (place, f"{place}-narrow"), strict=False):
        style.save(each, results_folder(repository()) / name, png=False)
        style.plt.close(each)
    words = re.sub(r'\[([^\]]*)\]\([^)]*\)|[*"`]', r"\1", caption)
    about = f'fig-alt="{words}"' + f' narrow="/results/{place}-narrow.svg"' * (len(figures) > 1)
    return f"![{caption}](/results/{place}.svg){{#fig-{place.replace('/', '-')} {about}}}\n"

"""The tables of the book's notebooks: a phantom never stands beside a paper's number, and what is missing is said.

The notebooks' cells run here in this process, on a small repository with results as the stages leave them.
"""

import importlib
import inspect
import json
import re

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from pydantic import TypeAdapter
from scipy.stats import norm

from lib import results
from lib.params import schema_of
from lib.statistics.over_cohorts import pooled

HEAD = "model,cohort,setting,metric,estimate,low,high,n,events,seeds,how\n"
PAPER = "CrossFusion, ResNet50 features, Table 1"
PUBLISHED = (
    "item,cohort,setting,metric,value,fold_sd,folds,source,certainty,testable,why,ours_model,ours_cohort,ours_setting\n"
    f'"{PAPER}",blca,blca,c_index,0.63,0.027,5,T1,verified,yes,five folds,crossfusion-released,blca,blca\n'
    f'"{PAPER}",ucec,ucec,c_index,0.702,0.044,5,T1,verified,yes,five folds,crossfusion-released,ucec,ucec\n'
    '"MCAT, stored",blca,blca,c_index,0.62,,,S1,verified,yes,"",mcat:MCAT,blca,blca\n'
)
SPACRD = PUBLISHED.splitlines()[0] + (
    "\nAUC of one set,HBC,genes,auc,0.83,,,T3,second hand,yes,,spacrd,her2st,genes\n"
    "gain in percent,HBC,all,auc_gain_percent,13.5,,,T3,second hand,no,other models,,,\n"
    "never found,HBC,all,f1,,,,T3,unverified,no,nowhere,,,\n"
)
DIFFERENCES = (
    "model,minus,difference,low,high,n,how,setting\n"
    "age,cox-clinical,-0.08,-0.14,-0.03,80,paired,blca\nmcat:MCAT,age,0.04,-0.02,0.09,80,paired,blca\n"
)
MAIN = {"age": (0.58, 0.52, 0.64), "cox-clinical": (0.66, 0.61, 0.71), "mcat:MCAT": (0.62, 0.56, 0.67)}


COMPARED = [
    {"cohort": "blca", "item": PAPER, "without": "needs slides"},
    {"cohort": "blca", "item": "MCAT, stored"},
]


REAL = ("real", *(f"real-{study}" for study in ("crossfusion", "spacrd", "gcmlm", "stroke")))
BOTH = ("title", "pairs", "slopes", "distrust", "paper", "next")
CHAPTER = {"finding", "pairs", "six", "printed", "distrust"}


class Repository:
    """Writes results as the stages leave them, and runs the book's notebooks on them."""

    def __init__(self, root, source, monkeypatch):
        self.root, self.source, self.patch = root, source, monkeypatch
        self.studies = yaml.safe_load((source / "book" / "studies.yaml").read_text(encoding="utf-8"))
        text = (source / "book" / "deviations.yaml").read_text(encoding="utf-8")
        self.deviations = yaml.safe_load(text)
        for key, each in self.studies.items():
            compared = [dict(row) for row in COMPARED] if key == "crossfusion" else []
            each |= {"comparisons": compared, "rivals": []}
        self.write("_quarto.yml", "book: {title: T, chapters: [index.qmd]}\n")
        self.write("data/published/crossfusion.csv", PUBLISHED)
        self.write("params/crossfusion/blca.yaml", "kind: open\n")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def cohort(self, study, name, rows, kind="phantom", differences="", **manifest):
        """Rows are model, setting, metric, estimate, low, high."""
        folder = f"results/{study}/{name}"
        lines = [f"{m},{name},{s},{x},{e},{low},{high},80,30,1,drawn" for m, s, x, e, low, high in rows]
        self.write(f"params/{study}/{name}.yaml", f"kind: {kind}\n")
        self.write(f"{folder}/metrics.csv", HEAD + "\n".join(lines) + "\n")
        self.write(f"{folder}/tables/differences.csv", differences)
        given = {"commit": "c0ffee" * 7, "failed": {}, "inputs": {"a.csv": "1", "b.csv": "2"}}
        given |= {"outputs": {"metrics.csv": "5ca1ab1e" * 8}, "parameters": {"seeds": [1, 2]}}
        given |= {"versions": {"numpy": "2.4"}} | manifest
        self.write(f"{folder}/manifests/4-evaluate.json", json.dumps(given))

    def notebook(self, name, **parameters):
        """The parts that a notebook of the book hands over, and what its cells defined."""
        self.write("book/studies.yaml", yaml.safe_dump(self.studies, sort_keys=False))
        self.write("book/deviations.yaml", yaml.safe_dump(self.deviations, sort_keys=False))
        self.patch.chdir(self.root)
        parts, defined = {}, {}
        self.patch.setattr(results, "glue", lambda part, *text: parts.update({part: "\n".join(text)}))
        for cell in nbformat.read(self.source / "book" / f"{name}.ipynb", as_version=4).cells:
            if cell.cell_type == "code":
                exec(cell.source, defined)
                if "parameters" in cell.metadata.get("tags", []):
                    defined |= parameters
        return parts, defined

    def parts(self, name="standings", **parameters):
        return self.notebook(name, **parameters)[0]


@pytest.fixture
def bare(root, tmp_path, monkeypatch):
    """A repository in which nothing was run."""
    monkeypatch.delenv("CROSSBOOK_RESULTS", raising=False)
    return Repository(tmp_path, root, monkeypatch)


@pytest.fixture
def phantoms(bare):
    """Demo and null of one study, and of nothing else."""
    for name, value in (("demo", 0.8), ("null", 0.5)):
        models = [(model, setting) for model in ("age", "crossfusion") for setting in ("a", "b")]
        rows = [(*pair, "c_index", value, value - 0.1, value + 0.1) for pair in models]
        bare.cohort("crossfusion", name, [*rows, ("kaplan-meier", "a", "c_index", 0.5, "", "")])
    return bare


@pytest.fixture
def cancer(phantoms):
    """The same, and a real cancer type with a Kaplan-Meier picture."""
    main = [(model, "blca", "c_index", *value) for model, value in MAIN.items()]
    phantoms.cohort("crossfusion", "blca", main, kind="open", differences=DIFFERENCES)
    phantoms.write("results/crossfusion/blca/figures/kaplan-meier.svg", "<svg><path/></svg>")
    return phantoms


def rows(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines if not line.startswith("|:")]


def test_every_part_says_something_where_nothing_was_run(bare):
    (bare.root / "data/published/crossfusion.csv").unlink()
    matplotlib.use("agg")
    parts = bare.parts() | bare.parts("costs") | bare.parts("shipped") | bare.parts("papers")
    for name in ("home", *REAL, "slide-of-cells"):
        parts |= bare.parts(name)
    assert set(parts) == {"standings", "studies", "demo-null", "cross-cancer", "coverage"} | {
        *("rivals", "by-study", "fusion-adds", "fusion-says", "two-hundred", "trust spacrd"),
        *(f"real {key}" for key in ("crossfusion", "spacrd", "fusion")),
        *("answer-age blca", "margin stroke", *(f"printed {key}" for key in bare.studies)),
        *(f"deviations {key}" for key in bare.deviations if key != "unmeasured"),
        *("machines", "provenance", "citation", "runs", "unit-costs", "disk"),
        *("estimate", "cost", "planning", "plan", "shipped vihbc"),
        *("paper tables crossfusion", "paper folds", "paper figure 2", "paper seconds crossfusion"),
        *("paper ablation spacrd", "paper accuracies stroke"),
        *(
            f"chapter {part} crossfusion"
            for part in CHAPTER | {"lung", "answer", "models", "folds", "failures", "cut"}
        ),
        *(
            f"chapter {part} spacrd"
            for part in CHAPTER | {"answer", "settings", "boxes", "sections", "section", "leak", "alarms"}
        ),
        *(f"cells {name}" for name in ("slide", "maps", "attention", "windows", "cost")),
        *("survival stad", "subsets lro", "folds lro", "table lro"),
        *(f"{part} isles24-clinical" for part in ("hospitals", "table", "models")),
        *(f"{part} {name}" for part in ("answer", "from") for name in ("lro", "stad", "isles24-clinical")),
        *(f"{part} lro" for part in BOTH),
        *(f"{part} isles24-clinical" for part in BOTH),
    }
    assert [name for name, text in parts.items() if len(text) < 20] == []
    assert [row[-1] for row in rows(parts["studies"])[1:]] == ["not run here"] * 5


def test_the_pages_ask_for_parts_that_there_are_and_equal_results_give_equal_parts(root, cancer):
    cancer.studies = yaml.safe_load((root / "book/studies.yaml").read_text(encoding="utf-8"))
    for path in (root / "data/published").glob("*.csv"):
        cancer.write(f"data/published/{path.name}", path.read_text(encoding="utf-8"))
    for path in root.glob("params/*/*.yaml"):
        cancer.write(path.relative_to(root), path.read_text(encoding="utf-8"))
    matplotlib.use("agg")
    made = ("standings", "costs", "shipped", "home", *REAL, "papers", "bench", "controls", "slide-of-cells")
    parts = {key: text for name in made for key, text in cancer.parts(name).items()}
    hospitals = cancer.parts("own-patients")
    assert all((cancer.root / f"results/{name.split()[1]}/hospital.png").is_file() for name in hospitals)
    pages = [root / "index.qmd", *root.glob("book/**/*.qmd"), *root.glob("notebooks/*/*.qmd")]
    texts = [*(page.read_text(encoding="utf-8") for page in pages), *parts.values()]  # a part may hold others
    marks = re.findall("^<!-- generated: (.*) -->", "\n".join(texts), re.M)
    assert len(marks) >= 16
    assert set(marks) <= {*parts, *hospitals}
    assert {key: text for name in made for key, text in cancer.parts(name).items()} == parts
    keys = (root / "references.bib").read_text(encoding="utf-8")
    assert all(f"{{{each['cite']}," in keys for each in cancer.studies.values() if each["cite"])


def test_null_is_a_name_and_a_trial_without_parameters_is_no_cohort(cancer):
    cancer.write("results/crossfusion/trial/manifests/1-preprocess.json", "{}")
    _, found = cancer.notebook("standings")
    assert list(found["cohorts"]["cohort"]) == ["demo", "null", "blca"]
    assert found["metrics"]["cohort"].isna().sum() == 0
    assert list(found["cohorts"]["kind"]) == ["phantom", "phantom", "open"]


def test_a_phantom_never_stands_beside_a_papers_number_and_a_verdict_comes_from_the_interval(cancer):
    first, second, demo, null = table = rows(cancer.parts()["standings"])[1:]
    assert {row[4] for row in table if row[1] == "phantom"} == {"none: a phantom"}
    assert {row[1] for row in table if row[4] != "none: a phantom"} == {"open"}
    assert first[3:] == ["c-index", "0.630 (verified)", "–", "–", "not testable here: needs slides"]
    said = "uninformative (ours minus printed −0.060 to +0.050)"
    assert second[3:] == ["c-index", "0.620 (verified)", "0.620", "0.560 to 0.670", said]
    assert demo[5:] == ["0.800", "0.700 to 0.900", "planted effect found"]
    assert null[5:] == ["0.500", "0.400 to 0.600", "no alarm"]
    assert [first[0][:13], second[0]] == ["[CrossFusion]", ""]


def test_a_null_that_finds_something_and_a_model_without_rows_are_told(phantoms):
    phantoms.cohort("crossfusion", "null", [("crossfusion", "a", "c_index", 0.7, 0.6, 0.8)])
    phantoms.cohort("crossfusion", "demo", [("age", "a", "c_index", 0.5, 0.4, 0.6)])
    *_, demo, null = rows(phantoms.parts()["standings"])
    assert demo[5:] == ["–", "–", "no c_index of crossfusion, which book/studies.yaml names"]
    assert null[-1] == "**alarm: leaves out chance**"


def test_an_item_that_is_not_published_and_a_phantom_among_rivals_are_refused(cancer):
    with pytest.raises(ValueError, match=r"rivals of crossfusion/demo: a phantom"):
        rival(cancer, cohort="demo", setting="a")
    cancer.studies["crossfusion"]["comparisons"][1]["item"] = "MCAT, lost"
    with pytest.raises(ValueError, match=r"'MCAT, lost' of blca stands 0 times in data/published"):
        cancer.parts()


WHERE = "model,minus,auc,low,high,delong_p,where\nage,mcat:MCAT,-0.05,-0.09,-0.01,0.01,blca\n"


def rival(repository, **changes):
    given = {"cohort": "blca", "setting": "blca", "model": "mcat:MCAT", "minus": "age"}
    given |= {"model_words": "the model", "minus_words": "age"} | changes
    repository.studies["crossfusion"]["rivals"] = [given]
    return rows(repository.parts("home")["rivals"])[1]


@pytest.mark.parametrize(
    ("changes", "shown", "said"),
    [
        ({}, "+0.040 (−0.020 to +0.090)", "not settled"),
        ({"model": "cox-clinical"}, "+0.080 (+0.030 to +0.140)", "better"),
        ({"model": "age", "minus": "cox-clinical"}, "−0.080 (−0.140 to −0.030)", "**worse**"),
        ({"setting": "elsewhere"}, "–", "not compared: one of the two was not run"),
        ({"minus": "stage"}, "–", "not compared: one of the two was not run"),
    ],
)
def test_a_rival_is_compared_in_pairs_whichever_way_round_the_table_has_it(cancer, changes, shown, said):
    row = rival(cancer, of="those with slides", **changes)
    assert row[0] == "[Bladder](/notebooks/crossfusion/blca/4-evaluate.ipynb), those with slides"
    assert row[3:] == [shown, said]
    # a table that calls the setting "where" and the difference by its metric is read alike
    cancer.write("results/crossfusion/blca/tables/differences.csv", WHERE)
    assert rival(cancer)[2:] == ["age: 0.580 (0.520 to 0.640)", "+0.050 (+0.010 to +0.090)", "better"]


def test_the_first_page_counts_what_the_pairs_say_and_draws_what_is_committed(cancer):
    """The same tables, in results/ or committed, give the same sentence; a committed cohort is linked to its page of results."""
    pair = {"cohort": "blca", "setting": "blca", "model_words": "m"}
    cancer.studies["crossfusion"]["rivals"] = [
        pair | {"model": "cox-clinical", "minus": "age", "minus_words": "a", "than": "one"},
        pair | {"model": "mcat:MCAT", "minus": "age", "minus_words": "b", "than": "plain"},
    ]
    said = (made := cancer.parts("home"))["fusion-says"]
    counted = (
        "ranks better than one modality alone in **1**, than something plain in **0**, else not settled."
    )
    assert said.startswith(f"**Not shown.** In 1 cohort (80 real patients) fusion {counted}")
    found = [": ".join(row[3:]) for row in rows(made["rivals"])[1:]]
    (study,) = (row for row in rows(made["by-study"]) if row[0].startswith("[CrossFusion"))
    assert (
        study[2:4] == ["+0.080 (+0.030 to +0.140): better", "+0.040 (−0.020 to +0.090): not settled"] == found
    )
    wide, narrow = re.search(r"\]\(/(\S+)\).* narrow=\"/(\S+)\"\}", made["fusion-adds"]).groups()
    assert (cancer.root / wide).read_bytes() != (cancer.root / narrow).read_bytes()
    aside = cancer.root / "data/results/crossfusion/blca"
    aside.parent.mkdir(parents=True)
    (cancer.root / "results/crossfusion/blca").rename(aside)
    cancer.write("data/results/crossfusion/blca/provenance.json", json.dumps(PROVENANCE))
    kept = cancer.parts("home")
    assert kept["fusion-says"] == said
    assert "[Bladder](/book/results/crossfusion.qmd#sec-crossfusion-blca)" in kept["rivals"]
    page = cancer.parts("real")["real crossfusion"]
    assert "Computed on AMD EPYC, 2 cores, 2026-11-29, commit `c0ffee`, and committed" in page
    assert "## Bladder {#sec-crossfusion-blca}" in page
    assert ["MCAT (stored)", "Age", "+0.040 (−0.020 to +0.090)", "not settled"] in rows(page)


def test_cohorts_that_answer_together_are_pooled_on_the_first_page_whose_row_a_study_is_theirs(cancer):
    pairs = []
    for one, apart in (("blca", 0.02), ("brca", 0.05), ("luad", 0.08)):
        table = f"model,minus,difference,low,high,setting\nmcat:MCAT,age,{apart},{apart - 0.1},{apart + 0.1},{one}\n"
        main = [(model, one, "c_index", *value) for model, value in MAIN.items()]
        cancer.cohort("crossfusion", one, main, kind="open", differences=table)
        words = {
            "than": "plain",
            "model": "mcat:MCAT",
            "model_words": "m",
            "minus": "age",
            "minus_words": "a",
        }
        pairs.append({"cohort": one, "setting": one} | words)
    cancer.studies["crossfusion"]["rivals"] = pairs
    made = cancer.parts("home")
    mean = pooled([0.02, 0.05, 0.08], [0.1 / norm.isf(0.025)] * 3)
    (study,) = (row for row in rows(made["by-study"]) if row[0].startswith("[CrossFusion"))
    assert (study[1], study[3].split(":")[0]) == ("3 cancers: m", results.signed(mean[:3]))


PROVENANCE = {
    "command": "make run STUDY=crossfusion COHORT=blca",
    "commit": "c0ffee",
    "date": "2026-11-29",
    "machine": {"processor": "AMD EPYC", "cores": 2},
    "files": {"metrics.csv": "5ca1ab1e"},
}


TITLES = [
    (-0.12, 0.10, "CT, PET and the clinic together are not shown to rank recurrence better than PET alone"),
    (-0.12, -0.01, "CT, PET and the clinic together rank recurrence worse than PET alone"),
    (0.01, 0.10, "CT, PET and the clinic together rank recurrence better than PET alone"),
]


@pytest.mark.parametrize(("low", "high", "title"), TITLES)
def test_a_title_follows_the_paired_difference(root, bare, low, high, title):
    """From the committed tables, with another difference: the title turns with its interval, and needs no result made here."""
    kept = root / "data/results/gcmlm/lro"
    for path in kept.rglob("*.*"):
        bare.write(f"data/results/gcmlm/lro/{path.relative_to(kept)}", path.read_text(encoding="utf-8"))
    bare.write("params/gcmlm/lro.yaml", "kind: open\n")
    path = bare.root / "data/results/gcmlm/lro/tables/differences.csv"
    table = pd.read_csv(path)
    table.loc[table["minus"] == "signature: pet", ["auc", "low", "high"]] = ((low + high) / 2, low, high)
    table.to_csv(path, index=False)
    _, cells = bare.notebook("real-gcmlm")
    assert cells["lro_title"](cells["mine"]["lro"]) == f"# {title}\n"


def test_demo_and_null_stand_side_by_side_and_a_miss_is_bold(phantoms):
    made = phantoms.parts()["demo-null"]
    assert "4 of 4 intervals of `null` cover 0.5." in made
    table = rows(made)
    assert table[0] == ["Setting", "Model", "`demo`", "`null`", "`null` covers 0.5"]
    assert ["b", "CrossFusion\u00a0\\*", "0.800 (0.700 to 0.900)", "0.500 (0.400 to 0.600)", "yes"] in table
    assert ["a", "Kaplan-Meier", "0.500", "0.500", "all alike"] in table
    phantoms.cohort("crossfusion", "null", [("age", "a", "c_index", 0.7, 0.6, 0.8)])
    made = phantoms.parts()["demo-null"]
    assert "0 of 1 intervals of `null` cover 0.5." in made
    assert rows(made)[1][2:] == ["0.800 (0.700 to 0.900)", "0.700 (0.600 to 0.800)", "**no**"]
    assert rows(made)[3][2:] == ["0.800 (0.700 to 0.900)", "–", ""]


def departure(repository, study, **how):
    """The row of the table that one departure makes."""
    row = {"reference": "r", "here": "h", **how}
    repository.deviations = {"unmeasured": {"kept": "it is done here as well"}, study: [row]}
    return rows(repository.parts()[f"deviations {study}"])[1]


def test_a_habit_is_worth_its_paired_difference(phantoms):
    model = "crossfusion+best_epoch"
    how = {"switch": {"model": model, "parameter": ["variant: released", "cap"]}, "paired": model}
    scores = {"crossfusion": 0.6, model: 0.7}
    main = [(model, "a", "c_index", value, 0.5, 0.8) for model, value in scores.items()]
    paired = "model,minus,difference,low,high,setting\ncrossfusion,crossfusion+best_epoch,-0.1,-0.2,-0.01,a\n"
    said = departure(phantoms, "crossfusion", **how)
    assert said[1] == "model `crossfusion+best_epoch`; parameter `variant: released`; parameter `cap`"
    assert said[3] == "no cohort that shows it was run here"
    phantoms.cohort("crossfusion", "demo", main, differences=paired)
    said = departure(phantoms, "crossfusion", **how)[3]
    assert said.endswith("(phantom), a: +0.100 (+0.010 to +0.200)")
    phantoms.cohort("crossfusion", "quirks", main)
    said = departure(phantoms, "crossfusion", **how)[3]
    assert said.startswith("[`quirks`]")
    assert said.endswith("a: no paired interval")
    assert "demo" not in said


def test_twins_and_the_cut_that_saw_the_labels(bare):
    def spots(auc, oracle):
        scores = {"auc": auc, "f1_oracle": oracle, "f1_gmm": 0.5}
        return [("spacrd", "genes", metric, value, 0.4, 0.9) for metric, value in scores.items()]

    bare.cohort("spacrd", "her2st", spots(0.8, 0.7), kind="open")
    bare.cohort("spacrd", "her2st-released", spots(0.7, 0.6), kind="open")
    said = departure(bare, "spacrd", twin={"her2st-released": "her2st"})[3]
    assert said.endswith("SpaCRD: 0.700 (0.400 to 0.900) against 0.800 (0.400 to 0.900)")
    later = [
        ("fusion", setting, "auc", value, 0.4, 0.9) for setting, value in (("late", 0.8), ("early", 0.7))
    ]
    bare.cohort("stroke", "demo", [*later, ("ctp", "early", "auc", 0.6, 0.5, 0.9)])
    said = departure(bare, "stroke", settings={"late": "early"})[3]
    assert said.endswith("mRS90: 0.800 (0.400 to 0.900) against 0.700 (0.400 to 0.900)")
    assert "Perfusion" not in said
    said = departure(bare, "spacrd", metrics={"f1_oracle": "f1_gmm"})[3].split("; ")
    assert [each.split(": ")[-1] for each in said] == ["0.700 against 0.500", "0.600 against 0.500"]


def test_an_effect_is_read_from_a_benchmark_or_typed_beside_its_test_or_cannot_be(bare):
    table = bare.write("benchmarks/results/x.csv", "name,here,there\na-b,1,-0.5\n")
    how = {"effect": "{a-b[there]:.2f} there, {a-b[here]} here", "by": "benchmarks/results/x.csv"}
    assert departure(bare, "stroke", **how)[1::2] == [
        "none",
        "−0.50 there, 1 here (`benchmarks/results/x.csv`)",
    ]
    table.unlink()
    said = "not measured on this machine: `benchmarks/results/x.csv` is missing"
    assert departure(bare, "stroke", **how)[3] == said
    by = "tests/stroke/test_train.py::test_x"
    assert departure(bare, "stroke", effect="30 steps, not 20", by=by)[3] == (
        "30 steps, not 20 (`tests/stroke/test_train.py`)"
    )
    argument = {"argument": "lib.stroke.model.StrokeNet.clinical_positions"}
    said = departure(bare, "stroke", switch=argument, unmeasured="kept")
    assert said[1::2] == ["argument `clinical_positions` of `StrokeNet`, in no parameter file", "*kept*"]
    assert "*kept*: it is done here as well." in bare.parts()["deviations stroke"]


def parameter(study, name):
    """Whether a study's schema has a parameter, and takes the value that is named with it."""
    (name, _, value), schema = name.partition(": "), schema_of(study)
    *groups, name = name.split(".")
    for group in groups:
        schema = schema.model_fields[group].annotation
    field = schema.model_fields.get(name)
    return field and (
        not value or TypeAdapter(field.annotation).validate_python(yaml.safe_load(value)) is not None
    )


def argument(study, name):
    module, owner, name = name.rsplit(".", 2)
    return name in inspect.signature(getattr(importlib.import_module(module), owner)).parameters


def contender(study, name):
    return name in importlib.import_module(f"lib.{study}.params").CONTENDERS


SWITCHES = {
    "parameter": parameter,
    "argument": argument,
    "model": contender,
    "cohort": lambda study, name: (results.ROOT / "params" / study / f"{name}.yaml").is_file(),
}


def test_each_departure_names_switches_that_there_are_and_its_effect_or_why_it_has_none(root, monkeypatch):
    monkeypatch.chdir(root)
    rows = results.deviations()
    why = rows.pop("unmeasured")
    assert set(rows) == set(results.studies()) - {"fusion"}, "the bench rebuilds no code that was released"
    effects = ("paired", "twin", "metrics", "settings")
    for study, row in [(key, row) for key, each in rows.items() for row in each]:
        known = {"reference", "switch", "here", "effect", "by", *effects, "unmeasured"}
        assert {"reference", "here"} <= set(row) <= known, row
        for what, names in row.get("switch", {}).items():
            lost = [
                name
                for name in ([names] if isinstance(names, str) else names)
                if not SWITCHES[what](study, name)
            ]
            assert lost == [], f"{study}: {row['reference']}: no {what} is called so"
        assert row.get("unmeasured", "kept") in why, row
        assert ("unmeasured" in row) != bool({"effect", *effects} & set(row)), row
        assert ("effect" in row) == ("by" in row), row
        assert contender(study, row["paired"]) if "paired" in row else True, row
        for pair in row.get("twin", {}).items():
            assert all(SWITCHES["cohort"](study, name) for name in pair), row
        path, _, test = row.get("by", "book/deviations.yaml").partition("::")
        assert (
            f"def {test}(" in (root / path).read_text(encoding="utf-8") if test else (root / path).is_file()
        ), row
        if path.endswith(".csv"):
            table = pd.read_csv(root / path, index_col=0).to_dict("index")
            assert row["effect"].format(**table) != row["effect"], row


def test_cancer_types_stand_with_differences_from_age_and_the_papers_number(cancer):
    made = cancer.parts()["cross-cancer"]
    shown = [" | ".join(row) for row in rows(made)]
    both = "0.580 (0.520 to 0.640) | 0.660 (0.610 to 0.710) | 0.620 (0.560 to 0.670)"
    assert f"Bladder | 80 (30) | {both}" in shown
    assert "Bladder | +0.080 (+0.030 to +0.140) | +0.040 (−0.020 to +0.090)" in shown
    assert "Bladder | 0.630 | 0.027 | 0.580 (0.520 to 0.640) | inside age's interval" in shown
    assert "Endometrium | 0.702 | 0.044 | not run here | –" in shown
    assert "](/results/crossfusion/blca/figures/kaplan-meier.svg){#fig-kaplan-meier-blca fig-alt=" in made
    assert "demo" not in made, "a phantom is no cancer type"


@pytest.mark.parametrize(
    ("age", "begins", "lies"),
    [
        ((0.58, 0.52, 0.64), "**Not shown.**", "lies inside"),
        ((0.53, 0.50, 0.56), "**Perhaps, by a loose comparison.**", "lies above"),
        ((0.70, 0.65, 0.75), "**No.**", "lies below"),
    ],
)
def test_the_answer_follows_the_numbers(cancer, age, begins, lies):
    cancer.cohort("crossfusion", "blca", [("age", "blca", "c_index", *age)], kind="open")
    said = cancer.parts()["answer-age blca"]
    assert said.startswith(begins)
    assert f"the paper's number {lies} that interval" in said
    assert "no paired difference" in said


def test_a_model_trained_here_answers_with_its_paired_difference_and_an_unknown_age_is_said(cancer):
    main = [(model, "blca", "c_index", 0.6, 0.55, 0.67) for model in ("age", "crossfusion")]
    paired = "model,minus,difference,low,high,setting\nage,crossfusion,-0.03,-0.09,0.02,blca\n"
    cancer.cohort("crossfusion", "blca", main, kind="open", differences=paired)
    said = cancer.parts()
    assert "on the same patients: CrossFusion +0.030 (−0.020 to +0.090)" in said["answer-age blca"]
    assert said["answer-age ucec"].startswith("**Not shown in this copy.**")
    assert "`make run STUDY=crossfusion COHORT=ucec`" in said["answer-age ucec"]
    cancer.cohort("crossfusion", "blca", main[1:], kind="open")
    assert "The ages of the patients are not known here." in cancer.parts()["answer-age blca"]


def test_ours_stands_beside_a_printed_number_only_where_it_is_of_the_same_real_cohort(bare):
    bare.write("data/published/spacrd.csv", SPACRD)
    bare.cohort("spacrd", "her2st", [("spacrd", "genes", "auc", 0.85, 0.8, 0.9)], kind="open")
    bare.cohort("spacrd", "demo", [("spacrd", "genes", "auc", 0.99, 0.98, 1.0)])
    said = bare.parts()["printed spacrd"]
    _, first, second = rows(said)
    assert first == ["AUC of one set", "HBC", "AUROC", "0.830", "0.850 (0.800 to 0.900)", "second hand"]
    assert second[2:5] == ["gain in AUROC, %", "13.5", "–"]
    assert said.endswith("given by no source that could be read: never found.\n")
    bare.write("data/published/spacrd.csv", SPACRD.replace("her2st", "demo"))
    assert "0.990" not in bare.parts()["printed spacrd"], "even if the table asks for a phantom"


def record(made=4, kept=0, shard=0, shards=1, failed=None, seconds=20.0, peak=700.0, finished=True):
    units = {"all": made + kept + len(failed or {}), "made": made, "kept": kept}
    content = {"stage": "2-embed", "shard": shard, "shards": shards, "seconds": seconds, "peak_mb": peak}
    content |= {"processor_seconds": seconds / 4, "units": units, "failed": failed or {}}
    return content | {"finished": finished, "host": {"cores": 2, "memory_gb": 25.3, "gpu": ""}}


def runs_of(repository, *records, name="2-embed"):
    for content in records:
        end = f".{content['shard']}of{content['shards']}" if content["shards"] > 1 else ""
        repository.write(f"results/crossfusion/blca/runs/{name}{end}.json", json.dumps(content))
    parts, found = repository.notebook("costs")
    table = next(table for cohort, table in found["recorded"] if cohort.cohort == "blca").set_index("stage")
    return parts, table.loc[name]


def test_a_recorded_stage_has_its_row_and_what_failed_its_reason_without_path(cancer):
    why = {"slide-9": "OSError: /data/secret/slide-9.svs | cut short"}
    parts, _ = runs_of(cancer, record(kept=2, failed=why))
    shown = [row[1:] for row in rows(parts["runs"])]
    assert ["embed", "7", "4", "2", "1", "20.0\u00a0s", "5.0\u00a0s", "700\u00a0MB", "0\u00a0B"] in shown
    assert ["evaluate", "–", "–", "–", "0", "not recorded", "–", "–"] in [row[:8] for row in shown]
    assert "| embed | `slide-9` | OSError: slide-9.svs \\| cut short |" in parts["runs"]
    assert "secret" not in parts["runs"]
    # of 7 units 4 were made: the disk of all is no measure of theirs
    unit = rows(parts["unit-costs"])[1]
    assert unit[1:] == ["embed", "slide", "4", "5.00\u00a0s", "1.25\u00a0s", "–", "700\u00a0MB"]


def test_shards_and_their_gathering_are_one_run(cancer):
    shards = [record(5, 0, 0, 2, seconds=100), record(3, 2, 1, 2, seconds=60, peak=900)]
    _, run = runs_of(cancer, *shards, record(0, 10, seconds=4, peak=300))
    assert [run["units"], run["made"], run["kept"], run["shards"]] == [10, 8, 2, 2]
    assert [run["seconds"], run["processor_seconds"], run["peak_mb"]] == [164, 41, 900]


def test_shards_of_an_older_run_do_not_count_and_ungathered_ones_stand_for_themselves(cancer):
    old = [record(5, 0, shard, 2, seconds=1000) for shard in (0, 1)]
    _, run = runs_of(cancer, *old, record(10, seconds=50))
    assert [run["seconds"], run["shards"]] == [50, 1]
    late = [record(5, 0, 0, 2), record(1, 0, 1, 2, failed={"x": "no"}, finished=False)]
    parts, run = runs_of(cancer, *late, name="3-train")
    assert [run["units"], run["made"], run["failed"], run["finished"]] == [7, 6, {"x": "no"}, False]
    assert "train (2 shards) (did not finish)" in parts["runs"]


def test_every_byte_belongs_to_one_stage_and_one_folder(cancer):
    cancer.write("results/crossfusion/demo/raw/a.tif", "x" * 3_000_000)
    cancer.write("results/crossfusion/demo/weights/a.safetensors", "x" * 2_000_000)
    for stage in ("1-preprocess", "3-train"):
        names = {"raw/a.tif": ""} | ({"weights/a.safetensors": ""} if stage[0] == "3" else {})
        text = json.dumps({"outputs": names, "parameters": {}})
        cancer.write(f"results/crossfusion/demo/manifests/{stage}.json", text)
    parts, found = cancer.notebook("costs")
    demo = next(table for cohort, table in found["recorded"] if cohort.cohort == "demo")
    assert list(demo["bytes"])[:2] == [3_000_000, 2_000_000]
    row = next(row for row in rows(parts["disk"]) if "`demo`" in row[0])
    assert row[1:7] == ["3.0\u00a0MB", "–", "–", "–", "–", "2.0\u00a0MB"]
    assert "| **all** | 3.0\u00a0MB |" in parts["disk"]


def test_the_estimate_by_hand_and_six_times_the_slides_cost_six_times_as_much(bare, root):
    measured = ["slide_embedding", "crossfusion_step", "tile_decoding"]
    for name in ("data/assumptions/cost.csv", *(f"benchmarks/results/{name}.csv" for name in measured)):
        bare.write(name, (root / name).read_text(encoding="utf-8"))
    asked = "'*/*': {3-train: {mem_mb: 2000}}\ncrossfusion/*: {3-train: {mem_mb: 10500}}\n"
    bare.write("params/resources.yaml", asked)
    _, one = bare.notebook("costs")
    assert [one["memory"](*given) for given in (("spacrd",), ("crossfusion", 16))] == ["2 GB", "168 GB"]
    v, cores, hours = one["v"], 16 * 0.85, one["hours"]["16 such cores"]
    assert v[["tiles_20x", "tiles_10x", "tiles_5x"]].sum() == 17_840
    cut = pd.read_csv(root / "benchmarks/results/tile_decoding.csv").query("tool == 'crossbook'").iloc[-1]
    assert v["ms_to_decode"] == pytest.approx(1e3 * cut["cpu_s"] / cut["tiles"])
    steps = pd.read_csv(root / "benchmarks/results/crossfusion_step.csv").set_index(["size", "scheme"])
    assert v["s_per_step"] == steps.loc[("4,096", "described"), "seconds"]
    assert hours["download"] == pytest.approx(1000 * 0.989e3 / 50 / 3600)
    assert hours["tiles to features"] == pytest.approx(1000 * 17_840 * v["ms_per_tile"] / 3.6e6 / cores)
    assert hours["training"] == pytest.approx(1000 * 4 * 20 * 3 * v["s_per_step"] / 3600 / cores)
    _, six = bare.notebook("costs", given={"slides": 6000})
    pd.testing.assert_frame_equal(six["hours"], 6 * one["hours"])
    assert six["disk_gb"]()["features"] == pytest.approx(6 * one["disk_gb"]()["features"])
    # of one's own: downloaded by nobody, and no dearer beside six thousand others
    took, gigabytes = one["slides_of"](200)
    assert took[1] == pytest.approx((hours.sum() - hours["download"]) / 5)
    assert gigabytes == pytest.approx(200 * (0.989 + 17_840 * v["bytes_per_tile"] / 1e9))
    assert six["slides_of"](200) == (pytest.approx(took), pytest.approx(gigabytes))
    with pytest.raises(ValueError, match="no factor is called slide"):
        bare.notebook("costs", given={"slide": 1})


# SpaCRD's own scores


def shipped(repository):
    """The six files: scores and labels in the order of the barcodes on tissue, positions and classes in other orders."""
    random, at = np.random.default_rng(0), "data/raw/vihbc/shipped/"
    grid = [(row, column) for row in range(20) for column in range(20)]
    names = random.permutation([f"B{number:03d}-1" for number in range(400)])
    on = {name: cell for name, cell in zip(names, grid, strict=True) if max(cell) < 18}
    cancer = {name: row < 9 for name, (row, _) in on.items()}
    score = {name: cancer[name] + random.normal() for name in sorted(on)}
    lines = [f"{n},{int(n in on)},{r},{c},{100 * r},{90 * c}" for n, (r, c) in zip(names, grid, strict=True)]
    classes = [f"{n}\t{'Invasive' if cancer[n] else 'Healthy'}\tx" for n in reversed(list(on))]
    for name, text in {
        "tissue_positions_list.csv": "\n".join(lines),
        "metadata.tsv": "\n".join(["ID\tannot_type\tfine_annot_type", *classes]),
        "scores_Visium_HBC.txt": " ".join(f"{value:.4f}" for value in score.values()),
        "Visium_HBC_label.txt": " ".join(str(int(cancer[name])) for name in score),
        "scalefactors_json.json": '{"spot_diameter_fullres": 60, "tissue_lowres_scalef": 0.1}',
    }.items():
        repository.write(at + name, text + "\n")
    Image.new("RGB", (200, 200), "pink").save(repository.root / at / "tissue_lowres_image.png")
    labels, scores = (np.array([table[name] for name in score]) for table in (cancer, score))
    return (scores[labels][:, None] > scores[~labels]).mean()


def test_shipped_scores_are_put_on_their_places_or_the_page_says_what_to_fetch(bare):
    matplotlib.use("agg")
    assert "make data COHORT=vihbc/shipped" in bare.parts("shipped")["shipped vihbc"]
    auc = shipped(bare)
    made = bare.parts("shipped")["shipped vihbc"]
    assert [row[:2] for row in rows(made)[1:3]] == [
        ["the authors' labels", "162"],
        ["SEDR's classes, invasive or tumour", "162"],
    ]
    assert {row[2][:5] for row in rows(made)[1:3]} == {f"{auc:.3f}"}
    assert (bare.root / "results/spacrd/shipped/vihbc.png").is_file()
    bare.write("data/raw/vihbc/shipped/scores_Visium_HBC.txt", "0.5 0.5\n")
    with pytest.raises(ValueError, match="of other spots"):
        bare.parts("shipped")


def test_the_slide_of_cells_is_printed_from_committed_tables(bare):
    matplotlib.use("agg")
    looked = "trained_on,network,seed,scale,tiles,tumour,cells,edge,evenness\n"
    looked += "left,untrained,1,20,9,0.7,0.4,0.1,1.0\nright,untrained,1,20,9,-0.2,0.4,0.3,0.9999\n"
    looked += "left,trained,1,20,9,0.1,0.2,0.0,0.5\nleft,shuffled,1,20,9,0.8,0.1,0.1,0.99\n"
    told = "trained_on,network,seed,windows,rank_correlation,mean_error\n"
    told += (
        "left,trained,1,74,0.95,0.05\nright,trained,1,69,0.9,0.07\nleft,mean of the other half,0,9,,0.17\n"
    )
    told += (
        "left,untrained,1,74,0.1,0.2\nleft,shuffled,1,74,0.9,0.17\nleft,ridge on mean features,0,74,1,0.1\n"
    )
    told += "left,share of neoplastic nuclei,0,74,0.9,{}\n"
    maps = "map,scale,row,deciles\n" + "".join(
        f"{name},{scale},{row},{line}\n"
        for name in ("tumour", "cells", "untrained", "trained")
        for scale in (5, 20)
        for row, line in enumerate((".09.", "0123"))
    )
    for counted in (0.04, 0.08):
        for name, text in {"": looked, "_windows": told.format(counted), "_maps": maps}.items():
            bare.write(f"benchmarks/results/slide_of_cells{name}.csv", text)
        parts, defined = bare.notebook("slide-of-cells")
        assert f"{'not' if counted > 0.06 else 'perhaps'} for want of learning" in parts["cells windows"]
    assert "+0.80, is that of a network trained on exchanged labels" in parts["cells attention"]
    found = rows(parts["cells attention"])[1]
    assert found[2:] == ["2", "−0.20 to +0.70", "+0.40", "+0.10 to +0.30", "1.000"]
    told = {row[0]: row[1:] for row in rows(parts["cells windows"])[1:]}
    assert told["trained on the other half's tumour"] == ["2", "+0.90 to +0.95", "0.050 to 0.070"]
    assert told["the mean share of the other half"] == ["1", "–", "0.170"]
    np.testing.assert_array_equal(defined["picture"]("cells", 5), [[np.nan, 0, 9, np.nan], [0, 1, 2, 3]])
    assert (bare.root / "results/crossfusion/slide-of-cells.png").is_file()
    assert "make data COHORT=hgsc" in parts["cells cost"]


@pytest.mark.real
def test_shipped_scores_of_the_real_section(bare, mirrored):
    """.902 is the AUC of SpaCRD's scores against its labels (both at 91eebc18e3f1), .913 against SEDR's classes."""
    at = mirrored("vihbc/shipped")
    (bare.root / "data/raw/vihbc").mkdir(parents=True)
    (bare.root / "data/raw/vihbc/shipped").symlink_to(at)
    made = bare.parts("shipped")["shipped vihbc"]
    assert [row[2][:5] for row in rows(made)[1:3]] == ["0.902", "0.913"]


CURVES = """model,cut,group,time,at_risk,survival,low,high,setting
cox-clinical,pooled_median,high,0,20,1,1,1,blca
cox-clinical,pooled_median,high,5,12,0.5,0.3,0.7,blca
cox-clinical,pooled_median,low,0,20,1,1,1,blca
cox-clinical,pooled_median,low,9,15,0.8,0.6,0.9,blca
"""


def test_the_papers_figures_have_ours_beside_them_where_the_same_cohort_was_evaluated(cancer, root):
    for path in (root / "data/published").glob("*.csv"):
        cancer.write(f"data/published/{path.name}", path.read_text(encoding="utf-8"))
    folder = "results/crossfusion/blca/tables"
    cancer.write(f"{folder}/kaplan_meier.csv", CURVES)
    cancer.write(f"{folder}/groups.csv", "model,cut,p\ncox-clinical,pooled_median,0.01\n")
    cancer.write(f"{folder}/folds.csv", "model,fold,c_index\nage,0,0.5\nage,1,0.6\nage,2,\n")
    parts = cancer.parts("papers") | cancer.parts("real-stroke")
    tables = [row for row in rows(parts["paper tables crossfusion"]) if row[0] == "CrossFusion"]
    assert tables[0][1:3] == ["**0.630** (0.027)", "**0.643** (0.037)"]
    # spread over folds, not folds - 1
    assert rows(parts["paper folds"])[:2] == [["Model", "Bladder"], ["Age", "0.550 (0.050)"]]
    assert "in 0 of 1 cancers" in parts["paper figure 2"]  # printed: 1.79e-4
    assert parts["paper figure 2"].count("](/results/papers/") == 1, "a model without groups has no figure"
    assert "54, 51, 50, 43 of 70; every interval reaches" in parts["paper accuracies stroke"]
    for part in ("paper figure 2", "paper ablation spacrd", "paper accuracies stroke"):
        for place in re.findall(r"\(/results/([^)]+)\)", parts[part]):
            assert (cancer.root / "results" / place).stat().st_size > 2000


GROUPS = "model,cut,p\nmcat:AMIL,fold_median,0.066\nmcat:AMIL,pooled_median,0.848\n"


def test_who_asks_of_lung_cancer_is_answered_by_both_differences(cancer):
    matplotlib.use("agg")

    def said(low):
        table = "model,minus,difference,low,high,setting\nmcat:MCAT,mcat:AMIL,0.1,0.05,0.15,luad\n"
        table += f"mcat:MCAT,cox-clinical,0.1,{low},0.2,luad\n"
        cancer.cohort("crossfusion", "luad", [("age", "luad", "c_index", 0.5, 0.4, 0.6)], "open", table)
        return cancer.parts("real-crossfusion")["chapter lung crossfusion"]

    assert said(0.01).startswith("**In lung cancer: shown.**")
    assert said(-0.01).startswith("**In lung cancer: not shown.**")


def test_a_chapters_title_and_its_six_pairs_follow_the_numbers(cancer):
    """The clinic better than slides, then the same numbers turned round; the two cuts of one model stand beside each other."""
    matplotlib.use("agg")

    def made(sign):
        low, high = sorted((0.04 * sign, 0.19 * sign))
        table = f"model,minus,difference,low,high,setting\ncox-clinical,mcat:AMIL,{0.12 * sign},{low},{high},blca\n"
        cancer.write("results/crossfusion/blca/tables/differences.csv", table)
        return cancer.parts("real-crossfusion")

    first, second = made(1), made(-1)
    words = "of 1 cancers the clinic ranks survival better than a network that saw slides alone {.unnumbered}"
    assert first["chapter finding crossfusion"] == f"# In 1 {words}\n"
    assert second["chapter finding crossfusion"] == f"# In 0 {words}\n"
    assert "in **1 of 1** cancers, worse in 0, not settled in 0." in first["chapter answer crossfusion"]
    assert "in **0 of 1** cancers, worse in 1, not settled in 0." in second["chapter answer crossfusion"]
    assert rows(second["chapter six crossfusion"])[1] == [
        "Bladder",
        "−0.120 (−0.190 to −0.040): **worse**",
        "–",
        "–",
    ]
    assert rows(first["chapter printed crossfusion"])[1][1:3] == ["0.630 (0.027)", "–"]


def test_the_switch_of_the_cut_has_its_still_picture_and_says_both_p(cancer):
    matplotlib.use("agg")
    cancer.cohort("crossfusion", "luad", [("mcat:AMIL", "luad", "c_index", 0.56, 0.51, 0.61)], kind="open")
    folder = "results/crossfusion/luad/tables"
    curves = CURVES.replace("cox-clinical", "mcat:AMIL")
    cancer.write(f"{folder}/kaplan_meier.csv", curves + curves.split("\n", 1)[1].replace("pooled", "fold"))
    cancer.write(f"{folder}/groups.csv", GROUPS)
    cancer.write(f"{folder}/folds.csv", "model,fold,c_index\nmcat:AMIL,0,0.46\nmcat:AMIL,1,0.62\n")
    parts, defined = cancer.notebook("real-crossfusion")
    assert parts["chapter cut crossfusion"].startswith(
        '::: {.piece data-piece="survival" data-show="mcat:AMIL"'
    )
    assert (cancer.root / "results/real/survival-cut.svg").stat().st_size > 2000
    assert "0.066 or 0.848 of the same scores" in parts["chapter distrust crossfusion"]
    assert "from 0.46 to 0.62 over" in parts["chapter distrust crossfusion"]
    assert "in **1 of 2** folds; at worst 0.46 in a fold of lung" in parts["chapter failures crossfusion"]
    assert defined["own_c_index"]("luad", "mcat:AMIL") == "0.540 (0.080)"  # spread over folds, not folds - 1


def test_three_patients_make_no_finding_and_the_leak_of_f1_is_drawn_section_by_section(bare):
    matplotlib.use("agg")
    folder = "results/spacrd/her2st"
    pair = "setting,model,minus,patients,difference,low,high\ngenes,spacrd-genes,marker-smoothed,{},0.1,0.05,0.15\n"
    bare.cohort("spacrd", "her2st", [], kind="open\nmarker: ERBB2", differences=pair.format(8))
    metrics = [
        f"spacrd-genes,her2st,genes,{m},{e},0.5,0.9,80,30,1,x"
        for m, e in (("auc", 0.8), ("f1_gmm", 0.7), ("f1_oracle", 0.8))
    ]
    bare.write(f"{folder}/metrics.csv", HEAD + "\n".join(metrics) + "\n")
    cuts = "setting,section,rule,cut,called,hits,spots,cancer\ngenes,A1,gmm,0.1,10,6,20,10\ngenes,A1,oracle,0.2,10,8,20,10\n"
    bare.write(f"{folder}/tables/cuts.csv", cuts)
    by_section = "setting,model,section,AUC,AP,F1,distance\n"
    by_section += "genes,marker-smoothed,A1,.8,.9,.7,.5\ngenes,spacrd-genes,A1,.9,.9,.4,.6\n"
    bare.write(f"{folder}/tables/by_section.csv", by_section)
    parts, defined = bare.notebook("real-spacrd")
    assert (
        "better than the marker gene in 1 of 1 sections, and its F1 goes from 0.40"
        in parts["chapter boxes spacrd"]
    )
    assert "piece" not in parts["chapter section spacrd"], "a picture of a patient is where it was made"
    bare.write(f"{folder}/pieces/section.json", "{}")
    assert 'data-piece="slide"' in bare.parts("real-spacrd")["chapter section spacrd"]
    assert defined["rules"].loc["A1"].to_dict() == {"gmm": 0.6, "oracle": 0.8}
    said = "SpaCRD {} one marker gene, smoothed {{.unnumbered}}\n"
    assert parts["chapter finding spacrd"] == "# On 8 patients " + said.format("finds cancer better than")
    assert "0.800 (0.500 to 0.900), and 0.700 (0.500 to 0.900) where" in parts["chapter distrust spacrd"]
    bare.write(f"{folder}/tables/differences.csv", pair.format(3))
    assert parts["chapter answer spacrd"].startswith("**Not beyond such patients.** On 8 patients")
    assert "one marker gene (ERBB2), smoothed" in parts["chapter answer spacrd"]
    assert "counts alone 8." in parts["chapter settings spacrd"]
    few = bare.parts("real-spacrd")
    assert few["chapter answer spacrd"].startswith("**Not on this evidence.** On 3 patients")
    assert few["chapter finding spacrd"] == "# On 3 patients " + said.format(
        "is not shown to find cancer better than"
    )

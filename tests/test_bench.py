"""The bench's page: its answer follows the numbers, whichever way they fall, and nothing else."""

import itertools
import json

import nbformat
import numpy as np
import pandas as pd
import pytest

from lib import results
from lib.figures import style
from lib.fusion.evaluation import BEST_REGRESSION, CROSS_ATTENTION, FAMILY, OFFSET

CANCERS = ("blca", "brca", "kirc", "luad", "stad")
PAIRS = {
    ("primary", FAMILY, "concat"): 0.0,
    ("by head", "mcat", "concat"): 0.01,
    ("minus late", FAMILY, "late"): -0.02,
    ("minus regression", FAMILY, BEST_REGRESSION): -0.06,
    ("offset minus clinic", FAMILY + OFFSET, "clinic"): 0.0,
    ("regression minus clinic", BEST_REGRESSION, "clinic"): 0.03,
    ("offset minus regression", FAMILY + OFFSET, BEST_REGRESSION): -0.02,
}
MODELS = ("concat", "late", *CROSS_ATTENTION, "age", "clinic", "rna", BEST_REGRESSION)


def handed_over(path, monkeypatch, until=""):
    """The parts of pages that a notebook hands over, up to the one that is wanted."""
    made, defined = {}, {}
    monkeypatch.setattr(results, "glue", lambda part, *text: made.update({part: "\n".join(text)}))
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and until not in made:
            exec(cell.source, defined)
    return made


@pytest.fixture
def bench(root, tmp_path, monkeypatch):
    """Function (primary difference, its error, cancers, the last part that is wanted) -> the parts that book/bench.ipynb hands over."""
    monkeypatch.delenv("CROSSBOOK_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(style, "save", lambda figure, path, png=True: [])  # to draw is most of the time
    printed = ("data/published/fusion.csv", "data/published/fusion_yardsticks.csv")
    for name in ("_quarto.yml", "book/studies.yaml", *printed):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((root / name).read_text(encoding="utf-8"), encoding="utf-8")

    def cohort(cancer, random, primary, error):
        folder = tmp_path / "results" / "fusion" / cancer
        for place in (folder / "tables", folder / "manifests", tmp_path / "params" / "fusion"):
            place.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"params/fusion/{cancer}.yaml").write_text(f"kind: open\ncancers: [{cancer}]\n")
        (folder / "manifests/4-evaluate.json").write_text(json.dumps({"outputs": {}}))
        rows = pd.DataFrame({"model": MODELS, "setting": cancer, "metric": "c_index", "n": 300, "events": 90})
        rows = rows[(rows["model"] != "rna") | (cancer != "ucec")]  # which has no genes
        rows["estimate"] = 0.6 + 0.01 * np.arange(len(rows)) + 0.02 * random.normal(size=len(rows))
        rows.assign(low=0.5, high=0.8).to_csv(folder / "metrics.csv", index=False)
        pairs = pd.DataFrame(list(PAIRS), columns=["contrast", "model", "minus"]).assign(setting=cancer)
        means = np.array(list(PAIRS.values())) + primary * (pairs["contrast"] == "primary")
        pairs["difference"], pairs["error"] = means + error * random.normal(size=len(pairs)), error
        ends = {"low": pairs["difference"] - 2 * error, "high": pairs["difference"] + 2 * error}
        pairs.assign(**ends).to_csv(folder / "tables/differences.csv", index=False)
        costs = pd.DataFrame({"model": MODELS, "parameters": 9000, "seconds": 1.5})
        costs.to_csv(folder / "tables/costs.csv", index=False)

    def parts(primary=0.0, error=0.002, cancers=CANCERS, until=""):
        random = np.random.default_rng(3)
        for cancer in cancers:
            cohort(cancer, random, primary, error)
        return handed_over(root / "book" / "bench.ipynb", monkeypatch, until)

    return parts


@pytest.fixture
def controls(root, tmp_path, monkeypatch):
    """Function (tables by name) -> the parts that book/controls.ipynb hands over."""
    monkeypatch.delenv("CROSSBOOK_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(style, "save", lambda figure, path, png=True: [])
    (tmp_path / "_quarto.yml").write_text("book: {}\n")
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)

    def parts(**tables):
        for name, table in tables.items():
            table.to_csv(tmp_path / f"benchmarks/results/fusion_{name}.csv", index=False)
        return handed_over(root / "book" / "controls.ipynb", monkeypatch)

    return parts


def test_controls_say_what_was_not_run_and_the_page_asks_for_all_of_them(controls, root):
    page = (root / "book" / "where-attention-helps.qmd").read_text(encoding="utf-8")
    made = controls()
    assert all(text.startswith("This control was not run") for text in made.values())
    assert all(f"<!-- generated: {part} -->" in page for part in made)


def test_who_finds_the_planted_choice_is_who_is_ahead_in_every_repeat(controls):
    rows = [("choice", 4000, 2.0, repeat, "the true hazard", 0.8) for repeat in range(3)]
    worth = {"ridge-by-block": 0.62, "concat": 0.621, "self-attention": 0.7}
    for repeat, noise in enumerate((-0.01, 0.0, 0.02)):
        rows += [("choice", 4000, 2.0, repeat, model, c + noise) for model, c in worth.items()]
    rows[3 + 1] = (*rows[3 + 1][:-1], 0.59)  # concatenation falls behind once
    planted = pd.DataFrame(rows, columns=["kind", "patients", "strength", "repeat", "model", "c"])
    made = controls(planted=planted)
    assert "In 4,000 patients at strength 2 Self-attention." in made["bench-finds"]
    head, _, row = (line.split(" | ") for line in made["bench-found"].splitlines() if line.startswith("|"))
    cells = dict(zip(head, row, strict=True))
    assert cells["Self-attention |"] == "**+0.080 (+0.080 to +0.080)** |"
    assert "**" not in cells["Concatenation"]


def test_of_one_repeat_only_a_large_lead_is_called_found_and_the_page_says_so(controls):
    worth = {"the true hazard": 0.8, "ridge-by-block": 0.62, "concat": 0.64, "self-attention": 0.7}
    rows = [("choice", 400, 2.0, 0, model, c) for model, c in worth.items()]
    planted = pd.DataFrame(rows, columns=["kind", "patients", "strength", "repeat", "model", "c"])
    said = controls(planted=planted)["bench-finds"]
    assert "In 400 patients at strength 2 Self-attention." in said
    assert "without an interval" in said


def test_false_alarms_are_counted(controls):
    alone = [("paad", deal, "concat", "", 0.5 + 0.01 * deal, np.nan) for deal in range(4)]
    pairs = [("paad", deal, "concat", "clinic", 0.0, p) for deal, p in enumerate((0.01, 0.2, 0.5, 0.9))]
    columns = ["cancer", "permutation", "model", "minus", "value", "p"]
    other = [("kirp", *row[1:]) for row in alone[:2] + pairs[1:]] + [("kirp", 0, "late", "", 0.4, np.nan)]
    made = controls(permuted=pd.DataFrame(alone + pairs + other, columns=columns))["bench-permuted"]
    assert "Of 4 pairs the bench's own test calls 1 different (25.0%) in 4 deals of Pancreas." in made
    assert "Of 3 pairs the bench's own test calls 0 different (0.0%) in 2 deals of" in made
    assert "| Concatenation | 0.515 | 0.013 | 0.500 to 0.530 | 0.505 |" in made
    assert "| Late fusion | – | – | – | 0.400 |" in made


def test_what_a_modality_is_worth_is_the_mean_over_cancers_of_what_noise_takes(controls):
    worth = {"concat": (0.02, 0.04), "mcat": (0.0, -0.02), "ridge-by-block": (0.1, 0.2)}
    rows = [
        (cancer, "clinic", what, model, 0.7, 0.7 - loss * share, loss * share, 0.03)
        for what, share in (("exchanged", 0.5), ("noise", 1))
        for model, losses in worth.items()
        for cancer, loss in zip(("blca", "kirc"), losses, strict=True)
    ]
    columns = ["cancer", "block", "what", "model", "whole", "changed", "loss", "spread"]
    made = controls(exchanged=pd.DataFrame(rows, columns=columns))
    said = "without clinic +0.010 (from −0.010, MCAT, to +0.030, Concatenation), and the regression +0.150."
    assert made["bench-loses"].rstrip().endswith(said)
    assert "| Concatenation | 0.700 | +0.030 (0.030) | +0.015 (0.030) |" in made["bench-exchanged"]


@pytest.mark.parametrize(
    ("primary", "error", "begins", "title"),
    [
        (0.03, 0.002, "**Yes.**", "better than"),
        (0.0, 0.002, "**No: for practical purposes they are alike.**", "no better than"),
        (-0.03, 0.002, "**No: it is worse.**", "no better than"),
        (-0.012, 0.006, "**No: a gain of more than a hundredth is improbable", "no better than"),
        (0.01, 0.02, "**Not settled.**", "perhaps better than, perhaps like"),
    ],
)
def test_the_title_and_the_answer_follow_the_numbers(bench, primary, error, begins, title):
    made = bench(primary, error, until="bench-answer")
    assert f"# Over 5 cancers, cross-attention fuses {title} concatenation; a regr" in made["bench-title"]
    assert made["bench-answer"].startswith(begins)
    assert "(1,500 patients, 450 deaths)" in made["bench-answer"]
    assert "the heads lie below the regression" in made["bench-answer"]


def test_every_part_says_something_where_nothing_was_run_and_where_one_cancer_was(bench, root):
    pages = (root / "book" / name for name in ("results/fusion.qmd", "appendix/statistics.qmd"))
    page = "".join(path.read_text(encoding="utf-8") for path in pages)
    for cancers in ((), ("blca",)):
        made = bench(cancers=cancers)
        assert made["bench-answer"].startswith("Fewer than three cancers were run")
        assert [part for part, text in made.items() if len(text) < 20 and part != "bench-figure"] == []
        assert all(f"<!-- generated: {part} -->" in page for part in made)


def test_intervals_of_the_table_are_those_of_the_pooled_mean(bench):
    made = bench(0.0, 0.004, until="bench-contrasts")
    lines = made["bench-contrasts"].splitlines()
    (line,) = (row for row in lines if row.startswith("| cross-attention − tokens"))
    estimate, low, high = (float(x) for x in line.split("|")[2].replace("−", "-").replace("(", "").replace(")", "").replace("to", "").split())  # fmt: skip
    assert high - estimate == pytest.approx(estimate - low, abs=0.0011)  # Student's: as far to either side


@pytest.mark.parametrize(
    ("gain", "says"), [(0.02, "**Five help.**"), (-0.02, "**Five harm.**"), (0.0, "**No gain")]
)
def test_what_five_inner_folds_change_follows_the_numbers(bench, tmp_path, gain, says):
    worth = {"five minus one": gain, "one minus regression": -0.04, "five minus regression": gain - 0.04}
    worth |= dict.fromkeys(("one minus concatenation", "five minus concatenation"), 0.0)
    pairs = itertools.product(CANCERS, worth.items(), ("cross-attention+offset", "concat+offset"))
    cells = [(one, *pair, model, 0.01, 3) for one, pair, model in pairs]
    rows = pd.DataFrame(cells, columns=["cancer", "contrast", "difference", "model", "error", "changed"])
    rows["difference"] += rows["cancer"].map(dict(zip(CANCERS, np.linspace(-0.002, 0.002, 5), strict=True)))
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    rows.to_csv(tmp_path / "benchmarks/results/fusion_tuned.csv", index=False)
    said = bench(until="bench-tuned")["bench-tuned"]
    assert said.startswith(says)
    assert "(5 cancers with RNA): still below it." in said


def test_glioma_and_what_lacks_a_modality_are_left_out_together(bench):
    made = bench(cancers=(*CANCERS, "gbmlgg", "ucec"), until="bench-sensitivity")
    lines = [row for row in made["bench-sensitivity"].splitlines() if row.startswith("| without")]
    assert len(lines) == 8
    assert "Glioma" in lines[-1]
    assert "Endometrium" in lines[-1]


def test_a_model_that_one_cancer_lacks_has_no_mean(bench, tmp_path):
    bench(until="bench-title")
    path = tmp_path / "results/fusion/kirc/metrics.csv"
    table = pd.read_csv(path)
    table[table["model"] != "late"].to_csv(path, index=False)
    made = bench(cancers=())
    *_, line = (row for row in made["bench-all"].splitlines() if row.startswith("| Late fusion |"))
    assert [line.split("|")[at].strip() for at in (4, 7)] == ["–", "–"]

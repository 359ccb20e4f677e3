"""A small repository with results: two phantoms of one study, and of another a cancer type and its phantoms."""

import json

import pytest
import yaml

from lib.study.book.records import Records

HEAD = "model,cohort,setting,metric,estimate,low,high,n,events,seeds,how\n"
PAGES = [
    "index.qmd",
    "book/demo-null.qmd",
    "notebooks/crossfusion/index.qmd",
    "notebooks/crossfusion/demo/5-figures.ipynb",
    "notebooks/crossfusion/blca/5-figures.ipynb",
]


def study(**changed):
    given = {
        "name": "SpaCRD",
        "cite": "xue2026spacrd",
        "question": "Which spots?",
        "input": "spots",
        "fusion": "two-way",
        "metric": "auc",
        "words": "AUROC",
        "chance": 0.5,
        "model": "spacrd",
        "comparisons": [],
        "released": "spacrd-released",
        "habits": {"spacrd-released": "everything"},
    }
    return given | changed


STUDIES = {
    "spacrd": study(cuts={"f1_oracle": "f1_gmm"}, twins={"her2st-released": "her2st"}),
    "crossfusion": study(
        name="CrossFusion",
        cite="soraki2026crossfusion",
        metric="c_index",
        words="c-index",
        model="crossfusion",
        comparisons=[
            {"cohort": "blca", "item": "CrossFusion, ResNet50 features, Table 1", "without": "needs slides"},
            {"cohort": "blca", "item": "MCAT, stored"},
        ],
        released="crossfusion-released",
        habits={"crossfusion+best_epoch": "**leak**: the best epoch"},
    ),
    "stroke": study(name="mRS90", cite="", model="fusion"),
}
PUBLISHED = (
    "item,cohort,setting,metric,value,source,certainty,testable,why,ours_model,ours_cohort,ours_setting\n"
    '"CrossFusion, ResNet50 features, Table 1",blca,blca,c_index,0.63,T1,verified,yes,'
    '"five folds (standard deviation 0.027)",crossfusion-released,blca,blca\n'
    '"CrossFusion, ResNet50 features, Table 1",ucec,ucec,c_index,0.702,T1,verified,yes,'
    '"five folds (standard deviation 0.044)",crossfusion-released,ucec,ucec\n'
    '"MCAT, stored",blca,blca,c_index,0.62,S1,verified,yes,"",mcat:MCAT,blca,blca\n'
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>'


class Repository:
    """Writes results as the stages leave them."""

    def __init__(self, root):
        self.root = root
        self.write("book/studies.yaml", yaml.safe_dump(STUDIES, sort_keys=False))
        self.write("data/published/crossfusion.csv", PUBLISHED)
        self.write("params/crossfusion/blca.yaml", "kind: open\n")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def cohort(self, study, name, rows, kind="phantom", differences="", commit="c0ffee" * 7):
        """Rows are model, setting, metric, estimate, low, high."""
        folder = f"results/{study}/{name}"
        lines = [
            f"{m},{name},{s},{metric},{e},{low},{high},80,30,1,drawn" for m, s, metric, e, low, high in rows
        ]
        self.write(f"params/{study}/{name}.yaml", f"kind: {kind}\n")
        metrics = self.write(f"{folder}/metrics.csv", HEAD + "\n".join(lines) + "\n")
        if differences:
            self.write(f"{folder}/tables/differences.csv", differences)
        manifest = {
            "commit": commit,
            "failed": {},
            "inputs": {"a.csv": "1", "b.csv": "2"},
            "outputs": {"metrics.csv": "5ca1ab1e" * 8},
            "parameters": {"seeds": [1, 2]},
            "versions": {"numpy": "2.4"},
        }
        self.write(f"{folder}/manifests/4-evaluate.json", json.dumps(manifest))
        return metrics.parent

    def records(self, pages=PAGES):
        return Records(self.root, {"book": {"chapters": list(pages)}})


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A repository in which nothing was run."""
    monkeypatch.delenv("CROSSBOOK_RESULTS", raising=False)
    return Repository(tmp_path)


@pytest.fixture
def phantoms(bare):
    """Demo and null of one study, and of nothing else."""
    for name, value in (("demo", 0.8), ("null", 0.5)):
        rows = [
            (model, setting, "c_index", value, value - 0.1, value + 0.1)
            for model in ("age", "crossfusion")
            for setting in ("a", "b")
        ]
        rows.append(("kaplan-meier", "a", "c_index", 0.5, 0.5, 0.5))
        bare.cohort("crossfusion", name, rows)
    return bare


@pytest.fixture
def cancer(phantoms):
    """The same, and a real cancer type with a Kaplan-Meier picture."""
    rows = [
        ("age", "blca", "c_index", 0.58, 0.52, 0.64),
        ("cox-clinical", "blca", "c_index", 0.66, 0.61, 0.71),
        ("mcat:MCAT", "blca", "c_index", 0.62, 0.56, 0.67),
    ]
    differences = (
        "model,minus,difference,low,high,n,how,setting\n"
        "age,cox-clinical,-0.08,-0.14,-0.03,80,paired,blca\n"
        "mcat:MCAT,age,0.04,-0.02,0.09,80,paired,blca\n"
    )
    folder = phantoms.cohort("crossfusion", "blca", rows, kind="open", differences=differences)
    (folder / "figures").mkdir()
    (folder / "figures" / "kaplan-meier.svg").write_text(SVG)
    return phantoms

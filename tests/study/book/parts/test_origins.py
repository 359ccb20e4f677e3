"""Provenance from manifests, cost from benchmarks, and how to cite."""

from lib.study.book.parts.costs import cost
from lib.study.book.parts.origins import citation, provenance


def test_every_cohort_with_commit_seeds_files_and_checksum(cancer):
    cancer.cohort("stroke", "demo", [("fusion", "a", "auc", 0.6, 0.5, 0.7)], commit="d00d" * 10 + "+changes")
    made = provenance(cancer.records(), "book/appendix/provenance.qmd")[0]
    line = "| phantom | `c0ffeec0ff` | 1, 2 | 2 | 1 | 0 | `5ca1ab1e5ca1ab1e` |"
    assert f"| CrossFusion, [`demo`](../../notebooks/crossfusion/demo/5-figures.ipynb) {line}" in made
    assert "| mRS90, `demo` | phantom | `d00dd00dd0` with changes |" in made
    assert "| numpy | 2.4 |" in made


def test_versions_that_differ_are_told_apart(cancer):
    path = cancer.root / "results/crossfusion/demo/manifests/4-evaluate.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"2.4"', '"2.5"'))
    assert "| numpy | 2.4 (2 stages), 2.5 (1 stages) |" in provenance(cancer.records(), "a.qmd")[0]


def test_cost_prints_what_was_measured_and_where(bare):
    bare.write(
        "benchmarks/results/stroke_step.csv",
        "size,scheme,seconds,peak_mb,load_before,cpu\n128,port,6.34,1966,1.72,AMD EPYC\nfull,port,,,1.72,AMD EPYC\n",
    )
    made = cost(bare.records(), "a.qmd")[0]
    assert "| 128 | port | 6.34 | 1,966 |" in made
    assert "(AMD EPYC; load of the machine before: 1.7)" in made
    assert "full" not in made


def test_the_book_is_cited_as_its_file_says(bare, root):
    bare.write("CITATION.cff", (root / "CITATION.cff").read_text(encoding="utf-8"))
    said = citation(bare.records(), "index.qmd")[0]
    assert said.startswith("Crossbook authors. *Crossbook: a book that runs*. Version")

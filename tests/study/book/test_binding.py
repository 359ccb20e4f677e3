"""From results to `_book/`: laid, rendered, checked, swapped in whole, and not made twice."""

import shutil

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib.study.book import binding, preview, quarto, site
from lib.study.book.chapters import machine_folders
from lib.study.book.contents import places, read_contents

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAD0lEQVR4nGNgYGD4//8/AAYBAv4CsjmuAAAAAElFTkSuQmCC"
PLACES = [f"notebooks/spacrd/{cohort}/4-evaluate.ipynb" for cohort in ("demo", "null", "her2st")]
APPENDICES = [f"book/appendix/{name}.qmd" for name in ("published", "deviations", "cost", "provenance")]
needs_quarto = pytest.mark.skipif(quarto.find_quarto() is None, reason="no quarto program on this machine")


def write_executed(folder, cohort, seed=1, label="fig-roc", words="As @fig-roc shows [@xue2026spacrd]."):
    times = {"start_time": "2026-01-01T00:00:00"}
    picture = new_output("display_data", data={"image/png": PNG, "text/plain": "<Figure>"})
    printed = new_output("stream", name="stdout", text=f"wrote {folder}/results/a.csv\n")
    frame = new_output(
        "execute_result", data={"text/html": "<table>", "text/plain": "   a\n0  1"}, execution_count=3
    )
    cells = [
        new_markdown_cell(f"# Evaluate\n\n{words}\n\n$$a = b$$ {{#eq-one}}"),
        new_code_cell("seed = 0", execution_count=1, metadata={"tags": ["parameters"], "papermill": times}),
        new_code_cell(
            f"# Parameters\nseed = {seed}", execution_count=1, metadata={"tags": ["injected-parameters"]}
        ),
        new_code_cell(
            f"#| label: {label}\n#| fig-cap: The curve.\n1",
            execution_count=2,
            outputs=[printed, picture],
            metadata={"papermill": times},
        ),
        new_code_cell("frame", execution_count=3, outputs=[frame]),
    ]
    path = folder / "results" / "spacrd" / cohort / "notebooks" / "4-evaluate.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"papermill": times}), path)
    return path


@pytest.fixture
def checkout(root, tmp_path, monkeypatch):
    """The book's own pages and looks, one chapter a cohort, demo and null run."""
    for name in ("CROSSBOOK_RESULTS", "CROSSBOOK_MIRROR", "QUARTO_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "checkout"
    shutil.copytree(root / "book", folder / "book")
    contents = read_contents(root)
    for _, place in places(contents):
        if place.endswith(".qmd"):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / place, folder / place)
    shutil.copyfile(root / "references.bib", folder / "references.bib")
    for entry in contents["book"]["chapters"]:
        if isinstance(entry, dict):
            pages = [place for place in entry["chapters"] if place.endswith(".qmd")]
            entry["chapters"] = [*PLACES, *pages] if "spacrd" in entry["part"] else pages
    (folder / "_quarto.yml").write_text(yaml.safe_dump(contents, sort_keys=False))
    (folder / "params" / "spacrd").mkdir(parents=True)
    for cohort, kind in (("demo", "phantom"), ("null", "phantom"), ("her2st", "open")):
        (folder / "params" / "spacrd" / f"{cohort}.yaml").write_text(f"kind: {kind}\n")
    for cohort in ("demo", "null"):
        write_executed(folder, cohort)
    return folder


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def run(folder, *options):
    return binding.main(["--root", str(folder), *options])


def test_the_preview_is_made_marked_and_not_made_twice(checkout, capsys):
    assert run(checkout, "--preview") == 0
    said = capsys.readouterr().out
    assert "left out: spacrd/her2st was not run here; make run STUDY=spacrd COHORT=her2st" in said
    assert "2 chapters, a preview without Quarto" in said
    assert "conda-forge: quarto" in said
    first = tree(checkout / "_book")
    assert "notebooks/spacrd/null/4-evaluate.html" in first
    assert not any("her2st/" in name for name in first)
    stamped = (checkout / "_book" / "index.html").stat().st_mtime_ns
    assert run(checkout, "--preview") == 0
    assert capsys.readouterr().out == "book: nothing changed\n"
    assert (checkout / "_book" / "index.html").stat().st_mtime_ns == stamped
    shutil.rmtree(checkout / "_book")
    assert run(checkout, "--preview") == 0
    assert tree(checkout / "_book") == first, "equal results give equal bytes"


def test_a_cohort_that_is_run_later_joins_the_book(checkout, capsys):
    run(checkout, "--preview")
    write_executed(checkout, "her2st")
    assert run(checkout, "--preview") == 0
    assert "3 chapters" in capsys.readouterr().out
    page = (checkout / "_book/notebooks/spacrd/her2st/4-evaluate.html").read_text(encoding="utf-8")
    assert "Evaluate: her2st (open)" in page
    assert "not comparable" not in page
    (checkout / "results/spacrd/her2st/notebooks/4-evaluate.ipynb").unlink()
    assert run(checkout, "--preview") == 0
    assert not (checkout / "_book/notebooks/spacrd/her2st").exists(), "the book is made anew, not added to"


def test_a_refused_notebook_leaves_the_old_book(checkout, capsys):
    run(checkout, "--preview")
    before = tree(checkout / "_book")
    path = write_executed(checkout, "null")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[3].execution_count = None
    nbformat.write(notebook, path)
    assert run(checkout, "--preview") == 1
    assert (
        "results/spacrd/null/notebooks/4-evaluate.ipynb, cell 4 was never executed" in capsys.readouterr().err
    )
    assert tree(checkout / "_book") == before


def test_a_site_that_is_not_whole_is_not_swapped_in(checkout, capsys):
    run(checkout, "--preview")
    before = tree(checkout / "_book")
    write_executed(checkout, "null", words="As @fig-nowhere shows [@nobody2020]. ![lost](lost.png)")
    assert run(checkout, "--preview") == 1
    error = capsys.readouterr().err
    assert "the reference ?@fig-nowhere-spacrd-null is not resolved" in error
    assert "the reference ?@nobody2020 is not resolved" in error
    assert "lost.png is not there" in error
    assert tree(checkout / "_book") == before


def test_demo_and_null_must_have_been_run(checkout, capsys):
    shutil.rmtree(checkout / "results" / "spacrd" / "null")
    assert run(checkout, "--preview") == 1
    assert "results/spacrd/null/notebooks/4-evaluate.ipynb is missing" in capsys.readouterr().err
    assert not (checkout / "_book").exists()


def test_one_label_on_two_pages_is_refused(checkout):
    contents = yaml.safe_load((checkout / "_quarto.yml").read_text(encoding="utf-8"))
    part = next(entry for entry in contents["book"]["chapters"] if isinstance(entry, dict))
    part["chapters"].append("notebooks/spacrd/demo/5-figures.ipynb")
    (checkout / "_quarto.yml").write_text(yaml.safe_dump(contents))
    demo = checkout / "results/spacrd/demo/notebooks"
    shutil.copyfile(demo / "4-evaluate.ipynb", demo / "5-figures.ipynb")
    with pytest.raises(
        ValueError, match=r"label eq-one-spacrd-demo is defined in .*4-evaluate.* and in .*5-figures"
    ):
        binding.laid_files(checkout)


def test_laid_files_name_every_page_and_no_path_of_this_machine(checkout):
    files, _ = binding.laid_files(checkout)
    assert {
        "_quarto.yml",
        "index.qmd",
        "references.bib",
        "book/clean.lua",
        "book/theme.scss",
        *PLACES[:2],
    } <= set(files)
    assert PLACES[2] not in files["_quarto.yml"].decode()
    assert not [name for name, content in files.items() if str(checkout).encode() in content]
    assert binding.laid_files(checkout)[0] == files
    stamp = binding.stamp_of(files, "quarto 1")
    assert stamp != binding.stamp_of(files, "quarto 2")
    assert stamp != binding.stamp_of(files | {"index.qmd": b""}, "quarto 1")
    write_executed(checkout, "demo", seed=2)
    assert stamp != binding.stamp_of(binding.laid_files(checkout)[0], "quarto 1")


def test_generated_parts_are_written_out_with_their_pictures(checkout, monkeypatch):
    picture = b"<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0'/></svg>"
    parts = {"standings": (lambda records, page: ("Made.\n", {"book/made.svg": picture}), 0, 0)}
    monkeypatch.setattr("lib.study.book.generated.PARTS", parts)
    pages = ("index.qmd", "book/demo-null.qmd", "book/cross-cancer.qmd", "notebooks/stroke/index.qmd")
    for name in (*pages, *APPENDICES):
        (checkout / name).write_text("# A\n\nBefore.\n\n<!-- generated: standings -->\n")
    files, _ = binding.laid_files(checkout)
    assert files["index.qmd"] == b"# A\n\nBefore.\n\nMade.\n\n"
    assert files["book/made.svg"] == picture


def test_an_unknown_generated_part_stops_the_book(checkout, capsys):
    (checkout / "index.qmd").write_text("# A\n\n<!-- generated: standing -->\n")
    assert run(checkout, "--preview") == 1
    assert "index.qmd: no generated part is called standing" in capsys.readouterr().err


def test_one_label_on_two_pages_of_words_is_refused(checkout):
    for name in ("index.qmd", "book/demo-null.qmd"):
        (checkout / name).write_text("# A\n\n## B {#sec-b}\n")
    with pytest.raises(ValueError, match=r"label sec-b is defined in index\.qmd and in book/demo-null\.qmd"):
        binding.laid_files(checkout)


def test_a_missing_page_is_named(checkout):
    (checkout / "index.qmd").unlink()
    with pytest.raises(FileNotFoundError, match=r"index\.qmd is named by _quarto\.yml but missing"):
        binding.laid_files(checkout)


def test_without_quarto_the_preview_is_made_unless_quarto_is_required(checkout, capsys, monkeypatch):
    monkeypatch.setattr(quarto, "find_quarto", lambda: None)
    assert run(checkout, "--require-quarto") == 1
    assert "no quarto program was found; for the whole book install Quarto" in capsys.readouterr().err
    assert not (checkout / "_book").exists()
    assert run(checkout) == 0
    assert "a preview without Quarto" in capsys.readouterr().out


def test_what_quarto_complains_of_stops_the_book(checkout, capsys, monkeypatch):
    def render(program, folder, log):
        return preview.render(folder), ["pandoc warns: citation nobody not found"]

    monkeypatch.setattr(quarto, "find_quarto", lambda: ("quarto", "1.0"))
    monkeypatch.setattr(quarto, "render", render)
    assert run(checkout) == 1
    assert "not whole:\n  pandoc warns: citation nobody not found" in capsys.readouterr().err
    assert not (checkout / "_book").exists()


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, capsys):
    assert run(tmp_path) == 1
    assert "no _quarto.yml in" in capsys.readouterr().err


@needs_quarto
def test_the_whole_book_with_quarto(checkout, capsys):
    assert run(checkout, "--require-quarto") == 0, capsys.readouterr().err
    assert "2 chapters, quarto" in capsys.readouterr().out
    made = checkout / "_book"
    assert site.faults(made, machine_folders(checkout)) == []
    page = (made / "notebooks/spacrd/demo/4-evaluate.html").read_text(encoding="utf-8")
    assert 'id="fig-roc-spacrd-demo"' in page
    assert "This page shows a phantom cohort" in page
    assert "Parameters of this run" in page
    assert "wrote results/a.csv" in page
    for leak in ("papermill", "2026-01-01", "jquery", "require.js", "injected-parameters", str(checkout)):
        assert leak not in page
    assert not (checkout / "_build/book/_book").exists()
    assert run(checkout) == 0
    assert capsys.readouterr().out == "book: nothing changed\n"

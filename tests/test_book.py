"""From executed notebooks to `_book/`: cleaned of run and machine, laid, rendered, checked, swapped in whole."""

import copy
import json
import re
import shutil

import nbformat
import papermill
import pytest
import yaml
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib import book, results, site
from lib.book import Chapter, chapters, cleaned, drawn, filled, labels, machine_folders, read_executed
from lib.files import sha256_of

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAD0lEQVR4nGNgYGD4//8/AAYBAv4CsjmuAAAAAElFTkSuQmCC"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="{}pt"><path d="M0 0"/></svg>'
DEMO = Chapter("notebooks/spacrd/demo/4-evaluate.ipynb", "spacrd", "demo", "4-evaluate")
PLACES = [f"notebooks/spacrd/{cohort}/4-evaluate.ipynb" for cohort in ("demo", "null", "her2st")]
PLACES += ["notebooks/spacrd/her2st/5-figures.ipynb"]
needs_quarto = pytest.mark.skipif(site.find_quarto() is None, reason="no quarto program on this machine")


def shown(**data):
    return new_output("display_data", data={key.replace("_", "/", 1): value for key, value in data.items()})


def code(source="1", *outputs, tags=(), **metadata):
    metadata = {"tags": list(tags)} | metadata if tags else metadata
    return new_code_cell(source, outputs=list(outputs), metadata=metadata, execution_count=1)


def page(*cells, title="# Evaluate", kind="phantom", **given):
    return cleaned(new_notebook(cells=[new_markdown_cell(title), *cells]), DEMO, kind, **given)


def executed(day=1, seed=1, words="As @fig-roc shows [@xue2026spacrd].", folder="."):
    """A notebook as papermill leaves it on some day."""
    times = {"start_time": f"2026-01-0{day}T00:00:00", "duration": day}
    printed = new_output("stream", name="stdout", text=f"wrote {folder}/results/a.csv\n")
    late = new_output("stream", name="stderr", text=f"{day} s")
    figure = '#| label: fig-roc\n#| fig-cap: "The *curve*, unlike @tbl-a."\nplot()'
    cells = [
        new_markdown_cell(f"# Evaluate\n\n{words}\n\n## One {{#sec-one}}"),
        code("seed = 0", tags=["parameters"], papermill=times, execution={"iopub.status.busy": str(day)}),
        code(f"# Parameters\nseed = {seed}", tags=["injected-parameters"], papermill=times),
        code(figure, printed, late, shown(image_png=PNG, text_plain="<Figure>"), papermill=times),
        code("frame", shown(text_html="<b>", text_markdown="| a |\n|---|\n| @fig-roc |\n\n: A. {#tbl-a}")),
    ]
    for at, cell in enumerate(cells):
        cell.id = f"id-{day}-{at}"
    return new_notebook(cells=cells, metadata={"papermill": times, "widgets": {"x": day}})


def test_equal_results_give_equal_bytes_without_times_and_the_notebook_given_is_not_changed():
    days = [executed(day) for day in (1, 2)]
    before = copy.deepcopy(days)
    one, two = (nbformat.writes(cleaned(day, DEMO, "phantom")) for day in days)
    assert one == two
    assert days == before
    gone = ("papermill", "2026-01", "widgets", "iopub", "text/html", " s\\n")
    assert not [word for word in gone if word in one]


def test_parameters_are_hidden_and_what_was_given_is_folded_below_the_title():
    made = cleaned(executed(), DEMO, "phantom")
    hidden = [cell.source for cell in made.cells if "remove-cell" in cell.metadata.get("tags", [])]
    assert hidden == ["seed = 0", "# Parameters\nseed = 1"]
    assert "<details" in made.cells[1].source
    assert "```python\nseed = 1\n```" in made.cells[1].source
    assert page(code("a = 1", tags=["parameters"])).cells[1].metadata.tags == ["parameters"]


@pytest.mark.parametrize("kind", ["phantom", "open", "gated"])
def test_title_and_notice_name_cohort_and_kind(kind):
    title = "# Evaluate {#sec-e}\n\nWhat goes in."
    first = page(title=title, kind=kind, binder="https://b.org").cells[0].source
    assert first.startswith(f"# SpaCRD, 4 Evaluate: Demo ({kind}) {{#sec-e-spacrd-demo .unnumbered}}\n")
    assert first.endswith("What goes in.")
    assert ("not comparable with the paper" in first) == (kind == "phantom")
    assert "[Run this notebook in Binder](https://b.org){.launch}" in first
    asked = page(title="# Is it so?", kind=kind).cells[0].source
    assert asked.startswith(f"# SpaCRD, 4 Evaluate: Demo ({kind}) {{.unnumbered}}\n")
    assert asked.endswith("\n**Is it so?**\n")


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([new_markdown_cell("# Again")], "'# Evaluate' in cell 1, '# Again' in cell 2"),
        ([code("#| label: fig-roc\n1", shown(text_plain="Axes"))], "cell 2: fig-roc shows no picture"),
        ([code("import os\n#| label: fig-roc\n1", shown(image_png=PNG))], "cell 2: .* very first lines"),
        ([code("1", shown(text_html="<b>"))], "cell 2 shows only text/html, which needs scripts"),
        ([code("1", shown(text_html="<b>", text_plain="<pd.Styler at 0x7f>"))], "cell 2 shows only text"),
    ],
)
def test_what_a_renderer_would_print_wrongly_without_a_word_is_refused(cells, words):
    page(new_markdown_cell("```bash\n# no title\n```\n\n## Below"), code("# neither\n1"))
    with pytest.raises(ValueError, match=words):
        page(*cells)
    with pytest.raises(ValueError, match=r"must stand in its first cell.*'# Late' in cell 2"):
        page(new_markdown_cell("# Late"), title="first")


def test_outputs_take_a_form_that_needs_no_net():
    streams = {"one\n": "stdout", "50 %": "stderr", "two\n": "stdout"}
    outputs = [new_output("stream", name=name, text=words) for words, name in streams.items()]
    frame = shown(text_html="<table>", text_plain="   a\n0  1")
    table = shown(text_markdown="| 0.7 (−0.6 to 0.8) | from 1 to 2 |\n|--:|:--|\n| nan | nan in words |")
    made = page(code("1", *outputs), code("1", frame), code("1", table))
    assert [output.text for output in made.cells[1].outputs] == ["one\ntwo\n"]
    assert set(made.cells[2].outputs[0].data) == {"text/plain"}
    first, _, last = made.cells[3].outputs[0].data["text/markdown"].splitlines()
    assert first == "| 0.7 (−0.6\u00a0to\u00a00.8) | from 1 to 2 |", "an interval is not broken"
    assert last == "|     | nan in words |", "a missing number leaves its cell empty"


def test_folders_of_the_machine_do_not_show(tmp_path, monkeypatch):
    root, home, mirror = (tmp_path / name for name in ("code/book", "people/me", "mirror"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CROSSBOOK_MIRROR", str(mirror))
    monkeypatch.delenv("CROSSBOOK_RESULTS", raising=False)
    words = f"{root}/results/a.csv in {root}, {home}/x, {mirror}/her2st, file://{root}/b, {root}2/c"
    clean = f"results/a.csv in ., ~/x, $CROSSBOOK_MIRROR/her2st, file://b, {root}2/c"
    outputs = [new_output("stream", name="stdout", text=words), shown(text_markdown=words)]
    outputs += [shown(**{"image_svg+xml": words})]
    made = page(code(words, *outputs), new_markdown_cell(words), folders=machine_folders(root))
    stream, table, picture = made.cells[1].outputs
    texts = [
        *table.data.values(),
        *picture.data.values(),
        stream.text,
        *(cell.source for cell in made.cells[1:]),
    ]
    assert texts == [clean] * 5
    monkeypatch.setenv("HOME", "/")
    assert "/" not in dict(machine_folders(tmp_path))


def test_labels_and_references_name_study_and_cohort_and_a_figure_has_words():
    words = "As @fig-roc and [-@tbl-a; @sec-one] show, see [it](#fig-roc), [@xue2026spacrd], me@fig-tree.org."
    made, end = cleaned(executed(words=words), DEMO, "phantom"), "-spacrd-demo"
    renamed = f"As @fig-roc{end} and [-@tbl-a{end}; @sec-one{end}] show, see [it](#fig-roc{end})"
    assert renamed in made.cells[0].source
    assert "[@xue2026spacrd], me@fig-tree.org." in made.cells[0].source
    assert made.cells[4].source.splitlines()[:3] == [
        f"#| label: fig-roc{end}",
        f'#| fig-cap: "The *curve*, unlike @tbl-a{end}."',
        '#| fig-alt: "The curve, unlike the table."',
    ]
    assert f"@fig-roc{end} |" in made.cells[5].outputs[0].data["text/markdown"]
    assert labels(made) == [f"sec-one{end}", f"fig-roc{end}", f"tbl-a{end}"]
    instead = page(code("#| label: fig-roc\n#| fig-cap: 'A.'\nnote()", shown(text_markdown="Nothing.")))
    assert instead.cells[1].source == "note()", "words in place of a figure have no caption and number"


def test_a_figure_is_shown_as_its_stage_drew_it_and_a_wide_one_takes_the_margin(tmp_path, monkeypatch):
    (tmp_path / "figures").mkdir()
    (tmp_path / "manifests").mkdir()
    outputs = {"metrics.csv": "0", "figures/gone.svg": "0"}
    for name, width in (("roc", 400), ("cox", 900)):
        (tmp_path / f"figures/{name}.svg").write_text(SVG.format(width))
        outputs[f"figures/{name}.svg"] = sha256_of(tmp_path / f"figures/{name}.svg")
    (tmp_path / "manifests/4-evaluate.json").write_text(json.dumps({"outputs": outputs}))
    drawings = drawn(tmp_path, "4-evaluate")
    assert drawings == {"roc": SVG.format(400), "cox": SVG.format(900)}
    assert drawn(tmp_path, "5-figures") == {}
    png, again = shown(image_png=PNG), shown(image_png=PNG)
    cells = [code(f"#| label: fig-{name}\nshow()", copy.deepcopy(png)) for name in ("roc", "cox", "other")]
    made = page(*cells, code("#| label: fig-roc\nshow()", png, again), drawings=drawings).cells
    assert [list(cell.outputs[0].data) for cell in made[1:]] == [["image/svg+xml"]] * 2 + [["image/png"]] * 2
    assert ["fig-column: page-right" in cell.source for cell in made[1:]] == [False, True, False, False]
    monkeypatch.setattr(book, "LARGEST_DRAWING", 10)
    assert drawn(tmp_path, "4-evaluate") == {}
    monkeypatch.undo()
    (tmp_path / "figures/roc.svg").write_text(SVG.format(1))
    assert list(drawn(tmp_path, "4-evaluate")) == ["cox"], "a figure that was changed since is left out"


def spoilt(notebook, how):
    cell = notebook.cells[3]
    if how == "never executed":
        cell.execution_count = None
    elif how == "no spots":
        cell.outputs = [new_output("error", ename="ValueError", evalue="no spots", traceback=[])]
    else:
        notebook.metadata["papermill"] = {"exception": True}
    return notebook


@pytest.mark.parametrize("how", ["never executed", "no spots", "x: failed"])
def test_a_notebook_that_failed_or_never_ran_is_refused(tmp_path, how):
    nbformat.write(executed(), tmp_path / "x.ipynb")
    assert len(read_executed(tmp_path / "x.ipynb", "x").cells) == 5
    nbformat.write(spoilt(executed(), how), tmp_path / "x.ipynb")
    with pytest.raises(ValueError, match=how):
        read_executed(tmp_path / "x.ipynb", "x")
    ended = executed()
    ended.cells[2].outputs = [new_output("error", ename="SystemExit", evalue="0", traceback=[])]
    nbformat.write(ended, tmp_path / "x.ipynb")
    cells = read_executed(tmp_path / "x.ipynb", "x").cells
    assert [len(cells), cells[-1].outputs] == [3, []], "a stage may end itself where there is nothing to do"


@pytest.mark.filterwarnings("ignore")
def test_what_papermill_itself_leaves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [new_code_cell("wanted = 1"), new_code_cell("assert wanted == 1")]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), "in.ipynb")
    with pytest.raises(papermill.PapermillExecutionError):
        papermill.execute_notebook("in.ipynb", "bad.ipynb", {"wanted": 2}, progress_bar=False)
    with pytest.raises(ValueError, match=r"bad: cell \d failed"):
        read_executed("bad.ipynb", "bad")
    papermill.execute_notebook("in.ipynb", "prepared.ipynb", prepare_only=True, progress_bar=False)
    with pytest.raises(ValueError, match="prepared: cell 1 was never executed"):
        read_executed("prepared.ipynb", "prepared")


def test_a_part_takes_its_place_with_links_and_pictures_as_seen_from_the_page(tmp_path, monkeypatch):
    monkeypatch.delenv("CROSSBOOK_RESULTS", raising=False)
    (tmp_path / "results/a/b/figures").mkdir(parents=True)
    (tmp_path / "results/a/b/figures/km.svg").write_text("<svg/>")
    picture = '![[a](/index.qmd) c](/results/a/b/figures/km.svg){#fig-a narrow="/results/a/b/figures/km.svg"}'
    parts = {"x 1": f"[`a`](/index.qmd), [b](/gone.qmd): {picture}\n"}
    text = "Before `<!-- generated: y -->`.\n\n<!-- generated: x 1 -->\n\nAfter.\n"
    made, pictures = filled(text, "book/p.qmd", parts, ["index.qmd"], tmp_path)
    assert made == (
        "Before `<!-- generated: y -->`.\n\n[`a`](../index.qmd), b: "
        '![[a](../index.qmd) c](p/a-b-figures-km.svg){#fig-a narrow="p/a-b-figures-km.svg"}\n\n\nAfter.\n'
    )
    assert pictures == {"book/p/a-b-figures-km.svg": b"<svg/>"}
    with pytest.raises(ValueError, match="p: no part is called x; there are x 1"):
        filled("<!-- generated: x -->", "p", parts, [], tmp_path)


def test_binder_opens_the_source_notebook_of_a_public_repository():
    addresses = ["https://github.com/someone/cross.book.git", "https://x.org/a/b", ""]
    first, *rest = (book.binder_of({"book": {"repo-url": each}}, DEMO) for each in addresses)
    assert first.endswith("/gh/someone/cross.book/HEAD?labpath=notebooks%2Fspacrd%2F4-evaluate.ipynb")
    assert rest == ["", ""]


def test_the_books_own_pages_notebooks_and_kinds_exist_and_it_fetches_nothing(root):
    contents, stages = site.read_contents(root), {}
    for _, place in site.places(contents):
        assert place.endswith(".ipynb") or (root / place).is_file(), place
    for chapter in chapters(contents):
        assert (root / "notebooks" / chapter.study / f"{chapter.stage}.ipynb").is_file(), chapter
        assert results.kind_of(root, chapter.study, chapter.cohort) in book.NOTICES
        stages.setdefault(chapter[1:3], []).append(chapter.stage)
    assert [pair for pair, names in stages.items() if names != sorted(names)] == [], "stages come in order"
    kinds = [place.startswith("notebooks/") for _, place in site.places(contents)]
    found, made = kinds.index(True), len(kinds) - kinds[::-1].index(True)
    assert not any(place.startswith("book/results/") for _, place in list(site.places(contents))[found:made])
    assert contents["execute"] == {"enabled": False}
    assert contents["format"]["html"]["html-math-method"] == "mathml"
    assert "$web-font-path: false" in (root / "book" / "theme.scss").read_text(encoding="utf-8")


def test_files_that_pages_name_exist(root):
    rooms = "lib|scripts|benchmarks|book|data/(?:published|cohorts|assumptions)"
    named = re.compile(rf"\b(?:{rooms})/[\w/.-]+\.(?:py|csv|yaml|ipynb)\b")
    pages = [root / "README.md", root / "CONTRIBUTING.md", root / "index.qmd", *root.glob("book/**/*.qmd")]
    lost = {
        (path.name, name)
        for path in [*pages, *root.glob("notebooks/*/*.qmd"), *root.glob("book/*.ipynb")]
        for name in named.findall(path.read_text(encoding="utf-8"))
        if not (root / name).is_file()
    }
    assert lost == set()


@pytest.fixture
def checkout(root, tmp_path, monkeypatch):
    """The book's own pages and looks, one study with demo and null run; the parts of pages are made up."""
    for name in ("CROSSBOOK_RESULTS", "CROSSBOOK_MIRROR", "QUARTO_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    marks = re.findall("generated: (.*?) -->", "".join(p.read_text() for p in root.glob("**/*.qmd")))
    monkeypatch.setattr(book, "generated", lambda root: {name: f"Part {name}.\n" for name in marks})
    folder = tmp_path / "checkout"
    shutil.copytree(root / "book", folder / "book")
    contents = site.read_contents(root)
    for name in [place for _, place in site.places(contents) if place.endswith(".qmd")] + ["references.bib"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        # chapters link to notebooks of demos that this small book does not have
        text = re.sub(
            r"(notebooks/\w+)/demo/[\w-]+\.ipynb(?:#[\w-]+)?",
            r"\1/index.qmd",
            (root / name).read_text("utf-8"),
        )
        (folder / name).write_text(text, encoding="utf-8")
    for entry in contents["book"]["chapters"]:
        if isinstance(entry, dict) and "part" in entry:
            pages = [place for place in entry["chapters"] if place.endswith(".qmd")]
            entry["chapters"] = [*PLACES, *pages] if "spacrd" in entry["part"] else pages
    (folder / "_quarto.yml").write_text(yaml.safe_dump(contents, sort_keys=False))
    (folder / "params" / "spacrd").mkdir(parents=True)
    for cohort, kind in (("demo", "phantom"), ("null", "phantom"), ("her2st", "open")):
        (folder / "params" / "spacrd" / f"{cohort}.yaml").write_text(f"kind: {kind}\n")
    for cohort in ("demo", "null"):
        run(folder, cohort)
    return folder


def run(folder, cohort, notebook=None, stage="4-evaluate"):
    path = folder / "results" / "spacrd" / cohort / "notebooks" / f"{stage}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook or executed(folder=folder), path)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make(folder, *options):
    return book.main(["--root", str(folder), *(options or ["--preview"])])


def test_the_preview_is_made_not_made_twice_and_a_cohort_that_is_run_later_joins(checkout, capsys):
    run(checkout, "mine")
    assert make(checkout) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "cohorts: spacrd 1; make run STUDY=spacrd COHORT=her2st runs the first" in said
    assert "spacrd/mine was run here but _quarto.yml lists no chapter" in said
    assert "2 chapters, a preview without Quarto" in said
    first = tree(checkout / "_book")
    assert not any(str(checkout).encode() in content for content in tree(checkout / "_build").values())
    assert b"Part fusion-says." in first["index.html"]
    assert not any("her2st/" in name for name in first)
    assert make(checkout) == 0
    assert capsys.readouterr().out == "book: nothing changed\n"
    shutil.rmtree(checkout / "_book")
    assert make(checkout) == 0
    assert tree(checkout / "_book") == first, "equal results give equal bytes"
    run(checkout, "her2st")
    capsys.readouterr()
    assert make(checkout) == 0
    assert "cohorts: spacrd 1; make run" in capsys.readouterr().out, "its figures were not run"
    text = (checkout / "_book/notebooks/spacrd/her2st/4-evaluate.html").read_text(encoding="utf-8")
    assert "SpaCRD, 4 Evaluate: Breast, HER2ST (open)" in text
    assert "wrote results/a.csv" in text
    assert "not comparable" not in text


def test_what_is_unfit_leaves_the_old_book(checkout, capsys):
    small = {"title": "T", "chapters": ["index.qmd", "book/demo-null.qmd", *PLACES[:2]]}
    contents = {"book": small, "bibliography": "references.bib"}
    (checkout / "_quarto.yml").write_text(yaml.safe_dump(contents))
    for name in ("index.qmd", "book/demo-null.qmd"):
        (checkout / name).write_text("# Small\n")
    make(checkout)
    before = tree(checkout / "_book")
    unfit = {
        "cell 4 was never executed": spoilt(executed(), "never executed"),
        "?@fig-nowhere-spacrd-null is not resolved": executed(words="As @fig-nowhere shows."),
        "?@nobody2020 is not resolved": executed(words="As [@nobody2020]."),
        "lost.png is not there": executed(words="![lost](lost.png)"),
    }
    for words, notebook in unfit.items():
        run(checkout, "null", notebook)
        assert make(checkout) == 1
        assert words in capsys.readouterr().err
        assert tree(checkout / "_book") == before
    for name in ("index.qmd", "book/demo-null.qmd"):
        (checkout / name).write_text("# A\n\n## B {#sec-b}\n")
    assert make(checkout) == 1
    assert "sec-b is defined in index.qmd and in book/demo-null.qmd: rename one" in capsys.readouterr().err


def test_demo_and_null_must_have_been_run_and_every_page_be_there(checkout, capsys, tmp_path):
    (checkout / "index.qmd").rename(checkout / "aside.qmd")
    assert make(checkout) == 1
    assert "index.qmd" in capsys.readouterr().err
    shutil.rmtree(checkout / "results" / "spacrd" / "null")
    assert make(checkout) == 1
    assert "results/spacrd/null/notebooks/4-evaluate.ipynb is missing" in capsys.readouterr().err
    assert make(tmp_path / "results") == 1
    assert "_quarto.yml" in capsys.readouterr().err


def test_quarto_may_be_required_and_what_it_complains_of_stops_the_book(checkout, capsys, monkeypatch):
    monkeypatch.setattr(site, "find_quarto", lambda: None)
    assert make(checkout, "--require-quarto") == 1
    assert "no quarto program was found; for the whole book install Quarto" in capsys.readouterr().err
    monkeypatch.setattr(site, "find_quarto", lambda: ("quarto", "1.0"))
    monkeypatch.setattr(
        site, "quarto", lambda _, folder, log: (site.preview(folder), ["pandoc warns: nobody"])
    )
    assert make(checkout, "--root", str(checkout)) == 1
    assert "not whole:\n  pandoc warns: nobody" in capsys.readouterr().err
    assert not (checkout / "_book").exists()


@needs_quarto
def test_the_whole_book_with_quarto(checkout, capsys):
    place = checkout / "results/spacrd/demo"
    for path in (place / "a.svg", checkout / "book/b.svg", checkout / "book/b-narrow.svg"):
        path.write_text(SVG.format(300), encoding="utf-8")
    (place / "a.json").write_text("{}", encoding="utf-8")
    with open(checkout / "book/demo-null.qmd", "a", encoding="utf-8") as page:
        page.write('\n::: {.piece data-piece="slide" data-from="/results/spacrd/demo/a.json"}\n')
        page.write('![A line.](/results/spacrd/demo/a.svg){#fig-touched fig-alt="A line"}\n:::\n')
        page.write('\n![B.](b.svg){#fig-b fig-alt="B" narrow="b-narrow.svg"}\n')
    assert make(checkout, "--require-quarto") == 0, capsys.readouterr().err
    made = checkout / "_book"
    touched = BeautifulSoup((made / "book/demo-null.html").read_text(encoding="utf-8"), "html.parser")
    assert touched.select_one('.piece[data-piece="slide"] script[type="application/json"]').text == "{}"
    assert "drawing" in touched.select_one(".piece img")["class"], "dark and light may be exchanged"
    assert touched.select_one("#fig-b picture > source[media]")["srcset"] == "b-narrow.svg"
    scripts = [script["src"].rpartition("/")[2] for script in touched.select("script[src*=crossbook]")]
    assert scripts == ["piece.js", "lightbox.js", "table.js", "slide.js"]
    assert site.faults(made, machine_folders(checkout)) == []
    result = touched.select_one('#quarto-sidebar a[href$="results/spacrd.html"]')
    assert result.text.strip() == "SpaCRD: results", "the page itself keeps the finding as its title"
    text = (made / PLACES[0]).with_suffix(".html").read_text(encoding="utf-8")
    assert 'id="fig-roc-spacrd-demo"' in text
    assert "Parameters of this run" in text
    for leak in ("papermill", "2026-01", "jquery", "require.js", "injected-parameters", str(checkout)):
        assert leak not in text


def test_the_books_notebooks_run_side_by_side_and_hand_over_their_parts(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSBOOK_RESULTS", "elsewhere")
    folder = tmp_path / "elsewhere/spacrd/demo/manifests"
    folder.mkdir(parents=True)
    (folder / "1-preprocess.json").write_text('{"commit": "c0ffee", "parameters": {}}')
    clone = tmp_path / "clone"
    (clone / "book").mkdir(parents=True)
    apart = {".git", "book", "results", "own-patients.ipynb"}  # the last has a test of its own
    for path in (*root.iterdir(), *(root / "book").glob("*.*")):
        if path.name not in apart:
            (clone / path.relative_to(root)).symlink_to(path)
    parts = book.generated(clone)
    assert "#sec-spacrd-her2st)" in parts["rivals"], "what is committed is shown where nothing was run"
    assert "tbl-printed-crossfusion" in parts["printed crossfusion"]
    assert "| phantom | `c0ffee` |" in parts["provenance"]
    assert "tbl-cost-c-index" in parts["cost"]


def test_a_notebook_of_the_book_that_fails_is_named(tmp_path):
    (tmp_path / "book").mkdir()
    for name, source in (("a", "glue = 1"), ("b", "print(glue)")):  # they share no names
        cells = [nbformat.v4.new_markdown_cell("# A"), nbformat.v4.new_code_cell(source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"book/{name}.ipynb")
    with pytest.raises(RuntimeError, match=r"book/b\.ipynb: NameError: name 'glue' is not defined"):
        book.generated(tmp_path)

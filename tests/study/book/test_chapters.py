"""The page made of one executed notebook: nothing of the run or the machine, everything of the result."""

import copy
import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib.study.book.chapters import cleaned, labels, machine_folders

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
NAME = "results/spacrd/demo/notebooks/4-evaluate.ipynb"


def shown(**data):
    return new_output("display_data", data={key.replace("_", "/", 1): value for key, value in data.items()})


def code(source="1", *outputs, tags=(), **metadata):
    metadata = {"tags": list(tags)} | metadata if tags else metadata
    return new_code_cell(source, outputs=list(outputs), metadata=metadata, execution_count=1)


def page(*cells, title="# Evaluate", cohort="demo", kind="phantom", folders=(), **given):
    notebook = new_notebook(cells=[new_markdown_cell(title), *cells])
    return cleaned(notebook, NAME, "spacrd", cohort, kind, folders, **given)


def text(notebook):
    return nbformat.writes(notebook)


def run(number):
    """The same results as papermill writes them on another day."""
    times = {"start_time": f"2026-01-0{number}T00:00:00", "duration": number}
    cells = [
        new_markdown_cell("# Evaluate", id=f"title{number}"),
        code("a = 1", tags=["parameters"], papermill=times, execution={"iopub.status.busy": str(number)}),
        code("# Parameters\na = 2\n", tags=["injected-parameters"], papermill=times),
        code(
            "a",
            new_output("stream", name="stderr", text=f"{number} s"),
            shown(text_plain="2"),
            papermill=times,
        ),
    ]
    for at, cell in enumerate(cells):
        cell.id = f"id-{number}-{at}"
    metadata = {
        "papermill": times | {"parameters": {"a": 2}, "output_path": f"out/{number}"},
        "widgets": {"x": number},
    }
    return new_notebook(cells=cells, metadata=metadata)


def test_equal_results_give_equal_bytes_without_times():
    one, two = (cleaned(run(number), NAME, "spacrd", "demo", "phantom") for number in (1, 2))
    assert text(run(1)) != text(run(2))
    assert text(one) == text(two)
    assert "papermill" not in text(one)
    assert "execution" not in {key for cell in one.cells for key in cell.metadata}
    assert "2026" not in text(one)
    assert "widgets" not in one.metadata


def test_the_notebook_given_is_not_changed():
    notebook = run(1)
    before = copy.deepcopy(notebook)
    cleaned(notebook, NAME, "spacrd", "demo", "phantom")
    assert notebook == before


def test_parameter_cells_are_hidden_and_what_was_given_is_folded():
    made = cleaned(run(1), NAME, "spacrd", "demo", "phantom")
    hidden = [cell.source for cell in made.cells if "remove-cell" in cell.metadata.get("tags", [])]
    assert hidden == ["a = 1", "# Parameters\na = 2\n"]
    assert "<details" in made.cells[1].source
    assert "```python\na = 2\n```" in made.cells[1].source


def test_parameters_that_nothing_replaced_stay_in_sight():
    made = page(code("a = 1", tags=["parameters"]))
    assert made.cells[1].metadata.tags == ["parameters"]
    assert not any("<details" in cell.source for cell in made.cells)


def test_sources_are_written_as_lines():
    cells = json.loads(text(page(new_markdown_cell("one\ntwo"))))["cells"]
    assert cells[1]["source"] == ["one\n", "two"]


@pytest.mark.parametrize("kind", ["phantom", "open", "gated"])
def test_title_and_notice_name_cohort_and_kind(kind):
    first = page(title="# Evaluate\n\nWhat goes in.", cohort="her2st", kind=kind).cells[0].source.splitlines()
    assert first[0] == f"# Evaluate: her2st ({kind})"
    assert kind in "\n".join(first[1:]).lower()
    assert first[-1] == "What goes in."
    assert ("not comparable with the paper" in "\n".join(first)) == (kind == "phantom")


def test_a_title_keeps_its_attributes():
    assert (
        page(title="# Evaluate {#sec-e}")
        .cells[0]
        .source.startswith("# Evaluate: demo (phantom) {#sec-e-spacrd-demo}\n")
    )


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"params/spacrd/demo\.yaml: kind is None, expected one of phantom"):
        page(kind=None)


def test_a_page_has_one_title_in_its_first_cell():
    page(new_markdown_cell("```bash\n# no title\n```\n\n## Below"), code("# neither\n1"))
    with pytest.raises(ValueError, match="cell 2: '# Again' is a second title"):
        page(new_markdown_cell("# Again"))
    with pytest.raises(ValueError, match="has no title"):
        page(title="Evaluate")
    with pytest.raises(ValueError, match="has no title"):
        page(new_markdown_cell("# Late"), title="first")


def test_progress_and_warnings_are_dropped_and_prints_joined():
    streams = [("stdout", "one\n"), ("stderr", "50 %"), ("stdout", "two\n")]
    outputs = [new_output("stream", name=name, text=words) for name, words in streams]
    (output,) = page(code("1", *outputs)).cells[1].outputs
    assert output.text == "one\ntwo\n"


def test_html_gives_way_to_a_form_that_needs_no_net():
    frame = shown(text_html="<table>", text_plain="   a\n0  1")
    figure = shown(image_png=PNG, text_plain="<Figure size 640x480 with 1 Axes>")
    plotted = shown(**{"text_html": "<div>", "text_markdown": "|a|", "application_javascript": "x"})
    made = page(code("1", frame), code("1", figure), code("1", plotted))
    assert [set(cell.outputs[0].data) for cell in made.cells[1:]] == [
        {"text/plain"},
        {"image/png", "text/plain"},
        {"text/markdown"},
    ]


@pytest.mark.parametrize(
    "output",
    [
        shown(text_html="<b>"),
        shown(text_html="<b>", text_plain="<IPython.core.display.HTML object>"),
        shown(text_html="<b>", text_plain="<pandas.io.formats.style.Styler at 0x7f00>"),
        shown(application_javascript="x", text_plain="<IPython.core.display.Javascript object>"),
        new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}),
    ],
)
def test_what_only_scripts_can_show_is_refused(output):
    with pytest.raises(
        ValueError, match=r"4-evaluate\.ipynb, cell 2 shows only .*display Markdown or a picture"
    ):
        page(code("1", output))


def test_folders_of_the_machine_do_not_show(tmp_path, monkeypatch):
    root, home, mirror = (tmp_path / name for name in ("code/book", "people/me", "mirror"))
    for folder in (root, home, mirror):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CROSSBOOK_MIRROR", str(mirror))
    monkeypatch.delenv("CROSSBOOK_RESULTS", raising=False)
    words = f"{root}/results/a.csv in {root}, {home}/x, {mirror}/her2st, file://{root}/b, {root}2/c"
    clean = f"results/a.csv in ., ~/x, $CROSSBOOK_MIRROR/her2st, file://b, {root}2/c"
    made = page(
        code(
            f"open('{root}/a')", new_output("stream", name="stdout", text=words), shown(text_markdown=words)
        ),
        code("1", shown(text_plain=words), shown(**{"image_svg+xml": f"<svg>{words}</svg>"})),
        new_markdown_cell(words),
        folders=machine_folders(root),
    )
    assert made.cells[1].source == "open('a')"
    assert made.cells[1].outputs[0].text == clean
    assert made.cells[1].outputs[1].data["text/markdown"] == clean
    assert made.cells[2].outputs[0].data["text/plain"] == clean
    assert made.cells[2].outputs[1].data["image/svg+xml"] == f"<svg>{clean}</svg>"
    assert made.cells[3].source == clean


def test_no_folder_is_the_whole_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    assert "/" not in dict(machine_folders(tmp_path))


def test_labels_and_their_references_name_study_and_cohort():
    figure = "#| label: fig-roc\n#| fig-cap: 'Unlike @tbl-auc.'\nplot()"
    cells = [
        new_markdown_cell(
            "As @fig-roc and [-@tbl-auc; @eq-loss] show, see [it](#fig-roc).\n\n$$x$$ {#eq-loss}"
        ),
        code(figure, shown(image_png=PNG)),
        code("#| label: tbl-auc\n1", shown(text_markdown="| a |\n|---|\n| @fig-roc |")),
        code("#| label: curve\n1"),
    ]
    made = page(*cells)
    end = "-spacrd-demo"
    assert made.cells[1].source == (
        f"As @fig-roc{end} and [-@tbl-auc{end}; @eq-loss{end}] show, see [it](#fig-roc{end}).\n\n$$x$$ {{#eq-loss{end}}}"
    )
    assert made.cells[2].source == (
        f"#| label: fig-roc{end}\n#| fig-cap: 'Unlike @tbl-auc{end}.'\n#| fig-alt: \"Unlike the table.\"\nplot()"
    )
    assert f"@fig-roc{end} |" in made.cells[3].outputs[0].data["text/markdown"]
    assert made.cells[4].source == "#| label: curve\n1"
    assert labels(made) == [f"eq-loss{end}", f"fig-roc{end}", f"tbl-auc{end}"]
    other = page(*cells, cohort="null")
    assert not set(labels(made)) & set(labels(other))


def test_words_given_for_a_figure_are_kept():
    given = "#| label: fig-roc\n#| fig-cap: 'The *curve*.'\n#| fig-alt: 'A curve that rises.'\nplot()"
    assert page(code(given, shown(image_png=PNG))).cells[1].source.count("fig-alt") == 1


def test_a_label_among_the_cells_metadata_counts_too():
    made = page(code("1", shown(image_png=PNG), label="fig-roc"))
    assert made.cells[1].metadata.label == "fig-roc-spacrd-demo"


def test_citations_and_addresses_are_no_references():
    words = "See [@xue2026spacrd] and me@fig-tree.org and `x`."
    assert page(new_markdown_cell(words)).cells[1].source == words


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (code("#| label: fig-roc\n1", shown(text_plain="Axes")), "fig-roc shows no picture"),
        (code("#| label: fig-roc\n1"), "fig-roc shows no picture"),
        (code("#| label: tbl-auc\n1", shown(text_plain="   a\n0  1")), "tbl-auc shows no table"),
        (
            code("import os\n#| label: fig-roc\n1", shown(image_png=PNG)),
            "must be the cell's very first lines",
        ),
    ],
)
def test_a_labelled_cell_shows_what_it_promises(cell, words):
    with pytest.raises(ValueError, match=f"cell 2.*{words}"):
        page(cell)


def test_words_in_place_of_a_figure_stand_without_caption_and_number():
    made = page(
        code("#| label: fig-roc\n#| fig-cap: 'A curve.'\nnote()", shown(text_markdown="Nothing to draw."))
    )
    assert made.cells[1].source == "note()"
    assert made.cells[1].outputs[0].data == {"text/markdown": "Nothing to draw."}
    assert labels(made) == []


def figure(*outputs, label="fig-roc"):
    return code(f'#| label: {label}\n#| fig-cap: "Curves."\nplt.show()', *outputs)


def test_a_figure_is_shown_as_it_was_drawn():
    png, svg = shown(image_png=PNG), '<svg width="400pt"><path d="M0 0"/></svg>'
    cell = page(figure(png), drawings={"roc": svg}).cells[1]
    assert cell.outputs[0].data == {"image/svg+xml": svg}
    assert "fig-column" not in cell.source
    two = page(figure(png, png), drawings={"roc": svg}).cells[1]
    assert all("image/png" in output.data for output in two.outputs), "which of the two it is, nobody knows"
    assert "image/png" in page(figure(png), drawings={"cox": svg}).cells[1].outputs[0].data


def test_a_wide_figure_takes_the_margin():
    svg = '<?xml version="1.0"?>\n<svg xmlns="http://x" width="892.8pt"><path d="M0 0"/></svg>'
    cell = page(figure(shown(image_png=PNG)), drawings={"roc": svg}).cells[1]
    assert "\n#| fig-column: page-right\n" in cell.source


def test_an_interval_is_not_broken():
    cell = page(code("1", shown(text_markdown="| 0.743 (−0.666 to 0.824) | from 1 to 2 |"))).cells[1]
    text = cell.outputs[0].data["text/markdown"]
    assert text == "| 0.743 (−0.666\u00a0to\u00a00.824) | from 1 to 2 |"


def test_a_page_that_can_be_run_says_where():
    first = page(binder="https://mybinder.org/v2/gh/a/b/HEAD").cells[0].source
    assert "[Run this notebook in Binder](https://mybinder.org/v2/gh/a/b/HEAD){.launch}" in first
    assert "Binder" not in page().cells[0].source


def test_a_missing_number_leaves_its_cell_empty():
    table = "| item | ours | low |\n|:--|--:|--:|\n| nan in words | nan |   nan |"
    cell = page(code("1", shown(text_markdown=table))).cells[1]
    assert cell.outputs[0].data["text/markdown"].splitlines()[2] == "| nan in words |     |       |"

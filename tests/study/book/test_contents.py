"""The table of contents, and what of it was run here."""

import pytest
import yaml

from lib.study.book.contents import Chapter, chapters, places, pruned, read_contents, unlisted

CONTENTS = {
    "book": {
        "title": "T",
        "chapters": [
            "index.qmd",
            {
                "part": "notebooks/spacrd/index.qmd",
                "chapters": [
                    "notebooks/spacrd/demo/4-evaluate.ipynb",
                    "notebooks/spacrd/null/4-evaluate.ipynb",
                    "notebooks/spacrd/her2st/4-evaluate.ipynb",
                    "notebooks/spacrd/her2st/5-figures.ipynb",
                ],
            },
            "book/references.qmd",
        ],
    }
}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.delenv("CROSSBOOK_RESULTS", raising=False)

    def run(*stages, folder=tmp_path / "results"):
        for stage in stages:
            cohort, name = stage.split("/")
            path = folder / "spacrd" / cohort / "notebooks" / f"{name}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
        return tmp_path

    return run


def test_every_page_in_order_with_its_part():
    part = "notebooks/spacrd/index.qmd"
    found = list(places(CONTENTS))
    assert [place for _, place in found][:3] == ["index.qmd", part, "notebooks/spacrd/demo/4-evaluate.ipynb"]
    assert [p for p, _ in found] == [None, part, part, part, part, part, None]
    assert [chapter.cohort for chapter in chapters(CONTENTS)] == ["demo", "null", "her2st", "her2st"]


def test_a_cohort_that_was_not_run_is_left_out_with_one_sentence(results):
    root = results("demo/4-evaluate", "null/4-evaluate")
    kept, notes = pruned(CONTENTS, root)
    assert [chapter.cohort for chapter in chapters(kept)] == ["demo", "null"]
    assert notes == ["left out: spacrd/her2st was not run here; make run STUDY=spacrd COHORT=her2st"]
    assert len(chapters(CONTENTS)) == 4, "the contents given are not changed"


def test_appendices_are_pages_too_and_lose_what_was_not_run(results):
    appendix = [
        "book/appendix/data.qmd",
        {"part": "book/more.qmd", "chapters": ["notebooks/spacrd/her2st/1-x.ipynb"]},
    ]
    contents = {"book": {**CONTENTS["book"], "appendices": appendix}}
    kept, notes = pruned(contents, results("demo/4-evaluate", "null/4-evaluate"))
    assert kept["book"]["appendices"] == ["book/appendix/data.qmd", {"part": "book/more.qmd", "chapters": []}]
    assert [place for _, place in places(kept)][-2:] == ["book/appendix/data.qmd", "book/more.qmd"]
    assert len(notes) == 1


def test_a_chapter_outside_all_parts_may_be_missing_too(results):
    contents = {"book": {"chapters": [*CONTENTS["book"]["chapters"], "notebooks/spacrd/crc/5-figures.ipynb"]}}
    kept, _ = pruned(contents, results("demo/4-evaluate", "null/4-evaluate"))
    assert kept["book"]["chapters"][-1] == "book/references.qmd"


def test_the_figures_come_first_among_a_cohorts_chapters(root):
    cohorts = {}
    for chapter in chapters(read_contents(root)):
        cohorts.setdefault((chapter.study, chapter.cohort), []).append(chapter.stage)
    assert [pair for pair, stages in cohorts.items() if "5-figures" in stages[1:]] == []


def test_a_cohort_that_was_run_in_part_keeps_that_part(results):
    kept, notes = pruned(CONTENTS, results("demo/4-evaluate", "null/4-evaluate", "her2st/4-evaluate"))
    assert [chapter.stage for chapter in chapters(kept) if chapter.cohort == "her2st"] == ["4-evaluate"]
    assert notes == [
        "left out: spacrd/her2st 5-figures was not run here; make run STUDY=spacrd COHORT=her2st"
    ]


@pytest.mark.parametrize("there", ["demo", "null"])
def test_demo_and_null_must_be_there(results, there):
    with pytest.raises(
        FileNotFoundError, match=r"results/spacrd/(demo|null)/notebooks/4-evaluate\.ipynb is missing"
    ):
        pruned(CONTENTS, results(f"{there}/4-evaluate"))


def test_a_cohort_of_ones_own_is_named_until_it_is_listed(results):
    root = results("demo/4-evaluate", "null/4-evaluate", "mine/1-preprocess")
    (note,) = unlisted(CONTENTS, root)
    assert "spacrd/mine was run here but _quarto.yml lists no chapter" in note


def test_results_may_lie_elsewhere(results, tmp_path, monkeypatch):
    results("demo/4-evaluate", "null/4-evaluate", folder=tmp_path / "elsewhere")
    monkeypatch.setenv("CROSSBOOK_RESULTS", str(tmp_path / "elsewhere"))
    assert len(chapters(pruned(CONTENTS, tmp_path)[0])) == 2


def test_a_chapter_at_an_odd_place_is_refused():
    with pytest.raises(ValueError, match=r"chapter notebooks/4-evaluate\.ipynb is not notebooks/<study>"):
        Chapter.at("notebooks/4-evaluate.ipynb")


def test_a_folder_without_a_book_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no _quarto\.yml in"):
        read_contents(tmp_path)
    (tmp_path / "_quarto.yml").write_text("project: {type: book}\n")
    with pytest.raises(ValueError, match="lists no chapters"):
        read_contents(tmp_path)
    (tmp_path / "_quarto.yml").write_text("book: {chapters: [\n")
    with pytest.raises(ValueError, match="is not YAML"):
        read_contents(tmp_path)
    with pytest.raises(ValueError, match="is neither a page nor a part"):
        list(places({"book": {"chapters": [{"file": "a.qmd"}]}}))


def test_a_cohort_without_parameters_has_no_kind(tmp_path):
    chapter = Chapter.at("notebooks/spacrd/demo/4-evaluate.ipynb")
    with pytest.raises(FileNotFoundError, match=r"params/spacrd/demo\.yaml is missing"):
        chapter.kind(tmp_path)
    (tmp_path / "params/spacrd").mkdir(parents=True)
    (tmp_path / "params/spacrd/demo.yaml").write_text("kind: phantom\n")
    assert chapter.kind(tmp_path) == "phantom"


def test_the_books_own_pages_notebooks_and_kinds_exist(root):
    contents = read_contents(root)
    missing = [
        place for _, place in places(contents) if place.endswith(".qmd") and not (root / place).is_file()
    ]
    missing += [
        f"notebooks/{c.study}/{c.stage}.ipynb"
        for c in chapters(contents)
        if not (root / "notebooks" / c.study / f"{c.stage}.ipynb").is_file()
    ]
    assert missing == []
    assert {chapter.kind(root) for chapter in chapters(contents)} <= {"phantom", "open", "gated"}


def test_the_book_executes_nothing_and_fetches_nothing(root):
    contents = read_contents(root)
    assert contents["execute"] == {"enabled": False}
    assert contents["format"]["html"]["html-math-method"] == "mathml"
    assert "$web-font-path: false" in (root / "book" / "theme.scss").read_text(encoding="utf-8")
    assert (
        yaml.safe_load((root / "_quarto.yml").read_text(encoding="utf-8"))["project"]["output-dir"] == "_book"
    )

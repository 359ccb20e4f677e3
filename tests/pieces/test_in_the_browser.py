"""Every piece in a real browser: load, click, the number changes; conftest.py sees to it that nothing is fetched or complained of."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from sklearn.metrics import f1_score

from lib.figures import live, style
from lib.figures.curves import forest_figures
from lib.pieces import library
from lib.statistics.intervals import ScoredSection
from lib.statistics.metrics_table import RATIO, RISK_CUTS, cut_rows, risk_group, risk_groups
from lib.statistics.survival import HeldOut
from lib.statistics.survival import kaplan_meier as estimate


def numbers(words):
    return [float(found.replace("−", "-")) for found in re.findall(r"−?\d+(?:\.\d+)?(?:e-\d+)?", words)]


def columns(table):
    return table.astype(object).where(table.notna(), None).to_dict("list")


@pytest.fixture(scope="module")
def survival():
    """Held-out risks of 160 patients whose folds have scales of their own, so the cuts disagree, and those without; their tables."""
    rng = np.random.default_rng(4)
    risk, fold = rng.normal(size=160), np.repeat([*"0123"], 40)
    time = np.round(rng.exponential(30 * np.exp(-0.7 * risk)) + 0.5, 2)
    about = np.arange(160).astype(str), fold, time, (rng.random(160) < 0.7).astype(int)
    risks = {"plain": risk, "scaled": risk + 3 * fold.astype(float)}
    models = {name: HeldOut(*about, each[None], trained=False) for name, each in risks.items()}
    parts = []
    for name, model in models.items():
        for cut in RISK_CUTS:
            for side in ("high", "low"):
                part = risk_group(model, cut) == side
                curve = estimate(model.time[part], model.event[part]).query("events > 0")
                parts.append(curve.assign(model=name, cut=cut, group=side, setting="x"))
    curves, groups = pd.concat(parts, ignore_index=True), risk_groups(models).assign(setting="x")
    return models, groups, {"kaplan_meier": columns(curves), "groups": columns(groups)}


def test_survival_says_what_the_estimator_says_and_the_cut_changes_p(piece, survival):
    models, groups, data = survival
    page = piece("survival", data, attributes='data-show="scaled"')
    tests, model, said = groups[groups["model"] == "scaled"].set_index("cut"), models["scaled"], []
    for cut, button in (("fold_median", "fold"), ("pooled_median", "all")):
        page.click(".choice button", button)
        p, ratio, low, high = numbers(page.text(".numbers span"))
        said.append(p)
        assert p == pytest.approx(max(tests.loc[cut, "p"], 0.001), rel=0.05)
        assert [ratio, low, high] == pytest.approx(tests.loc[cut, RATIO].astype(float), abs=0.006)
        for month in (6, 24):
            page.write("input[type=range]", str(month))
            expected = [month]
            for name in ("high", "low"):
                side = risk_group(model, cut) == name
                row = estimate(model.time[side], model.event[side]).query("time <= @month").iloc[-1]
                died = model.time[side & (model.event == 1) & (model.time >= month)].min()
                expected += [*row[["survival", "low", "high"]], (model.time[side] >= died).sum()]
            assert numbers(page.text(".says")) == pytest.approx(expected, abs=0.006), (cut, month)
    assert said[0] != said[1]
    before = page.text(".says")
    page.point(".live svg", 0.25)
    assert page.text(".says") != before


def test_survival_of_another_model_is_chosen_and_the_picture_gives_way(piece, survival):
    page = piece("survival", survival[2] | {"names": {"scaled": "The scaled one"}})
    assert page.text("option") == "plain The scaled one"
    before = page.text(".numbers")
    page.run("document.querySelector('select').selectedIndex = 1")
    page.run("document.querySelector('select').dispatchEvent(new Event('change'))")
    page.click(".choice button", "all")
    assert page.text(".numbers") != before
    assert page.run("getComputedStyle(document.querySelector('figure img')).display") == "none"
    assert page.text("figcaption") == "A"


def test_threshold_counts_as_scikit_learn_does_and_the_cut_from_labels_differs(piece):
    rng = np.random.default_rng(1)
    labels = (rng.random(300) < 0.25).astype(float)
    scores = rng.normal(size=300) + 1.5 * labels
    table = cut_rows([ScoredSection("p", "A", labels, scores, np.arange(300))])
    page = piece("threshold", {"cuts": columns(table)})
    said = []
    for rule, button in (("gmm", "scores alone"), ("oracle", "labels")):
        page.click(".controls button", button)
        called = scores >= table.set_index("rule").loc[rule, "cut"]
        f1, _, every, count, spots, right, missed = numbers(page.text(".numbers span").replace("F1", ""))
        assert f1 == pytest.approx(f1_score(labels, called), abs=6e-4)
        assert every == pytest.approx(f1_score(labels, np.ones(300)), abs=6e-4)
        assert [count, spots, right, missed] == [called.sum(), 300, *np.bincount(called[labels == 1])[::-1]]
        said.append(f1)
    assert said[0] != said[1]
    page.write("input[type=range]", "1000")
    assert numbers(page.text(".numbers span"))[4] <= 1, "at the highest score one spot is called"


def test_film_shows_the_voxel_under_the_pointer_and_its_maps(piece):
    frames = np.zeros((4, 12, 12))
    frames[2] = np.arange(144).reshape(12, 12)
    mask = np.zeros((12, 12), bool)
    mask[1:11, 1:11] = True
    late = np.full((12, 12), 7.0)
    page = piece("film", live.film(frames, [0, 1.5, 3, 4.5], mask, {"Tmax": (late, "s", (0, 12), True)}))
    assert numbers(page.text(".says"))[:2] == [3, 130], "at first where and when most contrast is"
    page.point("canvas", 0.05, 0.05)
    assert page.text(".says b") == "13.0 HU"
    assert "Tmax 7.0 s" in page.text(".says")
    page.write("input[type=range]", "0")
    assert page.text(".says b") == "0.0 HU"
    page.click(".choice button", "Tmax")
    assert "Colours of Tmax: 12.0 (dark) to 0.0 s (light)" in page.text(".says")


def layers():
    grid = np.arange(4) * 100 + 50.0
    x, y = (values.ravel() for values in np.meshgrid(grid, grid[:2]))
    classes = dict(
        name="labels", x=x, y=y, side=90, value=np.arange(8) % 2, classes=["other", "cancer"], round=True
    )
    return live.slide((400, 200), [classes, dict(name="score", x=x, y=y, side=90, value=np.arange(8) / 10)])


def test_slide_has_layers_whose_marks_say_their_values(piece, root, tmp_path):
    found = library(root)
    if not found:
        pytest.skip("no OpenSeadragon: make data COHORT=openseadragon")
    (tmp_path / "pieces").mkdir()
    (tmp_path / "pieces/openseadragon.js").write_bytes(found["book/pieces/openseadragon.js"])
    page = piece("slide", layers(), "openseadragon")
    page.wait("document.querySelector('.view canvas:last-child')")
    page.click(".choice button", "score")
    page.point(".view", 0.125, 0.38)  # the picture fills the middle of a square
    page.wait("document.querySelector('.says b')")
    assert page.text(".says b") == "score: 0"
    page.point(".view", 0.875, 0.62)
    assert page.text(".says b") == "score: 0.7"
    page.click(".choice button", "labels")
    page.point(".view", 0.88, 0.62)
    assert page.text(".says b") == "labels: cancer"
    drawn = "document.querySelector('.view canvas:last-child').toDataURL()"
    marked = page.run(drawn)
    page.click(".choice button", "picture alone")
    assert len(page.run(drawn)) < len(marked), "no mark is left"


def test_without_library_or_data_the_still_picture_stands_and_says_why(piece):
    page = piece("slide", layers())
    assert "OpenSeadragon was not fetched" in page.text(".why")
    page = piece("survival", {"time": []})
    assert page.text(".why").startswith("A still picture:")
    assert page.run("getComputedStyle(document.querySelector('img')).display") != "none"


TABLE = pd.DataFrame(
    {
        "model": ["b", "a10", "a9", "c"] * 3,
        "difference": ["0.100 (0.05 to 0.2)", "−0.300 (−0.4 to 0.1)", "", "< 0.001"] * 3,
        "patients": ["1,200", "9", "80", "700"] * 3,
    }
)


def test_tables_sort_by_numbers_or_words_and_show_rows_with_words(made):
    page = made(TABLE.to_html(index=False, classes="table", border=0), "table")
    column = "[...document.querySelectorAll('tbody tr:not([hidden])')].map(row => row.cells[{}].textContent)"
    for head, at, expected in (
        ("difference", 1, ["−0.300 (−0.4 to 0.1)", "< 0.001", "0.100 (0.05 to 0.2)", ""]),
        ("patients", 2, ["9", "80", "700", "1,200"]),
        ("model", 0, ["a10", "a9", "b", "c"]),
    ):
        page.click("th", head)
        assert page.run(column.format(at)) == [word for word in expected for _ in range(3)]
    page.click("th", "difference")
    page.click("th", "difference")
    assert page.run(column.format(1))[0] == "0.100 (0.05 to 0.2)", "the other way round"
    assert page.run(column.format(1))[-1] == "", "what is missing stays last"
    page.write("input[type=search]", "700")
    assert page.run(column.format(2)) == ["700"] * 3
    assert page.text(".count") == "3 of 12 rows"


def test_short_tables_are_left_alone(made):
    page = made(TABLE.head(3).to_html(index=False, classes="table", border=0), "table")
    assert page.run("document.querySelectorAll('.sorts, .filter').length") == 0


def test_a_figure_opens_at_a_readable_size_and_closes(made, tmp_path):
    from PIL import Image

    Image.new("RGB", (600, 300), "navy").save(tmp_path / "a.png")
    page = made('<img class="figure-img" src="a.png" alt="Blue" style="width: 300px">', "lightbox", width=420)
    page.click("main img")
    assert page.run("document.querySelector('dialog').open")
    width = page.run("document.querySelector('dialog img').getBoundingClientRect().width")
    assert width >= 1000, "on a telephone one scrolls sideways in it"
    assert page.run("document.documentElement.scrollWidth") <= 420
    page.click("dialog .close")
    assert not page.run("document.querySelector('dialog').open")
    page.run("document.querySelector('main img').focus()")
    page.run(
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}))"
    )
    assert page.run("document.querySelector('dialog').open")


def test_a_telephone_is_served_the_narrow_drawing_in_letters_of_nine_pixels(made, tmp_path):
    rows = pd.DataFrame({"label": ["A", "B"], "estimate": [0.1, 0.2], "low": [0, 0.1], "high": [0.2, 0.3]})
    for name, figure in zip(("a", "a-narrow"), forest_figures(rows, 0, "difference"), strict=True):
        style.save(figure, tmp_path / name, png=False)
    source = '<source media="screen and (max-width: 600px)" srcset="a-narrow.svg">'
    wide = '<img class="figure-img" src="a.svg" alt="A" style="max-width: 100%">'
    page = made(f"<picture>{source}{wide}</picture>", "lightbox", width=420)
    assert page.run("document.querySelector('main img').currentSrc").endswith("a-narrow.svg")
    shown = page.run("document.querySelector('main img').getBoundingClientRect().width")
    points = min(text.get_size() for text in figure.findobj(Text) if text.get_text().strip())
    assert points / 72 * shown / figure.get_figwidth() >= 9
    page.click("main img")
    assert page.run("document.querySelector('dialog img').src").endswith("a.svg")

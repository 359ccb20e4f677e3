import json

import pytest

from lib.files import sha256_of
from lib.study.book import drawings as module
from lib.study.book.drawings import drawings

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="100pt"><path d="M0 0"/></svg>'


@pytest.fixture
def cohort(tmp_path):
    for name in ("roc.svg", "cox.svg", "roc.png"):
        (tmp_path / "figures").mkdir(exist_ok=True)
        (tmp_path / "figures" / name).write_text(SVG)
    outputs = {f"figures/{name}": sha256_of(tmp_path / "figures" / name) for name in ("roc.svg", "roc.png")}
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "4-evaluate.json").write_text(
        json.dumps({"outputs": outputs | {"metrics.csv": "0"}})
    )
    return tmp_path


def test_only_what_the_stage_drew_is_there(cohort):
    assert drawings(cohort, "4-evaluate") == {"roc": SVG}
    assert drawings(cohort, "5-figures") == {}


def test_a_figure_that_was_changed_since_is_left_out(cohort):
    (cohort / "figures" / "roc.svg").write_text(SVG + " ")
    assert drawings(cohort, "4-evaluate") == {}


def test_a_large_figure_stays_pixels(cohort, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", len(SVG) - 1)
    assert drawings(cohort, "4-evaluate") == {}

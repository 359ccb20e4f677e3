"""Two real slides through the first two stages; the one whose file holds no scale is refused until it is given one."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from lib.crossfusion.bags import read_bag

pytestmark = pytest.mark.real
BARE = "tcga-cr-7395-01a-01-ts1"


@pytest.fixture(scope="module")
def study(open_study):
    return partial(open_study, "crossfusion", "cmu", encoder="colour", encoder_weights="")


def test_slide_without_scale_is_refused_by_name(study):
    refused = study(um_per_px={})
    code, said = refused.run_cells("1-preprocess")
    assert code != 0
    assert f"the first is {BARE}: ValueError: " in said
    assert "names neither µm per pixel nor objective power" in said
    assert f"um_per_px: {{{BARE}: 0.25}}" in said


def test_both_slides_pass_once_the_scale_is_given(study):
    given = study()
    given.must_run_cells("1-preprocess", "2-embed", "3-train", "4-evaluate", "5-figures")
    slides = pd.read_csv(given.folder / "slides.csv").set_index("slide")
    assert slides["status"].to_dict() == {"cmu-1-small-region": "ok", BARE: "ok"}
    assert slides["um_per_px"].to_dict() == pytest.approx({"cmu-1-small-region": 0.499, BARE: 0.5})
    for name, row in slides.iterrows():
        bag = read_bag(given.folder / "features" / "colour", name)
        assert {s: len(t.features) for s, t in bag.items()} == {s: row[f"tiles_{s}x"] for s in (20, 10, 5)}
        assert all(np.isfinite(tiles.features).all() for tiles in bag.values())
    assert (given.folder / "figures" / "slides.png").is_file()
    assert "slides without follow-up: they are embedded next" in given.printed("1-preprocess", "stdout")

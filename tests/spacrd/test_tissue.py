"""Squidpy on our sections: its graph, and Moran's I against the formula."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.spacrd import tissue
from lib.spacrd.cohort import read_section, read_table, summary

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def section_and_row(st_tree):
    row = read_table(st_tree / "sections.csv").iloc[0]
    return read_section(row, st_tree), row


def test_morans_i_is_the_formula_over_the_graph(section_and_row):
    known = tissue.labelled(section_and_row[0])
    assert known.obs["label"].notna().all()
    weights = known.obsp["spatial_connectivities"].toarray()
    np.testing.assert_array_equal((weights > 0).sum(1), 6)
    known.obs["flat"] = 1.0
    found = tissue.morans_i(known, ["label", "counts", "flat"])
    for column in ("label", "counts"):
        z = known.obs[column].to_numpy(float) - known.obs[column].mean()
        assert found[column] == pytest.approx((z @ weights @ z) / (z @ z) * len(z) / weights.sum(), rel=1e-4)
    assert found["label"] > 0.4 > abs(found["counts"])
    assert np.isnan(found["flat"])


def test_few_labelled_spots_have_no_graph_and_no_index(section_and_row):
    section = section_and_row[0]
    section.obs.loc[section.obs_names[5:], "label"] = np.nan
    assert tissue.morans_i(tissue.labelled(section), ["label"]).isna().all()


def test_a_section_is_drawn_over_its_own_picture_and_on_white_without(section_and_row):
    section = section_and_row[0]
    figure, (left, right) = plt.subplots(1, 2)
    tissue.draw(left, section, "A1", labels=section.obs["label"])
    section.uns["spatial"]["A1"] = {**section.uns["spatial"]["A1"], "images": {}}
    tissue.draw(right, section, values=np.arange(section.n_obs))
    assert (len(left.images), len(right.images)) == (1, 0)
    x0, x1, y1, y0 = left.images[0].get_extent()
    xy = section.obsm["spatial"]
    assert x0 <= xy[:, 0].min() < xy[:, 0].max() <= x1
    assert y0 <= xy[:, 1].min() < xy[:, 1].max() <= y1
    plt.close(figure)


def test_layers_lie_on_the_picture_and_hold_labels_and_ranks(section_and_row):
    section = section_and_row[0]
    known = section.obs_names[::2]
    made = tissue.live_slide(section, pd.Series(np.arange(len(known))[::-1], known))
    labels, ranks = made["layers"][:2]
    assert labels["classes"] == ["other", "cancer"]
    assert len(labels["value"]) == section.obs["label"].notna().sum()
    assert ranks["x"] == pytest.approx(section.obsm["spatial"][::2, 0], abs=0.06)
    assert (ranks["value"][0], ranks["value"][-1]) == (1, pytest.approx(1 / len(known), abs=1e-3))
    assert 0 < min(labels["x"]) < max(labels["x"]) < made["width"]


def test_a_summary_counts_what_is_there(section_and_row):
    section, row = section_and_row
    told = summary(section, {**row, "source": "phantom"})
    assert told["cancer"] + told["other"] + told["undetermined"] == told["spots"] == section.n_obs
    assert (told["section"], told["patient"], told["labels"]) == ("A1", "A", "planted")


def test_a_blocks_side_is_given_in_pitches_or_is_how_far_labels_agree(section_and_row):
    section = section_and_row[0]
    pitch = section.uns["section"]["pitch_px"]
    xy, side = tissue.places({"A": section}, 0.5)["A"]
    assert side == 0.5 * pitch
    np.testing.assert_array_equal(xy, section.obsm["spatial"])
    assert list(xy.index) == list(section.obs_names)
    patches = tissue.places({"A": section}, None)["A"][1] / pitch
    section.obs["label"] = np.random.default_rng(0).permutation(section.obs["label"])
    scattered = tissue.places({"A": section}, None)["A"][1] / pitch
    assert patches > scattered == 2

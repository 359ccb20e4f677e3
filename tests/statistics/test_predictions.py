import numpy as np
import pandas as pd
import pytest

from lib.statistics.classification import NotComputable, platt, probability
from lib.statistics.intervals import spatial_blocks
from lib.statistics.metrics_table import calibrated, scored_sections


def run(effect=2.0, seed=0):
    """Scores of one run: two training sections and one test section of 80 spots."""
    random = np.random.default_rng(seed)
    tables = []
    for section, split in (("B1", "train"), ("C1", "train"), ("A1", "test")):
        label = (random.random(80) < 0.4).astype(float)
        score = effect * label + random.normal(size=80)
        label[:3] = np.nan
        tables.append(
            pd.DataFrame(
                {
                    "section": section,
                    "patient": section[0],
                    "spot": [f"{i}x{i % 7}" for i in range(80)],
                    "label": label,
                    "split": split,
                    "score": score,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def predictions(seeds=(1, 2), sections=(("A", "A1"), ("A", "A2"), ("B", "B1"))):
    """Test scores of every seed, and the positions of the spots by name."""
    random, rows, places = np.random.default_rng(3), [], {}
    for patient, section in sections:
        xy = np.stack(np.meshgrid(np.arange(6.0), np.arange(5.0)), -1).reshape(-1, 2)
        spots = [f"{int(x)}x{int(y)}" for x, y in xy]
        label = (random.random(30) < 0.5).astype(float)
        label[4] = np.nan
        places[section] = (pd.DataFrame(xy, index=spots), 2.0)
        for seed in seeds:
            score = 10 * xy[:, 0] + xy[:, 1] + 100 * seed  # tells spot and seed
            rows.append(
                pd.DataFrame(
                    {
                        "seed": seed,
                        "patient": patient,
                        "section": section,
                        "spot": spots,
                        "label": label,
                        "score": score,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True), places


def test_probability_is_platts_fit_on_training_spots():
    scores = run()
    found = calibrated(scores)
    assert found["split"].unique().tolist() == ["test"]
    assert found["spot"].tolist() == scores.loc[scores["split"] == "test", "spot"].tolist()
    train = scores[(scores["split"] == "train") & scores["label"].notna()]
    assert len(train) == 154
    slope, intercept = platt(train["label"], train["score"])
    np.testing.assert_allclose(found["probability"], probability(found["score"], slope, intercept), rtol=1e-5)
    assert found["probability"].dtype == np.float32
    assert found["probability"].between(0, 1).all()


def test_test_labels_do_not_calibrate():
    scores = run()
    before = calibrated(scores)["probability"]
    test = scores["split"] == "test"
    scores.loc[test, "label"] = 1 - scores.loc[test, "label"]
    np.testing.assert_array_equal(calibrated(scores)["probability"], before)
    scores.loc[test, "label"] = np.nan
    np.testing.assert_array_equal(calibrated(scores)["probability"], before)
    scores.loc[~test, "label"] = 1 - scores.loc[~test, "label"]
    assert not np.allclose(calibrated(scores)["probability"], before)


def test_training_spots_of_one_class_cannot_calibrate():
    scores = run()
    scores.loc[scores["split"] == "train", "label"] = 1.0
    with pytest.raises(NotComputable, match=r"hold 160 positive and 0 other"):
        calibrated(scores)


def test_sections_hold_every_seeds_scores_beside_labels_and_places():
    table, places = predictions()
    sections = scored_sections(table, places)
    assert [(s.patient, s.section) for s in sections] == [("A", "A1"), ("A", "A2"), ("B", "B1")]
    for section in sections:
        rows = table[(table["section"] == section.section) & (table["seed"] == 1)]
        known = rows["label"].notna().to_numpy()
        assert section.undetermined == 1
        np.testing.assert_array_equal(section.labels, rows["label"][known])
        np.testing.assert_array_equal(section.scores, [rows["score"][known], rows["score"][known] + 100])
        blocks = spatial_blocks(places[section.section][0].to_numpy(), 2.0)[known]
        np.testing.assert_array_equal(section.blocks, np.unique(blocks, return_inverse=True)[1])


def test_another_column_can_be_taken():
    table, places = predictions()
    table["probability"] = table["score"] / 1000
    first = scored_sections(table, places, "probability")[0]
    np.testing.assert_allclose(first.scores, scored_sections(table, places)[0].scores / 1000)


def facts(sections):
    """What is known of each labelled spot, found by its score, which tells column and row."""
    found = {}
    for section in sections:
        for label, score, block in zip(section.labels, section.scores[0], section.blocks, strict=True):
            found[section.section, float(score)] = (float(label), int(block))
    return found


@pytest.mark.parametrize("how", ["rows of all seeds", "rows of the second seed", "seeds", "places"])
def test_order_of_rows_does_not_mix_spots_up(how):
    table, places = predictions()
    expected, random = facts(scored_sections(table, places)), np.random.default_rng(0)
    first, second = table[table["seed"] == 1], table[table["seed"] == 2]
    if how == "rows of all seeds":
        table = table.sample(frac=1, random_state=0)
    elif how == "rows of the second seed":
        table = pd.concat([first, second.iloc[random.permutation(len(second))]])
    elif how == "seeds":
        table = pd.concat([second, first])
    else:
        places = {name: (xy.iloc[random.permutation(len(xy))], side) for name, (xy, side) in places.items()}
    assert len(expected) == 3 * 29
    assert facts(scored_sections(table, places)) == expected


@pytest.mark.parametrize("how", ["one place less", "other names"])
def test_places_of_other_spots_are_refused(how):
    table, places = predictions()
    xy, side = places["A2"]
    places["A2"] = (xy.iloc[:-1] if how == "one place less" else xy.rename(index={"0x0": "9x9"}), side)
    with pytest.raises(ValueError, match="section A2 has 30 spots in the predictions"):
        scored_sections(table, places)


@pytest.mark.parametrize("lost", ["one spot", "a section"])
def test_a_seed_that_did_not_score_everything_is_refused(lost):
    table, places = predictions(seeds=(1, 2, 3))
    missing = (table["seed"] == 2) & (table["section"] == "A2")
    if lost == "one spot":
        missing &= table["spot"] == "3x2"
    with pytest.raises(ValueError, match=r"seed 2 did not score every spot of section A2: run 3-train again"):
        scored_sections(table[~missing], places)

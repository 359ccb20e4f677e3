"""Tables: tiles pooled to slides and patients, the guard against outcomes among the features, subsets, categories, columns
made comparable."""

import h5py
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from lib.features.feature_files import write_features
from lib.gcmlm.tables import (
    CLIP,
    Factors,
    coefficients,
    common_rows,
    patient_table,
    refuse_disguised_outcomes,
    slide_table,
    standardised,
)


@pytest.fixture
def cohort():
    random = np.random.default_rng(0)
    names = [f"p{at}" for at in range(100)]
    table = pd.DataFrame(random.normal(size=(100, 50)), names, [f"f{at:02}" for at in range(50)])
    label = (random.random(100) < 0.25).astype(float)
    time = random.uniform(6, 80, 100)
    return table, pd.DataFrame({"label": label, "time_months": time, "event": label}, names)


def refused(table, outcome, match, **more):
    with pytest.raises(ValueError, match=match):
        refuse_disguised_outcomes({"ct": table}, outcome, **more)


def test_honest_features_pass_and_the_strongest_is_told(cohort):
    table, outcome = cohort
    told = refuse_disguised_outcomes({"ct": table}, outcome).set_index("table").loc["ct"]
    aucs = {name: roc_auc_score(outcome["label"], table[name]) for name in table}
    aucs = {name: max(auc, 1 - auc) for name, auc in aucs.items()}
    assert told["strongest"] == max(aucs, key=aucs.get)
    assert told["auc"] == pytest.approx(max(aucs.values()))
    assert told["features"] == 50


@pytest.mark.parametrize("turn", [lambda y: y, lambda y: 1 - y, lambda y: 3 * y + 7])
def test_the_label_itself_is_refused(cohort, turn):
    table, outcome = cohort
    refused(
        table.assign(f50=turn(outcome["label"])),
        outcome,
        "f50 of the table of ct .* AUC of 1.000.*leave the column",
    )


def test_the_label_as_text_and_with_a_few_errors(cohort):
    table, outcome = cohort
    text = outcome["label"].map({0.0: "no", 1.0: "yes"})
    refused(table.assign(f50=text), outcome, r"f50 of the table of ct alone \(no\) tells the label")
    nearly = outcome["label"].copy()
    nearly.iloc[0] = 1 - nearly.iloc[0]
    refused(table.assign(f50=nearly), outcome, "f50 .*")
    noisy = outcome["label"] + np.random.default_rng(1).normal(0, 0.2, 100)
    refused(table.assign(f50=noisy), outcome, "f50 .* AUC of 0.99|f50 .* AUC of 1")


def test_filled_only_where_there_was_an_event(cohort):
    table, outcome = cohort
    gaps = pd.Series(np.random.default_rng(2).normal(size=100), table.index).where(outcome["label"] == 1)
    refused(table.assign(f50=gaps), outcome, r"f50 of the table of ct alone \(which are missing\)")


def test_the_time_is_refused(cohort):
    table, outcome = cohort
    refused(table.assign(f50=-np.sqrt(outcome["time_months"])), outcome, r"Spearman -1.000")
    events = outcome["time_months"].where(outcome["event"] == 1, np.random.default_rng(3).uniform(6, 80, 100))
    refused(table.assign(f50=events), outcome, r"time of the event \(Spearman 1.000\)")


@pytest.mark.parametrize(
    "name",
    ["label", "OS.time", "PFI", "days_to_death", "vital_status", "metachronous_metastasis", "follow_up"],
)
def test_names_of_outcomes_are_refused(cohort, name):
    table, outcome = cohort
    refused(
        table.rename(columns={"f03": name}), outcome, f"{name} of the table of ct is named like an outcome"
    )


@pytest.mark.parametrize(
    "name",
    [
        "HPV-Status",
        "N-Stage",
        "lymph_node_metastasis",
        "original_firstorder_Energy",
        "treatment_time",
        "y_extent",
    ],
)
def test_names_of_factors_pass(cohort, name):
    table, outcome = cohort
    refuse_disguised_outcomes({"ct": table.rename(columns={"f03": name})}, outcome)


def test_what_is_allowed_passes_and_is_told(cohort):
    table, outcome = cohort
    table = table.assign(f50=outcome["label"])
    for name in ("f50", "ct:f50"):
        told = refuse_disguised_outcomes({"ct": table}, outcome, allowed=[name])
        assert "AUC of 1.000" in told.loc[0, "refused"]
    refused(table, outcome, "allowed names f51, which is no feature", allowed=["f51"])


def test_null_features_of_few_events_pass():
    random = np.random.default_rng(5)
    names = [f"p{at}" for at in range(40)]
    for events in (3, 10):
        table = pd.DataFrame(random.normal(size=(40, 1218)), names, [f"f{at}" for at in range(1218)])
        label = pd.Series(np.r_[np.ones(events), np.zeros(40 - events)], names)
        told = refuse_disguised_outcomes({"ct": table}, label.to_frame("label"))
        assert told.loc[0, "auc"] > 0.8  # by chance alone


@pytest.mark.real
def test_the_head_and_neck_sheets_pass_and_with_their_last_column_back_do_not(mirrored):
    folder = mirrored("ct/lro_headneck")
    clinical = pd.read_csv(folder / "clinical.csv", dtype={"patient": str}).set_index("patient")
    outcome = clinical[["label"]].astype(float)
    names = ("ct_fea_pre", "ct_fea_post", "pet_fea_pre", "pet_fea_post")
    tables = {
        name: pd.read_csv(folder / f"{name}.csv.gz", dtype={"patient": str}).set_index("patient")
        for name in names
    }
    tables["clinical"] = clinical.drop(columns="label")
    told = refuse_disguised_outcomes(tables, outcome).set_index("table")
    assert told.loc["ct_fea_pre", "features"] == 257
    assert told["auc"].max() < 0.85
    for name in names[1:3]:  # as the sheets stand upstream
        bad = {**tables, name: tables[name].assign(f257=outcome["label"])}
        with pytest.raises(
            ValueError, match=f"f257 of the table of {name} alone tells the label with an AUC of 1.000"
        ):
            refuse_disguised_outcomes(bad, outcome)
    with pytest.raises(ValueError, match="label of the table of clinical"):
        refuse_disguised_outcomes({"clinical": clinical}, outcome)


# subsets


def test_common_rows_are_those_of_all_tables_sorted():
    tables = {
        "ct": pd.DataFrame({"b": [1, 2, 3], "a": 0}, list("zyx")),
        "slide": pd.DataFrame({"c": [4, 5]}, list("yz")),
    }
    found = common_rows(tables, "ct+slide")
    assert [list(table.index) for table in found.values()] == [["y", "z"]] * 2
    assert list(found["ct"]) == ["a", "b"]
    assert list(common_rows(tables, "ct+slide", ["z"])["slide"].index) == ["z"]


# categories against their most frequent level, learnt from training patients


@pytest.fixture
def clinic():
    lauren = ["diffuse"] * 10 + ["intestinal"] * 12 + ["mixed"] * 6 + ["odd"] * 2
    return pd.DataFrame({"lauren": lauren, "age": np.arange(30.0), "smoker": [True, False] * 15})


def test_columns_against_the_most_frequent_level(clinic):
    made = Factors(clinic).transform(clinic)
    assert list(made) == ["age", "lauren=diffuse", "lauren=mixed", "lauren=other", "smoker"]
    assert made["lauren=diffuse"].sum() == 10
    assert made["lauren=other"].sum() == 2  # rare ones together
    assert made.filter(like="lauren").loc[12].sum() == 0
    new = Factors(clinic).transform(clinic.iloc[[0]].assign(lauren="never seen"))
    assert new["lauren=other"].tolist() == [1.0]


def test_a_missing_category_is_a_level_and_a_missing_number_stays_missing(clinic):
    clinic.loc[:7, "lauren"] = np.nan
    clinic.loc[0, "age"] = np.nan
    made = Factors(clinic).transform(clinic)
    assert made["lauren=unknown"].sum() == 8
    assert np.isnan(made.loc[0, "age"])


# columns made comparable by training patients


@pytest.fixture
def numbers():
    random = np.random.default_rng(0)
    return pd.DataFrame(random.normal(5, 3, (40, 4)), [f"p{at}" for at in range(40)], list("abcd"))


def test_training_patients_are_standardised_and_an_extreme_one_is_held(numbers):
    prepare = Pipeline(standardised()).fit(numbers)
    np.testing.assert_allclose(
        prepare.transform(numbers), (numbers - numbers.mean()) / numbers.std(ddof=0), atol=1e-12
    )
    assert prepare.transform(numbers.iloc[[0]] + 1e9).max() == CLIP


def test_useless_columns_are_left_out_and_gaps_take_the_training_median(numbers):
    table = numbers.assign(empty=np.nan, constant=7.0, half=np.where(np.arange(40) < 19, 1.0, np.nan))
    table["nearly"] = np.r_[1.0, np.zeros(39)]
    table.iloc[:3, 0] = np.nan
    prepare = Pipeline(standardised()).fit(table)
    assert list(prepare.get_feature_names_out()) == list("abcd")
    assert prepare["telling"].filled_ == 3
    filled = table["a"].fillna(table["a"].median())
    new = prepare.transform(table.iloc[[5]].assign(a=np.nan))[0, 0]
    assert new == pytest.approx((filled.median() - filled.mean()) / filled.std(ddof=0))


def test_coefficients_are_enough_to_score_by_hand(numbers):
    numbers.iloc[4, 1] = np.nan
    prepare, weights = Pipeline(standardised()).fit(numbers), np.array([0.5, -1.0, 2.0, 0.0])
    told = coefficients(prepare, weights).set_index("feature")
    values = numbers.fillna(told["fill"])
    by_hand = ((values - told["centre"]) / told["spread"]).clip(-CLIP, CLIP) @ told["coefficient"]
    np.testing.assert_allclose(prepare.transform(numbers) @ weights, by_hand)


def test_a_table_that_tells_nothing_is_worth_nothing(numbers):
    prepare = Pipeline(standardised()).fit(numbers * 0 + 7)
    assert not prepare["telling"].tells_
    np.testing.assert_array_equal(prepare.transform(numbers * 0 + 7), np.zeros((40, 1)))
    empty = Pipeline(standardised()).fit(numbers * np.nan)
    np.testing.assert_array_equal(empty.transform(numbers * np.nan), np.zeros((40, 1)))


# tiles pooled to slides and patients

OWNERS = {"S1": "GA2", "S2": "GA1", "S3": "GA2", "S4": "GA2"}
TILES = {"S1": 5, "S2": 3, "S3": 40, "S4": 1}
COLUMNS = [f"feat_{i}" for i in range(6)]


def write(folder, slide, features, coords=None):
    given = {"encoder": "colour", "revision": "1", "um_per_px": 0.25, "crop_um": 128.0}
    counts = {"n_white": 0, "n_failed": 0, "scale": 20}
    if coords is None:
        coords = np.arange(2 * len(features)).reshape(-1, 2) * 512
    write_features(folder / "x20" / f"{slide}.h5", features, coords, counts=counts, dtype="float16", **given)


@pytest.fixture
def folder(tmp_path):
    """Four slides of two patients, six features a tile."""
    random = np.random.default_rng(8)
    for slide, n in TILES.items():
        write(tmp_path, slide, random.normal(3, 2, (n, 6)))
    return tmp_path


@pytest.fixture
def slides():
    return pd.DataFrame({"patient": OWNERS.values(), "slide": OWNERS.keys()})


def tiles_of(folder, slide):
    with h5py.File(folder / "x20" / f"{slide}.h5") as file:
        return file["features"][:].astype(float), file["coords"][:]


def test_mean_over_tiles_of_each_slide(folder, slides):
    table = slide_table(slides, folder)
    assert table["tiles"].to_dict() == dict(enumerate(TILES.values()))
    assert (table["duplicates"] == 0).all()
    for _, row in table.iterrows():
        tiles, _ = tiles_of(folder, row["slide"])
        expected = [sum(tiles[:, i]) / len(tiles) for i in range(6)]
        np.testing.assert_allclose(row[COLUMNS].astype(float), expected, rtol=1e-12)


def test_both_rules_equal_a_loop(folder, slides):
    table = slide_table(slides, folder)
    by_slides, by_tiles = patient_table(table), patient_table(table, "tiles")
    assert list(by_slides.index) == list(by_tiles.index) == ["GA2", "GA1"]
    for patient in ("GA1", "GA2"):
        own = [tiles_of(folder, slide)[0] for slide, owner in OWNERS.items() if owner == patient]
        for found, expected in (
            (by_slides, np.mean([tiles.mean(0) for tiles in own], axis=0)),
            (by_tiles, np.concatenate(own).mean(0)),
        ):
            row = found.loc[patient]
            np.testing.assert_allclose(row[COLUMNS].astype(float), expected, rtol=1e-12)
            assert (row["slides"], row["tiles"]) == (len(own), sum(map(len, own)))
    ga2 = [found.loc["GA2", COLUMNS] for found in (by_slides, by_tiles)]
    assert np.abs(ga2[0] - ga2[1]).max() > 0.01


def test_a_tile_of_the_same_place_counts_once_unless_as_the_reference_does(folder, slides):
    alone = slide_table(slides, folder)
    tiles, coords = tiles_of(folder, "S1")
    again = [0, 1, 2, 3, 4, 2, 2, 0]
    write(folder, "S1", tiles[again], coords[again])
    once, kept = slide_table(slides, folder), slide_table(slides, folder, duplicates=True)
    assert once.loc[0, ["tiles", "duplicates"]].tolist() == [5, 3]
    assert kept.loc[0, ["tiles", "duplicates"]].tolist() == [8, 0]
    columns = COLUMNS
    np.testing.assert_array_equal(once[columns], alone[columns])
    np.testing.assert_allclose(kept.loc[0, columns].astype(float), tiles[again].mean(0), rtol=1e-12)
    assert patient_table(once)["duplicates"].tolist() == [3, 0]

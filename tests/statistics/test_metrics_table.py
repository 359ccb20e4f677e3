"""The rows of metrics.csv: right against loops over folds and scikit-learn, honest where there is no value."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from lib.files import write_csv
from lib.statistics.calibration import survival_calibration
from lib.statistics.classification import NotComputable, f1, gmm_threshold, platt, probability
from lib.statistics.concordance import auc_at, brier_at, harrell, uno
from lib.statistics.intervals import ScoredSection, spatial_blocks
from lib.statistics.metrics_table import (
    COLUMNS,
    OUTCOME_CALLED,
    c_index_by_fold,
    calibrated,
    calibration_rows,
    cut_rows,
    outcome_rows,
    risk_group,
    risk_groups,
    scored_sections,
    section_rows,
    spot_rows,
    survival_differences,
    survival_draws,
    survival_rows,
    written_out,
)
from lib.statistics.survival import Censoring, HeldOut, medians

# spots


def probabilities_of(sections):
    fit = platt(np.concatenate([s.labels for s in sections]), np.concatenate([s.scores[0] for s in sections]))
    return [s.with_scores(probability(s.scores, *fit)) for s in sections]


def spot_row(metric, sections):
    return spot_rows("m", "c", "s", sections, sections, draws=20, metrics=[metric]).iloc[0]


def test_every_metric_of_spots(cohort):
    sections = cohort(effect=2.0, seeds=2)
    frame = spot_rows("spacrd", "demo", "both", sections, probabilities_of(sections), draws=50)
    names = ["model", "cohort", "setting", "metric", "estimate", "low", "high", "n", "events", "seeds", "how"]
    assert frame.columns.tolist() == COLUMNS == names
    assert {"auc", "ap", "prevalence", "brier", "f1_gmm", "f1_calibrated", "f1_oracle"} <= set(
        frame["metric"]
    )
    assert frame["metric"].is_unique
    assert (frame["low"] <= frame["high"]).all()
    assert set(frame["seeds"]) == {2}
    by_name = frame.set_index("metric")
    assert "ORACLE" in by_name.loc["f1_oracle", "how"]
    assert by_name.loc["auc", "estimate"] > 0.85
    assert not spot_rows("m", "c", "s", sections, draws=10)["metric"].str.contains("calibrated|brier").any()
    shared = spot_rows("m", "c", "s", sections, draws=10, metrics=["f1_gmm", "prevalence"], trained=True)
    assert shared["how"].str.contains("widened").tolist() == [True, False], "training decides no prevalence"


def test_a_rule_cuts_section_by_section_and_seed_by_seed(cohort):
    sections = cohort(effect=3.0, seeds=2)
    value = np.mean([[f1(s.labels, row >= gmm_threshold(row)) for row in s.scores] for s in sections])
    assert spot_row("f1_gmm", sections)["estimate"] == pytest.approx(value)
    blind = [s.with_scores(np.random.default_rng(0).normal(size=144)) for s in sections]
    oracle = [spot_row(f"{m}_oracle", blind)["estimate"] for m in ("precision", "sensitivity")]
    assert oracle[0] == pytest.approx(oracle[1], abs=0.02)  # as many are called as are cancer


def test_the_mixture_sees_undetermined_spots(cohort):
    whole = cohort(patients=1, effect=4.0)[0]
    labels = np.where(np.arange(144) < 40, np.nan, whole.labels)
    xy = np.c_[np.arange(144) % 12, np.arange(144) // 12]
    section = ScoredSection.of_spots("P", "s", labels, whole.scores, xy, 4)
    calls = whole.scores[0, 40:] >= gmm_threshold(whole.scores[0])
    found = spot_row("f1_gmm", [section])
    assert found["estimate"] == pytest.approx(f1(labels[40:], calls))


def test_spots_without_a_value_are_an_empty_estimate_with_its_reason(cohort, tmp_path):
    sections = cohort(patients=3, effect=3.0)
    flat = sections[2].with_scores(np.zeros(144))
    one_class = ScoredSection("P", "s", np.ones(144), flat.scores, flat.blocks)
    wanted = [("f1_gmm", flat, "fewer than two values"), ("auc", one_class, "all 144 cases are positive")]
    wanted.append(("f1_oracle", one_class, "one class only"))
    rows = [spot_row(metric, [section]) for metric, section, _ in wanted]
    for row, (_, _, said) in zip(rows, wanted, strict=True):
        assert np.isnan(row["estimate"])
        assert said in row["how"]
    write_csv(pd.DataFrame(rows, columns=COLUMNS), tmp_path / "metrics.csv")
    assert "m,c,s,f1_gmm,,,,144," in (tmp_path / "metrics.csv").read_text(encoding="utf-8")
    found = spot_row("f1_gmm", [*sections[:2], flat])
    assert "mean over 2 patients" in found["how"]
    assert "section P2a of P2 left out: the scores take fewer than two values" in found["how"]
    with pytest.raises(ValueError, match="needs probabilities"):
        spot_row("f1_calibrated", sections)
    with pytest.raises(ValueError, match="apply a threshold"):
        spot_row("f1", sections)
    with pytest.raises(KeyError, match="best"):
        spot_row("f1_best", sections)


def test_section_rows_are_a_forests_table(cohort):
    frame = section_rows(cohort(patients=3), "auc", draws=50)
    assert frame["label"].tolist() == ["P0a", "P1a", "P2a"]
    assert (frame["low"] < frame["estimate"]).all()
    assert frame["how"].str.contains("bootstrap of spatial blocks").all()


def test_cut_rows_count_what_a_loop_counts_and_name_no_spot(cohort):
    section = cohort(effect=2.0, seeds=2)[0]
    rows = cut_rows([section], steps=9)
    scores = section.scores.mean(axis=0)
    assert list(rows["rule"]) == [""] * 9 + ["gmm", "oracle"]
    for row in rows.itertuples():
        calls = [score >= row.cut - 1e-5 * abs(row.cut) for score in scores]
        assert row.called == sum(calls)
        assert row.hits == sum(call for call, label in zip(calls, section.labels, strict=True) if label == 1)
    assert set(rows["spots"]) == {section.labels.size}
    assert rows["called"].iloc[0] == section.labels.size
    assert rows.set_index("rule").loc["oracle", "called"] == pytest.approx(section.labels.sum(), abs=1)
    flat = ScoredSection("p", "F", [0, 1, 1], np.zeros(3), np.arange(3))
    assert set(cut_rows([flat])["rule"]) == {""}, "no rule cuts scores that are all alike"


def run_of(effect=2.0, seed=0):
    """Scores of one run: two training sections and one test section of 80 spots."""
    random, tables = np.random.default_rng(seed), []
    for section, split in (("B1", "train"), ("C1", "train"), ("A1", "test")):
        label = (random.random(80) < 0.4).astype(float)
        score = effect * label + random.normal(size=80)
        label[:3] = np.nan
        spots = {"spot": [f"{i}x{i % 7}" for i in range(80)], "label": label, "score": score}
        tables.append(pd.DataFrame({"section": section, "patient": section[0], "split": split, **spots}))
    return pd.concat(tables, ignore_index=True)


def test_probability_is_platts_fit_on_training_spots_alone():
    scores = run_of()
    found, test = calibrated(scores), scores["split"] == "test"
    assert found["spot"].tolist() == scores.loc[test, "spot"].tolist()
    train = scores[~test & scores["label"].notna()]
    fit = platt(train["label"], train["score"])
    np.testing.assert_allclose(found["probability"], probability(found["score"], *fit), rtol=1e-5)
    assert found["probability"].dtype == np.float32
    for labels in (1 - scores["label"], np.nan):  # test labels do not calibrate
        changed = scores.assign(label=np.where(test, labels, scores["label"]))
        np.testing.assert_array_equal(calibrated(changed)["probability"], found["probability"])
    changed = scores.assign(label=np.where(test, scores["label"], 1 - scores["label"]))
    assert not np.allclose(calibrated(changed)["probability"], found["probability"])
    with pytest.raises(NotComputable, match=r"hold 160 positive and 0 other"):
        calibrated(scores.assign(label=1.0))


def predictions_of(seeds=(1, 2), sections=(("A", "A1"), ("A", "A2"), ("B", "B1"))):
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
            about = {"seed": seed, "patient": patient, "section": section}
            rows.append(pd.DataFrame({**about, "spot": spots, "label": label, "score": score}))
    return pd.concat(rows, ignore_index=True), places


def test_sections_hold_every_seeds_scores_beside_labels_and_places():
    table, places = predictions_of()
    sections = scored_sections(table, places)
    assert [(s.patient, s.section) for s in sections] == [("A", "A1"), ("A", "A2"), ("B", "B1")]
    for section in sections:
        xy, known = places[section.section][0], np.arange(30) != 4
        assert section.undetermined == 1
        assert section.scores.shape == (2, 29)
        np.testing.assert_array_equal(section.scores[1], (10 * xy[0] + xy[1] + 200)[known])
        blocks = spatial_blocks(xy, 2.0)[known]
        np.testing.assert_array_equal(section.blocks, np.unique(blocks, return_inverse=True)[1])


def test_order_of_rows_does_not_mix_spots_up():
    def facts(table, places):
        """Score, label and block of each spot, in the order of the scores."""
        sections = scored_sections(table, places)
        return [sorted(zip(*s.scores, s.labels, s.blocks, strict=True)) for s in sections]

    table, places = predictions_of()
    expected, random = facts(table, places), np.random.default_rng(0)
    first, second = table[table["seed"] == 1], table[table["seed"] == 2]
    assert facts(pd.concat([first, second.iloc[random.permutation(len(second))]]), places) == expected
    assert facts(pd.concat([second, first]), places) == expected
    moved = {name: (xy.iloc[random.permutation(len(xy))], side) for name, (xy, side) in places.items()}
    assert facts(table, moved) == expected


def test_other_places_and_seeds_that_did_not_score_everything_are_refused():
    table, places = predictions_of(seeds=(1, 2, 3))
    xy, side = places["A2"]
    for other in (xy.iloc[:-1], xy.rename(index={"0x0": "9x9"})):
        with pytest.raises(ValueError, match="section A2 has 30 spots in the predictions"):
            scored_sections(table, places | {"A2": (other, side)})
    missing = (table["seed"] == 2) & (table["section"] == "A2")
    for lost in (missing, missing & (table["spot"] == "3x2")):
        with pytest.raises(
            ValueError, match=r"seed 2 did not score every spot of section A2: run 3-train again"
        ):
            scored_sections(table[~lost], places)


# yes-or-no outcomes

ORACLE = {
    "accuracy": metrics.accuracy_score,
    "sensitivity": metrics.recall_score,
    "specificity": lambda y, c: metrics.recall_score(1 - y, 1 - c),
    "ppv": metrics.precision_score,
    "npv": lambda y, c: metrics.precision_score(1 - y, 1 - c),
    "f1": metrics.f1_score,
}


@pytest.fixture(scope="module")
def predicted() -> pd.DataFrame:
    random = np.random.default_rng(3)
    label = (random.random(120) < 0.4).astype(int)
    about = {
        "patient": [f"P{i:03d}" for i in range(120)],
        "fold": np.arange(120) % 4,
        "setting": "s",
        "label": label,
    }
    tables = []
    for seed in (1, 2):
        score = label + random.normal(size=120)
        values = {
            "score": score,
            "probability": 1 / (1 + np.exp(-score)),
            "called_youden": (score > 0.5).astype(int),
        }
        tables.append(pd.DataFrame({**about, "seed": seed, **values}))
    return pd.concat(tables).sample(frac=1, random_state=1)


def over_folds(predicted: pd.DataFrame, function, column: str) -> float:
    by_run = predicted.groupby(["fold", "seed"])[["label", column]]
    return float(by_run.apply(lambda run: function(run["label"], run[column])).groupby("fold").mean().mean())


def test_outcome_estimates_are_those_of_a_loop(predicted):
    table = outcome_rows("m", "c", "s", predicted, {"youden": "Youden's cut"}, draws=200)
    assert list(table.columns) == COLUMNS
    found = table.set_index("metric")
    wanted = {
        "auc": (metrics.roc_auc_score, "score"),
        "ap": (metrics.average_precision_score, "score"),
        "brier": (metrics.brier_score_loss, "probability"),
        **{f"{metric}_youden": (ORACLE[metric], "called_youden") for metric in OUTCOME_CALLED},
    }
    for metric, (function, column) in wanted.items():
        row = found.loc[metric]
        assert row["estimate"] == pytest.approx(over_folds(predicted, function, column)), metric
        # what hangs on a cut or on probabilities of models that were cross-validated has none
        assert (row["low"] < row["estimate"] < row["high"]) == (metric == "auc")
    pooled = outcome_rows("m", "c", "s", predicted, draws=200, pooled=True).set_index("metric").loc["ap"]
    assert pooled["low"] < pooled["estimate"] < pooled["high"]
    assert found.loc["f1_youden", "how"].startswith("Youden's cut; mean over 4 folds; ")
    events = predicted.drop_duplicates("patient")["label"].sum()
    assert (table[["n", "events", "seeds"]] == [120, events, 2]).all(axis=None)
    turned = outcome_rows("m", "c", "s", predicted.assign(score=-predicted["score"]), draws=100)
    auc = turned.set_index("metric").loc["auc", "estimate"]
    assert auc == pytest.approx(1 - found.loc["auc", "estimate"])


def test_pooled_compares_patients_of_all_folds(predicted):
    shifted = predicted.assign(score=predicted["score"] + 10 * predicted["fold"])
    within = outcome_rows("m", "c", "s", shifted, draws=100).set_index("metric")["estimate"]
    pooled = outcome_rows("m", "c", "s", shifted, pooled=True, draws=100).set_index("metric")["estimate"]
    assert within["auc"] == pytest.approx(over_folds(predicted, metrics.roc_auc_score, "score"))
    by_seed = [metrics.roc_auc_score(s["label"], s["score"]) for _, s in shifted.groupby("seed")]
    assert pooled["auc"] == pytest.approx(np.mean(by_seed))
    assert pooled["auc"] < within["auc"] - 0.1


def test_fold_of_one_class_makes_the_mean_not_computable(predicted):
    one_class = predicted.assign(label=predicted["label"] * (predicted["fold"] > 0))
    row = outcome_rows("m", "c", "s", one_class, draws=100).set_index("metric").loc["auc"]
    assert np.isnan(row["estimate"])
    assert row["how"].startswith("not computable: ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="fold"), r"predictions of m lack \['fold'\]"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "m predicts patient P... twice in one seed"),
        (lambda t: t.iloc[1:], "m, seed .: patient P... has no finite"),
        (lambda t: t.assign(fold=np.arange(len(t)) % 3), "two labels or is held out by two folds"),
    ],
)
def test_predictions_that_are_not_whole_are_refused(predicted, change, said):
    with pytest.raises(ValueError, match=said):
        outcome_rows("m", "c", "s", change(predicted), draws=100)


# survival

HORIZONS = [6.0, 12.0, 18.0]


def model_of(seed: int = 0, n: int = 120, skill: float = 1.0, bare: bool = False, seeds: int = 1) -> HeldOut:
    random = np.random.default_rng(1)
    hidden = random.normal(size=n)
    death, end = random.exponential(14 * np.exp(-hidden)), random.uniform(4, 40, n)
    risk = skill * hidden + np.random.default_rng([seed, 2]).normal(size=(seeds, n))
    survival = None if bare else np.exp(-np.array(HORIZONS) / 14 * np.exp(risk[..., None]))
    patient, fold = np.array([f"P{i:03d}" for i in range(n)]), np.array(["0", "1", "2"])[np.arange(n) % 3]
    times = None if bare else np.array(HORIZONS)
    return HeldOut(patient, fold, np.minimum(death, end), death <= end, risk, survival, times)


@pytest.fixture(scope="module")
def model() -> HeldOut:
    return model_of(seeds=2)


@pytest.fixture(scope="module")
def censoring(model) -> dict[str, Censoring]:
    others = {fold: model.fold != fold for fold in "012"}
    return {fold: Censoring.fit(model.time[rows], model.event[rows]) for fold, rows in others.items()}


@pytest.fixture(scope="module")
def rows(model, censoring) -> pd.DataFrame:
    return survival_rows("m", "demo", "a", model, HORIZONS, censoring, draws=200)


def test_survival_estimates_are_those_of_a_loop(rows, model, censoring):
    assert list(rows.columns) == COLUMNS
    assert (rows[["n", "events", "seeds"]] == [120, model.event.sum(), 2]).all(axis=None)
    assert rows["metric"].is_unique
    ends = rows.dropna(subset="low")
    assert set(ends["metric"]) == {"c_index", "c_index_ipcw", *(f"auc_t_{h:g}" for h in HORIZONS)}
    assert ((ends["low"] < ends["estimate"]) & (ends["estimate"] < ends["high"])).all()
    t, e, r, s = model.time, model.event, model.risk, model.survival
    everybody, found = np.ones((1, 40)), rows.set_index("metric")["estimate"]
    naive = {
        "c_index": lambda f, own, k: harrell(t[own], e[own], r[k, own]),
        "c_index_ipcw": lambda f, own, k: uno(t[own], e[own], r[k, own], 18.0, censoring[f])(everybody)[0],
        "auc_t_12": lambda f, own, k: auc_at(t[own], e[own], r[k, own], 12.0, censoring[f])(everybody)[0],
        "brier_t_6": lambda f, own, k: brier_at(t[own], e[own], s[k, own, :1], [6], censoring[f])(everybody)[
            0
        ],
        "ibs": lambda f, own, k: brier_at(
            t[own], e[own], np.c_[np.ones(40), s[k, own]], [0, *HORIZONS], censoring[f]
        )(everybody)[0],
    }
    for metric, function in naive.items():
        value = np.mean([[function(fold, model.fold == fold, k) for k in range(2)] for fold in "012"])
        assert found[metric] == pytest.approx(value, abs=1e-12), metric
    assert rows.set_index("metric").loc["ibs", "how"].startswith("mean Brier score from month 0 to 18 (")
    table = c_index_by_fold({"m": model})
    assert table["c_index"].mean() == pytest.approx(found["c_index"])
    assert table["n"].tolist() == [40, 40, 40]


def test_scale_and_direction_of_the_risk(model):
    def c(risk):
        other = HeldOut(model.patient, model.fold, model.time, model.event, risk)
        return survival_draws(other, "c_index")(np.ones((1, 120)))[0]

    assert c(model.risk) == pytest.approx(c(10 * model.risk + 3))
    assert c(-model.risk) == pytest.approx(1 - c(model.risk))
    # a shift of one fold's scores is no difference between models: folds are never compared
    assert c(model.risk + 100 * (model.fold == "1")) == pytest.approx(c(model.risk))


def test_survival_without_a_value_says_why(model, censoring):
    table = survival_rows("m", "c", "a", model_of(bare=True), HORIZONS, censoring, draws=100)
    bare = table["metric"].str.startswith(("brier", "ibs"))
    assert table.loc[bare, ["estimate", "low", "high"]].isna().all(axis=None)
    assert table.loc[bare, "how"].str.contains("no survival probabilities").sum() == 4
    assert table.loc[~bare, "estimate"].notna().all()
    short = {fold: Censoring.fit([1.0, 2.0, 3.0], [1, 1, 0]) for fold in "012"}
    row = survival_rows("m", "c", "a", model, HORIZONS, short, 100).set_index("metric").loc["auc_t_12"]
    assert np.isnan(row["estimate"])
    assert row["how"].startswith("not computable: ")
    for metric, said in (("auc", "unknown metric"), ("brier_t_7", "survival at .* months only")):
        with pytest.raises(ValueError, match=said):
            survival_draws(model, metric, HORIZONS, censoring)


def test_model_that_knows_nobody_scores_one_half_and_has_no_groups(model, censoring):
    nobody = HeldOut(model.patient, model.fold, model.time, model.event, np.zeros((1, 120)))
    found = survival_rows("km", "c", "a", nobody, HORIZONS, censoring, draws=100).set_index("metric")
    assert found.loc["c_index", "estimate"] == 0.5
    assert found.loc["c_index", ["low", "high"]].isna().all()
    assert written_out(found.loc["c_index"]) == "0.500"
    assert "every draw gave the same value" in found.loc["c_index", "how"]
    assert np.isnan(found.loc["logrank_p_fold_median", "estimate"])
    assert "all 120 patients are of high risk" in found.loc["logrank_p_fold_median", "how"]


def test_paired_differences_turn_round_and_stand_on_the_common_patients(model):
    models = {
        "a": model,
        "b": model_of(seed=5, skill=0.2),
        "again": model,
        "part": model.on(model.patient[:90]),
    }
    table = survival_differences(models, draws=200).set_index(["model", "minus"])
    assert table.loc[("a", "again"), "difference"] == 0
    assert table.loc[("a", "again"), ["low", "high"]].isna().all()
    assert table.loc[("a", "b"), "difference"] == pytest.approx(-table.loc[("b", "again"), "difference"])
    assert table.loc[("a", "b"), "low"] < 0 < table.loc[("a", "b"), "difference"]
    assert table.loc[("a", "part"), "n"] == 90
    # beside a trained model the difference is still one of training
    given = replace(models["b"], trained=False)
    mixed = survival_differences({"b": given, "a": model, "given": replace(model, trained=False)}, draws=200)
    mixed = mixed.set_index(["model", "minus"])
    assert mixed.loc[("b", "a"), "low"] == pytest.approx(-table.loc[("a", "b"), "high"])
    assert mixed.loc[("b", "given"), "low"] > mixed.loc[("b", "a"), "low"]


def test_groups_of_risk(model):
    table = risk_groups({"m": model}).set_index("cut")
    assert set(table.index) == {"fold_median", "pooled_median"}
    assert (table["high"] + table["low"] == 120).all()
    assert (table["high_events"] + table["low_events"] == model.event.sum()).all()
    assert (table["p"] < 0.01).all()
    group = risk_group(model, "fold_median")
    assert all(np.count_nonzero(group[model.fold == fold] == "high") == 20 for fold in "012")
    of_low = model.time[group == "low"], model.event[group == "low"]
    names = ["low_median", "low_median_low", "low_median_high"]
    np.testing.assert_equal(table.loc["fold_median", names].tolist(), medians(*of_low))
    given = risk_groups({"m": replace(model, trained=False)}).set_index("cut")
    for rule, row in table.iterrows():
        assert (
            row["hr_low"] < given.loc[rule, "hr_low"] < row["hazard_ratio"] == given.loc[rule, "hazard_ratio"]
        )
    # who is of high risk and never dies has no ratio, but still a log-rank p
    spared = replace(model, event=model.event & (group == "low"))
    row = risk_groups({"m": spared}).set_index("cut").loc["fold_median"]
    assert np.isnan(row["hazard_ratio"])
    assert "of high risk has an event" in row["why"]
    assert row["p"] < 0.05


def test_differences_of_brier_scores_and_a_fold_without_an_event(model, censoring):
    models = {"a": model, "b": model_of(seed=5, skill=0.2), "bare": model_of(bare=True)}
    for metric in ("brier_t_12", "ibs"):
        table = survival_differences(models, metric, HORIZONS, censoring, 200).set_index(["model", "minus"])
        one, other = (
            survival_draws(models[name], metric, HORIZONS, censoring)(np.ones((1, 120)))[0] for name in "ab"
        )
        row = table.loc[("a", "b")]
        assert row["difference"] == pytest.approx(one - other)
        assert row["low"] < row["difference"] < row["high"]
        assert "no survival probabilities" in table.loc[("b", "bare"), "how"]
    spared = {name: replace(each, event=each.event & (each.fold != "2")) for name, each in models.items()}
    table = survival_differences(spared, draws=100)
    assert table[["difference", "low", "high"]].isna().all(axis=None)
    assert table["how"].str.startswith("not computable: ").all()
    found = survival_rows("a", "c", "s", spared["a"], HORIZONS, censoring, 100).set_index("metric")
    assert np.isnan(found.loc["c_index", "estimate"])
    assert found.loc[["brier_t_6", "ibs", "logrank_p_fold_median"], "estimate"].notna().all()
    assert c_index_by_fold(spared)["c_index"].isna().sum() == 3


def test_calibration_rows_of_models_that_give_probabilities(model):
    table = calibration_rows({"m": model, "bare": model_of(bare=True)}, 12.0, draws=100)
    assert table["metric"].tolist() == ["slope_12", "ici_12", "e50_12", "e90_12"]
    assert ((table["low"] < table["estimate"]) & (table["estimate"] < table["high"])).all()
    died = 1 - model.survival.mean(axis=0)[:, 1]
    expected = survival_calibration(model.time, model.event, died, 12.0)(np.ones((1, 120)))[1, 0]
    assert table.set_index("metric").loc["ici_12", "estimate"] == pytest.approx(expected)
    sure = replace(model, survival=np.where(model.survival > 0.9, 1, model.survival))
    assert calibration_rows({"sure": sure}, 12.0)["how"].str.contains("are exactly 0 or 1").all()
    assert calibration_rows({"km": replace(model, risk=np.zeros((1, 120)))}, 12.0).empty

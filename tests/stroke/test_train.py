"""Training on a yes-or-no outcome: a planted effect is found, nothing leaks, gaps are what they should be, kills resume."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader

from lib.stroke import train
from lib.stroke.clinical import ADMISSION, CATEGORICAL, POSTPROCEDURAL
from lib.stroke.params import CONTENDERS, NETWORKS, QUIRKS, RELEASED, Recipe, StrokeParams
from lib.stroke.series import write_series_features
from lib.stroke.train import VOLUMES, Data, across_hospitals, build, by_hospital, fit, logits
from lib.training import runs
from lib.training.folds import Fold
from lib.training.runs import Checkpoint, Run

FRAMES, SHAPE = 2, (16, 16, 16)


def recipe(**changes) -> StrokeParams:
    small = {
        "frames": FRAMES,
        "epochs": 2,
        "batch": 4,
        "learning_rate": 5e-3,
        "channels": 4,
        "heads": 2,
        "dropout": 0.2,
    }
    small |= {"widths": (2, 2, 2, 2), "device": "cpu", "standardise": False}
    return StrokeParams(**{**small, **changes})


def fold(people, held_out: int) -> Fold:
    return Fold("0", tuple(people[held_out:]), tuple(people[:held_out]))


def run(data: Data, model="fusion", setting="postprocedural", seed=1, held_out=8) -> Run:
    return Run(setting, fold(list(data.table.index), held_out), model, seed, True)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("stroke"), np.random.default_rng(0)
    for i in range(24):
        write_series_features(folder / "features" / f"P{i:02d}.h5", random.normal(size=(FRAMES, *SHAPE)))
    return folder


@pytest.fixture
def table() -> pd.DataFrame:
    """Smoking is known of nobody, as in ISLES'24; other values are missing here and there."""
    random, label = np.random.default_rng(1), np.arange(24) % 2
    columns = {
        "label": label,
        "age": random.integers(60, 80, 24) + 8.0 * label,
        "onset_to_ctp_min": random.integers(60, 400, 24).astype(float),
        "ctp_to_recanalisation_min": random.integers(60, 200, 24).astype(float),
        "nihss": random.integers(0, 25, 24).astype(float),
        **{name: (np.arange(24) // 2 % len(levels)).astype(float) for name, levels in CATEGORICAL.items()},
        "smoking": np.nan,
        **{name: random.uniform(0, 100, 24) for name in VOLUMES},
    }
    table = pd.DataFrame(columns, index=pd.Index([f"P{i:02d}" for i in range(24)], name="patient"))
    table.loc[["P01", "P10", "P11"], "nihss"] = np.nan
    table.loc[["P02", "P12"], "hypertension"] = np.nan
    return table


class Planted(Data):
    """Patients in memory: the left half of the scan `image` darker, age `form` higher in the unfavourable."""

    def __init__(self, n: int, params, seed: int = 0, image: float = 0.0, form: float = 0.0):
        random, label = np.random.default_rng(seed), np.arange(n) % 2
        names = [f"P{i:03d}" for i in range(n)]
        self.films = {}
        for name, bad in zip(names, label, strict=True):
            film = 0.3 * random.normal(size=(FRAMES, *SHAPE)).astype(np.float32)
            film[:, :, 8:] -= image * (bad - 0.5) + 0.2 * random.normal()
            self.films[name] = film
        table = pd.DataFrame({name: random.integers(0, 2, n) for name in CATEGORICAL}, names, dtype=float)
        table = table.assign(**dict.fromkeys(POSTPROCEDURAL[:4], 0.0), label=label)
        table["age"] = 100 * (random.uniform(0.3, 0.7, n) + form * (label - 0.5))
        table["nihss"] = random.uniform(0, 40, n)
        super().__init__(table, "unused", params)

    def _read(self, patient: str) -> np.ndarray:
        return self.films[patient]


def held_out_auc(data: Data, run: Run, scores: pd.DataFrame) -> float:
    return roc_auc_score(data.table.loc[list(run.fold.test), "label"], scores["score"])


def equal(one, other) -> bool:
    return all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


# learning


@pytest.mark.parametrize(
    ("name", "setting"), [("fusion", "admission"), ("ctp", "admission"), ("clinical-branch", "admission")]
)
def test_planted_effect_is_found_and_its_null_is_not(name, setting):
    # channels 8: a token as narrow as 4 is mostly dead after its ReLU
    params = recipe(epochs=9, channels=8, dropout=0.0)
    image, form = (0.0 if name == "clinical-branch" else 1.0), (0.0 if name == "ctp" else 0.5)
    found = []
    for strength in (1, 0):
        data = Planted(90, params, 3, strength * image, strength * form)
        one = run(data, name, setting, held_out=50)
        found.append(held_out_auc(data, one, fit(one, data).scores))
    assert found[0] > 0.85
    assert abs(found[1] - 0.5) < 0.2


def test_standardising_takes_the_training_patients_mean_film_away():
    data = Planted(12, recipe(standardise=True), image=1.0)
    one = run(data, held_out=4)
    network = build("fusion", "admission", data.params)
    network.fit(data.sides(one)[0])
    films = np.stack([data.films[name] for name in one.fold.train])
    np.testing.assert_allclose(network.mean, films.mean(0), atol=1e-6)
    assert network.spread.item() == pytest.approx((films - films.mean(0)).std(), rel=1e-5)
    _, held_out = data.sides(one._replace(setting="admission"))
    film, *form, _ = (part[None] for part in held_out[0])
    plain = network.model.eval()((film - network.mean) / network.spread, *form)
    torch.testing.assert_close(network.eval()(film, *form).logit, plain.logit)
    assert {"mean", "spread"} <= set(fit(one, data).weights), "the scaling is saved with the weights"


def test_clinical_branch_never_reads_a_series(features, table, monkeypatch):
    monkeypatch.setattr(train, "read_series_features", lambda path: pytest.fail("read"))
    data = Data(table, features, recipe())
    assert fit(run(data, "clinical-branch"), data).scores["score"].nunique() > 4


# the loss, the schedule


def test_loss_is_cross_entropy_and_the_encoders_penalty():
    data = Planted(16, recipe())
    training, _ = data.sides(run(data))
    torch.manual_seed(0)
    model = build("fusion", "postprocedural", data.params).eval()
    looped = train.Training(model, data.params, 2, training, "")
    loss = looped.loss_of(next(iter(DataLoader(training, 40))))
    score = logits(model, training, 1)
    np.testing.assert_allclose(logits(model, training, 7), score, atol=1e-5)
    plain = np.where(training.label, np.log1p(np.exp(-score)), np.log1p(np.exp(score))).mean()
    assert loss.item() == pytest.approx(plain + model.penalty().item(), abs=1e-6)
    assert model.penalty() > 0


# spec: TensorFlow's schedule for 56 patients, in single precision, hence the looser ones where the rate is near zero
GOLDEN = {
    **{0: (1.0e-3, 1e-6), 1: (9.99980e-4, 1e-6), 175: (5.0e-4, 1e-6), 349: (2.01464e-8, 1e-3)},
    **{350: (7.5e-4, 1e-6), 525: (3.75e-4, 1e-6), 700: (5.625e-4, 1e-6), 5250: (1.336346e-5, 1e-6)},
    **{5425: (6.681730e-6, 1e-6), 5599: (2.692e-10, 1e-3)},
}


def test_schedules_are_the_paper_s_and_count_steps_of_the_whole_training():
    for step, (expected, within) in GOLDEN.items():
        assert 1e-3 * train.warm_restarts(step, 350) == pytest.approx(expected, rel=within)
    assert train.steps_of_a_cycle(56 * 100) == 350
    assert train.steps_of_a_cycle(57 * 100) == 356  # 356.25: the last four steps begin a seventeenth cycle
    with pytest.raises(ValueError, match="10 steps are fewer than 16 cycles"):
        train.steps_of_a_cycle(10)
    rate = [train.one_fall(step, 100) for step in range(101)]
    np.testing.assert_allclose(rate[:10], np.arange(1, 11) / 10)
    assert (rate[10], rate[55], rate[100]) == (1, pytest.approx(0.5), pytest.approx(0))
    for schedule in ("one_fall", "warm_restarts"):
        params = recipe(epochs=16, schedule=schedule, learning_rate=0.01)
        looped = train.Training(build("clinical-branch", "admission", params), params, 8, None, "")
        adam, fall, counts = looped.descent()
        assert (counts, adam.param_groups[0]["eps"]) == ("step", 1e-7)
        seen = []
        for _ in range(16 * 8):
            seen.append(adam.param_groups[0]["lr"])
            adam.step()
            fall.step()
        if schedule == "warm_restarts":  # 16 cycles of 8 steps, each three quarters of the one before
            np.testing.assert_allclose(seen[::8], 0.01 * 0.75 ** np.arange(16))
            assert seen[4] == pytest.approx(0.01 * (1 + math.cos(math.pi / 2)) / 2)
        else:
            assert max(seen) == pytest.approx(0.01)
            assert seen[-1] < 1e-5


# kimberly-amador/Multimodal-mRS90-Outcome-Prediction @ 718a6816: main.py takes
# len(training) // batch_size * epochs // 16 steps a cycle; its generator drops what is left of a shuffled epoch
@pytest.mark.parametrize(
    ("patients", "batch", "theirs", "ours"),
    [(57, 2, 175, 181), (33, 8, 25, 31), (70, 16, 25, 31), (56, 1, 350, 350)],
)
def test_released_leaves_out_what_fills_no_batch(patients, batch, theirs, ours, monkeypatch):
    given = []
    monkeypatch.setattr(
        train, "run", lambda *loop_and_batches, **_: given.append(loop_and_batches) or pd.DataFrame()
    )
    data = Planted(patients + 8, recipe(batch=batch, epochs=100, schedule="warm_restarts"))
    for model, cycle in {"fusion": ours, "fusion+whole_batches": theirs, "fusion-released": theirs}.items():
        train.train(run(data, model), data, 100, Checkpoint())
        loop, batches, _ = given.pop()
        _, fall, _ = loop.descent()
        assert fall.lr_lambdas[0].keywords["cycle"] == cycle
        sizes = [len(some) for some in batches.batch_sampler]
        assert sum(sizes) == (patients if model == "fusion" else patients // batch * batch)
    few = Planted(12, recipe(batch=8))
    with pytest.raises(ValueError, match="only whole batches of 4 patients train"):
        fit(run(few, "fusion-released"), few)


# one list of contenders


@pytest.mark.parametrize("name", NETWORKS)
def test_network_is_of_the_setting_the_habits_and_the_recipe(name):
    contender, params = CONTENDERS[name], recipe(shape=(16, 32, 16), dropout=0.3, frames_at_once=2)
    for setting, variant in (("admission", "described"), ("postprocedural", "released")):
        habits = {*contender.quirks, *(RELEASED if variant == "released" else ())}
        own = params.model_copy(update={"variant": variant})
        assert train.quirks_of(name, own) == habits <= set(QUIRKS)
        model = build(name, setting, own)
        learnt = any("positions" in key for key, _ in model.named_parameters())
        assert learnt == ("frozen_positions" not in habits)
        assert (model.shape, model.frames, model.width) == ((16, 32, 16), FRAMES, 2 * 4)
        assert (model.fusion != "imaging", model.fusion != "clinical") == (
            contender.clinical,
            contender.series,
        )
        if contender.clinical:
            assert len(model.tokens) == {"admission": len(ADMISSION), "postprocedural": 9}[setting]
            assert (3 in model.tokens.categories) == (setting == "postprocedural")  # mTICI has three levels
        assert not contender.series or model.encoder.frames_at_once == 2
    assert {part.p for part in model.head if hasattr(part, "p")} == {0.3}


# held-out patients


@pytest.mark.parametrize(
    ("model", "setting"),
    [
        ("fusion", "postprocedural"),
        ("fusion-released", "admission"),
        ("concatenation", "admission"),
        ("ctp", "admission"),
        ("clinical-branch", "admission"),
        ("logistic-clinical", "admission"),
        ("logistic-volumes", "admission"),
        ("logistic-both", "postprocedural"),
    ],
)
def test_held_out_patients_get_a_probability_though_smoking_is_missing_for_everybody(
    features, table, model, setting
):
    data = Data(table, features, recipe())
    one = run(data, model, setting)
    result = fit(one, data)
    assert result.scores["patient"].tolist() == list(one.fold.test)
    assert list(result.scores) == ["patient", "score", "probability"]
    assert np.isfinite(result.scores["score"]).all()
    assert result.scores["score"].nunique() > 4
    np.testing.assert_allclose(result.scores["probability"], expit(result.scores["score"]))
    assert list(result.history) == train.HISTORY
    logistic = model.startswith("logistic")
    assert result.history["chosen"].tolist() == ([] if logistic else [False, True])
    assert len(data.files(one)) == (0 if logistic or model == "clinical-branch" else 24)
    if not logistic:
        network = build(model, setting, data.params)
        network.load_state_dict(result.weights)
        again = logits(network, data.sides(one)[1], 8)
        np.testing.assert_allclose(again, result.scores["score"], atol=1e-6)


def other_held_out(table: pd.DataFrame) -> pd.DataFrame:
    """The held-out patients with other outcomes and other values."""
    table, held_out = table.copy(), list(table.index[:8])
    table.loc[held_out, "label"] = 1 - table.loc[held_out, "label"]
    table.loc[held_out, "age"] = [20.0, 110.0] * 4
    table.loc[held_out, "nihss"] = [0.0, 42.0] * 4
    table.loc[held_out, VOLUMES] = 1000.0
    return table


@pytest.mark.parametrize("model", ["fusion", "clinical-branch", "logistic-both"])
def test_held_out_patients_influence_nothing(features, table, model):
    other = other_held_out(table)
    other.loc["P03"] = table.loc["P03"]
    one, two = (Data(each, features, recipe()) for each in (table, other))
    first, second = fit(run(one, model), one), fit(run(two, model), two)
    assert equal(first, second)
    scores = [each.scores.set_index("patient")["score"] for each in (first, second)]
    assert scores[0]["P03"] == pytest.approx(scores[1]["P03"], abs=1e-6)
    assert not np.isclose(*scores)[:3].any()
    if model != "logistic-both":
        assert first.history["loss"].equals(second.history["loss"])


def test_scaler_that_has_seen_everybody_is_a_quirk(features, table):
    older = table.copy()
    older.loc["P00", "age"] = 119.0
    for model, influenced in (("fusion", False), ("fusion+scaler_on_all", True), ("fusion-released", True)):
        datas = [Data(each, features, recipe()) for each in (table, older)]
        first, second = (fit(run(data, model), data) for data in datas)
        assert equal(first, second) != influenced


def test_last_epoch_counts_unless_the_held_out_choose_it(features, table):
    data = Data(table, features, recipe(epochs=5, learning_rate=0.02))
    one = run(data, "fusion+epoch_by_test", "admission")
    result = fit(one, data)
    best = result.history["held_out_auc"].idxmax()
    assert result.history["chosen"].idxmax() == best
    assert held_out_auc(data, one, result.scores) == result.history["held_out_auc"].max()
    short, history = train.train(one, data, int(best) + 1, Checkpoint())
    assert history["loss"].equals(result.history["loss"][: best + 1])
    score = logits(short, data.sides(one)[1], 8)
    np.testing.assert_allclose(score, result.scores["score"], atol=1e-6)


def test_a_run_depends_on_outcomes_recipe_and_its_own_variables(features, table):
    def depends(change=None, model="fusion", setting="admission", **changes):
        data = Data(table if change is None else change, features, recipe(**changes))
        return data.depends(run(data, model, setting))

    assert depends() == depends()
    assert depends(epochs=3) != depends()
    assert depends(bootstrap_draws=100) == depends(), "no business of the training"
    assert depends(table.assign(label=1 - table["label"])) != depends()
    older, later = table.assign(age=table["age"] + 1), table.assign(mtici=0.0)
    larger = table.assign(core_ml=table["core_ml"] + 1)
    assert depends(older) != depends()
    assert depends(later) == depends(), "not known at admission"
    assert depends(later, setting="postprocedural") != depends(setting="postprocedural")
    assert depends(larger) == depends()
    for model in ("ctp", "logistic-volumes"):
        assert depends(older, model, "admission") == depends(None, model, "admission")
    assert depends(larger, "logistic-both") != depends(None, "logistic-both")


# what is missing


def test_gaps_are_masked_or_as_released_filled_from_training(features, table):
    data = Data(table, features, recipe())
    one = run(data)
    _, held_out = data.sides(one)
    gaps = [{POSTPROCEDURAL[i] for i in np.flatnonzero(held_out[k][3])} for k in range(3)]
    assert gaps == [{"smoking"}, {"nihss", "smoking"}, {"hypertension", "smoking"}]
    _, held_out = data.sides(run(data, "fusion-released"))
    assert not held_out.clinical.missing.any()
    assert set(held_out.clinical.categorical[:, list(CATEGORICAL).index("smoking")]) == {0}
    known = table["nihss"].drop("P01")
    middle = table.loc[list(one.fold.train), "nihss"].median()
    expected = (middle - known.min()) / (known.max() - known.min())
    assert held_out.clinical.continuous[1, 3] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["smoking", "nihss"])
def test_variable_that_only_held_out_patients_have_is_treated_as_if_nobody_had(features, table, name):
    """Nothing could be learnt of it: its token, or its scale, would be random."""
    nobody = table.assign(**{name: np.nan})
    somebody = nobody.copy()
    somebody.loc[somebody.index[:8], name] = 1.0
    for model in ("clinical-branch", "fusion-released", "logistic-both"):
        datas = [Data(each, features, recipe()) for each in (nobody, somebody)]
        first, second = (fit(run(data, model), data).scores for data in datas)
        pd.testing.assert_frame_equal(first, second)


def test_gaps_are_filled_from_the_training_patients_alone(table):
    table = table[["age", "smoking"]].assign(smoking=[1.0, 1, 0, np.nan, *[0.0] * 20])
    table.loc[["P00", "P01", "P02"], "age"], table.loc["P06", "age"] = [50.0, 60.0, 70.0], np.nan
    whole = train.filled(table, ["P00", "P01", "P02"])
    assert whole.loc["P06", "age"] == 60, "median of 50, 60, 70"
    assert whole.loc["P03", "smoking"] == 1, "the training patients' most frequent, not everybody's"
    pd.testing.assert_frame_equal(whole.where(table.notna()), table)


# logistic regressions, late fusion


def test_logistic_is_a_ridge_regression_of_standardised_columns_and_logged_volumes(features, table):
    data = Data(table, features, recipe())
    one = run(data, "logistic-both", "admission")
    names = [*(name for name in ADMISSION if name != "smoking"), *VOLUMES]
    columns = train.filled(table[names], one.fold.train)
    columns[VOLUMES] = np.log1p(columns[VOLUMES])
    known = columns.loc[list(one.fold.train)]
    scaled = (columns - known.mean()) / known.std(ddof=0)
    score = train.logistic(one, data)
    fits = [
        LogisticRegression(C=strength, max_iter=1000)
        .fit(scaled.loc[list(one.fold.train)].to_numpy(), table.loc[list(one.fold.train), "label"])
        .decision_function(scaled.loc[list(one.fold.test)].to_numpy())
        for strength in train.STRENGTHS
    ]
    assert min(np.abs(each - score).max() for each in fits) < 3e-3


@pytest.mark.parametrize(
    ("change", "model", "said"),
    [
        ({"core_ml": np.nan}, "logistic-both", "no training patient has core_ml"),
        (dict.fromkeys(POSTPROCEDURAL, np.nan), "logistic-clinical", "needs a variable and two training"),
        ({"label": 0}, "logistic-volumes", "two training patients of each outcome"),
        ({"label": 0}, "clinical-branch", "all 16 training patients had the same outcome"),
    ],
)
def test_what_cannot_be_trained_is_refused(features, table, change, model, said):
    data = Data(table.assign(**change), features, recipe())
    with pytest.raises(ValueError, match=said):
        fit(run(data, model), data)


def predictions(settings=("admission", "postprocedural"), patients="abc", seeds=(1, 2)) -> pd.DataFrame:
    keys = {"setting": settings, "model": ("ctp", "clinical-branch", "fusion"), "seed": seeds, "fold": ["0"]}
    index = pd.MultiIndex.from_product([*keys.values(), list(patients)], names=[*keys, "patient"])
    table = pd.DataFrame({"score": np.random.default_rng(0).normal(size=len(index))}, index).reset_index()
    return table.assign(probability=expit(table["score"])).sample(frac=1, random_state=0)


def test_late_fusion_is_the_mean_probability_of_the_same_patient_where_it_is_asked_for():
    table, models = predictions(), {"admission": ["late-fusion"], "postprocedural": ["fusion"]}
    whole = train.with_late_fusion(table, models)
    late = whole[whole["model"] == "late-fusion"]
    assert (len(late), set(late["setting"])) == (2 * 3, {"admission"})
    keys = ["setting", "seed", "fold", "patient"]
    wide = table.pivot(index=keys, columns="model", values="probability")
    expected = wide.loc[pd.MultiIndex.from_frame(late[keys]), ["ctp", "clinical-branch"]].mean(axis=1)
    np.testing.assert_allclose(late["probability"], expected)
    np.testing.assert_allclose(expit(late["score"]), late["probability"])
    sure = train.with_late_fusion(table.assign(probability=1.0), models)
    assert np.isfinite(sure["score"]).all()
    assert train.with_late_fusion(table, {"admission": ["fusion"]}) is table
    for column in ("patient", "seed"):
        odd = table[(table["model"] != "ctp") | (table[column] != table[column].max())]
        with pytest.raises(ValueError, match="of the same patients, seeds and folds"):
            train.with_late_fusion(odd, models)


# attention, and going on


def test_attention_is_of_the_class_tokens_and_of_those_who_have_the_variable(features, table):
    data = Data(table, features, recipe())
    one = run(data, setting="admission")
    model, (_, held_out) = build("fusion", "admission", data.params), data.sides(one)
    runs.write_weights(model.eval().state_dict(), features / "weights" / f"{one.name}.safetensors")
    found = train.mean_attention(data, one)
    variables = found[found["asks"] == "variable"]
    assert variables["name"].tolist() == [name for name in ADMISSION if name != "smoking"]
    assert found.loc[found["asks"] == "frame", "name"].tolist() == ["0", "1"]
    assert found.loc[found["asks"] == "frame", "equal"].eq(1 / 3).all()
    weights = [model(*(part[None] for part in held_out[k][:4]), attention=True).attention for k in range(8)]
    nihss = [each["imaging_asks"][0, :, 0, 3].mean().item() for each in weights]
    assert nihss[1] == 0, "P01 does not have it"
    expected = np.mean([value for k, value in enumerate(nihss) if k != 1])
    assert variables.set_index("name").loc["nihss", "attention"] == pytest.approx(expected, rel=1e-5)


class Killed(Exception):
    """Stands for kill -9 at the end of an epoch."""


@pytest.mark.parametrize(
    ("model", "changes"), [("fusion", {"schedule": "warm_restarts"}), ("fusion+epoch_by_test", {})]
)
def test_killed_run_ends_as_an_undisturbed_one(features, table, model, changes, tmp_path, monkeypatch):
    data = Data(table, features, recipe(epochs=4, **changes))
    one = run(data, model, "admission")
    whole = fit(one, data)
    save, checkpoint = runs.save_checkpoint, Checkpoint(tmp_path / "run.checkpoint.safetensors", "k", 0.0)

    def mortal(looped, to, *arguments):
        save(looped, to, *arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_checkpoint", mortal)
        with pytest.raises(Killed):
            fit(one, data, checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["run.checkpoint.safetensors"]
    torch.manual_seed(99)  # another process, other random numbers
    again = fit(one, data, checkpoint)
    assert equal(whole, again)
    pd.testing.assert_frame_equal(whole.history, again.history)
    pd.testing.assert_frame_equal(whole.scores, again.scores)
    assert list(tmp_path.iterdir()) == []


# hospitals


def test_a_model_that_knows_the_hospital_alone_is_worth_nothing_within_it():
    names = [f"P{n}" for n in range(12)]
    patients = pd.DataFrame(
        {"hospital": ["A"] * 6 + ["B"] * 5 + ["C"], "label": [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1]}, names
    )
    scores = {"place": (patients["hospital"] == "A").astype(float), "truth": patients["label"].astype(float)}
    both = [patients.assign(patient=names, model=model, score=score) for model, score in scores.items()]
    rows = pd.concat([one.assign(setting="admission", seed=seed) for one in both for seed in (1, 2)])
    found = by_hospital(rows, patients).set_index(["model", "hospital"])
    assert found.loc[("place", "A"), "auc"] == found.loc[("place", "B"), "auc"] == 0.5
    # 4 of 6 bad outcomes are called, 2 of 6 good ones: (4 * 4 + half of 4 * 2 + 2 * 4) / 36
    assert found.loc[("place", "all"), "auc"] == pytest.approx((16 + 4 + 4) / 36)
    assert found.loc[("truth", "B")].tolist() == ["admission", 5, 1, 1.0]
    assert np.isnan(found.loc[("truth", "C"), "auc"])
    assert found.loc[("hospital alone", "all"), "auc"] > 0.7


def test_a_rule_that_turns_round_in_the_other_hospital_fails_there():
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"hospital": ["A"] * 60 + ["B"] * 40, "label": rng.integers(0, 2, 100)})
    table.index = [f"P{number}" for number in table.index]
    turned = np.where(table["hospital"] == "A", 1, -1)
    table["nihss"] = 10 + 8 * turned * (table["label"] - 0.5) + rng.normal(size=100)
    values = {"age": 70.0, "sex": 1.0, "hypertension": 0.0, "smoking": np.nan, "atrial_fibrillation": 0.0}
    table = table.assign(**values, onset_to_ctp_min=np.nan)
    found = across_hospitals(Data(table, "", Recipe()), ["admission"], [1, 2])
    assert found["hospital"].tolist() == ["B, trained in A"]
    assert found["patients"].tolist() == [40]
    assert found["auc"].iloc[0] < 0.05
    table["nihss"] = 20 - table["nihss"].where(table["hospital"] == "B", 20 - table["nihss"])
    assert across_hospitals(Data(table, "", Recipe()), ["admission"], [1])["auc"].iloc[0] > 0.95

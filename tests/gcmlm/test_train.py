"""Folds and runs of both contenders; the attention: masks of nobody, order, seeds, nothing learnt from tested patients."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from sklearn.metrics import roc_auc_score

from lib.gcmlm.model import ModalityAttention
from lib.gcmlm.signature import inner_parts
from lib.gcmlm.tables import common_rows
from lib.gcmlm.train import PREDICTIONS, AttentionFusion, Data, fit, folds_of
from lib.training.runs import Run, write_weights

ALL, SIZES = "clinical+ct+slide", {"clinical": 4, "ct": 10, "slide": 7}
QUICK = {"epochs": 15, "inner_folds": 2}

# the network


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = ModalityAttention(SIZES).eval()
    # at its small first values the query hardly tells tokens apart
    torch.nn.init.normal_(made.query)
    torch.nn.init.normal_(made.kind)
    return made


@pytest.fixture
def features():
    torch.manual_seed(1)
    return {name: torch.randn(5, size) for name, size in SIZES.items()}


def test_one_logit_a_patient_patients_do_not_mix_and_every_modality_is_read(model, features):
    logits, loss = model(features)
    assert (logits.shape, loss) == ((5,), None)
    alone = torch.cat([model({name: x[[at]] for name, x in features.items()})[0] for at in range(5)])
    torch.testing.assert_close(alone, logits)
    for name in SIZES:
        changed = {**features, name: features[name] + 1}
        assert (model(changed)[0] - logits).abs().min() > 1e-6


def test_the_loss_is_the_mean_cross_entropy(model, features):
    label = torch.tensor([0.0, 1, 1, 0, 1])
    logits, loss = model(features, label)
    p = logits.sigmoid()
    torch.testing.assert_close(loss, -(label * p.log() + (1 - label) * (1 - p).log()).mean())


def test_attention_sums_to_one_and_every_weight_learns(model, features):
    weights = model.attention(features)
    assert weights.shape == (5, 4, 3)
    torch.testing.assert_close(weights.sum(2), torch.ones(5, 4))
    model = ModalityAttention(SIZES)
    model(features)[0].sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in model.parameters())
    assert "NOT the architecture of GC-MLM-RCSA" in ModalityAttention.__init__.__globals__["__doc__"]


# the trained attention


@pytest.fixture(scope="module")
def cohort(patients):
    return patients(90)


@pytest.fixture(scope="module")
def fused(cohort):
    return AttentionFusion(ALL, **QUICK).fit(*cohort)


def test_it_learns_and_tells_new_patients(cohort, patients):
    fused = AttentionFusion(ALL, epochs=40, inner_folds=2).fit(*cohort)
    tables, outcome = patients(200, seed=1)
    found = fused.predict(tables).loc[outcome.index]
    assert roc_auc_score(outcome["label"], found["score"]) > 0.7
    np.testing.assert_allclose(found["probability"], 1 / (1 + np.exp(-found["score"])))
    assert found["hazard"].isna().all()
    assert list(fused.history["epoch"]) == list(range(40))
    assert fused.history["loss"].iloc[-1] < fused.history["loss"].iloc[0]


def test_training_scores_are_by_networks_that_did_not_see_them(cohort, fused):
    tables, outcome = cohort
    parts = inner_parts(outcome["label"].sort_index(), 2, 0)
    part, rest = parts.index[parts == 0], parts.index[parts == 1]
    slow = AttentionFusion(ALL, **QUICK).fit(
        {name: table.loc[rest] for name, table in tables.items()}, outcome.loc[rest]
    )
    found = slow.predict({name: table.loc[part] for name, table in tables.items()})
    np.testing.assert_allclose(fused.training_scores["score"].loc[part], found["score"], rtol=1e-5)


def test_a_seed_repeats_order_does_not_matter_and_tested_patients_cannot_teach(cohort, fused):
    tables, outcome = cohort
    mixed = {name: table.iloc[::-1, ::-1] for name, table in tables.items()}
    again = AttentionFusion(ALL, **QUICK).fit(mixed, outcome.iloc[::-1])
    pd.testing.assert_frame_equal(again.training_scores, fused.training_scores, check_exact=True)
    pd.testing.assert_frame_equal(again.predict(mixed), fused.predict(tables), check_exact=True)
    other = AttentionFusion(ALL, seed=1, **QUICK).fit(tables, outcome)
    assert not other.predict(tables)["score"].equals(fused.predict(tables)["score"])
    wild = {name: table.copy() for name, table in tables.items()}
    for table in wild.values():
        table.iloc[70:] *= 1e6
    plain, again = (AttentionFusion("ct", **QUICK).fit(some, outcome.iloc[:70]) for some in (tables, wild))
    pd.testing.assert_frame_equal(again.training_scores, plain.training_scores, check_exact=True)


def test_what_is_stored_scores_a_new_patient(tmp_path, cohort, fused):
    tensors, about = fused.stored()
    write_weights(tensors, tmp_path / "m.safetensors", about)
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        columns = json.loads(file.metadata()["columns"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    inputs = {}
    for name, table in common_rows(cohort[0], ALL).items():
        fill, centre, spread = (
            state.pop(f"scaling.{name}.{kind}").numpy() for kind in ("fill", "centre", "spread")
        )
        values = table[columns[name]].fillna(dict(zip(columns[name], fill, strict=True))).to_numpy()
        inputs[name] = torch.as_tensor(np.clip((values - centre) / spread, -4, 4), dtype=torch.float32)
    network = ModalityAttention({name: len(some) for name, some in columns.items()}).eval()
    network.load_state_dict(state)
    found = network(inputs)[0].detach().numpy()
    np.testing.assert_allclose(found, fused.predict(cohort[0])["score"], rtol=1e-5, atol=1e-6)


# folds and runs


@pytest.fixture(scope="module")
def data(patients, tmp_path_factory):
    tables, outcome = patients(80)
    table = outcome.assign(set="internal", fold=[str(at % 2) for at in range(80)])
    table.iloc[60:, table.columns.get_loc("set")] = "external"
    table.iloc[60:, table.columns.get_loc("fold")] = np.nan
    some = {"clinical": tables["clinical"], "ct": tables["ct"].iloc[3:]}
    return Data(tmp_path_factory.mktemp("demo"), table, some, inner_folds=3)


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch):
    monkeypatch.setitem(AttentionFusion.__init__.__kwdefaults__, "epochs", 5)


def test_folds_share_no_patient_and_the_other_hospital_never_trains(data):
    folds = {fold.name: fold for fold in folds_of(data.cohort)}
    assert list(folds) == ["0", "1", "external"]
    for name, fold in folds.items():
        assert not set(fold.train) & set(fold.test)
        assert len(fold.train) + len(fold.test) == (80 if name == "external" else 60)
    assert set(folds["external"].test) == set(data.cohort.index[60:])


@pytest.mark.parametrize("model", ["signature", "attention"])
def test_a_run_gives_the_contract_and_repeats_to_the_last_bit(data, model):
    run = Run("clinical+ct", folds_of(data.cohort)[2], model, 0, True)
    found, again = fit(run, data), fit(run, Data(data.folder, data.cohort, data.tables, 3))
    assert list(found.scores) == PREDICTIONS
    pd.testing.assert_frame_equal(found.scores, again.scores, check_exact=True)
    for name, values in found.weights.items():
        np.testing.assert_array_equal(again.weights[name], values)
    tested = found.scores[found.scores["split"] == "test"]
    assert sorted(tested["patient"]) == sorted(data.cohort.index[60:])
    np.testing.assert_array_equal(tested["label"], data.cohort["label"].loc[tested["patient"]])
    assert tested["hazard"].isna().all() == (model == "attention")
    row = found.tables["report"].iloc[0]
    assert (row["patients"], row["excluded"], row["tested"], row["not_tested"]) == (57, 3, 20, 0)
    assert found.tables["coefficients"].empty == (model == "attention")
    assert len(found.history) == (5 if model == "attention" else 0)
    assert [path.name for path in data.files(run)] == ["cohort.csv", "clinical.csv", "ct.csv"]

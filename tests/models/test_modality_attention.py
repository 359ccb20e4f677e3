"""The attention over modalities: masks, order, and what it says of itself."""

import pytest
import torch

from lib.gcmlm.model import ModalityAttention

SIZES = {"clinical": 4, "ct": 10, "slide": 7}


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


def test_one_logit_a_patient_and_patients_do_not_mix(model, features):
    logits = model(features)
    assert logits.shape == (5,)
    alone = torch.cat([model({name: x[[at]] for name, x in features.items()}) for at in range(5)])
    torch.testing.assert_close(alone, logits)


def test_every_modality_is_read(model, features):
    for name in SIZES:
        changed = {**features, name: features[name] + 1}
        assert (model(changed) - model(features)).abs().min() > 1e-6


def test_a_missing_token_is_not_read(model, features):
    missing = torch.zeros(5, 3, dtype=torch.bool)
    missing[2, 1] = True
    changed = {**features, "ct": features["ct"] + 100 * missing[:, [1]]}
    torch.testing.assert_close(model(changed, missing), model(features, missing))
    assert (model(features, missing) - model(features)).abs()[2] > 1e-6
    torch.testing.assert_close(model(features, missing)[[0, 1, 3, 4]], model(features)[[0, 1, 3, 4]])
    assert model.shares(features, missing)[2, 1] == 0


def test_shares_sum_to_one(model, features):
    shares = model.shares(features)
    assert shares.shape == (5, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(5))


def test_a_patient_without_any_modality_is_refused(model, features):
    with pytest.raises(ValueError, match="no modality at all"):
        model(features, torch.ones(5, 3, dtype=torch.bool))


def test_every_weight_learns(features):
    model = ModalityAttention(SIZES)
    model(features).sum().backward()
    still = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []


def test_it_says_that_it_is_not_the_papers():
    assert "NOT the architecture of GC-MLM-RCSA" in ModalityAttention.__init__.__globals__["__doc__"]

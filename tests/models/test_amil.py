import pytest
import torch

from lib.models.mil import AMIL

COUNTS = {2048: 1_314_053, 1536: 1_051_909, 1024: 789_765, 768: 658_693, 512: 527_621}


@pytest.mark.parametrize("in_dim", COUNTS)
def test_parameter_counts_of_the_paper(in_dim):
    with torch.device("meta"):
        assert sum(p.numel() for p in AMIL(in_dim).parameters()) == COUNTS[in_dim]


@pytest.mark.parametrize("n", [1, 5, 300])
def test_logits_equal_tile_by_tile(n):
    torch.manual_seed(0)
    model = AMIL(7, width=16, gate=8)
    x = torch.randn(1, n, 7)
    tiles = [torch.clamp(model.project(tile), min=0) for tile in x[0]]
    scores = [
        (model.weight(model.feature(t).tanh() * (1 / (1 + torch.exp(-model.gate(t)))))).squeeze()
        for t in tiles
    ]
    whole = sum(s.exp() for s in scores)
    pooled = sum(t * s.exp() / whole for t, s in zip(tiles, scores, strict=True))
    output = model(None, None, x, attention="full")
    torch.testing.assert_close(output.logits[0], model.head(pooled), rtol=1e-4, atol=1e-6)
    assert output.attention["tiles"].shape == (1, 1, n)
    shares = torch.stack([s.exp() / whole for s in scores]).detach()
    torch.testing.assert_close(output.attention["tiles"][0, 0], shares, rtol=1e-4, atol=1e-6)
    assert model(None, None, x).attention is None


def test_order_does_not_matter_and_training_is_not_random():
    torch.manual_seed(0)
    model = AMIL(7).train()
    x = torch.randn(1, 50, 7)
    before = model(None, None, x).logits
    assert before.shape == (1, 4)
    assert torch.equal(model(None, None, x).logits, before)
    torch.testing.assert_close(model(None, None, x[:, torch.randperm(50)]).logits, before)


def test_gradients_reach_every_parameter():
    model = AMIL(7)
    model(None, None, torch.randn(1, 9, 7)).logits.sum().backward()
    # a number added to all scores cancels in the softmax
    assert all(p.grad.any() or name == "weight.bias" for name, p in model.named_parameters())


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"AMIL\(variant='best'\)"):
        AMIL(7, "best")
    with pytest.raises(ValueError, match=r"x20 must be \(1, tiles, 7\).*\(1, 0, 7\)"):
        AMIL(7)(None, None, torch.zeros(1, 0, 7))
    with pytest.raises(ValueError, match="attention=True"):
        AMIL(7)(None, None, torch.zeros(1, 2, 7), attention=True)

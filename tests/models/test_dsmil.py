import math

import pytest
import torch

from lib.models.mil import DSMIL

COUNTS = {2048: 319_752, 1536: 243_976, 1024: 168_200, 768: 130_312, 512: 92_424}


@pytest.mark.parametrize("variant", ["described", "released"])
@pytest.mark.parametrize("in_dim", COUNTS)
def test_parameter_counts_of_the_paper(in_dim, variant):
    with torch.device("meta"):
        assert sum(p.numel() for p in DSMIL(in_dim, variant).parameters()) == COUNTS[in_dim]


@pytest.mark.parametrize("variant", ["described", "released"])
@pytest.mark.parametrize("n", [1, 5, 300])
def test_logits_equal_tile_by_tile(n, variant):
    torch.manual_seed(0)
    model = DSMIL(7, variant, query=6)
    x = torch.randn(1, n, 7)
    scores = torch.stack([model.tiles(tile) for tile in x[0]])  # (n, bins)
    queries = torch.stack([model.query(tile) for tile in x[0]])
    bag, shares = [], []
    for k in range(4):
        critical = int(scores[:, k].argmax())
        weights = torch.stack([(q @ queries[critical]) / math.sqrt(6) for q in queries]).exp()
        shares.append(weights / weights.sum())
        bag.append(sum(w * tile for w, tile in zip(shares[-1], x[0], strict=True)))
    bag = torch.stack(bag)  # (bins, 7)
    expected = torch.einsum("okd,kd->o", model.bag.weight, bag) + model.bag.bias
    if variant == "described":
        expected = 0.5 * expected + 0.5 * scores.max(0).values
    output = model(None, None, x, attention="full")
    torch.testing.assert_close(output.logits[0], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        output.attention["tiles"][0], torch.stack(shares).detach(), rtol=1e-4, atol=1e-6
    )


def test_released_tile_stream_never_learns():
    torch.manual_seed(0)
    x = torch.randn(1, 40, 7)
    released, described = DSMIL(7, "released"), DSMIL(7)
    for model in (released, described):
        model(None, None, x).logits.sum().backward()
        assert all(p.grad.any() for name, p in model.named_parameters() if not name.startswith("tiles"))
    assert released.tiles.weight.grad is None
    assert released.tiles.bias.grad is None
    assert described.tiles.weight.grad.any()


def test_the_quirk_has_its_switch():
    torch.manual_seed(0)
    released = DSMIL(7, "released")
    mended = DSMIL(7, "released", both_streams=True)
    described = DSMIL(7)
    for model in (mended, described):
        model.load_state_dict(released.state_dict())
    x = torch.randn(1, 40, 7)
    assert torch.equal(mended(None, None, x).logits, described(None, None, x).logits)
    assert not torch.allclose(released(None, None, x).logits, described(None, None, x).logits, atol=1e-3)


def test_order_does_not_matter():
    torch.manual_seed(0)
    model, x = DSMIL(7), torch.randn(1, 50, 7)
    torch.testing.assert_close(
        model(None, None, x[:, torch.randperm(50)]).logits, model(None, None, x).logits
    )


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"DSMIL\(variant='best'\)"):
        DSMIL(7, "best")
    with pytest.raises(ValueError, match=r"x20 must be \(1, tiles, 7\)"):
        DSMIL(7)(None, None, torch.zeros(1, 3, 8))

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lib.crossfusion.model import CrossFusion
from lib.models.attention import Attention, unsquared

sys.path.insert(0, str(Path(__file__).parent))
from plain_crossfusion import Plain

FUSIONS = ("conv", "concat", "single")
# spec: by width of the encoder's features; conv, concat, single
COUNTS = {
    2048: (24_536_584, 25_147_908, 9_730_564),
    1536: (23_750_152, 24_361_476, 9_468_420),
    1024: (22_963_720, 23_575_044, 9_206_276),
    768: (22_570_504, 23_181_828, 9_075_204),
    512: (21_386_248, 21_997_572, 8_680_452),
}
BAGS = [(20, 83, 330), (1, 1, 1), (9, 4, 3)]


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def bags(sizes, width=7, dtype=torch.float32):
    return [torch.randn(1, n, width, dtype=dtype) for n in sizes]


def small(fusion="conv", variant="described", **options):
    """Weights far from their small initial values, so that every part shows in the logits."""
    torch.manual_seed(2)
    model = CrossFusion(7, fusion, variant, width=32, **options)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("in_dim", COUNTS)
def test_parameter_counts_of_the_paper(in_dim):
    with torch.device("meta"):
        assert tuple(parameters(CrossFusion(in_dim, fusion)) for fusion in FUSIONS) == COUNTS[in_dim]


def test_initial_values():
    model = CrossFusion(64)
    linear = torch.cat([m.weight.flatten() for m in model.modules() if isinstance(m, nn.Linear)])
    assert linear.std().item() == pytest.approx(0.02, rel=0.01)
    assert not any(m.bias.any() for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Conv3d))
    largest = model.final.positions.parts[0].weight
    assert largest.std().item() == pytest.approx((2 / (512 * 49)) ** 0.5, rel=0.05)
    scales = torch.stack([c.scale for c in model.crossings.values()])
    assert scales.std().item() == pytest.approx(0.02, rel=0.15)
    assert model.class_token.abs().max() < 1e-5


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("residual", ["normalised", "input"])
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("sizes", BAGS)
def test_logits_and_gradients_equal_the_plain_reference(fusion, residual, sizes, layers):
    quiet = {"dropout": 0.0, "attention_dropout": 0.0}
    model = small(fusion, layers=layers, residual=residual, **quiet).double().train()
    x = bags(sizes, dtype=torch.float64)
    ours = model(*x).logits
    named = dict(model.named_parameters())
    plain = Plain(named, residual=residual)(*(bag[0] for bag in x), fusion=fusion)
    assert ours.shape == (1, 4)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours[0], plain.float(), rtol=1e-6, atol=1e-6)

    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])
    mine = torch.autograd.grad((ours[0] * weights).sum(), list(named.values()))
    theirs = torch.autograd.grad((plain * weights).sum(), list(named.values()))
    for name, a, b in zip(named, mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")


def test_own_width_is_taken_as_it_is():
    model = CrossFusion(32, width=32).eval()
    assert parameters(model.projections) == 0
    x = bags((3, 6, 11), 32)
    plain = Plain(model.named_parameters())(*(bag[0] for bag in x))
    torch.testing.assert_close(model(*x).logits[0], plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", ["conv", "concat"])
def test_order_matters_at_10x_only(fusion):
    model = small(fusion).eval()
    x5, x10, x20 = bags((20, 83, 330))
    before = model(x5, x10, x20).logits
    shuffled = x5[:, torch.randperm(20)], x20[:, torch.randperm(330)]
    torch.testing.assert_close(model(shuffled[0], x10, shuffled[1]).logits, before, rtol=1e-4, atol=1e-4)
    moved = model(x5, x10[:, torch.randperm(83)], x20).logits
    assert (moved - before).abs().max() > 0.01


def test_each_quirk_has_its_switch():
    x = bags((4, 10, 30))
    described = small().eval()
    before = torch.get_rng_state()
    assert torch.equal(described(*x).logits, described(*x).logits)
    assert torch.equal(before, torch.get_rng_state()), "evaluation must not move the numbers of training"
    released = small(variant="released").eval()
    assert not torch.equal(released(*x).logits, released(*x).logits)
    mended = small(variant="released", dropout_in_evaluation=False).eval()
    assert torch.equal(mended(*x).logits, described(*x).logits)
    restless = small(dropout_in_evaluation=True).eval()
    assert not torch.equal(restless(*x).logits, restless(*x).logits)
    # the same parameters by the same names: weights go from one variant to the other
    small(variant="released").load_state_dict(described.state_dict(), strict=True)
    input_sum = small(residual="input").eval()
    assert (input_sum(*x).logits - described(*x).logits).abs().max() > 0.01


@pytest.mark.parametrize("variant", ["described", "released"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradients_reach_every_parameter(fusion, variant):
    model = small(fusion, variant).train()
    model(*bags((6, 20, 50))).logits.sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        # a number added to all keys cancels in the softmax
        assert p.grad.any() or name.endswith("key.bias"), name


def test_largest_array_kept_for_the_gradient():
    """Described keeps nothing that grows with the square of the tiles; released keeps attention's tables."""
    largest = {}
    for variant in ("described", "released"):
        sizes = []

        def note(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        model = small(variant=variant).train()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(*bags((100, 400, 1600)))
        largest[variant] = max(sizes)
    assert largest["described"] == 1600 * 32  # tokens of the finest scale
    assert largest["released"] >= 4 * 400 * 400


def test_full_attention_maps():
    model = small().eval()
    x = bags((20, 83, 330))
    output = model(*x, attention="full")
    shapes = {name: tuple(each.shape) for name, each in output.attention.items()}
    names = [f"{s}_{place}" for s in ("coarse", "fine", "source") for place in ("pre", "post")]
    streams = dict.fromkeys(names, (1, 4, 100, 100))
    final = {"final_pre": (1, 4, 101, 101), "final_post": (1, 4, 101, 101)}
    assert shapes == {"coarse_cross": (1, 4, 83, 20), "fine_cross": (1, 4, 83, 330), **streams, **final}
    for name, each in output.attention.items():
        assert not each.requires_grad
        torch.testing.assert_close(each.sum(3), torch.ones(each.shape[:3]), msg=name)
    assert model(*x).attention is None
    torch.testing.assert_close(model(*x).logits, output.logits, rtol=0, atol=0)


def test_received_attention_is_the_mean_of_the_full_rows():
    model = small().eval()
    x = bags((20, 300, 330))  # more queries than are looked at together
    full = model(*x, attention="full").attention
    received = model(*x, attention="received").attention
    assert full.keys() == received.keys()
    for name, each in received.items():
        rows = full[name][:, :, 0] if name == "final_post" else full[name].mean(2)
        torch.testing.assert_close(each, rows, rtol=1e-4, atol=1e-6, msg=name)
    tiles = unsquared(received["source_pre"], 300)
    assert tiles.shape == (1, 4, 300)
    torch.testing.assert_close(tiles.sum(2), torch.ones(1, 4))


def test_maps_do_not_hold_dropout_nor_move_the_random_numbers():
    x = bags((5, 12, 40))
    released = small(variant="released").eval()
    described = small().eval()
    first = released(*x, attention="full").attention["coarse_pre"]
    torch.testing.assert_close(first, described(*x, attention="full").attention["coarse_pre"])
    model = small().train()
    torch.manual_seed(7)
    plain = model(*x).logits
    torch.manual_seed(7)
    assert torch.equal(model(*x, attention="full").logits, plain)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_bfloat16_is_close_and_keeps_float32_outside(fusion):
    x = bags((20, 83, 330), 40)
    torch.manual_seed(1)
    plain = CrossFusion(40, fusion, width=128).eval()
    low = CrossFusion(40, fusion, width=128, bf16=True).eval()
    low.load_state_dict(plain.state_dict())
    exact, output = plain(*x).logits, low(*x, attention="received")
    assert output.logits.dtype == torch.float32
    assert all(each.dtype == torch.float32 for each in output.attention.values())
    apart = (output.logits - exact).abs().max()
    assert 0 < apart < 0.05 * exact.abs().max().clamp_min(1)
    low.train()(*x).logits.sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in low.parameters())


def test_keys_are_left_out_for_all_queries_and_heads_alike():
    layer = Attention(32, 4, dropout=0.2)
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
        layer.value.weight.copy_(torch.eye(32))
        layer.output.weight.copy_(torch.eye(32))
    tokens = torch.eye(32)[None]  # token i is unit vector i: without a query all 32 get 1/32
    torch.testing.assert_close(layer.eval()(tokens, tokens), torch.full((1, 32, 32), 1 / 32))
    seen = layer.train()(tokens, tokens)[0]
    assert (seen == seen[0]).all()
    assert (seen[0] == 0).sum() == 6  # 0.2 of 32, rounded down
    torch.testing.assert_close(seen.sum(1), torch.ones(32))
    left = torch.stack([layer(tokens, tokens)[0, 0] == 0 for _ in range(400)]).float().mean(0)
    assert left.min() > 0.08  # every key has its turn: 6/32 = 0.19 expected, spread 0.02
    assert left.max() < 0.30

    layer.dropout_of = "weights"
    seen = layer(tokens, tokens)[0]
    assert not (seen == seen[0]).all()
    for n in (1, 2):  # and the only key is never left out
        assert Attention(32, 4, dropout=0.9).train()(tokens[:, :1], tokens[:, :n]).isfinite().all()


def test_wrong_bags_are_refused():
    model = small()
    x5, x10, x20 = bags((2, 3, 4))
    with pytest.raises(ValueError, match=r"x5 must be \(1, tiles, 7\).*nothing"):
        model(None, x10, x20)
    with pytest.raises(ValueError, match=r"x20 .*\(1, 4, 6\)"):
        model(x5, x10, x20[..., :6])
    with pytest.raises(ValueError, match=r"x10 .*one tile at least.*\(1, 0, 7\)"):
        model(x5, x10[:, :0], x20)


def test_biases_of_queries_keys_and_values():
    """As the released code has them; softmax does not see a shift that is common to all keys."""
    with torch.device("meta"):
        named = dict(CrossFusion(2048).named_parameters())
    counts = {
        part: sum(p.numel() for name, p in named.items() if name.endswith(f"{part}.bias"))
        for part in ("query", "key", "value")
    }
    assert counts == dict.fromkeys(counts, 5120)
    model, x = small().eval(), bags((5, 12, 40))
    before = model(*x).logits
    moved = {}
    for part in counts:
        changed = small().eval()
        with torch.no_grad():
            for name, p in changed.named_parameters():
                if name.endswith(f"{part}.bias"):
                    p.add_(torch.linspace(-1, 1, len(p)))
        moved[part] = (changed(*x).logits - before).abs().max().item()
    assert moved["key"] < 1e-4
    assert min(moved["query"], moved["value"]) > 1e-2


def test_grouped_convolutions_of_the_fusion():
    """As the released code has them: each of 256 channels out reads two of 512, with four kernels."""
    with torch.device("meta"):
        parts = CrossFusion(2048).fusion.parts
    assert sum(p.numel() for p in parts.parameters()) == 44_032
    assert {(part.in_channels, part.out_channels, part.groups) for part in parts} == {(512, 256, 256)}

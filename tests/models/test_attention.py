import math

import pytest
import torch
import torch.nn.functional as F

from lib.models import attention


def test_side_is_the_rounded_up_root():
    for n in [*range(1, 400), 3449, 3481, 3482, 35_000**2, 35_000**2 + 1]:
        side = attention.side_of(n)
        assert (side - 1) ** 2 < n <= side**2


def test_the_first_tokens_come_again_and_what_they_receive_goes_back_to_their_own():
    x = torch.arange(5.0)[None, :, None]
    assert attention.squared(x).flatten().tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    shares = torch.tensor([[0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1]])
    assert attention.unsquared(shares, 5)[0].tolist() == pytest.approx([0.3, 0.2, 0.2, 0.2, 0.1])
    assert torch.equal(attention.unsquared(shares, 9), shares)


@pytest.mark.parametrize(("width_in", "width_out"), [(12, 12), (12, 6), (12, 4)])
@pytest.mark.parametrize("side", [1, 2, 9])
def test_summed_kernels_equal_the_sum_of_convolutions(width_in, width_out, side):
    torch.manual_seed(0)
    parts = attention.convolutions(width_in, width_out, (7, 5, 3, 1)).double()
    x = torch.randn(1, side**2, width_in, dtype=torch.float64, requires_grad=True)
    picture = x[0].T.reshape(1, width_in, side, side)
    single = (
        F.conv2d(picture, p.weight, p.bias, padding=p.kernel_size[0] // 2, groups=width_out) for p in parts
    )
    naive, ours = sum(single)[0].flatten(1).T[None], attention.convolved(x, parts)
    torch.testing.assert_close(ours, naive)
    arrays, weights = [x, *parts.parameters()], torch.randn_like(naive)
    gradients = (torch.autograd.grad((each * weights).sum(), arrays) for each in (ours, naive))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_class_tokens_pass_unchanged():
    torch.manual_seed(0)
    positions = attention.PPEG(8)
    x = torch.randn(1, 10, 8)
    out = positions(x, class_tokens=1)
    assert torch.equal(out[:, :1], x[:, :1])
    torch.testing.assert_close(out[:, 1:], positions(x[:, 1:]))
    assert (out[:, 1:] - x[:, 1:]).abs().max() > 0.01


# models of 20x tiles

WIDTHS = (2048, 1536, 1024, 768, 512)
COUNTS = {
    attention.AMIL: (1_314_053, 1_051_909, 789_765, 658_693, 527_621),
    attention.DSMIL: (319_752, 243_976, 168_200, 130_312, 92_424),
    attention.TransMIL: (3_197_460, 2_935_316, 2_673_172, 2_542_100, 2_411_028),
    attention.MeanPool: (1_051_140, 788_996, 526_852, 395_780, 264_708),
}


def small(model, *arguments, **options):
    """A model of 7 features, the same at every call."""
    torch.manual_seed(0)
    return model(7, *arguments, **{"width": 64} | options if model is attention.TransMIL else options)


@pytest.mark.parametrize("model", COUNTS)
def test_parameter_counts_of_the_paper(model):
    with torch.device("meta"):
        found = [sum(p.numel() for p in model(width).parameters()) for width in WIDTHS]
    assert tuple(found) == COUNTS[model]


@pytest.mark.parametrize("model", COUNTS)
def test_wrong_input_is_refused(model):
    made = small(model)
    for bag in (None, torch.zeros(1, 0, 7), torch.zeros(1, 3, 8), torch.zeros(2, 3, 7)):
        with pytest.raises(ValueError, match=r"x20 must be \(1, tiles, 7\)"):
            made(torch.zeros(1, 2, 7), None, bag)


@pytest.mark.parametrize("model", COUNTS)
def test_only_transmil_sees_the_order_and_only_its_training_is_random(model):
    made, x = small(model).eval(), torch.randn(1, 50, 7)
    output = made(None, None, x, attention="received")
    logits = made(None, None, x).logits
    assert logits.shape == (1, 4)
    assert logits.dtype == torch.float32
    assert torch.equal(output.logits, logits)
    assert made(None, None, x).attention is None
    if model is attention.MeanPool:
        assert output.attention is None
    else:
        assert output.attention["tiles"].shape[2] == 50
        assert not output.attention["tiles"].requires_grad
    moved = (made(None, None, x[:, torch.randperm(50)]).logits - logits).abs().max()
    made.train()
    again = (made(None, None, x).logits - logits).abs().max()
    assert (moved > 1e-3, again > 1e-3) == ((True, True) if model is attention.TransMIL else (False, False))


@pytest.mark.parametrize("model", COUNTS)
def test_gradients_reach_every_parameter(model):
    made = small(model)
    made(None, None, torch.randn(1, 30, 7)).logits.sum().backward()
    # a number added to all of AMIL's scores cancels in the softmax
    idle = {"weight.bias"} if model is attention.AMIL else set()
    assert {name for name, p in made.named_parameters() if not p.grad.any()} <= idle
    assert all(p.grad.isfinite().all() for p in made.parameters())


@pytest.mark.parametrize("n", [1, 5, 300])
def test_amil_equals_tile_by_tile(n):
    model, x = small(attention.AMIL, width=16, gate=8), torch.randn(1, n, 7)
    tiles = [torch.clamp(model.project(tile), min=0) for tile in x[0]]
    scores = [
        model.weight(model.feature(t).tanh() * (1 / (1 + torch.exp(-model.gate(t))))).squeeze() for t in tiles
    ]
    total = sum(score.exp() for score in scores)
    shares = torch.stack([score.exp() / total for score in scores])
    pooled = sum(tile * share for tile, share in zip(tiles, shares, strict=True))
    output = model(None, None, x, attention="full")
    torch.testing.assert_close(output.logits[0], model.head(pooled), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(output.attention["tiles"][0, 0], shares.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n", [1, 300])
def test_mean_pool_is_of_the_mean_tile(n):
    model, x = small(attention.MeanPool, width=16), torch.randn(1, n, 7)
    mean = sum(torch.clamp(model.project(tile), min=0) for tile in x[0]) / n
    torch.testing.assert_close(model(None, None, x).logits[0], model.head(mean))
    torch.testing.assert_close(model(None, None, x.repeat(1, 3, 1)).logits[0], model.head(mean))


@pytest.mark.parametrize("variant", ["described", "released"])
@pytest.mark.parametrize("n", [1, 5, 300])
def test_dsmil_equals_tile_by_tile(n, variant):
    model, x = small(attention.DSMIL, variant, query=6), torch.randn(1, n, 7)
    scores = torch.stack([model.tiles(tile) for tile in x[0]])  # (n, bins)
    queries = torch.stack([model.query(tile) for tile in x[0]])
    bag, shares = [], []
    for k in range(4):
        critical = int(scores[:, k].argmax())
        weights = torch.stack([(q @ queries[critical]) / math.sqrt(6) for q in queries]).exp()
        shares.append(weights / weights.sum())
        bag.append(sum(w * tile for w, tile in zip(shares[-1], x[0], strict=True)))
    expected = torch.einsum("okd,kd->o", model.bag.weight, torch.stack(bag)) + model.bag.bias
    if variant == "described":
        expected = 0.5 * expected + 0.5 * scores.max(0).values
    output = model(None, None, x, attention="full")
    torch.testing.assert_close(output.logits[0], expected, rtol=1e-4, atol=1e-6)
    found = output.attention["tiles"][0]
    torch.testing.assert_close(found, torch.stack(shares).detach(), rtol=1e-4, atol=1e-6)


def test_dsmils_released_tile_stream_never_learns():
    released = small(attention.DSMIL, "released")
    released(None, None, torch.randn(1, 40, 7)).logits.sum().backward()
    assert released.tiles.weight.grad is None
    assert released.query[0].weight.grad.any()


def test_inverse_of_well_conditioned_matrices():
    torch.manual_seed(0)
    matrices = (torch.randn(2, 3, 9, 9) * 0.3 + 3 * torch.eye(9)).softmax(-1).double()
    torch.testing.assert_close(
        attention.inverse(matrices, 12), torch.linalg.pinv(matrices), rtol=1e-6, atol=1e-8
    )


def table(layer, x):
    """Every token's weights over every token, one head after the other, through plain tables; padding in front."""
    n, width = x.shape
    front = math.ceil(n / layer.landmarks) * layer.landmarks - n
    x = torch.cat([torch.zeros(front, width), x])
    size, run = width // layer.heads, len(x) // layer.landmarks
    query, key, value = (x @ w.T for w in layer.split.weight.split(width))

    def marks(y):
        return torch.stack([y[i * run : (i + 1) * run].sum(0) / run for i in range(layer.landmarks)])

    heads = [slice(h * size, (h + 1) * size) for h in range(layer.heads)]
    small = [torch.softmax(marks(query[:, h]) @ marks(key[:, h]).T / math.sqrt(size), 1) for h in heads]
    between = attention.inverse(torch.stack(small))
    tables, mixed = [], []
    for i, h in enumerate(heads):
        left = torch.softmax(query[:, h] @ marks(key[:, h]).T / math.sqrt(size), 1)
        right = torch.softmax(marks(query[:, h]) @ key[:, h].T / math.sqrt(size), 1)
        tables.append(left @ between[i] @ right)
        near = F.conv2d(value[None, None, :, h], layer.along.weight[i : i + 1], padding=layer.along.padding)
        mixed.append(tables[-1] @ value[:, h] + near[0, 0])
    return torch.stack(tables)[:, front:, front:], layer.output(torch.cat(mixed, 1))[front:]


@pytest.mark.parametrize("n", [1, 7, 8, 50])
def test_nystrom_attention_equals_its_tables(n):
    torch.manual_seed(0)
    layer = attention.NystromAttention(16, 2, landmarks=8, kernel=5).eval()
    x = torch.randn(1, n, 16)
    mixed, row = layer(x, look=True)
    weights, expected = table(layer, x[0])
    torch.testing.assert_close(mixed[0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(row[0], weights[:, 0].detach(), rtol=1e-4, atol=1e-5)


def test_half_precision_around_transmil_leaves_the_inverse_alone():
    model, x = small(attention.TransMIL).eval(), torch.randn(1, 30, 7)
    exact = model(None, None, x).logits
    with torch.autocast("cpu", torch.bfloat16):
        low = model(None, None, x).logits
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, rtol=0.05, atol=0.05)

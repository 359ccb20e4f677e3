import math

import pytest
import torch
import torch.nn.functional as F

from lib.models.mil import NystromAttention, TransMIL, inverse

COUNTS = {2048: 3_197_460, 1536: 2_935_316, 1024: 2_673_172, 768: 2_542_100, 512: 2_411_028}


@pytest.mark.parametrize("in_dim", COUNTS)
def test_parameter_counts_of_the_paper(in_dim):
    with torch.device("meta"):
        assert sum(p.numel() for p in TransMIL(in_dim).parameters()) == COUNTS[in_dim]


def test_inverse_of_well_conditioned_matrices():
    torch.manual_seed(0)
    matrices = (torch.randn(2, 3, 9, 9) * 0.3 + 3 * torch.eye(9)).softmax(-1).double()
    torch.testing.assert_close(inverse(matrices, 12), torch.linalg.pinv(matrices), rtol=1e-6, atol=1e-8)


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
    between = torch.stack(
        [torch.softmax(marks(query[:, h]) @ marks(key[:, h]).T / math.sqrt(size), 1) for h in heads]
    )
    between = inverse(between)
    tables, mixed = [], []
    for i, h in enumerate(heads):
        left = torch.softmax(query[:, h] @ marks(key[:, h]).T / math.sqrt(size), 1)
        right = torch.softmax(marks(query[:, h]) @ key[:, h].T / math.sqrt(size), 1)
        tables.append(left @ between[i] @ right)
        near = F.conv2d(value[None, None, :, h], layer.along.weight[i : i + 1], padding=layer.along.padding)
        mixed.append(tables[-1] @ value[:, h] + near[0, 0])
    return torch.stack(tables)[:, front:, front:], layer.output(torch.cat(mixed, 1))[front:]


@pytest.mark.parametrize("n", [1, 2, 7, 8, 50])
def test_attention_equals_its_tables(n):
    torch.manual_seed(0)
    layer = NystromAttention(16, 2, landmarks=8, kernel=5).eval()
    x = torch.randn(1, n, 16)
    mixed, row = layer(x, look=True)
    weights, expected = table(layer, x[0])
    torch.testing.assert_close(mixed[0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(row[0], weights[:, 0].detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 5, 300])
def test_shapes_and_evaluation(n):
    torch.manual_seed(0)
    model = TransMIL(7, width=64).eval()
    x = torch.randn(1, n, 7)
    output = model(None, None, x, attention="received")
    assert output.logits.shape == (1, 4)
    assert output.attention["tiles"].shape == (1, 8, n)
    assert not output.attention["tiles"].requires_grad
    assert torch.equal(model(None, None, x).logits, output.logits)
    assert model(None, None, x).attention is None
    model.train()
    assert not torch.equal(model(None, None, x).logits, model(None, None, x).logits)


def test_order_matters():
    torch.manual_seed(0)
    model, x = TransMIL(7, width=64).eval(), torch.randn(1, 50, 7)
    moved = model(None, None, x[:, torch.randperm(50)]).logits
    assert (moved - model(None, None, x).logits).abs().max() > 1e-3


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    model = TransMIL(7, width=64)
    model(None, None, torch.randn(1, 30, 7)).logits.sum().backward()
    assert all(p.grad.any() and p.grad.isfinite().all() for p in model.parameters())


def test_half_precision_around_it_leaves_the_inverse_alone():
    torch.manual_seed(0)
    model, x = TransMIL(7, width=64).eval(), torch.randn(1, 30, 7)
    exact = model(None, None, x).logits
    with torch.autocast("cpu", torch.bfloat16):
        low = model(None, None, x).logits
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, rtol=0.05, atol=0.05)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"TransMIL\(variant='best'\)"):
        TransMIL(7, "best")
    with pytest.raises(ValueError, match=r"x20 must be \(1, tiles, 7\)"):
        TransMIL(7)(None, None, torch.zeros(2, 3, 7))

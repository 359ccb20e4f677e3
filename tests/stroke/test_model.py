import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from lib.stroke.model import FUSIONS, StrokeNet, VolumeEncoder, WideAttention

sys.path.insert(0, str(Path(__file__).parent))
from plain_stroke import Plain

SMALL = {"shape": (32, 32, 16), "frames": 4}
# spec: of the released model, by shape and frames
COUNTS = {
    ((512, 512, 16), 32): 154_161_410,
    ((256, 256, 16), 32): 10_527_746,
    ((128, 128, 16), 32): 1_530_050,
    ((64, 64, 16), 32): 962_546,
    ((32, 32, 16), 4): 925_790,
}


def parameters(part):
    return sum(p.numel() for p in part.parameters())


def patients(n, frames=4, shape=(32, 32, 16), dtype=torch.float32, seed=5):
    draw = torch.Generator().manual_seed(seed)
    series = torch.randn(n, frames, *shape, generator=draw, dtype=dtype)
    continuous = torch.rand(n, 4, generator=draw, dtype=dtype)
    codes = torch.stack([torch.randint(k, (n,), generator=draw) for k in (2, 2, 2, 2, 3)], 1)
    return series, continuous, codes


def lively(**options):
    """Weights far from their start, so that every part shows in the logit."""
    torch.manual_seed(2)
    model = StrokeNet(**SMALL | options).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim < 5:  # the CNN's kernels are large enough from the start
                p.add_((0.1 if name.startswith("encoder") else 0.4) * torch.randn_like(p))
    return model


# --- golden numbers: the released model in TensorFlow, filled by a formula


def filled(k, shape, kind):
    """Weights of the recipe in Keras' layout; a sine times 43,758 needs double precision."""
    x = np.sin(12.9898 * np.arange(math.prod(shape)) + 78.233 * k) * 43758.5453
    u = (x - np.floor(x) - 0.5).reshape(shape)
    if kind == "conv":
        u = u * np.sqrt(24 / math.prod(shape[:-1]))
    elif kind == "bias":
        u = 0.2 * u
    elif kind == "gamma":
        u = 1 + 0.2 * u
    return torch.from_numpy(u.astype(np.float32))


def golden(positional):
    model = StrokeNet(**SMALL, positional=positional).eval()
    e, h, k = model.width, 8, 0
    assert e == 4

    def take(shape, kind="dense"):
        nonlocal k
        k += 1
        return filled(k - 1, shape, kind)

    def dense(layer, ins, outs):
        layer.weight.copy_(take((ins, outs)).T)
        layer.bias.copy_(take((outs,), "bias"))

    def attention(part):
        for layer in (part.query, part.key, part.value):
            layer.weight.copy_(take((e, h, e)).reshape(e, h * e).T)
            layer.bias.copy_(take((h, e), "bias").flatten())
        part.output.weight.copy_(take((h, e, e)).reshape(h * e, e).T)
        part.output.bias.copy_(take((e,), "bias"))

    def norm(layer):
        layer.weight.copy_(take((e,), "gamma"))
        layer.bias.copy_(take((e,), "bias"))

    a, b = model.imaging_asks, model.clinical_asks
    with torch.no_grad():
        for i in range(4):
            model.tokens.slopes[i] = take((1, e))[0]
            model.tokens.offsets[i] = take((e,), "bias")
        model.tokens.levels.weight.copy_(torch.cat([take((n, e)) for n in (2, 2, 2, 2, 3)]))
        for level in model.encoder.levels:
            for layer in (level.first, level.second, level.down):
                outs, ins, *size = layer.weight.shape
                layer.weight.copy_(take((*size, ins, outs), "conv").permute(4, 3, 0, 1, 2))
                layer.bias.copy_(take((outs,), "bias"))
        for branch in (model.imaging, model.clinical):
            branch.class_token.copy_(take((1, 1, e)))
        for branch in (model.imaging, model.clinical):
            attention(branch.attention)
        for branch in (model.imaging, model.clinical):
            norm(branch.norm)
        attention(a.attention)
        attention(b.attention)
        norm(a.norm1)
        norm(b.norm1)
        dense(a.linear, e, e)
        dense(b.linear, e, e)
        norm(a.norm2)
        norm(b.norm2)
        dense(model.head[0], 2 * e, 4 * e)
        dense(model.head[3], 4 * e, 2 * e)
        dense(model.head[6], 2 * e, 1)
        for branch in (model.imaging, model.clinical):
            p, c = torch.meshgrid(
                torch.arange(len(branch.positions)), torch.arange(e), indexing="ij"
            )  # position, channel
            branch.positions.copy_(0.02 * torch.cos(0.3 * p.double() + 0.11 * c.double()))
    assert k == 93
    t, i, j, z = np.meshgrid(*map(np.arange, (4, 32, 32, 16)), indexing="ij")
    series = torch.from_numpy(np.sin(0.05 * i + 0.07 * j + 0.11 * z + 0.9 * t).astype(np.float32))
    inputs = series[None], torch.tensor([[0.25, 0.5, 0.75, 1.0]]), torch.tensor([[1, 0, 1, 0, 2]])
    return model, inputs


@pytest.mark.parametrize("positional", ["learned", "frozen"])
def test_golden_numbers_of_the_reference(positional):
    model, inputs = golden(positional)
    seen = {}
    watched = {"encoder": model.encoder, "tokens": model.tokens, "imaging": model.imaging} | {
        "clinical": model.clinical,
        "head0": model.head,
        "head1": model.head[1],
        "head2": model.head[4],
    }
    for name, part in watched.items():

        def hook(part, took, gave, name=name):
            seen[name] = took[0] if name == "head0" else gave[0] if isinstance(gave, tuple) else gave

        part.register_forward_hook(hook)
    with torch.inference_mode():
        logit = model(*inputs).logit

    expected = {
        "encoder": [
            [0.36085674, 0.80657613, 0.22850135, 0.3370675],
            [0.3401204, 0.58177984, -0.44833258, 0.48912647],
            [-0.03322377, 0.85617214, -0.34563836, 0.5480396],
            [0.15886885, 0.7141058, -0.053333, 0.18258777],
        ],
        "tokens": [[0, 0.153440, 0, 0.005505], [0, 0, 0, 0], [0, 0.175199, 0, 0], [0.399384, 0.237359, 0, 0]],
        "imaging": [[1.838387, -0.412906, -0.562903, -0.766132]],
        "clinical": [[-1.073683, -0.893583, 1.149192, 0.747794]],
    }
    for name, rows in expected.items():
        found = seen[name][0, : len(rows)]
        torch.testing.assert_close(found, torch.tensor(rows), rtol=0, atol=1e-5, msg=name)
    fused = [1.672607, -0.347533, -0.615555, -0.883734, -0.515238, 0.178651, -1.142959, 1.536615]
    torch.testing.assert_close(seen["head0"][0], torch.tensor(fused), rtol=0, atol=1e-5)
    assert seen["tokens"].sum().item() == pytest.approx(-0.374131, abs=1e-5)
    assert seen["head1"].sum().item() == pytest.approx(6.749710, abs=1e-4)
    assert seen["head2"].sum().item() == pytest.approx(2.823596, abs=1e-4)
    assert logit.item() == pytest.approx(0.220630, abs=1e-5)
    assert logit.sigmoid().item() == pytest.approx(0.55493492, abs=1e-5)
    assert model.penalty().item() == pytest.approx(0.04801522, abs=1e-7)
    for target, loss in ((1.0, 0.58890444), (0.0, 0.80953473)):
        bce = torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.tensor([target]))
        assert bce.item() == pytest.approx(loss, abs=1e-5)


# --- sizes


@pytest.mark.parametrize(("size", "count"), COUNTS.items())
def test_parameter_counts_of_the_reference(size, count):
    with torch.device("meta"):
        model = StrokeNet(*size, "frozen")
        learned = StrokeNet(*size)
    assert parameters(model) == count
    assert parameters(learned) == count + (size[1] + 9) * model.width


def test_initial_values_are_those_of_keras():
    torch.manual_seed(0)
    kernel = VolumeEncoder().levels[2].second.weight  # 64 -> 64
    spread = math.sqrt(2 / (27 * 64))
    assert kernel.std().item() == pytest.approx(spread, rel=0.02)
    assert 0.99 < kernel.abs().max().item() / (2 * spread / 0.8796) <= 1  # cut
    attention, model = WideAttention(32, 8), StrokeNet((64, 64, 16), 32)
    limits = [  # of uniform weights: Glorot as Keras reckons it, or Keras' embedding
        (attention.query.weight, math.sqrt(6 / (32 * 8 + 32 * 32))),
        (attention.output.weight, math.sqrt(6 / (8 * 32 + 8 * 32))),
        (model.tokens.slopes, math.sqrt(6 / 17)),
        (model.clinical_asks.linear.weight, math.sqrt(6 / 32)),
        (model.tokens.levels.weight, 0.05),
        (model.imaging.positions, 0.05),
    ]
    for weight, limit in limits:
        assert 0.9 < weight.abs().max().item() / limit <= 1
    assert not any(part.bias.any() for part in model.modules() if hasattr(part, "out_features"))
    assert not model.imaging.class_token.any()
    assert not model.tokens.offsets.any()


# --- the fast against the plain


@pytest.mark.parametrize("positional", ["learned", "frozen"])
@pytest.mark.parametrize("how", [{}, {"frames_at_once": 3}, {"bf16": True}])
def test_logits_and_gradients_equal_the_plain_reference(how, positional):
    exact = not how.get("bf16")
    model = lively(positional=positional, dropout=0.0, widths=(4, 6, 8, 10), **how).train()
    x = patients(3)
    if exact:
        model, x = model.double(), (x[0].double(), x[1].double(), x[2])
    ours = model(*x).logit
    named = dict(model.named_parameters())
    plain = Plain(named | dict(model.named_buffers()))(*x)
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=ours.dtype)
    mine = torch.autograd.grad((ours * weights).sum(), list(named.values()))
    theirs = torch.autograd.grad((plain * weights).sum(), list(named.values()))
    assert all(gradient.abs().max() > 0 for gradient in theirs)
    if not exact:  # eight bits of a number: close, and not the same
        assert 0 < (ours - plain).abs().max() < 0.1 * plain.abs().max()
        assert ours.dtype == mine[0].dtype == torch.float32
        return
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)
    for name, a, b in zip(named, mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


def test_frames_in_parts_are_computed_again_for_the_backward_pass(monkeypatch):
    calls, plain = [], VolumeEncoder.tokens
    monkeypatch.setattr(VolumeEncoder, "tokens", lambda self, x: calls.append(len(x)) or plain(self, x))
    for at_once, expected in ((0, [8]), (4, [4] * 4)):
        encoder = VolumeEncoder((4, 4, 4, 4), frames_at_once=at_once)
        encoder(torch.randn(2, 4, 16, 16, 16)).sum().backward()
        assert calls == expected
        calls.clear()


# --- what follows from the architecture


@pytest.mark.parametrize("positional", ["learned", "frozen"])
def test_order_of_frames_matters_through_positions_only(positional):
    model = lively(positional=positional)
    series, *clinical = patients(2)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        model.imaging.positions.mul_(20)
        before, moved = model(series, *clinical).logit, model(series[:, order], *clinical).logit
        assert (moved - before).abs().max() > 1e-3
        model.imaging.positions.copy_(model.imaging.positions[order])
        back = model(series[:, order], *clinical).logit
        torch.testing.assert_close(back, before, rtol=0, atol=1e-5)
        model.imaging.positions.zero_()
        before, moved = model(series, *clinical).logit, model(series[:, order], *clinical).logit
        torch.testing.assert_close(moved, before, rtol=0, atol=1e-5)


def test_patients_of_a_batch_do_not_see_each_other():
    model = lively()
    series, continuous, codes = patients(3)
    missing = torch.zeros(3, 9, dtype=torch.bool)
    missing[1, 2] = missing[2, :8] = True
    with torch.inference_mode():
        together = model(series, continuous, codes, missing).logit
        for i in range(3):
            alone = model(
                series[i : i + 1], continuous[i : i + 1], codes[i : i + 1], missing[i : i + 1]
            ).logit
            torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_input_is_read_and_no_other(fusion):
    model = lively(fusion=fusion)
    x, other = patients(2), patients(2, seed=6)
    with torch.inference_mode():
        before = model(*x).logit
        moved = {
            "imaging": (model(other[0], *x[1:]).logit - before).abs().max().item(),
            "continuous": (model(x[0], other[1], x[2]).logit - before).abs().max().item(),
            "categorical": (model(*x[:2], other[2]).logit - before).abs().max().item(),
        }
    read = {"imaging": ["imaging"], "clinical": ["continuous", "categorical"]}.get(fusion, list(moved))
    assert {name for name, by in moved.items() if by > 1e-4} == set(read), moved
    assert all(by == 0 for name, by in moved.items() if name not in read)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_parameter_learns(fusion):
    model = lively(fusion=fusion).train()
    (model(*patients(3)).logit.sum() + model.penalty()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_penalty_is_of_the_large_kernels_only():
    model = lively()
    kernels = [p for name, p in model.named_parameters() if p.ndim == 5 and p.shape[-1] == 3]
    assert len(kernels) == 8
    assert model.penalty(0.5).item() == pytest.approx(0.5 * sum(p.square().sum().item() for p in kernels))
    assert lively(fusion="clinical").penalty() == 0


# --- missing variables


def test_missing_gradients_are_finite_and_zero():
    model = lively().train()
    series, continuous, codes = patients(3)
    missing = torch.zeros(3, 9, dtype=torch.bool)
    missing[:, 1] = True
    continuous[:, 1] = math.nan
    model(series, continuous, codes, missing).logit.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert not model.tokens.slopes.grad[1].any()
    assert not model.clinical.positions.grad[1].any()
    assert model.tokens.slopes.grad[0].any()


@pytest.mark.parametrize("gone", [[0], [3, 8], [0, 1, 2, 3], list(range(9))])
def test_missing_variables_are_as_if_they_were_not_there(gone):
    model = lively().double()
    series, continuous, codes = patients(2, dtype=torch.float64)
    missing = torch.zeros(2, 9, dtype=torch.bool)
    missing[:, gone] = True
    with torch.inference_mode():
        ours = model(series, continuous, codes, missing, attention=True)
        kept = [i for i in range(9) if i not in gone]
        plain = Plain(model.state_dict(), kept=kept)(series, continuous, codes)
    torch.testing.assert_close(ours.logit, plain, rtol=1e-9, atol=1e-9)
    for name in ("clinical", "imaging_asks"):
        assert not ours.attention[name][..., 1:][..., gone].any()
        assert ours.attention[name][..., 0].all()


# --- attention


def test_attention_is_of_every_head_and_sums_to_one():
    model = lively().train()
    x = patients(2)
    model.eval()
    outcome = model(*x, attention=True)
    torch.testing.assert_close(outcome.logit, model(*x).logit, rtol=0, atol=1e-6)
    assert {name: tuple(weights.shape) for name, weights in outcome.attention.items()} == {
        "imaging": (2, 8, 5, 5),
        "clinical": (2, 8, 10, 10),
        "imaging_asks": (2, 8, 5, 10),
        "clinical_asks": (2, 8, 10, 5),
    }
    for weights in outcome.attention.values():
        torch.testing.assert_close(weights.sum(3), torch.ones(weights.shape[:3]))
        assert not weights.requires_grad
    assert model(*x).attention is None


# --- saved and read again


@pytest.mark.parametrize("positional", ["learned", "frozen"])
def test_positions_are_saved_with_the_weights(positional):
    model = lively(positional=positional)
    x = patients(2)
    state = model.state_dict()
    assert {name for name in state if "positions" in name} == {"imaging.positions", "clinical.positions"}
    trained = {name for name, _ in model.named_parameters() if "positions" in name}
    assert len(trained) == (2 if positional == "learned" else 0)
    torch.manual_seed(9)
    other = StrokeNet(**SMALL, positional=positional).eval()
    assert (other(*x).logit - model(*x).logit).abs().max() > 1e-3
    other.load_state_dict(load(save(state)))
    torch.testing.assert_close(other(*x).logit, model(*x).logit, rtol=0, atol=0)


# --- refused


def test_refused_inputs():
    """A code too high would be read from the table of the next variable."""
    model = lively()
    series, continuous, codes = patients(2)
    bad, high = continuous.clone(), codes.clone()
    bad[1, 3], high[0, 4] = math.nan, 3
    for given, heard in (
        ((series[:, :3], continuous, codes), r"series must be \(b, 4, 32, 32, 16\)"),
        ((None, continuous, codes), "series must be"),
        ((series, bad, codes), "not finite and not marked as missing"),
        ((series, continuous, high), r"none of its levels \(2, 2, 2, 2, 3\)"),
        ((series, continuous, -1 - codes), "none of its levels"),
    ):
        with pytest.raises(ValueError, match=heard):
            model(*given)

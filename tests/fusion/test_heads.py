import math

import numpy as np
import pytest
import torch

from lib.fusion.heads import HEADS, Attention, mean_of
from lib.fusion.model import Fusion, count, hidden_of
from lib.fusion.params import HEADS as NAMES

WIDTH, MODALITIES = 8, 5


def made(name: str, modalities: int = MODALITIES, hidden: int = 6, seed: int = 1):
    torch.manual_seed(seed)
    return HEADS[name](modalities, WIDTH, hidden).eval()


def patients(n: int = 7, modalities: int = MODALITIES, seed: int = 2):
    torch.manual_seed(seed)
    present = torch.rand(n, modalities) > 0.35
    present[:, 0] |= ~present.any(1)
    return torch.randn(n, modalities, WIDTH) * present.unsqueeze(-1), present


def test_every_contender_has_its_head():
    assert tuple(HEADS) == NAMES


@pytest.mark.parametrize("name", HEADS)
def test_what_an_absent_modality_holds_changes_nothing_and_nobody_attends_to_it(name):
    torch.manual_seed(3)
    network = Fusion(dict.fromkeys("abcde", 3), HEADS[name], WIDTH, 4).eval()
    torch.nn.init.normal_(network.output.weight)
    _, present = patients()
    columns = {key: torch.randn(7, 3) for key in "abcde"}
    other = {
        key: torch.where(present[:, [place]], values, 100 * torch.randn(7, 3))
        for place, (key, values) in enumerate(columns.items())
    }
    said, again = network(columns, present), network(other, present)
    torch.testing.assert_close(said.logits, again.logits)
    if said.attention is not None:
        seen = said.attention if said.attention.ndim == 3 else said.attention[:, None]
        assert seen.transpose(1, 2)[~present].abs().max() == 0


@pytest.mark.parametrize("name", HEADS)
def test_patients_do_not_see_each_other(name):
    head, (tokens, present) = made(name), patients()
    together = head(tokens, present).vector
    alone = torch.cat([head(tokens[[row]], present[[row]]).vector for row in range(len(tokens))])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in HEADS if name not in ("concat", "late", "rcsa")])
def test_the_order_of_molecular_modalities_matters_only_where_a_head_knows_them_by_place(name):
    head, (tokens, present) = made(name), patients()
    order = [0, 3, 1, 4, 2]
    torch.testing.assert_close(
        head(tokens, present).vector, head(tokens[:, order], present[:, order]).vector, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", HEADS)
def test_gradient_reaches_every_weight_and_the_tokens(name):
    head, (tokens, present) = made(name), patients()
    tokens.requires_grad_()
    fused = head(tokens, present)
    loss = (fused.vector * torch.randn_like(fused.vector)).sum()
    (loss + (fused.loss.sum() if torch.is_tensor(fused.loss) else 0.0)).backward()
    for key, weight in head.named_parameters():
        if not key.endswith("key.bias"):  # which adds the same to every score
            assert weight.grad.abs().max() > 0, key
    reached = tokens.grad.abs().sum(2) > 0
    # where all of a patient's rectifiers are shut, none of the tokens is heard
    assert reached[present].all() if name != "kronecker" else reached.any(0).all()


@pytest.mark.parametrize("width", [8, 16, 32])
@pytest.mark.parametrize("modalities", [2, 3, 9])
def test_heads_have_parameters_within_a_tenth_of_each_other(modalities, width):
    sizes = {
        name: count(head(modalities, width, hidden_of(head, modalities, width)))
        for name, head in HEADS.items()
    }
    assert max(sizes.values()) / min(sizes.values()) < 1.1, sizes


def test_counting_parameters_draws_no_weights():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    hidden_of(HEADS["rcsa"], 4, 8)
    assert torch.equal(torch.randn(3), expected)


def softmax(scores):
    parts = [math.exp(score - max(scores)) for score in scores]
    return [part / sum(parts) for part in parts]


def linear(layer, x):
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    return np.array([sum(w * v for w, v in zip(row, x, strict=True)) for row in weight]) + bias


def naive_attention(layer: Attention, asking, asked, present):
    """One patient, one query after the other, one head after the other."""
    there = [place for place, is_there in enumerate(present) if is_there]
    size, mixed, weights = asked.shape[1] // layer.heads, [], np.zeros((len(asking), len(asked)))
    for number, query in enumerate(asking):
        parts = []
        for head in range(layer.heads):
            cut = slice(head * size, (head + 1) * size)
            values = [linear(layer.value, asked[j])[cut] for j in there]
            scores = [0.0 for _ in there]  # uniform
            if layer.query is not None:
                q, keys = linear(layer.query, query)[cut], [linear(layer.key, asked[j])[cut] for j in there]
                scores = [float(q @ key) / math.sqrt(size) for key in keys]
            share = softmax(scores) if there else []
            parts.append(sum((s * v for s, v in zip(share, values, strict=True)), np.zeros(size)))
            weights[number, there] += np.array(share) / layer.heads
        mixed.append(linear(layer.output, np.concatenate(parts)))
    return np.array(mixed), weights


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_that_of_a_plain_loop(heads):
    torch.manual_seed(1)
    layer, (tokens, present) = Attention(WIDTH, heads), patients()
    asking = torch.randn(7, 2, WIDTH)
    mixed, weights = layer(asking, tokens, present)
    for row in range(7):
        plain = naive_attention(
            layer, asking[row].double().numpy(), tokens[row].double().numpy(), present[row]
        )
        np.testing.assert_allclose(mixed[row].detach(), plain[0], atol=1e-5)
        np.testing.assert_allclose(weights[row].detach(), plain[1], atol=1e-6)


def normed(x, layer):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + layer.eps)
    return x * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def fed(feed, x):
    gelu = np.vectorize(lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))))
    return linear(feed[2], gelu(linear(feed[0], x)))


def naive_rcsa(head, tokens, present):
    t = tokens + head.kind.detach().numpy()
    y = normed(t, head.norms[0])
    x = normed(t + naive_attention(head.among, y, y, present)[0], head.norms[1])
    query = head.query.detach().double().numpy()
    read, weights = naive_attention(head.reading, query, x, present)
    z = query[0] + read[0]
    return normed(z + fed(head.feed, normed(z, head.norms[2])), head.norms[3]), weights[0]


def naive_mcat(head, tokens, present):
    asked, weights = naive_attention(head.asks, tokens[1:], tokens, present)
    there = [j for j, is_there in enumerate(present[1:]) if is_there]
    pooled = []
    for k, bag in enumerate((asked, tokens[1:])):
        scores = []
        for j in there:
            gate = 1 / (1 + np.exp(-linear(head.gates[k], bag[j])))
            scores.append(linear(head.weights[k], np.tanh(linear(head.features[k], bag[j])) * gate)[0])
        pooled.append(sum((s * bag[j] for s, j in zip(softmax(scores), there, strict=True)), np.zeros(WIDTH)))
    return fed(head.feed, np.concatenate(pooled)), sum(weights[j] for j in there) / max(1, len(there))


def naive_kronecker(head, tokens, present):
    there = [j for j in range(1, len(tokens)) if present[j]]
    sides = [tokens[0], sum((tokens[j] for j in there), np.zeros(WIDTH)) / max(1, len(there))]
    factors = []
    for k, side in enumerate(sides):
        gate = 1 / (1 + np.exp(-linear(head.gates[k], np.concatenate(sides))))
        gated = linear(head.outputs[k], gate * np.maximum(linear(head.layers[k], side), 0))
        factors.append(np.append(np.maximum(gated, 0), 1.0))
    return fed(head.feed, np.array([a * b for a in factors[0] for b in factors[1]])), None


def naive_late(head, tokens, present):
    there = [j for j, is_there in enumerate(present) if is_there]
    return sum(fed(head.networks[j], tokens[j]) for j in there) / len(there), None


def naive_spacrd(head, tokens, present):
    there = [j for j in range(1, len(tokens)) if present[j]]
    asked, weights = naive_attention(head.first, tokens[:1], tokens[1:], present[1:])
    others = sum((tokens[j] for j in there), np.zeros(WIDTH)) / max(1, len(there))
    answer, _ = naive_attention(head.second, others[None], tokens[:1], present[:1])
    fused = normed(linear(head.join, np.concatenate([asked[0], answer[0]])), head.norm)
    return linear(head.squeeze[2], np.maximum(linear(head.squeeze[0], fused), 0)), np.append(0.0, weights[0])


def naive_crossfusion(head, tokens, present):
    source = tokens[1:]
    coarse = normed(source + naive_attention(head.coarse, source, tokens[:1], present[:1])[0], head.norms[0])
    fine = normed(source + naive_attention(head.fine, source, source, present[1:])[0], head.norms[1])
    w = head.streams.detach().numpy()
    y = normed(w[0] * source + w[1] * coarse + w[2] * fine, head.norms[2])
    query = head.class_token.detach().double().numpy()
    read, weights = naive_attention(head.reading, query, y, present[1:])
    z = query[0] + read[0]
    return z + fed(head.feed, normed(z, head.norms[3])), np.append(0.0, weights[0])


NAIVE = {
    "rcsa": naive_rcsa,
    "mcat": naive_mcat,
    "kronecker": naive_kronecker,
    "late": naive_late,
    "spacrd": naive_spacrd,
    "crossfusion": naive_crossfusion,
}


@pytest.mark.parametrize("name", NAIVE)
def test_a_published_head_is_its_equation_patient_by_patient(name):
    head, (tokens, present) = made(name), patients()
    fused = head(tokens, present)
    for row in range(len(tokens)):
        vector, weights = NAIVE[name](head, tokens[row].double().numpy(), present[row].numpy())
        np.testing.assert_allclose(fused.vector[row].detach(), vector, atol=2e-5)
        if weights is not None:
            np.testing.assert_allclose(fused.attention[row].detach(), weights, atol=1e-5)


def test_uniform_attention_is_the_mean_of_values():
    head, (tokens, present) = made("uniform-attention"), patients()
    attention = head.attention
    mixed, weights = attention(tokens, tokens, present)
    mean = mean_of(attention.value(tokens), present)
    torch.testing.assert_close(mixed, attention.output(mean)[:, None].expand_as(mixed))
    assert torch.equal(weights > 0, present[:, None].expand_as(weights))
    torch.testing.assert_close(weights.sum(2), torch.ones(7, MODALITIES))


def test_self_attention_whose_queries_are_nought_is_uniform_attention():
    attentive, uniform = made("self-attention"), made("uniform-attention")
    torch.nn.init.zeros_(attentive.attention.query.weight)
    torch.nn.init.zeros_(attentive.attention.query.bias)
    uniform.load_state_dict({key: attentive.state_dict()[key] for key in uniform.state_dict()})
    one, other = (head(*patients()) for head in (attentive, uniform))
    torch.testing.assert_close(one.vector, other.vector)
    torch.testing.assert_close(one.attention, other.attention)


def test_who_lacks_every_molecular_modality_still_gets_a_number():
    tokens, present = patients()
    present = present.clone()
    present[0] = torch.arange(MODALITIES) == 0
    tokens = tokens * present.unsqueeze(-1)
    for name in HEADS:
        fused = made(name)(tokens, present)
        assert fused.vector.isfinite().all(), name


def test_spacrd_pays_for_being_far_from_the_centre_of_its_category():
    head, (tokens, present) = made("spacrd"), patients()
    with torch.no_grad():
        head.centres.copy_(torch.stack([torch.zeros(WIDTH // 2), torch.full((WIDTH // 2,), 50.0)]))
    late, early = head(tokens, present).loss.T
    assert (early > late + 1).all()

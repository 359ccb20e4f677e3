import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lib.spacrd.features import nearest
from lib.spacrd.model import SpaCRD, contrastive_loss, fused_loss, fusion_losses

sys.path.insert(0, str(Path(__file__).parent))
from released import SlowSpaCRD, load, total_loss


def quiet(model):
    """Without dropout: the two versions draw it in another order."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return model


@pytest.fixture
def tissue():
    random = np.random.default_rng(3)
    xy = random.uniform(0, 10, (60, 2))
    image, genes = (torch.as_tensor(random.normal(size=(60, d)), dtype=torch.float32) for d in (9, 14))
    return image, genes, torch.as_tensor(nearest(xy, 7)), torch.as_tensor(random.integers(0, 2, 60))


def twins(variant):
    torch.manual_seed(1)
    fast = quiet(SpaCRD(9, 14, variant=variant))
    slow = quiet(SlowSpaCRD(9, 14, axis=1 if variant == "released" else 2))
    return fast, load(slow, fast)


def test_parameter_count_of_the_paper():
    assert sum(p.numel() for p in SpaCRD(1024, 3000).parameters()) == 8_694_913


@pytest.mark.parametrize("variant", ["released", "described"])
def test_scores_equal_the_slow_version(tissue, variant):
    image, genes, neighbours, _ = tissue
    fast, slow = twins(variant)
    # running statistics that differ from 0 and 1, so that evaluation mode is really compared
    for part in [*fast.modules()]:
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    load(slow, fast)
    with torch.inference_mode():
        ours = fast.eval()(image, genes, neighbours)
        theirs = slow.eval()(image[neighbours], genes[neighbours])
    pairs = ((ours.logit, theirs[0]), (ours.fused, theirs[1]), (ours.mu, theirs[3]), (ours.logvar, theirs[4]))
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("classify", [False, True])
def test_released_training_step_equals_the_slow_version(tissue, classify):
    image, genes, neighbours, labels = tissue
    centres = torch.arange(0, 60, 3)  # a batch: its spots stand in it unequally often
    fast, slow = (model.train() for model in twins("released"))

    spots, local = torch.unique(neighbours[centres], return_inverse=True)
    torch.manual_seed(5)
    output = fast(image[spots], genes[spots], local)
    terms = fusion_losses(output, labels[centres], fast.class_centres)
    ours = fused_loss(terms, "released")
    ours = terms["classification"] + 0.1 * ours if classify else ours
    torch.manual_seed(5)
    around = neighbours[centres]
    theirs = total_loss(slow, slow(image[around], genes[around]), labels[centres], classify=classify)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)

    ours.backward()
    theirs.backward()
    gradients = [
        (fast.gene_encoder.linear1.weight, slow.encoders[1][0].weight),
        (fast.image_encoder.norm2.weight, slow.encoders[0][5].weight),
        (fast.attentions[0].key.weight, slow.attentions[0]["k"].weight),
        (fast.attentions[1].value.bias, slow.attentions[1]["v"].bias),
        (fast.class_centres, slow.centres),
    ]
    for a, b in gradients:
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-6)
    norm, naive = fast.gene_encoder.norm1, slow.encoders[1][1]
    torch.testing.assert_close(norm.running_mean, naive.running_mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(norm.running_var, naive.running_var, rtol=1e-4, atol=1e-6)


def test_dropout_is_drawn_for_every_copy_as_released_and_once_a_spot_as_described(tissue):
    image, genes, neighbours, _ = tissue
    for variant, distinct in (("released", 420), ("described", 60)):
        model, seen = SpaCRD(9, 14, variant=variant).train(), []
        model.gene_encoder.register_forward_hook(lambda *call, seen=seen: seen.append(call[2].detach()))
        model(image, genes, neighbours)
        assert len(seen[0].unique(dim=0)) == distinct
    model.eval()(image, genes, neighbours)
    assert len(seen[-1]) == 60, "to score them, a spot is encoded once"


@pytest.mark.parametrize(
    ("dims", "fusion"),
    [((9, 14), "attention"), ((9, 14), "concatenation"), ((0, 14), "attention"), ((9, 0), "attention")],
)
def test_order_of_neighbours_and_of_spots_does_not_matter(tissue, dims, fusion):
    image, genes, neighbours, _ = tissue
    image, genes = image if dims[0] else None, genes if dims[1] else None
    model = SpaCRD(*dims, fusion=fusion).eval()
    before = model(image, genes, neighbours).logit
    shuffled = torch.cat([neighbours[:, :1], neighbours[:, torch.randperm(6) + 1]], 1)
    torch.testing.assert_close(model(image, genes, shuffled).logit, before, rtol=1e-4, atol=1e-5)
    order = torch.randperm(60)
    back = torch.argsort(order)
    moved = [None if x is None else x[order] for x in (image, genes)]
    torch.testing.assert_close(model(*moved, back[neighbours]).logit, before, rtol=1e-4, atol=1e-5)


def test_attention_is_a_distribution_over_the_neighbours(tissue):
    image, genes, neighbours, _ = tissue
    attention = SpaCRD(9, 14).eval()(image, genes, neighbours).attention
    assert attention.shape == (60, 2, 8, 7)
    torch.testing.assert_close(attention.sum(-1), torch.ones(60, 2, 8))


def test_contrastive_loss_is_the_logarithm_of_the_batch_and_falls_when_pairs_agree():
    same, z = torch.ones(32, 512), torch.randn(32, 512)
    assert contrastive_loss(same, same).item() == pytest.approx(math.log(32), abs=1e-5)
    assert contrastive_loss(z, z) < 0.01 < contrastive_loss(z, z.roll(1, 0))

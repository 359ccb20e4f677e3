import torch

from lib.fusion.heads import HEADS
from lib.fusion.model import Fusion, head_of


def network(name="self-attention", **options):
    torch.manual_seed(1)
    return Fusion({"clinic": 3, "genes": 6, "mutations": 4}, HEADS[name], 8, 4, **options)


def patients(n=5):
    torch.manual_seed(2)
    columns = {"clinic": torch.randn(n, 3), "genes": torch.randn(n, 6), "mutations": torch.randn(n, 4)}
    return columns, torch.ones(n, 3, dtype=torch.bool)


def test_it_begins_with_what_fits_everybody_and_with_an_offset_at_the_offset():
    start, offset = torch.tensor([-1.0, -0.5, 0.0, 0.5]), torch.tensor([0.3, -2.0, 0.0, 1.0, 5.0])
    model, (columns, present) = network(start=start), patients()
    torch.testing.assert_close(model(columns, present).logits, start.expand(5, 4))
    torch.testing.assert_close(model(columns, present, offset).logits, start + offset[:, None])


def test_networks_of_one_seed_have_the_same_encoders_whatever_their_head():
    one, other = network("concat"), network("rcsa")
    for name, weight in one.encoders.state_dict().items():
        assert torch.equal(weight, other.encoders.state_dict()[name])


def test_a_token_depends_on_its_modality_alone():
    model, (columns, present) = network(), patients()
    before = model.tokens(columns, present)
    after = model.tokens(columns | {"genes": columns["genes"] + 1}, present)
    changed = (before != after).any(2)
    assert changed[:, 1].all()
    assert not changed[:, [0, 2]].any()


def test_dropout_takes_numbers_of_tokens_away():
    model, (columns, present) = network("concat"), patients()
    torch.nn.init.normal_(model.output.weight)
    kept = torch.ones(5, 3, 8)
    kept[:, 1] = 0
    present_only = present.clone()
    present_only[:, 1] = False
    torch.testing.assert_close(model(columns, present, kept=kept).logits, model(columns, present_only).logits)


def test_a_head_with_an_offset_is_the_same_head():
    assert head_of("mcat+offset") is head_of("mcat") is HEADS["mcat"]

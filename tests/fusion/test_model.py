import pytest
import torch

from lib.fusion.heads import HEADS
from lib.fusion.model import Fusion, head_of, own_head
from lib.params import ROOT


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


def written(folder, body: str) -> str:
    text = "import torch\nfrom torch import nn\nfrom lib.fusion.heads import Fused, mean_of\n\n\n"
    text += "class Mine(nn.Module):\n    def __init__(self, modalities, width, hidden):\n"
    text += "        super().__init__()\n        self.layer, self.norm = nn.Linear(width, width), nn.BatchNorm1d(width)\n\n"
    (folder / "mine.py").write_text(text + f"    def forward(self, tokens, present):\n        {body}\n")
    return f"{folder / 'mine.py'}:Mine"


def test_a_head_of_ones_own_is_loaded_from_its_file(tmp_path):
    place = written(tmp_path, "return Fused(self.layer(mean_of(tokens, present)))")
    head = head_of("mine+offset", {"mine": place})
    model = Fusion({"clinic": 3, "genes": 6, "mutations": 4}, head, 8, 4)
    assert model(*patients()).logits.shape == (5, 4)


def test_the_book_s_own_head_is_a_head_of_less_than_sixty_lines():
    assert own_head("book/heads/film.py:FiLM")(9, 16, 4)(torch.randn(2, 9, 16), torch.ones(2, 9) > 0)
    assert len((ROOT / "book/heads/film.py").read_text().splitlines()) < 60


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return tokens.mean(1)", "expected Fused"),
        ("return Fused(tokens)", r"got \(3, 4, 8\)"),
        ("return Fused(self.layer(tokens.mean(1)) / 0)", "none"),
        ("return Fused(tokens.mean(1) - tokens.mean((0, 1)))", "who else is in the batch"),
        ("return Fused(self.layers(tokens))", "raised AttributeError"),
        ("return Fused(tokens.mean(1), tokens.mean((0, 2)))", r"attention: .* \(3, 4\), got \(4,\)"),
        ("return Fused(tokens.mean(1), loss=tokens.mean())", r"loss: .* \(3,\), got \(\)"),
        ("return Fused(tokens.mean(1) * (1 if tokens.sum() > 0 else 2))", "ask a tensor for its value"),
        ("return Fused(tokens.mean(1) / tokens.max().item())", "ask a tensor for its value"),
        ("return Fused(self.norm(tokens.mean(1)))", "normalise over patients.*[Bb]atch norm"),
    ],
)
def test_a_class_that_is_no_head_is_refused_with_what_is_wrong(tmp_path, body, said):
    with pytest.raises(ValueError, match=said):
        own_head(written(tmp_path, body))


def test_a_file_or_class_that_is_not_there_is_refused(tmp_path):
    place = written(tmp_path, "return Fused(tokens.mean(1))")
    with pytest.raises(ValueError, match="did you mean 'Mine'"):
        own_head(place.replace("Mine", "Mind"))
    with pytest.raises(ValueError, match=r"file\.py:Class"):
        own_head("nowhere.py:Mine")


def test_the_page_shows_the_file_it_speaks_of():
    assert (ROOT / "book/heads/film.py").read_text() in (ROOT / "book/bring-your-head.qmd").read_text()

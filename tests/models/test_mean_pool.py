import pytest
import torch

from lib.models.mil import MeanPool


def test_parameters_are_those_of_amil_without_its_attention():
    with torch.device("meta"):
        count = sum(p.numel() for p in MeanPool(2048).parameters())
    assert count == 1_314_053 - 2 * (512 * 256 + 256) - 257 == 1_051_140


@pytest.mark.parametrize("n", [1, 5, 300])
def test_logits_are_of_the_mean_tile(n):
    torch.manual_seed(0)
    model = MeanPool(7, width=16)
    x = torch.randn(1, n, 7)
    mean = sum(torch.clamp(model.project(tile), min=0) for tile in x[0]) / n
    output = model(None, None, x, attention="received")
    torch.testing.assert_close(output.logits[0], model.head(mean))
    assert output.attention is None


def test_order_and_repetition_do_not_matter():
    torch.manual_seed(0)
    model, x = MeanPool(7), torch.randn(1, 50, 7)
    before = model(None, None, x).logits
    torch.testing.assert_close(model(None, None, x[:, torch.randperm(50)].repeat(1, 3, 1)).logits, before)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"MeanPool\(variant='best'\)"):
        MeanPool(7, "best")
    with pytest.raises(ValueError, match=r"x20 must be .*nothing"):
        MeanPool(7)(torch.zeros(1, 2, 7), None, None)

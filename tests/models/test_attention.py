import math

import pytest
import torch
import torch.nn.functional as F

from lib.models.attention import PPEG, convolutions, convolved, side_of, squared, unsquared


def test_side_is_the_rounded_up_root():
    for n in [*range(1, 400), 3449, 3481, 3482, 35_000**2, 35_000**2 + 1]:
        side = side_of(n)
        assert (side - 1) ** 2 < n <= side**2
    assert side_of(10) == math.ceil(math.sqrt(10))


def test_the_first_tokens_come_again_at_the_end():
    x = torch.arange(5.0)[None, :, None]
    assert squared(x).flatten().tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    for n in range(1, 60):  # never more than there are
        assert squared(torch.zeros(1, n, 1)).shape[1] == side_of(n) ** 2


def test_shares_of_repeated_tokens_go_back_to_their_own():
    shares = torch.tensor([[0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1]])
    assert unsquared(shares, 5)[0].tolist() == pytest.approx([0.3, 0.2, 0.2, 0.2, 0.1])
    assert torch.equal(unsquared(shares, 9), shares)


@pytest.mark.parametrize(("width_in", "width_out"), [(12, 12), (12, 6), (12, 4)])
@pytest.mark.parametrize("side", [1, 2, 9])
def test_summed_kernels_equal_the_sum_of_convolutions(width_in, width_out, side):
    torch.manual_seed(0)
    parts = convolutions(width_in, width_out, (7, 5, 3, 1)).double()
    x = torch.randn(1, side**2, width_in, dtype=torch.float64, requires_grad=True)
    picture = x[0].T.reshape(1, width_in, side, side)
    single = (
        F.conv2d(picture, p.weight, p.bias, padding=p.kernel_size[0] // 2, groups=width_out) for p in parts
    )
    naive, ours = sum(single)[0].flatten(1).T[None], convolved(x, parts)
    torch.testing.assert_close(ours, naive)
    arrays, weights = [x, *parts.parameters()], torch.randn_like(naive)
    gradients = (torch.autograd.grad((each * weights).sum(), arrays) for each in (ours, naive))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_class_tokens_pass_unchanged():
    torch.manual_seed(0)
    positions = PPEG(8)
    x = torch.randn(1, 10, 8)
    out = positions(x, class_tokens=1)
    assert torch.equal(out[:, :1], x[:, :1])
    torch.testing.assert_close(out[:, 1:], positions(x[:, 1:]))
    assert (out[:, 1:] - x[:, 1:]).abs().max() > 0.01

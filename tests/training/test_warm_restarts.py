import math

import numpy as np
import pytest
import torch

from lib.stroke.train import steps_of_a_cycle, warm_restarts

# spec: TensorFlow's schedule for 56 patients, in single precision, hence the looser ones where the rate is near zero
GOLDEN = {
    0: (1.0e-3, 1e-6),
    1: (9.99980e-4, 1e-6),
    175: (5.0e-4, 1e-6),
    349: (2.01464e-8, 1e-3),
    350: (7.5e-4, 1e-6),
    525: (3.75e-4, 1e-6),
    700: (5.625e-4, 1e-6),
    5250: (1.336346e-5, 1e-6),
    5425: (6.681730e-6, 1e-6),
    5599: (2.692e-10, 1e-3),
}


def test_steps_of_a_cycle():
    assert steps_of_a_cycle(56) == 350
    assert steps_of_a_cycle(57) == 356  # 356.25: the last four steps begin a seventeenth cycle
    assert steps_of_a_cycle(10, epochs=8, cycles=4, batch=4) == 6  # three steps an epoch
    with pytest.raises(ValueError, match="fewer steps than 16 cycles"):
        steps_of_a_cycle(10, epochs=1)


@pytest.mark.parametrize("step", GOLDEN)
def test_golden_numbers(step):
    expected, within = GOLDEN[step]
    assert warm_restarts(step, 350, peak=1e-3) == pytest.approx(expected, rel=within)


def test_every_cycle_falls_and_starts_again_from_three_quarters():
    rates = np.array([warm_restarts(step, 40) for step in range(200)]).reshape(5, 40)
    assert (np.diff(rates, axis=1) < 0).all()
    np.testing.assert_allclose(rates[1:], 0.75 * rates[:-1], rtol=1e-12)
    assert rates[0, 0] == 1


def test_floor_is_reached_and_never_passed():
    rates = [warm_restarts(step, 10, peak=2.0, floor=0.5, decay=0.1) for step in range(60)]
    assert min(rates) >= 0.5
    assert rates[59] == pytest.approx(0.5, abs=1e-6)
    assert warm_restarts(0, 10, peak=2.0, floor=0.5) == 2.0
    assert warm_restarts(5, 10, peak=2.0, floor=0.5) == pytest.approx(1.25)


def test_drives_an_optimiser():
    adam = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: warm_restarts(step, 7))
    for step in range(30):
        assert adam.param_groups[0]["lr"] == pytest.approx(
            1e-3 * 0.75 ** (step // 7) * (1 + math.cos(math.pi * (step % 7) / 7)) / 2
        )
        adam.step()
        schedule.step()


@pytest.mark.parametrize(
    "odd", [{"step": -1}, {"cycle": 0}, {"floor": -0.1}, {"floor": 2.0}], ids=lambda odd: str(odd)
)
def test_refused(odd):
    with pytest.raises(ValueError, match="warm_restarts"):
        warm_restarts(**{"step": 0, "cycle": 10} | odd)

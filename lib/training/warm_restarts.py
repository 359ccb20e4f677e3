"""Learning rate that falls along a cosine and starts anew, each time from lower (Loshchilov, Hutter: ICLR 2017)."""

import math


def steps_of_a_cycle(patients: int, epochs: int = 100, cycles: int = 16, batch: int = 1) -> int:
    """Steps of the optimiser in one cycle, so that about `cycles` fill a training.

    Rounded down, as the stroke model's released code does: a remainder begins one more cycle.

    Raises
    ------
    ValueError
        Fewer steps than cycles.
    """
    steps = math.ceil(patients / batch) * epochs // cycles
    if steps < 1:
        raise ValueError(
            f"{patients} patients in batches of {batch} for {epochs} epochs make fewer steps than {cycles} cycles; "
            "ask for fewer cycles or more epochs"
        )
    return steps


def warm_restarts(
    step: int, cycle: int, *, peak: float = 1.0, decay: float = 0.75, floor: float = 0.0
) -> float:
    """The learning rate at a step, all cycles of one length.

    Parameters
    ----------
    step : int
        From 0.
    cycle : int
        Steps of a cycle.
    peak : float
        The rate at step 0; leave it at 1 for the factor that `torch.optim.lr_scheduler.LambdaLR` takes.
    decay : float
        Cycle c starts from `peak * decay ** c`.
    floor : float
        The rate never falls below it.

    Returns
    -------
    float
        peak * (floor' + (1 - floor') * decay^c * (1 + cos(pi f)) / 2), f the share of the cycle that is over and
        floor' = floor / peak.
    """
    if step < 0 or cycle < 1 or not 0 <= floor <= peak:
        raise ValueError(
            f"warm_restarts(step={step}, cycle={cycle}, peak={peak}, floor={floor}): step must be 0 or more, a cycle 1 "
            "step or more, and floor between 0 and peak"
        )
    passed, within = divmod(step, cycle)
    return floor + (peak - floor) * decay**passed * (1 + math.cos(math.pi * within / cycle)) / 2

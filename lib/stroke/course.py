"""Whether contrast comes and goes in a film as it can in a head: what a film that is broken in time shows."""

import numpy as np
from scipy.ndimage import binary_fill_holes
from statsmodels.stats.stattools import durbin_watson

MOST_CURVES = 50_000  # voxels looked at
TOP = 10  # voxels that say how high vessels reach
SHARE_OF_TOP = 0.2  # of it; tissue stays below
BEGUN = 0.3  # of its range by which a vessel that is full when the film begins lies above its end
VESSELS = 0.15  # share of the vessels that have to be
BACKWARDS = 0.85  # steepest rise over steepest fall: of boluses 1.3 to 2.1, at 3 and at 1 s; of films turned round 0.5 to 0.7
SLOW_S = 2.0  # seconds between frames up to which the limit of roughness holds; beyond, steps grow with their square
# second difference over range; of boluses .04 at 1 s, .13 at 2 s, .25 at 3 s; three frames lost .4
JUMP = 0.3  # so at 2 s
LEAST_JUMP = 0.15  # a first frame of 2 HU too much bends by .23, and a core of 15 ml is gone


def check_course(values: np.ndarray, mask: np.ndarray) -> None:
    """Refuse a film in which contrast is there before it comes: one that starts late, or whose frames run backwards.

    Contrast stays in the blood, so that vessels end no darker than they begin; and a bolus rises faster than it falls. `values`
    (frames, z, y, x) are in HU; of `mask` (z, y, x), the brain, what it encloses is looked at too, since vessels that are full
    of contrast are no tissue.
    """
    inside = np.stack([binary_fill_holes(one) for one in mask])
    voxels = np.flatnonzero(inside)
    curves = values.reshape(len(values), -1)[:, voxels[:: max(1, len(voxels) // MOST_CURVES)]]
    if len(curves) > 4:
        curves = (curves[:-2] + curves[1:-1] + curves[2:]) / 3
    reach = np.ptp(curves, axis=0)
    vessels = curves[:, reach > SHARE_OF_TOP * np.sort(reach)[-TOP:].mean()]
    if not vessels.size:
        return
    ends = (vessels[0] - vessels[-1]) / np.ptp(vessels, axis=0)
    if (full := float((ends > BEGUN).mean())) > VESSELS:
        raise ValueError(
            f"contrast is there before the film begins, in {full:.0%} of its vessels: it starts too late, or its frames run "
            "backwards; arteries without their arrival cannot be measured, so leave this patient's film out"
        )
    steps = np.diff(vessels.mean(1))
    if steps.min() < 0 and -steps.max() / steps.min() < BACKWARDS:
        raise ValueError(
            f"contrast rises {-steps.max() / steps.min():.1f} times as fast as it falls, and a bolus rises faster: its peak "
            "comes before its arrival, frames run backwards; give them in the order of time"
        )


def check_roughness(curve: np.ndarray, interval_s: float, roughest: float) -> None:
    """Refuse a mean curve of the brain, HU (frames,), that jumps.

    Squared steps over squared deviations (Durbin-Watson): 0.03 to 0.07 of a bolus every 1 to 1.4 s, 0.1 every 2 s, and
    growing with the square of the interval; 0.28 to 0.56 of frames sorted as text; 2 at random, NaN of a constant.
    """
    rough, limit = float(durbin_watson(curve - curve.mean())), roughest * max(1.0, interval_s / SLOW_S) ** 2
    if not rough <= limit:
        words = f"the brain's mean enhancement jumps ({rough:.2f}, at most {limit:.2g}; 2 is at random)"
        raise ValueError(f"{words}: frames are out of order, or no contrast arrived")


def jumps(brain: np.ndarray, vessels: np.ndarray, interval_s: float) -> str:
    """Where mean curves of brain or vessels, HU (frames,), bend more than a bolus does: "" or a remark."""
    for name, curve in {"brain": brain, "vessels": vessels}.items():
        bend = np.abs(np.diff(curve, 2)) / np.ptp(curve)
        if bend.max() > max(LEAST_JUMP, JUMP * (interval_s / SLOW_S) ** 2):
            at = f"{bend.argmax() + 1} ({bend.max():.2f} of its range)"
            what = "a frame brighter or darker than the others, frames lost or exchanged, or motion?"
            return f"the mean curve of the {name} bends at frame {at}: {what}"
    return ""

"""A small CT perfusion scan with a planted stroke, shared by the tests of the artery, maps, lesions and files."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib.figures import style
from lib.inputs.volumes import Geometry
from lib.stroke.phantom_scan import TISSUES, Bolus, arterial, tissue_curve, venous

SHAPE, SPACING_MM = (8, 40, 40), (4.0, 4.0, 6.0)


class Scan(NamedTuple):
    """What was planted, and what a scanner sees of it."""

    enhancement: np.ndarray  # HU, (frames, z, y, x), baseline subtracted
    baseline: np.ndarray  # HU, (z, y, x)
    mask: np.ndarray  # of the brain, CSF included
    named: dict[str, np.ndarray]  # tissue or vessel -> bool (z, y, x)
    seconds: np.ndarray
    artery: np.ndarray  # the true curve, HU
    geometry: Geometry


@pytest.fixture(scope="session")
def brain_scan():
    """Function: draw a scan."""

    def drawn(noise=2.0, side="left", arrival=8.0, frames=60, interval_s=1.0, seed=0, lesion=True, share=0.5):
        """`share` of the arterial voxels is artery; `lesion` False for a healthy brain."""
        random = np.random.default_rng(seed)
        _, y, x = np.indices(SHAPE)
        y, x = (y - 19.5) / 18, (x - 19.5) / 15
        radius, toward = np.hypot(x, y), 1 if side == "left" else -1
        place = np.hypot(x - toward * 0.55, y) if lesion else np.full(SHAPE, 9.0)
        labels = np.select(
            [radius >= 1, place < 0.25, place < 0.42, radius < 0.2, radius < 0.75],
            ["outside", "core", "penumbra", "csf", "white"],
            "grey",
        )
        labels[3:5, 13:15, 17:22] = "artery"
        labels[2:6, 34:36, 18:22] = "vein"
        seconds, bolus = np.arange(frames) * interval_s, Bolus(arrival=arrival)
        true = arterial(seconds, bolus)
        courses = {"artery": share * true, "vein": venous(seconds, bolus)}
        for name, each in TISSUES.items():
            courses[name] = tissue_curve(seconds, each.cbf, each.mtt, each.delay, bolus)
        named = {name: labels == name for name in (*courses, "csf")}
        values = np.zeros((frames, *SHAPE), np.float32)
        baseline = np.select([labels == "outside", labels == "csf", labels == "white"], [-1000, 5, 29], 37)
        for name, course in courses.items():
            values[:, named[name]] = course[:, None]
        values += random.normal(0, noise, values.shape).astype(np.float32)
        before = values[:4].mean(0)
        geometry = Geometry(SPACING_MM, (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()), SHAPE[::-1])
        return Scan(values - before, baseline + before, labels != "outside", named, seconds, true, geometry)

    return drawn


@pytest.fixture
def axes():
    """Function: so many Axes of a fresh figure in the book's look."""
    with plt.rc_context(style.RC):
        yield lambda number: plt.subplots(1, number, squeeze=False)[1][0]
    plt.close("all")

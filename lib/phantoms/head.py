"""A phantom's head: scalp, skull, grey and white matter, ventricles, vessels, in millimetres."""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

LABELS = {
    "air": 0,
    "scalp": 1,
    "skull": 2,
    "csf": 3,
    "white": 4,
    "grey": 5,
    "oligaemia": 6,
    "penumbra": 7,
    "core": 8,
    "artery": 9,
    "vein": 10,
}
FIELD_MM = (192.0, 192.0, 80.0)  # x, y, z covered, from just above the skull base upwards
BASE_MM = -20.0  # of the lowest slice's edge, where the head is widest at 0
RADII_MM = (73.0, 87.0, 84.0)  # of the scalp
# centre and radii in mm, on either side of the midline; y runs to the back
GREY_NUCLEI = (
    ((12, -18, 4), (5, 10, 14)),  # caudate
    ((26, -3, -2), (8, 16, 13)),  # lentiform
    ((10, 14, 2), (8, 13, 11)),  # thalamus
    ((41, -4, -2), (5, 18, 12)),  # insula
)
VENTRICLES = (
    ((6, -25, 8), (5, 12, 11)),  # frontal horn
    ((9, 2, 21), (6, 28, 9)),  # body
    ((21, 32, 6), (6, 17, 9)),  # trigone, occipital horn
    ((0, 2, -8), (2.5, 12, 10)),  # third ventricle
)
FISSURE = ((47, -8, -2), (5, 17, 8))  # Sylvian


class Head(NamedTuple):
    """A head without a stroke.

    Attributes
    ----------
    labels : uint8 (z, y, x)
        By `LABELS`; axes to the patient's left (x), back (y) and crown (z).
    middle : tuple of 3 open float arrays
        x, y, z in the head's own frame, mm: x is 0 in the midline.
    field : float32 (z, y, x)
        Smooth texture of unit variance.
    branches : bool (z, y, x)
        The middle cerebral arteries with their branches, a part of the arteries.
    """

    labels: np.ndarray
    middle: tuple[np.ndarray, np.ndarray, np.ndarray]
    field: np.ndarray
    branches: np.ndarray


def head(random: np.random.Generator, shape: tuple[int, int, int], spacing_mm: tuple) -> Head:
    """Draw a head that lies a little off centre and a little turned.

    Parameters
    ----------
    random : Generator
    shape : (z, y, x)
        Voxels.
    spacing_mm : (x, y, z)

    Returns
    -------
    Head
    """
    x, y, z = _middle(random, shape, spacing_mm)
    radii = np.array(RADII_MM) * random.uniform(0.95, 1.04, 3)
    length = np.sqrt(x**2 + y**2 + z**2) + 1e-6
    surface = length / np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2 + 1e-9)
    depth = surface - length  # mm along the ray from the centre
    bone = random.uniform(5.5, 7.5)
    field = smooth(random, shape, (1.0, 2.0, 2.0))
    labels = _brain(random, x, y, z, depth - 4 - bone, field)
    labels[depth < 4 + bone] = LABELS["skull"]
    labels[depth < 4] = LABELS["scalp"]
    labels[depth < 0] = LABELS["air"]
    inner = radii - 4 - bone
    grid = (x, y, z, spacing_mm, labels >= LABELS["csf"])
    branches = _drawn(_middle_arteries(), 1.4, *grid)
    labels[branches | _drawn(_other_arteries(), 1.4, *grid)] = LABELS["artery"]
    sagittal, straight, *transverse = _sinuses(inner)
    labels[_drawn([straight], 1.8, *grid)] = LABELS["vein"]
    labels[_drawn([sagittal, *transverse], 3.4, *grid)] = LABELS["vein"]
    return Head(labels, (x, y, z), field, branches & (labels == LABELS["artery"]))


def smooth(random: np.random.Generator, shape: tuple[int, ...], scale: tuple[float, ...]) -> np.ndarray:
    """Smoothed noise of zero mean and unit variance, float32; `scale` in voxels."""
    noise = gaussian_filter(random.standard_normal(shape, dtype=np.float32), scale, mode="wrap", truncate=3)
    return (noise - noise.mean()) / noise.std()


def _middle(random: np.random.Generator, shape: tuple, spacing_mm: tuple) -> tuple[np.ndarray, ...]:
    """Coordinates of the voxels' centres in the head's frame."""
    across, back, up = (
        (np.arange(n, dtype=np.float32) - (n - 1) / 2) * step
        for n, step in zip(shape[::-1], spacing_mm, strict=True)
    )
    turn = np.deg2rad(random.normal(0, 3))
    across, back = across[None, :] - random.normal(0, 1.5), back[:, None] - random.normal(0, 1.5)
    x = np.cos(turn) * across + np.sin(turn) * back
    y = np.cos(turn) * back - np.sin(turn) * across
    z = up - up[0] + BASE_MM + spacing_mm[2] / 2
    return x[None].astype(np.float32), y[None].astype(np.float32), z[:, None, None].astype(np.float32)


def _brain(random, x, y, z, inside, field) -> np.ndarray:
    """Labels as if there were no skull; `inside` is the depth below the inner table in mm."""
    waves = 8 + random.integers(0, 2)
    bend = 1.3 * np.sin(z / 13 + random.uniform(0, 6.28))
    folds = np.cos(waves * 2 * np.arctan2(y * 0.8, np.abs(x) + 8) + bend + 0.6 * field)
    sulci = np.maximum(folds, 0) ** 5
    apart = np.abs(x)
    cleft = ((np.abs(y) > 42) | (z > 34)) & (inside > 0)  # between the hemispheres
    csf = (inside < 1.5 + 11 * sulci**2) | (cleft & (apart < 1.6))
    grey = (inside < 8.5 + 12 * sulci) | (cleft & (apart < 6))
    size = random.uniform(0.8, 1.2)
    for centre, radii in GREY_NUCLEI:
        grey = grey | _ellipsoid(apart, y, z, centre, radii)
    for centre, radii in (*VENTRICLES, FISSURE):
        csf = csf | _ellipsoid(apart, y, z, centre, np.array(radii) * size)
    labels = np.where(grey, LABELS["grey"], LABELS["white"])
    return np.where(csf, LABELS["csf"], labels).astype(np.uint8)


def _ellipsoid(x, y, z, centre, radii) -> np.ndarray:
    places = zip((x, y, z), centre, radii, strict=True)
    return sum(((place - middle) / radius) ** 2 for place, middle, radius in places) < 1


def _middle_arteries() -> list[list[tuple[float, float, float]]]:
    """Middle cerebral arteries: stem, then branches up the Sylvian fissure and over the cortex."""
    right = [
        [(4, -16, -16), (18, -14, -17), (34, -12, -15), (44, -10, -12)],
        [(44, -10, -12), (48, -18, 0), (50, -24, 14), (48, -26, 28)],
        [(44, -10, -12), (49, 4, 0), (51, 14, 14), (48, 20, 28)],
    ]
    return right + [[(-x, y, z) for x, y, z in line] for line in right]


def _other_arteries() -> list[list[tuple[float, float, float]]]:
    """Anterior and posterior cerebral arteries, basilar artery."""
    right = [
        [(3, -17, -16), (2, -34, -10), (2, -44, 4), (2, -40, 20), (2, -24, 34)],
        [(0, 12, -19), (10, 18, -16), (17, 30, -14), (16, 44, -10)],
    ]
    return right + [[(-x, y, z) for x, y, z in line] for line in right]


def _sinuses(inner: np.ndarray) -> list[list[tuple[float, float, float]]]:
    """Superior sagittal, straight and transverse sinus along the inner table, whose radii are given in mm."""
    a, b, c = inner - 3.5
    arc = np.deg2rad(np.linspace(125, -15, 40))  # from the front over the crown to the back
    sagittal = [(0.0, b * np.cos(angle), c * np.sin(angle)) for angle in arc]
    straight = [(0.0, 30.0, 8.0), (0.0, b, -14.0)]
    low = np.sqrt(1 - (16 / c) ** 2)
    around = np.deg2rad(np.linspace(0, 60, 20))
    right = [(a * low * np.sin(angle), b * low * np.cos(angle), -16.0) for angle in around]
    return [sagittal, straight, right, [(-x, y, z) for x, y, z in right]]


def _drawn(lines, radius, x, y, z, spacing_mm, where) -> np.ndarray:
    """Voxels within `radius` mm of the lines, and `where`."""
    points = []
    for line in lines:
        line = np.array(line, dtype=np.float32)
        for start, end in itertools.pairwise(line):
            share = np.linspace(0, 1, int(np.linalg.norm(end - start) / 1.0) + 2)[:, None]
            points.append(start + share * (end - start))
    points = np.concatenate(points)
    steps = np.arange(-radius, radius + 1e-6, min(radius, 1.1))
    ball = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    ball = ball[(ball**2).sum(axis=1) <= radius**2]
    points = (points[:, None] + ball).reshape(-1, 3)
    # the head's frame is a turned grid: x = a i + b j + c, solved for the indices
    side = np.array(
        [
            [x[0, 0, 1] - x[0, 0, 0], x[0, 1, 0] - x[0, 0, 0]],
            [y[0, 0, 1] - y[0, 0, 0], y[0, 1, 0] - y[0, 0, 0]],
        ]
    )
    column, row = np.linalg.solve(side, (points[:, :2] - [x[0, 0, 0], y[0, 0, 0]]).T)
    level = (points[:, 2] - z[0, 0, 0]) / spacing_mm[2]
    index = np.rint(np.stack([level, row, column])).astype(int)
    inside = ((index >= 0) & (index < np.array(where.shape)[:, None])).all(axis=0)
    drawn = np.zeros(where.shape, dtype=bool)
    drawn[tuple(index[:, inside])] = True
    return drawn & where

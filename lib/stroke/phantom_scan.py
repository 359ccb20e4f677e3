"""A phantom's head: scalp, skull, grey and white matter, ventricles, vessels, in millimetres.

A bolus of contrast: the artery's curve and what a tissue makes of it.

Indicator dilution as in Fieselmann et al. 2011 (doi 10.1155/2011/467563): concentration is measured in HU of
enhancement, to which iodine is proportional.

A 4D CT perfusion scan of a phantom's stroke, with its truth.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve
from scipy.special import gamma

from lib.inputs.volumes import Geometry, Series

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


DENSITY = 1.05  # of brain, g/ml
RESIDUES = ("exponential", "box", "linear")


class Bolus(NamedTuple):
    """A gamma-variate arterial curve; the defaults lie in the middle of what scanners show."""

    peak: float = 300.0  # HU above the baseline
    arrival: float = 5.0  # s
    a: float = 5.5  # shape; the peak comes a * b seconds after the arrival
    b: float = 1.5  # s, of the wash-out

    @property
    def area(self) -> float:
        """Area under the curve, HU s: peak b e^a a^-a Gamma(a + 1)."""
        return self.peak * self.b * np.exp(self.a) * self.a**-self.a * gamma(self.a + 1)


class Tissue(NamedTuple):
    """What flows through a tissue, and what it weighs in HU before the contrast comes."""

    cbf: float  # ml/100 g/min
    mtt: float  # s
    delay: float  # s after the artery
    baseline: float  # HU

    @property
    def cbv(self) -> float:
        """Blood volume, ml/100 g."""
        return self.cbf * self.mtt / 60


# typical textbook values, not measurements of one source
TISSUES = {
    "grey": Tissue(60, 4.0, 0.0, 37),
    "white": Tissue(25, 4.8, 0.5, 29),
    "oligaemia": Tissue(35, 6.0, 2.0, 37),
    "penumbra": Tissue(18, 10.0, 5.0, 37),
    "core": Tissue(5, 12.0, 7.0, 35),
}


def arterial(
    seconds: np.ndarray, peak: float = 300.0, arrival: float = 5.0, a: float = 5.5, b: float = 1.5
) -> np.ndarray:
    """Gamma-variate curve of an artery.

    Parameters
    ----------
    seconds : float array
        Times, of any shape and order.
    peak : float
        HU above the baseline, reached at arrival + a b.
    arrival : float
        s; zero until then.
    a, b : float
        Shape and scale (s), above 0.

    Returns
    -------
    float array shaped as `seconds`
        HU above the baseline.
    """
    if a <= 0 or b <= 0:
        raise ValueError(f"a gamma-variate curve needs a and b above 0, got a = {a} and b = {b}")
    since = np.maximum(np.asarray(seconds, dtype=float) - arrival, 0) / (a * b)
    return peak * since**a * np.exp(a * (1 - since))


def residue(seconds: np.ndarray, mtt: float | np.ndarray, shape: str = "exponential") -> np.ndarray:
    """Share of the contrast still in the tissue so long after it came in; its integral is `mtt`.

    Parameters
    ----------
    seconds : float array
    mtt : float or array that broadcasts against `seconds`
        Mean transit time, s, above 0.
    shape : "exponential" | "box" | "linear"
        exp(-t/mtt); 1 until mtt; 1 - t/(2 mtt) until 2 mtt.

    Returns
    -------
    float array
        1 at 0 s, 0 before.
    """
    seconds, mtt = np.asarray(seconds, dtype=float), _transit(mtt)
    after = np.maximum(seconds, 0) / mtt
    share = {
        "exponential": lambda: np.exp(-after),
        "box": lambda: (after < 1).astype(float),
        "linear": lambda: np.maximum(1 - after / 2, 0),
    }[_known(shape)]()
    return np.where(seconds < 0, 0.0, share)


def tissue_curve(
    seconds: np.ndarray,
    cbf: float | np.ndarray,
    mtt: float | np.ndarray,
    delay: float | np.ndarray = 0.0,
    shape: str = "exponential",
    bolus: Bolus | None = None,
    step: float = 0.05,
) -> np.ndarray:
    """Enhancement of tissues: density CBF (arterial curve convolved with the residue), delayed.

    Parameters
    ----------
    seconds : float array (frames,)
        When the scanner looks; need not be regular.
    cbf, mtt, delay : float or arrays that broadcast against each other, of shape S
        ml/100 g/min, s, s. A tissue without flow has cbf 0.
    shape : one of `RESIDUES`
    bolus : Bolus, optional
        The artery; `Bolus()` by default.
    step : float
        s, of the integration. Each step carries the residue's integral over it, so that areas are exact.

    Returns
    -------
    float array (frames, *S)
        HU above the baseline.

    Raises
    ------
    ValueError
        Negative flow, a transit time not above 0, an unknown residue.
    """
    bolus = Bolus() if bolus is None else bolus
    cbf, mtt, delay = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in (cbf, mtt, delay)))
    if (cbf < 0).any():
        raise ValueError(f"blood flow cannot be negative, got {cbf.min()} ml/100 g/min")
    transit = _transit(mtt).reshape(-1, 1)
    since = np.subtract.outer(np.asarray(seconds, dtype=float) - bolus.arrival, delay.ravel())
    fine = np.arange(0, max(float(since.max(initial=0.0)), 0.0) + 2 * step, step)
    artery = arterial(fine, bolus.peak, 0.0, bolus.a, bolus.b)
    edges = np.append(0.0, fine + step / 2)
    weights = np.diff(_residue_integral(edges, transit, shape), axis=1)
    held = fftconvolve(artery[None], weights, axes=1)[:, : len(fine)]
    curves = [np.interp(when, fine, curve, left=0.0) for when, curve in zip(since.T, held, strict=True)]
    flow = DENSITY * cbf / 6000
    return np.stack(curves, axis=1).reshape(len(since), *cbf.shape) * flow


def venous(
    seconds: np.ndarray, bolus: Bolus | None = None, transit: float = 4.0, delay: float = 2.0
) -> np.ndarray:
    """Curve of the vein that drains the brain: the artery's, later and wider, with the same area.

    Parameters
    ----------
    seconds : float array (frames,)
    bolus : Bolus, optional
    transit, delay : float
        s: mean of an exponential spread of transit times, and the time before it.

    Returns
    -------
    float array (frames,)
        HU above the baseline.
    """
    return tissue_curve(seconds, 6000 / (DENSITY * transit), transit, delay, bolus=bolus)


def _residue_integral(seconds: np.ndarray, mtt: np.ndarray, shape: str) -> np.ndarray:
    after = seconds / mtt
    return (
        mtt
        * {
            "exponential": lambda: -np.expm1(-after),
            "box": lambda: np.minimum(after, 1),
            "linear": lambda: np.where(after < 2, after - after**2 / 4, 1.0),
        }[_known(shape)]()
    )


def _transit(mtt: float | np.ndarray) -> np.ndarray:
    mtt = np.asarray(mtt, dtype=float)
    if not (mtt > 0).all():
        raise ValueError(f"a mean transit time must be above 0 s, got {mtt.min()}")
    return mtt


def _known(shape: str) -> str:
    if shape not in RESIDUES:
        raise ValueError(f"no residue function is called {shape!r}; there are {', '.join(RESIDUES)}")
    return shape


HU = {"air": -1000, "scalp": 25, "skull": 900, "csf": 5, "artery": 42, "vein": 44}
LARGEST = 0.55  # of the side's tissue that can lack blood
RIM = 0.35  # oligaemia's volume over that of core and penumbra
PARTIAL_VOLUME = (0.3, 0.5, 0.5)  # voxels (z, y, x), of the scanner's blur
ORIENTATIONS = ("LPS", "RAS", "LAS", "RPI", "PLS")


class Anatomy(NamedTuple):
    """A head with a stroke.

    Attributes
    ----------
    labels : uint8 (z, y, x)
        By `lib.stroke.phantom_scan.LABELS`; axes to the patient's left, back and crown.
    healthy : uint8 (z, y, x)
        The same before the stroke.
    texture : float32 (z, y, x)
        Relative blood flow within a tissue, about 1.
    spacing_mm : (x, y, z)
    core_ml, penumbra_ml, oligaemia_ml : float
        Volumes of the labels.
    side : "left" | "right"
        The patient's.
    """

    labels: np.ndarray
    healthy: np.ndarray
    texture: np.ndarray
    spacing_mm: tuple[float, float, float]
    core_ml: float
    penumbra_ml: float
    oligaemia_ml: float
    side: str


class Scan(NamedTuple):
    """How a scanner looks at a head.

    Attributes
    ----------
    frames : int
    interval_s : float
        Between frames.
    noise : float
        HU, standard deviation of a voxel in the head; voxels of 3 x 3 x 5 mm average what a scanner's own have.
    motion_mm, motion_degrees : float
        What the registration left of the patient's motion: standard deviations along and about each axis. Its
        effect is taken to first order, so it must stay well below a voxel.
    orientation : str
        Where the axes of the file point to, as SimpleITK names it ("LPS": left, back, crown).
    bolus : Bolus
    residue : str
        One of `lib.stroke.phantom_scan.RESIDUES`.
    """

    frames: int = 48
    interval_s: float = 1.0
    noise: float = 1.8
    motion_mm: float = 0.08
    motion_degrees: float = 0.05
    orientation: str = "LPS"
    bolus: Bolus = Bolus()
    residue: str = "exponential"


class Truth(NamedTuple):
    """Maps (z, y, x), float32, on the anatomy's grid; 0 where no tissue is."""

    cbf: np.ndarray  # ml/100 g/min
    cbv: np.ndarray  # ml/100 g
    mtt: np.ndarray  # s
    delay: np.ndarray  # s after the artery


def anatomy(
    seed: int,
    shape: tuple[int, int, int] = (16, 64, 64),
    core_ml: float = 25.0,
    penumbra_ml: float = 60.0,
    side: str = "left",
    spacing_mm: tuple[float, float, float] | None = None,
) -> Anatomy:
    """Draw a head and a stroke in one middle cerebral artery's territory.

    Parameters
    ----------
    seed : int or sequence of int
    shape : (z, y, x)
        Voxels.
    core_ml, penumbra_ml : float
        Volumes asked for; those made are the nearest whole number of voxels. Where both together would exceed
        `LARGEST` of the side's tissue they are shrunk in proportion, as the volumes returned tell.
    side : "left" | "right"
    spacing_mm : (x, y, z), optional
        By default the grid covers `FIELD_MM`.

    Returns
    -------
    Anatomy

    Raises
    ------
    ValueError
        A negative volume, an unknown side.
    """
    if side not in ("left", "right"):
        raise ValueError(f'a stroke is on the "left" or "right" side, not {side!r}')
    if not (core_ml >= 0 and penumbra_ml >= 0):
        raise ValueError(
            f"volumes are 0 ml or more, got a core of {core_ml} and a penumbra of {penumbra_ml} ml"
        )
    if spacing_mm is None:
        spacing_mm = tuple(field / n for field, n in zip(FIELD_MM, shape[::-1], strict=True))
    random = np.random.default_rng(seed)
    whole = head(random, shape, spacing_mm)
    labels, ml = whole.labels.copy(), float(np.prod(spacing_mm)) / 1000
    zones = _zones(random, whole, side, core_ml / ml, penumbra_ml / ml)
    for name, voxels in zones.items():
        labels.ravel()[voxels] = LABELS[name]
    x = whole.middle[0] * (1 if side == "left" else -1)
    if (core_ml + penumbra_ml) > 0:  # the occluded artery carries nothing beyond its stem
        labels[whole.branches & (x > 10)] = LABELS["csf"]
    texture = np.exp(0.12 * smooth(random, shape, (0.7, 1.5, 1.5)))
    volumes = (len(zones[name]) * ml for name in ("core", "penumbra", "oligaemia"))
    return Anatomy(labels, whole.labels, texture, spacing_mm, *volumes, side)


def _zones(random, whole: Head, side: str, core: float, penumbra: float) -> dict[str, np.ndarray]:
    """Voxels (flat indices) of core, penumbra and oligaemia; `core` and `penumbra` are wanted numbers of voxels."""
    x, y, z = whole.middle
    x = x if side == "left" else -x
    tissue = (whole.labels == LABELS["grey"]) | (whole.labels == LABELS["white"])
    home = np.flatnonzero(tissue & (x > 5))
    shrink = min(1.0, LARGEST * len(home) / max(core + penumbra, 1e-9))
    core, penumbra = round(core * shrink), round(penumbra * shrink)
    centre = random.normal((40, 0, 14), (3, 10, 6))
    distance = ((x - centre[0]) / 30) ** 2 + ((y - centre[1]) / 46) ** 2 + ((z - centre[2]) / 40) ** 2
    order = home[np.argsort((distance + 0.2 * whole.field).ravel()[home], kind="stable")]
    hungry = order[: core + penumbra]
    rim = order[core + penumbra : core + penumbra + round(RIM * (core + penumbra))]
    # the core lies deep, near the lentiform nucleus, which no collaterals reach
    deep = ((x - 0.8 * centre[0]) / 24) ** 2 + ((y - centre[1]) / 34) ** 2 + ((z - 0.7 * centre[2]) / 26) ** 2
    deep = (deep - 0.15 * whole.field).ravel()[hungry]
    inward = hungry[np.argsort(deep, kind="stable")]
    return {"oligaemia": rim, "penumbra": inward[core:], "core": inward[:core]}


def truth(stroke: Anatomy) -> Truth:
    """What a perfect analysis would find."""
    maps = np.zeros((4, *stroke.labels.shape), dtype=np.float32)
    for name, tissue in TISSUES.items():
        here = stroke.labels == LABELS[name]
        flow = stroke.texture[here]
        maps[0, here], maps[1, here] = tissue.cbf * flow, tissue.cbv * flow
        maps[2, here], maps[3, here] = tissue.mtt, tissue.delay
    return Truth(*maps)


def draw_scan(random: np.random.Generator) -> Scan:
    """A scanner's settings and a patient's bolus, which differ from one patient to the next."""
    peak, arrival = random.uniform(220, 380), random.uniform(5.0, 9.0)
    bolus = Bolus(peak, arrival, random.uniform(4.0, 6.5), random.uniform(1.3, 1.9))
    return Scan(
        interval_s=float(random.choice([1.0, 1.25, 1.41], p=[0.6, 0.2, 0.2])),
        noise=float(random.uniform(1.3, 2.3)),
        orientation=str(random.choice(ORIENTATIONS)),
        bolus=bolus,
    )


def series(stroke: Anatomy, scan: Scan | None = None, seed: int = 0) -> Series:
    """Scan a head: baseline, enhancement, motion, noise.

    Parameters
    ----------
    stroke : Anatomy
    scan : Scan, optional
    seed : int or sequence of int
        Of the motion and the noise.

    Returns
    -------
    Series
        HU in whole numbers, float32 (frames, ...), on axes that point as `scan.orientation` says.
    """
    scan = Scan() if scan is None else scan
    random = np.random.default_rng(seed)
    seconds = np.arange(scan.frames) * scan.interval_s
    parts, courses = _parts(stroke), _courses(scan, seconds)
    shifts = scan.motion_mm * _wander(random, scan.frames)
    turns = np.deg2rad(scan.motion_degrees) * _wander(random, scan.frames)
    shifts[0] = turns[0] = 0  # everything is aligned to the first frame
    moved = _moved(parts, stroke.spacing_mm)
    weights = np.concatenate([np.ones((scan.frames, 1)), shifts, turns], axis=1)
    mixing = np.einsum("fm,fp->fmp", weights, courses).reshape(scan.frames, -1).astype(np.float32)
    values = mixing @ moved.reshape(len(mixing[0]), -1)
    inside = np.flatnonzero((stroke.labels != LABELS["air"]).ravel())
    noise = random.standard_normal((scan.frames, len(inside)), dtype=np.float32)
    noise *= scan.noise
    values[:, inside] += noise
    np.rint(values, out=values)
    np.maximum(values, HU["air"], out=values)
    frames = values.reshape(scan.frames, *stroke.labels.shape)
    return _oriented(frames, geometry(stroke), scan.orientation, seconds)


def _parts(stroke: Anatomy) -> np.ndarray:
    """Pictures (part, z, y, x) of which every frame is a mixture: the baseline, then what enhances."""
    baseline = np.zeros(len(LABELS), dtype=np.float32)
    for name, number in LABELS.items():
        baseline[number] = TISSUES[name].baseline if name in TISSUES else HU[name]
    # a lesion of some hours darkens grey and white matter alike, and hardly
    early = np.where(stroke.labels == LABELS["core"], -2.0, 0.0).astype(np.float32)
    pictures = [baseline[stroke.healthy] + early]
    pictures += [(stroke.labels == LABELS[name]) * stroke.texture for name in TISSUES]
    pictures += [(stroke.labels == LABELS[name]).astype(np.float32) for name in ("artery", "vein")]
    return np.stack([gaussian_filter(picture, PARTIAL_VOLUME, truncate=3) for picture in pictures])


def _courses(scan: Scan, seconds: np.ndarray) -> np.ndarray:
    """How much of each part is in each frame, (frames, part)."""
    cbf, mtt, delay, _ = np.array(list(TISSUES.values())).T
    tissues = tissue_curve(seconds, cbf, mtt, delay, scan.residue, scan.bolus)
    vessels = [arterial(seconds, *scan.bolus), venous(seconds, scan.bolus)]
    return np.column_stack([np.ones(len(seconds)), tissues, *vessels])


def _wander(random: np.random.Generator, frames: int) -> np.ndarray:
    """Slow motion of unit variance in three directions, (frames, 3)."""
    return gaussian_filter(random.standard_normal((frames, 3)), (2, 0), mode="wrap") * np.sqrt(
        4 * np.sqrt(np.pi)
    )


def _moved(parts: np.ndarray, spacing_mm: tuple) -> np.ndarray:
    """The parts, then their change per mm of shift along and per radian of turn about x, y, z: (7, part, z, y, x)."""
    dx, dy, dz = (
        -np.gradient(parts, step, axis=axis) for step, axis in zip(spacing_mm, (3, 2, 1), strict=True)
    )
    z, y, x = (
        ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32)
        for n, step in zip(parts.shape[1:], spacing_mm[::-1], strict=True)
    )
    z, y = z[:, None, None], y[:, None]
    return np.stack([parts, dx, dy, dz, y * dz - z * dy, z * dx - x * dz, x * dy - y * dx])


def geometry(stroke: Anatomy) -> Geometry:
    """Grid of an anatomy's arrays, LPS, with the head's midline at 0."""
    size = stroke.labels.shape[::-1]
    origin = [-(n - 1) / 2 * step for n, step in zip(size, stroke.spacing_mm, strict=True)]
    origin[2] = BASE_MM + stroke.spacing_mm[2] / 2
    return Geometry(tuple(stroke.spacing_mm), tuple(origin), tuple(np.eye(3).ravel().tolist()), size)


def _oriented(values: np.ndarray, grid: Geometry, code: str, seconds: np.ndarray) -> Series:
    """Store (frames, z, y, x) with axes that point elsewhere; every voxel keeps its place in the patient."""
    world = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
    if len(code) != 3 or sorted(world.get(letter, (9,))[0] for letter in code) != [0, 1, 2]:
        raise ValueError(
            f"an orientation is three letters of L/R, P/A and S/I, for instance LPS, not {code!r}"
        )
    origin, direction, order = list(grid.origin_mm), np.zeros((3, 3)), []
    for axis, (where, sign) in enumerate(world[letter] for letter in code):
        direction[where, axis] = sign
        order.append(where)
        if sign < 0:
            values = np.flip(values, 3 - where)
            origin[where] += (grid.size[where] - 1) * grid.spacing_mm[where]
    values = values.transpose(0, *(3 - where for where in order[::-1]))
    turned = Geometry(
        tuple(grid.spacing_mm[where] for where in order),
        tuple(origin),
        tuple(direction.ravel().tolist()),
        tuple(grid.size[where] for where in order),
    )
    return Series(np.ascontiguousarray(values), turned, seconds)

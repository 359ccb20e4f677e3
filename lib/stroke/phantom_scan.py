"""A 4D CT perfusion scan of a phantom's stroke: the head in millimetres, a bolus of contrast, what a scanner sees.

Indicator dilution as in Fieselmann et al. 2011 (doi 10.1155/2011/467563): concentration is measured in HU of
enhancement, to which iodine is proportional.
"""

import itertools
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from lib.inputs.volumes import Geometry, geometry_of, image_of
from lib.stroke.series import Series

NAMES = ("air", "scalp", "skull", "csf", "white", "grey", "oligaemia", "penumbra", "core", "artery", "vein")
LABELS = {name: number for number, name in enumerate(NAMES)}
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
# of the right half, mirrored: stem, then branches up the Sylvian fissure and over the cortex
MIDDLE_ARTERY = (
    [(4, -16, -16), (18, -14, -17), (34, -12, -15), (44, -10, -12)],
    [(44, -10, -12), (48, -18, 0), (50, -24, 14), (48, -26, 28)],
    [(44, -10, -12), (49, 4, 0), (51, 14, 14), (48, 20, 28)],
)
OTHER_ARTERIES = (  # anterior cerebral; basilar and posterior cerebral
    [(3, -17, -16), (2, -34, -10), (2, -44, 4), (2, -40, 20), (2, -24, 34)],
    [(0, 12, -19), (10, 18, -16), (17, 30, -14), (16, 44, -10)],
)
DENSITY = 1.05  # of brain, g/ml
HU = {"air": -1000, "scalp": 25, "skull": 900, "csf": 5, "artery": 42, "vein": 44}
LARGEST = 0.55  # of the side's tissue that can lack blood
RIM = 0.35  # oligaemia's volume over that of core and penumbra
PARTIAL_VOLUME = (0.3, 0.5, 0.5)  # voxels (z, y, x), of the scanner's blur
ORIENTATIONS = ("LPS", "RAS", "LAS", "RPI", "PLS")


class Bolus(NamedTuple):
    """A gamma-variate arterial curve; the defaults lie in the middle of what scanners show."""

    peak: float = 300.0  # HU above the baseline
    arrival: float = 5.0  # s
    a: float = 5.5  # shape; the peak comes a * b seconds after the arrival
    b: float = 1.5  # s, of the wash-out


class Tissue(NamedTuple):
    """Flow (ml/100 g/min), transit time and delay after the artery (s), HU before the contrast comes."""

    cbf: float
    mtt: float
    delay: float
    baseline: float


# typical textbook values, not measurements of one source
TISSUES = {
    "grey": Tissue(60, 4.0, 0.0, 37),
    "white": Tissue(25, 4.8, 0.5, 29),
    "oligaemia": Tissue(35, 6.0, 2.0, 37),
    "penumbra": Tissue(18, 10.0, 5.0, 37),
    "core": Tissue(5, 12.0, 7.0, 35),
}


class Anatomy(NamedTuple):
    """A head with a stroke; axes to the patient's left (x), back (y) and crown (z)."""

    labels: np.ndarray  # uint8 (z, y, x), by `LABELS`
    healthy: np.ndarray  # the same before the stroke
    texture: np.ndarray  # float32 (z, y, x), relative blood flow within a tissue, about 1
    spacing_mm: tuple[float, float, float]  # x, y, z
    core_ml: float
    penumbra_ml: float

    @property
    def geometry(self) -> Geometry:
        """Grid of the arrays, LPS, with the head's midline at 0."""
        size = self.labels.shape[::-1]
        origin = [-(n - 1) / 2 * step for n, step in zip(size, self.spacing_mm, strict=True)]
        origin[2] = BASE_MM + self.spacing_mm[2] / 2
        return Geometry(tuple(self.spacing_mm), tuple(origin), tuple(np.eye(3).ravel().tolist()), size)


class Scan(NamedTuple):
    """How a scanner looks at a head."""

    frames: int = 48
    interval_s: float = 1.0  # between frames
    noise: float = 1.8  # HU, sd of a voxel of 3 x 3 x 5 mm in the head: several of a scanner's own
    motion_mm: float = 0.08  # sd of what registration left along each axis: taken to first order
    motion_degrees: float = 0.05  # about each axis
    orientation: str = "LPS"  # where the axes of the file point to, as SimpleITK names it
    bolus: Bolus = Bolus()


def smooth(random: np.random.Generator, shape: tuple[int, ...], scale: tuple[float, ...]) -> np.ndarray:
    """Smoothed noise of zero mean and unit variance, float32; `scale` in voxels."""
    noise = gaussian_filter(random.standard_normal(shape, dtype=np.float32), scale, mode="wrap", truncate=3)
    return (noise - noise.mean()) / noise.std()


def _head_coordinates(random: np.random.Generator, shape: tuple, spacing_mm: tuple) -> tuple[np.ndarray, ...]:
    """Coordinates of the voxels' centres in the head's frame."""
    sizes = zip(shape[::-1], spacing_mm, strict=True)
    across, back, up = ((np.arange(n, dtype=np.float32) - (n - 1) / 2) * step for n, step in sizes)
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


def _both_sides(lines) -> list[list[tuple[float, float, float]]]:
    return [*lines, *([(-x, y, z) for x, y, z in line] for line in lines)]


def _venous_sinuses(inner: np.ndarray) -> list[list[tuple[float, float, float]]]:
    """Superior sagittal, straight and right transverse sinus along the inner table, whose radii are given in mm."""
    a, b, c = inner - 3.5
    arc = np.deg2rad(np.linspace(125, -15, 40))  # from the front over the crown to the back
    sagittal = [(0.0, b * np.cos(angle), c * np.sin(angle)) for angle in arc]
    low = np.sqrt(1 - (16 / c) ** 2)
    around = np.deg2rad(np.linspace(0, 60, 20))
    transverse = [(a * low * np.sin(angle), b * low * np.cos(angle), -16.0) for angle in around]
    return [sagittal, [(0.0, 30.0, 8.0), (0.0, b, -14.0)], transverse]


def _along_lines(lines, radius, x, y, z, spacing_mm, where) -> np.ndarray:
    """Voxels within `radius` mm of the lines, and `where`."""
    points = [
        start + np.linspace(0, 1, int(np.linalg.norm(end - start)) + 2)[:, None] * (end - start)
        for line in lines
        for start, end in itertools.pairwise(np.array(line, dtype=np.float32))
    ]
    steps = np.arange(-radius, radius + 1e-6, min(radius, 1.1))
    ball = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    ball = ball[(ball**2).sum(axis=1) <= radius**2]
    points = (np.concatenate(points)[:, None] + ball).reshape(-1, 3)
    # the head's frame is a turned grid: x = a i + b j + c, solved for the indices
    side = np.array([[each[0, 0, 1] - each[0, 0, 0], each[0, 1, 0] - each[0, 0, 0]] for each in (x, y)])
    column, row = np.linalg.solve(side, (points[:, :2] - [x[0, 0, 0], y[0, 0, 0]]).T)
    level = (points[:, 2] - z[0, 0, 0]) / spacing_mm[2]
    index = np.rint(np.stack([level, row, column])).astype(int)
    inside = ((index >= 0) & (index < np.array(where.shape)[:, None])).all(axis=0)
    drawn = np.zeros(where.shape, dtype=bool)
    drawn[tuple(index[:, inside])] = True
    return drawn & where


def anatomy(
    seed: int,
    shape: tuple[int, int, int] = (16, 64, 64),
    core_ml: float = 25.0,
    penumbra_ml: float = 60.0,
    side: str = "left",
) -> Anatomy:
    """Draw a head of `shape` (z, y, x) voxels over `FIELD_MM`, and a stroke in one middle cerebral artery's territory.

    The head lies a little off centre and a little turned. The volumes made are the nearest whole number of voxels; where both
    together would exceed `LARGEST` of the side's tissue they are shrunk in proportion. `side` is the patient's.
    """
    spacing_mm = tuple(field / n for field, n in zip(FIELD_MM, shape[::-1], strict=True))
    random, ml = np.random.default_rng(seed), float(np.prod(spacing_mm)) / 1000
    x, y, z = _head_coordinates(random, shape, spacing_mm)  # x is 0 in the midline
    radii = np.array(RADII_MM) * random.uniform(0.95, 1.04, 3)
    length = np.sqrt(x**2 + y**2 + z**2) + 1e-6
    surface = length / np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2 + 1e-9)
    depth = surface - length  # mm along the ray from the centre
    bone = random.uniform(5.5, 7.5)
    field = smooth(random, shape, (1.0, 2.0, 2.0))
    healthy = _brain(random, x, y, z, depth - 4 - bone, field)
    for below, name in ((4 + bone, "skull"), (4, "scalp"), (0, "air")):
        healthy[depth < below] = LABELS[name]
    grid = (x, y, z, spacing_mm, healthy >= LABELS["csf"])
    branches = _along_lines(_both_sides(MIDDLE_ARTERY), 1.4, *grid)
    healthy[branches | _along_lines(_both_sides(OTHER_ARTERIES), 1.4, *grid)] = LABELS["artery"]
    sagittal, straight, transverse = _venous_sinuses(radii - 4 - bone)
    healthy[_along_lines([straight], 1.8, *grid)] = LABELS["vein"]
    healthy[_along_lines([sagittal, *_both_sides([transverse])], 3.4, *grid)] = LABELS["vein"]

    labels, x = healthy.copy(), x if side == "left" else -x
    home = np.flatnonzero(np.isin(healthy, (LABELS["grey"], LABELS["white"])) & (x > 5))
    zones = _lesion_zones(random, (x, y, z), home, field, core_ml / ml, penumbra_ml / ml)
    for name, voxels in zones.items():
        labels.ravel()[voxels] = LABELS[name]
    if (core_ml + penumbra_ml) > 0:  # the occluded artery carries nothing beyond its stem
        labels[branches & (healthy == LABELS["artery"]) & (x > 10)] = LABELS["csf"]
    texture = np.exp(0.12 * smooth(random, shape, (0.7, 1.5, 1.5)))
    return Anatomy(
        labels, healthy, texture, spacing_mm, *(len(zones[name]) * ml for name in ("core", "penumbra"))
    )


def _lesion_zones(random, middle, home, field, core: float, penumbra: float) -> dict[str, np.ndarray]:
    """Voxels (flat indices, of those of `home`) of core, penumbra and oligaemia; of the first two so many are wanted."""
    x, y, z = middle
    shrink = min(1.0, LARGEST * len(home) / max(core + penumbra, 1e-9))
    core, penumbra = round(core * shrink), round(penumbra * shrink)
    centre = random.normal((40, 0, 14), (3, 10, 6))
    distance = ((x - centre[0]) / 30) ** 2 + ((y - centre[1]) / 46) ** 2 + ((z - centre[2]) / 40) ** 2
    order = home[np.argsort((distance + 0.2 * field).ravel()[home], kind="stable")]
    hungry = order[: core + penumbra]
    rim = order[core + penumbra : core + penumbra + round(RIM * (core + penumbra))]
    # the core lies deep, near the lentiform nucleus, which no collaterals reach
    deep = ((x - 0.8 * centre[0]) / 24) ** 2 + ((y - centre[1]) / 34) ** 2 + ((z - 0.7 * centre[2]) / 26) ** 2
    deep = (deep - 0.15 * field).ravel()[hungry]
    inward = hungry[np.argsort(deep, kind="stable")]
    return {"oligaemia": rim, "penumbra": inward[core:], "core": inward[:core]}


def arterial(seconds: np.ndarray, bolus: Bolus = Bolus()) -> np.ndarray:  # noqa: B008  never changed
    """Gamma-variate curve of an artery, HU above the baseline."""
    since = np.maximum(np.asarray(seconds, dtype=float) - bolus.arrival, 0) / (bolus.a * bolus.b)
    return bolus.peak * since**bolus.a * np.exp(bolus.a * (1 - since))


def tissue_curve(seconds: np.ndarray, cbf, mtt, delay=0.0, bolus: Bolus = Bolus()) -> np.ndarray:  # noqa: B008
    """Enhancement of tissues, HU: density CBF (arterial curve convolved with exp(-t / MTT)), delayed.

    `cbf` (ml/100 g/min), `mtt` and `delay` (s) broadcast against each other to a shape S; returns (frames, *S). Each
    step of the integration (0.05 s) carries the residue's integral over it, so that areas are exact.
    """
    step = 0.05
    cbf, mtt, delay = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in (cbf, mtt, delay)))
    since = np.subtract.outer(np.asarray(seconds, dtype=float) - bolus.arrival, delay.ravel())
    fine = np.arange(0, max(float(since.max(initial=0.0)), 0.0) + 2 * step, step)
    artery = arterial(fine, bolus._replace(arrival=0.0))
    transit = mtt.reshape(-1, 1)
    integral = transit * -np.expm1(-np.append(0.0, fine + step / 2) / transit)  # of the residue function
    held = fftconvolve(artery[None], np.diff(integral, axis=1), axes=1)[:, : len(fine)]
    curves = [np.interp(when, fine, curve, left=0.0) for when, curve in zip(since.T, held, strict=True)]
    return np.stack(curves, axis=1).reshape(len(since), *cbf.shape) * (DENSITY * cbf / 6000)


def venous(seconds: np.ndarray, bolus: Bolus = Bolus()) -> np.ndarray:  # noqa: B008  never changed
    """Curve of the vein that drains the brain, HU: the artery's, 2 s later and wider by 4 s, with the same area."""
    return tissue_curve(seconds, 6000 / (DENSITY * 4.0), 4.0, 2.0, bolus)


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


def series(stroke: Anatomy, scan: Scan, seed: int = 0) -> Series:
    """Scan a head: baseline, enhancement, motion, noise; HU in whole numbers, on axes as `scan.orientation` says."""
    random = np.random.default_rng(seed)
    seconds = np.arange(scan.frames) * scan.interval_s
    cbf, mtt, delay, _ = np.array(list(TISSUES.values())).T
    vessels = [arterial(seconds, scan.bolus), venous(seconds, scan.bolus)]
    courses = np.column_stack(  # how much of each part is in each frame, (frames, part)
        [np.ones(scan.frames), tissue_curve(seconds, cbf, mtt, delay, scan.bolus), *vessels]
    )
    shifts = scan.motion_mm * _slow_motion(random, scan.frames)
    turns = np.deg2rad(scan.motion_degrees) * _slow_motion(random, scan.frames)
    shifts[0] = turns[0] = 0  # everything is aligned to the first frame
    moved = _with_motion(_pictures(stroke), stroke.spacing_mm)
    weights = np.concatenate([np.ones((scan.frames, 1)), shifts, turns], axis=1)
    mixing = np.einsum("fm,fp->fmp", weights, courses).reshape(scan.frames, -1).astype(np.float32)
    values = mixing @ moved.reshape(len(mixing[0]), -1)
    inside = np.flatnonzero((stroke.labels != LABELS["air"]).ravel())
    noise = random.standard_normal((scan.frames, len(inside)), dtype=np.float32)
    noise *= scan.noise
    values[:, inside] += noise
    values = np.maximum(np.rint(values), HU["air"], dtype=np.float32)
    frames = values.reshape(scan.frames, *stroke.labels.shape)
    # stored with axes that point elsewhere, every voxel at its place in the patient
    images = [sitk.DICOMOrient(image_of(frame, stroke.geometry), scan.orientation) for frame in frames]
    stored = np.stack([sitk.GetArrayFromImage(image) for image in images])
    return Series(stored, geometry_of(images[0]), scan.interval_s)


def _pictures(stroke: Anatomy) -> np.ndarray:
    """Pictures (part, z, y, x) of which every frame is a mixture: the baseline, then what enhances."""
    density = HU | {name: tissue.baseline for name, tissue in TISSUES.items()}
    baseline = np.array([density[name] for name in LABELS], dtype=np.float32)
    # a lesion of some hours darkens grey and white matter alike, and hardly
    early = np.where(stroke.labels == LABELS["core"], -2.0, 0.0).astype(np.float32)
    pictures = [baseline[stroke.healthy] + early]
    pictures += [(stroke.labels == LABELS[name]) * stroke.texture for name in TISSUES]
    pictures += [(stroke.labels == LABELS[name]).astype(np.float32) for name in ("artery", "vein")]
    return np.stack([gaussian_filter(picture, PARTIAL_VOLUME, truncate=3) for picture in pictures])


def _slow_motion(random: np.random.Generator, frames: int) -> np.ndarray:
    """Slow motion of unit variance in three directions, (frames, 3)."""
    slow = gaussian_filter(random.standard_normal((frames, 3)), (2, 0), mode="wrap")
    return slow * np.sqrt(4 * np.sqrt(np.pi))


def _with_motion(parts: np.ndarray, spacing_mm: tuple) -> np.ndarray:
    """The parts, then their change per mm of shift along and per radian of turn about x, y, z: (7, part, z, y, x)."""
    dx, dy, dz = (-np.gradient(parts, spacing_mm[k], axis=3 - k) for k in range(3))
    sizes = zip(parts.shape[1:], spacing_mm[::-1], strict=True)
    z, y, x = (((np.arange(n) - (n - 1) / 2) * step).astype(np.float32) for n, step in sizes)
    z, y = z[:, None, None], y[:, None]
    return np.stack([parts, dx, dy, dz, y * dz - z * dy, z * dx - x * dz, x * dy - y * dx])

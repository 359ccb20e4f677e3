"""A 4D CT perfusion scan of a phantom's stroke, with its truth."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from lib.inputs.volumes import Geometry, Series
from lib.phantoms.bolus import TISSUES, Bolus, arterial, tissue_curve, venous
from lib.phantoms.head import BASE_MM, FIELD_MM, LABELS, Head, head, smooth

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
        By `lib.phantoms.head.LABELS`; axes to the patient's left, back and crown.
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
        One of `lib.phantoms.bolus.RESIDUES`.
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

"""Tissue as mahmoodlab/CLAM (Lu et al. 2021) finds it, step by step, so that coordinates are its very own."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import pandas as pd
import shapely
from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass as checked_dataclass

from lib.inputs.slides import SUFFIXES, Slide

MOST_PX = 1e8  # of the level CLAM is willing to segment
STRIP_PX = 2**20  # whose colours are converted at a time
REF_PX = 512  # side of the patches in which preset files count areas
DOWNSAMPLE = 64


def _numbers(text: object) -> object:
    if not isinstance(text, str):
        return text
    return () if text.strip().lower() in ("none", "nan", "") else tuple(text.split(","))


Numbers = Annotated[tuple[int, ...], BeforeValidator(_numbers)]


@checked_dataclass(frozen=True)
class Preset:
    """The settings of a preset file that bear on coordinates; CLAM's own names."""

    seg_level: int  # that is segmented; -1: the coarsest up to 64 times
    sthresh: int  # saturation above which is tissue, 0 to 255
    mthresh: int  # side of the median filter, odd
    close: int  # side of the closing
    use_otsu: bool  # Otsu's threshold instead of sthresh
    a_t: float  # least area of tissue, in patches of 512 x 512 level-0 pixels
    a_h: float  # and of holes
    max_n_holes: int  # of a contour
    use_padding: bool  # tiles may hang over the slide's border
    contour_fn: Literal["four_pt", "four_pt_hard", "center", "basic"]  # see `inside_contour`
    keep_ids: Numbers = ()  # contours by number, after filtering; empty: all
    exclude_ids: Numbers = ()  # empty: none
    line_thickness: int = 250  # of outlines in the mask's picture, level-0 pixels


# what CLAM takes where no preset is named ("clam", create_patches_fp.py), and its own preset files
PRESETS = {
    "clam": Preset(-1, 8, 7, 4, False, 100, 16, 8, True, "four_pt"),
    "bwh_resection": Preset(-1, 15, 11, 4, False, 100, 16, 8, True, "four_pt", line_thickness=150),
    "bwh_biopsy": Preset(-1, 15, 11, 2, False, 1, 1, 2, True, "four_pt", line_thickness=50),
    "tcga": Preset(-1, 8, 7, 4, False, 16, 4, 8, True, "four_pt", line_thickness=100),
}


def read_preset(source: str | os.PathLike) -> Preset:
    """A preset by name (see `PRESETS`), or from a csv file as CLAM's: a header and one row."""
    if source in PRESETS:
        return PRESETS[source]
    if not Path(source).is_file():
        raise FileNotFoundError(f"no preset {source}: known are {', '.join(PRESETS)}, and a csv as CLAM's")
    rows = pd.read_csv(source, dtype=str, keep_default_na=False).to_dict("records")
    try:
        (row,) = rows
        preset = Preset(**_settings(row))
        if preset.a_t % 1 or preset.a_h % 1:
            raise ValueError("CLAM cuts a_t and a_h to whole numbers here; in a process_list fractions count")
        return preset
    except ValueError as error:
        raise ValueError(f"{source} is no preset of CLAM, a header and one row: {error}") from error


def read_process_list(path: str | os.PathLike, preset: Preset, slides: Collection[str]) -> dict[str, Preset]:
    """Settings a slide, from a csv of CLAM's `--process_list`: those with process 1, in the order of the file.

    Columns are slide_id (a file's name, with its suffix or without), process (1: tile it; 1 where empty) and any of
    `Preset`; what is empty or has no column comes from `preset`. `slides` are the names that are known; a ValueError where
    another one, or one twice, has process 1.
    """
    rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    if "slide_id" not in rows or "a" in rows:
        raise ValueError(f"{path} is no process_list of CLAM: it needs a column slide_id, and a_t for a")
    known, listed = set(slides), {}
    for row in rows.to_dict("records"):
        slide = row["slide_id"].strip()
        slide = Path(slide).stem if Path(slide).suffix.lower() in SUFFIXES else slide
        process = row.get("process", "").strip() or "1"
        if process not in ("0", "1", "0.0", "1.0"):
            raise ValueError(f"{path}: slide {slide} has process {process!r}: 1 tiles it, 0 leaves it out")
        if float(process):
            if slide not in known or slide in listed:
                fault = "twice" if slide in listed else "and is no slide of this cohort"
                raise ValueError(f"{path} names slide {slide} {fault}: correct it, or give it process 0")
            try:
                listed[slide] = replace(preset, **_settings(row))
            except ValueError as error:
                raise ValueError(f"{path}, slide {slide}: {error}") from error
    if not listed:
        raise ValueError(f"{path} has no slide with process 1: CLAM writes 0 where it is done, write 1 again")
    return listed


def _settings(row: Mapping[str, str]) -> dict[str, str]:
    return {one.name: row[one.name].strip() for one in fields(Preset) if row.get(one.name, "").strip()}


@dataclass(frozen=True)
class Segmentation:
    """Tissue as CLAM sees it."""

    contours: list[np.ndarray]  # outer ones, int32 (m, 2) in level-0 pixels
    holes: list[list[np.ndarray]] = field(default_factory=list)  # those of each contour
    level: int = 0  # that was segmented
    seen: int = 0  # outer contours found
    small: int = 0  # of them smaller than a_t
    not_asked: int = 0  # of them dropped by keep_ids and exclude_ids

    @property
    def sentence(self) -> str:
        """What became of the contours."""
        if not self.seen:
            return "no contour found"
        lost = f", {self.not_asked} excluded by number" if self.not_asked else ""
        return f"{self.seen} contours found, {self.small} of them smaller than a_t{lost}, {len(self.contours)} kept"


def segment(slide: Slide, preset: Preset) -> Segmentation:
    """Segment a slide: saturation, median, threshold, closing, contours with holes, areas.

    A blank slide gives an empty segmentation, where CLAM itself ends the whole batch. Refused are a level of more than 1e8
    pixels (CLAM: failed_seg), a number in keep_ids that no contour has (CLAM: IndexError), and one in exclude_ids (CLAM
    leaves nothing out).
    """
    level = seg_level(slide, preset)
    scale = slide.size / np.array(slide.file_levels[level][0])
    mask = _mask(slide, level, preset)
    found, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if tree is None or not len(found):
        return Segmentation([], level=level)
    parents = tree[0, :, 3]
    area = np.array([cv2.contourArea(contour) for contour in found])
    ref = int(REF_PX**2 / (scale[0] * scale[1]))
    contours, holes = [], []
    outer = np.flatnonzero(parents == -1)
    large = [index for index in outer if area[index] - area[parents == index].sum() > preset.a_t * ref]
    unknown = [f"keep_ids has {i}" for i in preset.keep_ids if not -len(large) <= i < len(large)]
    unknown += [f"exclude_ids has {i}" for i in preset.exclude_ids if not 0 <= i < len(large)]
    if unknown:
        raise ValueError(
            f"{slide.path.name}: {unknown[0]}, but its contours larger than a_t are {len(large)}, numbered from 0: "
            "correct it in the process_list (or the preset)"
        )
    # in the order of a set, as CLAM: features are written in it
    for index in (large[i] for i in set(preset.keep_ids or range(len(large))) - set(preset.exclude_ids)):
        children = np.flatnonzero(parents == index)
        # stable, because CLAM's sorted(reverse=True) leaves equal areas in their order
        largest = children[np.argsort(-area[children], kind="stable")][: preset.max_n_holes]
        contours.append(_scaled(found[index], scale))
        holes.append([_scaled(found[i], scale) for i in largest if area[i] > preset.a_h * ref])
    seen, small = len(outer), len(outer) - len(large)
    return Segmentation(contours, holes, level, seen, small, len(large) - len(contours))


def seg_level(slide: Slide, preset: Preset) -> int:
    """The level CLAM segments, counted as in the file: the preset's, or the coarsest up to 64 times."""
    level = preset.seg_level
    if level < 0:
        level = max((i for i, (_, down) in enumerate(slide.file_levels) if down <= DOWNSAMPLE), default=0)
    if level >= len(slide.file_levels) or np.prod(slide.file_levels[level][0]) > MOST_PX:
        raise ValueError(
            f"{slide.path.name}: level {level} is not there, or has more pixels than CLAM segments (1e8; levels are "
            f"{[size for size, _ in slide.file_levels]}): give another seg_level, or use the exact mode"
        )
    return level


def _mask(slide: Slide, level: int, preset: Preset) -> np.ndarray:
    """Tissue as bytes 0 and 255; 5 bytes a pixel of the level are held, where CLAM holds 12."""
    bgra = slide.whole_level(level)
    mask, rows = np.empty(bgra.shape[:2], np.uint8), max(1, STRIP_PX // bgra.shape[1])
    for y in range(0, len(mask), rows):
        mask[y : y + rows] = _saturation(bgra[y : y + rows])
    del bgra
    cv2.medianBlur(mask, preset.mthresh, dst=mask)
    kind = cv2.THRESH_BINARY + (cv2.THRESH_OTSU if preset.use_otsu else 0)
    cv2.threshold(mask, 0 if preset.use_otsu else preset.sthresh, 255, kind, dst=mask)
    if preset.close > 0:
        # an even side is off-centre: OpenCV's own anchor, as CLAM
        cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((preset.close, preset.close), np.uint8), dst=mask)
    return mask


def _saturation(bgra: np.ndarray) -> np.ndarray:
    """Saturation as CLAM sees it: alpha is divided out of the colours and then ignored, what is clear is black."""
    bgr, alpha = bgra[..., :3], bgra[..., 3:]
    partly = (alpha > 0) & (alpha < 255)
    if partly.any():
        bgr = np.where(partly, (bgr * np.uint16(255) // np.maximum(alpha, 1)).astype(np.uint8), bgr)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)[..., 1]


def _scaled(contour: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return (contour[:, 0] * scale).astype(np.int32)  # truncated, as CLAM


def inside_contour(coords: np.ndarray, contour, holes: list, patch_px: int, rule: str) -> np.ndarray:
    """Which tiles CLAM keeps: bool (n,), False as well where the centre lies within a hole.

    `coords` (n, 2) are their top left corners, `patch_px` is their side, `contour` and each of the `holes` are (m, 2); all in
    level-0 pixels. `rule` is "four_pt" (any of four points half-way between centre and corners lies in the contour or on it;
    CLAM's docs say all), "four_pt_hard" (all), "center", "basic" (the corner).
    """
    shift = int(patch_px // 2 * 0.5) if rule.startswith("four_pt") else 0
    around = [(-shift, -shift), (shift, shift), (shift, -shift), (-shift, shift)][: 4 if shift else 1]
    points = (coords if rule == "basic" else coords + patch_px // 2) + np.array(around)[:, None]
    touched = shapely.intersects_xy(_polygon(contour), points[..., 0], points[..., 1])
    kept = touched.all(0) if rule == "four_pt_hard" else touched.any(0)
    for hole in holes:
        kept &= ~shapely.contains_xy(_polygon(hole), *(coords + patch_px / 2).T)
    return kept


def _polygon(contour: np.ndarray) -> shapely.Polygon:
    """A contour to ask points of: GEOS counts crossings exactly, and as OpenCV's pointPolygonTest where it touches itself."""
    polygon = shapely.Polygon(contour if len(contour) > 2 else np.concatenate([contour] * 3))
    shapely.prepare(polygon)
    return polygon

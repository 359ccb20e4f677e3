"""Whether numbers are Hounsfield units: one check for every CT, a static scan or a frame of a film."""

import os
import re

import numpy as np

AIR_HU = -1024.0
PADDING_HU = -1500.0
"""Below it nothing was measured: scanners fill the corners outside their field with -2000 or -3024."""

TISSUE_HU = (-200.0, 200.0)
"""Fat, water, muscle, organs, most of them after contrast too."""

OFFSET = 1024
"""What scanners add to HU so that stored numbers are not negative."""

FAT_HU = -50.0  # below it lie fat and air, of which every whole scan has some
CUT_HU = -300.0  # a scan whose lowest value is higher, and that of many voxels, was cut to a window
CUT, FEW, NONE = 0.05, 0.01, 0.001  # shares of voxels
DENSE_HU, DENSE = 4000.0, 0.03  # metal reaches beyond it, in few voxels
HIGHEST_HU = 32767.0
MASKED_HU = 80.0  # brain; a part that was masked to 0 and is brighter cannot be told from grey levels
OTHER_MAPS = re.compile(
    r"\b(IODINE|WATER|CALCIUM|URIC_?ACID|FAT_?FRACTION|Z_?EFF\w*|EFF_ATOMIC_NUM|ELECTRON_DENSITY|RHO_?Z?|"
    r"MAT_(SPECIFIC|FRACTIONAL|VALUE_BASED)|CBF|CBV|MTT|TTP|TMAX|PERFUSION_MAP|OVERLAY|RGB)\b"
)


def check_hounsfield(
    values: np.ndarray,
    path: str | os.PathLike,
    *,
    modality: str = "",
    units: str = "",
    image_type: str = "",
    whole: bool = False,
) -> str:
    """Refuse values that are no HU, by what the header says and by signs that no part of a CT scan shows.

    `values`, of any shape, are a scan, or a film's frames before the contrast arrives. `modality`, `units` and `image_type`
    are DICOM's Modality, RescaleType and ImageType, or a sidecar's, "" where nothing says it; RescaleType US is "unspecified",
    which many scanners write of HU. `whole` says that the field of view is as it was scanned (a DICOM series), so that air or
    fat must be there. Returned is what is odd and yet may be HU, for the table that the stage shows; "" if nothing is.

    Raises
    ------
    ValueError
        Another modality or unit, or a map of a material. One value throughout; all within 20 of 0 (scaled); any above
        32,767 or 3 in 100 above 4,000 (signed numbers read as unsigned); exactly 0 to 255; fewer than 1 in 100 voxels
        below -50 and, of those above 200, more than half around 1024 (rescale forgotten); fewer than 1 in 100 voxels
        within -200 to 300; a window cut out (1 in 20 voxels have the lowest value) and moved, so that tissue's most
        frequent value is not within -150 to 180, or is above 80 where the window ends at 0; a whole scan without fat or
        air.
    """
    if said := _said_by_header(modality, units, image_type):
        raise ValueError(f"{path} is not in HU: {said}")
    measured = np.asarray(values)[np.asarray(values) > PADDING_HU]
    low, high = (float(measured.min()), float(measured.max())) if measured.size else (AIR_HU, AIR_HU)
    dense, fault = measured[measured > TISSUE_HU[1]], ""
    stored = (dense > OFFSET + TISSUE_HU[0]) & (dense < OFFSET + TISSUE_HU[1])
    cut = low > CUT_HU and (measured == low).mean() >= CUT
    tissue = _commonest(measured[measured > low] if cut else measured)
    moved = low > 0 or not -150 <= tissue <= 180 or (low == 0 and tissue > MASKED_HU)
    light, over = ((measured < FAT_HU).mean(), (measured > DENSE_HU).mean()) if measured.size else (0.0, 0.0)
    if low == high:
        fault = "it is blank; give the scan itself"
    elif max(-low, high) < 20:
        fault = "as if scaled or standardised; give the scan before that"
    elif high > HIGHEST_HU or over > DENSE:
        fault = f"{over:.1%} of them above {DENSE_HU:g}: signed numbers stored as unsigned; convert it again"
    elif (low, high) == (0, 255):
        fault = "grey levels of a picture; give the scan it was made from"
    elif light < FEW and dense.size and stored.mean() > 1 / 2:
        fault = (
            f"and {stored.mean():.0%} of those above 200 lie around {OFFSET}, soft tissue without the rescale "
            f"intercept; convert it again from DICOM, or subtract {OFFSET}"
        )
    elif ((measured > TISSUE_HU[0]) & (measured < 300)).mean() < FEW:
        fault = "hardly any of them is tissue's; is the rescale intercept applied twice, or the scan of air alone?"
    elif cut and moved:
        fault = (
            f"{(measured == low).mean():.0%} of them the lowest, and most tissue around {tissue:.0f}: a window of grey "
            "levels; give the scan it was made from (what is masked out of a scan is to be -1024)"
        )
    elif whole and light < NONE:
        fault = "without air or fat: a map made of the scan; name the series of the scan itself"
    elif (whole or light >= CUT) and not -150 <= tissue <= 180:
        fault = f"most tissue around {tissue:.0f}; convert it again"
    if fault:
        raise ValueError(f"{path} is not in HU: its values reach from {low + 0:g} to {high + 0:g}, {fault}")
    remark = f"its units are {units}: HU after a material was changed" if units.strip() == "HU_MOD" else ""
    if cut:
        remark = (
            f"{(measured == low).mean():.0%} of the voxels have the lowest value, {low:g} HU: masked or cut"
        )
    elif light < NONE:
        remark = f"no air and no fat, values from {low:g} to {high:g}: a part of a scan, if these are HU"
    elif not -150 <= tissue <= 180:
        remark = f"the most frequent value of tissue is {tissue:.0f} HU"
    return remark


def _said_by_header(modality: str, units: str, image_type: str) -> str:
    if modality.strip().upper() not in ("", "CT"):
        return f"its header says {modality}; name the folder or `series` of the CT"
    other = another_map(units, image_type)
    return (
        f"its header says that it is a map ({other}); name the `series` of the scan itself" if other else ""
    )


def another_map(units: str, image_type: str) -> str:
    """The unit (RescaleType) or the kind (ImageType) that says that a picture is not in HU, "" where none does."""
    if units.strip().upper() not in ("", "HU", "US", "HU_MOD"):
        return f"in the unit {units.strip()}"
    kind = OTHER_MAPS.search(image_type.upper())
    return kind[0] if kind else ""


def _commonest(values: np.ndarray) -> float:
    """The middle of the fullest 60 HU of what is no lung or air, in steps of 20; 0 where there is nothing."""
    counts, edges = np.histogram(values, np.arange(CUT_HU, 3001, 20))
    return (
        float(np.convolve(counts, [1, 1, 1], "same").argmax() * 20 + edges[0] + 10) if counts.any() else 0.0
    )

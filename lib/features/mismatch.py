"""What a clinic reads off a perfusion scan: the arterial curve, the maps, core against hypoperfused tissue."""

from typing import NamedTuple

import numpy as np

from lib.features.arterial_input import ArterialInput, arterial_input
from lib.features.lesions import Lesions, lesion_volumes, parenchyma
from lib.features.perfusion_maps import Maps, perfusion_maps
from lib.inputs.perfusion import Prepared


class Mismatch(NamedTuple):
    """One scan, read."""

    artery: ArterialInput
    maps: Maps
    lesions: Lesions

    def told(self) -> dict[str, object]:
        """A row of volumes.csv: volumes in ml, the normal side, how the artery was found, the smoothing in mm."""
        row = {
            key: getattr(self.lesions, key)
            for key in ("core_ml", "hypoperfused_ml", "mismatch_ml", "normal_side")
        }
        artery = {"artery_factor": self.artery.factor, "artery_voxels": len(self.artery.voxels)}
        return {
            **row,
            **artery,
            "smoothing_mm": self.maps.smoothing_mm,
            "remarks": "; ".join(self.artery.remarks),
        }


def mismatch(
    scan: Prepared,
    lambda_: float = 0.1,
    how: str = "circulant",
    core_rcbf: float = 0.3,
    tmax_s: float = 6.0,
) -> Mismatch:
    """Find the artery, deconvolve, and measure core and hypoperfused tissue in the parenchyma.

    Parameters
    ----------
    scan : Prepared
    lambda_, how
        See `lib.features.deconvolution.residue`.
    core_rcbf, tmax_s
        See `lib.features.lesions.lesion_volumes`.

    Raises
    ------
    ValueError
        No artery, or no normal tissue to compare with.
    """
    interval = float(np.diff(scan.seconds).mean())
    artery = arterial_input(scan.enhancement, scan.mask, interval)
    spacing = scan.geometry.spacing_mm
    maps = perfusion_maps(
        scan.enhancement, scan.mask, artery, interval, spacing_mm=spacing, lambda_=lambda_, how=how
    )
    tissue = parenchyma(scan.baseline, scan.mask)
    return Mismatch(artery, maps, lesion_volumes(maps, tissue, scan.geometry, core_rcbf, tmax_s))

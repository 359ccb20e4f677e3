"""Radiomics: named settings of PyRadiomics, the features each gives in a fixed order, and one row of them a region.

PyRadiomics (van Griethuysen et al. 2017, doi:10.1158/0008-5472.CAN-17-0339) is an extra of this package, so it is
imported where it is used. It lays the grid it resamples to from the first voxel of the file, so its features change when
the same image is stored the other way round. `lib.inputs.volumes` turns images to LPS, so ours do not; where a file is
stored otherwise they differ a little from PyRadiomics on that file (4% in one of upstream's baselines).
"""

import copy
import hashlib
import importlib
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
import SimpleITK as sitk
import yaml

from lib.inputs.volumes import Volume, image_of

PRESETS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
"""slicer, default, ct: parameters as a PyRadiomics parameter file has them."""

WAVELETS = tuple(f"wavelet-{x}{y}{z}" for x in "LH" for y in "LH" for z in "LH")


def pyradiomics() -> ModuleType:
    """The package, or a sentence that says how to install it."""
    try:
        package = importlib.import_module("radiomics")
        importlib.import_module("radiomics.featureextractor")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"radiomics needs PyRadiomics, and {error.name} is not installed: run scripts/setup.sh, which builds "
            "pyradiomics==3.0.1 after numpy (a plain pip install of it fails)"
        ) from error
    package.setVerbosity(40)  # it warns in every case that its GLCM is symmetrical
    return package


def feature_names(preset: str) -> list[str]:
    """Names of a preset's features in their fixed order: shape, then image by image, class by class, alphabetically."""
    parameters, known = PRESETS[preset], pyradiomics().getFeatureClasses()
    classes, images = {}, []
    for name, chosen in parameters["featureClass"].items():
        computed = known[name].getFeatureNames()
        classes[name] = sorted(chosen or (each for each, deprecated in computed.items() if not deprecated))
    for kind, how in parameters["imageType"].items():  # prefixes, as PyRadiomics names what its filters give
        sigmas = [f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D" for sigma in how.get("sigma", [])]
        images += {"Original": ["original"], "LoG": sigmas, "Wavelet": WAVELETS}[kind]
    names = [f"original_shape_{each}" for each in classes.pop("shape", [])]
    pairs = [(name, each) for name in classes for each in classes[name]]
    return names + [f"{image}_{name}_{each}" for image in images for name, each in pairs]


def recorded(preset: str) -> dict:
    """What a reader needs to extract the same numbers: settings, all of them spelt out, and versions.

    preset; features, their number; setting, image_types, feature_classes; versions; settings_id, twelve digits that
    differ where any of these does.
    """
    extractor = pyradiomics().featureextractor.RadiomicsFeatureExtractor(copy.deepcopy(PRESETS[preset]))
    content = {
        "preset": preset,
        "features": len(feature_names(preset)),
        "setting": extractor.settings,
        "image_types": extractor.enabledImagetypes,
        "feature_classes": extractor.enabledFeatures,
        "versions": {name: version(name) for name in ("pyradiomics", "SimpleITK", "numpy", "PyWavelets")}
        | {"python": platform.python_version()},
    }
    text = json.dumps(content, sort_keys=True)
    return content | {"settings_id": hashlib.sha256(text.encode()).hexdigest()[:12]}


def extract(volume: Volume, mask: np.ndarray, preset: str = "default") -> dict[str, float]:
    """Features of one region, all finite, in the order of `feature_names`.

    The volume's whole numbers (HU of a CT) stay whole when resampled, as in PyRadiomics on the file itself; `mask` is bool
    (z, y, x). A ValueError where the region has no voxels or one value throughout, is one slice or line thick while the
    preset looks at shape or texture, or PyRadiomics gives no finite number for a feature.
    """
    parameters, names = copy.deepcopy(PRESETS[preset]), feature_names(preset)
    values, inside = volume.values, volume.values[mask]
    if not inside.size or inside.min() == inside.max():
        said = f"the {inside.size} voxels of the region have the value {inside[:1]}"
        raise ValueError(f"{said}: it is empty, or lies on padding")
    extent = [int(np.ptp(indices)) + 1 for indices in np.nonzero(mask)[::-1]]
    if 1 in extent and set(parameters["featureClass"]) != {"firstorder"}:
        raise ValueError(
            f"the region is {' x '.join(map(str, extent))} voxels (x, y, z), so it is flat: shape and texture in "
            "three dimensions need two slices or more; the preset slicer does without"
        )
    if (values == np.rint(values)).all() and np.abs(values).max() < 2**24:
        values = values.astype(np.int32)
    extractor = pyradiomics().featureextractor.RadiomicsFeatureExtractor(parameters)
    extractor.addProvenance(False)
    with _one_thread():
        found = extractor.execute(image_of(values, volume.geometry), image_of(mask, volume.geometry))
    # a filter passes over an image that is too small for it with no more than a line in the log
    lacking = [name for name in names if not np.isfinite(float(found.get(name, np.nan)))]
    if lacking or len(found) != len(names):
        raise ValueError(
            f"{len(lacking)} of {len(names)} features are missing or not finite in this region of {mask.sum()} voxels: "
            f"{', '.join(lacking[:3])}"
        )
    return {name: float(found[name]) for name in names}


@contextmanager
def _one_thread() -> Iterator[None]:
    """ITK with one thread: shards share the cores, and sums do not depend on how many there are."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)

"""Named settings of PyRadiomics, the features each of them gives in a fixed order, and what is recorded of a run.

PyRadiomics (van Griethuysen et al. 2017, doi:10.1158/0008-5472.CAN-17-0339) is an extra of this package, so it is
imported where it is used.
"""

import copy
import hashlib
import importlib
import json
import platform
from importlib.metadata import version
from types import ModuleType

CLASSES = ("shape", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")

# as upstream's examples/exampleSettings/exampleCT.yaml has them: without SumAverage and MCC
CT_GLCM = [
    "Autocorrelation",
    "JointAverage",
    "ClusterProminence",
    "ClusterShade",
    "ClusterTendency",
    "Contrast",
    "Correlation",
    "DifferenceAverage",
    "DifferenceEntropy",
    "DifferenceVariance",
    "JointEnergy",
    "JointEntropy",
    "Imc1",
    "Imc2",
    "Idm",
    "Idmn",
    "Id",
    "Idn",
    "InverseVariance",
    "MaximumProbability",
    "SumEntropy",
    "SumSquares",
]

# three dimensions: a region that is one slice thick at 1 mm would be measured all the same; upstream asks for two
AT_1_MM = {
    "resampledPixelSpacing": [1, 1, 1],
    "interpolator": "sitkBSpline",
    "binWidth": 25,
    "minimumROIDimensions": 3,
    "label": 1,
}

PRESETS = {
    "slicer": {
        "setting": {"binWidth": 25, "symmetricalGLCM": True, "label": 1},
        "imageType": {"Original": {}},
        "featureClass": {"firstorder": []},
    },
    "default": {
        "setting": AT_1_MM,
        "imageType": {"Original": {}},
        "featureClass": {name: [] for name in CLASSES},
    },
    "ct": {
        "setting": AT_1_MM | {"padDistance": 10, "voxelArrayShift": 1000},
        "imageType": {"Original": {}, "LoG": {"sigma": [1.0, 2.0, 3.0, 4.0, 5.0]}, "Wavelet": {}},
        "featureClass": {name: CT_GLCM if name == "glcm" else [] for name in CLASSES[:-1]},
    },
}
"""Parameters as a PyRadiomics parameter file has them.

- slicer: the module of 3D Slicer as it opens, first-order features of the image as it is: 18.
- default: the seven classes PyRadiomics computes unasked, at 1 mm: 107.
- ct: upstream's example for CT, at 1 mm with five Laplacians of Gaussian and eight wavelets: 1,218.
"""

_WAVELETS = tuple(f"wavelet-{x}{y}{z}" for x in "LH" for y in "LH" for z in "LH")


def pyradiomics() -> ModuleType:
    """The package.

    Raises
    ------
    ModuleNotFoundError
        Not installed; says how.
    """
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


def preset_named(name: str) -> dict:
    """A copy of a preset's parameters.

    Raises
    ------
    ValueError
    """
    if name not in PRESETS:
        raise ValueError(f"there is no radiomics preset {name!r}: there are {', '.join(PRESETS)}")
    return copy.deepcopy(PRESETS[name])


def feature_names(preset: str) -> list[str]:
    """Names of a preset's features in their fixed order: shape, then image by image, class by class, alphabetically.

    Raises
    ------
    ValueError
        No such preset.
    """
    parameters, known = preset_named(preset), pyradiomics().getFeatureClasses()
    classes = {}
    for name, chosen in parameters["featureClass"].items():
        there = known[name].getFeatureNames()
        classes[name] = sorted(chosen or (each for each, deprecated in there.items() if not deprecated))
    names = [f"original_shape_{each}" for each in classes.pop("shape", [])]
    for image in _images(parameters["imageType"]):
        names += [f"{image}_{name}_{each}" for name, features in classes.items() for each in features]
    return names


def _images(types: dict) -> list[str]:
    """Prefixes of features, as PyRadiomics names what its filters give."""
    found = []
    for kind, how in types.items():
        if kind == "Original":
            found.append("original")
        elif kind == "LoG":
            found += [f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D" for sigma in how["sigma"]]
        else:
            found += _WAVELETS
    return found


def recorded(preset: str) -> dict:
    """What a reader needs to extract the same numbers: settings, all of them spelt out, and versions.

    Returns
    -------
    dict
        preset; features, their number; setting, image_types, feature_classes; versions of pyradiomics, SimpleITK,
        numpy, PyWavelets and Python; settings_id, twelve digits that differ where any of these does.

    Raises
    ------
    ValueError
        No such preset.
    """
    extractor = pyradiomics().featureextractor.RadiomicsFeatureExtractor(preset_named(preset))
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

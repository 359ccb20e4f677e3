"""Named settings of PyRadiomics, the features each of them gives in a fixed order, and what is recorded of a run.

PyRadiomics (van Griethuysen et al. 2017, doi:10.1158/0008-5472.CAN-17-0339) is an extra of this package, so it is
imported where it is used.

Radiomics: one row of features a case, from an image and a region of its mask, several cases at a time.

PyRadiomics lays the grid it resamples to from the first voxel of the file, so its features change when the same image
is stored the other way round. Images are turned to LPS here before, so ours do not; where a file is stored otherwise
they differ a little from PyRadiomics on that file (4% in one of upstream's baselines).
"""

import copy
import hashlib
import importlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd
import SimpleITK as sitk

from lib.files import write_csv, write_json
from lib.inputs.dicom import read_dicom
from lib.inputs.masks import read_label
from lib.inputs.volumes import Volume, image_of, read_volume

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


class Case(NamedTuple):
    """An image and the region of it that is measured.

    Attributes
    ----------
    name : str
        Of the row.
    image, mask : path
        .nii, .nii.gz, .nrrd or .mha in any orientation; the image may be a folder with one DICOM series.
    label : int or str, optional
        Number or name of the region in the mask (see `lib.inputs.masks.label_number`); None: everything above 0.
    """

    name: str
    image: str | os.PathLike
    mask: str | os.PathLike
    label: int | str | None = 1


class Radiomics(NamedTuple):
    """What was extracted.

    Attributes
    ----------
    features : DataFrame
        A row for each case that succeeded, in the order of the cases: `case`, then the features in the preset's order.
    report : DataFrame
        A row for every case: case, status ("done" or "failed"), reason, label, voxels and volume_ml of the region as
        it was given, spacing_mm of the image, preset, settings_id.
    settings : dict
        See `lib.features.radiomics.recorded`.
    """

    features: pd.DataFrame
    report: pd.DataFrame
    settings: dict


class _Outcome(NamedTuple):
    values: list[float] | None
    reason: str = ""
    voxels: int | None = None
    volume_ml: float | None = None
    spacing_mm: str = ""


def extract(volume: Volume, mask: np.ndarray, preset: str = "default") -> dict[str, float]:
    """Features of one region.

    Parameters
    ----------
    volume : Volume
        HU where it is CT. Whole numbers stay whole when resampled, as in PyRadiomics on the file itself.
    mask : ndarray of bool, shape (z, y, x)
    preset : "slicer" | "default" | "ct"
        See `lib.features.radiomics.PRESETS`.

    Returns
    -------
    dict
        Feature to value, all finite, in the order of `feature_names`.

    Raises
    ------
    ValueError
        An empty region, one voxel, one slice or line thick (unless the preset looks at no shape or texture), or of one
        value throughout; a feature is missing or not finite; what PyRadiomics refuses.
    """
    parameters, names = preset_named(preset), feature_names(preset)
    _check(volume, mask, solid=set(parameters["featureClass"]) != {"firstorder"})
    values = volume.values
    if (values == np.rint(values)).all() and np.abs(values).max() < 2**24:
        values = values.astype(np.int32)
    extractor = pyradiomics().featureextractor.RadiomicsFeatureExtractor(parameters)
    extractor.addProvenance(False)
    with _one_thread():
        found = extractor.execute(image_of(values, volume.geometry), image_of(mask, volume.geometry))
    if odd := set(names) ^ set(found):
        # a filter passes over an image that is too small for it with no more than a line in the log
        raise ValueError(
            f"PyRadiomics gave {len(found)} of {len(names)} features: {_few(sorted(odd))} differ"
        )
    row = {name: float(found[name]) for name in names}
    if bad := [name for name, value in row.items() if not np.isfinite(value)]:
        raise ValueError(
            f"{len(bad)} of {len(row)} features are not finite in this region of {mask.sum()} voxels: {_few(bad)}"
        )
    return row


def extract_cases(
    cases: Sequence[Case], preset: str = "default", *, jobs: int | None = None, resample: bool = False
) -> Radiomics:
    """Features of many cases, several processes at a time, each with one ITK thread: equal to one after another.

    A case that fails leaves no row in the features; the report says why.

    Parameters
    ----------
    cases : sequence of Case
        Names differ.
    preset : "slicer" | "default" | "ct"
    jobs : int, optional
        Processes; 1: none beside this one. Else as many as this process may use cores. A script that calls this with
        more than 1 needs `if __name__ == "__main__":`; a notebook does not.
    resample : bool
        Bring masks from another grid over by their place in the patient; else such a case fails.

    Raises
    ------
    ModuleNotFoundError
        PyRadiomics is not installed.
    ValueError
        No case, a name twice, no such preset, jobs below 1.
    """
    cases, settings = [Case(*case) for case in cases], recorded(preset)
    names = pd.Series([case.name for case in cases], dtype=object)
    if names.empty:
        raise ValueError("no case was given for radiomics")
    if names.duplicated().any():
        raise ValueError(f"case {names[names.duplicated()].iloc[0]!r} is there twice: a case has one row")
    jobs = min(_cores() if jobs is None else jobs, len(cases))
    if jobs < 1:
        raise ValueError(f"jobs must be 1 or more, it is {jobs}")
    tasks = [(case, preset, resample) for case in cases]
    outcomes = [_attempt(*task) for task in tasks] if jobs == 1 else _in_processes(tasks, jobs)
    done = [(case.name, *each.values) for case, each in zip(cases, outcomes, strict=True) if each.values]
    report = pd.DataFrame(
        {
            "case": names,
            "status": ["done" if each.values else "failed" for each in outcomes],
            "reason": [each.reason for each in outcomes],
            "label": pd.Series([case.label for case in cases], dtype=object),
            "voxels": pd.array([each.voxels for each in outcomes], dtype="Int64"),
            "volume_ml": [np.nan if each.volume_ml is None else each.volume_ml for each in outcomes],
            "spacing_mm": [each.spacing_mm for each in outcomes],
            "preset": preset,
            "settings_id": settings["settings_id"],
        }
    )
    return Radiomics(pd.DataFrame(done, columns=["case", *feature_names(preset)]), report, settings)


def write_radiomics(folder: str | os.PathLike, result: Radiomics) -> None:
    """Write radiomics.csv, radiomics_report.csv and radiomics_settings.json, each atomically."""
    write_csv(result.features, Path(folder) / "radiomics.csv")
    write_csv(result.report, Path(folder) / "radiomics_report.csv")
    write_json(result.settings, Path(folder) / "radiomics_settings.json")


def _check(volume: Volume, mask: np.ndarray, solid: bool) -> None:
    """Refuse a region that has nothing to measure; `solid`: shape or texture in three dimensions is asked for."""
    if mask.shape != volume.values.shape:
        raise ValueError(f"the mask has {mask.shape} voxels (z, y, x), its volume {volume.values.shape}")
    count = int(mask.sum())
    if count < 2:
        raise ValueError(
            f"the region {'is empty' if not count else 'has one voxel'}: there is nothing to measure"
        )
    extent = [int(np.ptp(indices)) + 1 for indices in np.nonzero(mask)[::-1]]
    if solid and 1 in extent:
        raise ValueError(
            f"the region is {' x '.join(map(str, extent))} voxels (x, y, z), so it is flat: shape and texture in "
            "three dimensions need two slices or more; the preset slicer does without"
        )
    inside = volume.values[mask]
    if inside.min() == inside.max():
        raise ValueError(
            f"all {count} voxels of the region have the value {inside[0]:g}: the mask lies on padding or a blank image"
        )


def _few(names: list[str]) -> str:
    """The first three of some names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _attempt(case: Case, preset: str, resample: bool) -> _Outcome:
    """Read and measure one case; whatever goes wrong becomes its reason."""
    known = {}
    try:
        with _one_thread():
            if Path(case.image).is_dir():
                volume = read_dicom(case.image, oblique="keep", modality=None)
            else:
                volume = read_volume(case.image, oblique="keep")
            known["spacing_mm"] = " x ".join(f"{each:.6g}" for each in volume.geometry.spacing_mm)
            mask = read_label(case.mask, volume.geometry, case.label, resample)
            known["voxels"] = int(mask.sum())
            known["volume_ml"] = round(known["voxels"] * volume.geometry.voxel_ml, 6)
            return _Outcome(list(extract(volume, mask, preset).values()), **known)
    except Exception as error:  # one case must not take the others with it
        reason = " ".join(str(error).split()) or "no message"
        if not isinstance(error, ValueError | FileNotFoundError):
            reason = f"{type(error).__name__}: {reason}"
        return _Outcome(None, reason, **known)


def _in_processes(tasks: list[tuple], jobs: int) -> list[_Outcome]:
    """Outcomes in the order of the tasks.

    Processes are spawned: a fork of a process that has run threads (Jupyter's, ITK's) can wait for ever.
    """
    outcomes = _pooled(tasks, jobs)
    # a process that dies breaks the pool, and whose fault it was is seen when each goes alone
    lost = [number for number, each in enumerate(outcomes) if each is None]
    for number in lost:
        outcomes[number] = _pooled(tasks[number : number + 1], 1)[0] or _Outcome(
            None,
            "its process ended without a word: out of memory, or a script without "
            '`if __name__ == "__main__":`; jobs=1 needs no process',
        )
    return outcomes


def _pooled(tasks: list[tuple], jobs: int) -> list[_Outcome | None]:
    """Outcomes; None for those a broken pool did not come to."""
    outcomes: list[_Outcome | None] = [None] * len(tasks)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        try:
            futures = [pool.submit(_attempt, *task) for task in tasks]
        except BrokenProcessPool:
            return outcomes
        for number, future in enumerate(futures):
            try:
                outcomes[number] = future.result()
            except BrokenProcessPool:
                continue
            except BaseException:  # a reader who stops the notebook does not wait for the cases to come
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return outcomes


@contextmanager
def _one_thread() -> Iterator[None]:
    """ITK with one thread: cases share the cores, and sums do not depend on how many there are."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

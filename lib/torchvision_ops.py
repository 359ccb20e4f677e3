"""The two torchvision operators that are missing when its C extension cannot load.

The registry's torchvision is a CUDA build. Beside a CPU torch its extension cannot load, and `import torchvision`
stops with "operator torchvision::nms does not exist" (pytorch/vision issues 8985 and 9077), which takes timm,
torchmetrics and lightning down with it. None of them needs the operators, only their names: these are defined here,
and only then. Where the extension loads, or torchvision is absent, nothing happens.
"""

import ctypes
import sys
from importlib.machinery import ModuleSpec, PathFinder

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

# the definitions live as long as this library object
_library = None


def extension_loads(folder: str) -> bool:
    """Whether torchvision's C extension is in its package `folder` and can be loaded."""
    import torch  # noqa: F401  the extension links to torch's libraries

    spec = PathFinder.find_spec("_C", [folder])
    try:
        return spec is not None and ctypes.CDLL(spec.origin) is not None
    except OSError:
        return False


def define_missing(folder: str) -> bool:
    """Define the schemas of nms and qnms if torchvision's own, in its package `folder`, cannot be loaded; tell whether.

    Calling them still raises an error: they are names without a kernel.
    """
    global _library
    if _library is not None or extension_loads(folder):
        return False
    import torch

    if hasattr(torch.ops.torchvision, "nms"):  # somebody else was here first: a second definition would abort
        return False
    _library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        _library.define(name + SCHEMA)
    return True


class TorchvisionFinder:
    """An import hook that calls `define_missing` just before torchvision's own code runs, whoever imports it."""

    @classmethod
    def find_spec(cls, name: str, path=None, target=None) -> ModuleSpec | None:
        if name != "torchvision":
            return None
        others = (finder for finder in sys.meta_path if finder is not cls and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is None or spec.loader is None or not spec.submodule_search_locations:
            return spec
        folder, run = spec.submodule_search_locations[0], spec.loader.exec_module

        # at execution, not at the search: asking whether torchvision exists must not import torch
        def guarded(module):
            define_missing(folder)
            run(module)

        spec.loader.exec_module = guarded
        return spec


def install() -> None:
    """Put the hook in front of the import machinery, once; one left from before a reload of this module goes."""
    name = TorchvisionFinder.__qualname__
    others = [finder for finder in sys.meta_path if getattr(finder, "__qualname__", "") != name]
    sys.meta_path[:] = [TorchvisionFinder, *others]

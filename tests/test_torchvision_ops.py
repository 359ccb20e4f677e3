"""The guard runs in fresh interpreters: what is imported once in this one cannot be taken back."""

import subprocess
import sys
import textwrap

import pytest


def run(code: str, root) -> str:
    """The output of a fresh interpreter in the repository's folder."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip()


def test_import_of_lib_is_cheap_and_imports_neither_torch_nor_torchvision(root):
    code = """
        import sys
        import lib
        import importlib.util
        assert importlib.util.find_spec("torchvision") is not None
        assert importlib.util.find_spec("torchvision_of_nobody") is None
        print({"torch", "torchvision", "numpy", "timm"} & set(sys.modules))
    """
    assert run(code, root) == "set()"


def test_everything_that_imports_torchvision_can_be_imported(root):
    code = """
        import lib, timm, lightning, torchmetrics
        from torchvision.transforms import v2
        from lib import torchvision_ops
        folder = __import__("torchvision").__path__[0]
        # defined here exactly where the extension cannot load
        print((torchvision_ops._library is None) == torchvision_ops.extension_loads(folder))
    """
    assert run(code, root) == "True"


def test_without_the_guard_the_cpu_build_fails(root):
    # otherwise the guard would be a relic: this test then says so
    code = """
        import torch, importlib.util
        from importlib.machinery import PathFinder
        import sys
        sys.path.insert(0, ".")
        from lib import torchvision_ops
        sys.meta_path.remove(torchvision_ops.TorchvisionFinder)
        loads = torchvision_ops.extension_loads(importlib.util.find_spec("torchvision").submodule_search_locations[0])
        try:
            import torchvision
            print(loads)
        except RuntimeError as error:
            print("nms does not exist" in str(error) and not loads)
    """
    assert run(code, root) == "True"


@pytest.fixture
def fake_torchvision(tmp_path):
    """A package torchvision whose extension is some library of this machine that loads."""

    def make(extension: bytes | None):
        folder = tmp_path / "torchvision"
        folder.mkdir()
        (folder / "__init__.py").write_text("import sys\nsys.stdout.write('torchvision ran ')\n")
        if extension is not None:
            (folder / "_C.so").write_bytes(extension)
        return tmp_path

    return make


CODE = """
    import sys
    sys.path.insert(0, {folder!r})
    import lib, torchvision
    from lib import torchvision_ops
    import torch
    schemas = {{schema.name for schema in torch._C._jit_get_all_schemas()}}
    print(torchvision_ops._library is not None, "torchvision::nms" in schemas)
"""


def test_an_extension_that_loads_is_left_alone(root, fake_torchvision):
    import _posixshmem  # a small shared library that Python itself could load

    with open(_posixshmem.__file__, "rb") as file:
        folder = fake_torchvision(file.read())
    assert run(CODE.format(folder=str(folder)), root) == "torchvision ran False False"


@pytest.mark.parametrize("extension", [b"not a library", None])
def test_an_extension_that_cannot_load_is_mended(root, fake_torchvision, extension):
    folder = fake_torchvision(extension)
    assert run(CODE.format(folder=str(folder)), root) == "torchvision ran True True"


def test_a_second_guard_a_reload_and_a_second_definition_do_nothing(root):
    code = """
        import importlib, sys, lib, torch
        from lib import torchvision_ops
        torchvision_ops.install()
        importlib.reload(torchvision_ops)
        torchvision_ops.install()
        assert [getattr(one, "__qualname__", "") for one in sys.meta_path].count("TorchvisionFinder") == 1
        mine = torch.library.Library("torchvision", "DEF")  # somebody else's shim came first
        mine.define("nms" + torchvision_ops.SCHEMA)
        mine.define("qnms" + torchvision_ops.SCHEMA)
        import torchvision
        assert torchvision_ops._library is None
        print("quiet")
    """
    assert run(code, root) == "quiet"

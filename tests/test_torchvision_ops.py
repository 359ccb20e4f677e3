"""The guard runs in fresh interpreters: what is imported once in this one cannot be taken back."""

import subprocess
import sys
import textwrap

import pytest


def run(code: str, root) -> str:
    """The output of a fresh interpreter in the repository's folder."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_import_of_lib_imports_neither_torch_nor_torchvision(root):
    code = """
        import importlib.util, sys, lib
        assert importlib.util.find_spec("torchvision") is not None
        assert importlib.util.find_spec("torchvision_of_nobody") is None
        assert not {"torch", "torchvision", "numpy", "timm"} & set(sys.modules), "something heavy was imported"
    """
    assert run(code, root) == ""


def test_a_notebook_shows_no_widget_s_warning_in_red(root):
    code = "import ipykernel.zmqshell, sys\nsys.stderr = sys.stdout\n{}\nimport tqdm.auto"
    assert "IProgress" in run(code.format(""), root), "no lock has ipywidgets"
    assert run(code.format("import lib"), root) == ""


def test_torchvision_can_be_imported_and_could_not_without_the_guard_where_its_extension_does_not_load(root):
    code = """
        import importlib, sys
        sys.path.insert(0, ".")
        from lib import torchvision_ops
        importlib.reload(torchvision_ops)
        torchvision_ops.install()
        assert [getattr(one, "__qualname__", "") for one in sys.meta_path].count("TorchvisionFinder") == 1
        {without}
        try:
            import torchvision
            from torchvision.transforms import v2
            loads = torchvision_ops.extension_loads(torchvision.__path__[0])
            print(loads == (torchvision_ops._library is None))
        except RuntimeError as error:
            print("nms does not exist" in str(error))
    """
    assert run(code.format(without=""), root) == "True"
    assert run(code.format(without="sys.meta_path.remove(torchvision_ops.TorchvisionFinder)"), root) == "True"


@pytest.mark.parametrize(
    ("extension", "mended"), [("sound", "False False"), (b"not a library", "True True"), (None, "True True")]
)
def test_an_extension_that_loads_is_left_alone_and_another_mended(root, tmp_path, extension, mended):
    """A package torchvision whose extension is some library of this machine that loads, or not."""
    import _posixshmem

    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("")
    if extension == "sound":
        with open(_posixshmem.__file__, "rb") as file:
            extension = file.read()
    if extension is not None:
        (tmp_path / "torchvision" / "_C.so").write_bytes(extension)
    code = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import lib, torchvision
        from lib import torchvision_ops
        import torch
        schemas = {{schema.name for schema in torch._C._jit_get_all_schemas()}}
        print(torchvision_ops._library is not None, "torchvision::nms" in schemas)
    """
    assert run(code, root) == mended

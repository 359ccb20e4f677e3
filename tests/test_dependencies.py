"""pyproject.toml, requirements.lock and environment.yml say the same, and what is installed is what they say."""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

# what the CUDA build of torch brings along by itself: see the head of requirements.lock
CUDA = re.compile(r"^(nvidia|cuda|triton)(-|$)")


def script(root, name):
    """A module of scripts/, which is no package."""
    sys.path.insert(0, str(root / "scripts"))
    try:
        spec = importlib.util.spec_from_file_location(name, root / "scripts" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(root / "scripts"))
    return module


@pytest.fixture(scope="module")
def project(root) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lock_lines(root) -> list[str]:
    lines = (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.fixture(scope="module")
def lock(lock_lines) -> dict[str, str]:
    return dict(line.split("==") for line in lock_lines)


@pytest.fixture(scope="module")
def stated(project) -> list[Requirement]:
    apart = project["tool"]["crossbook"]["apart"]["extras"]
    extras = project["project"]["optional-dependencies"].items()
    groups = [project["project"]["dependencies"], *(texts for name, texts in extras if name not in apart)]
    groups += project["tool"]["crossbook"]["built-last"].values()
    return [Requirement(text) for group in groups for text in group]


def test_extras_kept_apart_are_in_no_lock_and_where_the_reader_is_told(project, lock, root):
    assert project["tool"]["crossbook"]["apart"]["extras"] == ["segmentation"]
    (text,) = project["project"]["optional-dependencies"]["segmentation"]
    assert Requirement(text).name not in lock
    assert text in (root / "lib" / "doctor.py").read_text(encoding="utf-8")


def test_lock_holds_exact_pins_and_nothing_else(lock_lines):
    for line in lock_lines:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*", line), line
        assert not CUDA.match(line), line
    names = [line.split("==")[0] for line in lock_lines]
    assert names == sorted(set(names))


def needs(name: str, extras: set[str]) -> list[Requirement]:
    """What an installed package requires here, for the extras asked of it."""
    found = [Requirement(text) for text in importlib.metadata.requires(name) or []]
    contexts = [{"extra": extra} for extra in (extras or {""})] + [{"extra": ""}]
    return [each for each in found if each.marker is None or any(map(each.marker.evaluate, contexts))]


def test_lock_is_closed_and_holds_no_stray_package(stated, lock):
    """Every package a locked package needs is locked, and every locked package is needed by one."""
    seen: dict[str, set[str]] = {}
    waiting = list(stated)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if CUDA.match(name):
            continue
        assert name in lock, f"{requirement} is needed and not in requirements.lock: run make lock"
        assert requirement.specifier.contains(lock[name]), f"{requirement} does not allow {lock[name]}"
        if name in seen and requirement.extras <= seen[name]:
            continue
        seen[name] = seen.get(name, set()) | requirement.extras
        waiting += needs(name, seen[name])
    assert set(lock) == set(seen)


def test_installed_versions_are_those_of_the_lock(lock):
    installed = {name: importlib.metadata.version(name) for name in lock}
    public = {name: Version(version).public for name, version in installed.items()}
    assert public == {name: Version(pin).public for name, pin in lock.items()}


def test_pip_check_is_clean():
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "No broken requirements found.")


def test_packages_built_last_state_what_they_need_and_are_built_by_the_setup_script(project, root):
    """setup.sh installs them without their requirements, which must therefore be written in pyproject.toml."""
    for name, stated_needs in project["tool"]["crossbook"]["built-last"].items():
        written = {canonicalize_name(Requirement(text).name) for text in stated_needs}
        assert {canonicalize_name(each.name) for each in needs(name, set())} <= written
    assert list(project["tool"]["crossbook"]["built-last"]) == ["pyradiomics"]
    assert "--no-build-isolation --no-deps" in (root / "scripts" / "setup.sh").read_text(encoding="utf-8")


def test_environment_yml_is_derived(project, root):
    derived = script(root, "derive_environment").environment_text(project)
    assert (root / "environment.yml").read_text(encoding="utf-8") == derived, "stale: run make lock"


def test_lock_text_cuts_local_versions_and_cuda(root):
    found = {"torch": "2.13.0+cpu", "nvidia-cublas": "13.0", "triton": "3.6", "Some_Name": "1.0"}
    text = script(root, "lock").lock_text(found, {"pyradiomics": "3.0.1"})
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == ["pyradiomics==3.0.1", "some-name==1.0", "torch==2.13.0"]

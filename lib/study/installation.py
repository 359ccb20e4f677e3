"""What is installed: the packages of the lock, torch and its GPU, Quarto, extras, tokens. Standard library only."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from lib.study.findings import LACKS, STOPS, Finding

# In a process of its own: a broken torch may end it, and it takes two seconds in which all else is looked at.
PROBE = """
import json, warnings
warnings.simplefilter("ignore")
from importlib.util import find_spec
from lib.torchvision_ops import extension_loads
spec = find_spec("torchvision")
import torch
cuda = torch.cuda.is_available()
gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())] if cuda else []
print(json.dumps({
    "version": torch.__version__,
    "built_for": torch.version.cuda or getattr(torch.version, "hip", None) or "",
    "gpus": [[gpu.name, gpu.total_memory] for gpu in gpus],
    "mps": bool(torch.backends.mps.is_available()),
    "extension": extension_loads(spec.submodule_search_locations[0]) if spec else None,
}))
"""
INSTALL = "python -m pip install -c requirements.lock"
# extra -> (its package, the program it drives, what it is for, how it is installed)
EXTRAS = {
    "radiomics": ("pyradiomics", "", "GC-MLM-RCSA's CT features", "make setup (needs a C compiler)"),
    "segmentation": ("nnunetv2", "", "masks by nnU-Net", f"{INSTALL} 'nnunetv2>=2.7,<3'"),
    "Slurm": ("snakemake-executor-plugin-slurm", "sbatch", "--executor slurm", "make setup"),
    "Kubernetes": (
        "snakemake-executor-plugin-kubernetes",
        "kubectl",
        "--executor kubernetes",
        "make setup",
    ),
}
TOKENS = {
    "HF_TOKEN": "gated encoders (UNI, CONCH, GigaPath): apply for one on huggingface.co, then set HF_TOKEN",
    "GDC_TOKEN": "controlled files of the GDC; TCGA's diagnostic slides are open and need none",
}


def installed() -> dict[str, str]:
    """Version of every installed package, by its normalised name."""
    found = {}
    for package in metadata.distributions():
        name = package.metadata["Name"]
        if name:  # the rest of an installation that was broken off has none
            found.setdefault(_normal(name), package.version)
    return found


def packages(root: Path, have: Mapping[str, str]) -> list[Finding]:
    """What of pyproject.toml is missing, and which versions differ from requirements.lock.

    Parameters
    ----------
    root : Path
        The repository.
    have : mapping of str to str
        See `installed`.
    """
    import tomllib  # not above: an older Python, which has none, shall be told its version

    required = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = [_normal(re.match(r"[\w.-]+", line)[0]) for line in required]
    missing = [name for name in names if name not in have]
    if missing:
        first = Finding(
            "packages", f"{len(missing)} of {len(names)} missing: {_some(missing)}", "make setup", STOPS
        )
    else:
        first = Finding("packages", f"all {len(names)} there")
    pins = dict(
        re.findall(r"^([\w.-]+)==(\S+)$", (root / "requirements.lock").read_text(encoding="utf-8"), re.M)
    )
    drift = [
        f"{name} {have[_normal(name)]} instead of {pin}"
        for name, pin in pins.items()
        if _normal(name) in have and _public(have[_normal(name)]) != _public(pin)
    ]
    absent = [name for name in pins if _normal(name) not in have and _normal(name) not in names]
    said = [f"{len(drift)} other: {_some(drift)}"] * bool(drift) + [
        f"{len(absent)} missing: {_some(absent)}"
    ] * bool(absent)
    if said:
        return [first, Finding("versions of the lock", "; ".join(said), "make setup", LACKS)]
    return [first, Finding("versions of the lock", f"all {len(pins)} as in requirements.lock")]


def start_probe(root: Path) -> subprocess.Popen:
    """Begin to import torch in another process; `torch_and_gpu` takes what it says."""
    return subprocess.Popen(
        [sys.executable, "-c", PROBE],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def torch_and_gpu(probe: subprocess.Popen, have: Mapping[str, str], seconds: float = 60) -> list[Finding]:
    """torch, torchvision beside it, and the GPU."""
    if "torch" not in have:
        probe.kill()
        probe.communicate()
        return [Finding("torch", "not installed", "make setup", STOPS)]
    try:
        said, errors = probe.communicate(timeout=seconds)
        about = json.loads(said.splitlines()[-1])
    except subprocess.TimeoutExpired:
        probe.kill()
        probe.communicate()
        return [
            Finding("torch", f"not imported within {seconds:.0f} s", "try: python -c 'import torch'", STOPS)
        ]
    except (ValueError, IndexError):
        last = (errors.strip().splitlines() or [f"ended with code {probe.returncode}"])[-1]
        return [Finding("torch", f"cannot be imported: {last}", "remove .venv, then: make setup", STOPS)]
    build = f", built for {about['built_for']}" if about["built_for"] else ", no GPU build"
    found = [Finding("torch", about["version"] + (build if "+" not in about["version"] else ""))]
    return [*found, _torchvision(about, have), _gpu(about)]


def _torchvision(about: dict, have: Mapping[str, str]) -> Finding:
    if about["extension"] is None:
        return Finding("torchvision", "not installed", "make setup", STOPS)
    version = have.get("torchvision", "?")
    pair = (
        next((need for need in metadata.requires("torchvision") or [] if re.match(r"torch\s*==", need)), "")
        if "torchvision" in have
        else ""
    )
    wanted = re.search(r"==\s*([\w.]+)", pair)
    if wanted and wanted[1] != _public(about["version"]):
        return Finding(
            "torchvision",
            f"{version} is made for torch {wanted[1]}, not {about['version']}",
            "make setup",
            LACKS,
        )
    if about["extension"]:
        return Finding("torchvision", f"{version}, its extension loads")
    return Finding(
        "torchvision",
        f"{version}, a CUDA build beside a CPU torch: lib stands in for its extension, import lib first",
    )


def _gpu(about: dict) -> Finding:
    if about["gpus"]:
        named = ", ".join(f"{name} ({size / 1e9:.0f} GB)" for name, size in about["gpus"])
        return Finding("GPU", named)
    if about["mps"]:
        return Finding("GPU", "Apple's: device: auto leaves it alone")
    if not about["built_for"] and shutil.which("nvidia-smi"):
        return Finding(
            "GPU", "an NVIDIA driver is there, but torch is built without CUDA", "install PyPI's torch", LACKS
        )
    return Finding("GPU", "none: device: auto takes the processor")


def quarto() -> Finding:
    """Quarto, on PATH or in the environment."""
    where = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("quarto", path=where)
    step = "make quarto, or https://quarto.org/docs/download; until then make book makes a preview"
    if program is None:
        return Finding("Quarto", "not found", step, LACKS)
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("Quarto", f"does not run ({type(error).__name__})", step, LACKS)
    version = done.stdout.strip()
    if done.returncode or not version:
        return Finding("Quarto", "does not run", step, LACKS)
    return Finding("Quarto", version)


def extras(have: Mapping[str, str]) -> list[Finding]:
    """Optional packages, and the programs they need."""
    found = []
    for name, (package, program, use, step) in EXTRAS.items():
        if package not in have:
            found.append(
                Finding(f"{name} (optional)", f"{package} not installed", f"for {use}: {step}", LACKS)
            )
        elif program and not shutil.which(program):
            state = f"{package} {have[package]}, no {program} on PATH"
            found.append(Finding(f"{name} (optional)", state, f"for {use}: run it where {program} is", LACKS))
        else:
            found.append(Finding(f"{name} (optional)", f"{package} {have[package]}"))
    return found


def tokens() -> list[Finding]:
    """Which tokens the environment holds; never what they are."""
    return [
        Finding(name, "set, not shown")
        if os.environ.get(name)
        else Finding(name, "not set", f"for {use}", LACKS)
        for name, use in TOKENS.items()
    ]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _public(version: str) -> str:
    return version.partition("+")[0]


def _some(names: list[str], most: int = 4) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest

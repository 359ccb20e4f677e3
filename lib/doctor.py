"""What this machine has and lacks to run Crossbook, each with the next step: `make doctor`.

Ends with 0 where a demo can run, with 1 where it cannot. Only the standard library is imported before the check that
the packages are there, so that any Python 3 can run it; nothing is fetched or changed, and no token is shown.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Iterator, NamedTuple  # noqa: UP035  older Pythons shall read this file, too

ROOT = Path(__file__).resolve().parents[1]
OK, LACKS, STOPS = "ok", "-", "STOP"
# in a process of its own: a broken torch may end it
PROBE = """
import json, warnings
warnings.simplefilter("ignore")
import lib, torch, torchvision
cuda = torch.cuda.is_available()
gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())] if cuda else []
said = [f"{gpu.name} ({gpu.total_memory / 1e9:.0f} GB)" for gpu in gpus]
print(json.dumps([torch.__version__, torchvision.__version__, torch.version.cuda or "", said]))
"""
# what for -> package, program it drives, how it is installed
EXTRAS = {
    "CT radiomics": ("pyradiomics", "", "make setup (needs a C compiler)"),
    "masks by nnU-Net": ("nnunetv2", "", "python -m pip install -c requirements.lock 'nnunetv2>=2.7,<3'"),
    "Slurm": ("snakemake-executor-plugin-slurm", "sbatch", "make setup, and run it where sbatch is"),
    "Kubernetes": ("snakemake-executor-plugin-kubernetes", "", "make setup"),
}
TOKENS = {
    "HF_TOKEN": "for gated encoders (UNI, CONCH, GigaPath): apply on huggingface.co",
    "GDC_TOKEN": "for controlled files of the GDC; TCGA's diagnostic slides are open and need none",
}
# measured, in 10^9 bytes: what a demo writes at most, all of them together, and what a demo's stage holds in memory
DEMO_GB, BOOK_GB, MEMORY_GB = 1.0, 3.0, 2.0


class Finding(NamedTuple):
    """What was looked at and found, and what to do about it; "-": a demo runs without it; "STOP": it cannot."""

    what: str
    state: str
    step: str = ""
    mark: str = OK


def findings(root: Path = ROOT) -> Iterator[Finding]:
    """Every check in turn; one that fails becomes a line that says so."""
    results = Path(os.environ.get("CROSSBOOK_RESULTS") or root / "results")
    have: dict[str, str] = {}
    for package in metadata.distributions():
        have.setdefault(_normal(package.metadata["Name"] or ""), package.version)
    right, step = sys.version_info[:2] == (3, 11), "install Python 3.11, then: make setup PYTHON=python3.11"
    yield Finding("Python 3.11", platform.python_version(), "" if right else step, OK if right else STOPS)
    checks = {packages: (root, have), torch_and_gpu: (root,), machine: (results,), extras: (have,)}
    for check, given in (checks | {cohorts: (root, root / "data" / "raw")}).items():
        try:
            yield from check(*given)
        except Exception as error:  # it is a line like any other, and must not hide the rest
            step = "make setup" if isinstance(error, ImportError) else ""
            said = f"cannot be looked at: {type(error).__name__}: {error}"
            yield Finding(check.__name__, said, step, LACKS)


def packages(root: Path, have: dict[str, str]) -> Iterator[Finding]:
    """What of pyproject.toml is missing, and what is not as in requirements.lock; `have`: installed versions."""
    import tomllib  # not above: an older Python, which has none, shall be told its version

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [_normal(re.match(r"[\w.-]+", line)[0]) for line in project["dependencies"]]
    missing = [name for name in names if name not in have]
    state = f"{len(missing)} of {len(names)} missing" + (f": {_some(missing)}" if missing else "")
    yield Finding("packages", state, "make setup" if missing else "", STOPS if missing else OK)
    lock = (root / "requirements.lock").read_text(encoding="utf-8")
    pins = {_normal(name): pin for name, pin in re.findall(r"^([\w.-]+)==(\S+)$", lock, re.M)}
    drift = [
        f"{name} {have.get(name, 'missing')} instead of {pin}"
        for name, pin in pins.items()
        if have.get(name, "").partition("+")[0] != pin.partition("+")[0]
    ]
    if drift:
        yield Finding("requirements.lock", f"{len(drift)} differ: {_some(drift)}", "make setup", LACKS)


def torch_and_gpu(root: Path, seconds: float = 60) -> Iterator[Finding]:
    """Whether torch and torchvision can be imported, and the GPU they see."""
    probe = [sys.executable, "-c", PROBE]
    done = subprocess.run(probe, cwd=root, capture_output=True, text=True, timeout=seconds)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        yield Finding("torch", f"cannot be imported: {reason}", "make setup (remove .venv before)", STOPS)
        return
    torch, torchvision, cuda, gpus = json.loads(done.stdout.splitlines()[-1])
    yield Finding("torch", f"{torch}, torchvision {torchvision}")
    if not gpus and not cuda and shutil.which("nvidia-smi"):
        lacks = "a driver is there, but torch is built without CUDA"
        yield Finding("GPU", lacks, "install PyPI's torch", LACKS)
    else:
        yield Finding("GPU", ", ".join(gpus) or "none: device: auto takes the processor")


def machine(results: Path) -> Iterator[Finding]:
    """Quarto, processor cores, memory, and whether results can be written."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    step = "make quarto, or https://quarto.org/docs/download; until then make book makes a preview"
    quarto = shutil.which("quarto", path=path)
    yield Finding("Quarto", "there") if quarto else Finding("Quarto", "not found", step, LACKS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _text("/sys/fs/cgroup/cpu.max").partition(" ")
    limit = max(1, int(quota) // int(period)) if quota.isdigit() else cores
    few = f"the container allows {limit}: make book CORES={limit}" if limit < cores else ""
    yield Finding("processor cores", str(cores), few)
    limit, total = (
        _text("/sys/fs/cgroup/memory.max"),
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )
    total = min(total, int(limit) if limit.isdigit() else total) / 1e9
    little = "make book CORES=1, nothing beside it" if total < MEMORY_GB else ""
    yield Finding("memory", f"{total:.1f} GB", little, LACKS if little else OK)
    # the variable, not the folder it names: what a doctor says gets pasted into mails
    place = "CROSSBOOK_RESULTS" if os.environ.get("CROSSBOOK_RESULTS") else "results/"
    folder = next(folder for folder in (results.absolute(), *results.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(folder).free / 1e9
    mark = STOPS if free < DEMO_GB else LACKS if free < BOOK_GB else OK
    step = f"a demo takes {DEMO_GB:.0f} GB, all of them {BOOK_GB:.0f} GB: make room, or set CROSSBOOK_RESULTS"
    yield Finding(f"disk for {place}", f"{free:.1f} GB free", "" if mark == OK else step, mark)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # permissions alone don't tell of quotas
            file.write(b"0" * 4096)
            file.flush()
    except OSError:
        yield Finding(f"writing to {place}", "refused", "change its owner, or set CROSSBOOK_RESULTS", STOPS)


def extras(have: dict[str, str]) -> Iterator[Finding]:
    """Optional packages with the programs they need, and which tokens are set; never what they are."""
    for use, (package, program, step) in EXTRAS.items():
        lacks = f"no {program} on PATH" if program and not shutil.which(program) else ""
        lacks = lacks if package in have else f"{package} not installed"
        state = lacks or f"{package} {have[package]}"
        yield Finding(f"{use} (optional)", state, step if lacks else "", LACKS if lacks else OK)
    for name, use in TOKENS.items():
        there = os.environ.get(name)
        yield Finding(name, "set, not shown") if there else Finding(name, "not set", use, LACKS)


def cohorts(root: Path, raw: Path) -> Iterator[Finding]:
    """A line a cohort of real data: a file is here if it has its size, checksums are for `make data`."""
    import yaml

    from lib.data import read_sources

    listed = read_sources(root / "data" / "sources.yaml")
    for path in sorted(root.glob("params/*/*.yaml")):
        what, name = f"{path.parent.name}/{path.stem}", path.stem
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if values.get("kind") == "phantom":
            continue
        if name not in listed.cohorts:
            yield Finding(what, "your own files", f"the first lines of params/{what}.yaml say which", LACKS)
            continue
        there, files, by_hand = 0, 0, ""
        for need in listed.cohorts[name].needs:  # of alternatives, the one that is nearest
            counts = [_has(one, listed, raw) for one in need.split("|")]
            has, of, hand = max(counts, key=lambda count: count[0] / count[1])
            there, files, by_hand = there + has, files + of, by_hand or hand
        state, slides = f"{there} of {files} files", values.get("slides")
        if there < files:
            step = f"make data COHORT={name}" + (f"; by hand: {by_hand}" if by_hand else "")
            yield Finding(what, state, step, LACKS)
        elif slides and not (raw / slides).is_dir():
            step = f"python -m lib.data --slides results/{what}/slides.csv --into data/raw/{slides} --dry-run"
            yield Finding(what, f"{state}, no slides", step, LACKS)
        else:
            yield Finding(what, state)


def _has(need: str, listed, raw: Path) -> tuple[int, int, str]:
    """Files of a need `source:group` that are here, files that there are, what is done by hand."""
    name, _, group = need.strip().partition(":")
    here, files = raw / name, [file for file in listed.sources[name].files if file.group in ("", group)]
    whole = [
        (here / (file.unpack or "?")).is_dir()
        or ((here / file.path).is_file() and file.bytes in (None, (here / file.path).stat().st_size))
        for file in files
    ]
    return sum(whole), max(1, len(files)), listed.sources[name].by_hand


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8").strip() if os.access(path, os.R_OK) else ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def main() -> int:
    """Print what was found and whether a demo can run; returns the exit code."""
    stops, width = [], max(60, shutil.get_terminal_size((120, 24)).columns)
    for what, state, step, mark in findings():
        line = f"{mark:5}{what:30}{state}" + (f"  ->  {step}" if step else "")
        print(textwrap.fill(line, width, subsequent_indent=" " * 35, break_on_hyphens=False))
        stops += [what] * (mark == STOPS)
    print(f"\n{OK}: in order; {LACKS}: missing, and a demo runs without it; {STOPS}: a demo cannot run")
    lacks = f"A demo cannot run here without: {', '.join(stops)}"
    print(lacks if stops else "A demo can run here: make book.")
    return bool(stops)


if __name__ == "__main__":
    sys.exit(main())

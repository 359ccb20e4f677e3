"""Which files of `lib` a notebook or a module rests on, read from their import statements without importing anything.

What a result was made from: inputs, code, versions, commit.

What a run of a stage took: time, memory, units done. It changes from run to run, so it is no part of the manifest.

One run of a stage at a time: a lock that ends with the process that holds it.

A stage: one resumable notebook with files in, files out and a manifest beside it.
"""

import ast
import errno
import fcntl
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

from lib.files import FULL, DiskFull, file_digest, remove_parts, write_json
from lib.params import ROOT, Checked, check, given, schema_of


@cache
def code_of(notebook: Path, root: Path = ROOT) -> tuple[Path, ...]:
    """The files of `lib` that a notebook imports, with all that these import in turn.

    Imports inside functions count, and so do the packages' `__init__.py`. A module that is imported by a name made at
    run time would be missed: `lib` has none.

    Parameters
    ----------
    notebook : path
    root : path, optional
        Where `lib` lies.

    Returns
    -------
    tuple of path
        Sorted, below `root`; read once a process, for thousands of jobs ask for the same notebook.

    Raises
    ------
    ValueError
        The notebook is no notebook, or a cell is no Python.
    """
    waiting, found = list(_imported_by(notebook)), set()
    while waiting:
        for file in _files(waiting.pop(), root):
            if file not in found:
                found.add(file)
                waiting += _imported_by(file)
    return tuple(sorted(found))


def imported(tree: ast.AST) -> set[str]:
    """Names of modules of `lib` in import statements; of `from lib.a import b`, both `lib.a` and `lib.a.b`.

    A text that is nothing but such a name counts too: `python -m` in another process.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
        elif isinstance(node, ast.Constant) and re.fullmatch(r"lib(\.\w+)+", str(node.value)):
            names.add(node.value)
    return {name for name in names if name.split(".")[0] == "lib"}


@cache
def _imported_by(path: Path) -> frozenset[str]:
    text = path.read_text(encoding="utf-8")
    try:
        return frozenset(imported(ast.parse(_cells(text) if path.suffix == ".ipynb" else text)))
    except (ValueError, SyntaxError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: its imports cannot be read ({error}); expected cells of Python") from None


def _cells(text: str) -> str:
    """A notebook's code in one piece, without IPython's own lines."""
    cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    lines = "\n".join(cell if isinstance(cell, str) else "".join(cell) for cell in cells).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def _files(name: str, root: Path) -> list[Path]:
    """The module's file, a table of the same name beside it, and the `__init__.py` of the packages it lies in."""
    parts = name.split(".")
    folders = [root.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    files = [folder / "__init__.py" for folder in folders] + [
        folders[-1].with_suffix(suffix) for suffix in (".py", ".csv")
    ]
    return [file for file in files if file.is_file()]


PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "scanpy",
    "anndata",
    "torch",
    "lightning",
    "timm",
    "h5py",
)


@cache
def code_digest(*modules: ModuleType) -> str:
    """A digest of what modules of `lib` do, with every module of `lib` they import.

    Comments, docstrings and layout do not count: only a change that can change a result changes the digest.
    """
    import hashlib

    waiting, trees = {module.__name__: Path(module.__file__) for module in modules}, {}
    while waiting:
        name, path = waiting.popitem()
        if name in trees:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        files = {inner: ROOT.joinpath(*inner.split(".")).with_suffix(".py") for inner in imported(tree)}
        waiting |= {inner: file for inner, file in files.items() if file.is_file()}
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
                and ast.get_docstring(node) is not None
            ):
                node.body = node.body[1:]
        trees[name] = ast.dump(tree)
    return hashlib.sha256(repr(sorted(trees.items())).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose numbers a result depends on."""
    import platform

    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def commit() -> str:
    """The git commit, with "+changes" where the tree differs from it; "no git" outside a checkout."""
    run = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], **run).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], **run
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "no git"
    return head + ("+changes" if changed else "")


CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class RunRecord:
    """Counts from its making on. Clocks are monotonic: no time of day, no name of a machine, no path is kept.

    Attributes
    ----------
    units : dict
        all: of this shard; made: now; kept: whole from before.
    """

    def __init__(self):
        self.units = {"all": 0, "made": 0, "kept": 0}
        self._began, self._spent = time.monotonic(), processor_seconds()

    def count(self, among: int, made: int, kept: int) -> None:
        """Add the units of one pass."""
        for name, number in (("all", among), ("made", made), ("kept", kept)):
            self.units[name] += number

    def write(
        self, folder: Path, stage: str, shard: int, shards: int, failed: Mapping[str, str], finished: bool
    ) -> Path:
        """Write `runs/<stage>.json`, of a shard `runs/<stage>.<shard>of<shards>.json`, below the cohort's folder.

        seconds, processor_seconds : of the stage, with the processes it started. peak_mb : the most memory (10^6 bytes)
        one process of it held.
        """
        path = folder / "runs" / (f"{stage}.{shard}of{shards}.json" if shards > 1 else f"{stage}.json")
        content = {
            "stage": stage,
            "shard": shard,
            "shards": shards,
            "seconds": round(time.monotonic() - self._began, 2),
            "processor_seconds": round(processor_seconds() - self._spent, 2),
            "peak_mb": round(peak_mb(), 1),
            "units": self.units,
            "failed": dict(failed),
            "finished": finished,
            "host": {"cores": cores(), "memory_gb": round(memory_gb(), 1), "gpu": gpu()},
        }
        write_json(content, path)
        return path


def processor_seconds() -> float:
    """Of this process and of those it started and that have ended, user and system."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def peak_mb() -> float:
    """Most memory that this process, or one it started, has held so far, in 10^6 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most * unit / 1e6


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float:
    """Memory of the machine, or of the container or job where that is less, in 10^9 bytes."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [
        Path(name).read_text(encoding="utf-8").strip() for name in CGROUP_LIMITS if os.access(name, os.R_OK)
    ]
    return min([total, *(int(limit) for limit in limits if limit.isdigit())]) / 1e9


def gpu() -> str:
    """Name of the GPU a stage that uses torch sees; "" for none."""
    torch = sys.modules.get("torch")  # a stage that did not load it had no use for a GPU
    return torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else ""


UNKNOWN = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_held: dict[Path, int] = {}


class Lock:
    """Of a stage of a cohort, or of one of its shards.

    A run without shards is alone with its stage; shards of the same cut run side by side, each shard once. The lock is
    the system's (`flock` on files in `locks/`), so it is gone when its process is, however that ended; the files stay
    and mean nothing by themselves.

    Parameters
    ----------
    folder : path
        `results/<study>/<cohort>/`.
    stage : str
    shard, shards : int

    Notes
    -----
    Processes of several machines see each other's locks where the shared file system carries `flock`: NFS does (Linux
    sends it to the server as a lock of byte ranges), Lustre where it is mounted with `flock`. A file system that
    refuses locks is said so on stderr, and then two runs are not noticed; one that keeps them to each machine
    (Lustre's `localflock`, NFS's `local_lock=flock`) cannot be told from one that works. Where a machine dies, its
    NFS locks last until the server has given it up, with NFSv4 some 90 seconds.
    """

    def __init__(self, folder: Path, stage: str, shard: int = 0, shards: int = 1, patience_s: float = 1.0):
        self.folder, self.stage, self.shard, self.shards = folder / "locks", stage, shard, shards
        self.patience_s = patience_s
        self.who = f"{folder.parent.name}/{folder.name} {stage}"
        self._whole = self.folder / f"{stage}.lock"
        self._own = self.folder / f"{stage}.{shard}of{shards}.lock" if shards > 1 else self._whole

    def take(self) -> None:
        """Take the lock; a process that has it already (a notebook run again in its kernel) takes it anew.

        Raises
        ------
        BlockingIOError
            Another process has it.
        PermissionError
            Nothing can be written here.
        DiskFull
        """
        self.release()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            whole = self._open(self._whole)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
                self.release()
                raise self._no_room() if error.errno in FULL else error from None
            raise PermissionError(
                f"{self.who}: nothing can be written to the results folder ({os.strerror(error.errno)}); "
                "make it writable, or name another in CROSSBOOK_RESULTS"
            ) from None
        try:
            if self.shards == 1:
                self._must(whole, fcntl.LOCK_EX, self._whole)
            else:
                self._share(whole)
                self._must(self._open(self._own), fcntl.LOCK_EX, self._own)
            _note(_held[self._own], {"process": os.getpid(), "shards": self.shards})
        except BlockingIOError:
            self.release()
            raise
        except OSError as error:
            self.release()
            if error.errno not in UNKNOWN:
                raise self._no_room() if error.errno in FULL else error from None
            print(
                f"{self.who}: this file system knows no locks, so a second run at the same time goes unnoticed",
                file=sys.stderr,
            )

    def _no_room(self) -> DiskFull:
        return DiskFull(f"{self.who}: the disk of the results folder is full; make room and run again")

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return self._own in _held

    def release(self) -> None:
        """Give the lock back; also one that is not held."""
        for path in dict.fromkeys((self._own, self._whole)):
            if path in _held:
                os.close(_held.pop(path))

    def _open(self, path: Path) -> int:
        _held[path] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        return _held[path]

    def _share(self, whole: int) -> None:
        """Be one of several shards. The first of them writes down into how many the stage is cut."""
        if _locked(whole, fcntl.LOCK_EX):
            _note(whole, {"shards": self.shards})
        self._must(whole, fcntl.LOCK_SH, self._whole)
        told = _noted(whole).get("shards")
        if told != self.shards:
            raise BlockingIOError(
                f"{self.who}: it is being run in {told} shards, not in {self.shards}; wait until they have ended"
            )

    def _must(self, file: int, how: int, path: Path) -> None:
        end = time.monotonic() + self.patience_s  # another shard may be just about to write the cut down
        while not _locked(file, how):
            if time.monotonic() >= end:
                process = _noted(file).get("process")
                other = f"process {process}" if process else f"shards of it, see {path.parent.name}/"
                share = f" shard {self.shard} of {self.shards}" if self.shards > 1 else ""
                raise BlockingIOError(
                    f"{self.who}{share}: another run of it is at work ({other}); wait for its end or stop it "
                    "(a notebook left open counts until its kernel is shut down)"
                )
            time.sleep(0.05)


def _locked(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _note(file: int, content: dict) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(content).encode(), 0)


def _noted(file: int) -> dict:
    try:
        found = json.loads(os.pread(file, 1000, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _close_in_child() -> None:
    """A forked child must not keep a lock alive when its parent is killed."""
    while _held:
        os.close(_held.popitem()[1])


os.register_at_fork(after_in_child=_close_in_child)


def results_folder() -> Path:
    """`results/`, or the folder that the environment variable CROSSBOOK_RESULTS names."""
    return Path(os.environ.get("CROSSBOOK_RESULTS") or ROOT / "results").resolve()


def begin(study: str, name: str, namespace: Mapping[str, Any]) -> "Stage":
    """Open a stage from a notebook: `stage = begin("spacrd", "3-train", globals())`.

    The parameters are checked against the study's schema; an unknown one is refused. So is a second run of the same
    stage and shard while a first is at work (BlockingIOError), and a results folder that cannot be written to
    (PermissionError).
    """
    schema = schema_of(study)
    params = check(given(namespace, schema), schema, f"notebooks/{study}/{name}.ipynb")
    stage = Stage(study, name, params)
    stage.lock = Lock(stage.folder, name, params.shard, params.shards)
    stage.lock.take()
    stage.left = remove_parts(stage.folder)
    return stage


@dataclass
class Stage:
    """Paths, parameters and the book-keeping of one stage of one cohort."""

    study: str
    name: str
    params: Checked
    read: set[Path] = field(default_factory=set)
    written: set[Path] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    record: RunRecord = field(default_factory=RunRecord)
    lock: Lock | None = None
    left: dict[Path, list[Path]] = field(default_factory=dict)  # part files of writers on other machines

    @cached_property
    def made_by(self) -> dict[str, Any]:
        """Versions and commit, asked for once a run: ten thousand units would wait for git ten thousand times."""
        return {"versions": versions(), "commit": commit()}

    @property
    def folder(self) -> Path:
        """`results/<study>/<cohort>/`."""
        return results_folder() / self.study / self.params.cohort

    def short(self, path: Path) -> str:
        """A path as people read it: relative to the results of this cohort, or to the repository."""
        for base in (self.folder, ROOT, results_folder()):
            if path.is_relative_to(base):
                return str(path.relative_to(base))
        return path.name

    def reads(self, path: str | Path, made_by: str = "") -> Path:
        """An input file, absolute or relative to the cohort's folder; it must be there."""
        path = self.folder / path
        if not path.is_file():
            remedy = f"run {made_by} of this cohort first" if made_by else "see data/README.md"
            raise FileNotFoundError(
                f"{self.study}/{self.params.cohort} {self.name}: {self.short(path)} is missing; {remedy}"
            )
        self.read.add(path)
        return path

    def writes(self, path: str | Path) -> Path:
        """An output file below the cohort's folder; write it atomically (lib.files)."""
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written.add(path)
        return path

    def units(
        self,
        names: Iterable[str],
        make: Callable[[str], None],
        *,
        outputs: Callable[[str], list[Path]],
        inputs: Callable[[str], list[Path]],
        depends: Callable[[str], Mapping[str, Any]],
        code: tuple[ModuleType, ...],
    ) -> list[str]:
        """Do this shard's work units, skipping those whose output is whole and still true.

        A unit is skipped when its record names the same inputs (by content), parameters and code, and its outputs
        have the recorded sha256. A unit that raises is reported with the reason and never counted as done.

        Parameters
        ----------
        names : iterable of str
            All units of the stage, of all shards.
        make : callable
            Does one unit, writing its `outputs` atomically.
        outputs, inputs : callable
            Unit -> files it writes, files it reads.
        depends : callable
            Unit -> the parameters its result depends on.
        code : tuple of modules
            Modules of lib that do the work; with what they import they are part of the unit's key.

        Returns
        -------
        list of str
            Units that are whole. With several shards the notebook ends here (SystemExit 0, which papermill takes for
            success); a last run without shards gathers what the shards made.

        Raises
        ------
        RuntimeError
            If more than `max_failed` units failed.
        DiskFull
            At once: no unit after this one would find room either.
        """
        names = sorted(names)
        mine = names[self.params.shard :: self.params.shards]
        digest, done, fresh = code_digest(*code), [], 0
        for name in tqdm(
            mine, desc=self.name, unit="unit", mininterval=10, maxinterval=60, ascii=True, file=sys.stderr
        ):
            try:
                absent = [self.short(path) for path in inputs(name) if not path.is_file()]
                if absent:
                    raise FileNotFoundError(
                        f"{', '.join(absent)} is not there: see what failed in the stage before"
                    )
                key = self._key(name, inputs(name), depends(name), digest)
                if not self._whole(name, key, outputs(name)):
                    self._clear_parts(outputs(name))
                    make(name)
                    fresh += 1
                    self._keep_key(name, key, outputs(name))
                done.append(name)
            except Exception as error:  # one bad unit must not end the others; it is reported below
                if getattr(error, "errno", None) in FULL:
                    self.record.count(len(mine), fresh, len(done) - fresh)
                    self._end(finished=False)
                    raise self._no_room(name, error) from error
                self.failed[name] = f"{type(error).__name__}: {error}"
        for name in done:
            self.read.update(inputs(name))
            self.written.update(outputs(name))
        share = f"shard {self.params.shard} of {self.params.shards}: " if self.params.shards > 1 else ""
        print(f"{share}{len(done)} of {len(mine)} units are whole")
        print(f"{fresh} made now, {len(done) - fresh} kept", file=sys.stderr)
        for name, reason in self.failed.items():
            print(f"FAILED {name}: {reason}")
        self.record.count(len(mine), fresh, len(done) - fresh)
        if len(self.failed) > self.params.max_failed:
            self._manifest()
            self._end(finished=False)
            first = next(iter(self.failed.items()))
            raise RuntimeError(
                f"{self.study}/{self.params.cohort} {self.name}: {len(self.failed)} of {len(mine)} units failed, "
                f"max_failed is {self.params.max_failed}; the first is {first[0]}: {first[1]}"
            )
        if self.params.shards > 1:
            self._end(finished=True)
            sys.exit(0)
        return done

    def finish(self) -> None:
        """Check that every announced output is there, write `manifests/<stage>.json` and the run's record."""
        missing = [self.short(path) for path in sorted(self.written) if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{self.study}/{self.params.cohort} {self.name} ended without writing {', '.join(missing)}"
            )
        self._manifest()
        self._clear_parts(self.written)
        self._end(finished=True)
        failed = f", {len(self.failed)} units failed" if self.failed else ""
        print(f"{self.name} of {self.params.cohort}: {len(self.written)} files written{failed}")

    def _no_room(self, unit: str, error: OSError) -> DiskFull:
        told = (
            error if isinstance(error, DiskFull) else f"the disk is full ({error}); make room and run again"
        )
        return DiskFull(f"{self.study}/{self.params.cohort} {self.name}, {unit}: {told}")

    def _end(self, finished: bool) -> None:
        """Leave the run's record, and the stage to others."""
        shard = (self.params.shard, self.params.shards)
        try:
            self.record.write(self.folder, self.name, *shard, self.failed, finished)
        except DiskFull as error:  # what it was about has been said, or is about to be
            print(error, file=sys.stderr)
        if self.lock:
            self.lock.release()

    def _clear_parts(self, paths: Iterable[Path]) -> None:
        """Remove what other machines left of these files: the lock says that nobody else writes them now."""
        if self.lock and self.lock.held:
            for part in [part for path in paths for part in self.left.pop(path, ())]:
                part.unlink(missing_ok=True)

    def _manifest(self) -> None:
        whole = [path for path in self.written if path.is_file()]
        write_json(
            {
                "study": self.study,
                "cohort": self.params.cohort,
                "stage": self.name,
                "parameters": self.params.model_dump(mode="json"),
                "inputs": {self.short(path): file_digest(path) for path in self.read},
                "outputs": {self.short(path): file_digest(path) for path in whole},
                "failed": self.failed,
                **self.made_by,
            },
            self.folder / "manifests" / f"{self.name}.json",
        )

    def _key(self, name: str, inputs: list[Path], depends: Mapping[str, Any], code: str) -> str:
        parts = [
            self.study,
            self.name,
            name,
            {self.short(path): file_digest(path) for path in inputs},
            dict(depends),
            code,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _record_path(self, name: str) -> Path:
        return self.folder / "units" / self.name / f"{name}.json"

    def _keep_key(self, name: str, key: str, outputs: list[Path]) -> None:
        record = {"key": key, "outputs": {self.short(p): file_digest(p) for p in outputs}}
        write_json({**record, **self.made_by}, self._record_path(name))

    def _whole(self, name: str, key: str, outputs: list[Path]) -> bool:
        path = self._record_path(name)
        if not path.is_file() or not all(output.is_file() for output in outputs):
            return False
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # a broken record proves nothing: make the unit again
            return False
        true = {"key": key, "outputs": {self.short(p): file_digest(p) for p in outputs}}
        return isinstance(record, dict) and {name: record.get(name) for name in true} == true

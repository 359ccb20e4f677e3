"""A stage: one resumable notebook with files in, files out and a manifest beside it."""

import ast
import fcntl
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from importlib import metadata
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pandas as pd
from IPython.display import Markdown
from tqdm import tqdm

from lib.files import FULL, file_digest, remove_parts, write_csv, write_json
from lib.names import label, named
from lib.params import ROOT, Checked, of_notebook

PACKAGES = [
    *("numpy", "scipy", "pandas", "scikit-learn", "scanpy", "anndata"),
    *("torch", "lightning", "timm", "h5py"),
]
# names, not numbers: a patient 0012 is not the patient 12
NAMES = [
    *("patient", "slide", "section", "spot", "case", "fold", "unused_in"),
    *("hospital", "site", "series", "setting", "model"),
]
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes
NO_LOCKS = (*FULL, 37, 38, 95)  # ENOLCK, ENOSYS, ENOTSUP
BESIDE = (".csv", ".yaml")  # tables that a module reads have its name
_locks: dict[Path, Any] = {}

Paths = str | Sequence[str] | Callable[[str], Iterable[Path]]


def results_folder() -> Path:
    """`results/`, or the folder that the environment variable CROSSBOOK_RESULTS names."""
    return Path(os.environ.get("CROSSBOOK_RESULTS") or ROOT / "results").resolve()


def begin(study: str, name: str, namespace: Mapping[str, Any]) -> "Stage":
    """Open a stage from a notebook: `stage = begin("spacrd", "3-train", globals())`.

    ValueError: a parameter that the study's schema does not know, or a wrong value; see `lib.params.of_notebook`.
    BlockingIOError: the same stage and shard is at work in another process.
    """
    params = of_notebook(study, namespace, f"notebooks/{study}/{name}.ipynb")
    stage = Stage(study, name, params)
    stage.lock()
    remove_parts(stage.folder)
    return stage


@dataclass
class Stage:
    """Paths, parameters and the book-keeping of one stage of one cohort."""

    study: str
    name: str
    params: Checked
    inputs: set[Path] = field(default_factory=set)
    written: set[Path] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    units_done: dict[str, int] = field(default_factory=lambda: {"all": 0, "made": 0, "kept": 0})
    unit_key: str = ""  # of the unit at work: all that its result depends on
    began: tuple[float, float] = field(default_factory=lambda: (time.monotonic(), _processor_seconds()))

    @property
    def folder(self) -> Path:
        """`results/<study>/<cohort>/`."""
        return results_folder() / self.study / self.params.cohort

    @cached_property
    def made_by(self) -> dict[str, Any]:
        """Versions and commit."""
        return {"versions": versions(), "commit": commit()}

    # ------------------------------------------------------------------------------------------ files in and out

    def reads(self, path: str | Path) -> Path:
        """Path of an input, relative to the cohort's folder; it goes into the manifest."""
        path = self.folder / path
        if not path.is_file():
            inside = path.is_relative_to(self.folder)
            remedy = "run the notebooks before this one first" if inside else "see data/README.md"
            raise FileNotFoundError(f"{self._where}: {self.short(path)} is missing; {remedy}")
        self.inputs.add(path)
        return path

    def read(self, path: str | Path, **options) -> pd.DataFrame:
        """A table of an earlier stage. Names of patients and folds are text, and only an empty cell is missing."""
        options = {"dtype": dict.fromkeys(NAMES, str), "keep_default_na": False, "na_values": [""], **options}
        return pd.read_csv(self.reads(path), **options)

    def file(self, path: str | Path) -> Path:
        """Path of an output below the cohort's folder; it goes into the manifest, and must be there at the end."""
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written.add(path)
        return path

    def write(self, content: pd.DataFrame | dict | list, path: str | Path) -> None:
        """Write a table as csv, or anything else as json, whole or not at all."""
        path = self.file(path)
        (write_csv if isinstance(content, pd.DataFrame) else write_json)(content, path)

    def figure(self, figure, name: str) -> None:
        """Write a figure as `figures/<name>.svg` and `.png`; a title that is an identifier becomes its name."""
        from lib.figures import style

        for axes in figure.axes:
            axes.title.set_text(label(axes.title.get_text()))
        for path in style.save(figure, self.folder / "figures" / name):
            self.file(path)

    def table(self, rows: pd.DataFrame, digits: int = 3, caption: str = "") -> Markdown:
        """A table for the reader, identifiers by their names (`lib.names`); the last expression of a cell."""
        rows = named(rows)
        whole = [c for c in rows.select_dtypes("float") if (rows[c].dropna() % 1 == 0).all()]
        rows = rows.astype(dict.fromkeys(whole, "Int64")).astype(object).where(rows.notna(), None)
        text = rows.to_markdown(index=False, floatfmt=f".{digits}f", missingval="")
        return Markdown(f"{caption}\n\n{text}" if caption else text)

    def short(self, path: Path) -> str:
        """A path as people read it: relative to the results of this cohort, or to the repository."""
        for base in (self.folder, ROOT, results_folder()):
            if path.is_relative_to(base):
                return str(path.relative_to(base))
        return path.name

    # ------------------------------------------------------------------------------------------ units of work

    def each(
        self,
        names: Iterable[str],
        make: Callable[[str], None],
        *,
        outputs: Paths,
        inputs: Paths = (),
        parameters: Sequence[str] = (),
        depends: Mapping | Callable[[str], Mapping] | None = None,
    ) -> list[str]:
        """Do this shard's units of work, skipping those whose outputs are whole and still true.

        A unit is kept when its record names the same inputs (by content), parameters and code, and its outputs have
        the recorded sha256. The code is that of `make`, of the notebook's functions it calls, and of the modules of
        `lib` that these name, with all they import. A unit that raises is reported and never counted as done.

        Parameters
        ----------
        names : iterable of str
            All units of the stage, of all shards.
        make : callable
            Does one unit, writing its outputs atomically (`lib.files`).
        outputs, inputs : str, list of str, or callable
            Files of a unit, below the cohort's folder: patterns with {} for the name, or a function name -> paths.
        parameters : sequence of str
            Names of parameters that the result depends on.
        depends : mapping, or callable name -> mapping
            What else it depends on.

        Returns
        -------
        list of str
            Units that are whole, sorted. With several shards the notebook ends here (SystemExit 0, which papermill
            takes for success); a last run without shards gathers what the shards made.

        Raises
        ------
        RuntimeError
            More than `max_failed` units failed.
        OSError
            At once, where the disk is full: no unit after this one would find room either.
        """
        mine = sorted(names)[self.params.shard :: self.params.shards]
        settings = {name: getattr(self.params, name) for name in parameters}
        digest, done, fresh = code_digest(make), [], 0
        for name in tqdm(mine, desc=self.name, unit="unit", mininterval=10, ascii=True, file=sys.stderr):
            files, made = self._paths(inputs, name), self._paths(outputs, name)
            try:
                if absent := [self.short(path) for path in files if not path.is_file()]:
                    absent = ", ".join(absent)
                    raise FileNotFoundError(f"{absent} is not there: see what failed in the stage before")
                extra = depends(name) if callable(depends) else depends or {}
                self.unit_key = self._key(name, files, {**settings, **extra}, digest)
                if not self._whole(name, made):
                    for path in made:
                        path.parent.mkdir(parents=True, exist_ok=True)
                    make(name)
                    fresh += 1
                    record = {"key": self.unit_key, "outputs": self._digests(made), **self.made_by}
                    write_json(record, self._record(name))
                done.append(name)
                self.inputs.update(files)
                self.written.update(made)
            except Exception as error:  # one bad unit must not end the others; it is reported below
                if getattr(error, "errno", None) in FULL:
                    raise
                self.failed[name] = f"{type(error).__name__}: {error}"
        self.units_done = {"all": len(mine), "made": fresh, "kept": len(done) - fresh}
        share = f"shard {self.params.shard} of {self.params.shards}: " if self.params.shards > 1 else ""
        print(f"{share}{len(done)} of {len(mine)} units are whole")
        print(f"{fresh} made now, {len(done) - fresh} kept", file=sys.stderr)
        for name, reason in self.failed.items():
            print(f"FAILED {name}: {reason}")
        if len(self.failed) > self.params.max_failed:
            self._manifest()
            self._end(finished=False)
            name, reason = next(iter(self.failed.items()))
            raise RuntimeError(
                f"{self._where}: {len(self.failed)} of {len(mine)} units failed, max_failed is "
                f"{self.params.max_failed}; the first is {name}: {reason}"
            )
        if self.params.shards > 1:
            self._end(finished=True)
            sys.exit(0)
        return done

    def finish(self) -> None:
        """Check that every announced output is there; write `manifests/<stage>.json` and the run's record."""
        if missing := [self.short(path) for path in sorted(self.written) if not path.is_file()]:
            raise FileNotFoundError(f"{self._where} ended without writing {', '.join(missing)}")
        self._manifest()
        self._end(finished=True)
        failed = f", {len(self.failed)} units failed" if self.failed else ""
        print(f"{self.name} of {self.params.cohort}: {len(self.written)} files written{failed}")

    # ------------------------------------------------------------------------------------------ book-keeping

    def lock(self) -> None:
        """Let one process at a time run a stage, or each of its shards. The lock goes with its process."""
        folder, (shard, shards) = self.folder / "locks", (self.params.shard, self.params.shards)
        folder.mkdir(parents=True, exist_ok=True)
        kinds = {folder / f"{self.name}.lock": fcntl.LOCK_SH if shards > 1 else fcntl.LOCK_EX}
        if shards > 1:
            kinds[folder / f"{self.name}.{shard}of{shards}.lock"] = fcntl.LOCK_EX
        self.release()  # the notebook may be run again in its kernel
        for path, kind in kinds.items():
            _locks[path] = open(path, "a")  # noqa: SIM115  open as long as the stage
            try:
                fcntl.flock(_locks[path], kind | fcntl.LOCK_NB)
            except BlockingIOError:
                self.release()
                raise BlockingIOError(
                    f"{self._where}: another run of it is at work; wait for its end or stop it "
                    "(a notebook left open counts until its kernel is shut down)"
                ) from None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                print(f"{self._where}: this file system knows no locks, so a second run goes unnoticed")

    def release(self) -> None:
        """Leave the stage to others."""
        mine = [path for path in _locks if path.name.startswith(self.name) and self.folder in path.parents]
        for path in mine:
            _locks.pop(path).close()

    @property
    def _where(self) -> str:
        return f"{self.study}/{self.params.cohort} {self.name}"

    def _paths(self, what: Paths, name: str) -> list[Path]:
        if callable(what):
            return [self.folder / path for path in what(name)]
        return [self.folder / part.format(name) for part in ([what] if isinstance(what, str) else what)]

    def _digests(self, paths: Iterable[Path]) -> dict[str, str]:
        return {self.short(path): file_digest(path) for path in paths}

    def _key(self, name: str, inputs: list[Path], depends: Mapping[str, Any], code: str) -> str:
        parts = [self.study, self.name, name, self._digests(inputs), dict(depends), code]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _record(self, name: str) -> Path:
        return self.folder / "units" / self.name / f"{name}.json"

    def _whole(self, name: str, outputs: list[Path]) -> bool:
        path = self._record(name)
        if not path.is_file() or not all(output.is_file() for output in outputs):
            return False
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # a broken record proves nothing: make the unit again
            return False
        return record.get("key") == self.unit_key and record.get("outputs") == self._digests(outputs)

    def _manifest(self) -> None:
        content = {
            "study": self.study,
            "cohort": self.params.cohort,
            "stage": self.name,
            "parameters": self.params.model_dump(mode="json"),
            "inputs": self._digests(self.inputs),
            "outputs": self._digests(path for path in self.written if path.is_file()),
            "failed": self.failed,
            **self.made_by,
        }
        write_json(content, self.folder / "manifests" / f"{self.name}.json")

    def _end(self, finished: bool) -> None:
        """Write `runs/<stage>.json`: date, machine, seconds, peak memory (10^6 bytes) of the largest process, units; unlock."""
        shard, shards = self.params.shard, self.params.shards
        torch = sys.modules.get("torch")  # a stage that did not load it had no use for a GPU
        record = {
            "stage": self.name,
            "shard": shard,
            "shards": shards,
            "seconds": round(time.monotonic() - self.began[0], 2),
            "processor_seconds": round(_processor_seconds() - self.began[1], 2),
            "peak_mb": round(max(each.ru_maxrss for each in _usage()) * RSS_UNIT / 1e6, 1),
            "units": self.units_done,
            "failed": self.failed,
            "finished": finished,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "host": {
                "processor": processor(),
                "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
                "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
                "gpu": torch.cuda.get_device_name(0) if torch and torch.cuda.is_available() else "",
            },
        }
        name = f"{self.name}.{shard}of{shards}.json" if shards > 1 else f"{self.name}.json"
        write_json(record, self.folder / "runs" / name)
        self.release()


def _usage() -> list[resource.struct_rusage]:
    return [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]


def _processor_seconds() -> float:
    return sum(each.ru_utime + each.ru_stime for each in _usage())


def processor() -> str:
    """The processor's name, "unknown" where the system does not tell."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose numbers a result depends on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def commit() -> str:
    """The git commit, with "+changes" where the tree differs from it; "no git" outside a checkout."""
    git = partial(subprocess.check_output, cwd=ROOT, text=True, stderr=subprocess.DEVNULL)
    try:
        head = git(["git", "rev-parse", "HEAD"]).strip()
        changes = git(["git", "status", "--porcelain", "--untracked-files=no"])
    except (OSError, subprocess.CalledProcessError):
        return "no git"
    return head + ("+changes" if changes else "")


# ---------------------------------------------------------------------------------- the code a result rests on


def code_digest(*parts: FunctionType | ModuleType) -> str:
    """A digest of functions of a notebook and of modules of `lib`, with every module of `lib` they rest on.

    Comments, docstrings and layout of `lib` do not count: only a change that can change a result changes the digest.
    """
    modules, seen, functions = set(), set(), []
    waiting = list(parts)
    while waiting:
        part = waiting.pop()
        if isinstance(part, FunctionType) and part.__code__ not in seen:
            seen.add(part.__code__)
            if part.__module__ == "__main__":
                functions.append(_written(part.__code__))
                names = part.__globals__.keys() & set(_names(part.__code__))
                waiting += [part.__globals__[name] for name in names]
            waiting += [cell.cell_contents for cell in part.__closure__ or () if _filled(cell)]
        kind = part if isinstance(part, FunctionType | type) else type(part)
        modules.add(part.__name__ if isinstance(part, ModuleType) else kind.__module__)
    modules = {name for name in modules if name.startswith("lib.") and name != __name__}
    trees = {name: _tree(ROOT.joinpath(*name.split(".")).with_suffix(".py")) for name in _closure(modules)}
    return hashlib.sha256(repr([sorted(functions), sorted(trees.items())]).encode()).hexdigest()


def code_of(notebook: Path, root: Path = ROOT) -> tuple[Path, ...]:
    """The files of `lib` that a notebook imports, with all that these import in turn, sorted, below `root`."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    lines = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code").splitlines()
    tree = ast.parse("\n".join(line for line in lines if not line.lstrip().startswith(("%", "!"))))
    found = set()
    for name in _closure(_imported(tree, root), root):
        base = root.joinpath(*name.split("."))
        found |= {path for path in map(base.with_suffix, (".py", *BESIDE)) if path.is_file()}
    return tuple(sorted(found))


def _filled(cell) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _names(code: CodeType) -> list[str]:
    inner = [name for const in code.co_consts if isinstance(const, CodeType) for name in _names(const)]
    return [*code.co_names, *inner]


def _written(code: CodeType) -> tuple:
    def plain(const: object) -> object:  # a set has another order in every process
        return sorted(map(repr, const)) if isinstance(const, frozenset) else repr(const)

    consts = [_written(const) if isinstance(const, CodeType) else plain(const) for const in code.co_consts]
    return code.co_code.hex(), code.co_names, tuple(map(str, consts))


def _closure(names: Iterable[str], root: Path = ROOT) -> set[str]:
    """Modules of `lib`, with those they import in turn."""
    waiting, seen = set(names), set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting |= _imports(root.joinpath(*name.split(".")).with_suffix(".py"), root) - seen
    return seen


@cache
def _imports(path: Path, root: Path) -> frozenset[str]:
    return frozenset(_imported(ast.parse(path.read_text(encoding="utf-8")), root))


def _imported(tree: ast.AST, root: Path) -> set[str]:
    """Modules of `lib` in import statements; a text that is nothing but such a name counts (`python -m`)."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
        elif isinstance(node, ast.Constant) and str(node.value).startswith("lib."):
            names.add(node.value)
    names = {name for name in names if str(name).startswith("lib.")}
    return {name for name in names if root.joinpath(*name.split(".")).with_suffix(".py").is_file()}


@cache
def _tree(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    beside = filter(Path.is_file, map(path.with_suffix, BESIDE))
    return ast.dump(tree) + "".join(file.read_text(encoding="utf-8") for file in beside)

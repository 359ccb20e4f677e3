"""A stage: one resumable notebook with files in, files out and a manifest beside it."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

from lib.files import FULL, DiskFull, file_digest, remove_parts, write_json
from lib.study.lock import Lock
from lib.study.params import ROOT, Checked, check, given, schema_of
from lib.study.provenance import code_digest, commit, versions
from lib.study.run_record import RunRecord


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

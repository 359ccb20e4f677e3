"""One run of a stage at a time: a lock that ends with the process that holds it."""

import errno
import fcntl
import json
import os
import sys
import time
from pathlib import Path

from lib.files import FULL, DiskFull

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

"""A Slurm of one node on loopback, started and stopped by the tests; as little set up as Debian's packages need."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo", "scontrol", "srun")
PACKAGES = ("slurm-wlm", "munge")

CONFIGURATION = """\
ClusterName=crossbook
SlurmctldHost=localhost
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=20
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=6
SlurmctldTimeout=6
KillWait=2
MinJobAge=3600
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=2
NodeName=localhost NodeAddr=127.0.0.1 CPUs={processors} RealMemory={memory_mb} State=UNKNOWN
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def install() -> str:
    """Have Debian's packages, through apt where we may; "" or the reason why they cannot be had."""

    def missing() -> list[str]:
        return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]

    if os.geteuid() != 0:
        return "slurmd wants root, and so does the installation of " + " ".join(PACKAGES)
    if missing() and shutil.which("apt-get"):
        # in runlevel 1 Debian's packages start no daemons
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", "-qq", *command], env=quiet, capture_output=True, timeout=400)
    return f"{', '.join(missing())} cannot be installed here" if missing() else ""


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Slurm:
    """munged, slurmctld and slurmd as children of this process: `with Slurm(folder) as slurm: ...`.

    Parameters
    ----------
    folder : path
        Where keys, sockets, state and logs go. Short: a socket's name may have 107 characters.
    processors, memory_mb : int
        What the node claims to have.
    """

    def __init__(self, folder: Path, processors: int = 2, memory_mb: int = 12000) -> None:
        self.folder = Path(folder)
        self.conf = self.folder / "slurm.conf"
        self.daemons: dict[str, subprocess.Popen] = {}
        self.sizes = {"processors": processors, "memory_mb": memory_mb}

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with what Slurm's commands need to find this cluster."""
        path = os.pathsep.join([str(self.folder / "bin"), _path()])
        return {**os.environ, "SLURM_CONF": str(self.conf), "PATH": path}

    def __enter__(self) -> "Slurm":
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self.folder.chmod(0o755)
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir()
        # Snakemake takes SLURM_CONF from the environment of a job before it calls srun; a real cluster has /etc/slurm
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.conf} exec {shutil.which("srun", path=_path())} "$@"\n')
        srun.chmod(0o755)
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        self.conf.write_text(CONFIGURATION.format(folder=self.folder, **ports, **self.sizes))
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = {"key": key.name, "pid": "munged.pid", "log": "munged.log", "seed": "munged.seed"}
        self._daemon(
            "munged",
            "--foreground",
            "--force",
            f"--socket={self.folder}/munge.socket",
            *(f"--{what}-file={self.folder}/{name}" for what, name in files.items()),
        )
        self.wait_for(lambda: (self.folder / "munge.socket").exists(), "munged to open its socket", 10)
        self._daemon("slurmctld", "-D", "-i")
        self.start_node()

    def _daemon(self, name: str, *arguments: str) -> None:
        with open(self.folder / f"{name}.out", "ab") as out:
            self.daemons[name] = subprocess.Popen(
                [name, *arguments], stdout=out, stderr=out, env=self.environment, start_new_session=True
            )

    def start_node(self) -> None:
        """Start slurmd and wait until the node takes jobs."""
        self._daemon("slurmd", "-D")
        self.wait_for(
            lambda: self.say("sinfo", "-h", "-o", "%t").strip() in ("idle", "mix", "alloc"), "idle", 40
        )

    def kill_node(self) -> None:
        """The node dies: slurmd, and everything it started, at once."""
        doomed = [self.daemons.pop("slurmd").pid, *self.steps()]
        for process in [*doomed, *descendants(doomed)]:
            _kill(process, signal.SIGKILL)

    def say(self, *command: str) -> str:
        """What one of Slurm's commands prints; "" where it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout if done.returncode == 0 else ""

    def jobs(self) -> dict[str, str]:
        """State of each job that Slurm remembers, by its number."""
        lines = self.say("squeue", "-h", "--states=all", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def wait_for(self, true, what: str, seconds: float) -> None:
        """Ask until it is true; TimeoutError with the daemons' last words otherwise."""
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds} s for {what}\n{self.last_words()}")
            time.sleep(0.2)

    def last_words(self, lines: int = 15) -> str:
        """The ends of the daemons' logs."""
        logs = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "\n".join(
            f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
            for log in logs
        )

    def steps(self) -> list[int]:
        """Steps that slurmd left: slurmstepd is no child of it, and knows our configuration from its environment."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                name = (folder / "comm").read_text().strip()
            except OSError:  # it ended meanwhile
                continue
            if name == "slurmstepd" and f"SLURM_CONF={self.conf}".encode() in environment:
                found.append(int(folder.name))
        return found

    def stop(self) -> None:
        """Stop the jobs and the daemons, in whatever state they are."""
        if "slurmctld" in self.daemons and "slurmd" in self.daemons:
            self.say("scancel", "--signal=KILL", "--full", "--user=root")
        left = [daemon.pid for daemon in self.daemons.values()]
        left = [*(steps := self.steps()), *descendants(steps), *left, *descendants(left)]
        for process in left:
            _kill(process, signal.SIGTERM)
        for daemon in self.daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(10)
        for process in [*self.steps(), *left]:
            _kill(process, signal.SIGKILL)
        self.daemons.clear()


def descendants(processes: Iterable[int]) -> list[int]:
    """Children, and theirs, of processes; as they stand now."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(folder.name))
    found, waiting = [], list(processes)
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def _kill(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)

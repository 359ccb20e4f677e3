"""A real Slurm runs the small cohort: the same results, a cancelled job, a node that dies, nothing left running."""

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from slurm import Slurm
from small import Tree

pytestmark = pytest.mark.slow

FIRST = "results/spacrd/small/notebooks/1-preprocess.ipynb"
PROFILE = (
    *("--profile", "profiles/slurm", "--jobs", "2", "--config", "shards=2", "--retries", "0"),
    *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10"),
    *("--slurm-status-command", "squeue"),
)


@pytest.fixture
def started(slurm) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start Snakemake on the cluster; what still runs when the test has failed is ended."""
    processes = []

    def start(tree: Tree, *targets: str) -> subprocess.Popen:
        place = {name: value for name, value in slurm.environment.items() if name in ("SLURM_CONF", "PATH")}
        processes.append(tree.start(*PROFILE, "--", *targets, **place))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ended(process: subprocess.Popen, seconds: float = 600) -> tuple[int, str]:
    """Exit code, and what was said; what is left after the time is ended and fails the test."""
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        pytest.fail(f"Snakemake did not end in {seconds} s:\n{said[-6000:]}")
    return process.returncode, said


def kernel_runs(tree: Tree, process: subprocess.Popen, slurm: Slurm) -> str:
    """Wait until a job has begun to execute its notebook; its number."""
    begun = tree.folder / f"{FIRST}.running.ipynb"
    slurm.wait_for(lambda: begun.exists() or process.poll() is not None, "the notebook to be executed", 180)
    assert process.poll() is None, ended(process)[1][-6000:]
    running = [job for job, state in slurm.jobs().items() if state == "RUNNING"]
    assert len(running) == 1, slurm.jobs()
    return running[0]


@pytest.fixture(scope="module")
def tree(small_tree, tmp_path_factory) -> Tree:
    return small_tree(tmp_path_factory.mktemp("slurm"))


def test_cancelled_job_is_reported_and_the_next_run_goes_on(tree, slurm, started):
    process = started(tree, FIRST)
    job = kernel_runs(tree, process, slurm)
    slurm.say("scancel", job)
    code, said = ended(process, 120)
    assert code != 0
    assert re.search(rf"SLURM-job '{job}' failed, SLURM status is: 'CANCELLED", said), said[-4000:]
    assert not (tree.folder / FIRST).exists(), "a cancelled stage must not count as done"


def test_slurm_makes_what_one_machine_makes(tree, slurm, started, local):
    """In the tree that the test before left; two jobs at a time, the long stages in two shards."""
    before = set(slurm.jobs())
    process = started(tree, "spacrd_small")
    most = 0
    while process.poll() is None and most < 2:
        most = max(most, list(slurm.jobs().values()).count("RUNNING"))
        time.sleep(0.5)
    code, said = ended(process)
    assert code == 0, said[-6000:]
    jobs = {job: state for job, state in slurm.jobs().items() if job not in before}
    # five stages, two of them once more for each of two shards
    assert list(jobs.values()) == ["COMPLETED"] * 9
    assert most == 2, "two jobs were never at work at the same time"
    ours, theirs = tree.hashes(), local.hashes()
    assert {"cohort.csv", "predictions.csv", "history.csv", "metrics.csv"} <= set(theirs)
    assert sorted(ours) == sorted(theirs)
    assert {name for name in ours if ours[name] != theirs[name]} == set()
    code, said = ended(started(tree, "spacrd_small"))
    assert code == 0
    assert "Nothing to be done" in said


def test_job_of_a_dead_node_is_put_into_the_queue_again(small_tree, slurm, started, local, tmp_path):
    tree = small_tree(tmp_path / "tree")
    process = started(tree, FIRST)
    job = kernel_runs(tree, process, slurm)
    slurm.kill_node()
    slurm.wait_for(lambda: slurm.jobs()[job] != "RUNNING", "Slurm to miss the node", 90)
    assert not (tree.folder / FIRST).exists()
    slurm.start_node()
    code, said = ended(process, 300)
    assert code == 0, said[-6000:]
    assert slurm.jobs()[job] == "COMPLETED"
    assert re.search(r"Restarts=1\b", slurm.say("scontrol", "show", "job", job))
    ours, theirs = tree.hashes(), local.hashes()
    assert ours
    assert {name for name in ours if ours[name] != theirs[name]} == set()

"""What this machine has and lacks to run Crossbook, each with the next step: `make doctor`.

    python -m lib.study.doctor

Ends with 0 where a demo can run, with 1 where it cannot. Only the standard library is imported before the check that
the packages are there, and nothing is fetched or changed. No token is shown.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from lib.study import installation, machine
from lib.study.findings import LACKS, OK, STOPS, Finding, as_table

ROOT = Path(__file__).resolve().parents[2]


def findings(root: Path = ROOT) -> list[Finding]:
    """Every check in turn; one that fails becomes a line that says so.

    Parameters
    ----------
    root : Path
        The repository.
    """
    raw = root / "data" / "raw"
    results = Path(os.environ.get("CROSSBOOK_RESULTS") or root / "results")
    have = installation.installed()
    probe = installation.start_probe(root)
    # torch takes seconds to import: all else is looked at while it does
    early = [
        *_looked("Python", machine.python),
        *_looked("packages", installation.packages, root, have),
        *_looked("Quarto", installation.quarto),
        *_looked("processor cores", machine.cores),
        *_looked("memory", machine.memory),
        *_looked("results", machine.results_place, results),
        *_looked("data/raw", machine.raw_place, raw),
        *_looked("mirror", mirror, root),
        *_looked("git", git, root),
    ]
    late = [
        *_looked("optional packages", installation.extras, have),
        *_looked("tokens", installation.tokens),
        *_looked("data", _cohorts, root, raw),
    ]
    torch = _looked("torch", installation.torch_and_gpu, probe, have)
    at = next((i for i, found in enumerate(early) if found.what == "Quarto"), len(early))
    return [*early[:at], *torch, *early[at:], *late]


def mirror(root: Path) -> Finding:
    """The folder that is tried before the network."""
    name = os.environ.get("CROSSBOOK_MIRROR")
    if not name:
        return Finding("CROSSBOOK_MIRROR", "not set: make data takes the network")
    if (root / Path(name).expanduser()).is_dir():
        return Finding("CROSSBOOK_MIRROR", "a folder, tried before the network")
    return Finding("CROSSBOOK_MIRROR", "names no folder", "correct or unset it", LACKS)


def git(root: Path) -> Finding:
    """Whether manifests can name the commit."""
    if not (root / ".git").exists():
        return Finding(
            "git", "no checkout: manifests name no commit", "git clone instead of a download", LACKS
        )
    if shutil.which("git") is None:
        return Finding("git", "not found: manifests name no commit", "install git", LACKS)
    return Finding("git", "a checkout")


def verdict(found: Iterable[Finding]) -> tuple[str, int]:
    """The last line, and the exit code."""
    stops = [each.what for each in found if each.mark == STOPS]
    if stops:
        return f"A demo cannot run here before this is put right: {', '.join(stops)}.", 1
    return "A demo can run here: make run STUDY=spacrd COHORT=demo, or make book for all.", 0


def _cohorts(root: Path, raw: Path) -> list[Finding]:
    from lib.study.data_at_hand import cohorts  # needs packages

    return cohorts(root, raw)


def _looked(what: str, check: Callable, *given) -> list[Finding]:
    try:
        found = check(*given)
    except ImportError as error:
        return [Finding(what, f"cannot be looked at without {error.name}", "make setup", LACKS)]
    except Exception as error:  # one check that fails must not hide the others; it is a line like any other
        said = " ".join(str(error).split())[:200]
        return [Finding(what, f"cannot be looked at: {type(error).__name__}: {said}", mark=LACKS)]
    return [found] if isinstance(found, Finding) else list(found)


def main() -> int:
    """Print the table and the verdict; returns the exit code."""
    found = findings()
    said, code = verdict(found)
    print(as_table(found, shutil.get_terminal_size((120, 24)).columns))
    print(
        f"\n{OK}: in order; {LACKS}: missing, and a demo runs without it; {STOPS}: a demo cannot run\n{said}"
    )
    return code


if __name__ == "__main__":
    sys.exit(main())

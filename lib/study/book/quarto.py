"""The Quarto program: whether it is here, one render, and what it complains of without failing."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HOW_TO_GET = (
    "for the whole book install Quarto (conda-forge: quarto; installer: quarto.org; `pip install quarto-cli` "
    "where GitHub can be reached) and run `make book` again"
)


def find_quarto() -> tuple[str, str] | None:
    """The Quarto program beside this Python or on the PATH, and its version; None where none works."""
    where = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("quarto", path=where)
    if program is None:
        return None
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = answer.stdout.strip()
    return (program, version) if answer.returncode == 0 and version else None


def render(program: str, folder: Path, log: Path) -> tuple[Path, list[str]]:
    """Render the book project in a folder.

    Parameters
    ----------
    program : str
        From `find_quarto`.
    folder : Path
        Holds ``_quarto.yml`` with ``output-dir: _book``, and every page.
    log : Path
        Where Quarto writes its log.

    Returns
    -------
    (Path, list of str)
        The site, and one sentence for each complaint: Quarto exits with 0 in spite of them.

    Raises
    ------
    RuntimeError
        If Quarto fails, with the end of what it said.
    """
    log.unlink(missing_ok=True)
    # A profile of the user's would change the table of contents.
    environment = {
        key: value for key, value in os.environ.items() if key not in ("QUARTO_PROFILE", "QUARTO_LOG_LEVEL")
    }
    answer = subprocess.run(
        [program, "render", str(folder), "--log", str(log), "--log-format", "json-stream"],
        capture_output=True,
        encoding="utf-8",
        env=environment,
    )
    if answer.returncode:
        raise RuntimeError(f"quarto exited with {answer.returncode}: {answer.stderr.strip()[-2000:]}")
    return folder / "_book", complaints(log.read_text(encoding="utf-8"), answer.stderr)


def complaints(log: str, stderr: str) -> list[str]:
    """What Quarto and pandoc warned of: unresolved references, missing citations, shortcodes left alone.

    Parameters
    ----------
    log : str
        Quarto's log, one JSON object a line.
    stderr : str
        What the render wrote there: citeproc's warnings reach only this.
    """
    found = []
    for line in filter(str.strip, log.splitlines()):
        entry = json.loads(line)
        text = " ".join(str(entry.get("msg", "")).split())
        if entry.get("levelName") in ("WARN", "WARNING", "ERROR", "CRITICAL") or "Shortcode" in text:
            found.append(f"quarto warns: {text}")
    found += [
        f"pandoc warns: {line.strip()}"
        for line in stderr.splitlines()
        if re.search(r"\[WARNING\]|citeproc", line)
    ]
    return list(dict.fromkeys(found))

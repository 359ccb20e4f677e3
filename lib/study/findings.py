"""What a check found: its state, the next step, and whether the demo can run without it."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

OK, LACKS, STOPS = "ok", "-", "STOP"
HEADS = ("", "what", "state", "next step")


class Finding(NamedTuple):
    """One line of `make doctor`.

    Attributes
    ----------
    what, state, step : str
        What was looked at, what was found, and what to do about it ("" where nothing is to be done).
    mark : str
        "ok"; "-" where something is missing that the demo can do without; "STOP" where it cannot.
    """

    what: str
    state: str
    step: str = ""
    mark: str = OK


def as_table(findings: Sequence[Finding], width: int = 120) -> str:
    """Findings as plain text, long cells on several lines.

    Parameters
    ----------
    findings : sequence of Finding
    width : int
        Columns of the terminal; at least 60 are taken.
    """
    rows = [HEADS, *((f.mark, f.what, f.state, f.step) for f in findings)]
    first = max(len(row[0]) for row in rows)
    second = min(28, max(len(row[1]) for row in rows))
    rest = max(60, width) - first - second - 6
    widths = (first, second, max(14, rest // 2), max(14, rest - rest // 2))
    lines = []
    for row in rows:
        cells = [
            textwrap.wrap(cell, wide, break_on_hyphens=False) or [""]
            for cell, wide in zip(row, widths, strict=True)
        ]
        for at in range(max(map(len, cells))):
            parts = [
                (cell[at] if at < len(cell) else "").ljust(wide)
                for cell, wide in zip(cells, widths, strict=True)
            ]
            lines.append("  ".join(parts).rstrip())
    lines.insert(1, "  ".join("-" * wide for wide in widths))
    return "\n".join(lines)

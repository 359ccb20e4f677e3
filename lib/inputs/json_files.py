"""JSON files of others: one object, every key once, numbers that are numbers."""

import json
import os
from pathlib import Path

MOST_BYTES = 10 << 20
"""More is no file of scale factors or settings."""


def read_json(path: str | os.PathLike) -> dict:
    """Read a JSON file that holds an object.

    Raises
    ------
    FileNotFoundError
    ValueError
        Too large, no UTF-8, no JSON, nested too deep, a key twice, NaN or infinity, or something else than an object.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there, or is no file")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{path} holds {size >> 20} MB: it is no settings file, fetch it again")
    try:
        content = json.loads(
            path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once, parse_constant=_refuse
        )
    except RecursionError:
        raise ValueError(f"{path} is no JSON that can be read (nested too deep): fetch it again") from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are of that kind
        said = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} is no JSON that can be read ({said}): fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds {type(content).__name__}, expected an object with keys: fetch it again"
        )
    return content


def positive(content: dict, key: str, path: str | os.PathLike) -> float:
    """A number above 0 of what `read_json` read.

    Raises
    ------
    ValueError
        The key is missing, or is no such number.
    """
    if key not in content:
        raise ValueError(f"{path} has no {key}: a number above 0 is expected, fetch it again")
    value = content[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ValueError(f"{path} has {key} {str(value)[:40]!r}: a number above 0 is expected")
    return float(value)


def _once(pairs: list[tuple[str, object]]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)[:60]!r} stands twice")
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")

"""A picture file: whether there is anything to see in it."""

import io
import re

from PIL import Image, UnidentifiedImageError

_DRAWN = re.compile(rb"<(?:\w+:)?(?:path|rect|circle|ellipse|line|polyline|polygon|text|image|use)\b")


def fault_of(content: bytes) -> str | None:
    """What is wrong with a picture file, as the end of a sentence; None for a good one.

    Parameters
    ----------
    content : bytes
        A PNG, JPEG or SVG.
    """
    if not content.strip():
        return "is empty"
    if b"<svg" in content[:4096]:
        return None if _DRAWN.search(content) else "shows nothing"
    try:
        with Image.open(io.BytesIO(content)) as picture:
            extrema = picture.convert("RGB").getextrema()
    except (UnidentifiedImageError, OSError):
        return "cannot be read"
    return "is of one colour: nothing was drawn" if all(low == high for low, high in extrema) else None

"""Refuse what is not a bag of tiles of one slide or patient."""

from torch import Tensor


def check_bag(bag: Tensor | None, in_dim: int, scale: str) -> Tensor:
    """Return `bag` if it is (1, n, in_dim) with n at least 1; `scale` ("x5", "x10", "x20") names it in the error.

    Raises
    ------
    ValueError
        No bag, no tile, several slides at once, or features of another width.
    """
    if bag is None or bag.ndim != 3 or bag.shape[0] != 1 or bag.shape[1] < 1 or bag.shape[2] != in_dim:
        found = "nothing" if bag is None else f"shape {tuple(bag.shape)}"
        raise ValueError(f"bag {scale} must be (1, tiles, {in_dim}) with one tile at least, got {found}")
    return bag


def check_choice(model: str, **choices: tuple[object, tuple]) -> None:
    """Refuse options by name: `check_choice("AMIL", variant=(variant, VARIANTS))`.

    Raises
    ------
    ValueError
        A value that is not among the known ones.
    """
    for name, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"{model}({name}={value!r}): {name} must be one of {known}")

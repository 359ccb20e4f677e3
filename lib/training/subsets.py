"""Which modalities a model is given: every choice of one or more of them."""

from collections.abc import Sequence
from itertools import combinations


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """All non-empty choices, the small ones first, each in the cohort's order: 7 of 3 modalities.

    Raises
    ------
    ValueError
        No modality, one named twice, or a name with a "+", which joins names.
    """
    names = tuple(modalities)
    if not names or len(set(names)) < len(names) or any("+" in name or not name for name in names):
        raise ValueError(
            f"modalities are {list(names)}: give one or more, each once and without '+' in its name"
        )
    return [chosen for size in range(1, len(names) + 1) for chosen in combinations(names, size)]


def subset_name(subset: Sequence[str]) -> str:
    """ "clinical+ct" of ("clinical", "ct")."""
    return "+".join(subset)


def subset_of(name: str) -> tuple[str, ...]:
    """("clinical", "ct") of "clinical+ct"."""
    return tuple(name.split("+"))

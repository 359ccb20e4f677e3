"""Which patients train and which are tested."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Fold(NamedTuple):
    """Sections of one fold; `name` is the held-out patient, or "transfer"."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


def refuse_leak(train: Iterable[str], test: Iterable[str], patients: Mapping[str, str]) -> None:
    """Raise ValueError where a patient stands on both sides of a split.

    Parameters
    ----------
    train, test : iterable of str
        Sections (or slides, cases).
    patients : mapping
        Section -> patient.
    """
    both = {patients[s] for s in train} & {patients[s] for s in test}
    if both:
        raise ValueError(
            f"patient {', '.join(sorted(both))} is in training and in test: split by patient, not by section"
        )


def leave_one_patient_out(patients: Mapping[str, str]) -> list[Fold]:
    """One fold a patient: all sections of that patient are tested, all others train.

    Parameters
    ----------
    patients : mapping
        Section -> patient.
    """
    names = sorted(set(patients.values()))
    if len(names) < 2:
        raise ValueError(f"leave-one-patient-out needs two patients at least, the cohort has {names}")
    return [
        Fold(
            name,
            tuple(s for s in patients if patients[s] != name),
            tuple(s for s in patients if patients[s] == name),
        )
        for name in names
    ]


def fixed_split(
    train: Sequence[str], test: Sequence[str], patients: Mapping[str, str], name: str = "transfer"
) -> Fold:
    """One fold from named sections; refuses a patient on both sides."""
    refuse_leak(train, test, patients)
    return Fold(name, tuple(train), tuple(test))

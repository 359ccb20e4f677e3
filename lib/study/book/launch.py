"""Where a reader can run a notebook without installing anything: Binder, for a repository with a public address."""

import re
from urllib.parse import quote

_GITHUB = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?")
_ADDRESS = re.compile(r"https://[^\s/]+/\S+")


def repository_of(contents: dict) -> str:
    """The repository's public address, ``repo-url`` of a book in ``_quarto.yml``; "" where there is none.

    Raises
    ------
    ValueError
        If it is no https address.
    """
    address = str(contents["book"].get("repo-url") or "").strip()
    if address and not _ADDRESS.fullmatch(address):
        raise ValueError(
            f"_quarto.yml: repo-url is {address!r}, expected the repository's https address, or nothing."
        )
    return address


def binder_of(repository: str, study: str, stage: str) -> str:
    """Binder's address of a stage's notebook; "" where the repository has no address that Binder knows.

    Binder makes the environment of ``environment.yml``. Colab is left out: it brings another Python, and a
    notebook alone, without ``lib/``.

    Parameters
    ----------
    repository : str
        From `repository_of`.
    study, stage : str
        E.g. ``"spacrd"``, ``"3-train"``.
    """
    named = _GITHUB.fullmatch(repository)
    if named is None:
        return ""
    path = quote(f"notebooks/{study}/{stage}.ipynb", safe="")
    return f"https://mybinder.org/v2/gh/{named[1]}/{named[2]}/HEAD?labpath={path}"

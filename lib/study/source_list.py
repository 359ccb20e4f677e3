"""The list of sources, data/sources.yaml: where raw data come from and under which terms."""

import os
from pathlib import Path, PureWindowsPath
from typing import Annotated
from urllib.parse import urljoin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from lib.inputs.downloads import refuse_unsafe
from lib.inputs.yaml_files import read_yaml

LIST = Path(__file__).resolve().parents[2] / "data" / "sources.yaml"


def _inside(path: str) -> str:
    parts = path.replace("\\", "/").split("/")
    if PureWindowsPath(path).drive or parts[0] in ("", "~") or {"..", "."} & set(parts) or "\0" in path:
        raise ValueError("must stay below the source's folder")
    return path


Inside = Annotated[str, AfterValidator(_inside)]
Strict = ConfigDict(extra="forbid", frozen=True)


class File(BaseModel):
    """One file of a source; see data/README.md for the meaning of the fields."""

    model_config = Strict

    path: Inside
    url: str | None = ""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$")
    git_blob: str | None = Field(None, pattern="^[0-9a-f]{40}$")
    bytes: int | None = Field(None, ge=0)
    group: str = ""
    unpack: Inside | None = None
    verified: bool

    @model_validator(mode="after")
    def _has_what_it_claims(self) -> "File":
        if self.verified and self.checksum is None:
            raise ValueError(f"{self.path} is called verified and has no checksum")
        return self

    @model_validator(mode="after")
    def _is_fetched_safely(self) -> "File":
        if self.url and "://" in self.url:
            refuse_unsafe(self.url, self.path)
        return self

    @property
    def checksum(self) -> tuple[str, str] | None:
        """Kind ("sha256", "md5" or "git_blob") and value of the strongest checksum there is."""
        kinds = ((kind, getattr(self, kind)) for kind in ("sha256", "git_blob", "md5"))
        return next(((kind, value) for kind, value in kinds if value), None)


class Source(BaseModel):
    """A data set or a file of weights: where it comes from, and under which terms."""

    model_config = Strict

    title: str
    citation: str
    doi: str | None
    licence: str
    homepage: str
    base_url: str = ""
    note: str = ""
    by_hand: str = ""
    files: tuple[File, ...]

    def url(self, file: File) -> str | None:
        """Address of a file, or None if it is published nowhere."""
        return None if file.url is None else urljoin(self.base_url, file.url or file.path)


class Cohort(BaseModel):
    """The sources a cohort cannot do without, and those it can."""

    model_config = Strict

    needs: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()


class Sources(BaseModel):
    """Content of data/sources.yaml."""

    model_config = Strict

    cohorts: dict[str, Cohort]
    sources: dict[str, Source]


def read_sources(path: str | os.PathLike = LIST) -> Sources:
    """Read and check the list of sources.

    Raises
    ------
    ValueError
        Names the entry and what is wrong with it.
    """
    try:
        return Sources.model_validate(read_yaml(Path(path)))
    except ValidationError as error:
        first, *others = error.errors()
        where = ".".join(map(str, first["loc"])) or "the whole"
        more = f" ({len(others)} more faults)" if others else ""
        raise ValueError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}{more}") from error

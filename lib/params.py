"""Parameters of a stage: strict YAML, one schema a study, and what a running notebook was given."""

import ast
import difflib
import importlib
import re
import reprlib
import sys
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

ROOT = Path(__file__).resolve().parents[1]
MOST_SAID = 5


class _Once:
    """A loader that refuses a second value for a key, where YAML's own lets the last one win."""

    def construct_mapping(self, node, deep=False):
        keys = set()
        for key, _ in node.value:
            if key.value in keys:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1} has the key {key.value!r} twice")
            keys.add(key.value)
        return super().construct_mapping(node, deep)


class _Values(_Once, yaml.SafeLoader):
    def _number(self, node):  # YAML 1.1 reads 1:30 as ninety and 010 as eight
        if ":" in node.value or "_" in node.value or re.match(r"[+-]?0[0-9]", node.value):
            where = f"line {node.start_mark.line + 1}: {node.value}"
            raise yaml.YAMLError(f"{where} is no plain number: write it as one, or in quotes")
        kind = "int" if node.tag.endswith(":int") else "float"
        return getattr(yaml.SafeLoader, f"construct_yaml_{kind}")(self, node)


for _kind in ("int", "float"):
    _Values.add_constructor(f"tag:yaml.org,2002:{_kind}", _Values._number)


class _Texts(_Once, yaml.BaseLoader):
    pass


def read_yaml(path: Path, texts: bool = False) -> object:
    """Content of a YAML file; a key twice, or a number that YAML 1.1 reads as another, is a ValueError.

    `texts` leaves every value a text: 0012 is a patient, and not ten.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8-sig"), Loader=_Texts if texts else _Values)
    except (yaml.YAMLError, UnicodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


class Checked(BaseModel):
    """A schema that knows no keys but its own and never changes after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, about) -> Any:
        numbers = (int, float, float | None)
        if isinstance(value, bool) and cls.model_fields[about.field_name].annotation in numbers:
            raise ValueError("a number is expected")
        return value


class StudyParams(Checked):
    """What every study's parameters have: whose patients, and how to run."""

    cohort: str = Field("demo", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    kind: Literal["phantom", "open", "gated"] = "phantom"
    shard: int = Field(0, ge=0)
    shards: int = Field(1, ge=1)
    device: Literal["auto", "cpu", "gpu"] = "auto"
    max_failed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _a_shard_of_those(self) -> "StudyParams":
        if self.shard >= self.shards:
            raise ValueError(f"shard {self.shard} of {self.shards} shards does not exist: count from 0")
        return self


class Tiling(Checked):
    """How a study lays tiles: fields of its parameters."""

    tiling: Literal["exact", "clam_compat"] = "exact"  # one grid in µm, or CLAM's tiles
    preset: str = "tcga"  # CLAM's settings: a name of `lib.features.clam.PRESETS`, or a csv like its own
    process_list: str = ""  # CLAM's csv of settings a slide; "": `preset` for all
    # level of the file whose `tile_px` pixels a tile of the finest scale is, as CLAM; -1: pixels of nominal 20x (10x, 5x)
    patch_level: int = Field(-1, ge=-1)
    step: int = Field(0, ge=0)  # CLAM's step_size, pixels as those of tile_px; 0: side by side
    tile_px: int = Field(256, ge=16)
    least_tissue: float = Field(0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _clams(self):
        if self.tiling == "exact" and (self.process_list or self.step or self.patch_level >= 0):
            raise ValueError(
                "process_list, step and patch_level are CLAM's: give tiling: clam_compat with them"
            )
        return self


Schema = TypeVar("Schema", bound=Checked)


def schema_of(study: str) -> type[Checked]:
    """The schema of a study's parameters: the one class in `lib/<study>/params.py` with a cohort."""
    module = importlib.import_module(f"lib.{study}.params")
    classes = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
    return next(c for c in classes if issubclass(c, Checked) and "cohort" in c.model_fields)


def check(values: Mapping[str, Any], schema: type[Schema], where: str) -> Schema:
    """Validate parameters; a ValueError names the place, wrong keys with the nearest valid one, wrong values."""
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        faults = [_sentence(fault, schema) for fault in error.errors()]
        more = f"; and {len(faults) - MOST_SAID} more" if len(faults) > MOST_SAID else ""
        raise ValueError(f"{where}: " + "; ".join(faults[:MOST_SAID]) + more) from None


def load(path: str | Path, schema: type[Schema] | None = None) -> Schema:
    """Read and check `params/<study>/<cohort>.yaml`; the folder names the study."""
    path = Path(path)
    params = check(_mapping(path), schema or schema_of(path.parent.name), _short(path))
    if params.cohort != path.stem:
        raise ValueError(f"{_short(path)}: cohort is {params.cohort!r}, but the file is named {path.stem!r}")
    return params


def of_notebook(study: str, namespace: Mapping[str, Any], where: str) -> Checked:
    """The parameters of a running notebook, from its `globals()`; `where` names it in messages.

    A parameter comes from the cell that papermill injected; else from the notebook's parameter cell, where somebody
    changed it there; else from `params/<study>/<cohort>.yaml`; else from the schema. The YAML that papermill was
    given is read again, strictly: papermill itself lets the second of two equal keys win and takes 010 for 8.
    ValueError: an unknown parameter, a value of another kind, a YAML with two readings. FileNotFoundError: the cohort has no YAML.
    """
    schema = schema_of(study)
    cells = [(source, literal_cell(source) or {}) for source in namespace.get("In", ())]
    injected = {name for source, names in cells if source.startswith("# Parameters") for name in names}
    names = [*schema.model_fields, *(name for _, cell in cells for name in cell)]
    values = {name: namespace[name] for name in names if name in namespace}
    cohort = str(values.get("cohort", schema.model_fields["cohort"].default))
    path = _papermill_file() or ROOT / "params" / study / f"{cohort}.yaml"
    if path.is_file() or (any(path.parent.glob("*.yaml")) and {*schema.model_fields} - injected):
        file = _mapping(path)
        defaults = schema()
        for name, value in file.items():
            here, default = _plain(values.get(name)), _plain(getattr(defaults, name, None))
            if name not in values or here == _plain(value) or (name not in injected and here == default):
                values[name] = value
            else:
                print(f"{name} = {reprlib.repr(here)}, where {_short(path)} says {reprlib.repr(value)}")
    return check(values, schema, where)


def literal_cell(source: str) -> dict[str, Any] | None:
    """The names and values of a cell that holds nothing but `name = literal` lines; None for any other cell."""
    pairs = {}
    try:
        for statement in ast.parse(source).body:
            pairs |= {target.id: ast.literal_eval(statement.value) for target in statement.targets}
    except (SyntaxError, ValueError, AttributeError):  # no assignment, to no plain name, of no literal
        return None
    return pairs or None


def _papermill_file() -> Path | None:
    """The file of `papermill -f`, if that is what started this kernel."""
    try:
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent else []
        for flag, file in pairwise(words):
            if flag in ("-f", "--parameters_file") and any("papermill" in word for word in words[:4]):
                return Path(parent.cwd(), file)
    except psutil.Error:
        pass
    return None


def _mapping(path: Path) -> dict:
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise FileNotFoundError(f"{path}: no such parameter file; {nearest(path.stem, known)}")
    values = read_yaml(path)
    if not isinstance(values, dict | None):
        raise ValueError(f"{_short(path)}: expected `key: value` lines, found a {type(values).__name__}")
    return values or {}


def _plain(value: Any) -> Any:
    """A value as YAML would give it: a checked model as a mapping, a tuple as a list."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    return list(value) if isinstance(value, tuple) else value


def _sentence(fault: dict, schema: type[Checked]) -> str:
    key = ".".join(str(part) for part in fault["loc"]) or "the whole"
    if fault["type"] == "extra_forbidden":
        return f"unknown parameter {key!r}: {nearest(fault['loc'][-1], _names(schema))}"
    got = "" if fault["type"] == "missing" else f", got {reprlib.repr(fault['input'])}"
    return f"parameter {key!r}: {fault['msg'].removeprefix('Value error, ')}{got}"


def _names(schema: type[Checked]) -> list[str]:
    names = list(schema.model_fields)
    for field in schema.model_fields.values():
        for part in [field.annotation, *getattr(field.annotation, "__args__", ())]:
            if isinstance(part, type) and issubclass(part, Checked):
                names += part.model_fields
    return names


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, or all that are known, as the end of a sentence."""
    known = [str(each) for each in known]
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known) or 'none'}"


def _short(path: Path) -> str:
    path = Path(path).resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


class Resources(Checked):
    """What a stage asks of a machine. No result depends on it, so changing it makes nothing run again.

    Attributes
    ----------
    mem_mb, minutes, gpus, threads : int
        Memory (a job that is tried again asks for twice, then three times as much); longest time; processors, which
        are also the threads of the numerical libraries, whose sums may round differently with another number.
    """

    mem_mb: int = Field(ge=100)
    minutes: int = Field(ge=1)
    gpus: int = Field(0, ge=0)
    threads: int = Field(1, ge=1)


@cache
def resources_of(study: str, cohort: str, stage: str, root: Path = ROOT) -> Resources:
    """What `params/resources.yaml` says of a stage; of several entries that fit, the last one's word counts by key."""
    file, asked = "params/resources.yaml", {}
    for pattern, stages in read_yaml(Path(root, file)).items():
        for name, entry in stages.items():  # those that do not fit, too: a slip is told before it matters
            check({"mem_mb": 100, "minutes": 1} | entry, Resources, f"{file}, {name} of {pattern!r}")
        if fnmatchcase(f"{study}/{cohort}", pattern):
            asked |= stages.get(stage, {})
    return check(asked, Resources, f"{file}, {stage} of {study}/{cohort}")


if __name__ == "__main__":
    from lib import params  # the schemas are classes of that module, not of this one

    try:
        for name in sys.argv[1:]:
            params.load(name)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)

"""YAML as people write it: no key twice, no aliases, no tags, no depth.

PyYAML lets the last of two keys win without a word, and reads 1:30 as ninety and 010 as eight.

Parameters of a stage: one schema a study, checked before anything runs.
"""

import ast
import difflib
import re
import reprlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

MOST_BYTES = 1 << 20


class _Plain:
    """What both loaders refuse."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(
                f"line {self.peek_event().start_mark.line + 1} has an alias (*name): write it out"
            )
        event = self.peek_event()
        if getattr(event, "tag", None) not in (None, "!"):
            raise yaml.YAMLError(
                f"line {event.start_mark.line + 1} has the tag {event.tag[:60]}: plain values alone are read"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        been = set()
        for key, _ in node.value:
            if key.value in been if isinstance(key.value, str) else True:
                said = (
                    f"the key {key.value!r} twice" if isinstance(key.value, str) else "a key that is no text"
                )
                raise yaml.YAMLError(f"line {key.start_mark.line + 1} has {said}")
            if key.value == "<<":
                raise yaml.YAMLError(f"line {key.start_mark.line + 1} merges a mapping (<<): write it out")
            been.add(key.value)
        return super().construct_mapping(node, deep)


class _Values(_Plain, yaml.SafeLoader):
    def _number(self, node):
        if ":" in node.value or "_" in node.value or re.match(r"[+-]?0[0-9]", node.value):
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: {node.value[:60]} is no plain number: write it as one, or in quotes"
            )
        kind = "int" if node.tag.endswith(":int") else "float"
        return getattr(yaml.SafeLoader, f"construct_yaml_{kind}")(self, node)


for _kind in ("int", "float"):
    _Values.add_constructor(f"tag:yaml.org,2002:{_kind}", _Values._number)


class _Texts(_Plain, yaml.BaseLoader):
    pass


def read_yaml(path: Path, texts: bool = False) -> object:
    """Content of a YAML file.

    Parameters
    ----------
    path : Path
    texts : bool
        Leave every value a text: 0012 is a patient, and not ten.

    Raises
    ------
    FileNotFoundError
    ValueError
        No YAML, no UTF-8, a key twice, an alias, an object, a megabyte of it, or nested too deeply.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there, or is no file")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} is larger than {MOST_BYTES >> 20} MB, which no file of this kind is")
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Texts if texts else _Values)
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())[:300]}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is not valid YAML: it is nested too deeply") from error


ROOT = Path(__file__).resolve().parents[1]


MOST_SAID = 5


class Checked(BaseModel):
    """A schema that knows no keys but its own and never changes after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, about: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[about.field_name].annotation in (int, float):
            raise ValueError("a number is expected")
        return value


Schema = TypeVar("Schema", bound=Checked)


def schema_of(study: str) -> type[Checked]:
    """The schema class of a study, by name."""
    from lib.crossfusion import params as crossfusion
    from lib.gcmlm import params as gcmlm
    from lib.spacrd import params as spacrd
    from lib.stroke import params as stroke

    schemas = {
        "crossfusion": crossfusion.CrossFusionParams,
        "gcmlm": gcmlm.GastricParams,
        "spacrd": spacrd.SpaCRDParams,
        "stroke": stroke.StrokeParams,
    }
    if study not in schemas:
        raise ValueError(f"study {study!r} is unknown: {_nearest(study, schemas)}")
    return schemas[study]


def check(values: Mapping[str, Any], schema: type[Schema], where: str) -> Schema:
    """Validate parameters, every fault in one sentence each.

    Parameters
    ----------
    values : mapping
    schema : subclass of Checked
    where : str
        File or notebook, for the message.

    Raises
    ------
    ValueError
        Names the place, each wrong key with the nearest valid one, and what each wrong value should be.
    """
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        faults = [_sentence(fault, schema) for fault in error.errors()]
        more = f"; and {len(faults) - MOST_SAID} more" if len(faults) > MOST_SAID else ""
        raise ValueError(f"{where}: " + "; ".join(faults[:MOST_SAID]) + more) from None


def load(path: str | Path, schema: type[Schema] | None = None) -> Schema:
    """Read and check `params/<study>/<cohort>.yaml`; the folder names the study."""
    path = Path(path)
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise FileNotFoundError(f"{_short(path)}: no such parameter file; {_nearest(path.stem, known)}")
    try:
        values = read_yaml(path)
    except ValueError as error:
        raise ValueError(str(error).replace(f"{path} is", f"{_short(path)}:", 1)) from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ValueError(f"{_short(path)}: expected `key: value` lines, found a {type(values).__name__}")
    params = check(values, schema or schema_of(path.parent.name), _short(path))
    if params.cohort != path.stem:
        raise ValueError(
            f"{_short(path)}: cohort is {params.cohort!r}, but the file is named {path.stem!r}: make them one"
        )
    return params


def literal_cell(source: str) -> dict[str, Any] | None:
    """The names and values of a cell that holds nothing but `name = literal` lines; None for any other cell."""
    try:
        statements = ast.parse(source).body
        pairs = {}
        for statement in statements:
            if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
                return None
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if not all(isinstance(target, ast.Name) for target in targets):
                return None
            pairs.update({target.id: ast.literal_eval(statement.value) for target in targets})
    except (SyntaxError, ValueError):
        return None
    return pairs or None


def given(namespace: Mapping[str, Any], schema: type[Checked]) -> dict[str, Any]:
    """The parameters of a running notebook: what its parameter cells and papermill assigned.

    papermill only warns of a parameter that the notebook doesn't have, and runs on with the default. So the cells
    run so far are looked at: names set in cells of bare `name = literal` lines are parameters, known or not. The
    schema's own names are taken from `namespace` wherever they were set.
    """
    cells = [literal_cell(source) or () for source in namespace.get("In", ())]
    names = [*schema.model_fields, *(name for cell in cells for name in cell)]
    return {name: namespace[name] for name in names if name in namespace}


def _sentence(fault: dict, schema: type[Checked]) -> str:
    key = ".".join(str(part) for part in fault["loc"]) or "the whole"
    if fault["type"] == "extra_forbidden":
        return f"unknown parameter {key!r}: {_nearest(fault['loc'][-1], _names(schema))}"
    got = "" if fault["type"] == "missing" else f", got {reprlib.repr(fault['input'])}"
    return f"parameter {key!r}: {fault['msg'].removeprefix('Value error, ')}{got}"


def _names(schema: type[Checked]) -> list[str]:
    names = list(schema.model_fields)
    for field in schema.model_fields.values():
        for part in [field.annotation, *getattr(field.annotation, "__args__", ())]:
            if isinstance(part, type) and issubclass(part, Checked):
                names += part.model_fields
    return names


def _nearest(name: str, known) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(map(str, known))}"


def _short(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


if __name__ == "__main__":
    try:
        for name in sys.argv[1:]:
            load(name)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))

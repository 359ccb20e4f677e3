"""YAML as people write it: no key twice, no aliases, no tags, no depth.

PyYAML lets the last of two keys win without a word, and reads 1:30 as ninety and 010 as eight.
"""

import re
from pathlib import Path

import yaml

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

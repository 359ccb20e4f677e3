"""Hostile YAML: parameters of a cohort, the list of sources, partitions."""

import sys
from pathlib import Path

import pytest

from lib.data import read_sources
from lib.params import load
from lib.stroke.cohort import read_partition

sys.path.insert(0, str(Path(__file__).parent))
from judge import Case, judge, shown

ROOT = Path(__file__).resolve().parents[2]


def params(change=lambda text: text, study="crossfusion", encoding="utf-8"):
    """A study's demo, changed."""

    def make(room):
        folder = room / "params" / study
        folder.mkdir(parents=True)
        text = change((ROOT / "params" / study / "demo.yaml").read_text(encoding="utf-8"))
        (folder / "demo.yaml").write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return folder / "demo.yaml"

    return make


def more(line: str):
    return params(lambda text: text.rstrip("\n") + "\n" + line + "\n")


def instead(text: str | bytes, encoding="utf-8"):
    return params(lambda _: text, encoding=encoding)


def swapped(key: str, value: str):
    def change(text):
        lines = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
        return "\n".join([*lines, f"{key}: {value}", ""])

    return params(change)


def laughs(depth: int, wide: int = 9) -> str:
    lines = ["a0: &a0 [" + ", ".join(["lol"] * wide) + "]"]
    lines += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * wide) + "]" for i in range(1, depth)]
    return "\n".join(lines) + "\n"


def other(name: str, text: str | bytes):
    def make(room):
        (room / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return room / name

    return make


def payload(room: Path) -> str:
    return f"!!python/object/apply:os.system ['touch {room / 'payload'}']"


def sources(change):
    def make(room):
        text = (ROOT / "data" / "sources.yaml").read_text(encoding="utf-8")
        (room / "sources.yaml").write_text(change(text), encoding="utf-8")
        return room / "sources.yaml"

    return make


def source(**file):
    about = {"path": "a.csv", "sha256": "0" * 64, "verified": "true", "url": "https://x.org/a.csv"} | file
    lines = [f"        {key}: {value}" for key, value in about.items()]
    text = (
        "cohorts: {}\nsources:\n  s:\n    title: t\n    citation: c\n    doi: null\n    licence: l\n    homepage: h\n"
        "    files:\n      -\n" + "\n".join(lines) + "\n"
    )
    return other("sources.yaml", text)


def sound(read) -> str:
    return "same" if read.cohort == "demo" else ""


CASES = [
    *(
        Case(f"{study}: sound", params(study=study), load, check=sound, must_read=True)
        for study in ("crossfusion", "gcmlm", "spacrd", "stroke")
    ),
    Case("a byte-order mark", params(lambda text: "\ufeff" + text), load, check=sound),
    Case("Windows' line ends", params(lambda text: text.replace("\n", "\r\n")), load, check=sound),
    Case("a billion laughs", instead(laughs(12)), load),
    Case("a thousand laughs in a value", swapped("seeds", "[&a [1,1,1,1,1,1,1,1], *a, *a]"), load),
    Case("laughs behind sound lines", params(lambda text: text + laughs(12)), load),
    Case("an anchor that holds itself", instead("cohort: &a [*a]\n"), load),
    Case("a merge of laughs", instead("a: &a {x: 1}\nb: &b {<<: [*a, *a]}\n<<: *b\n"), load),
    Case("a tab", params(lambda text: text + "\tseed: 1\n"), load),
    Case("a key twice", more("cohort: demo"), load),
    Case("a key twice with another value", more("seed: 99"), load),
    Case("a key twice in a mapping", swapped("phantom", "{seed: 2, seed: 3}"), load),
    Case("a key twice by a merge", more("<<: {seed: 99}"), load),
    Case("an object", lambda room: swapped("seed", payload(room))(room), load),
    Case("a name of Python", swapped("seed", "!!python/name:os.system"), load),
    Case("an unknown tag", swapped("seed", "!secret 1"), load),
    Case("binary", swapped("encoder", "!!binary aGVsbG8="), load),
    Case("a set", swapped("seeds", "!!set {1, 2}"), load),
    Case("a number of 1e400", swapped("learning_rate", "1e400"), load),
    Case("a number that is infinite", swapped("learning_rate", ".inf"), load),
    Case("a number that is none", swapped("learning_rate", ".nan"), load),
    Case("a number of 10,000 digits", swapped("seed", "9" * 10_000), load),
    Case("a number in base 60", swapped("seed", "1:30"), load),
    Case("a seed in octal", swapped("seed", "010"), load),
    Case("a seed below 0", swapped("seed", "-1"), load),
    Case("a seed that is true", swapped("seed", "true"), load),
    Case(
        "a seed in quotes", swapped("seed", '"1"'), load, check=lambda read: "same" if read.seed == 1 else ""
    ),
    Case("a seed of half", swapped("seed", "1.5"), load),
    Case("a list for a number", swapped("folds", "[3]"), load),
    Case("a number for a list", swapped("models", "3"), load),
    Case("a mapping for a word", swapped("tiling", "{a: 1}"), load),
    Case("nothing for a word", swapped("tiling", ""), load),
    Case("a date for a word", swapped("kind", "2020-01-01"), load),
    Case("an unknown key", more("sed: 1"), load, says="sed"),
    Case("a key that is a number", more("1: 2"), load),
    Case("a key that is a list", more("? [1, 2]\n: 3"), load),
    Case("a key that is nothing", more("~: 3"), load),
    Case("a value of 2 MB", swapped("encoder", "x" * 2_000_000), load),
    Case("nested 5000 deep", swapped("models", "[" * 5000 + "]" * 5000), load),
    Case("mappings nested 5000 deep", instead("{a: " * 5000 + "1" + "}" * 5000), load),
    Case("open brackets", swapped("models", "[" * 100), load),
    Case("two documents", params(lambda text: text + "---\n" + text), load),
    Case("empty: the demo is its defaults", instead(""), load, check=sound),
    Case("a comment alone", instead("# nothing\n"), load, check=sound),
    Case("a list", instead("- a\n- b\n"), load),
    Case("a word", instead("hello"), load),
    Case("NUL", params(lambda text: text + "\0"), load),
    Case("Latin-1", params(lambda text: text + "# schräg\n", encoding="latin-1"), load),
    Case("UTF-16", params(encoding="utf-16"), load),
    Case("binary bytes", instead(bytes(range(256))), load),
    Case(
        "a folder",
        lambda room: (
            (room / "params" / "crossfusion" / "demo.yaml").mkdir(parents=True)
            or room / "params" / "crossfusion" / "demo.yaml"
        ),
        load,
    ),
    Case("not there", lambda room: room / "params" / "crossfusion" / "dmeo.yaml", load),
    Case(
        "an unknown study",
        lambda room: params()(room).parent.rename(room / "params" / "nothing") / "demo.yaml",
        load,
        says="nothing",
    ),
    Case("another cohort's name", swapped("cohort", "other"), load),
    Case("a cohort that leaves", lambda room: swapped("cohort", "../../evil")(room), load),
    Case("slides that leave", swapped("slides", "../../etc"), load, says="slides|phantom"),
    Case(
        "sources: sound", sources(lambda text: text), read_sources, check=lambda read: "same", must_read=True
    ),
    Case(
        "sources: an unknown key",
        sources(lambda text: text.replace("    title:", "    titel:", 1)),
        read_sources,
    ),
    Case("sources: a key twice", sources(lambda text: text + "cohorts: {}\n"), read_sources),
    Case("sources: laughs", other("sources.yaml", laughs(12)), read_sources),
    Case(
        "sources: an object",
        lambda room: other("sources.yaml", f"sources: {payload(room)}\n")(room),
        read_sources,
    ),
    Case("sources: empty", other("sources.yaml", ""), read_sources),
    Case("sources: not there", lambda room: room / "sources.yaml", read_sources),
    Case("sources: a path that leaves", source(path="../../evil"), read_sources),
    Case("sources: an absolute path", source(path="/etc/x"), read_sources),
    Case("sources: a path on Windows", source(path="..\\..\\evil"), read_sources),
    Case("sources: unpacks outside", source(unpack="../out"), read_sources),
    Case("sources: unpacks to its root", source(unpack="."), read_sources),
    Case("sources: an address of http", source(url="http://x.org/a.csv"), read_sources),
    Case("sources: an address of a file", source(url="file:///etc/passwd"), read_sources),
    Case("sources: an address of ftp", source(url="ftp://x.org/a.csv"), read_sources),
    Case("sources: a checksum too short", source(sha256="00"), read_sources),
    Case("sources: verified by nothing", source(sha256="null"), read_sources),
    Case("sources: nested deep", other("sources.yaml", "[" * 5000), read_sources),
    Case("partition: laughs", other("p.yaml", laughs(12)), read_partition),
    Case("partition: a part twice", other("p.yaml", "train: [a]\ntest: [b]\ntrain: [c]\n"), read_partition),
    Case("partition: nested deep", other("p.yaml", "[" * 5000), read_partition),
    Case(
        "partition: an object",
        lambda room: other("p.yaml", f"train: {payload(room)}\n")(room),
        read_partition,
    ),
    Case("partition: no list", other("p.yaml", "train: 1\ntest: 2\n"), read_partition),
    Case("partition: a list of lists", other("p.yaml", "train: [[a]]\ntest: [b]\n"), read_partition),
    Case(
        "partition: UTF-16",
        other("p.yaml", "train: [a]\ntest: [b]\n".encode("utf-16")),
        read_partition,
        check=lambda read: "same" if list(read["patient"]) == ["a", "b"] else "",
    ),
]


@pytest.mark.parametrize("case", shown(CASES), ids=lambda case: case.name)
def test_parameters(case, tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    judge(case, room)

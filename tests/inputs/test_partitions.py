"""Partitions as YAML, csv and pickle; a pickle that wants more than to be read."""

import datetime
import pickle

import numpy as np
import pandas as pd
import pytest

from lib.stroke.cohort import read_partition

PARTS = {"train": ["p1", "p2", "p3"], "val": ["p4"], "test": ["p5", "p6"]}
ROWS = [("p1", "train"), ("p2", "train"), ("p3", "train"), ("p4", "val"), ("p5", "test"), ("p6", "test")]


def rows(path, **others):
    return list(read_partition(path, **others).itertuples(index=False, name=None))


def put(folder, content, protocol=4, name="partition.pickle"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
    return path


class Calls:
    """A pickle of it calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


YAML = "train: [p1, p2, p3]\nval:\n- p4\ntest: [p5, p6]\n"
LONG = "patient,part\np1,train\np2,train\np3,train\np4,val\np5,test\np6,test\n"
WIDE = "train,val,test\np1,p4,p5\np2,,p6\np3,,\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.yaml", YAML),
        ("p.yml", YAML.replace("train", "Training").replace("val", "validation").replace("test", "TESTING")),
        ("p.csv", LONG),
        ("p.csv", LONG.replace("patient,part", "PATIENT_ID,Split").replace(",val", ",valid")),
        ("p.tsv", LONG.replace(",", "\t")),
        ("p.csv", WIDE),
        ("p.csv", WIDE.replace("train,val,test", "training;validation;testing").replace(",", ";")),
    ],
)
def test_texts(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert rows(tmp_path / name) == ROWS


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "kind", [list, tuple, set, frozenset, np.array, lambda names: np.array(names, dtype=object)]
)
def test_pickle_of_whatever_holds_names(tmp_path, protocol, kind):
    assert rows(put(tmp_path, {part: kind(names) for part, names in PARTS.items()}, protocol)) == ROWS


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["int64", "<i4", ">i8", "uint8"])
def test_pickle_of_numbers(tmp_path, protocol, dtype):
    parts = {"training": np.array([3, 101], dtype), "testing": np.array([7], dtype)}
    assert rows(put(tmp_path, parts, protocol)) == [("3", "train"), ("101", "train"), ("7", "test")]
    parts = {"training": list(parts["training"]), "testing": {12}}
    assert rows(put(tmp_path, parts, protocol)) == [("3", "train"), ("101", "train"), ("12", "test")]


@pytest.mark.parametrize("protocol", range(6))
def test_pickle_of_numpy_s_texts(tmp_path, protocol):
    names = np.array(["Ä1", "longer"])
    parts = {"train": names[:1], "test": [names[1]], "val": names.astype(">U9")[:0]}
    assert rows(put(tmp_path, parts, protocol)) == [("Ä1", "train"), ("longer", "test")]


def test_sets_have_one_order(tmp_path):
    parts = {"train": {f"p{number}" for number in range(40)}, "test": {"q"}}
    assert [name for name, part in rows(put(tmp_path, parts)) if part == "train"] == sorted(parts["train"])


def test_names_stay_as_they_are_written(tmp_path):
    (tmp_path / "p.yaml").write_text("train: [0012, 0x1F, yes, 1e3, 2024-01-01, null]\ntest: [13]\n")
    assert [name for name, _ in rows(tmp_path / "p.yaml")] == [
        "0012",
        "0x1F",
        "yes",
        "1e3",
        "2024-01-01",
        "null",
        "13",
    ]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("where", ["top", "as a part", "among names", "in an array of objects", "as a key"])
def test_hostile_pickle_is_refused_and_not_run(tmp_path, protocol, where):
    trace = tmp_path / "trace"
    hostile = Calls(exec, f"open({str(trace)!r}, 'w')")
    content = {
        "top": hostile,
        "as a part": PARTS | {"train": hostile},
        "among names": PARTS | {"train": ["p1", hostile]},
        "in an array of objects": PARTS | {"train": np.array([hostile, "p1"], dtype=object)},
        "as a key": {hostile: ["p1"]},
    }[where]
    stored = pickle.dumps(content, protocol=protocol)
    with pytest.raises(ValueError, match=r"partition\.pickle: refused to unpickle: it asks for .*exec"):
        read_partition(put(tmp_path, stored))
    assert not trace.exists()
    pickle.loads(stored)
    assert trace.exists(), "the pickle would not have done anything"


@pytest.mark.parametrize(
    "content",
    [
        Calls(eval, "1"),
        Calls(getattr, np.ndarray, "tofile"),
        Calls(np.load, "x.npy"),
        Calls(np.fromfile, "x"),
        Calls(bytearray, 10**9),
        pd.DataFrame({"a": [1]}),
        pd.Series(["p1"]),
        np.zeros(2, dtype=[("a", int)]),
        np.array([1.5]),
        np.array([b"p1"]),
        datetime.date(2024, 1, 1),
        np.sum,
    ],
    ids=lambda content: type(content).__name__,
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_only_names_are_admitted(tmp_path, content, protocol):
    with pytest.raises(ValueError, match=r"refused to unpickle: it (asks for|holds an array of)"):
        read_partition(put(tmp_path, PARTS | {"train": content}, protocol))


FORGED = {
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    "other home": b"\x80\x03cshutil\nndarray\n.",
    "state of a function": b"\x80\x03cnumpy._core.multiarray\n_reconstruct\nN}X\x08\x00\x00\x00__code__K\x01s\x86b.",
    "state of a class": b"\x80\x03cnumpy\ndtype\nN}X\x04\x00\x00\x00nameX\x01\x00\x00\x00xs\x86b.",
    "array shorter than it says": b"\x80\x03cnumpy\ndtype\nX\x0a\x00\x00\x00U100000000\x85R.",
    "void": b"\x80\x03cnumpy\ndtype\nX\x02\x00\x00\x00V8\x85R.",
    "objects as bytes": b"\x80\x03cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00O8\x85RC\x08AAAAAAAA\x86R.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"\x80\x03X\x01\x00\x00\x00xQ.",
    "deep": b"(" * 200_000 + b".",
    "text": b"no pickle",
    "empty": b"",
    "cut": pickle.dumps(PARTS)[:-3],
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_and_broken_pickles_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"refused to unpickle|are expected"):
        read_partition(put(tmp_path, FORGED[name]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.yaml", "train: [p1, p2]\ntest: [p2]\n", "patient p2 is in train and in test"),
        (
            "p.yaml",
            "train: [p1]\nval: [p2]\ntest: [p2]\n",
            "p2 is in val and in test; to choose by the test patients, leave val",
        ),
        ("p.yaml", "train: [p1, p1]\ntest: [p2]\n", "patient p1 is twice in train"),
        ("p.yaml", "train: [p1]\ntraining: [p1]\ntest: [p2]\n", "patient p1 is twice in train"),
        ("p.yaml", "train: [12]\ntest: ['12']\n", "patient 12 is in train and in test"),
        ("p.yaml", "train: [p1]\ntests: [p2]\n", "'tests' is no part; nearest: test"),
        ("p.yaml", "train: [p1]\n", "has no patients to test"),
        ("p.yaml", "train: []\ntest: [p1]\n", "has no patients to train"),
        ("p.yaml", "train: p1\ntest: [p2]\n", "train is a str; a list of patients is expected"),
        ("p.yaml", "train: [[p1]]\ntest: [p2]\n", r"\['p1'\] is no patient's name"),
        ("p.yaml", "train: ['']\ntest: [p2]\n", "'' is no patient's name"),
        ("p.yaml", "- p1\n", "holds a list; train, val and test"),
        ("p.yaml", "train: [p1\n", "is not valid YAML"),
        ("p.csv", "patient,part\np1,train\np1,test\n", "patient p1 is in train and in test"),
        ("p.csv", "patient,part\np1,train\np2,\n", "'' is no part"),
        ("p.csv", "patient,fold\np1,1\n", "neither the columns patient and part nor"),
        ("p.csv", "train,val,tset\np1,p2,p3\n", "neither the columns patient and part nor"),
        ("p.json", "{}", "no partition that can be read"),
    ],
)
def test_what_is_no_partition_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_partition(tmp_path / name)


@pytest.mark.parametrize("member", [1.5, True, None, b"p1", ("p1",)])
def test_name_is_a_text_or_a_whole_number(tmp_path, member):
    with pytest.raises(ValueError, match="is no patient's name; a text or a whole number"):
        read_partition(put(tmp_path, PARTS | {"train": [member]}))


def test_alias_bomb_is_refused(tmp_path):
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    (tmp_path / "p.yaml").write_text("a0: &a0 [x]\n" + "\n".join(levels) + "\n")
    with pytest.raises(ValueError, match=r"p\.yaml is not valid YAML: line 2 has an alias"):
        read_partition(tmp_path / "p.yaml")


def test_patients_are_compared_with_those_known(tmp_path):
    (tmp_path / "p.yaml").write_text(YAML)
    known = [f"p{number}" for number in range(9)]
    assert rows(tmp_path / "p.yaml", patients=known) == [*ROWS, ("p0", ""), ("p7", ""), ("p8", "")]
    with pytest.raises(ValueError, match="patient p6 of test is not among the 6 patients known"):
        rows(tmp_path / "p.yaml", patients=known[:6])


def test_missing_partition_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"p\.yaml is not there"):
        read_partition(tmp_path / "p.yaml")

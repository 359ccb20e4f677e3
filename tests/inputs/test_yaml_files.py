import pytest

from lib.params import read_yaml


def read(tmp_path, text, **settings):
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    return read_yaml(tmp_path / "p.yaml", **settings)


def test_values_and_texts(tmp_path):
    text = "\ufeffa: 1\nb: [0.5, 1e-3, yes, null]\nc: {d: '012', e: x}\n"
    plain = {"a": 1, "b": [0.5, "1e-3", True, None], "c": {"d": "012", "e": "x"}}
    assert read(tmp_path, text) == plain
    texts = {"a": "1", "b": ["0.5", "1e-3", "yes", "null"], "c": {"d": "012", "e": "x"}}
    assert read(tmp_path, text, texts=True) == texts
    assert read(tmp_path, "# nothing\n") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 1\n", "line 2 has the key 'a' twice"),
        ("a: {b: 1, b: 2}\n", "line 1 has the key 'b' twice"),
        ("a: &x [1]\nb: *x\n", "line 2 has an alias"),
        ("a: 1\n<<: {b: 2}\n", "line 2 merges"),
        ("a: !!python/name:os.system\n", "line 1 has the tag"),
        ("a: !!str 1\n", "line 1 has the tag"),
        ("? [1]\n: 2\n", "line 1 has a key that is no text"),
        ("[" * 3000, "nested too deeply|flow"),
        ("a: [\n", "while parsing"),
        ("a: \0\n", "special characters"),
    ],
)
@pytest.mark.parametrize("texts", [False, True])
def test_refused_in_one_sentence(tmp_path, text, said, texts):
    with pytest.raises(ValueError, match=rf"p\.yaml is not valid YAML: .*({said})") as caught:
        read(tmp_path, text, texts=texts)
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["1:30", "010", "1_000", "0x10_0", "1:30.5"])
def test_numbers_that_are_not_what_they_look_like(tmp_path, number):
    with pytest.raises(ValueError, match="is no plain number"):
        read(tmp_path, f"a: {number}\n")
    assert read(tmp_path, f"a: {number}\n", texts=True) == {"a": number}


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.yaml"):
        read_yaml(tmp_path / "x.yaml")
    with pytest.raises(ValueError, match="larger than 1 MB"):
        read(tmp_path, "#" * (1 << 20) + "\n")

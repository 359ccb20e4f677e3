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


@pytest.mark.parametrize("texts", [False, True])
def test_a_key_twice_and_what_is_no_yaml_are_refused_in_one_sentence(tmp_path, texts):
    for text, said in (("a: 1\na: 1\n", "line 2 has the key 'a' twice"), ("a: [\n", "while parsing")):
        with pytest.raises(ValueError, match=rf"p\.yaml is not valid YAML: .*{said}") as caught:
            read(tmp_path, text, texts=texts)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["1:30", "010", "1_000", "0x10_0", "1:30.5"])
def test_numbers_that_are_not_what_they_look_like(tmp_path, number):
    with pytest.raises(ValueError, match="is no plain number"):
        read(tmp_path, f"a: {number}\n")
    assert read(tmp_path, f"a: {number}\n", texts=True) == {"a": number}

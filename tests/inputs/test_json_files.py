import json

import pytest

from lib.files import positive, read_json


def test_what_was_written_comes_back(tmp_path):
    content = {"a": 1, "é": [1.5, None, {"b": True}]}
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "a.json").write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
        assert read_json(tmp_path / "a.json") == content


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no JSON"), ("[1]", "holds list"), ('{"a": 1, "a": 1}', "'a' stands twice"), ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "Infinity is no number"), ("[" * 100_000, "nested too deep"), ('{"b": {"a": 1, "a": 2}}', "twice"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, text, says):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"a\.json .*{says}"):
        read_json(tmp_path / "a.json")


def test_positive():
    assert positive({"a": 2}, "a", "x.json") == 2.0
    for value in (0, -1, "2", None, True, 1e400, [2]):
        with pytest.raises(ValueError, match=r"x\.json has a .* above 0 is expected"):
            positive({"a": value}, "a", "x.json")
    with pytest.raises(ValueError, match=r"x\.json has no a"):
        positive({}, "a", "x.json")

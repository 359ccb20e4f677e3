import pytest

from lib.inputs.slides import read_overrides, scale_of


def properties(mpp=None, power=None, mpp_y=None):
    found = {"openslide.mpp-x": mpp, "openslide.mpp-y": mpp_y or mpp, "openslide.objective-power": power}
    return {key: str(value) for key, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("found", "override", "expected"),
    [
        (properties(0.2527, 40), None, (0.2527, "mpp")),
        (properties(0.499), None, (0.499, "mpp")),
        (properties(0.25, 20), None, (0.25, "mpp")),  # a 20x objective with a 2x changer
        (properties(None, 20), None, (0.5, "objective")),
        (properties(None, 40), None, (0.25, "objective")),
        (properties(0.50, 20, 0.51), None, (0.505, "mpp")),
        ({"openslide.mpp-y": "0.3"}, None, (0.3, "mpp")),
        (properties(), 0.5, (0.5, "override")),
        (properties(0.0274, 40), 0.274, (0.274, "override")),
    ],
)
def test_scale_comes_from_override_then_mpp_then_objective(found, override, expected):
    assert scale_of(found, "a.svs", override) == (pytest.approx(expected[0]), expected[1])


@pytest.mark.parametrize(
    ("found", "override", "says"),
    [
        (properties(), None, "neither µm per pixel nor objective"),
        (properties(0.0274, 40), None, "contradicts itself: 0.0274"),
        (properties(2.5, 40), None, "contradicts itself"),
        (properties(0.0274), None, "outside 0.1 to 2.4"),
        (properties(2.41), None, "outside 0.1 to 2.4"),
        (properties(None, 1), None, "from its objective"),
        (properties(0.25, 40, 0.5), None, "0.25 x 0.5"),
        (properties("zero"), None, "'zero'"),
        (properties(0.25, -40), None, "objective-power is '-40'"),
        (properties(0.25), 0.025, "override of 0.025"),
        (properties(0.25), float("nan"), "override of nan"),
    ],
)
def test_what_cannot_be_trusted_is_refused_by_name(found, override, says):
    with pytest.raises(ValueError, match=r"^a\.svs") as error:
        scale_of(found, "a.svs", override)
    assert says in str(error.value)


def test_table_of_overrides_is_read(tmp_path):
    path = tmp_path / "scales.csv"
    path.write_text("slide,um_per_px,source\n0012,0.5,label of the slide\nb.svs,0.25,\n")
    assert read_overrides(path) == {"0012": 0.5, "b.svs": 0.25}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slide,mpp\na,0.5\n", "lacks the column um_per_px"),
        ("slide,um_per_px\na,0.5\na,0.25\n", "names a slide twice: row 3"),
        ("slide,um_per_px\na,0.5\nb,forty\n", "no number within 0.1 to 2.4: row 3"),
        ("slide,um_per_px\na,20\n", "no number within 0.1 to 2.4: row 2"),
        ("slide,um_per_px\n,0.5\n", "row without slide: row 2"),
    ],
)
def test_a_wrong_table_of_overrides_is_refused(tmp_path, text, says):
    path = tmp_path / "scales.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_overrides(path)


def test_an_absent_table_of_overrides_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"scales\.csv"):
        read_overrides(tmp_path / "scales.csv")

import pytest

from lib.features.tissue import KNOWN, Preset, read_preset

HEADER, *ROWS = KNOWN.read_text(encoding="utf-8").splitlines()


def preset_file(folder, **changed):
    """A file as CLAM's: no name, one row."""
    names = HEADER.split(",")[1:]
    values = dict(zip(names, ROWS[0].split(",")[1:], strict=True)) | changed
    path = folder / "mine.csv"
    path.write_text(",".join(values) + "\n" + ",".join(map(str, values.values())) + "\n")
    return path


def test_known_presets_have_clams_values():
    assert read_preset("bwh_resection") == Preset(-1, 15, 11, 4, False, 100, 16, 8, True, "four_pt")
    assert read_preset("bwh_biopsy") == Preset(-1, 15, 11, 2, False, 1, 1, 2, True, "four_pt")
    assert read_preset("tcga") == Preset(-1, 8, 7, 4, False, 16, 4, 8, True, "four_pt")


def test_a_file_like_clams_is_read(tmp_path):
    assert read_preset(preset_file(tmp_path)) == read_preset("bwh_resection")
    changed = read_preset(
        preset_file(
            tmp_path, use_otsu="True", use_padding="FALSE", contour_fn="center", exclude_ids="3", a_t=0.5
        )
    )
    assert (changed.use_otsu, changed.use_padding, changed.contour_fn) == (True, False, "center")
    assert (changed.exclude_ids, changed.keep_ids, changed.a_t) == ((3,), (), 0.5)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sthresh": "many"}, "sthresh is 'many'"),
        ({"use_otsu": "perhaps"}, "use_otsu is 'perhaps'"),
        ({"contour_fn": "five_pt"}, "'five_pt' is none of"),
        ({"mthresh": "8"}, "mthresh 8 must be odd"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, changed, says):
    with pytest.raises(ValueError, match=says) as error:
        read_preset(preset_file(tmp_path, **changed))
    assert "mine.csv" in str(error.value)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = preset_file(tmp_path)
    header, row = path.read_text(encoding="utf-8").splitlines()
    path.write_text(f"{header}\n{row}\n{row}\n")
    with pytest.raises(ValueError, match="has 2 rows"):
        read_preset(path)
    path.write_text(header.replace("a_h,", "") + "\n" + row.replace(",16,", ",") + "\n")
    with pytest.raises(ValueError, match="lacks the column a_h"):
        read_preset(path)
    with pytest.raises(FileNotFoundError, match="known are bwh_resection, bwh_biopsy, tcga"):
        read_preset("bwh")

import pytest

from lib.features.feature_files import bag_files


@pytest.fixture
def put(tmp_path):
    def put(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return put


@pytest.mark.parametrize(
    "name",
    [
        "x{}/s.h5",
        "{}x/s.h5",
        "x{}/h5_files/s.h5",
        "x{}/pt_files/s.pt",
        "{}x/s.pt",
        "{}x_256px_0px_overlap/features_uni_v1/s.h5",
    ],
)
def test_places(put, name):
    names = [name.format(scale) for scale in (20, 10, 5)]
    folder = put(*names, name.format(20).replace("s.", "s2."))
    assert [str(path.relative_to(folder)) for path in bag_files(folder, "s").values()] == names


def test_a_pattern_names_the_scale_wherever_it_stands(put):
    folder = put("stamp-20x/s.h5", "stamp-5x/s.h5")
    assert set(bag_files(folder / "stamp-{scale}x", "s", (20, 5))) == {20, 5}


def test_a_slides_name_is_taken_letter_by_letter(put):
    folder = put("x20/s[1].h5", "x20/s1.h5")
    assert bag_files(folder, "s[1]", (20,))[20].name == "s[1].h5"
    with pytest.raises(FileNotFoundError, match="slide t has no features at 20x, 5x"):
        bag_files(folder, "t", (20, 5))


def test_a_single_scale_may_lie_in_the_folder_itself_several_may_not(put):
    folder = put("s.h5")
    assert bag_files(folder, "s", [20])[20] == folder / "s.h5"
    with pytest.raises(FileNotFoundError, match="at 20x, 10x"):
        bag_files(folder, "s", iter([20, 10]))

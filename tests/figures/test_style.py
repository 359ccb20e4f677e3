import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib.figures import style
from lib.files import sha256_of


def drawn(slope=1.0):
    with mpl.rc_context(style.RC):
        fig, ax = plt.subplots(figsize=(2, 2))
        ax.plot([0, 1], [0, slope], label="model")
        ax.imshow(np.eye(3))
        ax.legend()
    return fig


def test_equal_figures_give_equal_bytes(tmp_path):
    first = style.save(drawn(), tmp_path / "one" / "roc.her2st")
    second = style.save(drawn(), tmp_path / "two" / "roc.her2st.svg")
    assert [path.name for path in first] == ["roc.her2st.svg", "roc.her2st.png"]
    assert [path.name for path in second] == ["roc.her2st.svg", "roc.her2st.png"]
    assert [sha256_of(path) for path in first] == [sha256_of(path) for path in second]
    other = style.save(drawn(slope=2), tmp_path / "three")
    assert sha256_of(other[0]) != sha256_of(first[0])
    assert sha256_of(other[1]) != sha256_of(first[1])
    plt.close("all")


def test_files_tell_no_date_and_leave_no_part(tmp_path):
    svg, _ = style.save(drawn(), tmp_path / "roc")
    assert "<dc:date>" not in svg.read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["roc.png", "roc.svg"]
    plt.close("all")


def test_cancer_and_other_differ_in_lightness_and_hue():
    # a reader who sees no red or green still sees another lightness, and blue against the rest
    def lightness(colour):
        return np.dot(mpl.colors.to_rgb(colour), [0.299, 0.587, 0.114])

    cancer, other = mpl.colors.to_rgb(style.CANCER), mpl.colors.to_rgb(style.OTHER)
    assert abs(lightness(style.CANCER) - lightness(style.OTHER)) > 0.05
    assert abs(cancer[2] - other[2]) > 0.5


def test_no_text_is_seen_smaller_than_nine_pixels_in_the_column(tmp_path):
    for inches in (5, 16):
        figure, ax = plt.subplots(figsize=(inches, 2))
        small, large = ax.text(0, 0, "small", size=5), ax.set_title("large", size=30)
        ax.set_xticks([0, 1], ["tick", "other"])
        style.save(figure, tmp_path / "figure")
        shown = min(1, style.COLUMN_PX / (96 * inches)) * 96 / 72
        assert small.get_size() * shown == pytest.approx(9)
        assert min(tick.get_size() for tick in ax.get_xticklabels()) * shown >= 9 - 1e-9
        assert large.get_size() == 30
        plt.close(figure)

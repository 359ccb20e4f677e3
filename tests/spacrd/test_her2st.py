"""HER2ST: against a slow reading of the same files, a naive transfer of labels, and the real cohort's table."""

import gzip
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.spacrd.her2st import patient_of, read_section
from lib.spacrd.pictures import open_picture
from lib.spacrd.spots import CANCER

COUNTS, SPOTS = "data/ST-cnts/A1.tsv.gz", "data/ST-spotfiles/A1_selection.tsv"
LABELS = "data/ST-pat/lbl/A1_labeled_coordinates.tsv"
CLUSTERS = "res/ST-cluster/lbl/{}-cluster-annotation.tsv.gz"


def spoil(path, change):
    """Read a table, change it, write it back."""
    table = pd.read_csv(path, sep="\t", index_col=0 if path.name.endswith("gz") else None)
    changed = change(table)
    (table if changed is None else changed).to_csv(path, sep="\t", index=path.name.endswith("gz"))


def same(a, b):
    assert a.obs_names.equals(b.obs_names)
    assert (a.X != b.X).nnz == 0
    pd.testing.assert_frame_equal(a.obs, b.obs)
    np.testing.assert_array_equal(a.obsm["spatial"], b.obsm["spatial"])


def test_against_a_slow_reading_of_the_same_files(st_tree):
    """Line by line, spot by spot, as the files' README tells it."""
    section = read_section(st_tree, "A1")
    lines = gzip.decompress((st_tree / COUNTS).read_bytes()).decode().splitlines()
    assert section.var_names.tolist() == lines[0].split("\t")[1:]
    spots = [line.split("\t") for line in (st_tree / SPOTS).read_text(encoding="utf-8").splitlines()]
    labels = [line.split("\t") for line in (st_tree / LABELS).read_text(encoding="utf-8").splitlines()]
    assert section.n_obs == len(lines) - 1
    for i, line in enumerate(lines[1:]):
        name, *counts = line.split("\t")
        assert section.obs_names[i] == name
        np.testing.assert_array_equal(section.X[i].toarray()[0], np.array(counts, dtype=float))
        place = next(spot for spot in spots[1:] if f"{spot[0]}x{spot[1]}" == name)
        np.testing.assert_array_equal(section.obsm["spatial"][i], [float(place[4]), float(place[5])])
        placed = (label for label in labels[1:] if label[1])
        kind = next(row[5] for row in placed if f"{float(row[1]):.0f}x{float(row[2]):.0f}" == name)
        assert section.obs["tissue"].iloc[i] == kind
        assert section.obs["label_source"].iloc[i] == "pathologist"


def test_what_means_nothing_changes_nothing(st, st_tree):
    """Pixels of the label files, the order of rows, how floats are rounded, line ends, byte-order marks and capitals."""
    section = read_section(st_tree, "A1")
    dropped = "spots without counts: 2x2; 1 rows of the label file without x and y"
    assert section.uns["section"]["dropped"] == dropped

    def changed(table):
        table[["x", "y"]] = table[["x", "y"]].round() - 0.4
        return table.assign(pixel_x=-1.0, pixel_y=np.nan).sample(frac=1, random_state=1)

    spoil(st / LABELS, changed)
    spoil(st / SPOTS, lambda table: table.sample(frac=1, random_state=2))
    lines = (st / LABELS).read_text(encoding="utf-8").replace("invasive cancer", " Invasive  CANCER ")
    (st / LABELS).write_bytes(b"\xef\xbb\xbf" + lines.replace("\n", "\r\n").encode())
    same(read_section(st, "A1"), section)


def test_a_spot_the_pathologist_left_out_has_no_label(st):
    gone = read_section(st, "A1").obs_names[3]
    x, y = map(float, gone.split("x"))
    spoil(st / LABELS, lambda t: t[(t["x"].round() != x) | (t["y"].round() != y)])
    row = read_section(st, "A1").obs.loc[gone]
    assert np.isnan(row["label"])
    assert (row["tissue"], row["label_source"]) == ("", "none")


def renamed(table, number):
    table.index = [f"9{name}" if i < number else name for i, name in enumerate(table.index)]


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        (COUNTS, lambda t: renamed(t, 7), r"7 of \d+ spots have no position \(9"),
        (COUNTS, lambda t: t.iloc[5:], r"6 of \d+ positions are of no spot"),
        (COUNTS, lambda t: t.astype(float).mask(t == t.iloc[2, 3]), "NaN.*raw counts"),
        (COUNTS, lambda t: np.log1p(t), "not whole"),
        (COUNTS, lambda t: t.assign(KRT8="many"), "not numbers, in gene KRT8"),
        (COUNTS, lambda t: t.rename(columns={"KRT8": "KRT18"}), r"genes named twice: \['KRT18'\]"),
        (COUNTS, lambda t: pd.concat([t, t.iloc[:1]]), "spots named twice"),
        (SPOTS, lambda t: t.drop(columns="pixel_x"), r"A1_selection.tsv lacks the columns \['pixel_x'\]"),
        (SPOTS, lambda t: t.assign(pixel_x=t["pixel_x"] * 4), " spots lie outside .*A1_HE.jpg"),
        (SPOTS, lambda t: t.assign(pixel_x="left"), "pixel_x of .* 'left', no number"),
        (LABELS, lambda t: pd.concat([t, t.iloc[:1]]), "twice"),
        (LABELS, lambda t: t.assign(label="invasive cancr"), "invasive cancr"),
        (LABELS, lambda t: t.assign(label=["yes", *t["label"][1:]]), "yes"),
        (LABELS, lambda t: t.assign(x=t["x"] + 60), r"\d+ of \d+ spots have no position"),
    ],
)  # fmt: skip
def test_bad_files_are_refused(st, path, change, says):
    spoil(st / path, change)
    with pytest.raises(ValueError, match=says):
        read_section(st, "A1")


def test_missing_files_names_and_two_pictures(st):
    assert (patient_of("A1"), patient_of("G12"), patient_of("VA1")) == ("A", "G", "VA")
    with pytest.raises(ValueError, match="'1A'"):
        patient_of("1A")
    folder = st / "data" / "ST-imgs" / "A" / "A1"
    shutil.copy(folder / "A1_HE.jpg", folder / "annotated.jpg")
    with pytest.raises(ValueError, match=r"which is the H&E picture, A1_HE.jpg or annotated.jpg"):
        read_section(st, "A1")
    (st / SPOTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"A1_selection.tsv"):
        read_section(st, "A1")


def turned(xy, angle=0.2, shift=(30.0, -12.0)):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return xy @ turn.T + shift


@pytest.fixture
def pair(st):
    """A1 labelled; A2 the same spots, turned, without labels; some spots of A2 without a warped position."""
    (st / "data" / "ST-imgs" / "A" / "A1" / "A1_HE.jpg").unlink()
    shutil.copy(st / COUNTS, st / "data/ST-cnts/A2.tsv.gz")
    spots = pd.read_csv(st / SPOTS, sep="\t")
    (st / "res/ST-cluster/lbl").mkdir(parents=True)
    own = spots.copy()
    own[["warped_x", "warped_y"]] = spots[["pixel_x", "pixel_y"]]
    own.to_csv(st / CLUSTERS.format("A1"), sep="\t")
    spots[["pixel_x", "pixel_y"]] = turned(spots[["pixel_x", "pixel_y"]].to_numpy())
    spots.to_csv(st / "data/ST-spotfiles/A2_selection.tsv", sep="\t", index=False)
    own = own.drop(index=own.index[[4, 9, 20]])
    # the second section lies a little off: most spots have a neighbour in reach, the first column none
    own["warped_x"] -= np.where(own["x"] == own["x"].min(), 70.0, 25.0)
    own.to_csv(st / CLUSTERS.format("A2"), sep="\t")
    return st


def test_labels_are_transferred_like_a_naive_search(pair):
    section, source = read_section(pair, "A2"), read_section(pair, "A1")
    known, here = (pd.read_csv(pair / CLUSTERS.format(name), sep="\t", index_col=0) for name in ("A1", "A2"))
    known.index, here.index = ([f"{x}x{y}" for x, y in t[["x", "y"]].to_numpy()] for t in (known, here))
    known, here = (t[["warped_x", "warped_y"]].astype(float) for t in (known, here))
    reach = 0.75 * source.uns["section"]["pitch_px"]
    for spot in section.obs_names:
        kind = "undetermined"
        if spot in here.index:
            distance = {other: np.hypot(*(known.loc[other] - here.loc[spot])) for other in source.obs_names}
            nearest = min(distance, key=distance.get)
            if distance[nearest] < reach:
                kind = source.obs.loc[nearest, "tissue"]
        assert section.obs.loc[spot, "tissue"] == kind
    assert set(section.obs["label_source"]) == {"transferred", "none"}
    assert section.obs.loc[section.obs["label_source"] == "none", "label"].isna().all()
    assert (section.obs["label_source"] == "none").sum() >= 3
    assert section.obs["label"].notna().sum() > section.n_obs / 2


def test_one_labelled_section_a_patient_or_none(pair):
    shutil.copy(pair / LABELS, pair / "data/ST-pat/lbl/A3_labeled_coordinates.tsv")
    with pytest.raises(ValueError, match=r"which is the label file to transfer from, A1_.* or A3_"):
        read_section(pair, "A2")
    for path in (pair / LABELS).parent.glob("A*"):
        path.unlink()
    section = read_section(pair, "A2")
    assert section.obs["label"].isna().all()
    assert set(section.obs["label_source"]) == {"none"}


def test_a_dark_picture_is_in_warped_coordinates(pair, monkeypatch):
    monkeypatch.setattr("lib.spacrd.her2st.DARK_FRAMES", {"A2": (4000, 6000)})
    dark = pair / "app" / "www" / "imgs" / "A2_HE_image_dark.png"
    dark.parent.mkdir(parents=True)
    Image.new("RGB", (2000, 2400), "pink").save(dark)
    spots = pd.read_csv(pair / "data/ST-spotfiles/A2_selection.tsv", sep="\t")
    warped = pd.read_csv(pair / CLUSTERS.format("A2"), sep="\t", index_col=0)
    places = spots.loc[warped.index, ["pixel_x", "pixel_y"]].to_numpy()
    warped[["warped_x", "warped_y"]] = turned(places, -0.1, (500.0, 400.0))
    warped.to_csv(pair / CLUSTERS.format("A2"), sep="\t")
    section = read_section(pair, "A2")
    spots.index = [f"{x}x{y}" for x, y in spots[["x", "y"]].to_numpy()]
    expected = turned(spots.loc[section.obs_names, ["pixel_x", "pixel_y"]].to_numpy(), -0.1, (500.0, 400.0))
    np.testing.assert_allclose(section.obsm["spatial"], expected, atol=1e-6)
    assert section.uns["section"]["picture_scale"] == pytest.approx([0.5, 0.4])
    assert section.uns["section"]["dropped"].count("x") >= 4, "the filled spots are named"
    assert "filled in" in section.uns["section"]["dropped"]


def test_a_dark_picture_of_unknown_size_is_refused(pair):
    dark = pair / "app" / "www" / "imgs" / "B1_HE_image_dark.png"
    dark.parent.mkdir(parents=True)
    Image.new("RGB", (2000, 100)).save(dark)
    shutil.rmtree(pair / "data" / "ST-imgs" / "B")
    with pytest.raises(ValueError, match=r"the full size of .* is not known"):
        read_section(pair, "B1")


# The table of section 4 of the study's specification, measured there on commit 85df7411b987 of almaan/her2st:
# spots, genes, median counts a spot, share invasive, share in situ, undetermined.
LABELLED = {
    "A1": (346, 15045, 4291, 0.815, 0.061, 5),
    "B1": (295, 15109, 1367, 0.214, 0.0, 26),
    "C1": (176, 15557, 7675, 0.722, 0.0, 9),
    "D1": (306, 15661, 6797, 0.454, 0.0, 51),
    "E1": (587, 15701, 1962, 0.579, 0.0, 53),
    "F1": (691, 14861, 3391, 0.835, 0.0, 32),
    "G2": (467, 15258, 1827, 0.300, 0.043, 65),
    "H1": (613, 15029, 1299, 0.147, 0.158, 83),
}
# spots, undetermined in all, of these without a labelled neighbour in reach or without a warped position, cancer
TRANSFERRED = {
    "A2": (325, 15, 11, 282),
    "B4": (283, 108, 90, 51),
    "C2": (187, 22, 14, 131),
    "C3": (180, 22, 13, 123),
    "C4": (184, 17, 9, 126),
    "C5": (181, 21, 11, 120),
    "C6": (178, 25, 16, 117),
}


@pytest.fixture(scope="module")
def real(mirrored):
    folder = mirrored("her2st")
    return folder, {name: read_section(folder, name) for name in (*LABELLED, *TRANSFERRED)}


@pytest.mark.real
def test_real_labelled_sections(real):
    _, sections = real
    for name, (spots, genes, median, invasive, in_situ, undetermined) in LABELLED.items():
        section = sections[name]
        kinds = section.obs["tissue"]
        total = np.asarray(section.X.sum(axis=1)).ravel()
        assert section.shape == (spots, genes)
        assert np.median(total) == pytest.approx(median, abs=0.5)
        assert (kinds == "invasive cancer").mean() == pytest.approx(invasive, abs=5e-4)
        assert (kinds == "cancer in situ").mean() == pytest.approx(in_situ, abs=5e-4)
        assert (kinds == "undetermined").sum() == undetermined == section.obs["label"].isna().sum()
        assert (section.obs["label"] == 1).sum() == kinds.isin(CANCER).sum()
        assert set(section.obs["label_source"]) == {"pathologist"}
        assert section.obs_names.is_monotonic_increasing
    assert sum(sections[name].n_obs for name in LABELLED) == 3481
    assert len(set.intersection(*(set(sections[name].var_names) for name in LABELLED))) == 12689
    assert "1 rows" in sections["F1"].uns["section"]["dropped"]
    assert "8 rows" in sections["G2"].uns["section"]["dropped"]


@pytest.mark.real
def test_real_transferred_sections(real):
    folder, sections = real
    for name, (spots, undetermined, alone, cancer) in TRANSFERRED.items():
        obs = sections[name].obs
        assert len(obs) == spots
        assert (obs["tissue"] == "undetermined").sum() == undetermined == obs["label"].isna().sum()
        assert (obs["label_source"] == "none").sum() == alone
        assert (obs["label"] == 1).sum() == cancer
    placed = pd.read_csv(folder / CLUSTERS.format("B4"), sep="\t")[["x", "y"]]
    placed = placed.astype(str).agg("x".join, axis=1)
    assert (~sections["B4"].obs_names.isin(placed)).sum() == 61


@pytest.mark.real
def test_real_pitches_pictures_and_left_out_spots(real):
    _, sections = real
    about = {name: section.uns["section"] for name, section in sections.items()}
    for name, pitch in {"A1": 202, "B1": 270, "B4": 273, "C1": 269, "E1": 279, "H1": 280}.items():
        assert about[name]["pitch_px"] == pytest.approx(pitch, abs=1)
        assert about[name]["um_per_px"] == pytest.approx(200 / pitch, rel=0.01)
    assert about["A1"]["pitch_px"] * about["A1"]["picture_scale"][0] == pytest.approx(58, abs=0.5)
    assert about["A1"]["picture_scale"] == pytest.approx([2000 / 6954, 2138 / 7435])
    assert about["A2"]["picture_scale"] == pytest.approx([2000 / 6966, 2136 / 7441])
    assert about["B4"]["picture"] == "data/ST-imgs/B/B4/BT10737_D2_HE.jpg"
    assert {name for name in about if about[name]["picture"]} == {"A1", *TRANSFERRED}
    assert about["C4"]["dropped"] == "spots without counts: 11x17, 17x14, 18x20"
    assert "11x17, 18x20" in about["A2"]["dropped"]
    # the two spots of A2 that the file has no warped position for lie where their row and column say
    a2 = sections["A2"]
    grid = np.array([name.split("x") for name in a2.obs_names], int)
    for spot in ("11x17", "18x20"):
        near = np.abs(grid - np.array(spot.split("x"), int)).sum(axis=1) == 1
        pitch = about["A2"]["pitch_px"]
        steps = a2.obsm["spatial"][near] - a2.obsm["spatial"][a2.obs_names.get_loc(spot)]
        np.testing.assert_allclose(np.hypot(*steps.T) / pitch, 1, atol=0.25)


@pytest.mark.real
def test_real_spots_lie_on_tissue(real):
    """A flipped axis or A2's unwarped pixels would put many spots on the empty slide."""
    folder, sections = real
    for name in ("A1", "A2"):
        section = sections[name]
        picture = open_picture(folder / section.uns["section"]["picture"])
        scale = section.uns["section"]["picture_scale"]

        def on_tissue(xy, picture=picture, scale=scale):
            x, y = np.clip((xy * scale).round().astype(int), 0, np.array(picture.shape[1::-1]) - 1).T
            return (picture[y, x] < 255).any(axis=1).mean()

        xy = section.obsm["spatial"]
        assert on_tissue(xy) == 1.0
        flipped = np.column_stack([xy[:, 0], picture.shape[0] / scale[1] - xy[:, 1]])
        assert on_tissue(flipped) < 0.95
    spots = pd.read_csv(folder / "data/ST-spotfiles/A2_selection.tsv", sep="\t")
    assert on_tissue(spots[["pixel_x", "pixel_y"]].to_numpy()) == pytest.approx(0.817, abs=0.02)

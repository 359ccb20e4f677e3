import numpy as np
import pytest
from scipy.ndimage import label

from lib.features.radiomics import extract
from lib.gcmlm.ct import read_ct
from lib.gcmlm.phantom_ct import LABELS, ORIENTATIONS, abdomen, write_ct
from lib.inputs.masks import read_label
from lib.inputs.volumes import Volume

PATIENTS = 12


def test_mask_and_image_agree_whatever_way_the_mask_is_stored(tmp_path):
    for orientation in ORIENTATIONS:
        image, mask = tmp_path / "image.nii.gz", tmp_path / f"{orientation}.nii.gz"
        made = write_ct(image, mask, 0.5, 4, "A", orientation)
        volume = read_ct(image)
        np.testing.assert_array_equal(volume.values, made.values)
        for number in LABELS.values():
            # read_label refuses another grid
            np.testing.assert_array_equal(read_label(mask, volume.geometry, number), made.labels == number)
    # an overlay by index would be wrong: the file's voxels do lie otherwise
    assert len({path.read_bytes() for path in tmp_path.glob("???.nii.gz")}) == len(ORIENTATIONS)


def test_dicom_series_is_the_same_scan(tmp_path):
    write_ct(tmp_path / "i.nii.gz", tmp_path / "m.nii.gz", 1, 2, "B")
    made = write_ct(tmp_path / "series", tmp_path / "m.nii.gz", 1, 2, "B", patient="GC-0001")
    volume, other = read_ct(tmp_path / "series"), read_ct(tmp_path / "i.nii.gz")
    np.testing.assert_array_equal(volume.values, other.values)
    np.testing.assert_array_equal(
        read_label(tmp_path / "m.nii.gz", volume.geometry, 1), made.labels == LABELS["tumour"]
    )


def test_organs_have_their_hounsfield_units_and_the_tumour_its_size():
    for seed in range(8):
        made = abdomen(0, seed, "AB"[seed % 2])
        offset = 5 * (seed % 2)
        liver = made.values[made.labels == LABELS["liver"]]
        assert abs(np.median(liver) - offset - 105) < 10
        assert made.values.min() < -900
        tumour = made.labels == LABELS["tumour"]
        assert label(tumour)[1] == 1
        assert 4 < tumour.sum() * made.geometry.voxel_ml < 18
        assert 60 < made.values[tumour].mean() - offset < 105
        extent_mm = [
            np.ptp(axis) * step
            for axis, step in zip(np.nonzero(tumour), made.geometry.spacing_mm[::-1], strict=True)
        ]
        assert all(15 < extent < 36 for extent in extent_mm)
        # in the wall: it touches the stomach
        near = np.pad(tumour, 1)
        near = near[2:, 1:-1, 1:-1] | near[1:-1, 2:, 1:-1] | near[1:-1, 1:-1, 2:]
        assert (near & (made.labels == LABELS["stomach"])).any()


def test_one_seed_and_two_signals_differ_in_the_tumour_alone():
    small, large = abdomen(-1, 6), abdomen(2, 6)
    far = np.abs(small.values.astype(int) - large.values) > 0
    places = np.argwhere((small.labels == 1) | (large.labels == 1))
    reach = np.ceil(3 + 8 / np.array(small.geometry.spacing_mm[::-1]))
    low, high = places.min(0) - reach, places.max(0) + reach
    assert far.any()
    assert ((np.argwhere(far) >= low) & (np.argwhere(far) <= high)).all()
    spread = [each.values[each.labels == 1].std() for each in (small, large)]
    assert spread[1] > 2 * spread[0]


@pytest.mark.parametrize("hospital", ["A", "B"])
def test_texture_shows_the_signal(hospital):
    signals = np.random.default_rng(3).normal(size=PATIENTS)
    rows = []
    for seed, signal in enumerate(signals):
        made = abdomen(signal, [8, seed], hospital)
        volume = Volume(made.values.astype(np.float32), made.geometry)
        rows.append(extract(volume, made.labels == LABELS["tumour"]))
    for name in (
        "firstorder_Entropy",
        "firstorder_MeanAbsoluteDeviation",
        "glcm_JointEntropy",
        "glcm_SumEntropy",
    ):
        found = [row[f"original_{name}"] for row in rows]
        assert np.corrcoef(found, signals)[0, 1] > 0.85, name
    means = [row["original_firstorder_Mean"] for row in rows]
    assert abs(np.corrcoef(means, signals)[0, 1]) < 0.7  # 12 patients: noise alone reaches 0.58 in one of 20


def test_hospital_b_has_thick_slices_and_more_noise():
    a, b = abdomen(0, 1, "A"), abdomen(0, 1, "B")
    assert b.geometry.spacing_mm[2] == 5
    noise = [each.values[:, :6, :6].std() for each in (a, b)]  # a corner, in air
    assert noise[1] > 1.2 * noise[0]


def test_extremes_are_held_and_nonsense_refused():
    np.testing.assert_array_equal(abdomen(2.5, 1).values, abdomen(9, 1).values)
    with pytest.raises(ValueError, match="must be one of A, B"):
        abdomen(0, 1, "C")
    with pytest.raises(ValueError, match="finite"):
        abdomen(np.nan, 1)

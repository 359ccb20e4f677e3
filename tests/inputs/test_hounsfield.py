"""What is no HU is refused, parts of a scan are not, and what may be either is remarked."""

import numpy as np
import pytest

from lib.inputs.hounsfield import check_hounsfield


def body(seed: int = 0) -> np.ndarray:
    """Slices through a patient, say: air, fat, organs, a little bone, noise as a scanner has it."""
    random = np.random.default_rng(seed)
    values = np.full((8, 18, 20), -1000.0)
    values[:, 2:-2, 2:-2] = -100
    values[:, 4:-4, 4:-4] = 50
    values[:, 12:14, 8:12] = 700
    return np.maximum(np.rint(values + random.normal(0, 15, values.shape)), -1024).astype(np.float32)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda v: v + 1024, "around 1024, soft tissue without the rescale intercept; convert it again"),
        (lambda v: np.clip(v + 1024, 0, 4095), "subtract 1024"),
        (lambda v: np.where(v < -900, -2000, v + 1024), "rescale intercept; convert"),
        (lambda v: v + 2048, "hardly any of them is tissue's"),
        (lambda v: v - 1024, "is the rescale intercept applied twice"),
        (lambda v: np.clip((v + 160) / 400, 0, 1), "as if scaled or standardised"),
        (lambda v: (v - v.mean()) / v.std(), "as if scaled or standardised"),
        (lambda v: np.rint(255 * np.clip((v + 160) / 400, 0, 1)), "grey levels of a picture"),
        (
            lambda v: np.clip((v + 160) / 400 * 255, 0, 250).astype(np.uint8),
            "0 to 250, .*a window of grey levels",
        ),
        (lambda v: np.clip(v, -200, 300) + 200, "around 250: a window"),
        (lambda v: v + 200, "most tissue around 250"),
        (lambda v: v.astype(np.int16).view(np.uint16), "signed numbers stored as unsigned"),
        (lambda v: np.where(v > -900, 300 + v, 0), "most tissue around 350"),
        (lambda v: v * 0, "0 to 0, it is blank"),
        (lambda v: v * 0 - 2000, "blank"),
        (lambda v: v * 0 - 1000 + np.random.default_rng(0).normal(0, 15, v.shape), "air alone"),
    ],
    ids=[
        "raw",
        "raw, clipped",
        "raw, padded",
        "raw, by 2048",
        "twice",
        "0..1",
        "standardised",
        "0..255",
        "8 bits, not all used",
        "window, moved",
        "scan, moved",
        "unsigned",
        "MR, air 0",
        "blank",
        "padding",
        "air",
    ],
)
def test_values_that_are_no_hounsfield_units(spoil, said):
    with pytest.raises(ValueError, match=f"scan.nii.gz.*{said}") as caught:
        check_hounsfield(spoil(body()).astype(np.float32), "scan.nii.gz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        body(),
        body()[:, 5:11, 5:11],
        np.abs(body()[:, 5:11, 5:11]),
        body()[:, 4:-4, 4:-4],
        np.random.default_rng(0).normal(60, 15, (4, 8, 8)),
        np.random.default_rng(0).normal(np.where(np.arange(8) > 4, 1200, 350), 150, (4, 8, 8)),
        np.where(body() < -900, -3024, body()),
        np.random.default_rng(0).normal(-850, 40, (8, 10, 10))
        + 850 * (np.arange(1000).reshape(10, 10, 10)[:8] % 20 == 0),
    ],
    ids=[
        "body",
        "organ",
        "organ, nothing below 0",
        "with bone",
        "parenchyma",
        "dense bone",
        "padded",
        "lung",
    ],
)
def test_parts_of_a_scan_are_legal(values):
    check_hounsfield(values.astype(np.float32), "crop")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.clip(body(), -160, 240), "-160 HU: masked or cut"),
        (np.where(body() > 0, body(), 0), "lowest value, 0 HU: masked"),
        (np.abs(body()[:, 5:11, 5:11]), "no air and no fat"),
        (np.random.default_rng(0).normal(350, 50, (4, 8, 8)), "no air and no fat"),
    ],
    ids=["window in its place", "masked to 0", "organ, nothing below 0", "bone"],
)
def test_what_may_be_hu_or_not_is_remarked(values, said):
    assert said in check_hounsfield(values, "scan")
    assert (
        check_hounsfield(body(), "scan", modality="CT", units="HU", image_type="ORIGINAL", whole=True) == ""
    )


@pytest.mark.parametrize(
    "header",
    [
        {"modality": "MR"},
        {"modality": "PT"},
        {"units": "MGML"},
        {"units": "Z_EFF"},
        {"image_type": "['DERIVED', 'PRIMARY', 'AXIAL', 'IODINE']"},
        {"image_type": "DERIVED\\PRIMARY\\AXIAL\\ELECTRON_DENSITY"},
    ],
)
def test_a_header_that_says_what_it_is_is_believed(header):
    with pytest.raises(ValueError, match="scan is not in HU: its header"):
        check_hounsfield(body(), "scan", **header)


def test_a_whole_scan_has_air_or_fat():
    iodine = np.clip(body(), 0, 200) // 4
    with pytest.raises(ValueError, match="without air or fat"):
        check_hounsfield(iodine, "scan", whole=True)

"""What is no HU is refused, parts of a scan are not, and what may be either is remarked."""

import numpy as np
import pytest

from lib.inputs.volumes import check_hounsfield


def body(seed: int = 0) -> np.ndarray:
    """Slices through a patient, say: air, fat, organs, a little bone, noise as a scanner has it."""
    random = np.random.default_rng(seed)
    values = np.full((8, 18, 20), -1000.0)
    values[:, 2:-2, 2:-2] = -100
    values[:, 4:-4, 4:-4] = 50
    values[:, 12:14, 8:12] = 700
    return np.maximum(np.rint(values + random.normal(0, 15, values.shape)), -1024).astype(np.float32)


NO_HU = {
    "raw": (lambda v: v + 1024, "around 1024, soft tissue without the rescale intercept; convert it again"),
    "raw, clipped": (lambda v: np.clip(v + 1024, 0, 4095), "subtract 1024"),
    "raw, padded": (lambda v: np.where(v < -900, -2000, v + 1024), "rescale intercept; convert"),
    "raw, by 2048": (lambda v: v + 2048, "hardly any of them is tissue's"),
    "twice": (lambda v: v - 1024, "is the rescale intercept applied twice"),
    "0..1": (lambda v: np.clip((v + 160) / 400, 0, 1), "as if scaled or standardised"),
    "standardised": (lambda v: (v - v.mean()) / v.std(), "as if scaled or standardised"),
    "0..255": (lambda v: np.rint(255 * np.clip((v + 160) / 400, 0, 1)), "grey levels of a picture"),
    "8 bits": (
        lambda v: np.clip((v + 160) / 1.6, 0, 250).astype(np.uint8),
        "0 to 250, .*window of grey levels",
    ),
    "window, moved": (lambda v: np.clip(v, -200, 300) + 200, "around 250: a window"),
    "scan, moved": (lambda v: v + 200, "most tissue around 250"),
    "unsigned": (lambda v: v.astype(np.int16).view(np.uint16), "signed numbers stored as unsigned"),
    "MR, air 0": (lambda v: np.where(v > -900, 300 + v, 0), "most tissue around 350"),
    "blank": (lambda v: v * 0, "0 to 0, it is blank"),
    "padding": (lambda v: v * 0 - 2000, "blank"),
    "air": (lambda v: v * 0 - 1000 + np.random.default_rng(0).normal(0, 15, v.shape), "air alone"),
}


@pytest.mark.parametrize(("spoil", "said"), NO_HU.values(), ids=NO_HU)
def test_values_that_are_no_hounsfield_units(spoil, said):
    with pytest.raises(ValueError, match=f"scan.nii.gz.*{said}") as caught:
        check_hounsfield(spoil(body()).astype(np.float32), "scan.nii.gz")
    assert "\n" not in str(caught.value)


def drawn(middle, spread, size=(4, 8, 8)):
    return np.random.default_rng(0).normal(middle, spread, size)


LUNG = drawn(-850, 40, (8, 10, 10)) + 850 * (np.arange(1000).reshape(10, 10, 10)[:8] % 20 == 0)
PARTS = {
    "body": body(),
    "organ": body()[:, 5:11, 5:11],
    "organ, nothing below 0": np.abs(body()[:, 5:11, 5:11]),
    "with bone": body()[:, 4:-4, 4:-4],
    "parenchyma": drawn(60, 15),
    "dense bone": drawn(np.where(np.arange(8) > 4, 1200, 350), 150),
    "padded": np.where(body() < -900, -3024, body()),
    "lung": LUNG,
}


@pytest.mark.parametrize("values", PARTS.values(), ids=PARTS)
def test_parts_of_a_scan_are_legal(values):
    check_hounsfield(values.astype(np.float32), "crop")


ODD = {
    "window in its place": (np.clip(body(), -160, 240), "-160 HU: masked or cut"),
    "masked to 0": (np.where(body() > 0, body(), 0), "lowest value, 0 HU: masked"),
    "organ, nothing below 0": (np.abs(body()[:, 5:11, 5:11]), "no air and no fat"),
    "bone": (drawn(350, 50), "no air and no fat"),
}


@pytest.mark.parametrize(("values", "said"), ODD.values(), ids=ODD)
def test_what_may_be_hu_or_not_is_remarked(values, said):
    assert said in check_hounsfield(values, "scan")
    sound = {"modality": "CT", "units": "HU", "image_type": "ORIGINAL"}
    assert check_hounsfield(body(), "scan", **sound, whole=True) == ""


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

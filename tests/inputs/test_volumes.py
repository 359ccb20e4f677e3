"""Volumes and masks: every voxel at its place in the patient, whatever the file looks like."""

import gzip
import itertools
import re

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from lib.inputs import volumes
from lib.inputs.masks import read_label
from lib.inputs.volumes import Geometry, Volume, image_of, read_volume, same_grid, write_volume

SIZE = (5, 4, 3)
CODES = [
    "".join(code) for axes in itertools.permutations(["RL", "AP", "SI"]) for code in itertools.product(*axes)
]
LPS = Geometry((1.0, 1.5, 4.0), (-10.0, 20.0, 5.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), SIZE)


def read_mask(path, like):
    return read_label(path, like, None)


def affine_of(code: str, spacing=(0.9, 1.3, 4.0), origin=(-40.0, 25.0, 7.0)) -> np.ndarray:
    """A NIfTI affine whose axes grow to the three letters of nibabel's code."""
    affine = np.zeros((4, 4))
    for axis, letter in enumerate(code):
        world = next(k for k, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[world, axis] = spacing[axis] * (1 if letter in "RAS" else -1)
    affine[:, 3] = (*origin, 1)
    return affine


def save(path, values, affine=None):
    image = nibabel.Nifti1Image(values, affine_of("LPS") if affine is None else affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def voxels(size=SIZE) -> np.ndarray:
    """A volume as nibabel has it, (x, y, z)."""
    return np.random.default_rng(0).normal(40, 20, size).astype(np.float32)


def assert_at_their_places(stored, affine, read, geometry):
    """Each stored voxel is found where its affine puts it; nibabel's world is RAS, ours LPS."""
    places = nibabel.affines.apply_affine(affine, list(np.ndindex(stored.shape))) * (-1, -1, 1)
    cosines = np.reshape(geometry.direction, (3, 3))
    found = (places - geometry.origin_mm) @ cosines / geometry.spacing_mm
    x, y, z = indices = np.rint(found).astype(int).T
    np.testing.assert_allclose(found.T, indices, atol=1e-4)
    assert indices.min() == 0
    assert (read[z, y, x] == stored.ravel()).all()


@pytest.mark.parametrize("code", CODES)
def test_voxels_come_back_at_their_place_in_any_orientation(code, tmp_path):
    assert len(set(CODES)) == 48
    stored, affine = voxels(), affine_of(code)
    assert "".join(nibabel.aff2axcodes(affine)) == code
    volume = read_volume(save(tmp_path / "ct.nii.gz", stored, affine))
    assert (volume.geometry.orientation, volume.stored_as) == ("LPS", code)
    assert volume.values.dtype == np.float32
    assert volume.values.shape == volume.geometry.size[::-1]
    assert_at_their_places(stored, affine, volume.values, volume.geometry)
    mask = save(tmp_path / "mask.nii.gz", (stored > 40).astype(np.uint8), affine)
    assert (read_mask(mask, volume.geometry) == (volume.values > 40)).all()


def test_volume_survives_writing_with_equal_bytes_and_whole_numbers_must_fit(tmp_path):
    volume = Volume(voxels().T.copy(), LPS)
    for name in ("a", "b"):
        write_volume(tmp_path / f"{name}.nii.gz", volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]
    read = read_volume(tmp_path / "a.nii.gz")
    assert (read.values == volume.values).all()
    assert same_grid(read.geometry, LPS)
    write_volume(tmp_path / "a.nii", volume, "int16")
    assert (read_volume(tmp_path / "a.nii").values == np.rint(volume.values)).all()
    for odd in (volume.values * 1e4, volume.values * np.nan):
        with pytest.raises(ValueError, match="do not fit int16"):
            write_volume(tmp_path / "a.nii", Volume(odd, LPS), "int16")
    with pytest.raises(ValueError, match="does not lie on"):
        write_volume(tmp_path / "a.nii", Volume(volume.values[:2], LPS))


def test_a_series_is_no_volume(tmp_path):
    assert read_volume(save(tmp_path / "one.nii", voxels((5, 4, 3, 1)))).values.shape == (3, 4, 5)
    path = save(tmp_path / "ctp.nii.gz", voxels((5, 4, 3, 6)))
    with pytest.raises(ValueError, match="one volume"):
        read_volume(path)


# tilted grids


def tilted(degrees: float) -> np.ndarray:
    """The LPS affine with its gantry tilted about the x axis."""
    turn = np.eye(4)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    return turn @ affine_of("LPS", (1.0, 1.0, 2.0))


def test_oblique_volume_is_refused_kept_or_resampled(tmp_path):
    stored = voxels((8, 9, 7))
    path = save(tmp_path / "ct.nii.gz", stored, tilted(18))
    with pytest.raises(ValueError, match=r"oblique, tilted by 18\.0 degrees"):
        read_volume(path)
    kept = read_volume(path, oblique="keep")
    assert kept.geometry.tilt_deg == pytest.approx(18, abs=1e-3)
    assert_at_their_places(stored, tilted(18), kept.values, kept.geometry)
    mask = save(tmp_path / "mask.nii.gz", (stored > 40).astype(np.uint8), tilted(18))
    assert (read_mask(mask, kept.geometry) == (kept.values > 40)).all()
    straight = read_volume(path, oblique="resample").geometry
    assert read_mask(mask, straight).any()
    within = read_volume(save(tmp_path / "bit.nii.gz", stored, tilted(0.4)))
    assert_at_their_places(stored, tilted(0.4), within.values, within.geometry)


def test_resampled_oblique_volume_has_each_place_its_value(tmp_path):
    """A field that is linear in space is reproduced exactly by linear interpolation, tilted or not."""
    affine, size = tilted(18), (8, 9, 7)
    index = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    places = (index @ affine[:3, :3].T + affine[:3, 3]) * (-1, -1, 1)
    field = np.array([1.0, -2.0, 3.0])
    stored = (places @ field).astype(np.float32)
    read = read_volume(save(tmp_path / "ct.nii", stored, affine), oblique="resample")
    assert read.geometry.tilt_deg == pytest.approx(0, abs=1e-6)
    grid = np.stack(np.meshgrid(*map(np.arange, read.geometry.size), indexing="ij"), -1)
    expected = (read.geometry.points(grid.reshape(-1, 3)) @ field).reshape(read.geometry.size).T
    inside = read.values != -1024
    assert 0.4 < inside.mean() < 1
    # the straight grid reaches as far as the tilted one, and no voxel farther
    reach = np.ptp(places.reshape(-1, 3), axis=0)
    beyond = (np.array(read.geometry.size) - 1) * read.geometry.spacing_mm - reach
    assert ((beyond > -1e-3) & (beyond < read.geometry.spacing_mm)).all()
    # half a voxel beyond the outermost centres the value of the edge is taken
    assert np.median(np.abs(read.values - expected)[inside]) < 1e-2
    assert np.abs(read.values - expected)[inside].max() < 0.5 * (1 + 2 + 2 * 3) + 1e-2


# masks


def test_mask_with_another_header_is_refused_and_both_grids_are_named(tmp_path):
    volume = read_volume(save(tmp_path / "ct.nii", voxels()))
    other = save(tmp_path / "mask.nii.gz", np.ones(SIZE, np.uint8), affine_of("LPS", origin=(-40, 25, 9)))
    with pytest.raises(ValueError, match=r"mask\.nii\.gz.*first at \(40, -25, 9\).*first at \(40, -25, 7\)"):
        read_mask(other, volume.geometry)
    larger = save(tmp_path / "larger.nii.gz", np.ones((6, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"ml in its file.* 6 x 4 x 3 voxels of .* 5 x 4 x 3 voxels of"):
        read_mask(larger, volume.geometry)
    rounded = affine_of("LPS", (0.9001, 1.3001, 4.0001), (-40.01, 25.01, 7.01))
    mask = read_mask(save(tmp_path / "rounded.nii", np.ones(SIZE, np.uint8), rounded), volume.geometry)
    assert mask.all()
    # the same first voxel and number of voxels, but not the same spacing
    assert not same_grid(LPS, LPS._replace(spacing_mm=(1.0, 1.5, 4.2)))
    assert not same_grid(LPS, LPS._replace(direction=(-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)))


def test_a_mask_that_was_drawn_finer_or_on_a_part_keeps_its_volume(tmp_path):
    like = Geometry((1.0, 1.0, 2.0), (0.0, 0.0, 0.0), LPS.direction, (12, 10, 8))
    inside = np.zeros((12, 10, 8), np.uint8)
    inside[3:8, 2:7, 2:5] = 1
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    fine = np.repeat(np.repeat(np.repeat(inside, 2, 0), 2, 1), 2, 2)
    half = to_ras @ np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 1, -0.5], [0, 0, 0, 1]])
    part = to_ras @ np.array([[1, 0, 0, 2], [0, 1, 0, 1], [0, 0, 2, 2], [0, 0, 0, 1.0]])
    for name, values, affine in (("fine", fine, half), ("part", inside[2:9, 1:8, 1:6], part)):
        found = read_mask(save(tmp_path / f"{name}.nii.gz", values, affine), like)
        np.testing.assert_array_equal(found, inside.T)
    part[0, 3] -= 8  # half of it beside the volume
    with pytest.raises(ValueError, match=r"0\.150 ml in its file, 0\.0.0 ml on its volume"):
        read_mask(save(tmp_path / "beside.nii.gz", inside[2:9, 1:8, 1:6], part), like)


@pytest.mark.parametrize("axes", [(0, 2, 1), (2, 1, 0)])
def test_a_header_that_was_lost_is_seen_whatever_the_order_of_axes(tmp_path, axes):
    like = read_volume(save(tmp_path / "ct.nii", voxels(), affine_of("LPS")[:, [*axes, 3]])).geometry
    lost = save(tmp_path / "mask.nii.gz", np.ones(SIZE, np.uint8), np.eye(4))
    with pytest.raises(ValueError, match="has the size of its volume but another header"):
        read_mask(lost, like)


@pytest.mark.parametrize("flips", [(-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, 1)])
def test_sides_that_sform_and_qform_exchange_are_refused(tmp_path, flips):
    image = nibabel.Nifti1Image(voxels(), affine_of("LPS"))
    image.set_sform(affine_of("LPS"), 1)
    image.set_qform(affine_of("LPS") @ np.diag([*flips, 1]), 1)
    nibabel.save(image, tmp_path / "ct.nii.gz")
    with pytest.raises(ValueError, match="exchanged between its sform and its qform"):
        read_volume(tmp_path / "ct.nii.gz")


def test_a_sheared_grid_is_refused_in_nrrd_too(tmp_path):
    head = b"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\n"
    head += b"space directions: (1,0,0) (0,1,0) (0,0.5,2)\nendian: little\nencoding: raw\nspace origin: (0,0,0)\n\n"
    (tmp_path / "ct.nrrd").write_bytes(head + np.arange(64, dtype="<i2").tobytes())
    with pytest.raises(ValueError, match="sheared"):
        read_volume(tmp_path / "ct.nrrd")


# damaged files


def test_files_that_are_not_whole_are_refused(tmp_path):
    path, plain = tmp_path / "ctp.nii.gz", tmp_path / "ctp.nii"
    whole = save(path, voxels((32, 32, 16))).read_bytes()
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2] ^= 0x55
    content = gzip.decompress(whole)
    for target, data in [
        *((path, whole[: int(len(whole) * share)]) for share in (0, 0.5, 0.9999)),
        *((plain, content[:length]) for length in (0, 100, 348, -10)),
        (path, bytes(spoilt)),
        (path, b"hello"),
    ]:
        target.write_bytes(data)
        with pytest.raises(ValueError, match=rf"{target.name} cannot be read as an image"):
            read_volume(target)
    with pytest.raises(FileNotFoundError, match=r"none\.nii\.gz"):
        read_volume(tmp_path / "none.nii.gz")


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_other_formats_are_read_alike_and_refused_when_cut(name, tmp_path):
    values = voxels().T.copy()
    sitk.WriteImage(image_of(values, LPS), str(tmp_path / name))
    volume = read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.values, values)
    assert same_grid(volume.geometry, LPS)
    whole = (tmp_path / name).read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read as an image"):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize(("endian", "slope"), [("<", 0.5), (">", 1)])
def test_every_kind_of_nifti_gives_its_values(kind, endian, slope, tmp_path):
    stored = np.arange(60, dtype=np.int16).reshape(SIZE)
    image = kind(stored, affine_of("RAS"), kind.header_class(endianness=endian))
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(slope, -1024 if slope < 1 else 0)
    image.to_filename(tmp_path / "a.nii")
    raw = (tmp_path / "a.nii").read_bytes()
    read = read_volume(tmp_path / "a.nii")
    expected = nibabel.load(tmp_path / "a.nii").get_fdata()
    assert_at_their_places(expected.astype(np.float32), image.affine, read.values, read.geometry)
    assert kind.from_bytes(raw).header.endianness == endian
    image.header.set_xyzt_units("meter")
    image.to_filename(tmp_path / "m.nii")
    with pytest.raises(ValueError, match=r"voxels of 900 x 1300 x 4000 mm: one number, and 0.15 to 100 mm"):
        read_volume(tmp_path / "m.nii")


def changed(path, **fields):
    """A stored header whose fields say something else, which nibabel would mend."""
    header = nibabel.Nifti1Header(path.read_bytes()[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    return path


def test_headers_that_do_not_say_where_voxels_lie_are_refused(tmp_path):
    path = save(tmp_path / "a.nii", voxels())
    whole, nan = path.read_bytes(), np.nan
    for fields, said in [
        ({"pixdim": [1, 0, 0, 0, 1, 1, 1, 1], "sform_code": 0}, "does not say where its voxels lie"),
        ({"srow_x": [0, 0, 0, 0]}, "does not say where its voxels lie"),
        ({"srow_x": [nan] * 4}, "does not say where its voxels lie"),
        ({"srow_x": [-0.9, 0, 1.5, 0]}, "axes at right angles"),
        ({"srow_x": [0.9, 0, 0, 0], "qform_code": 1}, "left and right, or another pair of sides, exchanged"),
    ]:
        path.write_bytes(whole)
        with pytest.raises(ValueError, match=said):
            read_volume(changed(path, **fields))
    path.write_bytes(whole)
    for fields in ({"qoffset_z": 20, "qform_code": 1}, {"pixdim": [1, 2, 2, 2, 1, 1, 1, 1]}):
        with pytest.warns(UserWarning, match="states two places"):
            read_volume(changed(path, **fields))


def test_content_that_is_no_ct(tmp_path):
    spoilt = voxels()
    spoilt[1, 2, 1] = np.nan  # which SimpleITK would read as 0
    for name in ("ctp.nii.gz", "ctp.nii"):
        with pytest.raises(ValueError, match="1 of 60 voxels are NaN"):
            read_volume(save(tmp_path / name, spoilt))
    colour = np.zeros(SIZE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), tmp_path / "colour.nii")
    with pytest.raises(ValueError, match=r"colour\.nii cannot be read"):
        read_volume(tmp_path / "colour.nii")


def test_file_without_an_orientation_is_read_with_a_warning(tmp_path):
    nibabel.save(nibabel.Nifti1Image(voxels(), None), tmp_path / "a.nii")
    with pytest.warns(UserWarning, match=r"a\.nii does not say how it is oriented"):
        read_volume(tmp_path / "a.nii")


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
        volumes.check_hounsfield(spoil(body()).astype(np.float32), "scan.nii.gz")
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
    volumes.check_hounsfield(values.astype(np.float32), "crop")


ODD = {
    "window in its place": (np.clip(body(), -160, 240), "-160 HU: masked or cut"),
    "masked to 0": (np.where(body() > 0, body(), 0), "lowest value, 0 HU: masked"),
    "organ, nothing below 0": (np.abs(body()[:, 5:11, 5:11]), "no air and no fat"),
    "bone": (drawn(350, 50), "no air and no fat"),
}


@pytest.mark.parametrize(("values", "said"), ODD.values(), ids=ODD)
def test_what_may_be_hu_or_not_is_remarked(values, said):
    assert said in volumes.check_hounsfield(values, "scan")
    sound = {"modality": "CT", "units": "HU", "image_type": "ORIGINAL"}
    assert volumes.check_hounsfield(body(), "scan", **sound, whole=True) == ""


@pytest.mark.parametrize(
    "header",
    [
        {"modality": "MR"},
        {"modality": "PT"},
        {"units": "MGML"},
        {"units": "Z_EFF"},
        {"image_type": "['DERIVED', 'PRIMARY', 'AXIAL', 'IODINE']"},
        {"image_type": "DERIVED\\PRIMARY\\AXIAL\\ELECTRON_DENSITY"},
        {"image_type": "['DERIVED', 'SECONDARY', 'AXIAL', 'MIP']"},
        {"image_type": "['DERIVED', 'SECONDARY', 'AXIAL', 'MIN_IP']"},
    ],
)
def test_a_header_that_says_what_it_is_is_believed(header):
    with pytest.raises(ValueError, match="scan is not in HU: its header"):
        volumes.check_hounsfield(body(), "scan", **header)


@pytest.mark.parametrize("kind", ["VMI", "DE_MONO_40KEV", "VNC", "HU_MOD"])
def test_a_scan_of_one_energy_or_without_its_contrast_is_remarked(kind):
    told = volumes.check_hounsfield(body(), "scan", image_type=f"['DERIVED', 'AXIAL', '{kind}']")
    assert "HU of one energy or after a material was changed" in told


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_a_header_that_was_lost_on_the_scan_itself_is_remarked(tmp_path, name):
    """Arrays written without their header: scan and mask fit each other, and all volumes are wrong."""
    for spacing, said in {(1.0, 1.0, 1.0): ["was a header lost?"], (1.0, 1.0, 2.5): []}.items():
        image = sitk.GetImageFromArray(body())
        image.SetSpacing(spacing)
        sitk.WriteImage(image, str(tmp_path / name))
        with volumes.remarks(tmp_path / name) as remarks:
            read_volume(tmp_path / name)
        assert [re.search(r"was a header lost\?", each)[0] for each in remarks] == said


def test_a_scan_in_centimetres_is_refused(tmp_path):
    save(tmp_path / "a.nii.gz", voxels(), np.diag([0.1, 0.1, 0.25, 1]))
    with pytest.raises(ValueError, match=r"a.nii.gz has .* voxels of 0.1 x 0.1 x 0.25 mm.*0.15 to 100 mm"):
        read_volume(tmp_path / "a.nii.gz")


def test_a_whole_scan_has_air_or_fat():
    iodine = np.clip(body(), 0, 200) // 4
    with pytest.raises(ValueError, match="without air or fat"):
        volumes.check_hounsfield(iodine, "scan", whole=True)


# real files


@pytest.mark.real
def test_real_ct_and_its_mask(mirrored):
    folder = mirrored("ct/totalsegmentator")
    ct = read_volume(folder / "example_ct_sm.nii.gz")
    assert ct.values.shape == (30, 101, 122)
    assert ct.stored_as == "RAS"
    assert (ct.values.min(), ct.values.max()) == (-1100, 1207)
    assert read_mask(folder / "example_seg.nii.gz", ct.geometry).sum() > 50_000
    labels = read_volume(folder / "example_seg.nii.gz")
    # spleen, liver, aorta: HU as the mirror's table states
    for label, hu in ((1, 32.8), (5, 45.3), (52, 42.3)):
        assert ct.values[labels.values == label].mean() == pytest.approx(hu, abs=0.05)
    # the spleen lies to the left of the liver, and x grows to the left
    spleen, liver = (np.argwhere(labels.values == label)[:, 2].mean() for label in (1, 5))
    assert spleen > liver
    # the mask's slices are a part of the whole scan's
    whole = read_volume(folder / "example_ct.nii.gz")
    brought = read_mask(folder / "example_seg.nii.gz", whole.geometry)
    assert brought.shape == whole.values.shape
    assert brought[:30].sum() == (labels.values > 0).sum()


@pytest.mark.real
def test_real_nrrd_stored_upside_down_keeps_its_label(mirrored):
    folder = mirrored("ct/pyradiomics")
    brain = read_volume(folder / "brain1_image.nrrd")
    mask = read_mask(folder / "brain1_label.nrrd", brain.geometry)
    assert brain.stored_as == "LAS"
    # pyradiomics' own value: firstorder_Mean of brain1 without preprocessing
    assert (mask.sum(), brain.values[mask].mean()) == (4137, pytest.approx(825.235, abs=1e-2))

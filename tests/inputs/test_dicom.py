"""DICOM series: every slice at its place and in HU, or a sentence that says what is amiss."""

import re
import warnings

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.uid import EnhancedCTImageStorage

from lib.inputs.dicom import read_dicom

ROWS, COLUMNS = 5, 4
SPACING = "0.8\\0.7"  # distance of rows, of columns
STRAIGHT = "1\\0\\0\\0\\1\\0"
AT = (-10.0, -20.0, 100.0)
STEP_MM = 5.0
PATIENT = "DOE^JANE"


def slice_of(k: int) -> np.ndarray:
    """HU of a slice, no two voxels of a stack alike."""
    return np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) + 100 * k - 300


def write_slice(folder, name, k, place=None, uid="1.2.3.4", values=None, **tags):
    """A file as a scanner's archive hands it out; tags by number, `t0008_0060="MR"`, "" to leave it out."""
    place = (AT[0], AT[1], AT[2] + STEP_MM * k) if place is None else place
    stated = {
        "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
        "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
        "0008|0018": f"{uid}.{k}",
        "0008|0060": "CT",
        "0008|103e": "Abdomen venous",
        "0010|0010": PATIENT,
        "0020|000d": "1.2.3",
        "0020|000e": uid,
        "0020|0011": "7",
        "0020|0013": str(k + 1),
        "0020|0032": "\\".join(f"{number:.6g}" for number in place),
        "0020|0037": STRAIGHT,
        "0028|0030": SPACING,
        "0028|1052": "-1024",
        "0028|1053": "1",
    }
    stated |= {tag[1:].replace("_", "|"): value for tag, value in tags.items()}
    values = slice_of(k) if values is None else values
    colour = values.ndim > 2
    image = sitk.GetImageFromArray(values if colour else values.astype(np.int16), isVector=colour)
    image.SetSpacing([float(each) for each in stated["0028|0030"].split("\\")[::-1]])
    for tag, value in stated.items():
        if value:
            image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(folder / name))
    writer.Execute(image)


@pytest.fixture
def series(tmp_path):
    """Six slices, named against their order."""
    folder = tmp_path / "scan"
    folder.mkdir()
    for k in range(6):
        write_slice(folder, f"IM{(k * 5) % 6}.dcm", k)
    return folder


def refused(folder, said, kind=ValueError, **options):
    with pytest.raises(kind, match=said) as caught:
        read_dicom(folder, **options)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    assert not {"DOE", "JANE"} & set(message.upper().replace("^", " ").split())
    return message


def test_slices_are_sorted_by_place_and_in_hounsfield_units(series):
    raw = (series / "IM0.dcm").read_bytes()[-2 * ROWS * COLUMNS :]
    np.testing.assert_array_equal(np.frombuffer(raw, "<i2"), slice_of(0).ravel() + 1024)  # what is stored
    volume = read_dicom(series)
    np.testing.assert_array_equal(volume.values, [slice_of(k) for k in range(6)])
    assert volume.values.dtype == np.float32
    assert volume.geometry.spacing_mm == pytest.approx((0.7, 0.8, STEP_MM))
    assert volume.geometry.origin_mm == pytest.approx(AT)
    assert volume.geometry.orientation == volume.stored_as == "LPS"
    assert PATIENT not in repr(volume)
    other = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series)))
    np.testing.assert_array_equal(volume.values, sitk.GetArrayFromImage(other))


def test_slope_that_differs_from_slice_to_slice(tmp_path):
    for k in range(3):
        write_slice(tmp_path, f"{k}.dcm", k)
    element = b"\x28\x00\x53\x10\x02\x00\x00\x00"  # rescale slope, two letters
    expected = [slice_of(0) * 1.0, (slice_of(1) + 1024) * 0.5 - 1024, (slice_of(2) + 1024) * 3.0 - 1024]
    for k, slope in ((1, b".5"), (2, b"3 ")):
        content = (tmp_path / f"{k}.dcm").read_bytes()
        assert content.count(element + b"1 ") == 1
        (tmp_path / f"{k}.dcm").write_bytes(content.replace(element + b"1 ", element + slope))
    np.testing.assert_array_equal(read_dicom(tmp_path).values, expected)


def test_patient_lying_prone_or_a_sagittal_stack_comes_out_in_the_patients_axes(tmp_path):
    prone, sagittal = (tmp_path / name for name in ("prone", "sagittal"))
    prone.mkdir(), sagittal.mkdir()
    for k in range(3):
        write_slice(prone, f"{k}.dcm", k, t0020_0037="-1\\0\\0\\0\\-1\\0")
        # columns to posterior, rows to inferior, stack to the patient's right
        write_slice(sagittal, f"{k}.dcm", k, (50 - 2 * k, 0, 90), t0020_0037="0\\1\\0\\0\\0\\-1")
    volume = read_dicom(prone)
    assert (volume.stored_as, volume.geometry.orientation) == ("RAS", "LPS")
    np.testing.assert_array_equal(volume.values, [slice_of(k)[::-1, ::-1] for k in range(3)])
    corner = (AT[0] - 0.7 * (COLUMNS - 1), AT[1] - 0.8 * (ROWS - 1), AT[2])
    np.testing.assert_allclose(volume.geometry.origin_mm, corner)
    volume = read_dicom(sagittal)
    assert volume.geometry.orientation == "LPS"
    assert volume.geometry.spacing_mm == pytest.approx((2, 0.7, 0.8))
    assert volume.values[-1, 0, -1] == slice_of(0)[0, 0]  # at (50, 0, 90)
    assert volume.values[-2, 1, 0] == slice_of(2)[1, 1]


def test_other_files_are_passed_over(series):
    (series / "notes.txt").write_text("not DICOM at all\n" * 40)
    (series / ".DS_Store").write_bytes(b"\0" * 300)
    head = bytearray((series / "IM0.dcm").read_bytes()[:400])
    structures = head.replace(
        b"UI\x1a\x001.2.840.10008.5.1.4.1.1.2\0", b"UI\x1e\x001.2.840.10008.5.1.4.1.1.481.3\0"
    )
    (series / "RS.dcm").write_bytes(structures)
    with pytest.warns(UserWarning, match=r"passed over RS.dcm \(RT Structure Set Storage\), DICOM without"):
        assert len(read_dicom(series).values) == 6
    (series / "note.dcm").write_text("hello")
    refused(series, "note.dcm was cut short or is damaged")
    (series / "note.dcm").unlink()
    (series / "IM9").symlink_to("nowhere")  # as git-annex leaves files that were not fetched
    with pytest.raises(FileNotFoundError, match="IM9"):
        read_dicom(series)


def test_no_dicom(tmp_path):
    refused(tmp_path / "none", "none", FileNotFoundError)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "scan").mkdir()
    refused(tmp_path, "holds no DICOM picture, nor do the folders below it", FileNotFoundError)


def test_the_one_stack_of_the_modality_is_taken_from_a_whole_export(series):
    expected = read_dicom(series).values
    write_slice(series, "scout.dcm", 0, uid="1.2.8", t0008_0008="ORIGINAL\\PRIMARY\\LOCALIZER")
    for k in range(3):
        write_slice(series, f"seg{k}.dcm", k, uid="1.2.9", t0008_0060="SEG")
    np.testing.assert_array_equal(read_dicom(series).values, expected)
    refused(series, "no series fit 'MR'; it holds", series="MR")


def test_several_series_are_named_without_the_patient_and_one_is_chosen(series):
    for k in range(3):
        write_slice(series, f"b{k}.dcm", k, uid="1.2.9", t0008_103e="Jane DOE arterial", t0020_0011="8")
    said = refused(series, "2 series fit 'CT'.*Choose one with `series`")
    assert "1.2.3.4 (number 7, slices: 6, CT, 'Abdomen venous')" in said
    assert "1.2.9 (number 8, slices: 3, CT, '*** *** arterial')" in said
    for name in ("1.2.9", "8", "*** *** arterial", "Jane DOE arterial", 8):
        assert len(read_dicom(series, name).values) == 3
    assert len(read_dicom(series, "Abdomen venous").values) == 6
    write_slice(series, "c.dcm", 0, uid="1.2.10")
    write_slice(series, "d.dcm", 1, uid="1.2.10")
    refused(series, "2 series fit '7'", series="7")


def test_a_report_under_the_modality_of_the_scan_is_no_stack(series):
    expected = read_dicom(series).values
    write_slice(series, "dose.dcm", 0, uid="1.2.7", t0008_103e="Dose report")
    for k in range(6):
        write_slice(series, f"map{k}.dcm", k, uid="1.2.6", t0028_1054="MGML", t0008_103e="Iodine")
    with pytest.warns(
        UserWarning, match="not read: CT 'Iodine', CT 'Dose report'|CT 'Dose report', CT 'Iodine'"
    ):
        np.testing.assert_array_equal(read_dicom(series).values, expected)
    assert read_dicom(series, "Iodine").header["units"] == "MGML"


def test_a_folder_of_folders_is_one_export(series):
    expected = read_dicom(series).values
    np.testing.assert_array_equal(read_dicom(series.parent).values, expected)


@pytest.mark.parametrize("again", [{}, {"t0008_0018": "1.2.99"}], ids=["file copied", "sent again"])
def test_exact_copies_are_dropped(series, again):
    expected = read_dicom(series).values
    write_slice(series, "copy.dcm", 2, **again)
    with pytest.warns(UserWarning, match="1 exact copies of slices dropped"):
        np.testing.assert_array_equal(read_dicom(series).values, expected)


@pytest.mark.parametrize(
    ("tag", "values", "shift"),
    [
        ("t0018_1210", ("B30f", "B70f"), 0),
        ("t0018_1210", ("B30f", "B70f"), 2.5),
        ("t0018_0050", ("5", "2"), 0),
        ("t0020_0012", ("1", "2"), 0),
        ("t0018_0060", ("80", "140"), 0),
        ("t0028_0030", ("0.8\\0.7", "0.5\\0.5"), 0),
    ],
    ids=["kernel", "kernel between", "thickness", "acquisition", "voltage", "field of view"],
)
def test_two_stacks_under_one_uid_are_told_apart(tmp_path, tag, values, shift):
    for n, value in enumerate(values):
        for k in range(4):
            place, number = (*AT[:2], AT[2] + STEP_MM * k + n * shift), f"1.2.3.4.{n}.{k}"
            more = {tag: value, "t0008_0018": number, "t0020_0013": str(100 * n + k)}
            write_slice(tmp_path, f"{n}{k}.dcm", k, place, values=slice_of(k) + n, **more)
    said = refused(tmp_path, "2 series fit 'CT'.*Choose one with `series`")
    for n, value in enumerate(re.findall(r"'([^']*)'\)", said)):
        found = read_dicom(tmp_path, value)
        np.testing.assert_array_equal(found.values, [slice_of(k) + n for k in range(4)])


def test_a_stack_scanned_in_two_passes_is_one(tmp_path):
    for k in range(6):
        write_slice(tmp_path, f"{k}.dcm", k, t0020_0012=str(1 + k % 2), t0008_0032=f"12000{k % 2}")
    assert len(read_dicom(tmp_path).values) == 6


def test_steps_that_change_are_interpolated_where_no_number_is_missing(tmp_path):
    places = np.array([0, 2.5, 5, 7.5, 12.5, 17.5])
    for k, z in enumerate(places):
        write_slice(tmp_path, f"{k}.dcm", k, (0, 0, z), values=np.full((ROWS, COLUMNS), 10 * z))
    with pytest.warns(UserWarning, match=r"slices are 2.5 to 5 mm apart: interpolated to 2.5 mm"):
        volume = read_dicom(tmp_path)
    np.testing.assert_allclose(volume.values[:, 0, 0], 25 * np.arange(8))
    assert volume.geometry.spacing_mm[2] == pytest.approx(2.5)
    for k, z in enumerate(places):
        write_slice(tmp_path, f"{k}.dcm", k, (0, 0, z), t0020_0013=str(2 * k))
    refused(tmp_path, "slices are missing")


def enhanced(path, order):
    """All slices in one file (enhanced CT), each with its own slope, in any order."""
    header = pydicom.dcmread(path.parent / "IM0.dcm")
    for name in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleIntercept",
        "RescaleSlope",
    ):
        delattr(header, name)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    shared, frames, stored = Dataset(), [], []
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [Dataset()], [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.8, 0.7]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for k in order:
        frame = Dataset()
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [Dataset()], [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [AT[0], AT[1], AT[2] + STEP_MM * k]
        frame.PixelValueTransformationSequence[0].RescaleSlope = 1 + k % 2
        frame.PixelValueTransformationSequence[0].RescaleIntercept = -1024
        frame.PixelValueTransformationSequence[0].RescaleType = "HU"
        frames.append(frame)
        stored.append((2 * slice_of(k) + 1024 * 2) // (2 * (1 + k % 2)))
    header.SharedFunctionalGroupsSequence, header.PerFrameFunctionalGroupsSequence = [shared], frames
    header.NumberOfFrames, header.PixelData = len(frames), np.stack(stored).astype("<i2").tobytes()
    for old in path.parent.iterdir():
        old.unlink()
    header.save_as(path)


def test_enhanced_ct_is_a_stack_whatever_the_order_of_its_frames(series):
    enhanced(series / "one.dcm", order=(3, 0, 5, 1, 4, 2))
    for path in (series, series / "one.dcm"):
        volume = read_dicom(path)
        even = [slice_of(k) if k % 2 == 0 else 2 * ((slice_of(k) + 1024) // 2) - 1024 for k in range(6)]
        np.testing.assert_array_equal(volume.values, even)
        assert volume.geometry.origin_mm == pytest.approx(AT)
        assert volume.geometry.spacing_mm == pytest.approx((0.7, 0.8, STEP_MM))
        assert volume.header["units"] == "HU"


def colour(folder):
    values = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    write_slice(folder, "IM2.dcm", 4, values=values, t0028_1052="", t0028_1053="")


def cut(length):
    return lambda f: (f / "IM2.dcm").write_bytes((f / "IM2.dcm").read_bytes()[:length])


def written(**tags):
    return lambda f: write_slice(f, "IM2.dcm", 4, **tags)


def without_place(folder):
    content, place = (folder / "IM2.dcm").read_bytes(), b"\x20\x00\x32\x00"
    assert content.count(place) == 1
    (folder / "IM2.dcm").write_bytes(content.replace(place, b"\x20\x00\x33\x00"))


def place_nan(folder):
    content = (folder / "IM2.dcm").read_bytes()
    (folder / "IM2.dcm").write_bytes(content.replace(b"-10\\-20\\120", b"nan\\nan\\120"))


FAULTS = {
    "missing": (lambda f: (f / "IM3.dcm").unlink(), "apart but 10 mm between 110.00 and 120.00 mm .*missing"),
    "doubled": (
        lambda f: write_slice(f, "b.dcm", 2, values=slice_of(2) + 1),
        r"two slices lie at 110.00 mm \(IM4.dcm, b.dcm\), 1 such",
    ),
    "no position": (without_place, r"slice IM2.dcm does not state its ImagePositionPatient \(3 numbers\)"),
    "position nan": (place_nan, "slice IM2.dcm does not state its ImagePositionPatient"),
    "2 % off": (written(place=(*AT[:2], 120.1)), "2 uneven steps in all: though no number"),
    "beside": (written(place=(AT[0] + 30, AT[1], 120)), "30.0 mm beside the others"),
    "orientation": (written(t0020_0037="1\\0\\0\\0\\0\\-1"), "differ in ImageOrientationPatient"),
    "spacing": (written(t0028_0030="1\\1"), "differ in PixelSpacing: 0.8 x 0.7 and 1 x 1"),
    "size": (written(values=np.zeros((6, COLUMNS))), "differ in Rows: 5 and 6"),
    "localiser": (written(t0008_0008="ORIGINAL\\PRIMARY\\LOCALIZER"), "slices are 5 mm apart but 10 mm"),
    "colour": (colour, "IM2.dcm is in colour"),
    "modality": (written(t0008_0060="MR"), "holds MR, CT is expected"),
    "patient": (written(t0010_0020="other"), "of several patients"),
    "cut": (cut(-30), "IM2.dcm was cut short"),
    "nothing left": (cut(0), "IM2.dcm was cut short"),
    "one": (lambda f: [each.unlink() for each in list(f.iterdir())[1:]], "holds one slice"),
}


@pytest.mark.parametrize(("spoil", "said"), FAULTS.values(), ids=FAULTS)
def test_faults_are_named(series, spoil, said):
    spoil(series)
    refused(series, said)


def test_two_voltages_in_one_stack_are_remarked(series):
    write_slice(series, "IM2.dcm", 4, t0018_0060="80")
    with warnings.catch_warnings(action="error"):
        read_dicom(series)  # the others say nothing
    write_slice(series, "IM3.dcm", 3, t0018_0060="120")
    with pytest.warns(UserWarning, match="at 120 and 80 kV"):
        read_dicom(series)


def test_steps_equal_to_one_per_cent_are_equal(tmp_path):
    for k, z in enumerate((0, 5, 10.04, 15)):
        write_slice(tmp_path, f"{k}.dcm", k, (0, 0, z))
    volume = read_dicom(tmp_path)
    assert volume.geometry.spacing_mm[2] == pytest.approx(5)
    np.testing.assert_array_equal(volume.values, [slice_of(k) for k in range(4)])  # as they are


def tilted(folder, degrees: float, table: tuple[float, float, float], size=(12, 10), slices=8) -> None:
    """A stack whose pictures lean by so many degrees about the patient's x, moved along `table`; HU grow with place."""
    angle = np.radians(degrees)
    x, y = np.array([1, 0, 0]), np.array([0, np.cos(angle), np.sin(angle)])
    for k in range(slices):
        first = np.array([0, 0, 50.0]) + k * np.asarray(table)
        i, j = np.meshgrid(np.arange(size[0]) * 2.0, np.arange(size[1]) * 2.0)
        places = first + i[..., None] * x + j[..., None] * y
        way, values = "\\".join(f"{number:.8g}" for number in (*x, *y)), np.rint(10 * places @ (1, 2, 3))
        write_slice(folder, f"{k}.dcm", k, first, values=values, t0020_0037=way, t0028_0030="2\\2")


def assert_in_place(volume, atol):
    """HU are those of the place, wherever the volume is not padding."""
    k, j, i = np.nonzero(volume.values > -1000)
    off = volume.values[k, j, i] - 10 * volume.geometry.points(np.stack([i, j, k], 1)) @ (1, 2, 3)
    assert len(off) > 300
    assert np.median(np.abs(off)) < 1
    assert (np.abs(off) < atol).mean() > 0.6  # the rest is the half voxel at the rim


def test_oblique_stack_is_refused_kept_or_straightened(tmp_path):
    angle = np.radians(12)
    tilted(tmp_path, 12, 4 * np.array([0, -np.sin(angle), np.cos(angle)]))
    refused(tmp_path, "is oblique, tilted by 12.0 degrees")
    kept = read_dicom(tmp_path, oblique="keep")
    assert kept.geometry.tilt_deg == pytest.approx(12, abs=0.01)
    assert_in_place(kept, 1)
    straight = read_dicom(tmp_path, oblique="resample")
    assert straight.geometry.tilt_deg < 1e-3
    assert_in_place(straight, 2)


def test_gantry_tilted_against_the_table_is_refused_or_straightened(tmp_path):
    tilted(tmp_path, 12, (0, 0, 4.0))
    refused(tmp_path, "the gantry was tilted, slices are shifted against each other by 12.0 degrees")
    refused(tmp_path, "set oblique to 'resample'", oblique="keep")
    straight = read_dicom(tmp_path, oblique="resample")
    assert straight.geometry.tilt_deg < 1e-3
    assert_in_place(straight, 2)

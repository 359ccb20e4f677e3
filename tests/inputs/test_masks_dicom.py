"""Segmentations and structure sets: every region at its place, voxel by voxel, or a sentence that says why not."""

import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentDescription
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from lib.gcmlm.ct import read_region
from lib.gcmlm.phantom import write_dicom
from lib.inputs.masks import label_names, read_label, regions
from lib.inputs.volumes import Geometry

SIZE = (24, 20, 8)
GRID = Geometry((0.8, 0.9, 5.0), (-50.0, -40.0, 100.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), SIZE)


STUDY = ("StudyDate", "StudyTime", "StudyID")


def outlined() -> dict[str, np.ndarray]:
    """Two regions that share voxels."""
    tumour, liver = np.zeros((2, *SIZE[::-1]), bool)
    tumour[2:5, 6:12, 8:15] = True
    liver[1:7, 9:16, 3:11] = True
    return {"tumour": tumour, "liver": liver}


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A folder with a CT of few voxels, no two alike, with air around."""
    folder = tmp_path_factory.mktemp("ct") / "scan"
    values = np.arange(np.prod(SIZE)).reshape(SIZE[::-1]) % 97 - 20
    values[:, :4] = -1000
    write_dicom(folder, values.astype(np.int16), GRID, "P1")
    return folder


def segmentation(scan, masks, path, kind="BINARY"):
    """As highdicom writes one: a segment each, empty frames left out."""
    sources = [pydicom.dcmread(each) for each in sorted(scan.iterdir())]
    sources.sort(key=lambda each: each.ImagePositionPatient[2])
    for each in sources:
        for name in ("PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", *STUDY):
            setattr(each, name, each.get(name, ""))
    described = [
        SegmentDescription(n, name, codes.SCT.Organ, codes.SCT.Organ, SegmentAlgorithmTypeValues.MANUAL)
        for n, name in enumerate(masks, 1)
    ]
    pixels = np.stack([*masks.values()], -1)
    if kind == "LABELMAP":
        pixels = pixels.argmax(-1) + pixels.any(-1)
    pixels = pixels.astype(np.uint8) if kind != "FRACTIONAL" else pixels * 0.8
    about = (generate_uid(), 50, generate_uid(), 1, "made", "up", "1", "1")
    made = Segmentation(sources, pixels, kind, described, *about)
    made.save_as(path)
    return path


def structures(path, contours: dict[str, list], frame=""):
    """A structure set of contours (n, 3) in mm."""
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", generate_uid()
    header.Modality, header.StructureSetROISequence, header.ROIContourSequence = "RTSTRUCT", [], []
    for number, (name, some) in enumerate(contours.items(), 3):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame or "1.2.3"
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in some:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{number:.6g}" for number in np.ravel(points)]
            drawn.ContourSequence.append(contour)
        header.StructureSetROISequence.append(roi)
        header.ROIContourSequence.append(drawn)
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.save_as(path, enforce_file_format=True)
    return path


def box(k, rows, columns):
    """The outline of voxels of one slice, at their outer edges."""
    (top, bottom), (left, right) = rows, columns
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return GRID.points([[x - 0.5, y - 0.5, k] for x, y in corners])


def drawn_boxes(every=1):
    return {
        "tumour": [box(k, (6, 12), (8, 15)) for k in range(2, 5, every)],
        "liver": [box(k, (9, 16), (3, 11)) for k in range(1, 7, every)],
    }


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_segments_by_number_and_by_name(scan, tmp_path, kind):
    path = segmentation(scan, outlined(), tmp_path / "seg.dcm", kind)
    for number, (name, mask) in enumerate(outlined().items(), 1):
        for label in (number, name, name.upper()):
            np.testing.assert_array_equal(read_label(path, GRID, label), mask)
    np.testing.assert_array_equal(read_label(path, GRID, None), np.logical_or(*outlined().values()))
    assert label_names(path).numbers == {"tumour": 1, "liver": 2}
    with pytest.raises(ValueError, match=r"seg.dcm has no label 3: its labels are 1 \(tumour\), 2 \(liver\)"):
        read_label(path, GRID, 3)
    with pytest.raises(ValueError, match=r"spleen.*has the names tumour, liver"):
        read_label(path, GRID, "spleen")


def test_a_label_map_as_segmentation_and_a_segment_in_two_pieces(scan, tmp_path):
    masks = outlined()
    masks["tumour"][3] = False
    masks["liver"] &= ~masks["tumour"]
    for kind in ("LABELMAP", "BINARY"):
        path = segmentation(scan, masks, tmp_path / f"{kind}.dcm", kind)
        for name, mask in masks.items():
            np.testing.assert_array_equal(read_label(path, GRID, name), mask)


@pytest.mark.parametrize("slices", [[3], [2, 6], [1, 3, 5], [1, 2, 5]])
def test_planes_that_are_left_out_are_empty_though_no_distance_is_stated(scan, tmp_path, slices):
    mask = np.zeros(SIZE[::-1], bool)
    mask[slices, 6:12, 8:15] = True
    path = segmentation(scan, {"tumour": mask}, tmp_path / "seg.dcm")
    header = pydicom.dcmread(path)
    measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if "SpacingBetweenSlices" in measures:
        del measures.SpacingBetweenSlices
    header.save_as(path)
    np.testing.assert_array_equal(read_label(path, GRID, 1), mask)


def test_an_export_in_one_folder(scan, tmp_path):
    """CT, segmentation and structures together; the folder is the mask, too."""
    folder = tmp_path / "export"
    folder.mkdir()
    for each in scan.iterdir():
        (folder / each.name).write_bytes(each.read_bytes())
    segmentation(scan, outlined(), folder / "SEG.dcm")
    volume, inside = read_region(folder, folder, "liver")
    np.testing.assert_array_equal(inside, outlined()["liver"])
    assert "not read: SEG" in volume.remark
    volume, _ = read_region(folder, folder / "SEG.dcm", 1)
    assert "SEG.dcm: label 1 is read, of 1 (tumour), 2 (liver)" in volume.remark
    assert str(tmp_path) not in volume.remark
    structures(folder / "RS.dcm", drawn_boxes())
    with pytest.raises(ValueError, match=r"holds 2 masks of DICOM .*RS.dcm, SEG.dcm"):
        read_region(folder, folder, "liver")


def test_contours_by_number_and_by_name(tmp_path):
    path = structures(tmp_path / "rs.dcm", drawn_boxes())
    for number, (name, mask) in enumerate(outlined().items(), 3):
        for label in (number, name):
            np.testing.assert_array_equal(read_label(path, GRID, label), mask)
    np.testing.assert_array_equal(read_label(path, GRID, None), np.logical_or(*outlined().values()))
    with pytest.raises(ValueError, match=r"has no label 1: its labels are 3 \(tumour\), 4 \(liver\)"):
        read_label(path, GRID, 1)


def test_a_contour_within_a_contour_is_a_hole(tmp_path):
    ring = [box(k, (4, 16), (4, 18)) for k in (3, 4)] + [box(k, (8, 12), (9, 13)) for k in (3, 4)]
    expected = np.zeros(SIZE[::-1], bool)
    expected[3:5, 4:16, 4:18] = True
    expected[3:5, 8:12, 9:13] = False
    np.testing.assert_array_equal(
        read_label(structures(tmp_path / "rs.dcm", {"ring": ring}), GRID, "ring"), expected
    )


def test_a_round_contour_has_the_area_of_its_circle(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    circle = [
        np.stack([-41 + 6.3 * np.cos(angle), -31.7 + 6.3 * np.sin(angle), 0 * angle + 110 + z], 1)
        for z in (0, 5)
    ]
    found = read_label(structures(tmp_path / "rs.dcm", {"ball": circle}), GRID, "ball").sum()
    assert found * 0.8 * 0.9 == pytest.approx(2 * np.pi * 6.3**2, rel=0.02)


def test_a_structure_drawn_in_every_second_slice_is_whole(tmp_path):
    path = structures(tmp_path / "rs.dcm", drawn_boxes(every=2))
    found = read_label(path, GRID, "liver")
    assert found.sum() == outlined()["liver"].sum()
    gap = structures(tmp_path / "gap.dcm", {"two": [box(k, (6, 12), (8, 15)) for k in (1, 2, 5)]})
    with pytest.warns(UserWarning, match="2 planes between its contours have none"):
        assert read_label(gap, GRID, "two").any((1, 2)).tolist() == [0, 1, 1, 0, 0, 1, 0, 0]


def test_what_does_not_belong_to_the_scan(scan, tmp_path):
    beside = {"tumour": [points + np.array([0, 9, 0]) for points in drawn_boxes()["tumour"]]}
    with pytest.raises(
        ValueError, match=r"label 3 \(tumour\) has 0.454 ml in its file, 0.302 ml on its volume"
    ):
        read_label(structures(tmp_path / "beside.dcm", beside), GRID, "tumour")
    twisted = {
        "tumour": [
            points + np.array([[0, 0, 0], [0, 0, 2], [0, 0, 0], [0, 0, 2]])
            for points in drawn_boxes()["tumour"]
        ]
    }
    with pytest.raises(ValueError, match="do not lie in parallel planes"):
        read_label(structures(tmp_path / "twisted.dcm", twisted), GRID, "tumour")
    with pytest.raises(ValueError, match="drawn in another frame of reference"):
        read_region(scan, structures(tmp_path / "other.dcm", drawn_boxes(), frame="1.2.9"), "tumour")
    with pytest.raises(ValueError, match="is empty"):
        read_label(structures(tmp_path / "none.dcm", {}), GRID, None)
    assert regions(next(scan.iterdir())) is None


BALL, RADIUS_MM = np.array([3.0, 21.0, 38.0]), 14.0


@pytest.mark.parametrize("sheared", [True, False], ids=["gantry", "turned"])
def test_masks_follow_a_scan_of_a_tilted_gantry(tmp_path, sheared):
    """A ball of 90 HU, outlined in leaning slices: it is where it was, and as large, on the scan that was straightened."""
    lean = np.radians(15)
    across = np.array([[1, 0, 0], [0, np.cos(lean), np.sin(lean)], [0, -np.sin(lean), np.cos(lean)]])
    size, step = (48, 48, 26), np.array([0, 0, 3.0]) if sheared else 3 * across[2]
    grid = Geometry((1.1, 1.0, 3.0), (-24.0, 0, 0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), size)
    k, j, i = np.indices(size[::-1])
    starts = np.array([-24.0, 0, 0]) + np.arange(size[2])[:, None] * step
    places = starts[k] + 1.1 * i[..., None] * across[0] + 1.0 * j[..., None] * across[1]
    ball = np.linalg.norm(places - BALL, axis=-1) < RADIUS_MM
    scan = tmp_path / "scan"
    values = np.where(ball, 90, 20)
    values[:, :2] = -1000
    write_dicom(scan, values.astype(np.int16), grid, "P1")
    for path in scan.iterdir():
        header = pydicom.dcmread(path)
        at = starts[round(float(header.ImagePositionPatient[2]) / 3)]
        header.ImagePositionPatient = [f"{number:.8g}" for number in at]
        header.ImageOrientationPatient = [f"{number:.8g}" for number in across[:2].ravel()]
        header.save_as(path)
    circle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    outlines = []
    for start in starts:
        height = (start - BALL) @ across[2]
        if abs(height) < RADIUS_MM - 0.5:
            radius = np.sqrt(RADIUS_MM**2 - height**2)
            round_ = np.cos(circle)[:, None] * across[0] + np.sin(circle)[:, None] * across[1]
            outlines.append(BALL + height * across[2] + radius * round_)
    drawn = {
        "seg": segmentation(scan, {"ball": ball}, tmp_path / "seg.dcm"),
        "rtstruct": structures(tmp_path / "rs.dcm", {"ball": outlines}, header.FrameOfReferenceUID),
    }
    for name, path in drawn.items():
        volume, inside = read_region(scan, path, "ball", oblique="resample")
        assert volume.geometry.tilt_deg < 1e-3
        assert inside.sum() * volume.geometry.voxel_ml == pytest.approx(4 / 3 * np.pi * 1.4**3, rel=0.03), (
            name
        )
        at = volume.geometry.points(np.argwhere(inside)[:, ::-1])
        np.testing.assert_allclose(at.mean(0), BALL, atol=0.2, err_msg=name)
        assert np.linalg.norm(at - BALL, axis=1).max() < RADIUS_MM + 2.5
        assert volume.values[inside].mean() > 85, name
    if sheared:
        header = pydicom.dcmread(drawn["seg"])
        header.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient[0] = -21
        header.save_as(tmp_path / "moved.dcm")
        with pytest.raises(
            ValueError, match=r"moved.dcm: its planes cannot be stacked \(they do not lie in a line"
        ):
            read_region(scan, tmp_path / "moved.dcm", "ball", oblique="resample")
        with pytest.raises(ValueError, match="set oblique to 'resample'"):
            read_region(scan, drawn["seg"], "ball", oblique="keep")
    else:
        for name, path in drawn.items():
            volume, inside = read_region(scan, path, "ball", oblique="keep")
            assert (inside == ball).mean() > 0.998, name

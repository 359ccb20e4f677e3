"""CT perfusion in the files that hospitals have: DICOM as one series or one a frame, folders of volumes, sidecars."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

ROOT = "2.25.777"


def affine_of(geometry) -> np.ndarray:
    """RAS affine of an LPS grid on the patient's axes."""
    affine = np.diag([*(np.array(geometry.spacing_mm) * [-1, -1, 1]), 1.0])
    affine[:3, 3] = np.array(geometry.origin_mm) * [-1, -1, 1]
    return affine


def write_4d(path, values, geometry, interval_s=1.0, unit="sec", sidecar=None):
    """4D NIfTI with the interval in its header (None: what nibabel writes by itself), and a sidecar."""
    image = nibabel.Nifti1Image(values.transpose(3, 2, 1, 0).astype(np.int16), affine_of(geometry))
    if interval_s is not None:
        image.header.set_xyzt_units("mm", unit)
        image.header["pixdim"][4] = interval_s
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    if sidecar:
        path.with_name(path.name.split(".")[0] + ".json").write_text(json.dumps(sidecar))
    return path


def write_3d(folder, values, geometry, name="ctp_{}", clock=None):
    """A folder of volumes; with `clock` (seconds after noon) a sidecar each."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for t, volume in enumerate(values):
        image = nibabel.Nifti1Image(volume.transpose(2, 1, 0).astype(np.int16), affine_of(geometry))
        nibabel.save(image, folder / f"{name.format(t)}.nii.gz")
        if clock is not None:
            time = datetime(2026, 1, 1, 12) + timedelta(seconds=float(clock[t]))
            said = f"{time:%H:%M}:{time.second + time.microsecond / 1e6:f}"  # as dcm2niix writes 12:00:1.5
            (folder / f"{name.format(t)}.json").write_text(json.dumps({"AcquisitionTime": said}))
    return folder


def write_dicom(
    folder, values, geometry, seconds, *, each_frame=False, start=(2026, 1, 1, 12), change=None, **more
):
    """One file a slice and frame; `seconds` (frames,) or (frames, slices); `change(dataset, frame, slice)` spoils one."""
    folder, seconds = Path(folder), np.asarray(seconds, float).reshape(len(values), -1)
    folder.mkdir(parents=True, exist_ok=True)
    x_mm, y_mm, z_mm = geometry.spacing_mm
    for t, volume in enumerate(values):
        for k, plane in enumerate(volume):
            when = datetime(*start) + timedelta(seconds=float(seconds[t, k % seconds.shape[1]]))
            ds = Dataset()
            ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{ROOT}.{t + 1}.{k + 1}"
            ds.StudyInstanceUID, ds.SeriesInstanceUID = ROOT, f"{ROOT}.5.{t + 1 if each_frame else 0}"
            ds.PatientName, ds.PatientID, ds.Modality = "MADE^UP", "1", "CT"
            ds.SeriesDescription, ds.SeriesNumber = "CTP", 7 + t if each_frame else 7
            ds.InstanceNumber, ds.AcquisitionNumber = t * len(volume) + k + 1, t + 1
            ds.AcquisitionDate, ds.AcquisitionTime = when.strftime("%Y%m%d"), when.strftime("%H%M%S.%f")
            ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            ox, oy, oz = geometry.origin_mm
            ds.ImagePositionPatient = [ox, oy, oz + z_mm * k]
            ds.ImageOrientationPatient = [1.0, 0, 0, 0, 1.0, 0]
            ds.PixelSpacing, ds.SliceThickness = [y_mm, x_mm], z_mm
            ds.Rows, ds.Columns = plane.shape
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
            ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
            ds.PixelData = (np.asarray(plane, int) + 1024).astype("<i2").tobytes()
            for name, value in more.items():
                setattr(ds, name, value)
            if change and change(ds, t, k) == "left out":
                continue
            ds.file_meta = FileMetaDataset()
            ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            # names in no order, as a PACS gives them
            place = folder / (f"{t:03d}" if each_frame else "")
            place.mkdir(exist_ok=True)
            ds.save_as(place / f"{(t * 7919 + k * 104729) % 999983:06d}", enforce_file_format=True)
    return folder


def _item(**values) -> Sequence:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return Sequence([item])


def write_enhanced(path, values, geometry, seconds, number=1):
    """One file of all slices and frames (enhanced CT), each with its place and its time; slices run first."""
    path, (x_mm, y_mm, z_mm) = Path(path), geometry.spacing_mm
    path.parent.mkdir(parents=True, exist_ok=True)
    ds, shared, groups = Dataset(), Dataset(), []
    ds.SOPClassUID, ds.SOPInstanceUID = EnhancedCTImageStorage, f"{ROOT}.6.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SeriesNumber = ROOT, f"{ROOT}.5.0", 7
    ds.PatientName, ds.PatientID, ds.Modality, ds.SeriesDescription = "MADE^UP", "1", "CT", "CTP"
    ds.InstanceNumber, ds.AcquisitionDateTime, ds.AcquisitionTime = number, "20260101120000", "120000"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.Rows, ds.Columns = values.shape[2:]
    ds.NumberOfFrames = len(values) * len(values[0])
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    shared.PixelMeasuresSequence = _item(PixelSpacing=[y_mm, x_mm], SliceThickness=z_mm)
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=[1.0, 0, 0, 0, 1.0, 0])
    shared.PixelValueTransformationSequence = _item(
        RescaleIntercept="-1024", RescaleSlope="1", RescaleType="HU"
    )
    ox, oy, oz = geometry.origin_mm
    for t, second in enumerate(seconds):
        when = (datetime(2026, 1, 1, 12) + timedelta(seconds=float(second))).strftime("%Y%m%d%H%M%S.%f")
        for k in range(len(values[0])):
            group = Dataset()
            group.PlanePositionSequence = _item(ImagePositionPatient=[ox, oy, oz + z_mm * k])
            group.FrameContentSequence = _item(
                FrameAcquisitionDateTime=when,
                TemporalPositionIndex=t + 1,
                StackID="1",
                InStackPositionNumber=k + 1,
            )
            groups.append(group)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = (
        Sequence([shared]),
        Sequence(groups),
    )
    ds.PixelData = (np.asarray(values, int) + 1024).astype("<i2").tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = (
        ds.SOPClassUID,
        ds.SOPInstanceUID,
    )
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    return path

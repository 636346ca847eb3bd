"""An exam of radiographs whose hips were found and classified, put into a filled store."""

from __future__ import annotations

import hashlib
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from overread.dicom.image import Image, Images
from overread.dicom.provenance import DerivedObject, derive_uid
from overread.dicom.study import Exam as ImageExam
from overread.dicom.study import Instance as SourceImage
from overread.operators.capture import write_capture
from overread.operators.pdf import write_pdf
from overread.operators.sr import write_sr
from overread.pipelines.ports import Account, Context
from overread.store.instances import keep_ours
from overread.store.tables import Exam, Job, Result
from overread.validation.results import Class, Classification, Detection, Detections
from tests.portal.filled import AT, Filled, arrive, as_file

ROWS, COLUMNS = 240, 300
GREEN, RED = (99, 210, 155), (255, 122, 122)


def radiograph(name: str, number: int = 1, **attributes: Any) -> Dataset:
    """An AP pelvis of sorts: two femora beside a pelvis."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS].astype(float)
    image = 300 + 200 * np.exp(-(((x - 150) / 130) ** 2) - ((y - 120) / 110) ** 2)
    for side in (70, 230):
        image += 900 * (np.hypot(x - side, y - 120) < 22)
        image += 700 * ((abs(x - side - (20 if side > 150 else -20)) < 14) & (y > 120))
    image += np.random.default_rng(number).normal(0, 12, image.shape)
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = DigitalXRayImageStorageForPresentation
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    one.SOPInstanceUID = derive_uid(name, "image", str(number))
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    one.SpecificCharacterSet = "ISO_IR 192"
    one.StudyInstanceUID, one.SeriesInstanceUID = derive_uid(name), derive_uid(name, "series")
    one.PatientName, one.PatientID = "PHANTOM^HIP", "PH-0040"
    one.PatientBirthDate, one.PatientSex = "19440512", "F"
    one.AccessionNumber, one.StudyID, one.ReferringPhysicianName = name, "1", ""
    one.StudyDate = one.SeriesDate = one.ContentDate = "20260602"
    one.StudyTime = one.SeriesTime = one.ContentTime = "091500"
    one.StudyDescription, one.SeriesDescription = "XR PELVIS", "AP PELVIS"
    one.Modality, one.BodyPartExamined, one.ViewPosition = "DX", "PELVIS", "AP"
    one.PatientOrientation = ["L", "F"]
    one.SeriesNumber, one.InstanceNumber = 1, number
    one.ImagerPixelSpacing = [1.4, 1.4]
    one.Rows, one.Columns = ROWS, COLUMNS
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
    one.WindowCenter, one.WindowWidth = 900, 1800
    one.PixelData = image.clip(0, 4095).astype("<u2").tobytes()
    for keyword, value in attributes.items():
        setattr(one, keyword, value)
    return one


def found_in(uids: list[str]) -> tuple[Detections, Classification]:
    """Two hips in each image; the left one of the first is broken."""
    boxes = {"Right hip": (35.0, 80.0, 115.0, 180.0), "Left hip": (185.0, 80.0, 265.0, 180.0)}
    items = [
        Detection(f"{2 * index + number}", label, 0.99 - index / 100, uid, 0, box)
        for index, uid in enumerate(uids)
        for number, (label, box) in enumerate(boxes.items(), start=1)
    ]
    classes = []
    for one in items:
        is_broken = one.id == "2"
        values = {"Normal": 0.07, "Fracture": 0.9, "Hardware": 0.03}
        if not is_broken:
            values |= {"Normal": 0.94, "Fracture": 0.03}
        label = "Fracture" if is_broken else "Normal"
        classes.append(
            Class(
                one.label, label, values[label], values, one.image, 0, one.box, one.id,
                colour=RED if is_broken else GREEN,
            )
        )  # fmt: skip
    return (
        Detections(tuple(items), tuple(uids), "hip-detector@1.0.0"),
        Classification(tuple(classes), tuple(uids), "hip-classifier@1.0.0"),
    )


def hips(
    filled: Filled, name: str, datasets: list[Dataset], *, nothing: bool = False, at: datetime = AT
) -> str:
    """Let radiographs arrive, with a job that is done and everything it found; the case's id."""
    uids = [str(one.SOPInstanceUID) for one in datasets]
    detections, classification = found_in(uids)
    if nothing:
        detections = Detections((), tuple(uids), "hip-detector@1.0.0")
        classification = Classification((), tuple(uids), "hip-classifier@1.0.0")
    objects = _objects(name, datasets, detections, classification, at)
    with filled.database.write() as session:
        kept = arrive(filled, session, datasets, at, "CI2_CD_BTS")
        from tests.portal.filled import _exam_row, _gather, _job_row

        exam = _exam_row(kept[0], "closed", "", at)
        exam.pipeline = "hip-fracture"
        session.add(exam)
        session.flush()
        _gather(session, exam, kept)
        job = _job_row(exam, "done", "", at)
        job.models = [
            {
                "name": model,
                "version": "1.0.0",
                "digest": hashlib.sha256(model.encode()).hexdigest(),
            }
            for model in ("hip-detector", "hip-classifier")
        ]
        session.add(job)
        session.flush()
        session.add(_row(exam, job, "hips", "detections", detections.to_json()))
        session.add(_row(exam, job, "classes", "classification", classification.to_json()))
        for made in objects:
            one = keep_ours(session, filled.archive, made.encode(), job.created_at)
            data = {"sop_instance_uid": made.uid, "series_uid": one.series_uid, "segments": []}
            session.add(_row(exam, job, made.kind, made.kind, data, one.id))
        filled.cases[name], filled.jobs[name] = exam.root_id, job.id
        return exam.root_id


def _objects(
    name: str,
    datasets: list[Dataset],
    detections: Detections,
    classification: Classification,
    at: datetime,
) -> list[DerivedObject]:
    """A capture, a report and a document, by the operators themselves."""
    with tempfile.TemporaryDirectory() as folder:
        images, sources = [], []
        for number, dataset in enumerate(datasets):
            file = Path(folder) / f"{number}.dcm"
            file.write_bytes(as_file(dataset))
            sources.append(SourceImage(dataset, file))
            pixels = dataset.pixel_array.astype(np.float32)
            pixels = pixels if pixels.ndim == 2 else pixels.mean(axis=-1)
            images.append(Image(pixels, str(dataset.SOPInstanceUID), spacing=(1.4, 1.4)))
        exam, made = ImageExam(tuple(sources)), []

        def context(step: str) -> Context:
            return Context(name, step, at, "hip-fracture", "1.0.0")

        capture = write_capture(
            exam, context("capture"), Account(), images=Images(tuple(images)),
            detections=detections, classification=classification, size=512,
        )  # fmt: skip
        made.append(capture)
        found: dict[str, Any] = {"detections": detections, "classification": classification}
        made.append(write_sr(exam, context("sr"), Account(), **found))
        made.append(write_pdf(exam, context("pdf"), Account(), **found, capture=capture))
        return made


def _row(
    exam: Exam, job: Job, name: str, kind: str, data: dict[str, Any], instance: int | None = None
) -> Result:
    return Result(
        name=name,
        kind=kind,
        data=data,
        instance_id=instance,
        job_id=job.id,
        exam_id=exam.id,
        digest=hashlib.sha256(f"{job.id}{name}".encode()).hexdigest(),
        model="hip-classifier",
        model_version="1.0.0",
        model_digest=hashlib.sha256(b"model").hexdigest(),
        pipeline=exam.pipeline,
        pipeline_version=job.pipeline_version,
        sources=[],
        version=1,
        created_at=job.ended_at,
    )

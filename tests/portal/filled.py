"""A site whose store is filled by rows, as receiver and engine leave it: for the portal's tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread.dicom import match
from overread.dicom.codes import Code, Segment
from overread.dicom.derived import Algorithm, Making
from overread.dicom.provenance import derive_uid
from overread.dicom.seg import write_seg
from overread.dicom.study import Instance as Image
from overread.dicom.study import Origin, Series
from overread.dicom.volume import Mask
from overread.identity.local import hash_password
from overread.pipelines.definition import Pipeline
from overread.routing.rules import Route
from overread.settings import Portal, Settings, Site
from overread.site import SiteFolder
from overread.store import users
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.instances import keep, keep_ours, take
from overread.store.tables import (
    Arrival,
    Exam,
    ExamInstance,
    Instance,
    Job,
    Result,
    StepRun,
    new_id,
)
from overread.validation.results import Measurement, Measurements

PASSWORDS = {"rosa": "a reader's password", "egon": "an engineer's password"}
AT = datetime(2026, 6, 2, 9, 30, tzinfo=UTC)
SPACING = (3.0, 1.5, 1.5)
SHAPE = (16, 128, 128)
COLOUR = (230, 60, 200)
"""A colour that nothing else on the pages has."""

TUMOUR = Segment(
    1,
    "Enhancing tumour",
    Code("49755003", "SCT", "Morphologically Altered Structure"),
    Code("86049000", "SCT", "Neoplasm, Primary"),
    colour=COLOUR,
)

DEFINITION: dict[str, Any] = {
    "name": "brain-tumour",
    "version": "1.0.0",
    "title": "Brain tumour",
    "ae_title": "CI2_CD_BTS",
    "stage": "validation",
    "complete": {"by": "study", "quiet": "30s", "deadline": "60m"},
    "steps": {
        "t1c": {"use": "select_series", "with": {"where": "always"}},
        "volume": {"use": "read_volume", "in": {"series": "t1c"}},
        "mask": {"use": "threshold", "in": {"volume": "volume"}},
        "volumes": {"use": "measure_volumes", "in": {"mask": "mask"}},
        "seg": {"use": "write_seg", "in": {"mask": "mask", "source": "t1c"}},
    },
    "results": ["volumes", "seg"],
}


def make_site(root: Path, **portal: Any) -> SiteFolder:
    """A site with one pipeline and one route to it."""
    root.mkdir(parents=True, exist_ok=True)
    settings = Settings(site=Site(name="Phantom clinic"), portal=Portal(**portal), root=root)
    route = Route(
        name="brain to the tumour pipeline",
        when=match.parse({"StudyDescription": {"like": "*BRAIN*"}}),
        send_to=("CI2_CD_BTS",),
    )
    pipeline = Pipeline.model_validate(DEFINITION)
    return SiteFolder(root, settings, (route,), {pipeline.name: pipeline}, {}, {}, {})


@dataclass
class Patient:
    """Who an exam is of."""

    name: str = "PHANTOM^SIX"
    id: str = "PH-0006"
    birth: str = "19710204"
    sex: str = "F"
    issuer: str = ""


@dataclass
class Filled:
    """What the store was filled with: case ids and UIDs by a short name."""

    site: SiteFolder
    database: Database
    archive: Archive
    cases: dict[str, str] = field(default_factory=dict)
    studies: dict[str, str] = field(default_factory=dict)
    segs: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)


def head() -> NDArray[np.int16]:
    """A head of sorts: skull, brain, ventricles."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = np.sqrt((x / 0.78) ** 2 + (y / 0.92) ** 2 + (z / 1.4) ** 2)
    image = np.where(radius < 1, 320, 0)
    image = np.where(radius < 0.93, 90, image)
    image = np.where(radius < 0.88, 190 + 40 * np.cos(9 * x) * np.cos(7 * y), image)
    image = np.where((np.abs(np.abs(x) - 0.12) < 0.07) & (np.abs(y) < 0.32), 60, image)
    noise = np.random.default_rng(7).normal(0, 6, SHAPE)
    return np.clip(image + noise * (radius < 1), 0, None).astype(np.int16)


def lesion(radius_mm: float) -> NDArray[np.bool_]:
    """A ball in the left hemisphere."""
    index = np.indices(SHAPE).astype(float)
    centre = (8, 52, 86)
    distance = sum(((index[axis] - centre[axis]) * SPACING[axis]) ** 2 for axis in range(3))
    return np.asarray(np.sqrt(distance) <= radius_mm)


def mr_slices(
    study: str, patient: Patient, accession: str, date: str, description: str, mask: NDArray[Any]
) -> list[Dataset]:
    """An axial MR series whose lesion is bright."""
    volume = head()
    volume[mask] = 420
    slices = []
    for number in range(SHAPE[0]):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = MRImageStorage
        one.SOPInstanceUID = derive_uid(study, "t1c", str(number))
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        one.SpecificCharacterSet = "ISO_IR 192"
        one.StudyInstanceUID = derive_uid(study)
        one.SeriesInstanceUID = derive_uid(study, "t1c")
        one.FrameOfReferenceUID = derive_uid(study, "frame")
        one.PatientName, one.PatientID = patient.name, patient.id
        one.PatientBirthDate, one.PatientSex = patient.birth, patient.sex
        if patient.issuer:
            one.IssuerOfPatientID = patient.issuer
        one.AccessionNumber, one.StudyID = accession, "1"
        one.StudyDate = one.SeriesDate = one.ContentDate = date
        one.StudyTime = one.SeriesTime = one.ContentTime = "083000"
        one.StudyDescription, one.SeriesDescription = description, "AX T1 POST"
        one.ReferringPhysicianName = ""
        one.Modality, one.Manufacturer, one.BodyPartExamined = "MR", "Phantom", "BRAIN"
        one.SeriesNumber, one.InstanceNumber = 4, number + 1
        one.ImageType = ["ORIGINAL", "PRIMARY", "M", "SE"]
        one.ScanningSequence, one.SequenceVariant, one.ScanOptions = "SE", "NONE", ""
        one.MRAcquisitionType, one.EchoTime, one.RepetitionTime = "2D", 10, 500
        one.EchoTrainLength, one.MagneticFieldStrength, one.FlipAngle = 1, 3, 90
        one.PatientPosition, one.PositionReferenceIndicator, one.Laterality = "HFS", "", ""
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [-96, -96, number * SPACING[0]]
        one.PixelSpacing, one.SliceThickness = [SPACING[1], SPACING[2]], SPACING[0]
        one.SpacingBetweenSlices = SPACING[0]
        one.Rows, one.Columns = SHAPE[1:]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.WindowCenter, one.WindowWidth = 210, 440
        one.PixelData = volume[number].astype("<i2").tobytes()
        slices.append(one)
    return slices


def as_file(dataset: Dataset) -> bytes:
    """A PS3.10 file of it."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def arrive(
    filled: Filled, session: Session, datasets: list[Dataset], at: datetime, called: str
) -> list[Instance]:
    """Let images arrive, as the receiver does."""
    kept = []
    for dataset in datasets:
        incoming = take(filled.archive, as_file(dataset), at)
        one = keep(
            session,
            filled.archive,
            incoming,
            at=at,
            origin=Origin("MRPILOT1", called, "127.0.0.1"),
            association_id=None,
            decisions=[],
            pipelines={"CI2_CD_BTS"},
        )
        kept.append(session.get_one(Instance, one.instance_id))
    return kept


class Filler:
    """Fills a site's store, an exam at a time."""

    def __init__(self, site: SiteFolder) -> None:
        database = Database(site.settings.database_url)
        database.upgrade()
        self.filled = Filled(site, database, Archive(site.settings.data / "archive"))

    def exam(
        self,
        name: str,
        *,
        patient: Patient | None = None,
        accession: str = "",
        date: str = "20260602",
        description: str = "MR BRAIN NAV",
        radius: float = 12.0,
        state: str = "done",
        reason: str = "",
        exam_state: str = "closed",
        at: datetime = AT,
        study: str = "",
        model_version: str = "1.0.0",
        header: Mapping[str, Any] | None = None,
    ) -> None:
        """One exam and its job in some state; ``radius`` 0 marks nothing.

        ``header`` is what its images say otherwise than all do.
        """
        patient = patient or Patient()
        marked = lesion(radius) if radius else np.zeros(SHAPE, bool)
        slices = mr_slices(
            study or name, patient, accession, date, description, lesion(radius or 9)
        )
        for one in slices:
            for keyword, value in (header or {}).items():
                setattr(one, keyword, value)
        filled = self.filled
        with filled.database.write() as session:
            kept = arrive(filled, session, slices, at, "CI2_CD_BTS")
            exam = _exam_row(kept[0], exam_state, reason if exam_state == "held" else "", at)
            session.add(exam)
            session.flush()
            _gather(session, exam, kept)
            filled.cases[name], filled.studies[name] = exam.root_id, exam.study_uid
            if state:
                job = _job_row(exam, state, reason, at)
                job.models = [{**model, "version": model_version} for model in job.models]
                session.add(job)
                session.flush()
                filled.jobs[name] = job.id
                _steps(session, job, state, reason, at)
                if state == "done":
                    filled.segs[name] = self._results(session, exam, job, slices, marked)

    def _results(
        self,
        session: Session,
        exam: Exam,
        job: Job,
        slices: list[Dataset],
        marked: NDArray[np.bool_],
    ) -> str:
        affine = np.array(
            [[0, 0, SPACING[2], -96], [0, SPACING[1], 0, -96], [SPACING[0], 0, 0, 0], [0, 0, 0, 1]],
            dtype=float,
        )
        mask = Mask(marked.astype(np.uint8), affine, (TUMOUR,), str(slices[0].FrameOfReferenceUID))
        made = write_seg(
            mask,
            Series(tuple(Image(one) for one in slices)),
            Making(
                made_by=(job.id, "seg"),
                at=job.created_at,
                zone="UTC",
                algorithm=Algorithm("brain-tumour", "1.0.0"),
                device="brain-tumour 1.0.0",
                tags={"SeriesDescription": "AI tumour"},
            ),
        )
        instance = keep_ours(session, self.filled.archive, made.encode(), job.created_at)
        millilitres = float(marked.sum() * np.prod(SPACING) / 1000)
        volumes = Measurements(
            (
                Measurement(
                    TUMOUR.label, "volume", millilitres, "mL", "voxels counted × volume of a voxel"
                ),
            )
        )
        common: dict[str, Any] = {
            "job_id": job.id,
            "exam_id": exam.id,
            "digest": hashlib.sha256(job.id.encode()).hexdigest(),
            "model": "brain-tumour",
            "model_version": job.models[0]["version"],
            "model_digest": job.models[0]["digest"],
            "pipeline": exam.pipeline,
            "pipeline_version": job.pipeline_version,
            "sources": [str(one.SOPInstanceUID) for one in slices],
            "version": 1,
            "created_at": job.ended_at,
        }
        session.add(Result(name="volumes", kind="measurements", data=volumes.to_json(), **common))
        session.add(
            Result(
                name="seg",
                kind="segmentation",
                data={"segments": [asdict(TUMOUR)]},
                instance_id=instance.id,
                **common,
            )
        )
        return instance.series_uid

    def edit(
        self, name: str, author: str, millilitres: float, version: int = 2, *, project: str = ""
    ) -> None:
        """Another volume of an exam, by a reader: as the engine leaves an edit that it measured."""
        with self.filled.database.write() as session:
            root_id = self.filled.cases[name]
            of_exam = select(Result).where(Result.exam_id == root_id, Result.name == "volumes")
            model = session.scalars(of_exam.where(Result.author == "")).one()
            before = session.scalars(
                of_exam.where(Result.author == author, Result.superseded_by.is_(None))
            ).one_or_none()
            job = _job_row(session.get_one(Exam, root_id), "done", "", AT)
            job.id = hashlib.md5(f"{root_id} {author} {version}".encode()).hexdigest()  # noqa: S324
            job.origin, job.created_at = "edit", AT + timedelta(hours=version)
            session.add(job)
            session.flush()
            item = replace(Measurements.from_json(model.data).items[0], value=millilitres)
            columns = {
                column.name: getattr(model, column.name) for column in Result.__table__.columns
            }
            columns |= {
                "id": new_id(),
                "job_id": job.id,
                "data": Measurements((item,)).to_json(),
                "author": author,
                "edits": model.id,
                "project": project,
                "version": version,
                "created_at": job.created_at,
            }
            made = Result(**columns)
            session.add(made)
            if before is not None:
                before.superseded_by = made.id

    def without_case(self, accession: str, description: str = "MR KNEE", pid: str = "PH-9") -> None:
        """Images at the router's own AE title that no pipeline took."""
        patient = Patient("PHANTOM^KNEE", pid)
        slices = mr_slices(accession, patient, accession, "20260601", description, lesion(5))
        with self.filled.database.write() as session:
            arrive(self.filled, session, slices[:3], AT, "OVERREAD")


def _exam_row(first: Instance, state: str, reason: str, at: datetime) -> Exam:
    exam = Exam(
        id=hashlib.md5(f"{first.study_uid}{first.patient_id}".encode()).hexdigest(),  # noqa: S324
        revision=1,
        pipeline="brain-tumour",
        ae_title="CI2_CD_BTS",
        group=first.study_uid,
        patient_id=first.patient_id,
        issuer=first.issuer,
        patient_name=first.patient_name,
        study_uid=first.study_uid,
        accession=first.accession,
        study_date=first.study_date,
        study_description=first.study_description,
        modality=first.modality,
        state=state,
        held_reason=reason,
        opened_at=at,
        last_arrival_at=at + timedelta(seconds=4),
        due_at=at + timedelta(seconds=34),
        closed_at=at + timedelta(seconds=34) if state == "closed" else None,
        evidence={"decided_by": "quiet time", "series": 1},
        priority=10,
    )
    exam.root_id = exam.id
    return exam


def _gather(session: Session, exam: Exam, kept: list[Instance]) -> None:
    for one in kept:
        arrival = session.query(Arrival).filter_by(instance_id=one.id).first()
        assert arrival is not None
        arrival.disposition, arrival.exam_id = "gathered", exam.id
        session.add(ExamInstance(exam_id=exam.id, instance_id=one.id, arrival_id=arrival.id))


def _job_row(exam: Exam, state: str, reason: str, at: datetime) -> Job:
    begun = at + timedelta(seconds=35)
    return Job(
        id=hashlib.md5(f"job {exam.id}".encode()).hexdigest(),  # noqa: S324
        exam_id=exam.id,
        pipeline=exam.pipeline,
        pipeline_version="1.0.0",
        pipeline_digest=hashlib.sha256(b"pipeline").hexdigest(),
        definition=DEFINITION,
        models=[
            {
                "name": "brain-tumour",
                "version": "1.0.0",
                "digest": hashlib.sha256(b"model").hexdigest(),
            }
        ],
        operators={"threshold": "overread 0.1.0"},
        overread_version="0.1.0",
        stage="validation",
        priority=10,
        origin="routed",
        state=state,
        reason=reason,
        attempt=1,
        from_step="",
        worker="" if state == "queued" else "worker-1",
        created_at=begun,
        started_at=None if state == "queued" else begun + timedelta(seconds=0.2),
        ended_at=begun + timedelta(seconds=14.6) if state not in ("queued", "running") else None,
    )


_REPORTS: Mapping[str, dict[str, Any]] = {
    "t1c": {
        "used": [["AX T1 POST (series 4)", "16 images; matches SeriesDescription T1.*POST"]],
        "unused": [["LOCALIZER (series 1)", "SeriesDescription is not like T1.*POST"]],
        "notes": [],
    },
    "volume": {"used": [], "unused": [], "notes": ["16 slices, 3.00 mm apart, no gap"]},
}


def _steps(session: Session, job: Job, state: str, reason: str, at: datetime) -> None:
    if state == "queued":
        return
    names = list(DEFINITION["steps"])
    stops_at = {"refused": 1, "failed": 2, "running": 2}.get(state, len(names))
    clock = at + timedelta(seconds=35.2)
    for position, name in enumerate(names[: stops_at + 1] if stops_at < len(names) else names):
        last = position == stops_at
        lasts = timedelta(seconds=[0.3, 1.1, 11.4, 0.2, 0.9][position])
        session.add(
            StepRun(
                job_id=job.id,
                name=name,
                attempt=1,
                runs=1,
                position=position,
                operator=DEFINITION["steps"][name]["use"],
                state=state if last else "done",
                inputs={"series": {"step": "t1c", "digest": "9f2c" * 16}},
                outputs={} if last else {"type": "Volume", "files": {"volume.nii.gz": "51ab" * 16}},
                settings=DEFINITION["steps"][name].get("with", {}),
                report=_REPORTS.get(name, {}),
                error=reason if last and state in ("refused", "failed") else "",
                log="loading\nwindow 1 of 12\nwindow 12 of 12\n" if name == "mask" else "",
                progress={"done": 12, "of": 40, "what": "windows"} if state == "running" else {},
                worker="worker-1",
                started_at=clock,
                ended_at=None if last and state == "running" else clock + lasts,
            )
        )
        clock += lasts


def fill(site: SiteFolder) -> Filled:
    """Everything that the pages can show."""
    filler = Filler(site)
    six = Patient()
    dates = {"20250309": 10.0, "20250903": 10.3, "20260112": 12.0, "20260308": 14.0}
    for number, (date, radius) in enumerate(dates.items(), start=1):
        filler.exam(
            f"six-{number}", patient=six, accession=f"PH-A-010{number}", date=date, radius=radius,
            at=AT - timedelta(days=100 - number),
        )  # fmt: skip
    filler.exam("six", patient=six, accession="PH-A-0106", radius=13.4)
    filler.exam(
        "empty", patient=Patient("PHANTOM^CLEAR", "PH-0011", "19850612", "M"),
        accession="PH-B-0001", radius=0, at=AT + timedelta(minutes=1),
    )  # fmt: skip
    filler.exam(
        "refused", patient=Patient("PHANTOM^FRUIT", "PH-0012"), accession="PH-C-0001",
        state="refused", at=AT + timedelta(minutes=2),
        reason="missing slice: between 12.0 mm and 18.0 mm one slice is missing; "
        "expected one every 3.0 mm",
    )  # fmt: skip
    filler.exam(
        "failed", patient=Patient("PHANTOM^BROKEN", "PH-0013"), accession="PH-D-0001",
        state="failed", at=AT + timedelta(minutes=3),
        reason="step mask took more than its 8.0 GB of memory and was stopped",
    )  # fmt: skip
    filler.exam(
        "running", patient=Patient("PHANTOM^TWO", "PH-0014"), accession="PH-E-0001",
        state="running", at=AT + timedelta(minutes=4),
    )  # fmt: skip
    filler.exam(
        "arriving", patient=Patient("PHANTOM^NINE", "PH-0015"), accession="PH-F-0001",
        state="", exam_state="open", at=AT + timedelta(minutes=5),
    )  # fmt: skip
    filler.exam(
        "held", patient=Patient("PHANTOM^ONE", "PH-0016"), accession="PH-G-0001", state="",
        exam_state="held", at=AT + timedelta(minutes=6),
        reason="its StudyInstanceUID came under two patients",
    )  # fmt: skip
    filler.exam("nobody", patient=Patient("PHANTOM^NOBODY", ""), accession="PH-H-0001", radius=8)
    for number, pid in enumerate(("PH-0020", "PH-0021")):
        filler.exam(
            f"double-{number}", patient=Patient(f"PHANTOM^DOUBLE{number}", pid),
            accession="PH-DOUBLE",
        )  # fmt: skip
    filler.without_case("PH-NOWHERE")
    with filler.filled.database.write() as session:
        for name, role in (("rosa", "reader"), ("egon", "engineer")):
            users.add_user(
                session, AT, "test", name=name, secret=hash_password(PASSWORDS[name]), role=role
            )
    return filler.filled

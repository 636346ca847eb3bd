"""The tables: what arrived, what was decided, what was made, who looked.

Times are UTC and aware. DICOM dates and times stay text, as written. Ids that leave this house are
opaque text; none of them is derived from a patient.
"""

from overread.store.tables.arrived import (
    Arrival,
    Association,
    Exam,
    ExamInstance,
    Instance,
    Quarantine,
    Turned,
)
from overread.store.tables.audited import AuditSeal, SeriesGiven, SiteFile
from overread.store.tables.base import Base, UTCDateTime, name_key, new_id
from overread.store.tables.lists import Considered, Notice, Tally
from overread.store.tables.people import (
    Audit,
    Enrolment,
    FailedSignIn,
    Held,
    Reading,
    Session,
    User,
)
from overread.store.tables.work import (
    Delivery,
    Job,
    Lease,
    Result,
    StepRun,
    Worker,
)

__all__ = [
    "Arrival",
    "Association",
    "Audit",
    "AuditSeal",
    "Base",
    "Considered",
    "Delivery",
    "Enrolment",
    "Exam",
    "ExamInstance",
    "FailedSignIn",
    "Held",
    "Instance",
    "Job",
    "Lease",
    "Notice",
    "Quarantine",
    "Reading",
    "Result",
    "SeriesGiven",
    "Session",
    "SiteFile",
    "StepRun",
    "Tally",
    "Turned",
    "UTCDateTime",
    "User",
    "Worker",
    "name_key",
    "new_id",
]

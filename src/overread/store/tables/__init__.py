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
from overread.store.tables.base import Base, UTCDateTime, new_id
from overread.store.tables.people import (
    Audit,
    Enrolment,
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
    "Base",
    "Delivery",
    "Enrolment",
    "Exam",
    "ExamInstance",
    "Held",
    "Instance",
    "Job",
    "Lease",
    "Quarantine",
    "Reading",
    "Result",
    "Session",
    "StepRun",
    "Turned",
    "UTCDateTime",
    "User",
    "Worker",
    "new_id",
]

"""The audit: what was done, by whom, to what. Only ever appended to.

It is told, it decides nothing. It holds opaque ids, never patient data.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from overread.store.tables import Audit


def record(  # noqa: PLR0917 - a sentence: at this time, this one did this to that
    session: Session,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
    *,
    address: str = "",
    sign_in: str = "",
) -> None:
    """Append one row, in the transaction of what it tells of.

    Parameters
    ----------
    session : Session
        A writing session.
    at : datetime
        Aware.
    actor : str
        A user's name, an AE title or ``overread``.
    action : str
        A verb, such as ``open exam`` or ``retry job``.
    subject : str
        Kind and opaque id, such as ``job 3f…``.
    detail : mapping, optional
        Plain JSON without patient data: no name, PatientID, accession number or DICOM UID.
    address : str
        Network address that it came from.
    sign_in : str
        Id of the sign-in or token that was used.
    """
    session.add(
        Audit(
            at=at,
            actor=actor,
            action=action,
            subject=subject,
            detail=dict(detail or {}),
            address=address,
            session=sign_in,
        )
    )

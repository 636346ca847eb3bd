"""An edit of a segmentation that a person stores: checked, kept as a version, and told of."""

from __future__ import annotations

import math

from fastapi import Request
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from sqlalchemy.orm import Session

from overread.dicom.encoded import Encoded
from overread.engine.edits import keep_edit
from overread.errors import Refused
from overread.portal.auth import tell
from overread.portal.dicomweb.scope import case_of
from overread.portal.state import Portal
from overread.store import edits, visible
from overread.store.tables import Result
from overread.store.users import Signed
from overread.validation.permissions import may

LARGEST = 512 << 20
"""Bytes of an edit: one bit, or one byte packed, for each voxel of a large series."""

SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless)
"""What an edit may be encoded in: what viewers write, and nothing that a native codec decodes."""

_ELEMENT = 12
"""Bytes of a pixel data element that holds nothing: tag, VR and length."""


class NotYours(Refused):
    """The object belongs to no case that the one who stores it may edit."""


def accept(
    portal: Portal, request: Request, signed: Signed, data: bytes, encoded: Encoded
) -> Result:
    """Keep a stored Segmentation as a new version of the result that it edits.

    It is looked at whole before anything of it is kept, and what is kept (object, version, the job
    that measures it, what the audit is told) is kept in one transaction.

    Parameters
    ----------
    data : bytes
        A PS3.10 file.
    encoded : Encoded
        The same, its header read.

    Returns
    -------
    Result
        The version: the one from before where the same object was stored before.

    Raises
    ------
    NotYours
        It was not drawn on images of a case that the person may edit.
    Refused
        It does not lie on the images that the result was made from, or is not of its segments.
    """
    if len(data) > LARGEST:
        raise Refused(f"the segmentation has more than {LARGEST >> 20} MB")
    if len(encoded.pixels()) <= _ELEMENT:
        raise Refused("the segmentation has no pixels; wait until it is drawn, and save it again")
    if encoded.transfer_syntax not in SYNTAXES:
        raise Refused("the segmentation is compressed; save it uncompressed, or as RLE")
    header = encoded.header
    if encoded.transfer_syntax != RLELossless and len(encoded.pixels()) < _bytes(header):
        raise Refused("the segmentation's pixels end before its last frame; save it again")
    with portal.database.read() as session:
        projects = _projects(request, session, signed, header)
        base = edits.find_base(session, projects, header)
        edits.check(session, portal.archive, header, base)
        edits.check_own_series(session, header, signed.account.id)
        project = _one_of(projects[base.root_id])
        checked, name, root_ids = base.result.id, base.result.name, [base.root_id]
    with portal.database.write() as session:
        base = next(one for one in edits.bases(session, root_ids) if one.result.name == name)
        if base.result.id != checked:  # a newer result has come since
            edits.check(session, portal.archive, header, base)
        edit = keep_edit(
            session,
            portal.archive,
            portal.site,
            data,
            base=base,
            author=signed.account.id,
            at=portal.now(),
            project=project,
        )
        if edit.is_new:
            detail = {"edits": base.result.id, "version": edit.result.version}
            tell(session, request, "edit segmentation", f"result {edit.result.id}", detail)
        return edit.result


def _bytes(header: Dataset) -> int:
    """Return how many bytes uncompressed pixels have at least, by what the header says."""
    values = (header.get(name) for name in ("NumberOfFrames", "Rows", "Columns", "BitsAllocated"))
    try:
        return math.prod(int(value or 0) for value in values) // 8
    except (TypeError, ValueError) as error:
        raise Refused("the segmentation says not how large it is; save it again") from error


def _projects(
    request: Request, session: Session, signed: Signed, header: Dataset
) -> dict[str, list[str]]:
    """Return the exams that an edit may be of, by root, each with the projects to edit it in.

    An exam that is in no project has the one that is empty.

    Raises
    ------
    NotYours
        There is none.
    """
    case = case_of(request, session)
    if case is not None:
        of_exams = {case.case.id: case.projects}
    else:
        drawn_on = edits.drawn_on(session, header)
        of_exams = {one: sorted(visible.projects_of(session, one)) for one in drawn_on}
    may_edit = {
        root_id: [
            one
            for one in projects or [""]
            if may(signed.actor, "image.edit", projects=[one] if one else []).yes
        ]
        for root_id, projects in of_exams.items()
    }
    found = {root_id: projects for root_id, projects in may_edit.items() if projects}
    if not found:
        raise NotYours(
            "the segmentation was not drawn on images of a case that you may edit; nothing is kept"
        )
    return found


def _one_of(projects: list[str]) -> str:
    """Return the project that an edit is made in.

    Raises
    ------
    Refused
        There are several: whose people are to see it is not guessed.
    """
    if len(projects) > 1:
        raise Refused(
            f"the exam is a case of several projects ({', '.join(projects)}); open the viewer from "
            "the case that is meant, and save it there"
        )
    return projects[0]

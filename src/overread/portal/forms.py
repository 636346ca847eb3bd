"""The preview of a form, for who writes it: as a reader will see it, and what its answers become.

It is read anew at every load, so that who writes it saves the file and loads the page again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from overread.errors import Fault
from overread.portal import questions
from overread.portal.auth import require
from overread.portal.readings import Sent
from overread.portal.state import Here, Portal
from overread.portal.viewer import NoSuchPage
from overread.site.projects import read_form
from overread.store.users import Signed
from overread.validation.answer_text import decode
from overread.validation.answers import Checked, check_answers
from overread.validation.forms import Form

router = APIRouter(include_in_schema=False)

MayPreview = Annotated[Signed, Depends(require("form.preview"))]

EXAMPLE_REGIONS = ("first region", "second region")
"""Rows of grids that ask of each region of a case's results."""


@router.get("/forms/{name}/preview")
def preview(request: Request, portal: Here, signed: MayPreview, name: str) -> Response:
    """Show a form as its file is now, or every fault of it with file and line."""
    form, faults = _read(portal, name)
    context: dict[str, Any] = {
        "signed": signed, "name": name, "title": name, "faults": faults, "form": form, "groups": [],
        "users": [one.shown for one in portal.site.projects.values() if one.form == name],
        "checked": None,
    }  # fmt: skip
    if form is not None:
        context |= {"title": form.title, **_checked(form, {})}
    return portal.templates.TemplateResponse(request, "form_preview.html", context)


@router.post("/forms/{name}/preview")
def try_answers(
    request: Request, portal: Here, signed: MayPreview, name: str, given: Sent
) -> Response:
    """Say what answers would be kept as, and what is wrong with them; nothing is kept."""
    form, faults = _read(portal, name)
    context: dict[str, Any] = {"signed": signed, "faults": faults, "checked": None}
    if form is not None:
        context |= _checked(form, decode(form.layout.on(EXAMPLE_REGIONS), given))
    return portal.templates.TemplateResponse(request, "_preview_answers.html", context)


def _read(portal: Portal, name: str) -> tuple[Form | None, list[Fault]]:
    """Read a form's file.

    Raises
    ------
    NoSuchPage
        The site has no such form.
    """
    root = portal.site.root
    file = next((one for one in root.glob("forms/*.json") if one.stem == name), None)
    if file is None:
        raise NoSuchPage("There is no such form")
    return read_form(root, file.relative_to(root))


def _checked(form: Form, answers: Mapping[str, Any]) -> dict[str, Any]:
    checked: Checked = check_answers(form, dict(answers), regions=EXAMPLE_REGIONS)
    groups = questions.lay_out(form.layout.on(EXAMPLE_REGIONS), answers)
    return {"groups": groups, "checked": checked, "anchors": questions.anchors(groups)}

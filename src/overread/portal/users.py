"""The administrator's pages: users, the roles that they hold, where they are signed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from overread.errors import UsageError
from overread.portal.auth import by, require
from overread.portal.state import Here, Portal
from overread.store import sessions, users
from overread.store.tables import User
from overread.store.users import Signed
from overread.validation.permissions import ROLES, Grant

router = APIRouter(include_in_schema=False)

MayList = Annotated[Signed, Depends(require("user.list"))]
MayChange = Annotated[Signed, Depends(require("user.change"))]


def _by_place(grants: frozenset[Grant]) -> list[Grant]:
    return sorted(grants, key=lambda one: (one.project, one.role))


def _by_files(portal: Portal, user: User) -> frozenset[Grant]:
    return portal.site.grants(user.name, frozenset(user.groups))


@router.get("/users")
def users_page(request: Request, portal: Here, signed: MayList) -> Response:
    """List everybody who has ever been let in, with their roles."""
    with portal.database.read() as session:
        listed = [
            (user, _by_place(users.held(session, user.id) | _by_files(portal, user)))
            for user in users.list_users(session)
        ]
    return portal.templates.TemplateResponse(
        request, "users.html", {"signed": signed, "users": listed}
    )


def _find(session: Session, user_id: str) -> User:
    user = session.get(User, user_id)
    if user is None:
        raise HTTPException(404, "there is no such user")
    return user


def _page(request: Request, portal: Portal, signed: Signed, user_id: str, **more: Any) -> Response:
    now = portal.now()
    with portal.database.read() as session:
        user = _find(session, user_id)
        context = {
            "signed": signed,
            "user": user,
            "now": now,
            "held": _by_place(users.held(session, user.id)),
            "by_files": _by_place(_by_files(portal, user)),
            "sessions": sessions.listed(session, now, user.id),
            "roles": ROLES,
            "projects": sorted(portal.site.projects),
            "problem": "",
        }
    status = 400 if more.get("problem") else 200
    return portal.templates.TemplateResponse(
        request, "user.html", context | more, status_code=status
    )


@router.get("/users/{user_id}")
def user_page(request: Request, portal: Here, signed: MayList, user_id: str) -> Response:
    """Show one user."""
    return _page(request, portal, signed, user_id)


def _change(
    request: Request,
    portal: Portal,
    signed: Signed,
    user_id: str,
    change: Callable[[Session, User], object],
) -> Response:
    """Do something to a user, and show the user again, with what was wrong."""
    try:
        with portal.database.write() as session:
            change(session, _find(session, user_id))
    except UsageError as error:
        return _page(request, portal, signed, user_id, problem=f"{error}.")
    return RedirectResponse(f"/users/{user_id}", status_code=303)


def _not_oneself(signed: Signed, user_id: str) -> None:
    if signed.account.id == user_id:
        raise UsageError("this would lock yourself out; let another administrator do it")


@router.post("/users/{user_id}/grant")
def grant(
    request: Request,
    portal: Here,
    signed: MayChange,
    user_id: str,
    *,
    role: Annotated[str, Form(max_length=64)] = "",
    project: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Give a user a role."""

    def give(session: Session, user: User) -> None:
        if project and project not in portal.site.projects:
            raise UsageError(f"there is no project {project!r} here")
        users.grant(session, portal.now(), by(request), user, Grant(role, project))

    return _change(request, portal, signed, user_id, give)


@router.post("/users/{user_id}/revoke")
def revoke(
    request: Request,
    portal: Here,
    signed: MayChange,
    user_id: str,
    *,
    role: Annotated[str, Form(max_length=64)] = "",
    project: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Take a role from a user."""

    def take(session: Session, user: User) -> None:
        if (role, project) == ("administrator", ""):
            _not_oneself(signed, user_id)
        users.revoke(session, portal.now(), by(request), user, Grant(role, project))

    return _change(request, portal, signed, user_id, take)


@router.post("/users/{user_id}/disable")
def disable(request: Request, portal: Here, signed: MayChange, user_id: str) -> Response:
    """Refuse a user from now on."""

    def refuse(session: Session, user: User) -> None:
        _not_oneself(signed, user_id)
        users.disable_user(session, portal.now(), by(request), user.name)

    return _change(request, portal, signed, user_id, refuse)


@router.post("/users/{user_id}/enable")
def enable(request: Request, portal: Here, signed: MayChange, user_id: str) -> Response:
    """Let a user in again."""

    def let_in(session: Session, user: User) -> None:
        users.enable_user(session, portal.now(), by(request), user.name)

    return _change(request, portal, signed, user_id, let_in)


@router.post("/users/{user_id}/sessions/end")
def end_all(request: Request, portal: Here, signed: MayChange, user_id: str) -> Response:
    """Sign a user out everywhere."""

    def end(session: Session, user: User) -> None:
        sessions.end_all(session, portal.now(), by(request), user)

    return _change(request, portal, signed, user_id, end)


@router.post("/users/{user_id}/sessions/{session_id}/end")
def end_one(
    request: Request, portal: Here, signed: MayChange, user_id: str, session_id: str
) -> Response:
    """End one sign-in or token of a user."""

    def end(session: Session, user: User) -> None:
        sessions.end(session, portal.now(), by(request), user, session_id)

    return _change(request, portal, signed, user_id, end)

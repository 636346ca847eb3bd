"""Who asks; users and their roles; the audit."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from overread import nouns
from overread.portal.api.conventions import (
    LINK,
    After,
    Limit,
    Since,
    Text,
    Until,
    link_next,
    new_router,
    refusals,
    refusing,
)
from overread.portal.auth import by, require
from overread.portal.state import Here, Portal
from overread.store import audit, by_time, users
from overread.store.tables import User
from overread.store.users import Signed
from overread.validation.permissions import ACTIONS, Grant, Role, reach

router = new_router("people")

MayList = Annotated[Signed, Depends(require("user.list"))]
MayChange = Annotated[Signed, Depends(require("user.change"))]


@router.get("/me")
def get_me(signed: Annotated[Signed, Depends(require("account.see"))]) -> nouns.Me:
    """Say who asks, the roles that they hold, and what they may do where."""
    actor = signed.actor
    where = {action: reach(actor, action) for action in ACTIONS}
    return nouns.Me(
        name=signed.account.name,
        id=signed.account.id,
        roles=_roles(signed.grants),
        scopes=None if signed.scopes is None else sorted(signed.scopes),
        may={
            action: None if one.everywhere else sorted(one.projects)
            for action, one in where.items()
            if one.everywhere or one.projects
        },
    )


def _roles(grants: frozenset[Grant]) -> list[nouns.Role]:
    return [
        nouns.Role(role=one.role, project=one.project)
        for one in sorted(grants, key=lambda one: (one.project, one.role))
    ]


def _user(session: Session, portal: Portal, user: User) -> nouns.User:
    by_files = portal.site.grants(user.name, frozenset(user.groups))
    return nouns.User(
        id=user.id,
        name=user.name,
        origin=user.origin,
        disabled=user.disabled,
        created_at=user.created_at,
        roles=_roles(users.held(session, user.id) | by_files),
    )


def _find(session: Session, user_id: str) -> User:
    user = session.get(User, user_id)
    if user is None:
        raise HTTPException(404, "there is no such user")
    return user


@router.get("/users", responses=LINK)
def list_users(
    request: Request,
    response: Response,
    portal: Here,
    signed: MayList,  # noqa: ARG001 - who may not is refused
    *,
    name: Text = "",
    after: After = "",
    limit: Limit = 100,
) -> list[nouns.User]:
    """List users, the newest first, each with the roles given here and by the site's files."""
    query = select(User)
    if name:
        query = query.where(User.name == name)
    with portal.database.read() as session, refusing(422):
        page = by_time.newest(session, query, User.created_at, User.id, after=after, limit=limit)
        link_next(request, response, page.next)
        return [_user(session, portal, one) for one in page.rows]


@router.get(
    "/users/{user_id}", responses=refusals(404), dependencies=[Depends(require("user.list"))]
)
def get_user(portal: Here, user_id: str) -> nouns.User:
    """Give one user."""
    with portal.database.read() as session:
        return _user(session, portal, _find(session, user_id))


class Given(BaseModel):
    """A role to be given or taken; ``project`` is empty for the whole site."""

    role: Role
    project: str = Field(default="", max_length=64)


@router.post("/users/{user_id}/grant", responses=refusals(404))
def grant_role(
    request: Request, portal: Here, signed: MayChange, user_id: str, given: Given
) -> nouns.User:
    """Give a user a role."""
    _no_wider(signed)
    if given.project and given.project not in portal.site.projects:
        raise HTTPException(422, f"there is no project {given.project!r} here")
    with portal.database.write() as session:
        user = _find(session, user_id)
        users.grant(session, portal.now(), by(request), user, Grant(given.role, given.project))
        session.flush()
        return _user(session, portal, user)


@router.post("/users/{user_id}/revoke", responses=refusals(404, 409))
def revoke_role(
    request: Request, portal: Here, signed: MayChange, user_id: str, taken: Given
) -> nouns.User:
    """Take a role from a user that was given here."""
    if (taken.role, taken.project) == ("administrator", ""):
        _not_oneself(signed, user_id)
    with portal.database.write() as session:
        user = _find(session, user_id)
        with refusing(409):
            users.revoke(session, portal.now(), by(request), user, Grant(taken.role, taken.project))
        session.flush()
        return _user(session, portal, user)


@router.post("/users/{user_id}/disable", responses=refusals(404, 409))
def disable_user(request: Request, portal: Here, signed: MayChange, user_id: str) -> nouns.User:
    """Refuse a user from now on, and end every sign-in of theirs."""
    _not_oneself(signed, user_id)
    with portal.database.write() as session:
        user = _find(session, user_id)
        users.disable_user(session, portal.now(), by(request), user.name)
        return _user(session, portal, user)


@router.post("/users/{user_id}/enable", responses=refusals(404))
def enable_user(request: Request, portal: Here, signed: MayChange, user_id: str) -> nouns.User:
    """Let a user in again."""
    _no_wider(signed)
    with portal.database.write() as session:
        user = _find(session, user_id)
        users.enable_user(session, portal.now(), by(request), user.name)
        return _user(session, portal, user)


def _not_oneself(signed: Signed, user_id: str) -> None:
    if signed.account.id == user_id:
        raise HTTPException(409, "this would lock yourself out; let another administrator do it")


def _no_wider(signed: Signed) -> None:
    """Refuse a limited token that would give more than it was made for."""
    if signed.scopes is not None and not {"user.*", "user.change"} & signed.scopes:
        raise HTTPException(403, "this token is not made to change users")


@router.get("/audit", responses=LINK, dependencies=[Depends(require("audit.see"))])
def list_audit(
    request: Request,
    response: Response,
    portal: Here,
    *,
    actor: Text = "",
    action: Text = "",
    subject: Text = "",
    since: Since = None,
    until: Until = None,
    after: After = "",
    limit: Limit = 100,
) -> list[nouns.AuditEntry]:
    """List what was done, the newest first.

    ``subject`` is a subject, such as ``job 3f…``, or a kind of them: ``job``.
    """
    if after and not (after.isdecimal() and 0 < len(after) < 19):
        raise HTTPException(422, "after is no place in this list; expected what a page gave")
    wanted = audit.Wanted(actor, action, subject, since, until)
    with portal.database.read() as session:
        rows = audit.newest(session, wanted, before=int(after or 0), limit=limit + 1)
    if len(rows) > limit:
        link_next(request, response, str(rows[limit - 1].id))
    return [nouns.AuditEntry.model_validate(one) for one in rows[:limit]]

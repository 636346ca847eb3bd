"""The own account: where one is signed in, and the tokens for one's scripts."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from overread.errors import UsageError
from overread.portal.auth import Forbidden, by, require
from overread.portal.state import Here, Portal
from overread.store import sessions, users
from overread.store.tables import User
from overread.store.users import Signed
from overread.validation.permissions import ACTIONS, may

router = APIRouter(include_in_schema=False)

May = Annotated[Signed, Depends(require("account.see"))]

MOST_DAYS = 366


def may_change(signed: May) -> Signed:
    """Let only a sign-in change the account: a token could make itself a wider one.

    Raises
    ------
    Forbidden
        It is a token.
    """
    if not signed.csrf:
        raise Forbidden("a token changes no account; sign in to do that")
    return signed


MayChange = Annotated[Signed, Depends(may_change)]


def _page(request: Request, portal: Portal, signed: Signed, **more: Any) -> Response:
    now = portal.now()
    with portal.database.read() as session:
        listed = sessions.listed(session, now, signed.account.id)
        user = session.get_one(User, signed.account.id)
    context = {
        "signed": signed,
        "user": user,
        "now": now,
        "roles": sorted(signed.grants, key=lambda one: (one.project, one.role)),
        "sign_ins": [one for one in listed if one.csrf],
        "tokens": [one for one in listed if not one.csrf],
        "scopes": _nouns(signed),
        "most_days": MOST_DAYS,
        "made": "",
        "problem": "",
    }
    status = 400 if more.get("problem") else 200
    return portal.templates.TemplateResponse(
        request, "account.html", context | more, status_code=status
    )


def _nouns(signed: Signed) -> dict[str, str]:
    """Return the scopes that are worth giving to a token of this user, and what each allows."""
    allowed: dict[str, list[str]] = {}
    for action in ACTIONS.values():
        if may(signed.actor, action.name).yes:
            noun = action.name.partition(".")[0]
            allowed.setdefault(f"{noun}.*", []).append(action.phrase)
    return {scope: ", ".join(phrases) for scope, phrases in allowed.items()}


@router.get("/account")
def account_page(request: Request, portal: Here, signed: May) -> Response:
    """Show one's own account."""
    return _page(request, portal, signed)


@router.post("/account/tokens")
def make_token(
    request: Request,
    portal: Here,
    signed: MayChange,
    *,
    label: Annotated[str, Form(max_length=80)] = "",
    days: Annotated[int, Form(ge=1, le=MOST_DAYS)] = 90,
    scope: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Make a token, and show it this once."""
    if not label.strip():
        return _page(request, portal, signed, problem="Say what the token is for.")
    if not scope:
        return _page(request, portal, signed, problem="Choose what the token may do.")
    try:
        with portal.database.write() as session:
            opened = users.open_bearer(
                session,
                portal.now(),
                by(request),
                session.get_one(User, signed.account.id),
                timedelta(days=days),
                label=label.strip(),
                scopes=frozenset(scope),
            )
    except UsageError as error:
        return _page(request, portal, signed, problem=str(error))
    return _page(request, portal, signed, made=opened.token)


@router.post("/account/sessions/end")
def end_others(request: Request, portal: Here, signed: MayChange) -> Response:
    """End every sign-in but this one."""
    with portal.database.write() as session:
        user = session.get_one(User, signed.account.id)
        sessions.end_all(session, portal.now(), by(request), user, but=signed.session_id)
    return RedirectResponse("/account", status_code=303)


@router.post("/account/sessions/{session_id}/end")
def end_one(request: Request, portal: Here, signed: MayChange, session_id: str) -> Response:
    """End one's own sign-in or token."""
    try:
        with portal.database.write() as session:
            user = session.get_one(User, signed.account.id)
            sessions.end(session, portal.now(), by(request), user, session_id)
    except UsageError as error:
        return _page(request, portal, signed, problem=f"{error}.")
    return RedirectResponse("/account", status_code=303)

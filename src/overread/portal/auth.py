"""Sign-in, sign-out, and the guard at every door.

The cookie holds a random token and nothing else. Every form carries the sign-in's own CSRF token;
the sign-in form, which has no sign-in yet, carries one that its own cookie repeats.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from overread.portal.state import Here, Portal, portal_of
from overread.store import users
from overread.store.audit import record
from overread.store.users import Signed
from overread.validation.permissions import Actor, may

_COOKIE, _FORM_COOKIE = "overread", "overread-form"
_TOUCH_AFTER = timedelta(minutes=1)

router = APIRouter(include_in_schema=False)


class NotSignedIn(Exception):
    """Nobody is signed in; the application answers with the way to sign in, or 401."""


class Forbidden(Exception):
    """Somebody is signed in who may not; the application answers 403 with the reason."""


def own_path(target: str) -> str:
    """Return where to go after sign-in: a path of this portal, or ``/`` for anything else."""
    own = target.startswith("/") and not target.startswith("//")
    return target if own and target.isprintable() and "\\" not in target else "/"


def _is_tls(request: Request) -> bool:
    return request.url.scheme == "https"


def _cookie_name(request: Request, name: str) -> str:
    # The prefix makes the browser refuse a cookie that another host or plain HTTP has set.
    return f"__Host-{name}" if _is_tls(request) else name


def _token(request: Request) -> str:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer:
        return bearer.strip()
    return request.cookies.get(_cookie_name(request, _COOKIE), "")


def signed_in(request: Request) -> Signed | None:
    """Return who has signed in, by cookie or bearer token; a use of it keeps it from idling out."""
    if not hasattr(request.state, "signed"):
        request.state.signed = _look_up(request, portal_of(request))
    signed = request.state.signed
    assert signed is None or isinstance(signed, Signed)  # noqa: S101 - set just above
    return signed


def _look_up(request: Request, portal: Portal) -> Signed | None:
    token = _token(request)
    if not token:
        return None
    now = portal.now()
    with portal.database.read() as session:
        signed = users.find_session(session, now, token)
    asks_by_itself = "hx-request" in request.headers  # a page that polls is nobody's activity
    if signed is not None:  # the site's files give roles, too
        given = portal.site.grants(signed.account.name, signed.groups)
        signed = replace(signed, grants=signed.grants | given)
    if signed is not None and not asks_by_itself and now - signed.seen_at >= _TOUCH_AFTER:
        with portal.database.write() as session:
            users.touch_session(session, now, token, portal.site.settings.portal.session)
    return signed


def actor_of(signed: Signed | None) -> Actor | None:
    """Return the actor that `may` asks about."""
    return None if signed is None else signed.actor


def require(action: str) -> Callable[[Request], Signed]:
    """Make the dependency that lets only those pass who may do ``action``.

    Raises
    ------
    NotSignedIn, Forbidden
        From the dependency.
    """

    def guard(request: Request) -> Signed:
        signed = signed_in(request)
        answer = may(actor_of(signed), action)
        if signed is None:
            raise NotSignedIn(answer.reason)
        if not answer.yes:
            raise Forbidden(answer.reason)
        return signed

    return guard


def address_of(request: Request) -> str:
    """Return the network address that a request came from; empty where it is not known."""
    return request.client.host if request.client else ""


def tell(
    session: Session,
    request: Request,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Tell the audit what the one who is signed in did, in the transaction of the act.

    Parameters
    ----------
    session : Session
        A writing session.
    action, subject, detail
        As of `overread.store.audit.record`.
    """
    signed = signed_in(request)
    record(
        session,
        portal_of(request).now(),
        signed.account.name if signed else "anonymous",
        action,
        subject,
        detail,
        address=address_of(request),
        sign_in=signed.session_id if signed else "",
    )


def check_csrf(signed: Signed, token: str) -> None:
    """Refuse a form that is not of this sign-in.

    Raises
    ------
    Forbidden
        The token is another, or the sign-in is a bearer token, which answers no form.
    """
    if not signed.csrf or not hmac.compare_digest(signed.csrf.encode(), token.encode()):
        raise Forbidden("the form does not belong to this sign-in; load the page again")


def allow(
    signed: Signed, action: str, resource: str = "", *, projects: Collection[str] | None = None
) -> None:
    """Let pass who may do something to what belongs to these projects.

    Raises
    ------
    Forbidden
        With the reason.
    """
    answer = may(signed.actor, action, resource, projects=projects)
    if not answer.yes:
        raise Forbidden(answer.reason)


def _sign_in_page(
    request: Request, portal: Portal, target: str, problem: str, status: int
) -> Response:
    name = _cookie_name(request, _FORM_COOKIE)
    csrf = request.cookies.get(name) or secrets.token_urlsafe(32)
    with portal.database.read() as session:
        nobody = not users.has_users(session)
    page = portal.templates.TemplateResponse(
        request,
        "sign_in.html",
        {"next": target, "problem": problem, "csrf": csrf, "nobody": nobody, "signed": None},
        status_code=status,
    )
    _set_cookie(page, request, name, csrf)
    return page


def _set_cookie(response: Response, request: Request, name: str, value: str) -> None:
    response.set_cookie(
        name, value, httponly=True, samesite="lax", secure=_is_tls(request), path="/"
    )


@router.get("/sign-in")
def show_sign_in(request: Request, portal: Here, next: str = "/") -> Response:
    """Show the sign-in form, or go on when somebody is signed in already."""
    target = own_path(next)
    if signed_in(request) is not None:
        return RedirectResponse(target, status_code=303)
    return _sign_in_page(request, portal, target, "", 200)


@router.post("/sign-in")
def sign_in(
    request: Request,
    portal: Here,
    *,
    name: Annotated[str, Form(max_length=128)] = "",
    password: Annotated[str, Form(max_length=1024)] = "",
    csrf: Annotated[str, Form(max_length=128)] = "",
    next: Annotated[str, Form(max_length=4096)] = "/",
) -> Response:
    """Sign in, and land where the person wanted to go."""
    target, address, now = own_path(next), address_of(request), portal.now()
    expected = request.cookies.get(_cookie_name(request, _FORM_COOKIE), "")
    if not expected or not hmac.compare_digest(expected.encode(), csrf.encode()):
        return _sign_in_page(request, portal, target, "The form had expired. Try again.", 403)
    wait = portal.failures.wait(now, name, address)
    if wait:
        minutes = -(-int(wait.total_seconds()) // 60) or 1
        problem = f"Too many failed sign-ins. Wait {minutes} min, then try again."
        page = _sign_in_page(request, portal, target, problem, 429)
        page.headers["Retry-After"] = str(int(wait.total_seconds()) + 1)
        return page
    account = portal.identity.sign_in(name, password)
    if account is None:
        portal.failures.add(now, name, address)
        with portal.database.write() as session:
            users.record_failure(session, now, name, address)
        problem = "Name or password is wrong, or the account is disabled."
        return _sign_in_page(request, portal, target, problem, 401)
    portal.failures.clear(name, address)
    with portal.database.write() as session:
        lasts = portal.site.settings.portal
        opened = users.open_session(
            session, now, account, lasts.session, most=lasts.session_limit, address=address
        )
    response = RedirectResponse(target, status_code=303)
    _set_cookie(response, request, _cookie_name(request, _COOKIE), opened.token)
    response.delete_cookie(
        _cookie_name(request, _FORM_COOKIE), path="/", secure=_is_tls(request), httponly=True
    )
    return response


@router.post("/sign-out")
def sign_out(
    request: Request, portal: Here, csrf: Annotated[str, Form(max_length=128)] = ""
) -> Response:
    """End the sign-in."""
    signed = signed_in(request)
    if signed is not None:
        check_csrf(signed, csrf)
        with portal.database.write() as session:
            users.close_session(session, portal.now(), _token(request), signed.account)
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(
        _cookie_name(request, _COOKIE), path="/", secure=_is_tls(request), httponly=True
    )
    return response


def sign_in_link(target: str) -> str:
    """Return the address of the sign-in form that lands at ``target``."""
    return "/sign-in" if target in ("", "/") else f"/sign-in?{urlencode({'next': target})}"


def permissions(request: Request) -> dict[str, Any]:
    """Give every page ``can(action)``: whether the one who is signed in may do it anywhere."""
    actor = actor_of(signed_in(request))
    return {"can": lambda action: may(actor, action).yes}

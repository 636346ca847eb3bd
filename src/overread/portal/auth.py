"""The guard at every door: who is there, and what they may do.

The cookie holds a random token and nothing else. What a cookie speaks for and changes anything has
to carry the sign-in's own CSRF token too: in the header ``X-CSRF-Token``, or as the field ``csrf``
of a form. A bearer token needs none, since no browser adds it by itself.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from overread.portal.state import Portal, portal_of
from overread.store import users, visible
from overread.store.audit import record
from overread.store.users import By, Signed
from overread.validation.permissions import Actor, may

COOKIE = "overread"
"""Of the sign-in."""

_TOUCH_AFTER = timedelta(minutes=1)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_TOKENLESS = re.compile(r"(/cases/[^/]+)?/dicom-web/|/sign-in")
"""Where a cookie may act without token: a DICOM body is none that another site's form can send,
and `same_origin` refuses its scripts; the sign-in form has a token of its own."""


class NotSignedIn(Exception):
    """Nobody is signed in; the application answers with the way to sign in, or 401."""


class Forbidden(Exception):
    """Somebody is signed in who may not; the application answers 403 with the reason."""


def cookie_name(request: Request, name: str) -> str:
    """Return what a cookie of ours is called.

    Over TLS its prefix makes the browser refuse one that another host or plain HTTP has set.
    """
    return f"__Host-{name}" if request.url.scheme == "https" else name


def set_cookie(
    response: Response, request: Request, name: str, value: str, *, lasts: timedelta | None = None
) -> None:
    """Set a cookie of ours, out of reach of scripts; one that lasts nothing is deleted.

    In a frame of another site's page a browser sends only cookies that are marked for that. So
    where the site names hosts that may embed it, and over TLS, they are: each for the pages of the
    one host that it was set under (``Partitioned``). They are ``Lax`` everywhere else.
    """
    tls = request.url.scheme == "https"
    framed = tls and bool(portal_of(request).site.settings.portal.embed)
    parts = [f"{cookie_name(request, name)}={value}", "HttpOnly", "Path=/"]
    parts.append("SameSite=None" if framed else "SameSite=Lax")
    parts += ["Secure"] * tls + ["Partitioned"] * framed
    if lasts is not None:
        parts.append(f"Max-Age={int(lasts.total_seconds())}")
    # Written out, since the standard library knows the attribute from Python 3.14 on.
    response.headers.append("set-cookie", "; ".join(parts))


def token_of(request: Request) -> str:
    """Return the token that a request comes with, as bearer or in its cookie; empty for none."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer:
        return bearer.strip()
    return request.cookies.get(cookie_name(request, COOKIE), "")


def signed_in(request: Request) -> Signed | None:
    """Return who has signed in, by cookie or bearer token; a use of it keeps it from idling out."""
    if not hasattr(request.state, "signed"):
        request.state.signed = _look_up(request, portal_of(request))
    signed = request.state.signed
    assert signed is None or isinstance(signed, Signed)  # noqa: S101 - set just above
    return signed


def still_signed_in(request: Request) -> Signed | None:
    """Return who is signed in by now: for an answer that lasts, such as a stream of events."""
    return _find(portal_of(request), token_of(request))


def _look_up(request: Request, portal: Portal) -> Signed | None:
    token = token_of(request)
    signed = _find(portal, token)
    # A page that polls or listens is nobody's activity; a form that saves what is typed is.
    by_itself = request.method in _SAFE and (
        "hx-request" in request.headers or "text/event-stream" in request.headers.get("accept", "")
    )
    now = portal.now()
    if signed is not None and not by_itself and now - signed.seen_at >= _TOUCH_AFTER:
        with portal.database.write() as session:
            users.touch_session(session, now, token, portal.site.settings.portal.session)
    return signed


def _find(portal: Portal, token: str) -> Signed | None:
    if not token:
        return None
    with portal.database.read() as session:
        signed = users.find_session(session, portal.now(), token)
    if signed is None:
        return None
    # The site's files give roles, too.
    given = portal.site.grants(signed.account.name, signed.groups)
    return replace(signed, grants=signed.grants | given)


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
    who = by(request)
    record(
        session, portal_of(request).now(), who.name, action, subject, detail,
        address=who.address, sign_in=who.sign_in,
    )  # fmt: skip


def by(request: Request) -> By:
    """Return who does something, and from where, as the store's functions tell the audit."""
    signed = signed_in(request)
    if signed is None:
        return By("anonymous", address_of(request))
    return By(signed.account.name, address_of(request), signed.session_id)


def check_csrf(signed: Signed, token: str) -> None:
    """Refuse a form that is not of this sign-in; a bearer token needs none.

    Raises
    ------
    Forbidden
        The token is another.
    """
    if signed.csrf and not hmac.compare_digest(signed.csrf.encode(), token.encode()):
        raise Forbidden("the form does not belong to this sign-in; load the page again")


async def own_request(request: Request) -> None:
    """Refuse what a browser was made to send: a dependency of the whole application.

    Raises
    ------
    Forbidden
        From `check_csrf`, for anything that a cookie speaks for and that is not only read.
    """
    if request.method in _SAFE or _TOKENLESS.match(request.url.path):
        return
    signed = await run_in_threadpool(signed_in, request)
    if signed is None or not signed.csrf:
        return
    token = request.headers.get("x-csrf-token", "")
    if not token and request.headers.get("content-type", "").startswith(_FORMS):
        token = str((await request.form()).get("csrf", ""))
    check_csrf(signed, token)


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


def sign_in_link(target: str) -> str:
    """Return the address of the sign-in form that lands at ``target``."""
    return "/sign-in" if target in ("", "/") else f"/sign-in?{urlencode({'next': target})}"


def sight_of(request: Request) -> visible.Sight:
    """Return how far the one who is signed in sees, for the conditions of `visible`."""
    return visible.sight(actor_of(signed_in(request)))


def permissions(request: Request) -> dict[str, Any]:
    """Give every page ``can(action)``: whether the one who is signed in may do it anywhere."""
    actor = actor_of(signed_in(request))
    return {"can": lambda action: may(actor, action).yes}

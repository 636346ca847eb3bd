"""Signing in and out: by name and password here, or at a provider elsewhere.

The sign-in form has no sign-in yet whose token it could carry: it carries one that a cookie of its
own repeats. A way to a provider and back is kept in a cookie of its own, for ten minutes: only the
browser that set out may arrive (`overread.identity.Provider`). It holds no secret from that
browser, so it needs no signature. Whatever happens, a sign-in gets a token that was never before.

What asks for JSON is answered in JSON, so that a page can sign somebody in again without leaving:
``GET`` gives what the form holds, ``POST`` gives ``{"name", "csrf"}`` of the new sign-in, or
``{"problem"}``.
"""

from __future__ import annotations

import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from overread import registry
from overread.errors import Unavailable, UsageError
from overread.identity import Identity, NotProven, Person, Provider
from overread.portal.auth import (
    COOKIE,
    address_of,
    check_csrf,
    cookie_name,
    set_cookie,
    signed_in,
    token_of,
)
from overread.portal.state import Here, Portal
from overread.site import SiteFolder
from overread.store import failures, users
from overread.store.database import Database
from overread.store.tables import User
from overread.store.users import By, SignIn, StoredAccounts

_FORM, _WAY = "overread-form", "overread-way"
_WAY_LASTS = timedelta(minutes=10)
_AT_ONCE = timedelta(0)
_LONGEST_TARGET = 1500
"""Characters of a way that is kept in a cookie, which holds 4096 at most."""

_WRONG = "Name or password is wrong, or the account is disabled."
_AWAY = "The directory that knows who you are does not answer. Try again in a minute."

router = APIRouter(include_in_schema=False)


class _Refused(Exception):
    """Nobody is signed in; the words say why, the status goes with them."""

    def __init__(self, problem: str, status: int, wait: timedelta = _AT_ONCE) -> None:
        super().__init__(problem)
        self.problem, self.status, self.wait = problem, status, wait


def doors(
    site: SiteFolder, database: Database
) -> tuple[Mapping[str, Identity], Mapping[str, Provider]]:
    """Make the site's identity plugins: those that are asked with a password, and the providers."""
    identity = site.settings.identity
    made = {
        name: registry.load("identity", name)(
            StoredAccounts(database), identity.with_.get(name, {}), site.root
        )
        for name in identity.use
    }
    asked = {name: one for name, one in made.items() if hasattr(one, "sign_in")}
    return asked, {name: one for name, one in made.items() if hasattr(one, "send")}


def own_path(target: str) -> str:
    """Return where to go after sign-in: a path of this portal, or ``/`` for anything else."""
    own = target.startswith("/") and not target.startswith("//")
    return target if own and target.isprintable() and "\\" not in target else "/"


def _wants_json(request: Request) -> bool:
    return request.headers.get("accept", "").startswith("application/json")


def _way_to(provider: str, target: str) -> str:
    return f"/sign-in/{provider}?next={quote(target, safe='')}"


def _form(request: Request, portal: Portal, target: str, **more: Any) -> Response:
    """Show the form, with a problem and its status where there is one."""
    csrf = request.cookies.get(cookie_name(request, _FORM)) or secrets.token_urlsafe(32)
    with portal.database.read() as session:
        nobody = not users.has_users(session)
    problem, status = more.get("problem", ""), more.get("status", 200)
    left = portal.providers.get(more.get("left", ""))
    context = {
        "next": target,
        "problem": problem,
        "csrf": csrf,
        "nobody": nobody and not portal.providers,
        "signed": None,
        "passwords": bool(portal.identity),
        "providers": [(one.title, _way_to(name, target)) for name, one in portal.providers.items()],
        "left": (left.title, _leaving(left, portal, request)) if left is not None else None,
    }
    if _wants_json(request):
        ways = [{"title": title, "href": href} for title, href in context["providers"]]
        words = {"csrf": csrf, "providers": ways, "passwords": context["passwords"]}
        page: Response = JSONResponse({**words, "problem": problem} if problem else words, status)
    else:
        page = portal.templates.TemplateResponse(
            request, "sign_in.html", context, status_code=status
        )
    set_cookie(page, request, _FORM, csrf)
    return page


def _leaving(provider: Provider, portal: Portal, request: Request) -> str:
    try:
        return provider.leaving(f"{_address(request, portal)}/sign-in")
    except Unavailable:
        return ""


def _address(request: Request, portal: Portal) -> str:
    return (portal.site.settings.portal.address or str(request.base_url)).rstrip("/")


@router.get("/sign-in")
def show_sign_in(request: Request, portal: Here, next: str = "/", left: str = "") -> Response:
    """Show the sign-in form, or go on when somebody is signed in already.

    Where there is one provider and nothing else to choose, go to it at once.

    Parameters
    ----------
    left : str
        The provider by which somebody had signed in who has just signed out here.
    """
    target, signed = own_path(next), signed_in(request)
    if signed is not None:
        if _wants_json(request):
            return JSONResponse({"name": signed.account.name, "csrf": signed.csrf})
        return RedirectResponse(target, status_code=303)
    if not portal.identity and len(portal.providers) == 1 and not left and not _wants_json(request):
        (only,) = portal.providers
        return RedirectResponse(_way_to(only, target), status_code=303)
    return _form(request, portal, target, left=left)


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
    """Sign in by name and password, and land where the person wanted to go."""
    target = own_path(next)
    expected = request.cookies.get(cookie_name(request, _FORM), "")
    if not expected or not hmac.compare_digest(expected.encode(), csrf.encode()):
        problem = "The form had expired. Try again."
        return _form(request, portal, target, problem=problem, status=403)
    try:
        origin, person = _identify(request, portal, name.strip(), password)
        opened = _open(request, portal, origin, person)
    except _Refused as refused:
        return _told(request, portal, target, refused)
    if _wants_json(request):
        answer: Response = JSONResponse({"name": person.name, "csrf": opened.csrf})
    else:
        answer = RedirectResponse(target, status_code=303)
    return _carry(answer, request, opened)


def _told(request: Request, portal: Portal, target: str, refused: _Refused) -> Response:
    page = _form(request, portal, target, problem=refused.problem, status=refused.status)
    if refused.wait:
        page.headers["Retry-After"] = str(int(refused.wait.total_seconds()) + 1)
    return page


def _carry(answer: Response, request: Request, opened: SignIn) -> Response:
    set_cookie(answer, request, COOKIE, opened.token)
    set_cookie(answer, request, _FORM, "", lasts=_AT_ONCE)
    return answer


def _identify(request: Request, portal: Portal, name: str, password: str) -> tuple[str, Person]:
    """Ask the plugins, in the site's order; only the account's own, where there is one.

    So a local user's password is never shown to a directory.
    """
    now, address = portal.now(), address_of(request)
    with portal.database.read() as session:
        wait = failures.wait(session, now, name, address)
    if wait:
        minutes = -(-int(wait.total_seconds()) // 60) or 1
        raise _Refused(f"Too many failed sign-ins. Wait {minutes} min, then try again.", 429, wait)
    account = StoredAccounts(portal.database).find(name)
    for origin, plugin in portal.identity.items():
        if account is not None and account.origin != origin:
            continue
        try:
            person = plugin.sign_in(name, password)
        except Unavailable as away:
            raise _Refused(_AWAY, 503) from away
        if person is not None:
            with portal.database.write() as session:
                failures.clear(session, name, address)
            return origin, person
    with portal.database.write() as session:
        failures.add(session, now, name, address)
        users.record_failure(session, now, name, address)
    raise _Refused(_WRONG, 401)


def _open(request: Request, portal: Portal, origin: str, person: Person) -> SignIn:
    """Open a sign-in for who has shown to be whom, if the person may do anything here."""
    now, address, lasts = portal.now(), address_of(request), portal.site.settings.portal
    before, token = signed_in(request), token_of(request)
    with portal.database.write() as session:
        try:
            user = users.admit(session, now, origin, person, address=address)
        except UsageError as error:
            users.record_failure(session, now, person.name, address)
            problem = (
                f"{str(error)[0].upper()}{str(error)[1:]}. Tell an administrator of this site."
            )
        else:
            problem = _objection(portal, session, user, address)
        if not problem:
            if before is not None:  # the browser is somebody's already, and will be this one's
                users.close_session(session, now, token, before.account, address=address)
            return users.open_session(
                session, now, users.account_of(user), lasts.session,
                most=lasts.session_limit, address=address,
            )  # fmt: skip
    raise _Refused(problem, 401 if problem == _WRONG else 403)


def _objection(portal: Portal, session: Session, user: User, address: str) -> str:
    """Say why a user who is known is not let in; empty where nothing speaks against it.

    Who holds no role is kept all the same, so that an administrator finds whom to give one to.
    """
    if user.disabled:
        users.record_failure(session, portal.now(), user.name, address)
        return _WRONG
    by_files = portal.site.grants(user.name, frozenset(user.groups))
    if users.held(session, user.id) | by_files:
        return ""
    by, why = By(user.name, address), {"why": "no role"}
    users.told(session, portal.now(), by, "fail to sign in", user.id, why)
    return (
        f"{user.name} is known, but holds no role here. Ask an administrator of this site for one."
    )


@router.get("/sign-in/{provider}")
def set_out(request: Request, portal: Here, provider: str, next: str = "/") -> Response:
    """Send the browser to a provider."""
    target = own_path(next)
    target = target if len(target) <= _LONGEST_TARGET else "/"
    try:
        errand = _provider(portal, provider).send(_back(request, portal, provider))
    except Unavailable as away:
        return _told(request, portal, target, _Refused(f"{_AWAY} ({away})", 503))
    answer = RedirectResponse(errand.url, status_code=303)
    kept = json.dumps({**errand.kept, "next": target})
    packed = urlsafe_b64encode(kept.encode()).decode()
    set_cookie(answer, request, _way_cookie(errand.kept["state"]), packed, lasts=_WAY_LASTS)
    return answer


@router.get("/sign-in/{provider}/back")
def come_back(request: Request, portal: Here, provider: str) -> Response:
    """Take a browser in that comes back from a provider."""
    plugin = _provider(portal, provider)
    brought = dict(request.query_params)
    way = _way_cookie(brought.get("state", ""))
    kept = _kept(request.cookies.get(cookie_name(request, way), ""))
    target = own_path(kept.get("next", "/"))
    try:
        opened = _arrive(request, portal, provider, plugin, kept, brought)
    except _Refused as refused:
        answer = _told(request, portal, target, refused)
    else:
        answer = _carry(RedirectResponse(target, status_code=303), request, opened)
    if kept:
        set_cookie(answer, request, way, "", lasts=_AT_ONCE)
    return answer


def _arrive(  # noqa: PLR0917 - a browser, where it is, where it was, and with what
    request: Request,
    portal: Portal,
    name: str,
    plugin: Provider,
    kept: Mapping[str, str],
    brought: Mapping[str, str],
) -> SignIn:
    back = _back(request, portal, name)
    try:
        if not kept:
            raise NotProven("this browser did not set out for it within the last ten minutes")
        person = plugin.receive(back, kept, brought, portal.now())
    except Unavailable as away:
        raise _Refused(f"{plugin.title} does not answer. Try again in a minute.", 503) from away
    except NotProven as error:
        with portal.database.write() as session:
            users.record_failure(session, portal.now(), "", address_of(request))
        raise _Refused(f"{plugin.title} did not sign you in: {error}. Try again.", 401) from error
    return _open(request, portal, name, person)


def _provider(portal: Portal, name: str) -> Provider:
    if name not in portal.providers:
        raise HTTPException(404, "there is no such way to sign in")
    return portal.providers[name]


def _back(request: Request, portal: Portal, provider: str) -> str:
    return f"{_address(request, portal)}/sign-in/{provider}/back"


def _way_cookie(state: str) -> str:
    """Name the cookie of a way: each tab of a browser may be on one of its own."""
    plain = "".join(filter(str.isalnum, state.encode("ascii", "ignore").decode()))
    return f"{_WAY}-{plain[:16]}"


def _kept(packed: str) -> dict[str, str]:
    try:
        found = json.loads(urlsafe_b64decode(packed.encode()))
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


@router.post("/sign-out")
def sign_out(
    request: Request, portal: Here, csrf: Annotated[str, Form(max_length=128)] = ""
) -> Response:
    """End the sign-in; where a provider still knows the person, the page says how to end that."""
    signed = signed_in(request)
    left = ""
    if signed is not None:
        check_csrf(signed, csrf)
        with portal.database.write() as session:
            users.close_session(
                session, portal.now(), token_of(request), signed.account,
                address=address_of(request),
            )  # fmt: skip
        if signed.account.origin in portal.providers:
            left = f"?left={quote(signed.account.origin, safe='')}"
    response = RedirectResponse(f"/sign-in{left}", status_code=303)
    set_cookie(response, request, COOKIE, "", lasts=_AT_ONCE)
    return response

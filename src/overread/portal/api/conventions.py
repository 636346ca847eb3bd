"""The conventions of the API, for every noun: pages of lists, times, refusals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPBearer
from pydantic import AfterValidator, AwareDatetime

from overread import nouns
from overread.errors import UsageError
from overread.portal.auth import COOKIE
from overread.store.paging import Page

N = TypeVar("N", bound=nouns.Noun)


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time beyond the calendar") from error


Limit = Annotated[int, Query(ge=1, le=1000, description="Rows of a page at most.")]
After = Annotated[
    str,
    Query(max_length=200, description="Where the page begins: as the ``Link`` header gives it."),
]
Text = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")]
Since = Annotated[
    Annotated[AwareDatetime, AfterValidator(_utc)] | None,
    Query(description="Only since then: ISO 8601 with its offset."),
]
Until = Annotated[
    Annotated[AwareDatetime, AfterValidator(_utc)] | None,
    Query(description="Only before then: ISO 8601 with its offset."),
]

_WORDS = {
    400: "The request is not what the Standard or HTTP makes of one.",
    401: "Nobody is signed in.",
    403: "The one who is signed in may not; the detail says which role does.",
    404: "There is no such thing, or it is not within the caller's reach.",
    409: "It is not in a state for that; the detail says in which it is.",
    413: "The body is larger than is taken.",
    422: "A parameter or the body is malformed; the detail says what was expected.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe how a request may be refused, for OpenAPI."""
    return {status: {"model": nouns.Refusal, "description": _WORDS[status]} for status in statuses}


LINK: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "Link": {
                "description": 'The next page: `<…>; rel="next"`; absent on the last one.',
                "schema": {"type": "string"},
            }
        }
    }
}
"""How a list says that there is more, for OpenAPI."""


@contextmanager
def refusing(status: int) -> Iterator[None]:
    """Answer with a status where what is asked for is not there or makes no sense."""
    try:
        yield
    except UsageError as error:
        raise HTTPException(status, str(error)) from error


def listed(request: Request, response: Response, page: Page[Any], noun: type[N]) -> list[N]:
    """Answer with a page of rows, and name the next one."""
    link_next(request, response, page.next)
    return [noun.model_validate(one) for one in page.rows]


def link_next(request: Request, response: Response, after: str) -> None:
    """Name the next page in the ``Link`` header; nothing where there is none."""
    if after:
        url = request.url.include_query_params(after=after)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'


def slice_after(rows: Iterable[Any], key: str, after: str, limit: int) -> Page[Any]:
    """Cut a page out of what the site's files hold, which is in order of a name."""
    ordered = sorted(rows, key=lambda one: str(getattr(one, key)))
    rest = [one for one in ordered if str(getattr(one, key)) > after]
    more = str(getattr(rest[limit - 1], key)) if len(rest) > limit else ""
    return Page(rest[:limit], more)


def there(found: Any, what: str) -> Any:
    """Return what was found.

    Raises
    ------
    HTTPException
        404: nothing was.
    """
    if found is None:
        raise HTTPException(404, f"there is no such {what}")
    return found


_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A token of an account: made on its page, or by `overread user token`.",
)
_COOKIE = APIKeyCookie(
    name=COOKIE,
    auto_error=False,
    scheme_name="sign-in",
    description="The cookie of a signed-in browser.",
)
_CSRF = APIKeyHeader(
    name="X-CSRF-Token",
    auto_error=False,
    scheme_name="csrf",
    description="What a request that changes something carries beside the cookie.",
)


def new_router(tag: str) -> APIRouter:
    """Make the router of some nouns: below ``/api/v1``, with what all of them share.

    The three ways to sign in are described only: `overread.portal.auth` is what asks.
    """
    return APIRouter(
        prefix="/api/v1",
        tags=[tag],
        dependencies=[Depends(_BEARER), Depends(_COOKIE), Depends(_CSRF)],
        responses=refusals(400, 401, 403, 422),
        generate_unique_id_function=lambda route: route.name,
    )

from __future__ import annotations

import pytest
from starlette.requests import Request

from overread.portal.dicomweb.media import Accepted, accepted, matches, parse_content_type


def asked(accept: str | None, query: str = "") -> list[Accepted]:
    headers = [] if accept is None else [(b"accept", accept.encode())]
    return accepted(
        Request({"type": "http", "headers": headers, "query_string": query.encode(), "path": "/"})
    )


@pytest.mark.parametrize(
    ("accept", "wishes"),
    [
        (None, [Accepted("*/*", False)]),
        ("*/*", [Accepted("*/*", False)]),
        ("application/dicom+json", [Accepted("application/dicom+json", False)]),
        (
            'multipart/related; type="application/dicom"; transfer-syntax=*',
            [Accepted("application/dicom", True, "*")],
        ),
        (
            "multipart/related; type=application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1",
            [Accepted("application/octet-stream", True, "1.2.840.10008.1.2.1")],
        ),
        ("multipart/related", [Accepted("*/*", True)]),
        (
            'multipart/related; type="image/jls"; q=0.2, multipart/related; type="image/*"',
            [Accepted("image/*", True), Accepted("image/jls", True)],
        ),
        ("text/html;q=0", []),
        ("image/jpeg; q=high", []),
    ],
)
def test_accept(accept: str | None, wishes: list[Accepted]) -> None:
    assert asked(accept) == wishes


def test_the_query_may_say_it_too() -> None:
    assert asked("text/html", "accept=application/dicom") == [Accepted("application/dicom", False)]


@pytest.mark.parametrize(
    ("wish", "yes"),
    [
        (Accepted("image/jls", True), True),
        (Accepted("image/*", True), True),
        (Accepted("*/*", False), True),
        (Accepted("image/jls", True, "1.2.3"), True),
        (Accepted("image/jls", True, "1.2.4"), False),
        (Accepted("image/jpeg", True), False),
        (Accepted("video/*", True), False),
    ],
)
def test_matches(wish: Accepted, yes: bool) -> None:
    assert matches(wish, "image/jls", ("1.2.3",)) is yes


def test_content_type() -> None:
    kind, parameters = parse_content_type(
        'Multipart/Related; type="application/dicom"; boundary="a b"'
    )
    assert kind == "multipart/related"
    assert parameters == {"type": "application/dicom", "boundary": "a b"}
    assert parse_content_type("")[0] == ""

"""Media types: what a client accepts, what is sent, and the multipart bodies around it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.utils import collapse_rfc2231_value
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydicom import uid

DICOM, JSON, OCTETS = "application/dicom", "application/dicom+json", "application/octet-stream"
MULTIPART = "multipart/related"

_JPEG, _JLS, _JP2, _JPX = "image/jpeg", "image/jls", "image/jp2", "image/jpx"

FRAME_TYPES: dict[str, str] = {
    uid.JPEGBaseline8Bit: _JPEG,
    uid.JPEGExtended12Bit: _JPEG,
    uid.JPEGLossless: _JPEG,
    uid.JPEGLosslessSV1: _JPEG,
    uid.JPEGLSLossless: _JLS,
    uid.JPEGLSNearLossless: _JLS,
    uid.JPEG2000Lossless: _JP2,
    uid.JPEG2000: _JP2,
    uid.JPEG2000MCLossless: _JPX,
    uid.JPEG2000MC: _JPX,
    uid.HTJ2KLossless: "image/jphc",
    uid.HTJ2KLosslessRPCL: "image/jphc",
    uid.HTJ2K: "image/jphc",
    uid.RLELossless: "image/dicom-rle",
    uid.MPEG2MPML: "video/mpeg",
    uid.MPEG2MPHL: "video/mpeg",
    uid.MPEG4HP41: "video/mp4",
    uid.MPEG4HP41BD: "video/mp4",
}
"""Media type of one frame by transfer syntax (PS3.18 tables 8.7.3-2 to 8.7.3-5)."""


@dataclass(frozen=True)
class Accepted:
    """One media range of an Accept header.

    Attributes
    ----------
    kind : str
        The type; of the parts, where it is multipart.
    multipart : bool
        Whether the answer shall be multipart.
    syntax : str
        TransferSyntaxUID asked for; ``*`` for whichever is stored, which is also what an answer to
        no wish is here, since nothing is decoded.
    """

    kind: str
    multipart: bool
    syntax: str = "*"


def _parse(value: str) -> tuple[str, dict[str, str]]:
    message = Message()
    message["content-type"] = value
    parameters = message.get_params() or []
    named = {key.lower(): collapse_rfc2231_value(text) for key, text in parameters[1:]}
    return message.get_content_type() if "/" in value else value.strip(), named


def parse_content_type(value: str) -> tuple[str, dict[str, str]]:
    """Read a Content-Type: the type in lower case, and its parameters without quotes."""
    return _parse(value)


def _split(header: str) -> Iterator[str]:
    """Split at commas that are not within quotes."""
    part, quoted = "", False
    for character in header:
        quoted ^= character == '"'
        if character == "," and not quoted:
            yield part.strip()
            part = ""
        else:
            part += character
    if part.strip():
        yield part.strip()


def accepted(request: Request) -> list[Accepted]:
    """Read what a client accepts, most wanted first; everything, where it does not say."""
    header = request.query_params.get("accept") or request.headers.get("accept") or "*/*"
    found: list[tuple[float, Accepted]] = []
    for item in _split(header):
        kind, parameters = _parse(item if "/" in item else "*/*")
        if item.startswith("*/*"):
            kind = "*/*"
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        multipart = kind == MULTIPART
        inner = parameters.get("type", "*/*").lower() if multipart else kind
        syntax = parameters.get("transfer-syntax", "*")
        if quality > 0:
            found.append((quality, Accepted(inner, multipart, syntax)))
    return [wish for _, wish in sorted(found, key=lambda pair: -pair[0])]


def matches(wish: Accepted, kind: str, syntaxes: Iterable[str]) -> bool:
    """Say whether what we have is what one media range asks for."""
    main = kind.split("/", maxsplit=1)[0]
    if wish.kind not in ("*/*", f"{main}/*", kind):
        return False
    return wish.syntax in ("*", "") or wish.syntax in syntaxes


@dataclass(frozen=True)
class Part:
    """One part of a multipart body.

    Attributes
    ----------
    content_type : str
        With its parameters.
    body : iterable of bytes
        Read when it is sent.
    location : str
        Content-Location; empty for none.
    """

    content_type: str
    body: Iterable[bytes] = field(repr=False)
    location: str = ""


def multipart(parts: Iterable[Part], kind: str) -> StreamingResponse:
    """Answer ``multipart/related`` with these parts, each read when its turn comes."""
    boundary = f"overread-{secrets.token_hex(16)}"

    def body() -> Iterator[bytes]:
        for part in parts:
            # What a sender put into a UID must not end a line here.
            media = "".join(filter(str.isprintable, part.content_type))
            head = f"--{boundary}\r\nContent-Type: {media}\r\n"
            if part.location:
                head += f"Content-Location: {quote(part.location, safe='/:?&=%[]')}\r\n"
            yield f"{head}MIME-Version: 1.0\r\n\r\n".encode()
            yield from part.body
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return StreamingResponse(
        body(), media_type=f'multipart/related; type="{kind}"; boundary={boundary}'
    )

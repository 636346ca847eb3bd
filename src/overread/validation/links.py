"""Signed links: a PACS that shares a key with this site shows that it made a link, and when.

What is signed is the link's parameters but for ``signature``: each name and value percent-encoded
(RFC 3986: letters, digits and ``-._~`` stand for themselves, all else is UTF-8 bytes as ``%XX``,
upper case), joined as ``name=value``, sorted, joined by ``&``. One of them is ``expires``, in
seconds since 1970. ``signature`` is the HMAC-SHA256 (RFC 2104) of those ASCII bytes, in hexadecimal
digits. Time is an argument.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from hashlib import sha256
from urllib.parse import quote

SHORTEST_KEY = 16
"""Characters that a key has at least."""

SKEW = 60
"""Seconds that a PACS's clock may be behind ours."""

_EXPIRES, _SIGNATURE = "expires", "signature"


class Standing(StrEnum):
    """What a link is."""

    SIGNED = "signed"
    UNSIGNED = "unsigned"
    EXPIRED = "expired"
    FORGED = "forged"
    """The signature is of another link, or by another key."""


def canonical(parameters: Mapping[str, str]) -> bytes:
    """Return the bytes that are signed.

    Parameters
    ----------
    parameters : mapping
        Of the link, decoded, ``expires`` among them; ``signature`` is left out.
    """
    pairs = (
        f"{quote(name, safe='-._~')}={quote(value, safe='-._~')}"
        for name, value in parameters.items()
        if name != _SIGNATURE
    )
    return "&".join(sorted(pairs)).encode("ascii")


def signature(parameters: Mapping[str, str], key: str) -> str:
    """Return a link's signature: 64 hexadecimal digits."""
    return hmac.new(key.encode(), canonical(parameters), sha256).hexdigest()


def sign(parameters: Mapping[str, str], key: str, expires: int) -> dict[str, str]:
    """Return a link's parameters with its expiry and signature.

    Parameters
    ----------
    expires : int
        Seconds since 1970 until which it opens.
    """
    signed = {**parameters, _EXPIRES: str(expires)}
    return {**signed, _SIGNATURE: signature(signed, key)}


def standing(pairs: Sequence[tuple[str, str]], key: str, now: float) -> Standing:
    """Say what a link is.

    Parameters
    ----------
    pairs : sequence of (str, str)
        Its parameters, decoded, as they stand in it.
    key : str
        The key that is shared; empty where there is none, and then nothing is signed.
    now : float
        Seconds since 1970.
    """
    parameters = dict(pairs)
    if _SIGNATURE not in parameters and _EXPIRES not in parameters:
        return Standing.UNSIGNED
    said, expires = parameters.get(_SIGNATURE, ""), parameters.get(_EXPIRES, "")
    # A name that stands twice could be read as one thing by who signed it, as another by us.
    is_sound = len(parameters) == len(pairs) and re.fullmatch(r"[0-9]{1,12}", expires)
    made = signature(parameters, key)
    if not key or not hmac.compare_digest(made.encode(), said.lower().encode()) or not is_sound:
        return Standing.FORGED
    return Standing.EXPIRED if now > int(expires) + SKEW else Standing.SIGNED

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.validation.links import SKEW, Standing, canonical, sign, signature, standing

VECTOR = "f864ac1f4329e92f1f9311c6a7822f0ea178fec137b2afcc6151a8312b2b0c53"
KEY = "a key of the test, of the two"
NOW = 1_780_000_000
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PARAMETERS = st.dictionaries(
    TEXT.filter(lambda name: name not in ("expires", "signature")), TEXT, max_size=5
)


def test_the_vector_of_the_documentation() -> None:
    """What docs/links.md shows, so that whoever implements it can compare."""
    parameters = {
        "accession": "A 17/3", "patient": "Müller-7", "project": "hip", "expires": "1780000300",
    }  # fmt: skip
    assert canonical(parameters) == (
        b"accession=A%2017%2F3&expires=1780000300&patient=M%C3%BCller-7&project=hip"
    )
    assert signature(parameters, "0123456789abcdef0123456789abcdef") == VECTOR


@given(PARAMETERS)
def test_a_signed_link_holds_until_it_expires(parameters: dict[str, str]) -> None:
    pairs = list(sign(parameters, KEY, NOW + 300).items())
    assert standing(pairs, KEY, NOW) is Standing.SIGNED
    assert standing(pairs[::-1], KEY, NOW + 300 + SKEW) is Standing.SIGNED
    assert standing(pairs, KEY, NOW + 301 + SKEW) is Standing.EXPIRED
    assert standing(pairs, KEY + "x", NOW) is Standing.FORGED
    assert standing(pairs, "", NOW) is Standing.FORGED


@given(PARAMETERS, st.data())
def test_a_link_that_was_altered_is_forged(parameters: dict[str, str], data: st.DataObject) -> None:
    signed = sign({"accession": "A1", **parameters}, KEY, NOW + 300)
    name = data.draw(st.sampled_from(sorted(signed)))
    other = data.draw(TEXT.filter(lambda value: value.lower() != signed[name].lower()))
    assert standing(list({**signed, name: other}.items()), KEY, NOW) is Standing.FORGED
    less = {one: value for one, value in signed.items() if one != name}
    assert standing(list(less.items()), KEY, NOW) is Standing.FORGED
    more = [*signed.items(), ("more", "1")]
    assert standing(more, KEY, NOW) is Standing.FORGED


@pytest.mark.parametrize(
    "expires", ["", "soon", "-1", "1e99", "9" * 13, "１７８００００３００", "1.5"]
)
def test_an_expiry_that_is_none_is_forged_however_it_is_signed(expires: str) -> None:
    parameters = {"accession": "A1", "expires": expires}
    pairs = [*parameters.items(), ("signature", signature(parameters, KEY))]
    assert standing(pairs, KEY, NOW) is Standing.FORGED


def test_a_name_that_stands_twice_is_forged() -> None:
    pairs = [("accession", "A2"), *sign({"accession": "A1"}, KEY, NOW + 300).items()]
    assert standing(pairs, KEY, NOW) is Standing.FORGED
    assert standing([pairs[1], pairs[1], *pairs[2:]], KEY, NOW) is Standing.FORGED


def test_without_signature_and_expiry_a_link_is_unsigned() -> None:
    assert standing([("accession", "A1")], KEY, NOW) is Standing.UNSIGNED
    assert standing([], "", NOW) is Standing.UNSIGNED
    assert standing([("accession", "A1"), ("expires", "9")], KEY, NOW) is Standing.FORGED


def test_digits_may_be_upper_case() -> None:
    signed = sign({"accession": "A1"}, KEY, NOW)
    signed["signature"] = signed["signature"].upper()
    assert standing(list(signed.items()), KEY, NOW) is Standing.SIGNED

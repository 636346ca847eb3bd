from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.measures.units import UNITS, convert


@pytest.mark.parametrize(
    ("value", "source", "target", "molar_mass", "expected"),
    [
        (154, "[lb_av]", "kg", None, 69.8532),
        (70, "kg", "g", None, 70000),
        (180, "cm", "m", None, 1.8),
        (18, "mo", "a", None, 1.5),
        (98.6, "[degF]", "Cel", None, 37),
        (120, "mm[Hg]", "kPa", None, 15.9987),
        (1.0, "mg/dL", "mg/L", None, 10),
        (1.0, "mg/dL", "umol/L", 584.66, 17.104),  # bilirubin
        (88.42, "umol/L", "mg/dL", 113.12, 1.0002),  # creatinine
        (250, "10*3/uL", "10*9/L", None, 250),
        (5, "ng/mL", "ug/L", None, 5),
    ],
)
def test_known_conversions(
    value: float, source: str, target: str, molar_mass: float | None, expected: float
) -> None:
    assert convert(value, source, target, molar_mass) == pytest.approx(expected, rel=1e-4)


@given(
    st.sampled_from([(a, b) for a in UNITS for b in UNITS if UNITS[a].kind == UNITS[b].kind]),
    st.floats(-1e6, 1e6),
)
def test_there_and_back_is_the_same(pair: tuple[str, str], value: float) -> None:
    one, other = pair
    back = convert(convert(value, one, other), other, one)
    assert back == pytest.approx(value, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("kg", "m", r"kg \(mass\) cannot be turned into m \(length\)"),
        ("mg/dL", "umol/L", "molar_mass"),
        ("pound", "kg", "'pound' is not known; write a UCUM code"),
        ("mgg", "g", "perhaps mg"),
    ],
)
def test_what_cannot_be_turned(source: str, target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert(1, source, target)

"""Units of clinical values, as UCUM writes them, and what one is in another.

A short table rather than a grammar: these are the units that weights, sizes, ages, temperatures,
pressures and laboratory values come in. Sources: The Unified Code for Units of Measure, version
2.1 (definitions of the units); a year is UCUM's ``a``, of 365.25 days.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Unit:
    """A unit: ``value × factor + offset`` is in the base unit of its kind."""

    kind: str
    factor: float = 1.0
    offset: float = 0.0


_DAY = 86_400.0
UNITS: dict[str, Unit] = {
    "1": Unit("number"),
    "%": Unit("number", 0.01),
    "kg": Unit("mass"),
    "g": Unit("mass", 1e-3),
    "mg": Unit("mass", 1e-6),
    "[lb_av]": Unit("mass", 0.45359237),
    "[oz_av]": Unit("mass", 0.45359237 / 16),
    "m": Unit("length"),
    "cm": Unit("length", 1e-2),
    "mm": Unit("length", 1e-3),
    "[in_i]": Unit("length", 0.0254),
    "[ft_i]": Unit("length", 0.3048),
    "kg/m2": Unit("mass per area"),
    "m2": Unit("area"),
    "cm2": Unit("area", 1e-4),
    "L": Unit("volume"),
    "dL": Unit("volume", 0.1),
    "mL": Unit("volume", 1e-3),
    "s": Unit("time"),
    "min": Unit("time", 60.0),
    "h": Unit("time", 3600.0),
    "d": Unit("time", _DAY),
    "wk": Unit("time", 7 * _DAY),
    "mo": Unit("time", 365.25 * _DAY / 12),
    "a": Unit("time", 365.25 * _DAY),
    "K": Unit("temperature"),
    "Cel": Unit("temperature", 1.0, 273.15),
    "[degF]": Unit("temperature", 5 / 9, 273.15 - 32 * 5 / 9),
    "Pa": Unit("pressure"),
    "kPa": Unit("pressure", 1e3),
    "mm[Hg]": Unit("pressure", 133.322387415),
    "g/L": Unit("mass concentration"),
    "g/dL": Unit("mass concentration", 10.0),
    "mg/dL": Unit("mass concentration", 1e-2),
    "mg/L": Unit("mass concentration", 1e-3),
    "ug/mL": Unit("mass concentration", 1e-3),
    "ug/dL": Unit("mass concentration", 1e-5),
    "ug/L": Unit("mass concentration", 1e-6),
    "ng/mL": Unit("mass concentration", 1e-6),
    "ng/L": Unit("mass concentration", 1e-9),
    "pg/mL": Unit("mass concentration", 1e-9),
    "mol/L": Unit("amount concentration"),
    "mmol/L": Unit("amount concentration", 1e-3),
    "umol/L": Unit("amount concentration", 1e-6),
    "nmol/L": Unit("amount concentration", 1e-9),
    "pmol/L": Unit("amount concentration", 1e-12),
    "U/L": Unit("catalytic concentration"),
    "k[IU]/L": Unit("international units", 1e3),
    "[IU]/L": Unit("international units"),
    "[IU]/mL": Unit("international units", 1e3),
    "10*9/L": Unit("number concentration", 1e9),
    "10*12/L": Unit("number concentration", 1e12),
    "/uL": Unit("number concentration", 1e6),
    "10*3/uL": Unit("number concentration", 1e9),
    "mL/min": Unit("flow"),
    "mL/min/{1.73_m2}": Unit("flow per body surface"),
    "[pH]": Unit("acidity"),
}
"""UCUM code to what it is; those of one kind can be turned into each other."""


def convert(value: float, source: str, target: str, molar_mass: float | None = None) -> float:
    """Turn a value in one unit into another.

    Parameters
    ----------
    value : float
        In ``source``.
    source, target : str
        UCUM codes of `UNITS`, of one kind; or, with a molar mass, a mass concentration and an
        amount concentration.
    molar_mass : float, optional
        Of the substance, g/mol.

    Raises
    ------
    ValueError
        A unit is not known, or the one cannot be turned into the other.
    """
    if source == target:
        return value
    one, other = _unit(source), _unit(target)
    base = value * one.factor + one.offset
    kinds = one.kind, other.kind
    if kinds == ("mass concentration", "amount concentration") and molar_mass:
        base /= molar_mass
    elif kinds == ("amount concentration", "mass concentration") and molar_mass:
        base *= molar_mass
    elif one.kind != other.kind:
        raise ValueError(
            f"{source} ({one.kind}) cannot be turned into {target} ({other.kind}); write units of "
            "one kind, or for a concentration the substance's molar_mass"
        )
    return (base - other.offset) / other.factor


def _unit(code: str) -> Unit:
    if code not in UNITS:
        close = get_close_matches(code, UNITS, n=3, cutoff=0.4)
        hint = f", perhaps {' or '.join(close)}" if close else ""
        raise ValueError(f"the unit {code!r} is not known; write a UCUM code{hint}")
    return UNITS[code]

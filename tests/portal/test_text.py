from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from overread.portal import text

NOW = datetime(2026, 6, 2, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("20260602", "2 Jun 2026"),
        ("2026.06.02", "2 Jun 2026"),
        ("20261302", "20261302"),
        ("20260231", "20260231"),
        ("2026.0602", "2026.0602"),
        ("2026W012", "2026W012"),
        ("²0260602", "²0260602"),
        ("2026", "2026"),
        ("", "no date"),
    ],
)
def test_dicom_date(value: str, written: str) -> None:
    assert text.dicom_date(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("PHANTOM^SIX", "PHANTOM, SIX"),
        ("PHANTOM^SIX^MIDDLE^Dr", "PHANTOM, SIX MIDDLE"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou"),
        ("=山田^太郎", "山田, 太郎"),
        ("PHANTOM", "PHANTOM"),
        ("", "no name"),
    ],
)
def test_person(value: str, written: str) -> None:
    assert text.person(value) == written


@pytest.mark.parametrize(
    ("birth", "on", "written"),
    [
        ("19710204", "20260602", "55 y"),
        ("19710603", "20260602", "54 y"),
        ("19710602", "20260602", "55 y"),
        ("", "20260602", ""),
        ("20270101", "20260602", ""),
        ("1971.02.04", "20260602", "55 y"),
        ("20000229", "20260228", "25 y"),
        ("20000229", "20260301", "26 y"),
        ("00000000", "20260602", ""),
        ("19719999", "20260602", ""),
    ],
)
def test_age(birth: str, on: str, written: str) -> None:
    assert text.age(birth, on) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0.0"), (0.0412, "0.04"), (9.94, "9.9"), (128.26, "128.3"), (1543.7, "1544")],
)
def test_volume(value: float, written: str) -> None:
    assert text.volume(value) == written


@pytest.mark.parametrize(
    ("value", "written"), [(135.8, "+136 %"), (-3.2, "−3 %"), (0.1, "±0 %"), (None, "")]
)
def test_change(value: float | None, written: str) -> None:
    assert text.change(value) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(5, "just now"), (65, "1 min ago"), (7300, "2 h ago"), (200000, "2 d ago")],
)
def test_ago(seconds: int, written: str) -> None:
    assert text.ago(NOW - timedelta(seconds=seconds), NOW) == written


@pytest.mark.parametrize(
    ("seconds", "written"), [(0.42, "0.42 s"), (12.34, "12.3 s"), (245, "4 min 5 s")]
)
def test_span(seconds: float, written: str) -> None:
    assert text.span(timedelta(seconds=seconds)) == written

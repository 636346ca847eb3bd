from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from overread.portal.failures import Failures

NOW = datetime(2026, 6, 2, 9, tzinfo=UTC)
NONE = timedelta(0)


def test_five_failures_make_a_name_wait_at_that_address_only() -> None:
    failures = Failures()
    for second in range(5):
        assert failures.wait(NOW, "ada", "10.0.0.1") == NONE
        failures.add(NOW + timedelta(seconds=second), "ada", "10.0.0.1")
    later = NOW + timedelta(seconds=10)
    assert failures.wait(later, "ada", "10.0.0.1") == timedelta(minutes=5, seconds=-10)
    assert failures.wait(later, "ada", "10.0.0.2") == NONE
    assert failures.wait(later, "bob", "10.0.0.1") == NONE
    assert failures.wait(NOW + timedelta(minutes=6), "ada", "10.0.0.1") == NONE


def test_an_address_that_tries_many_names_waits_for_all_of_them() -> None:
    failures = Failures()
    for number in range(50):
        failures.add(NOW, f"name{number}", "10.0.0.1")
    assert failures.wait(NOW, "ada", "10.0.0.1") > NONE
    assert failures.wait(NOW, "ada", "10.0.0.2") == NONE


def test_what_is_remembered_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overread.portal.failures._REMEMBERED", 4)
    failures = Failures()
    failures.add(NOW, "ada", "10.0.0.1")
    failures.add(NOW, "bob", "10.0.0.2")
    later = NOW + timedelta(minutes=6)
    assert failures.wait(later, "ada", "10.0.0.1") == NONE  # leaves nothing to look at
    failures.add(later, "eve", "10.0.0.3")
    failures.add(later, "eve", "10.0.0.4")
    assert set(failures._times) == {
        (name, address) for address in ("10.0.0.3", "10.0.0.4") for name in ("eve", "")
    }


def test_signing_in_forgets_the_failures() -> None:
    failures = Failures()
    for _ in range(5):
        failures.add(NOW, "ada", "10.0.0.1")
    failures.clear("ada", "10.0.0.1")
    assert failures.wait(NOW, "ada", "10.0.0.1") == NONE

from __future__ import annotations

import pytest

from overread.validation.permissions import ACTIONS, ROLES, Actor, may

READER_MAY = {"case.list", "case.see", "image.see", "image.store", "result.list"}
ENGINEER_MAY = READER_MAY | {"image.route", "exam.list", "aside.see", "job.list", "job.see"}
MAY = {"reader": READER_MAY, "engineer": ENGINEER_MAY, "admin": ENGINEER_MAY}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_roles(role: str, action: str) -> None:
    answer = may(Actor("ada", role), action)
    assert answer.yes is (action in MAY[role])
    assert answer.reason


@pytest.mark.parametrize("action", sorted(ACTIONS))
@pytest.mark.parametrize("actor", [None, Actor("ada", ""), Actor("ada", "Admin")])
def test_nobody_and_unknown_roles_may_nothing(actor: Actor | None, action: str) -> None:
    assert not may(actor, action).yes


def test_reason_names_who_what_and_what_it_takes() -> None:
    reason = may(Actor("rosa", "reader"), "job.see", "job 3f2a").reason
    assert reason == "rosa is reader; to see a job and its log (job 3f2a) needs engineer or admin"


def test_an_unknown_action_is_a_defect() -> None:
    with pytest.raises(KeyError):
        may(Actor("ada", "admin"), "job.sea")

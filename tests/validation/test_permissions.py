from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.validation.permissions import ACTIONS, ROLES, Actor, Grant, Role, may, reach

DOCS = Path(__file__).parents[2] / "docs" / "permissions.md"

READER_MAY = {
    "case.list", "case.see", "image.see", "image.edit", "reading.give", "result.list",
    "account.see",
}  # fmt: skip


def actor(*grants: Grant, scopes: frozenset[str] | None = None) -> Actor:
    return Actor("ada", frozenset(grants), scopes=scopes)


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_what_a_reader_may(action: str) -> None:
    answer = may(actor(Grant("reader")), action)
    assert answer.yes is (action in READER_MAY)
    assert answer.reason


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_a_role_of_a_project_reaches_into_that_project_only(role: str, action: str) -> None:
    ada = actor(Grant(role, "glioma"))
    within = role in ACTIONS[action].roles and not ACTIONS[action].of_site
    assert may(ada, action).yes is within
    assert may(ada, action, projects={"glioma", "liver"}).yes is within
    assert not may(ada, action, projects={"liver"}).yes
    assert not may(ada, action, projects=()).yes


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_a_role_of_the_site_reaches_everywhere(role: str, action: str) -> None:
    ada = actor(Grant(role))
    for projects in (None, {"liver"}, ()):
        assert may(ada, action, projects=projects).yes is (role in ACTIONS[action].roles)


@pytest.mark.parametrize("action", sorted(ACTIONS))
@pytest.mark.parametrize("nobody", [None, Actor("ada"), actor(Grant("Administrator"))])
def test_nobody_and_unknown_roles_may_nothing(nobody: Actor | None, action: str) -> None:
    assert not may(nobody, action).yes
    assert not may(nobody, action, projects={"glioma"}).yes


@given(
    grants=st.frozensets(
        st.builds(Grant, st.sampled_from(ROLES), st.sampled_from(["", "a", "b"])), max_size=4
    ),
    action=st.sampled_from(sorted(ACTIONS)),
    projects=st.frozensets(st.sampled_from(["a", "b", "c"])),
)
def test_reach_and_may_say_the_same(
    grants: frozenset[Grant], action: str, projects: frozenset[str]
) -> None:
    ada = Actor("ada", grants)
    where = reach(ada, action)
    assert may(ada, action, projects=projects).yes is (
        where.everywhere or bool(where.projects & projects)
    )


def test_a_token_does_what_it_is_made_for_and_no_more_than_its_owner() -> None:
    ada = actor(Grant("reader"), scopes=frozenset({"case.*", "job.see"}))
    assert may(ada, "case.see").yes
    assert not may(ada, "image.see").yes
    assert not may(ada, "job.see").yes
    assert "this token" in may(ada, "image.see").reason


def test_reason_names_who_what_and_what_it_takes() -> None:
    reason = may(actor(Grant("reader")), "job.see", "job 3f2a").reason
    assert reason == (
        "ada is reader; to see a job and its log (job 3f2a) needs engineer or administrator"
    )
    elsewhere = may(actor(Grant("reader", "liver")), "case.see", projects={"glioma"}).reason
    assert elsewhere == "ada may open a case in liver only, not here"


def test_an_unknown_action_is_a_defect() -> None:
    with pytest.raises(KeyError):
        may(actor(Grant("administrator")), "job.sea")


def test_the_roles_are_those_of_the_type() -> None:
    assert get_args(Role) == ROLES


def test_the_page_has_the_table_as_it_is() -> None:
    lines = [f"| action | to | {' | '.join(ROLES)} |", f"| --- | --- |{' --- |' * len(ROLES)}"]
    for action in ACTIONS.values():
        yes = "site" if action.of_site else "✓"
        marks = " | ".join(yes if role in action.roles else "" for role in ROLES)
        lines.append(f"| `{action.name}` | {action.phrase} | {marks} |")
    assert "\n".join(lines) in DOCS.read_text(), "docs/permissions.md has another table"

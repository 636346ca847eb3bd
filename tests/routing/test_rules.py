"""Which AE titles an instance goes to: a table of cases, and what holds for all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydicom import Dataset

from overread.dicom.study import Origin
from overread.routing.rules import Decision, Route, decide


def image(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def route(name: str, when: Any, *send_to: str) -> Route:
    return Route.model_validate({"name": name, "when": when, "send_to": list(send_to)})


TABLE_1 = [
    route(
        "tumour",
        {
            "SOPClassUID": "MRImageStorage",
            "StudyDescription": {"like": "*BRAIN*NAV*"},
            "StationName": {"in": ["MRPILOT1", "MRPILOT2"]},
        },
        "CI2_CD_BTS",
    ),
    route("all", "always", "PACS", "ARCHIVE"),
]
BRAIN = image(
    SOPClassUID="1.2.840.10008.5.1.4.1.1.4",
    StudyDescription="MR Brain with NAV",
    StationName="MRPILOT2",
)
CHEST = image(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", StudyDescription="CT chest")


def sent(decisions: list[Decision]) -> list[str]:
    return [decision.ae_title for decision in decisions if decision.send]


@pytest.mark.parametrize(
    ("header", "origin", "expected"),
    [
        (BRAIN, Origin("SCANNER", "OVERREAD"), ["CI2_CD_BTS", "PACS", "ARCHIVE"]),
        (CHEST, Origin("SCANNER", "OVERREAD"), ["PACS", "ARCHIVE"]),
        (BRAIN, Origin("PACS", "OVERREAD"), ["CI2_CD_BTS", "ARCHIVE"]),
        (BRAIN, Origin("PACS", "CI2_CD_BTS"), ["ARCHIVE"]),
        (BRAIN, Origin(), ["CI2_CD_BTS", "PACS", "ARCHIVE"]),
        (image(), Origin("SCANNER", "OVERREAD"), ["PACS", "ARCHIVE"]),
    ],
)
def test_table(header: Dataset, origin: Origin, expected: list[str]) -> None:
    assert sent(decide(TABLE_1, header, origin)) == expected


def test_every_route_and_ae_title_is_decided_with_its_reason() -> None:
    routes = [*TABLE_1, route("again", {"Modality": {"exists": False}}, "PACS", "PACS")]
    decisions = decide(routes, CHEST, Origin("ARCHIVE", "OVERREAD"))
    assert [(one.route, one.ae_title, one.send) for one in decisions] == [
        ("tumour", "CI2_CD_BTS", False),
        ("all", "PACS", True),
        ("all", "ARCHIVE", False),
        ("again", "PACS", False),
    ]
    reasons = [one.why["reason"] for one in decisions]
    assert reasons[0] == "its condition is not met"
    assert "nothing is sent back" in reasons[2]
    assert "route 'all' sends it there already" in reasons[3]
    found = [part["found"] for part in decisions[0].why["condition"]["of"]]
    assert found == ["found '1.2.840.10008.5.1.4.1.1.2'", "found 'CT chest'", "absent"]
    assert json.loads(json.dumps([one.why for one in decisions])) == [one.why for one in decisions]


def test_without_routes_nothing_is_sent() -> None:
    assert decide([], BRAIN, Origin()) == []


@pytest.mark.parametrize(
    "data",
    [
        {"name": "a", "when": "always", "send_to": []},
        {"name": "", "when": "always", "send_to": ["PACS"]},
        {"name": "a", "when": {"Modalty": "MR"}, "send_to": ["PACS"]},
        {"name": "a", "when": "always", "send_to": ["A TITLE THAT IS TOO LONG"]},
        {"name": "a", "when": "always", "send_to": ["PACS"], "sent_to": []},
        {"name": "a", "send_to": ["PACS"]},
    ],
)
def test_a_malformed_route_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Route.model_validate(data)


TITLES = st.sampled_from(["A", "B", "C", "D"])
ROUTES = st.lists(
    st.builds(
        route,
        st.sampled_from(["one", "two", "three"]),
        st.sampled_from(["always", {"Modality": "MR"}, {"not": {"Modality": "MR"}}]),
        TITLES,
        TITLES,
    ),
    max_size=4,
)


@given(ROUTES, st.sampled_from(["MR", "CT"]), TITLES, TITLES)
def test_once_to_each_and_never_back(
    routes: list[Route], modality: str, calling: str, called: str
) -> None:
    header = image(Modality=modality)
    targets = sent(decide(routes, header, Origin(calling, called)))
    assert len(targets) == len(set(targets))
    wanted = {title for one in routes if one.when.holds(header) for title in one.send_to}
    assert set(targets) == wanted - {calling, called}

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

from overread.dicom.match import parse
from overread.dicom.study import Exam, Instance, Origin
from overread.errors import Refused
from overread.operators.select import select_series
from overread.pipelines.ports import Account

WHERE = parse({"SeriesDescription": {"like": "T1*POST*"}})


def series(uid: str, count: int = 3, **values: Any) -> list[Instance]:
    made = []
    for index in range(count):
        header = Dataset()
        header.SeriesInstanceUID = uid
        header.SOPInstanceUID = f"{uid}.{index}"
        header.SeriesNumber = int(uid[-1])
        for keyword, value in values.items():
            setattr(header, keyword, value)
        made.append(Instance(header, None, Origin()))
    return made


T1 = series("1.1", SeriesDescription="T1 AX POST", SeriesDate="20260101", SeriesTime="10")
T1_LATER = series("1.2", 5, SeriesDescription="T1 AX POST", SeriesDate="20260101", SeriesTime="11")
T2 = series("1.3", SeriesDescription="T2 AX")


def exam(*groups: list[Instance]) -> Exam:
    return Exam(tuple(one for group in groups for one in group))


def test_the_one_that_fits_is_taken_and_the_others_are_accounted_for() -> None:
    account = Account()
    chosen = select_series(exam(T2, T1), account, where=WHERE)
    assert [one.uid for one in chosen] == [one.uid for one in T1]
    assert account.used == [
        ("1.1", "series 1 “T1 AX POST” (3 images) fits what the pipeline asks for")
    ]
    ((uid, why),) = account.unused
    assert uid == "1.3"
    assert "SeriesDescription" in why
    assert "T2 AX" in why


def test_the_condition_is_asked_of_every_image() -> None:
    mixed = [*T1, *series("1.1", 1, SeriesDescription="LOC")]
    account = Account()
    assert len(select_series(exam(mixed), account, where=WHERE)) == 3
    assert [uid for uid, _ in account.unused] == ["1.1.0"]


def test_none_that_fits_is_refused_with_what_was_there() -> None:
    with pytest.raises(Refused, match=r"no series fits.*series 3 “T2 AX” \(3 images\): "):
        select_series(exam(T2), Account(), where=WHERE)
    with pytest.raises(Refused, match="the exam has no images"):
        select_series(exam(), Account(), where=WHERE)


@pytest.mark.parametrize(
    ("prefer", "uid"),
    [
        (("most_instances",), "1.2"),
        (("fewest_instances",), "1.1"),
        (("latest",), "1.2"),
        (("earliest",), "1.1"),
        ((parse({"SeriesNumber": 2}), "earliest"), "1.2"),
        ((parse({"SeriesNumber": 9}), "earliest"), "1.1"),
    ],
)
def test_preferences_settle_a_tie(prefer: Any, uid: str) -> None:
    account = Account()
    assert select_series(exam(T1, T1_LATER), account, where=WHERE, prefer=prefer).uid == uid
    assert len(account.unused) == 1


def test_a_series_without_a_date_is_not_the_latest() -> None:
    undated = series("1.9", SeriesDescription="T1 AX POST")
    found = select_series(exam(undated, T1), Account(), where=WHERE, prefer=("earliest",))
    assert found.uid == "1.1"


@pytest.mark.parametrize("prefer", [(), ("most_instances",)])
def test_a_tie_that_nothing_settles_is_refused(prefer: Any) -> None:
    twin = series("1.4", SeriesDescription="T1 AX POST")
    with pytest.raises(Refused, match=r"2 series fit .* series 1 .*; series 4"):
        select_series(exam(T1, twin), Account(), where=WHERE, prefer=prefer)

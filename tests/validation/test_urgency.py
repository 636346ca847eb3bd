from __future__ import annotations

import pytest

from overread.validation.project import Urgent
from overread.validation.results import (
    Class,
    Classification,
    Detection,
    Detections,
    Measurement,
    Measurements,
)
from overread.validation.urgency import is_urgent

TUMOUR = Measurements((Measurement("Tumour", "volume", 31.0, "mL", "counted"),))
FRACTURE = Detections(
    (Detection(id="1", label="fracture", score=0.7, image="1.2", frame=0, box=(1, 2, 3, 4)),)
)
CLASSES = Classification((Class("Left hip", "displaced", 0.4, {}),))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Urgent(above=30), True),
        (Urgent(above=31), False),
        (Urgent(above=30, region="Tumour"), True),
        (Urgent(above=30, region="Liver"), False),
        (Urgent(above=30, quantity="diameter"), False),
        (Urgent(label=("fracture",)), True),
        (Urgent(label=("fracture",), above=0.7), False),
        (Urgent(label=("fracture",), above=0.6), True),
        (Urgent(label=("other", "displaced")), True),
        (Urgent(label=("displaced",), region="Right hip"), False),
        (Urgent(label=("displaced",), region="Left hip", above=0.3), True),
        (Urgent(label=("Tumour",)), False),
    ],
)
def test_all_that_a_rule_gives_must_be_so_of_one_finding(rule: Urgent, expected: bool) -> None:
    assert is_urgent([rule], [TUMOUR, FRACTURE, CLASSES]) is expected
    assert is_urgent([Urgent(label=("nothing",)), rule], [CLASSES, FRACTURE, TUMOUR]) is expected


def test_without_rules_or_findings_nothing_is_urgent() -> None:
    assert not is_urgent([], [TUMOUR])
    assert not is_urgent([Urgent(above=0)], [])

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from overread.validation.page import Page, Series, Threshold


def test_a_page_that_says_nothing_shows_everything() -> None:
    page = Page()
    assert page.blocks == (
        "text", "summary", "findings", "plot", "measurements", "form", "objects", "provenance",
    )  # fmt: skip
    assert page.series == ()


def test_what_a_project_writes() -> None:
    page = Page.model_validate(
        {
            "blocks": ["summary", "form"],
            "series": [
                {
                    "quantity": "volume",
                    "regions": ["tumour"],
                    "baseline": "nadir",
                    "threshold": {"increase": "25%", "absolute": 1.5, "words": "progression"},
                    "repeatability": "12.5 %",
                }
            ],
        }
    )
    (series,) = page.series
    assert series.threshold == Threshold(increase="25%", absolute=1.5, words="progression")
    assert series.threshold.increase == 25
    assert series.repeatability == 12.5
    assert series.baseline == "nadir"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"blocks": ["form", "form"]}, "form stands there twice; name each once"),
        ({"columns": ["date", "value", "date"]}, "date stands there twice"),
        ({"blocks": ["numbers"]}, "Input should be 'text', 'summary'"),
        ({"series": [{"threshold": {"words": "growth"}}]}, "it says nothing; write `increase:`"),
        ({"series": [{"threshold": {"increase": 25}}]}, "is no percentage; write one as 25%"),
        ({"series": [{"threshold": {"increase": "0%"}}]}, "greater than 0"),
        ({"series": [{"threshold": {"absolute": -1}}]}, "greater than 0"),
        ({"series": [{"repeatability": "much%"}]}, "could not convert"),
        ({"series": [{"baseline": "last"}]}, "Input should be 'first' or 'nadir'"),
        ({"text": "x" * 4001}, "at most 4000"),
        ({"plots": []}, "Extra inputs"),
    ],
)
def test_what_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Page.model_validate(given)


def test_a_series_is_of_volumes_unless_it_says_otherwise() -> None:
    assert Series().quantity == "volume"

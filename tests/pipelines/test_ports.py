"""What an operator's signature says: ports, settings, what is filled in, what is made."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from overread.dicom.volume import Mask, Volume
from overread.pipelines.ports import (
    Account,
    Chosen,
    Context,
    Outside,
    Progress,
    signature,
)


def several(
    volume: Volume,
    context: Context,
    account: Account,
    progress: Progress,
    outside: Outside,
    mask: Mask | None = None,
    *,
    makes: str,
    level: int = 3,
    **others: Volume,
) -> Annotated[Volume | Mask, Chosen("makes", {"volume": Volume, "mask": Mask})]:
    """Have one of everything."""
    raise NotImplementedError


def test_each_parameter_has_its_part() -> None:
    ports = signature("several", several)
    assert list(ports.inputs) == ["volume", "mask"] and ports.optional == {"mask"}
    assert list(ports.settings) == ["makes", "level"] and ports.required == {"makes"}
    filled = (ports.context, ports.account, ports.progress, ports.outside)
    assert filled == ("context", "account", "progress", "outside")


@pytest.mark.parametrize(
    ("port", "kind"),
    [
        ("volume", Volume), ("mask", Mask | None), ("anything", Volume), ("level", None),
        ("context", None), ("outside", None), ("a-b", None), ("../x", None), ("", None),
    ],
)  # fmt: skip
def test_further_inputs_are_named_by_the_pipeline(port: str, kind: Any) -> None:
    assert signature("several", several).takes(port) == kind


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"makes": "mask"}, Mask), ({"makes": "volume"}, Volume),
        ({"makes": "other"}, Volume | Mask), ({}, Volume | Mask),
        ({"makes": ["mask"]}, Volume | Mask),
    ],
)  # fmt: skip
def test_a_setting_says_what_is_made(settings: dict[str, Any], kind: Any) -> None:
    assert signature("several", several).makes(settings) == kind


def test_without_a_choice_it_is_what_the_annotation_says() -> None:
    def plain(volume: Volume) -> Annotated[Mask, "a remark"]:
        raise NotImplementedError

    ports = signature("plain", plain)
    assert ports.output is ports.makes({"makes": "volume"}) is Mask
    assert ports.takes("other") is None and ports.further is None


def test_positional_ports_without_names_are_none() -> None:
    def wrong(*volumes: Volume) -> Mask:
        raise NotImplementedError

    with pytest.raises(TypeError, match=r"\*volumes is not a port"):
        signature("wrong", wrong)

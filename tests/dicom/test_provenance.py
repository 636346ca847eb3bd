from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overread.dicom.provenance import derive_uid


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_a_derived_uid_is_valid_and_always_the_same(parts: list[str]) -> None:
    uid = derive_uid(*parts)
    assert uid == derive_uid(*parts)
    assert uid.is_valid
    assert uid.startswith("2.25.")
    assert int(uid.removeprefix("2.25.")) < 2**128


def test_other_parts_give_another_uid() -> None:
    assert len({derive_uid("ab", "c"), derive_uid("a", "bc"), derive_uid("abc")}) == 3

from pathlib import Path

from pydicom import dcmread

from overread.simulator.reference import RealCase
from overread.simulator.story import Ending, scenes


def _none() -> list[RealCase]:
    raise AssertionError("the real cases are not to be fetched for the phantom's exams")


def test_the_phantom_comes_first_and_needs_nothing_fetched() -> None:
    told = scenes(_none, 3)
    assert [scene.order.patient_name for scene in told] == ["PHANTOM^SIX"] * 3
    assert [scene.order.accession for scene in told] == ["DEMO0001", "DEMO0002", "DEMO0003"]
    assert len({scene.order.study_uid for scene in told}) == 3
    assert told[0].order.performed < told[1].order.performed


def test_the_whole_story_without_the_real_cases() -> None:
    told = scenes(list)
    endings = [scene.ending for scene in told]
    assert endings == [Ending.RESULT] * 6 + [Ending.REFUSED] * 2 + [Ending.PACS_ONLY]
    assert len({scene.order.accession for scene in told}) == 9


def test_an_exam_lacks_a_slice_and_another_is_not_of_the_brain(tmp_path: Path) -> None:
    lacking, _, elsewhere = scenes(list)[-3:]
    taken = lacking.take(tmp_path)
    numbers = [int(dcmread(file).InstanceNumber) for file in taken.files]
    assert numbers == [number for number in range(1, 25) if number != 12]
    assert "BRAIN" not in elsewhere.order.study_description


def test_what_is_taken_is_the_same_every_time(tmp_path: Path) -> None:
    scene = scenes(_none, 1)[0]
    first, again = scene.take(tmp_path / "a"), scene.take(tmp_path / "b")
    assert [f.read_bytes() for f in first.files] == [f.read_bytes() for f in again.files]
    assert first.uids == again.uids
    assert first.reference is not None
    assert first.reference.array.shape[0] == len(first.files)

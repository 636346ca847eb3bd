from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from overread.dicom.volume import Mask, Volume
from overread.errors import Refused, StepFailed
from overread.operators.infer import _SESSIONS, infer, slide, threshold, window_size, windows
from overread.pipelines.ports import Account
from tests.dicom.series import LESION, affine, ball
from tests.runtimes.tiny import tiny_model


def volume(shape: tuple[int, int, int], grid: Any = None) -> Volume:
    array = ball(shape).astype(np.float32)
    return Volume(array, affine() if grid is None else grid, "1.2", modality="MR")


@pytest.mark.parametrize("shape", [(5, 32, 32), (4, 20, 50), (7, 75, 33), (1, 100, 100)])
def test_windows_pads_and_averages_change_nothing_of_the_identity(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    given_volume = volume(shape)
    account = Account()
    mask = infer(given_volume, account, model=tiny_model(tmp_path))
    assert isinstance(mask, Mask)
    np.testing.assert_array_equal(mask.array, given_volume.array.astype(np.uint8))
    np.testing.assert_array_equal(mask.affine, given_volume.affine)
    assert mask.model == "tiny@1.2.3"
    assert mask.frame_of_reference == "1.2"
    assert [segment.label for segment in mask.segments] == ["Tumour"]
    assert any("tiny@1.2.3, SHA-256" in note for note in account.notes)


class Recorder:
    """A session that keeps what it was given and answers with a function of it."""

    def __init__(self, answer: Any = lambda array: array) -> None:
        self.seen: list[NDArray[np.float32]] = []
        self.answer = answer

    def predict(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        self.seen.append(array)
        return np.asarray(self.answer(array), np.float32)


def test_the_model_sees_slices_from_feet_to_head_front_to_back_right_to_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tmp_path, window=(0, 0, 0), multiple=1)
    session = Recorder()
    monkeypatch.setitem(_SESSIONS, ("onnx", model.card.sha256), session)
    places = np.stack(np.meshgrid(*map(np.arange, (4, 5, 6)), indexing="ij"), axis=-1)
    coronal = np.eye(4)  # slices to the front, rows to the feet, columns to the right
    coronal[:3, :3] = np.array([[0, -1.0, 0], [0, 0, -2.0], [-1.0, 0, 0]]).T
    for axis, name in enumerate("xyz"):
        values = (places @ coronal[:3, :3].T)[..., axis].astype(np.float32)
        mask = infer(Volume(values, coronal, modality="MR"), Account(), model=model)
        assert mask.array.shape == (4, 5, 6)
        seen = session.seen[-1][0, 0]
        assert seen.shape == (5, 4, 6)
        along = {"x": 2, "y": 1, "z": 0}[name]
        assert (np.diff(seen, axis=along) > 0).all(), f"{name} must grow along axis {along}"


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    window=st.tuples(*[st.integers(1, 40)] * 3),
    overlap=st.floats(0, 0.9),
)
def test_windows_cover_every_voxel(
    shape: tuple[int, int, int], window: tuple[int, int, int], overlap: float
) -> None:
    window = tuple(min(side, size) for side, size in zip(window, shape, strict=True))  # type: ignore[assignment]
    covered = np.zeros(shape, int)
    for place in windows(shape, window, overlap):
        assert covered[place].shape == window
        covered[place] += 1
    assert covered.min() >= 1


def test_a_long_stack_is_taken_in_parts(tmp_path: Path) -> None:
    card = tiny_model(tmp_path, window=(0, 512, 512)).card
    assert window_size((400, 512, 512), card.input) == (16, 512, 512)
    card = tiny_model(tmp_path, window=(0, 0, 0), multiple=32).card
    assert window_size((24, 240, 250), card.input) == (24, 256, 256)


def test_parts_of_a_long_stack_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overread.operators.infer.WINDOW_VOXELS", 1)
    given_volume = volume((50, 20, 20), affine((1, 0.9, 0.9)))
    mask = infer(given_volume, Account(), model=tiny_model(tmp_path))
    np.testing.assert_array_equal(mask.array, given_volume.array)


def test_neighbours_are_averaged(tmp_path: Path) -> None:
    card = tiny_model(tmp_path, window=(0, 16, 16)).card
    calls = iter(range(100))
    session = Recorder(lambda array: np.full_like(array, next(calls)))
    found = slide(session, np.zeros((2, 16, 40), np.float32), card, 0.5)
    row = found[0, 0, 8]
    assert (np.diff(row) > -1e-5).all()
    assert row[0] == 0
    assert row[-1] == pytest.approx(len(session.seen) - 1)


def test_the_most_probable_label_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tmp_path)
    (first,) = model.card.output.labels
    second = first.model_copy(update={"value": 300, "name": "Oedema"})
    output = model.card.output.model_copy(update={"labels": (first, second)})
    model = type(model)(model.card.model_copy(update={"output": output}), model.file)
    session = Recorder(lambda array: np.concatenate([array, 0.9 - array], axis=1))
    monkeypatch.setitem(_SESSIONS, ("onnx", model.card.sha256), session)
    values = np.array([0.0, 0.3, 0.44, 0.6, 0.9], np.float32).reshape(1, 1, 5)
    found = infer(Volume(values, affine(), modality="MR"), Account(), model=model)
    assert found.array.dtype == np.uint16
    assert found.array.ravel().tolist() == [300, 300, 0, 1, 1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"modality": "CT"}, "the images are CT; model tiny@1.2.3 was made for MR"),
        ({"affine": affine((9, 0.9, 0.9))}, "9.00 mm between slices .* for 1 to 7 mm"),
        ({"affine": affine((5, 0.9, 1.5))}, "1.50 mm between columns"),
        ({"acquired_spacing": (5, 0.2, 0.9)}, "0.20 mm between rows"),
    ],
)
def test_what_the_model_was_not_made_for_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    facts = {"affine": affine(), "modality": "MR", **changed}
    with pytest.raises(Refused, match=message):
        infer(
            Volume(np.zeros((4, 8, 8), np.float32), **facts), Account(), model=tiny_model(tmp_path)
        )


def test_a_volume_that_was_not_resampled_is_the_pipeline_s_fault(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, resample_in_plane_mm=1.0)
    with pytest.raises(ValueError, match="resample, with in_plane_mm: 1"):
        infer(volume((4, 8, 8)), Account(), model=model)


def test_a_model_that_answers_in_another_shape_has_failed(tmp_path: Path) -> None:
    card = tiny_model(tmp_path).card
    session = Recorder(lambda array: array[..., :-1])
    with pytest.raises(StepFailed, match=r"gave an array of shape .* was expected"):
        slide(session, np.zeros((2, 16, 16), np.float32), card, 0.25)


def test_an_unknown_runtime_is_named(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    model = type(model)(model.card.model_copy(update={"runtime": "abacus"}), model.file)
    with pytest.raises(StepFailed, match=r"needs the runtime abacus; there are .*'onnx'"):
        infer(volume((4, 8, 8)), Account(), model=model)


@pytest.mark.parametrize("above", [0.5, "otsu"])
def test_threshold(above: Any) -> None:
    given_volume = volume((6, 20, 20))
    mask = threshold(given_volume, Account(), above=above, segment=LESION)
    np.testing.assert_array_equal(mask.array, given_volume.array)
    assert mask.segments == (LESION,)
    assert mask.model == ""


def test_nothing_lies_above_the_threshold_of_a_constant_volume() -> None:
    flat = Volume(np.ones((3, 4, 4), np.float32), affine())
    assert not threshold(flat, Account(), above="otsu").array.any()

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from overread import runtimes
from overread.dicom.volume import Mask, Probability, Source, Volume
from overread.errors import Refused, StepFailed
from overread.operators import infer as module
from overread.operators.infer import How, slide, window_size, windows
from overread.pipelines.model import Fold
from overread.pipelines.ports import Account, Model
from overread.runtimes import Tensors
from tests.dicom.series import affine, ball
from tests.operators.test_write import CONTEXT
from tests.runtimes.tiny import tiny_model


def volume(shape: tuple[int, int, int], grid: Any = None) -> Volume:
    array = ball(shape).astype(np.float32)
    return Volume(array, affine() if grid is None else grid, "1.2", modality="MR")


def told(_done: int, _of: int, _what: str) -> None:
    """Nobody listens."""


def infer(volume: Volume, account: Account | None = None, **settings: Any) -> Mask:
    return module.infer(volume, CONTEXT, account or Account(), told, **settings)


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

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        (array,) = inputs.values()
        self.seen.append(array)
        return {"probability": np.asarray(self.answer(array), np.float32)}


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """What every model is loaded as; a test may change its answer."""
    made = Recorder()
    monkeypatch.setattr(runtimes, "session", lambda *_, **__: made)
    return made


def test_the_model_sees_slices_from_feet_to_head_front_to_back_right_to_left(
    tmp_path: Path, session: Recorder
) -> None:
    model = tiny_model(tmp_path, window=(0, 0, 0), multiple=1)
    session.answer = np.zeros_like
    places = np.stack(np.meshgrid(*map(np.arange, (4, 5, 6)), indexing="ij"), axis=-1)
    coronal = np.eye(4)  # slices to the front, rows to the feet, columns to the right
    coronal[:3, :3] = np.array([[0, -1.0, 0], [0, 0, -2.0], [-1.0, 0, 0]]).T
    for axis, name in enumerate("xyz"):
        values = (places @ coronal[:3, :3].T)[..., axis].astype(np.float32)
        mask = infer(Volume(values, coronal, modality="MR"), model=model)
        assert mask.array.shape == (4, 5, 6)
        seen = session.seen[-1][0, 0]
        assert seen.shape == (5, 4, 6)
        along = {"x": 2, "y": 1, "z": 0}[name]
        assert (np.diff(seen, axis=along) > 0).all(), f"{name} must grow along axis {along}"


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1, 3.0])
def test_what_is_no_probability_does_not_pass_for_nothing_found(
    tmp_path: Path, session: Recorder, wrong: float
) -> None:
    def answer(array: NDArray[np.float32]) -> NDArray[np.float32]:
        said = np.zeros_like(array)
        said[0, 0, 0, 0, 0] = wrong
        return said

    session.answer = answer
    with pytest.raises(StepFailed, match="0 to 1 was expected"):
        infer(volume((3, 32, 32)), model=tiny_model(tmp_path))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    window=st.tuples(*[st.integers(1, 40)] * 3),
    overlap=st.floats(0, 0.9),
)
def test_windows_cover_every_voxel(
    shape: tuple[int, int, int], window: tuple[int, int, int], overlap: float
) -> None:
    window = tuple(min(side, size) for side, size in zip(window, shape, strict=True))  # type: ignore[assignment]  # three axes stay three
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
    mask = infer(given_volume, model=tiny_model(tmp_path))
    np.testing.assert_array_equal(mask.array, given_volume.array)


def test_neighbours_are_averaged(tmp_path: Path) -> None:
    card = tiny_model(tmp_path, window=(0, 16, 16)).card
    calls = iter(range(100))
    session = Recorder(lambda array: np.full_like(array, next(calls)))
    found = slide(session, np.zeros((2, 16, 40), np.float32), card, How(0.5), told)
    row = found[0, 0, 8]
    assert (np.diff(row) > -1e-5).all()
    assert row[0] == 0
    assert row[-1] == pytest.approx(len(session.seen) - 1)


def test_the_most_probable_label_wins(tmp_path: Path, session: Recorder) -> None:
    model = tiny_model(tmp_path)
    (first,) = model.card.output.labels
    second = first.model_copy(update={"value": 300, "name": "Oedema"})
    output = model.card.output.model_copy(update={"labels": (first, second)})
    model = type(model)(model.card.model_copy(update={"output": output}), model.file)
    session.answer = lambda array: np.concatenate([array, 0.9 - array], axis=1)
    values = np.array([0.0, 0.3, 0.44, 0.6, 0.9], np.float32).reshape(1, 1, 5)
    found = infer(Volume(values, affine(), modality="MR"), model=model)
    assert found.array.dtype == np.uint16
    assert found.array.ravel().tolist() == [300, 300, 0, 1, 1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"modality": "CT"}, "the images are CT; model tiny@1.2.3 was made for MR"),
        ({"affine": affine((9, 0.9, 0.9))}, "9.00 mm between slices .* for 1 to 7 mm"),
        ({"affine": affine((5, 0.9, 1.5))}, "1.50 mm between columns"),
        (
            {"source": Source((4, 8, 8), affine((5, 0.2, 0.9)))},
            "0.20 mm between rows",
        ),
    ],
)
def test_what_the_model_was_not_made_for_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    facts = {"affine": affine(), "modality": "MR", **changed}
    with pytest.raises(Refused, match=message):
        infer(Volume(np.zeros((4, 8, 8), np.float32), **facts), model=tiny_model(tmp_path))


def test_a_volume_that_was_not_resampled_is_the_pipeline_s_fault(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, resample_in_plane_mm=1.0)
    with pytest.raises(ValueError, match="resample, with in_plane_mm: 1"):
        infer(volume((4, 8, 8)), model=model)


def test_a_model_that_answers_in_another_shape_has_failed(tmp_path: Path) -> None:
    card = tiny_model(tmp_path).card
    session = Recorder(lambda array: array[..., :-1])
    with pytest.raises(StepFailed, match=r"gave an array of shape .* was expected"):
        slide(session, np.zeros((2, 16, 16), np.float32), card, How(), told)


def test_an_unknown_runtime_is_named(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    model = type(model)(model.card.model_copy(update={"runtime": "abacus"}), model.file)
    with pytest.raises(StepFailed, match=r"needs the runtime abacus; there are .*'onnx'"):
        infer(volume((4, 8, 8)), model=model)


def test_progress_counts_windows(tmp_path: Path) -> None:
    said: list[tuple[int, int, str]] = []
    card = tiny_model(tmp_path, window=(0, 16, 16)).card
    array = np.zeros((2, 16, 40), np.float32)
    slide(Recorder(), array, card, How(0.5, batch=3), lambda *one: said.append(one))
    assert said == [(0, 4, "windows"), (3, 4, "windows"), (4, 4, "windows")]


@pytest.mark.parametrize("batch", [2, 3, 100])
def test_batches_give_what_single_windows_give(tmp_path: Path, batch: int) -> None:
    card = tiny_model(tmp_path, window=(4, 16, 16)).card
    array = np.random.default_rng(0).random((9, 40, 35), dtype=np.float32)
    session = Recorder(lambda seen: seen * np.linspace(0, 1, 16, dtype=np.float32))
    one = slide(session, array, card, How(0.5), told)
    calls = len(session.seen)
    many = slide(session, array, card, How(0.5, batch=batch), told)
    np.testing.assert_array_equal(one, many)
    assert len(session.seen) - calls == -(-calls // batch)


@pytest.mark.parametrize(
    ("flips", "runs"), [(False, 1), (("columns",), 2), (["slices", "rows"], 4), (True, 8)]
)
def test_flips_average_over_the_ways_to_mirror(
    tmp_path: Path, session: Recorder, flips: Any, runs: int
) -> None:
    """A model that favours one end of each axis favours none of those that are mirrored."""
    ramp = sum(
        np.linspace(0, 0.3, 4, dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis in range(3)
    )
    session.answer = lambda seen: np.broadcast_to(ramp, seen.shape)
    model = tiny_model(tmp_path, window=(0, 0, 0), multiple=4)
    found = module.infer_probability(
        Volume(np.zeros((4, 4, 4), np.float32), affine(), modality="MR"),
        CONTEXT,
        Account(),
        told,
        model=model,
        flips=flips,
    )
    assert len(session.seen) == runs
    mirrored = ("slices", "rows", "columns") if flips is True else tuple(flips or ())
    for axis, name in enumerate(("slices", "rows", "columns")):
        along = found.array[0].take([0, -1], axis=axis).ravel()
        assert (np.ptp(along) < 0.61 * (3 - len(mirrored)) + 1e-6) or not mirrored
        ends = [found.array[0].take(place, axis=axis).mean() for place in (0, -1)]
        assert (abs(ends[1] - ends[0]) < 1e-6) == (name in mirrored)


def test_probabilities_are_kept_on_the_volume_s_grid(tmp_path: Path) -> None:
    coronal = np.eye(4)
    coronal[:3, :3] = np.array([[0, -1.0, 0], [0, 0, -2.0], [-1.0, 0, 0]]).T
    values = np.random.default_rng(0).random((4, 5, 6), dtype=np.float32)
    model = tiny_model(tmp_path, spacing_mm=None)
    given_volume = Volume(values, coronal, "1.2", modality="MR")
    found = module.infer_probability(given_volume, CONTEXT, Account(), told, model=model)
    assert isinstance(found, Probability)
    np.testing.assert_array_equal(found.array[0], values)
    np.testing.assert_array_equal(found.affine, coronal)
    assert (found.threshold, found.model, found.frame_of_reference) == (0.5, "tiny@1.2.3", "1.2")
    assert [one.label for one in found.segments] == ["Tumour"]


def test_the_folds_of_an_ensemble_are_averaged(tmp_path: Path) -> None:
    """One member says the voxel's value, the other its square root."""
    first, second = tiny_model(tmp_path / "a"), tiny_model(tmp_path / "b", "Sqrt")
    fold = Fold(file="b/model.onnx", sha256=second.card.sha256)
    model = Model(first.card.model_copy(update={"folds": (fold,)}), first.file, (second.file,))
    given_volume = Volume(np.full((2, 16, 16), 0.25, np.float32), affine(), modality="MR")
    account = Account()
    found = module.infer_probability(given_volume, CONTEXT, account, told, model=model)
    np.testing.assert_allclose(found.array, (0.25 + 0.5) / 2, rtol=1e-6)
    assert account.notes[-1] == f"and its fold, SHA-256 {second.card.sha256}"


def test_a_fold_that_is_not_the_card_s_does_not_run(tmp_path: Path) -> None:
    first, second = tiny_model(tmp_path / "a"), tiny_model(tmp_path / "b", "Exp")
    fold = Fold(file="b/model.onnx", sha256="0" * 64)
    model = Model(first.card.model_copy(update={"folds": (fold,)}), first.file, (second.file,))
    with pytest.raises(StepFailed, match="a model that is not the one that was approved"):
        infer(volume((4, 8, 8)), model=model)


class Whole(Recorder):
    """A session that has a way of its own from a volume to a result."""

    def segment(self, array: NDArray[np.float32], grid: NDArray[Any]) -> NDArray[np.float32]:
        self.seen.append(grid)
        return np.asarray(self.answer(array), np.float32)


def test_a_model_with_its_own_windows_gets_the_volume_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Whole(lambda array: array[None])
    monkeypatch.setattr(runtimes, "session", lambda *_, **__: session)
    given_volume, model = volume((5, 20, 30)), tiny_model(tmp_path)
    mask = infer(given_volume, model=model)
    np.testing.assert_array_equal(mask.array, given_volume.array)
    np.testing.assert_array_equal(session.seen[0], given_volume.affine)
    with pytest.raises(ValueError, match="flips and batch are set within it"):
        infer(given_volume, model=model, batch=2)
    session.answer = lambda array: array
    with pytest.raises(StepFailed, match=r"\(5, 20, 30\); \(1, 5, 20, 30\) was expected"):
        infer(given_volume, model=model)

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian
from scipy import ndimage

from overread.dicom.codes import TISSUE, Code, Segment
from overread.dicom.derived import Algorithm, Making
from overread.dicom.provenance import derive_uid
from overread.dicom.rtstruct import fill, join, read_rtstruct, trace, write_rtstruct
from overread.dicom.study import Instance, Series
from overread.dicom.volume import Mask, Probability, read_volume
from overread.errors import Refused
from tests.dicom.series import LESION, affine, ball, images, keep, read
from tests.dicom.validity import validate

SHAPE = (9, 40, 48)
BALL = ball(SHAPE, 0.5)
OTHER = Segment(2, "Oedema", LESION.category, Code("79654002", "SCT", "Edema"), None, (60, 200, 60))
MAKING = Making(
    made_by=("job-1", "structures"),
    at=datetime(2026, 11, 24, 9, 30, 15, tzinfo=UTC),
    zone="America/Los_Angeles",
    algorithm=Algorithm("brain-tumour", "1.0.0", parameters=(("sha256", "0f"),)),
    device="brain-tumour@1.0.0",
)


def in_memory(labels: NDArray[Any], grid: NDArray[np.float64]) -> tuple[Series, Mask]:
    """A series without files, and a mask on it."""
    made = images(np.zeros(labels.shape, np.int16), grid)
    series = Series(tuple(Instance(one) for one in made))
    return series, Mask(labels.astype(np.uint8), grid, (LESION, OTHER))


def there_and_back(labels: NDArray[Any], grid: NDArray[np.float64]) -> NDArray[Any]:
    series, mask = in_memory(labels, grid)
    written = write_rtstruct(mask, series, MAKING).encode()
    back = read_rtstruct(dcmread(BytesIO(written)), series)
    assert isinstance(back, Mask)
    return back.array


def dice(one: NDArray[Any], other: NDArray[Any]) -> float:
    total = int((one > 0).sum() + (other > 0).sum())
    return 2 * int(((one > 0) & (one == other)).sum()) / total if total else 1.0


def shapes() -> dict[str, NDArray[np.uint8]]:
    """Masks that contours are known to get wrong."""
    made = {"ball": BALL.astype(np.uint8)}
    shell = BALL & ~ball(SHAPE, 0.25)
    made["hole"] = shell.astype(np.uint8)
    made["island in the hole"] = (shell | ball(SHAPE, 0.1)).astype(np.uint8)
    made["other segment in the hole"] = (shell + 2 * ball(SHAPE, 0.25)).astype(np.uint8)
    thin = np.zeros(SHAPE, np.uint8)
    thin[:, 20] = thin[:, :, 5] = 1
    np.fill_diagonal(thin[4, 5:35, 10:40], 1)
    made["lines of one voxel"] = thin
    parts = np.zeros(SHAPE, np.uint8)
    parts[2:4, 3:9, 3:9] = parts[2, 20:30, 30:40] = parts[7, 0, 0] = parts[8, 39, 47] = 1
    made["parts, also at the edge"] = parts
    made["full"] = np.ones(SHAPE, np.uint8)
    sieve = np.ones(SHAPE, np.uint8)
    sieve[:, 2:-2:3, 2:-2:3] = 0
    made["many holes in a row"] = sieve
    return made


@pytest.mark.parametrize("name", shapes())
@pytest.mark.parametrize(
    "turned", [(0, 0, 0), (90, 0, 0), (0, 90, 0), (180, 0, 0), (20, -13, 35)], ids=str
)
def test_it_reads_back_to_the_same_mask(name: str, turned: tuple[float, ...]) -> None:
    labels = shapes()[name]
    back = there_and_back(labels, affine((5, 0.9, 0.7), turned))
    np.testing.assert_array_equal(back, labels)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.floats(0.02, 0.98),
    blur=st.sampled_from([0, 0.7, 2]),
    spacing=st.tuples(*[st.floats(0.05, 8)] * 3),
    turned=st.tuples(*[st.floats(-180, 180)] * 3),
)
def test_any_mask_on_any_grid_reads_back(
    seed: int, density: float, blur: float, spacing: tuple[float, ...], turned: tuple[float, ...]
) -> None:
    noise = ndimage.gaussian_filter(
        np.random.default_rng(seed).random((4, 17, 23)), (0, blur, blur)
    )
    labels = (noise > np.quantile(noise, density)).astype(np.uint8)
    labels[labels > 0] += (noise > np.quantile(noise, (density + 1) / 2))[labels > 0]
    np.testing.assert_array_equal(there_and_back(labels, affine(spacing, turned)), labels)


def test_it_is_valid_and_says_where_it_comes_from(tmp_path: Path) -> None:
    array = BALL.astype(np.int16) * 300 + 20
    grid = affine(turned=(20, -13, 35))
    source = keep(images(array, grid), tmp_path / "in", order=range(8, -1, -1))
    volume = read_volume(source)
    labels = shapes()["other segment in the hole"]
    mask = Mask(labels, volume.affine, (LESION, OTHER), volume.frame_of_reference)
    made = write_rtstruct(mask, source, MAKING)
    written = validate(made, tmp_path)
    assert written.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    header = source.header
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "AccessionNumber"):
        assert written[keyword].value == header[keyword].value
    assert str(written.PatientName) == "Müller^Jane"
    assert (written.StructureSetLabel, written.ApprovalStatus) == ("brain-tumour", "UNAPPROVED")
    assert written.SeriesDescription == "Structures: Enhancing tumour, Oedema (investigational)"
    assert (str(written.StructureSetDate), written.TimezoneOffsetFromUTC) == ("20261124", "-0700")
    assert str(written.StructureSetTime).startswith("023015")
    roi, other = written.StructureSetROISequence
    assert (roi.ROINumber, roi.ROIName, other.ROIName) == (1, "Enhancing tumour", "Oedema")
    assert roi.ROIGenerationAlgorithm == "AUTOMATIC"
    assert roi.ROIGenerationDescription == "brain-tumour@1.0.0"
    (algorithm,) = roi.ROIDerivationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmParameters == "sha256=0f"
    assert list(written.ROIContourSequence[0].ROIDisplayColor) == [230, 60, 60]
    observation = written.RTROIObservationsSequence[1]
    assert observation.RTROIIdentificationCodeSequence[0].CodeValue == "79654002"
    (frame,) = written.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    assert study.ReferencedSOPInstanceUID == header.StudyInstanceUID
    (series,) = study.RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.uid
    uids = {one.uid for one in source}
    assert {item.ReferencedSOPInstanceUID for item in series.ContourImageSequence} == uids
    assert set(made.sources) == uids
    back = read_rtstruct(written, source)
    assert isinstance(back, Mask)
    assert [(one.label, one.type.value, one.colour) for one in back.segments] == [
        ("Enhancing tumour", "108369006", (230, 60, 60)),
        ("Oedema", "79654002", (60, 200, 60)),
    ]


def test_each_contour_lies_on_its_image_and_runs_around_its_normal() -> None:
    series, mask = in_memory(shapes()["hole"], affine(turned=(40, 10, 70)))
    written = dcmread(BytesIO(write_rtstruct(mask, series, MAKING).encode()))
    contours = written.ROIContourSequence[0].ContourSequence
    places = {one.uid: np.array(one.header.ImagePositionPatient, float) for one in series}
    first = np.array(series.header.ImageOrientationPatient, float)
    normal = np.cross(first[:3], first[3:])
    heights = []
    for contour in contours:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        assert len(points) == contour.NumberOfContourPoints
        place = places[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        assert np.abs((points - place) @ normal).max() < 1e-3
        area = np.cross(points, np.roll(points, -1, axis=0)).sum(axis=0) @ normal / 2
        assert area > 0
        heights.append(float(place @ normal))
    assert heights == sorted(heights)
    assert [contour.ContourNumber for contour in contours] == list(range(1, len(contours) + 1))


def test_the_area_inside_a_contour_is_that_of_the_voxels() -> None:
    (ring,) = trace(ball((3, 400, 400), 0.5)[1])
    x, y = ring[:, 0], ring[:, 1]
    area = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2
    assert area == pytest.approx(ball((3, 400, 400), 0.5)[1].sum(), rel=0.002)


def test_a_hole_is_joined_to_the_line_around_it() -> None:
    inside = np.ones((9, 12), bool)
    inside[3:5, 3:5] = inside[3:6, 7:9] = False
    (ring,) = trace(inside)
    np.testing.assert_array_equal(fill([ring], 9, 12), inside)


def test_straight_lines_have_no_corners_between_their_ends() -> None:
    (ring,) = trace(np.ones((30, 50), bool))
    assert len(ring) == 8  # each corner of the square is cut by half a voxel
    outer = np.array([[0, 0], [9, 0], [9, 9], [0, 9.0]])
    assert len(join(outer, [np.array([[4, 4], [4, 6], [6, 6], [6, 4.0]])])) == 4 + 4 + 3


def test_the_same_facts_give_the_same_bytes() -> None:
    series, mask = in_memory(shapes()["hole"], affine())
    first = write_rtstruct(mask, series, MAKING).encode()
    assert first == write_rtstruct(mask, series, MAKING).encode()
    other = replace(MAKING, made_by=("job-2", "structures"))
    assert first != write_rtstruct(mask, series, other).encode()


def test_a_segment_of_which_nothing_was_found_has_no_contours(tmp_path: Path) -> None:
    source = keep(images(np.zeros(SHAPE, np.int16), affine()), tmp_path / "in")
    mask = Mask(np.zeros(SHAPE, np.uint8), read_volume(source).affine, (LESION, OTHER))
    written = validate(write_rtstruct(mask, source, MAKING), tmp_path)
    assert [roi.ROIName for roi in written.StructureSetROISequence] == [LESION.label, OTHER.label]
    assert not any("ContourSequence" in roi for roi in written.ROIContourSequence)
    back = read_rtstruct(written, source)
    assert isinstance(back, Mask)
    assert not back.array.any()


def test_a_contour_may_be_longer_than_64_kilobytes() -> None:
    sieve = np.ones((3, 70, 70), np.uint8)
    sieve[1, 2:-2:3, 2:-2:3] = 0
    series, mask = in_memory(sieve, affine())
    written = dcmread(BytesIO(write_rtstruct(mask, series, MAKING).encode()))
    longest = max(
        len(item.get_item("ContourData").value)
        for item in written.ROIContourSequence[0].ContourSequence
    )
    assert longest > 65536
    back = read_rtstruct(written, series)
    assert isinstance(back, Mask)
    np.testing.assert_array_equal(back.array, sieve)


def test_rois_that_overlap_are_written_and_read() -> None:
    series, whole = in_memory(BALL, affine())
    core = replace(whole, array=ball(SHAPE, 0.2).astype(np.uint8))
    likely = Probability(
        np.stack([BALL * 0.6, ball(SHAPE, 0.2) * 0.9]).astype(np.float32),
        whole.affine,
        (LESION, OTHER),
    )
    for masks in ([replace(whole, segments=(LESION,)), replace(core, segments=(LESION,))], likely):
        back = read_rtstruct(
            dcmread(BytesIO(write_rtstruct(masks, series, MAKING).encode())), series
        )
        assert isinstance(back, Probability)
        np.testing.assert_array_equal(back.array[0] > 0, BALL)
        np.testing.assert_array_equal(back.array[1] > 0, ball(SHAPE, 0.2))


def foreign(contours: list[NDArray[np.float64]], kind: str = "CLOSED_PLANAR") -> Dataset:
    """A structure set as others make it: no codes, no colours, holes as lines of their own."""
    made = Dataset()
    made.Modality, made.SOPInstanceUID = "RTSTRUCT", derive_uid("foreign")
    roi, drawn = Dataset(), Dataset()
    roi.ROINumber, roi.ROIName = 40, "theirs"
    drawn.ReferencedROINumber, drawn.ContourSequence = 40, []
    for points in contours:
        item = Dataset()
        item.ContourGeometricType = kind
        item.ContourData = [f"{value:.3f}" for value in points.ravel()]
        drawn.ContourSequence.append(item)
    made.StructureSetROISequence, made.ROIContourSequence = [roi], [drawn]
    return made


def square(grid: NDArray[np.float64], index: float, low: float, high: float) -> Any:
    corners = [(low, low), (low, high), (high, high), (high, low)]
    return np.array([(grid @ [index, row, column, 1])[:3] for row, column in corners])


def test_anothers_holes_are_holes_and_points_enclose_nothing() -> None:
    grid = affine((5, 1, 1))
    series, _ = in_memory(np.zeros(SHAPE, np.uint8), grid)
    lines = [square(grid, 4.2, 9.5, 30.5), square(grid, 4.2, 14.5, 19.5)]
    back = read_rtstruct(foreign(lines), series)
    assert isinstance(back, Mask)
    assert set(np.unique(back.array[4])) == {0, 40}
    assert int((back.array > 0).sum()) == 21 * 21 - 5 * 5
    assert back.segments[0].type == TISSUE
    points = read_rtstruct(foreign(lines, "POINT"), series)
    assert isinstance(points, Mask)
    assert not points.array.any()


def test_a_contour_on_no_image_is_refused() -> None:
    grid = affine((5, 1, 1))
    series, _ = in_memory(np.zeros(SHAPE, np.uint8), grid)
    with pytest.raises(Refused, match=r"10\.00 mm from the nearest image"):
        read_rtstruct(foreign([square(grid, 10, 5, 9)]), series)
    with pytest.raises(Refused, match="no structure set"):
        read_rtstruct(images(np.zeros(SHAPE, np.int16), grid)[0], series)


def test_a_mask_without_segments_is_not_written() -> None:
    series, mask = in_memory(np.zeros(SHAPE, np.uint8), affine())
    with pytest.raises(ValueError, match="at least one ROI"):
        write_rtstruct(replace(mask, segments=()), series, MAKING)


# Real files -----------------------------------------------------------------------------------


def test_real_organs_read_back(shared_data: Path, tmp_path: Path) -> None:
    source = read(shared_data / "ct_liver" / "dicom", "*.dcm")
    file: Any = nibabel.load(shared_data / "ct_liver" / "totalsegmentator_reference.nii.gz")
    labels = np.asarray(file.dataobj).T[:, ::-1].astype(np.uint8)
    numbers = [int(number) for number in np.unique(labels) if number]
    segments = tuple(Segment(number, f"organ {number}", TISSUE, TISSUE) for number in numbers)
    volume = read_volume(source)
    mask = Mask(np.ascontiguousarray(labels), volume.affine, segments, volume.frame_of_reference)
    back = read_rtstruct(validate(write_rtstruct(mask, source, MAKING), tmp_path, source), source)
    assert isinstance(back, Mask)
    for place, number in enumerate(numbers, start=1):
        assert dice(back.array == place, labels == number) == 1


@pytest.mark.parametrize("patient", ["01", "03"])
def test_real_tumours_read_back(shared_data: Path, patient: str) -> None:
    file: Any = nibabel.load(shared_data / "brain_tumour" / patient / "Pre_Mask.nii.gz")
    labels = (np.asarray(file.dataobj).T > 0).astype(np.uint8)
    assert labels.any()
    back = there_and_back(labels, affine((5, 0.9, 0.9), turned=(8, -3, 2)))
    np.testing.assert_array_equal(back, labels)


@pytest.mark.parametrize(
    "folder",
    [
        "dicom_variants/dicom2nifti/anatomical_001",
        "dicom_variants/dicom2nifti/siemens_multiframe_anatomical_001",
        "dicom_variants/dicom2nifti/philips_enhanced_anatomical_001",
    ],
)
def test_it_is_valid_on_real_series(shared_data: Path, tmp_path: Path, folder: str) -> None:
    source = read(shared_data / folder, "*.dcm")
    volume = read_volume(source)
    slices, rows, columns = volume.array.shape
    labels = ball((slices, rows, columns)).astype(np.uint8)
    mask = Mask(labels, volume.affine, (LESION,), volume.frame_of_reference)
    written = validate(write_rtstruct(mask, source, MAKING), tmp_path, source)
    back = read_rtstruct(written, source)
    assert isinstance(back, Mask)
    np.testing.assert_array_equal(back.array, labels)
    (image,) = written.ROIContourSequence[0].ContourSequence[0].ContourImageSequence
    assert ("ReferencedFrameNumber" in image) == ("multiframe" in folder or "enhanced" in folder)

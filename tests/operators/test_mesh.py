from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from overread.dicom.codes import TISSUE, Segment
from overread.dicom.study import Series
from overread.dicom.volume import Mask, Source
from overread.errors import Refused
from overread.operators.files import load, save
from overread.operators.mesh import write_mesh
from overread.operators.read import read_volume
from overread.pipelines.ports import Account
from tests.dicom.series import LESION, affine, ball, images, keep
from tests.operators.test_measure import reference
from tests.operators.test_write import CONTEXT

SHAPE = (20, 40, 44)
GRID = affine((2.5, 1.1, 0.9), (12, -8, 20))


@pytest.fixture(params=["MR", "CT"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Series:
    pixels = np.zeros(SHAPE, np.int16)
    return keep(images(pixels, GRID, modality=request.param), tmp_path / "in")


def mask(source: Series) -> Mask:
    volume = read_volume(source, Account())
    inside = ball(SHAPE, 0.6).astype(np.uint8)
    return Mask(inside, volume.affine, (LESION,), volume.frame_of_reference, "tiny@1.2.3")


def triangles(document: bytes) -> Any:
    kind = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    return np.frombuffer(document, kind, offset=84)


def enclosed(found: Any) -> float:
    first, second, third = found["corners"].astype(float).transpose(1, 0, 2)
    return float(np.einsum("ij,ij->i", first, np.cross(second, third)).sum() / 6)


def validate(file: Path) -> str:
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    return subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False).stderr


def test_a_mesh_is_a_valid_object_around_the_volume_of_its_voxels(
    source: Series, tmp_path: Path
) -> None:
    account = Account()
    given = mask(source)
    made = write_mesh(given, source, CONTEXT, account, tags={"SeriesDescription": "AI surface"})
    file = tmp_path / "mesh.dcm"
    file.write_bytes(made.encode())
    told = validate(file)
    assert "Error" not in told
    assert told.startswith("EncapsulatedSTL")  # it knows the IOD
    found = dcmread(file)
    document = found.EncapsulatedDocument[: found.EncapsulatedDocumentLength]
    surface = triangles(document)
    assert len(document) == 84 + 50 * len(surface)
    voxels = given.array.sum() * given.voxel_volume
    assert enclosed(surface) == pytest.approx(voxels, rel=0.02)
    middle = given.affine @ [*np.argwhere(given.array).mean(axis=0), 1]
    np.testing.assert_allclose(surface["corners"].mean(axis=(0, 1)), middle[:3], atol=0.3)
    header = source.header
    for keyword in ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID", "AccessionNumber"):
        assert found[keyword].value == header[keyword].value
    assert (found.Modality, found.MIMETypeOfEncapsulatedDocument) == ("M3D", "model/stl")
    assert found.SeriesDescription == "AI surface"
    assert found.DocumentTitle == "Enhancing tumour surface (investigational)"
    assert found.ManufacturerModelName == "tiny 1.2.3"
    assert found.MeasurementUnitsCodeSequence[0].CodeValue == "mm"
    wanted = {"MR": "MR 3D CAM model", "CT": "CT 3D CAM model"}[header.Modality]
    assert found.ConceptNameCodeSequence[0].CodeMeaning == wanted
    named = {item.ReferencedSOPInstanceUID for item in found.SourceInstanceSequence}
    assert named == set(made.sources) == {one.uid for one in source}
    assert f"{len(surface)} triangles" in account.notes[0]


def test_the_same_step_makes_the_same_bytes_and_goes_through_its_file(
    source: Series, tmp_path: Path
) -> None:
    one, other = (write_mesh(mask(source), source, CONTEXT, Account()) for _ in range(2))
    assert one.encode() == other.encode()
    save(one, tmp_path / "step")
    back = load(tmp_path / "step")
    assert back.encode() == one.encode()  # type: ignore[attr-defined]  # a derived object, by what was saved
    elsewhere = write_mesh(mask(source), source, replace(CONTEXT, step="other"), Account())
    assert elsewhere.uid != one.uid


def test_each_segment_is_an_object_of_its_own(source: Series) -> None:
    given = mask(source)
    given.array[1, :4, :4] = 2
    two = replace(given, segments=(LESION, Segment(2, "Cyst", TISSUE, TISSUE)))
    with pytest.raises(ValueError, match=r"1 \(Enhancing tumour\), 2 \(Cyst\): name one"):
        write_mesh(two, source, CONTEXT, Account())
    made = write_mesh(two, source, CONTEXT, Account(), segment="Cyst", smoothing=0)
    assert made.segments == (two.segments[1],)
    corners = triangles(made.dataset.EncapsulatedDocument)["corners"].reshape(-1, 3)
    index = np.c_[corners, np.ones(len(corners))] @ np.linalg.inv(given.affine).T
    np.testing.assert_allclose(index[:, :3].min(axis=0), [0.5, -0.5, -0.5], atol=1e-3)
    np.testing.assert_allclose(index[:, :3].max(axis=0), [1.5, 3.5, 3.5], atol=1e-3)


def test_a_registered_mask_s_surface_lies_in_the_source_s_space(source: Series) -> None:
    given = mask(source)
    back = np.eye(4)
    back[:3, 3] = (30, 0, -10)
    moved = replace(given, source=Source(SHAPE, GRID, "1.2", back))
    plain, other = (
        triangles(write_mesh(one, source, CONTEXT, Account()).dataset.EncapsulatedDocument)
        for one in (given, moved)
    )
    np.testing.assert_allclose(
        other["corners"] - plain["corners"],
        np.broadcast_to([30, 0, -10], plain["corners"].shape),
        atol=1e-3,
    )


def test_of_nothing_there_is_no_surface(source: Series) -> None:
    empty = mask(source).with_array(np.zeros(SHAPE, np.uint8))
    with pytest.raises(Refused, match="nothing of Enhancing tumour was found"):
        write_mesh(empty, source, CONTEXT, Account())


def test_a_real_liver(shared_data: Path, tmp_path: Path) -> None:
    series, _, given = reference(shared_data)
    made = write_mesh(given, series, CONTEXT, Account(), segment="aorta")
    file = tmp_path / "mesh.dcm"
    file.write_bytes(made.encode())
    assert "Error" not in validate(file)
    voxels = (given.array == 52).sum() * given.voxel_volume
    assert enclosed(triangles(made.dataset.EncapsulatedDocument)) == pytest.approx(voxels, rel=0.03)

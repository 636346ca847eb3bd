import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless

from overread.dicom.study import Instance, Series
from overread.dicom.volume import Volume, read_volume
from overread.errors import UsageError
from overread.simulator.instances import Modality, Order, make_instances, read_dicom, renamed, write
from overread.simulator.scanner import acquire

NIFTI: Any = nibabel.Nifti1Image  # it has no types


def order(modality: Modality = "MR", seed: str = "one") -> Order:
    return Order(
        seed=seed,
        patient_id="T-1",
        patient_name="TEST^ONE",
        accession="ACC1",
        study_description="MRI BRAIN NAVIGATION",
        series_description="AX T1 POST",
        station_name="MRPILOT1",
        performed=datetime(2031, 5, 4, 13, 2, 1),  # noqa: DTZ001 - as DICOM writes it
        modality=modality,
    )


def oblique(seed: int = 0) -> Volume:
    """An anisotropic, tilted grid whose slices run from head to feet."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)) * 0.2 + np.eye(3))
    turn = turn * np.sign(np.diag(turn))
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, 0, 0.9], [0, 0.7, 0], [-4.5, 0, 0]])
    affine[:3, 3] = (-30.25, -20.5, 17.125)
    return Volume(rng.integers(0, 4000, (6, 20, 24)).astype(np.int16), affine)


def _read_back(files: list[Path]) -> Volume:
    return read_volume(Series(tuple(Instance(dcmread(file), file) for file in files)))


def _places(volume: Volume) -> dict[tuple[float, ...], int]:
    return {
        tuple(np.round((volume.affine @ (*i, 1))[:3], 2)): int(volume.array[tuple(i)])
        for i in np.ndindex(volume.array.shape)
    }


def test_a_volume_comes_back_where_it_was(tmp_path: Path) -> None:
    volume = oblique()
    files = write(make_instances(volume, order()), tmp_path)
    back = _read_back(files)
    assert _places(back) == _places(volume)
    assert back.voxel_volume == pytest.approx(volume.voxel_volume, rel=1e-4)


def test_a_nifti_becomes_dicom_in_the_same_place(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 900, (12, 10, 5)).astype(np.uint16)
    affine = np.array([[0, -1.5, 0, 8], [1.25, 0, 0, -9], [0, 0, 5, 2], [0, 0, 0, 1.0]])
    nibabel.save(NIFTI(values, affine), tmp_path / "a.nii")
    back = _read_back(acquire(tmp_path / "a.nii", order(), tmp_path / "out"))
    for index in ((0, 0, 0), (11, 9, 4), (3, 8, 1)):
        place = np.diag([-1, -1, 1, 1]) @ affine @ (*index, 1)
        at = np.rint(np.linalg.solve(back.affine, place)[:3]).astype(int)
        assert back.array[tuple(at)] == values[index]
    header = dcmread(tmp_path / "out" / "00001.dcm")
    assert header.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("modality", ["MR", "CT", "CR"])
def test_dciodvfy_finds_no_error(tmp_path: Path, modality: Modality) -> None:
    volume = oblique()
    if modality == "CT":
        volume = volume.with_array(volume.array - 1500)
    file = write(make_instances(volume, order(modality)), tmp_path)[2]
    done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert errors == []
    assert modality in (done.stdout + done.stderr).upper()


def test_houndsfield_units_are_kept(tmp_path: Path) -> None:
    volume = oblique()
    volume = volume.with_array(np.linspace(-2000, 3000, volume.array.size).reshape(6, 20, 24))
    back = _read_back(write(make_instances(volume, order("CT")), tmp_path))
    assert _places(back) == _places(volume.with_array(np.round(volume.array)))


def test_fractions_are_scaled_to_twelve_bits() -> None:
    made = make_instances(
        oblique().with_array(np.linspace(0, 1.7, 2880).reshape(6, 20, 24)), order()
    )
    assert made[0].BitsStored == 12
    assert max(one.pixel_array.max() for one in made) == 4095
    assert min(one.pixel_array.min() for one in made) == 0


def test_the_same_order_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write(make_instances(oblique(), order()), tmp_path / "a")
    again = write(make_instances(oblique(), order()), tmp_path / "b")
    other = write(make_instances(oblique(), order(seed="two")), tmp_path / "c")
    assert [f.read_bytes() for f in first] == [f.read_bytes() for f in again]
    uids = {dcmread(f).SOPInstanceUID for f in [*first, *other]}
    assert len(uids) == 12
    assert dcmread(first[0]).StudyInstanceUID != dcmread(other[0]).StudyInstanceUID


def test_a_sheared_grid_is_refused() -> None:
    volume = oblique()
    affine = volume.affine.copy()
    affine[:3, 2] += affine[:3, 1]
    with pytest.raises(UsageError, match="right angle"):
        make_instances(Volume(volume.array, affine), order())


def _referring() -> list[Dataset]:
    made = make_instances(oblique(), order())
    for one in made:
        one.FrameOfReferenceUID = made[0].FrameOfReferenceUID
        one.OperatorsName = "SOMEBODY^ELSE"
        item = Dataset()
        item.ReferencedSOPClassUID = made[0].SOPClassUID
        item.ReferencedSOPInstanceUID = made[0].SOPInstanceUID
        one.ReferencedImageSequence = [item]
        one.private_block(0x0011, "SOMEBODY", create=True).add_new(1, "LO", "private")
    return made


def test_renaming_keeps_references_and_pixels() -> None:
    pixels = [one.PixelData for one in _referring()]
    old = {one.SOPInstanceUID for one in _referring()}
    new = renamed(_referring(), order(seed="again"))
    assert [one.PixelData for one in new] == pixels
    assert not old & {one.SOPInstanceUID for one in new}
    assert len({one.SOPInstanceUID for one in new}) == 6
    assert len({one.FrameOfReferenceUID for one in new}) == 1
    assert {one.ReferencedImageSequence[0].ReferencedSOPInstanceUID for one in new} == {
        new[0].SOPInstanceUID
    }
    assert new[0].ReferencedImageSequence[0].ReferencedSOPClassUID == new[0].SOPClassUID
    assert new[0].file_meta.MediaStorageSOPInstanceUID == new[0].SOPInstanceUID
    assert not any(one.get("OperatorsName") for one in new)
    assert not any(element.tag.is_private for one in new for element in one)


def test_a_compressed_series_keeps_its_syntax_and_bytes(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "ct_liver" / "dicom"
    before = {one.InstanceNumber: one for one in read_dicom(source)}
    files = acquire(source, order("CT", seed="liver"), tmp_path)
    assert len(files) == len(before) == 20
    for file in files:
        after = dcmread(file)
        assert after.file_meta.TransferSyntaxUID == JPEG2000Lossless
        assert after.PixelData == before[after.InstanceNumber].PixelData
        assert after.SOPInstanceUID != before[after.InstanceNumber].SOPInstanceUID
        assert (after.PatientID, after.AccessionNumber) == ("T-1", "ACC1")
        assert after.StudyInstanceUID == order("CT", seed="liver").study_uid


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no image")
    with pytest.raises(UsageError, match="holds no DICOM file"):
        read_dicom(tmp_path)

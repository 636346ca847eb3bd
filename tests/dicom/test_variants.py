"""Every folder of real, awkward images: a right volume, or a named refusal.

The table is the one of docs/images.md. Where dcm2niix (Debian's) reads a series, voxels and affine
are compared with what it makes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from overread.dicom.stacks import STRICT, Policies
from overread.dicom.study import Series, group_series
from overread.dicom.volume import Volume, read_volume
from overread.errors import GeometryError, Refused
from overread.operators.files import LPS_RAS
from tests.dicom.series import read

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Variant:
    """What comes of one folder, or of one series or file in it."""

    folder: str
    files: str = "*"
    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    refused: str = ""
    policies: Policies = STRICT
    dcm2niix: bool = True
    """Whether it reads it, and right."""


N = "dicom2nifti/"
VARIANTS = [
    Variant(N + "anatomical_001", shape=(4, 256, 256), spacing=(1.0, 1, 1)),
    Variant(N + "generic_compressed_001", shape=(4, 256, 256), spacing=(1.0, 1, 1)),
    Variant(N + "generic_compressed_jpeg_001", shape=(4, 256, 256), spacing=(1.0, 1, 1)),
    Variant(N + "generic_compressed_rle_001", shape=(4, 256, 256), spacing=(1.0, 1, 1)),
    Variant(N + "hyperfine_anatomical_001", shape=(8, 138, 112), spacing=(5.0, 1.61, 1.59)),
    Variant(N + "philips_enhanced_anatomical_001", shape=(8, 256, 256), spacing=(1.2, 1, 1)),
    Variant(N + "siemens_multiframe_anatomical_001",
            shape=(8, 256, 256), spacing=(0.9, 0.9375, 0.9375)),
    Variant(N + "failing_gantrytilting_001",
            refused="gantry tilt: the slices are stacked at 14.00°"),
    Variant(N + "failing_gantrytilting_001", policies=Policies(gantry_tilt="resample"),
            shape=(4, 521, 512), spacing=(4.851, 0.418, 0.418), dcm2niix=False),
    Variant(N + "failing_slicecount_001", refused="too few slices: 2 in the series"),
    Variant(N + "failing_sliceincrement_001", refused="missing slice: 1 between image"),
    Variant(N + "failing_sliceincrement_001", policies=Policies(missing_slice="interpolate"),
            shape=(5, 512, 512), spacing=(5.0, 0.43, 0.43), dcm2niix=False),
    Variant(N + "failing_sliceorientation_001", refused="mixed orientation: image"),
    Variant(N + "failing_sliceorientation_001", policies=Policies(mixed_orientation="largest"),
            refused="mixed orientation: the series holds 2 and 2 images"),
    *[
        Variant("transfer_syntaxes", f"{number}.dcm", (35, 64, 64), (3.6, 3.25, 3.25),
                dcm2niix=number not in (7, 8))  # it has no JPEG-LS
        for number in range(1, 10)
    ],
    Variant("transfer_syntaxes", refused="duplicate position: image 1 tile 1"),
    Variant("dcmqi_ct_3slice_seg", "0?.dcm", (3, 512, 512), (1.0, 0.811, 0.811)),
    Variant("dcmqi_ct_3slice_seg", "liver.dcm", refused="is a segmentation; an image was expected"),
    Variant("pydicom", "MR-SIEMENS*", refused="too few slices: 1 in the series"),
    Variant("pydicom", "bad_sequence.dcm", refused="too few slices: 1 in the series"),
    Variant("pydicom", "eCT_Supplemental.dcm", refused="too few slices: 2 in the series"),
    Variant("pydicom", "explicit_VR-UN.dcm", refused="too few slices: 1 in the series"),
]  # fmt: skip


def table() -> str:
    """The table as docs/images.md has it."""
    lines = ["| folder | files | with | comes to | dcm2niix |", "| --- | --- | --- | --- | --- |"]
    for one in VARIANTS:
        setting = ", ".join(
            f"`{name}: {value}`"
            for name, value in vars(one.policies).items()
            if value != vars(STRICT)[name]
        )
        if one.shape and one.spacing:
            size = " × ".join(str(count) for count in one.shape)
            made = f"{size} voxels of {' × '.join(f'{step:g}' for step in one.spacing)} mm"
            same = "agrees" if one.dcm2niix else ""
        else:
            made, same = f"refused: *{one.refused} …*", ""
        files = f"`{one.files}`" if one.files != "*" else "all"
        lines.append(f"| `{one.folder}` | {files} | {setting} | {made} | {same} |")
    return "\n".join(lines)


def test_the_table_is_in_the_documentation() -> None:
    assert table() in (ROOT / "docs" / "images.md").read_text()


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "dicom_variants"


def test_no_folder_is_forgotten(folder: Path) -> None:
    held = {one.parent.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()}
    assert held == {variant.folder for variant in VARIANTS}
    for name in held:
        every = {one.name for one in (folder / name).iterdir() if one.is_file()}
        named = [v.files for v in VARIANTS if v.folder == name]
        assert every == {one.name for files in named for one in (folder / name).glob(files)}


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v.folder.split('/')[-1]}-{v.files}")
def test_it_ends_in_a_volume_or_a_named_refusal(folder: Path, variant: Variant) -> None:
    series = one_series(folder, variant)
    if variant.refused:
        with pytest.raises(Refused, match=re.escape(variant.refused)) as caught:
            read_volume(series, variant.policies)
        if isinstance(caught.value, GeometryError):
            assert variant.refused.startswith(caught.value.problem)
        return
    volume = read_volume(series, variant.policies)
    assert volume.array.shape == variant.shape
    assert volume.spacing == pytest.approx(variant.spacing, abs=1e-3)
    assert volume.array.std() > 0


@pytest.mark.skipif(not shutil.which("dcm2niix"), reason="dcm2niix is not installed")
@pytest.mark.parametrize(
    "variant",
    [one for one in VARIANTS if one.shape and one.dcm2niix],
    ids=lambda v: f"{v.folder.split('/')[-1]}-{v.files}",
)
def test_it_agrees_with_dcm2niix(folder: Path, tmp_path: Path, variant: Variant) -> None:
    series = one_series(folder, variant)
    agrees(read_volume(series, variant.policies), convert(series, tmp_path))


@pytest.mark.skipif(not shutil.which("dcm2niix"), reason="dcm2niix is not installed")
def test_a_slab_of_a_real_t1_agrees_with_dcm2niix(shared_data: Path, tmp_path: Path) -> None:
    files = read(shared_data / "brain_t1" / "dicoms", "N2D_01[0-1]?.dcm")
    agrees(read_volume(files), convert(files, tmp_path))


@pytest.mark.skipif(not shutil.which("dcm2niix"), reason="dcm2niix is not installed")
def test_a_real_ct_agrees_with_dcm2niix(shared_data: Path, tmp_path: Path) -> None:
    """2 mm from slice to slice, whatever SliceThickness says."""
    files = read(shared_data / "ct_liver" / "dicom", "*.dcm")
    assert float(files.header.SliceThickness) == 3
    volume = read_volume(files)
    assert volume.spacing[0] == pytest.approx(2.0, abs=1e-6)
    agrees(volume, convert(files, tmp_path))


def one_series(folder: Path, variant: Variant) -> Series:
    found = read(folder / variant.folder, variant.files)
    (series,) = group_series(found.instances)
    return series


def convert(series: Series, folder: Path) -> Any:
    """Have dcm2niix convert a series."""
    (folder / "in").mkdir()
    for index, one in enumerate(series):
        assert one.file is not None
        (folder / "in" / f"{index:04}.dcm").symlink_to(one.file)
    subprocess.run(
        # -p n: what RescaleSlope makes of the values, not Philips' own floating-point scale.
        ["dcm2niix", "-z", "n", "-b", "n", "-p", "n", "-f", "out", "-o", folder, folder / "in"],
        check=True,
        capture_output=True,
    )
    (made,) = folder.glob("out*.nii")
    return nibabel.load(made)


def agrees(volume: Volume, image: Any) -> None:
    """Compare voxels and places; the axes may be in another order or run the other way."""
    theirs = np.asarray(image.dataobj, np.float32).transpose(2, 1, 0)
    affine: NDArray[np.float64] = LPS_RAS @ image.affine[:, [2, 1, 0, 3]]
    across = (np.linalg.inv(volume.affine) @ affine)[:3, :3]
    order = np.abs(across).argmax(axis=1)
    signs = np.rint(np.take_along_axis(across, order[:, None], 1)[:, 0])
    assert (sorted(order), set(np.abs(signs))) == ([0, 1, 2], {1}), across
    theirs, affine = theirs.transpose(order), affine[:, [*order, 3]]
    for axis in np.flatnonzero(signs == -1).tolist():
        theirs = np.flip(theirs, axis)
        affine[:3, 3] += affine[:3, axis] * (theirs.shape[axis] - 1)
        affine[:3, axis] *= -1
    np.testing.assert_allclose(volume.affine, affine, atol=1e-3)
    np.testing.assert_allclose(volume.array, theirs, rtol=1e-6, atol=1e-3)

from __future__ import annotations

import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pypdf import PdfReader

from overread.dicom.provenance import DerivedObject
from overread.dicom.study import Series
from overread.operators.measure import measure_volumes
from overread.operators.pdf import write_pdf
from overread.pipelines.ports import Account
from overread.validation.results import Class, Classification, Detection, Detections
from tests.dicom.series import affine, images, keep
from tests.operators.test_sr import errors
from tests.operators.test_write import CONTEXT, mask


@pytest.fixture
def source(tmp_path: Path) -> Series:
    return keep(images(np.zeros((4, 8, 8), np.int16), affine()), tmp_path)


def words(made: DerivedObject) -> str:
    """What stands on the pages."""
    pages = PdfReader(BytesIO(made.dataset.EncapsulatedDocument)).pages
    return "\n".join(page.extract_text() for page in pages)


def test_it_is_valid_and_a_pdf(tmp_path: Path, source: Series) -> None:
    made = write_pdf(source, CONTEXT, Account(), measure_volumes(mask(source)))
    assert errors(made, tmp_path) == []
    document = bytes(made.dataset.EncapsulatedDocument)
    assert document.startswith(b"%PDF-")
    assert document.rstrip(b"\0").endswith(b"%%EOF\n")
    assert made.dataset.EncapsulatedDocumentLength in (len(document), len(document) - 1)
    assert made.dataset.BurnedInAnnotation == "YES"
    assert made.dataset.StudyInstanceUID == source.header.StudyInstanceUID
    assert [one.ReferencedSOPInstanceUID for one in made.dataset.SourceInstanceSequence] == [
        one.uid for one in source
    ]


def test_the_page_says_whose_and_what(source: Series) -> None:
    uid = source.instances[0].uid
    found = Detections((Detection("1", "left hip", 0.875, uid, 0, (1, 2, 5, 7)),), (uid,))
    said = Classification((Class("left hip", "fracture", 0.75, {"fracture": 0.75}, uid),))
    volumes = measure_volumes(mask(source))
    made = write_pdf(
        source, CONTEXT, Account(), volumes, found, said, title="Hips & tumours", text="Look <here>"
    )
    text = words(made)
    for wanted in (
        "Hips & tumours", "Look <here>", "Müller", "TEST-1", "A1", "2026-07-15", "1970-01-01",
        "Enhancing tumour", f"{volumes.items[0].value:.4g} mL", "left hip", "0.88", "fracture",
        "spots@2.0.0", "INVESTIGATIONAL",
    ):  # fmt: skip
        assert wanted in text, wanted
    clinical = write_pdf(source, replace(CONTEXT, stage="clinical"), Account(), volumes)
    assert "INVESTIGATIONAL" not in words(clinical)
    assert "investigational" not in clinical.dataset.DocumentTitle


def test_frames_of_a_capture_are_shown(source: Series) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, 40, 60, 3), np.uint8)
    drawn = Dataset()
    drawn.file_meta = source.instances[0].dataset().file_meta
    drawn.Rows, drawn.Columns, drawn.NumberOfFrames = 40, 60, 3
    drawn.SamplesPerPixel, drawn.PhotometricInterpretation = 3, "RGB"
    drawn.PlanarConfiguration, drawn.PixelRepresentation = 0, 0
    drawn.BitsAllocated = drawn.BitsStored = 8
    drawn.PixelData = frames.tobytes()
    capture = DerivedObject(drawn, "capture")
    sizes = [
        len(write_pdf(source, CONTEXT, Account(), capture=capture, images=count)
            .dataset.EncapsulatedDocument)
        for count in (0, 1, 3)
    ]  # fmt: skip
    assert sizes[0] + 4000 < sizes[1] < sizes[2] - 4000
    with pytest.raises(ValueError, match="takes a capture; it was given a segmentation"):
        write_pdf(source, CONTEXT, Account(), capture=DerivedObject(drawn, "segmentation"))


def test_letters_that_the_page_has_not_are_told(source: Series) -> None:
    account = Account()
    write_pdf(source, CONTEXT, account, text="山田")
    assert "some letters of the text are not in the fonts of the page" in account.notes


def test_the_same_is_the_same_bytes_at_another_time(source: Series) -> None:
    one = write_pdf(source, CONTEXT, Account(), measure_volumes(mask(source))).encode()
    time.sleep(1.1)
    assert write_pdf(source, CONTEXT, Account(), measure_volumes(mask(source))).encode() == one

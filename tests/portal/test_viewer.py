from __future__ import annotations

import gzip
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.testclient import TestClient

from overread.dicom.provenance import derive_uid
from overread.portal import viewer
from overread.store.tables import Instance, Result
from tests.portal.filled import Filled

pytestmark = pytest.mark.skipif(not viewer.OHIF.is_dir(), reason="OHIF is not installed (make web)")


def big_script() -> str:
    return next(path.name for path in viewer.OHIF.glob("app.bundle.*.js"))


def test_the_link_of_a_case_names_its_images_and_its_result(
    filled: Filled, reader: TestClient
) -> None:
    answer = reader.get(f"/cases/{filled.cases['six']}/viewer")
    assert answer.status_code == 303
    target = urlsplit(answer.headers["location"])
    query = parse_qs(target.query)
    assert target.path == "/viewer/viewer"
    # Beside it the exam before, of which nothing is drawn.
    studies = [filled.studies["six"], filled.studies["six-4"]]
    assert query["StudyInstanceUIDs"] == [",".join(studies)]
    assert query["hangingProtocolId"] == [viewer.BESIDE]
    series = query["SeriesInstanceUIDs"][0].split(",")
    assert series == [
        derive_uid("six", "t1c"),
        filled.segs["six"],
        derive_uid("six-4", "t1c"),
    ]
    assert query["initialSeriesInstanceUID"] == [filled.segs["six"]]
    assert query["case"] == [filled.cases["six"]]
    assert "stage" not in query


def test_another_result_is_drawn_where_it_is_asked_for(filled: Filled, reader: TestClient) -> None:
    case_id = filled.cases["six-4"]
    with filled.database.write() as session:
        drawn = session.query(Result).filter_by(exam_id=case_id, name="seg").one()
        images = session.query(Instance).filter_by(study_uid=filled.studies["six-4"], modality="MR")
        kept = drawn.id
        columns = {
            column.key: getattr(drawn, column.key)
            for column in Result.__table__.columns
            if column.key != "id"
        }
        # Some instance that is not the segmentation: what it is does not matter for the link.
        other = images.first()
        assert other is not None
        columns |= {"name": "contours", "kind": "structure set", "instance_id": other.id}
        session.add(Result(**columns))
    try:
        for over, wanted in (
            ("", filled.segs["six-4"]),
            ("contours", other.series_uid),
            ("nothing", filled.segs["six-4"]),
        ):
            target = reader.get(f"/cases/{case_id}/viewer?over={over}").headers["location"]
            assert parse_qs(urlsplit(target).query)["initialSeriesInstanceUID"] == [wanted]
        page = reader.get(f"/cases/{case_id}?view=viewer&over=contours").text
        assert f'src="/cases/{case_id}/viewer?over=contours"' in page
        assert f'src="/cases/{case_id}/viewer"' in reader.get(f"/cases/{case_id}?over=<b>").text
    finally:
        with filled.database.write() as session:
            assert session.get(Result, kept) is not None
            session.delete(session.query(Result).filter_by(name="contours").one())


def test_without_a_result_the_link_names_the_images_only(
    filled: Filled, reader: TestClient
) -> None:
    target = reader.get(f"/cases/{filled.cases['refused']}/viewer").headers["location"]
    query = parse_qs(urlsplit(target).query)
    assert len(query["SeriesInstanceUIDs"][0].split(",")) == 1
    assert query["initialSeriesInstanceUID"] == query["SeriesInstanceUIDs"]


def test_our_settings_stand_in_place_of_ohifs_own(anonymous: TestClient) -> None:
    text = anonymous.get("/app-config.js").text
    assert 'routerBasename: "/viewer"' in text
    assert "disableConfirmationPrompts: true" in text
    assert "cloudfront" not in text


def test_no_address_takes_the_investigational_mark_away(anonymous: TestClient) -> None:
    text = anonymous.get("/app-config.js?stage=clinical").text
    assert "Not for clinical use" in text
    assert re.findall(r"location\.search(.*)", text) == [').get("case") ?? "";']
    assert "condition:" not in text


def test_files_named_by_their_content_are_cached_for_good(anonymous: TestClient) -> None:
    answer = anonymous.get(f"/{big_script()}")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert int(answer.headers["content-length"]) < len(answer.content) / 3


def test_other_files_are_checked_by_their_tag(anonymous: TestClient) -> None:
    first = anonymous.get("/manifest.json")
    assert first.headers["cache-control"] == "no-cache"
    again = anonymous.get("/manifest.json", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_browser_without_gzip_gets_the_plain_file(anonymous: TestClient) -> None:
    plain = anonymous.get("/manifest.json", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == (viewer.OHIF / "manifest.json").read_bytes()
    assert gzip.decompress(gzip.compress(plain.content)) == plain.content


@pytest.mark.parametrize(
    "path",
    ["/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/assets/../../../app.py", "/assets", "/x.js"],
)
def test_nothing_outside_its_folder_is_sent(anonymous: TestClient, path: str) -> None:
    assert anonymous.get(path).status_code == 404
    assert anonymous.get(f"/static/{path.strip('/')}").status_code == 404

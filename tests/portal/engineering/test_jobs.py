from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.engine.folders import JobFolder
from overread.store.tables import Audit, Job
from tests.portal.conftest import csrf_of
from tests.portal.engineering.made import make_files
from tests.portal.filled import COLOUR, Filled
from tests.portal.test_cases import text_of


@pytest.fixture(scope="module")
def folder(filled: Filled) -> JobFolder:
    return make_files(filled)


def acts(filled: Filled, subject: str) -> list[tuple[str, str, str]]:
    with filled.database.read() as session:
        query = select(Audit).where(Audit.subject == subject).order_by(Audit.id)
        return [(one.action, one.actor, one.address) for one in session.scalars(query)]


def test_the_page_draws_the_steps_and_leads_to_all_behind_it(
    filled: Filled, engineer: TestClient, folder: JobFolder
) -> None:
    page = engineer.get(f"/jobs/{filled.jobs['six']}").text
    assert page.count("<rect ") == 6  # the queue, and five steps
    for path in (
        f'href="/exams/{filled.cases["six"]}"',
        'href="/pipelines/brain-tumour"',
        'href="/models/brain-tumour/1.0.0"',
        f'href="/jobs/{filled.jobs["six"]}/steps/mask"',
        'href="#step-mask"',
    ):
        assert path in page
    assert "style=" not in page  # the content security policy would drop it


def test_what_a_step_made_is_looked_at(
    filled: Filled, engineer: TestClient, folder: JobFolder
) -> None:
    base = f"/jobs/{filled.jobs['six']}/steps"
    text = text_of(engineer.get(f"{base}/mask").text)
    assert "Mask, 16 × 128 × 128 · Enhancing tumour" in text
    assert '"type": "Mask"' in engineer.get(f"{base}/mask").text.replace("&#34;", '"')
    assert "12.5" in engineer.get(f"{base}/volumes").text
    answer = engineer.get(f"{base}/mask/slices/8.png")
    assert answer.headers["content-type"] == "image/png"
    colours = {colour for _, colour in Image.open(io.BytesIO(answer.content)).getcolors() or []}
    assert colours == {(0, 0, 0), COLOUR}
    volume = Image.open(io.BytesIO(engineer.get(f"{base}/volume/slices/8.png").content))
    assert volume.mode == "L" and volume.size == (512, 512)
    assert (volume.getextrema()[1], volume.getextrema()[0]) == (255, 0)


@pytest.mark.parametrize(
    "path", ["mask/slices/16.png", "mask/slices/-1.png", "volumes/slices/0.png", "seg", "nothing"]
)
def test_what_is_not_there_is_404(
    filled: Filled, engineer: TestClient, folder: JobFolder, path: str
) -> None:
    assert engineer.get(f"/jobs/{filled.jobs['six']}/steps/{path}").status_code == 404


def test_files_are_sent_as_they_were_recorded(
    filled: Filled, engineer: TestClient, folder: JobFolder
) -> None:
    for base in ("", "/api/v1"):
        answer = engineer.get(f"{base}/jobs/{filled.jobs['six']}/steps/mask/files/image.nii")
        assert answer.content == (folder.step("mask") / "image.nii").read_bytes()
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name",
    ["../volume/image.nii", "..%2F..%2F..%2Foverread.sqlite", "%2Fetc%2Fpasswd", "other.nii"],
)
def test_only_recorded_files_are_sent(
    filled: Filled, engineer: TestClient, folder: JobFolder, name: str
) -> None:
    for base in ("", "/api/v1"):
        path = f"{base}/jobs/{filled.jobs['six']}/steps/mask/files/{name}"
        assert engineer.get(path).status_code == 404


def test_what_was_changed_since_is_not_sent(
    filled: Filled, engineer: TestClient, folder: JobFolder
) -> None:
    base = f"/jobs/{filled.jobs['six']}/steps/volume"
    (folder.step("volume") / "image.nii").write_bytes(b"something else")
    answer = engineer.get(f"{base}/files/image.nii")
    assert answer.status_code == 404
    assert "not what was recorded" in answer.text
    (folder.step("volume") / "image.nii").unlink()
    (folder.step("volume") / "image.nii").symlink_to("/etc/hostname")
    assert engineer.get(f"{base}/files/image.nii").status_code == 404
    make_files(filled)


def test_a_link_in_place_of_the_steps_folder_leads_nowhere(
    filled: Filled, engineer: TestClient, folder: JobFolder
) -> None:
    folder.step("mask").rename(folder.root / "moved")
    folder.step("mask").symlink_to(folder.root / "moved")
    path = f"/jobs/{filled.jobs['six']}/steps/mask/files/image.nii"
    assert engineer.get(path).status_code == 404
    make_files(filled)


def test_a_job_is_retried_and_cancelled_with_a_form_of_this_sign_in(
    filled: Filled, sign_in: Callable[[str], TestClient]
) -> None:
    engineer = sign_in("egon")
    path = f"/jobs/{filled.jobs['failed']}"
    csrf = csrf_of(engineer.get(path).text)
    assert engineer.post(f"{path}/retry", data={"csrf": "x"}).status_code == 403
    wrong = engineer.post(f"{path}/retry", data={"csrf": csrf, "from_step": "none"})
    assert wrong.status_code == 409 and "has no step" in wrong.text
    assert acts(filled, f"job {filled.jobs['failed']}") == [("look at job", "egon", "testclient")]
    done = engineer.post(f"{path}/retry", data={"csrf": csrf, "from_step": "mask"})
    assert (done.status_code, done.headers["location"]) == (303, path)
    assert "Cancel" in engineer.get(path).text
    assert engineer.post(f"{path}/cancel", data={"csrf": csrf}).status_code == 303
    with filled.database.write() as session:
        job = session.get_one(Job, filled.jobs["failed"])
        assert (job.state, job.reason, job.attempt) == ("cancelled", "cancelled by egon", 2)
        job.state, job.attempt = "failed", 1
        job.reason = "step mask took more than its 8.0 GB of memory and was stopped"
    assert acts(filled, f"job {filled.jobs['failed']}")[1:] == [
        ("retry job", "egon", "testclient"),
        ("cancel job", "egon", "testclient"),
    ]


def test_a_done_job_is_run_again_as_another(
    filled: Filled, sign_in: Callable[[str], TestClient]
) -> None:
    engineer = sign_in("egon")
    path = f"/jobs/{filled.jobs['six-1']}"
    csrf = csrf_of(engineer.get(path).text)
    assert engineer.post(f"{path}/retry", data={"csrf": csrf}).status_code == 409
    done = engineer.post(f"{path}/retry", data={"csrf": csrf, "force": "true"})
    assert done.status_code == 303 and done.headers["location"] != path
    assert "forced" in engineer.get(done.headers["location"]).text
    with filled.database.write() as session:
        session.delete(session.get_one(Job, done.headers["location"].rpartition("/")[2]))

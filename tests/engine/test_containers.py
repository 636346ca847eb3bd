"""Containers, in a real podman service, of an image that is made here from a static busybox."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overread.dicom.codes import TISSUE, Segment
from overread.dicom.study import Instance, Series
from overread.dicom.volume import Mask, Volume, read_volume
from overread.engine import containers
from overread.engine.alone import Ran
from overread.errors import StepFailed
from overread.operators.write import write_seg
from overread.pipelines.ports import Account, Context
from overread.store import jobs
from tests.dicom.series import affine, ball, images
from tests.engine.outside import SPOT, VOLUME, Outside
from tests.engine.world import THRESHOLD_STEPS, World, exam_images, pipeline, wait

pytestmark = pytest.mark.peers

COPY = "cp /in/volume/image.nii /out/"
SPOTS = Segment(1, "Spot", TISSUE, TISSUE)
CONTEXT = Context("job", "step", datetime(2026, 7, 15, tzinfo=UTC), "p", "1.0.0")
TMP = "/tmp/x"  # noqa: S108, the container's own
APPLETS = ["sh", "awk", "cat", "cp", "head", "id", "ln", "ls", "seq", "sleep", "test", "true"]
LEAK = """awk 'BEGIN {s = "x"; while (1) s = s s}'"""
MANIFEST = {
    "command": '["/bin/app"]',
    "workingDirectory": "/var/holoscan",
    "input": {"path": "input"},
    "output": {"path": "output"},
}
APP = """#!/bin/sh
test -f "$HOLOSCAN_INPUT_PATH/t1/00001.dcm" || exit 7
test -e "$HOLOSCAN_INPUT_PATH/t1/port.json" && exit 8
ls /var/holoscan/input/t1
cp "${1:-$HOLOSCAN_INPUT_PATH/t1/00003.dcm}" "$HOLOSCAN_OUTPUT_PATH/made.dcm"
"""


class Podman:
    """A podman of our own: storage, service and images below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = f"unix://{root}/podman.sock"
        conf = root / "containers.conf"
        conf.write_text(
            '[containers]\ndefault_ulimits=["nofile=1024:1024","nproc=4096:4096"]\n'
            '[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n'
        )
        self.environment = {**os.environ, "CONTAINERS_CONF": str(conf)}
        self.command = ["podman", "--root", f"{root}/storage", "--runroot", f"{root}/run"]
        self.service = subprocess.Popen(
            [*self.command, "system", "service", "--time", "0", self.socket],
            env=self.environment,
        )
        wait((root / "podman.sock").exists, 20)

    def __call__(self, *arguments: str) -> str:
        """Run a command of podman; return what it says."""
        return subprocess.run(
            [*self.command, *arguments],
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def image(self, name: str, **contents: str | bytes) -> str:
        """Make an image of busybox and some files; return its digest."""
        busybox = shutil.which("busybox")
        assert busybox is not None
        file = self.root / f"{name}.tar"
        with tarfile.open(file, "w") as archive:
            archive.add(busybox, "bin/busybox")
            for applet in APPLETS:
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
            for path, content in contents.items():
                data = content if isinstance(content, bytes) else content.encode()
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(data), 0o755
                archive.addfile(entry, io.BytesIO(data))
        changes = ["--change", 'ENTRYPOINT ["/bin/app"]'] if "bin/app" in contents else []
        return self("import", *changes, str(file), f"{name}:1").splitlines()[-1]

    def running(self) -> list[str]:
        """Ids of all containers there are."""
        return self("ps", "-aq").split()

    def close(self) -> None:
        """Stop the service and remove all that it has made."""
        self("rm", "-fa")
        self.service.terminate()
        self.service.wait(20)
        subprocess.run(["umount", "-q", f"{self.root}/storage/overlay"], check=False)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    made = Podman(tmp_path_factory.mktemp("podman"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def plain(podman: Podman) -> str:
    """An image with a shell and little more."""
    return f"plain@{podman.image('plain')}"


@pytest.fixture(scope="module")
def outside(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    made = Outside(
        tmp_path_factory.mktemp("outside"),
        engine={"memory": "1GB", "disk": "50MB", "tasks": 60},
        containers={"socket": podman.socket},
    )
    yield made
    assert podman.running() == []
    made.close()


def shell(outside: Outside, image: str, script: str, **more: Any) -> Ran:
    command = ["/bin/sh", "-c", script]
    return outside.step(
        "container", **{"image": image, "makes": "volume", "command": command, **more}
    )


def test_it_is_given_files_and_what_it_leaves_is_what_the_step_makes(
    outside: Outside, plain: str
) -> None:
    ran = shell(outside, plain, f"{COPY}; cat /params.json", parameters={"level": 3})
    made = outside.made(ran)
    assert isinstance(made, Volume) and (made.array == VOLUME.array).all()
    assert np.array_equal(made.affine, VOLUME.affine)
    assert '{"level": 3}' in outside.log(ran)
    assert ran.account["notes"] == [f"image {plain}", f"image id {plain.partition('@')[2]}"]


def test_it_has_no_rights(outside: Outside, plain: str) -> None:
    places = ("/x", "/in/x", "/bin/x", "/params.json", "/out/x", TMP)
    script = "; ".join(f"echo y 2>/dev/null > {place} && echo wrote {place}" for place in places)
    look = "id -u; ls /sys/class/net; cat /proc/self/status; rm -f /out/x"
    log = outside.log(shell(outside, plain, f"{COPY}; {look}; ({script}) 2>/dev/null; true"))
    lines = log.splitlines()
    assert lines[0] != "0" and lines[1] == "lo"
    assert re.search(r"CapBnd:\s+0{16}\n", log) and re.search(r"NoNewPrivs:\s+1\n", log)
    assert [line for line in lines if line.startswith("wrote")] == ["wrote /out/x", f"wrote {TMP}"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo it is wrong >&2; exit 3", "exit code 3: it is wrong"),
        ("sleep 60", "still running after the"),
        ("ln -s /etc/passwd /out/image.nii", "/out/image.nii is a link"),
        ("for i in 1 2 3; do head -c 30000000 /dev/zero > /out/$i; done; sleep 9", "engine.disk"),
        (LEAK, r"more memory than the 0\.1 GB|SIGKILL|code 137"),
        ("for i in $(seq 99); do sleep 20 & done; wait", "exit code 2: .*can't fork"),
    ],
)
def test_what_goes_wrong_is_told(outside: Outside, plain: str, script: str, reason: str) -> None:
    seconds = 3.0 if script == "sleep 60" else 20.0
    ran = shell(outside, plain, script, seconds=seconds, memory="100MB")
    assert ran.state == "failed"
    assert re.search(reason, ran.reason), ran.reason


def test_an_image_is_not_fetched(outside: Outside, podman: Podman, plain: str) -> None:
    other = f"plain@sha256:{'0' * 64}"
    ran = shell(outside, other, COPY)
    assert f"has no image {other}; it is never fetched" in ran.reason
    said = podman("images", "--digests", "--format", "{{.Digest}}", "plain")
    manifest = re.search("sha256:[0-9a-f]{64}", said)
    assert manifest is not None and manifest[0] not in plain
    assert shell(outside, f"whatever@{manifest[0]}", COPY).state == "done"


def test_without_an_engine_it_is_said(tmp_path: Path) -> None:
    said = r"no container engine at unix:///.*containers\.socket"
    with pytest.raises(StepFailed, match=said), containers.engine(f"unix://{tmp_path}/none.sock"):
        raise AssertionError


def series(root: Path) -> Series:
    """Five slices, in files."""
    array = np.where(ball((5, 6, 8)), 500, 0).astype(np.int16)
    made = []
    for number, dataset in enumerate(images(array, affine()), start=1):
        file = root / f"{number}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        made.append(Instance(dataset, file))
    return Series(tuple(made))


def test_a_monai_application_package_finds_dicom_where_its_manifest_says(
    outside: Outside, podman: Podman, plain: str
) -> None:
    source = outside.box.work / "source"
    source.mkdir()
    given = {"t1": series(source)}
    volume = read_volume(given["t1"])
    spots = Mask((volume.array > 0).astype(np.uint8), volume.affine, (SPOTS,))
    made = write_seg(spots, given["t1"], CONTEXT, Account())
    contents = {"etc/holoscan/app.json": json.dumps(MANIFEST), "bin/app": APP}
    image = f"app@{podman.image('app', **contents, seg=made.encode())}"
    ran = outside.step(
        "container", given, image=image, makes="mask", contract="map", command=["/seg"]
    )
    mask = outside.made(ran)
    assert isinstance(mask, Mask) and (mask.array == spots.array).all()
    assert mask.segments[0].label == "Spot" and mask.model.startswith("app@sha256:")
    ran = outside.step("container", given, image=image, makes="dicom", contract="map")
    assert ran.state == "failed"
    assert "made.dcm is an image that the step was given" in ran.reason
    assert outside.log(ran).split() == [f"0000{number}.dcm" for number in range(1, 6)]
    ran = outside.step("container", image=image, makes="dicom", contract="map")
    assert "input volume is a Volume; a MONAI Application Package takes DICOM" in ran.reason
    ran = outside.step("container", given, image=plain, makes="dicom", contract="map")
    assert "the image is no MONAI Application Package" in ran.reason


def test_what_a_killed_worker_left_running_is_removed(
    world: World, podman: Podman, plain: str
) -> None:
    script = f"test -f /out/../in/go || sleep 4; {COPY}mask.nii"
    steps = {
        **THRESHOLD_STEPS,
        "spots": {
            "use": "container",
            "in": {"volume": "mask"},
            "with": {
                "image": plain,
                "makes": "mask",
                "segments": [SPOT],
                "command": ["/bin/sh", "-c", script],
            },
        },
        "volumes": {"use": "measure_volumes", "in": {"mask": "spots"}},
    }
    world.settings["containers"] = {"socket": podman.socket}
    world.pipelines = [pipeline(steps)]
    world.build()
    world.start()
    world.arrive(exam_images())
    world.wait_for_step("spots")
    left = wait(podman.running, 20)
    world.kill()
    time.sleep(0.2)  # were it ended with the worker, it would be by now
    assert podman.running() == left
    world.start()
    job = world.wait_for_job("done", "failed")
    assert job.state == "done", job.reason
    assert world.steps(job)["spots"].runs == 2
    assert podman.running() == []
    assert not list((world.root / "data" / "boxes").glob("*.outside"))


def test_a_cancelled_job_takes_its_container_along(
    world: World, podman: Podman, plain: str
) -> None:
    steps = {
        **THRESHOLD_STEPS,
        "slow": {
            "use": "container",
            "in": {"volume": "volume"},
            "with": {"image": plain, "makes": "volume", "command": ["/bin/sleep", "60"]},
        },
    }
    world.settings["containers"] = {"socket": podman.socket}
    world.pipelines = [pipeline(steps)]
    world.build()
    world.start()
    world.arrive(exam_images())
    job = world.wait_for_step("slow")
    wait(podman.running, 20)
    with world.database.write() as session:
        jobs.cancel(session, job.id, at=datetime.now(UTC), actor="ann")
    wait(lambda: podman.running() == [], 15)
    wait(lambda: world.steps(job)["slow"].state == "cancelled", 5)


def test_a_mask_of_a_container_keeps_the_grid_of_what_it_was_made_from(
    outside: Outside, plain: str
) -> None:
    ran = shell(outside, plain, COPY, makes="mask", segments=[{**SPOT, "number": 500}])
    made = outside.made(ran)
    assert np.array_equal(made.affine, VOLUME.affine)
    assert made.model == f"plain@{plain.partition('@')[2][:19]}"

"""Run a container image over files and nothing else: Docker or podman, by the Docker API.

An image is known by its digest, and is never fetched: it must be there. The container has no
network, a read-only root, no capabilities, no way to more rights, a user of its own, and limits; it
is removed when it has ended, and what a killed worker has left running is removed by the next run
of the same box.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from overread.engine.runs import LOG_BYTES, Ended, Run, exit_reason, too_long
from overread.engine.usage import Meter
from overread.errors import StepFailed
from overread.operators.exchange import IN, OUT, PARAMETERS

if TYPE_CHECKING:
    from docker import APIClient

BOX = "overread.box"
JOB = "overread.job"
"""Labels of a container: the box whose step it is for, and the job."""

_WATCH_SECONDS = (0.05, 0.5)
"""Between two looks, at first and later."""

_CALL_SECONDS = 60
_LOG_FILE = "10m"
_TMP = "rw,nosuid,nodev,size=1g,mode=1777"
_NOBODY = 65534
_MANIFESTS = ("/etc/holoscan/app.json", "/etc/monai/app.json")
"""Where a MONAI Application Package says what it is."""

_MANIFEST_BYTES = 1 << 20


@contextmanager
def engine(socket: str) -> Iterator[APIClient]:
    """Open the container engine.

    Parameters
    ----------
    socket : str
        ``unix://…``; empty for that of DOCKER_HOST, or else Docker's own.

    Raises
    ------
    StepFailed
        It is not there, or refuses what it is asked.
    """
    try:
        import docker
        import requests
    except ImportError as error:
        raise StepFailed(
            f"containers cannot be run here: {error}; expected overread[container] to be installed"
        ) from error
    at = socket or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    try:
        client = docker.APIClient(base_url=at, version="auto", timeout=_CALL_SECONDS)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise StepFailed(
            f"there is no container engine at {at} ({error}); expected Docker, or podman with its "
            "service started, there or where containers.socket in overread.yaml says"
        ) from error
    try:
        yield client
    except docker.errors.APIError as error:
        raise StepFailed(f"the container engine says: {error.explanation or error}") from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise StepFailed(f"the container engine at {at} gives no answer: {error}") from error
    finally:
        client.close()


def run(task: Run, socket: str) -> Ended:
    """Run an image to its end.

    Parameters
    ----------
    task : Run
        With the settings of `overread.operators.container.container`.
    socket : str
        See `engine`.

    Raises
    ------
    StepFailed
        There is no engine, no such image, or no GPU.
    """
    with engine(socket) as client:
        from docker.errors import DockerException
        from requests import RequestException

        clean(client, {BOX: str(task.box.work)})
        clean(client, {JOB: task.job})
        image = find(client, task.settings["image"])
        at, more = {"in": f"/{IN}", "out": f"/{OUT}"}, dict[str, str]()
        if task.settings["contract"] == "map":
            at, more = _application(client, image, task)
        made = client.create_container(
            image,
            command=list(task.settings["command"]) or None,
            environment=more | task.environment,
            labels=_labels(task),
            user=_user(client),
            host_config=_host(client, task, at),
        )["Id"]
        try:
            client.start(made)
            stopped = _wait(client, made, task)
            log = _log(client, made)
            state = client.inspect_container(made)["State"]
        finally:
            with suppress(DockerException, RequestException):  # not to hide what happened before
                client.remove_container(made, force=True, v=True)
    return Ended(log, [f"image id {image}"], stopped or _failed(state, task))


def _labels(task: Run) -> dict[str, str]:
    return {BOX: str(task.box.work), JOB: task.job}


def clean(client: APIClient, labels: dict[str, str]) -> None:
    """Remove the containers of these labels: a worker that was killed has left them."""
    wanted = [f"{name}={value}" for name, value in labels.items()]
    for left in client.containers(all=True, filters={"label": wanted}):
        client.remove_container(left["Id"], force=True, v=True)


def clean_boxes(socket: str, boxes: Iterable[str]) -> None:
    """Remove what earlier runs in these boxes have left running, if there is an engine at all."""
    with suppress(StepFailed), engine(socket) as client:
        for box in boxes:
            clean(client, {BOX: box})


def find(client: APIClient, reference: str) -> str:
    """Return the id of the image that has a digest.

    Parameters
    ----------
    reference : str
        ``NAME@sha256:…``; of the image's manifest, or its id. The name does not count: an image
        that came by a file may have another one, or none.

    Raises
    ------
    StepFailed
        The engine has none.
    """
    digest = reference.partition("@")[2]
    for image in client.images(all=False):
        known = [one.partition("@")[2] for one in image.get("RepoDigests") or []]
        if digest in (image["Id"], *known):
            return str(image["Id"])
    raise StepFailed(
        f"the container engine of this machine has no image {reference}; it is never fetched while "
        f"a job runs: load it before, by `docker pull {reference}` or `docker load -i FILE` "
        "(podman has the same commands)"
    )


def _user(client: APIClient) -> str:
    """Return the user that the container runs as: never one with rights on this machine.

    Where the engine has rights that the worker has not, the worker's own user, so that both can
    read what the other writes. Where the engine runs as the worker's user itself, that user is
    called 0 within.
    """
    rootless = any("rootless" in one for one in client.info().get("SecurityOptions") or [])
    if rootless and os.getuid():
        return "0:0"
    user, group = os.getuid() or _NOBODY, os.getgid() or _NOBODY
    return f"{user}:{group}"


def _host(client: APIClient, task: Run, at: dict[str, str]) -> dict[str, Any]:
    """Say what the container may use."""
    from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

    def mount(name: str, target: str, *, read_only: bool) -> Mount:
        return Mount(target, str(task.folder / name), type="bind", read_only=read_only)

    # podman's service raises both of the first two by itself, further than it may.
    limits = {"nofile": 1024, "nproc": 4096, "fsize": task.box.disk, "core": 0}
    config: dict[str, Any] = client.create_host_config(
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        mem_limit=task.memory,
        memswap_limit=task.memory,
        nano_cpus=task.box.threads * 10**9,
        pids_limit=task.box.tasks,
        tmpfs={"/tmp": _TMP},  # noqa: S108, its own
        ulimits=[Ulimit(name=name, soft=most, hard=most) for name, most in limits.items()],
        log_config=LogConfig(type="json-file", config={"max-size": _LOG_FILE}),
        mounts=[
            mount(IN, at["in"], read_only=True),
            mount(PARAMETERS, f"/{PARAMETERS}", read_only=True),
            mount(OUT, at["out"], read_only=False),
        ],
        device_requests=[DeviceRequest(**_gpu(task.device))] if task.settings["gpu"] else None,
    )
    return config


def _gpu(device: str) -> dict[str, Any]:
    if device == "cpu":
        raise StepFailed("the step asks for a GPU; this site's engine.device is cpu")
    kind = {"capabilities": [["gpu"]]}
    if device.startswith("cuda:"):
        return {"device_ids": [device.removeprefix("cuda:")], **kind}
    return {"count": 1, **kind}


def _application(client: APIClient, image: str, task: Run) -> tuple[dict[str, str], dict[str, str]]:
    """Read a MONAI Application Package's manifest: where it takes files and leaves them.

    Returns
    -------
    dict, dict
        Paths of ``in`` and ``out``, and the variables that say them to the application.
    """
    made = client.create_container(image, ["-"], labels=_labels(task))["Id"]  # never started
    try:
        found = next(filter(None, (_read(client, made, path) for path in _MANIFESTS)), None)
    finally:
        client.remove_container(made, force=True, v=True)
    if found is None:
        raise StepFailed(
            f"the image is no MONAI Application Package: it has none of {', '.join(_MANIFESTS)}; "
            "expected contract: folders"
        )
    try:
        manifest = json.loads(found)
        home = PurePosixPath(manifest.get("workingDirectory", "/var/holoscan"))
        paths = {
            name: str(home / manifest[key].get("path", key))
            for name, key in (("in", "input"), ("out", "output"))
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StepFailed(
            f"the manifest of the MONAI Application Package cannot be read: {error!r}"
        ) from error
    variables = {
        "HOLOSCAN_INPUT_PATH": paths["in"],
        "HOLOSCAN_OUTPUT_PATH": paths["out"],
        "MONAI_INPUTPATH": paths["in"],
        "MONAI_OUTPUTPATH": paths["out"],
    }
    return paths, variables


def _read(client: APIClient, container: str, path: str) -> bytes | None:
    """Read a small file out of a container; none if there is no such file."""
    import docker

    try:
        stream, _ = client.get_archive(container, path)
    except docker.errors.NotFound:
        return None
    data = b""
    for chunk in stream:
        data += chunk
        if len(data) > _MANIFEST_BYTES:
            raise StepFailed(f"{path} of the image is larger than a manifest can be")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            if file is not None:
                return file.read()
    return None


def _wait(client: APIClient, container: str, task: Run) -> str:
    """Wait for a container's end; say why it was stopped, if it was."""
    ends = time.monotonic() + task.seconds
    meter = Meter(task.folder, task.memory, task.box.disk, task.box.tasks)
    pause, stopped = _WATCH_SECONDS[0], ""
    while client.inspect_container(container)["State"]["Status"] not in ("exited", "dead"):
        try:
            task.look()
            meter.look(None)
        except StepFailed as error:
            stopped = str(error)
        if time.monotonic() > ends:
            stopped = too_long(task.seconds)
        if stopped:
            client.kill(container)
            break
        time.sleep(pause)  # the engine tells nobody that a container has ended; short ones first
        pause = min(pause * 1.2, _WATCH_SECONDS[1])
    return stopped


def _log(client: APIClient, container: str) -> str:
    # Not `tail`: with it, podman 4 leaves out a last line without an end.
    text = client.logs(container, stdout=True, stderr=True)
    return bytes(text[-LOG_BYTES:]).decode(errors="replace")


def _failed(state: dict[str, Any], task: Run) -> str:
    if state.get("OOMKilled"):
        return f"its program took more memory than the {task.memory / 1e9:.3g} GB that it may"
    code = int(state["ExitCode"])
    return exit_reason(code) if code else ""

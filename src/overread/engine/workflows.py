"""The only door to the workflow library (DBOS).

What the rest of the engine relies on, and what is given here:

- a workflow is known by a name and an id; asking twice for the same id starts it once;
- a step that has returned is not run again by the same workflow, in this process or the next;
- a workflow whose process died is taken up again: by the process that comes back under the same
  name, or by another one through `Workflows.take_over`;
- what goes in and out is small plain JSON: ids, never pixels.

Steps are run at least once: a process may die after the work and before the record of it. So each
step's effect must be the same when it is repeated.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig, Serializer, SetEnqueueOptions, SetWorkflowID
from sqlalchemy import make_url

from overread.settings import Settings

_APPLICATION_VERSION = "1"
"""Not a digest of the source, which would strand the jobs of before an upgrade. It changes only
when a workflow's steps change so that one begun before could not go on."""


class Interrupted(BaseException):
    """The process has to let go of the work: it stops, or another one has taken it over.

    Raised inside a step. As it is no `Exception`, the workflow library records nothing, and the
    work goes on where it is taken up again.
    """


class _Json(Serializer):
    def name(self) -> str:
        return "overread_json"

    def serialize(self, data: Any) -> str:
        return json.dumps(data, default=_describe)

    def deserialize(self, serialized_data: str) -> Any:
        data = json.loads(serialized_data)
        if isinstance(data, dict) and data.keys() == {"raised"}:
            return RuntimeError(data["raised"])
        return data


def _describe(value: Any) -> Any:
    if isinstance(value, BaseException):
        return {"raised": f"{type(value).__name__}: {value}"}
    raise TypeError(f"{type(value).__name__} is not plain JSON; pass a reference to it instead")


@dataclass(frozen=True)
class Queue:
    """A queue of workflows.

    Attributes
    ----------
    concurrency : int
        How many of its workflows run at once in one worker.
    poll : float
        Seconds between two looks for work.
    """

    concurrency: int
    poll: float


class Workflows:
    """The workflow library, set up for one worker. One for each process.

    Parameters
    ----------
    settings : Settings
        Says which database: the site's PostgreSQL, or an SQLite file of its own.
    name : str
        The worker's name, unique among the workers of that database, and the same after a restart.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        config: DBOSConfig = {
            "name": "overread",
            "system_database_url": _database(settings),
            "application_version": _APPLICATION_VERSION,
            "executor_id": name,
            "serializer": _Json(),
            "log_level": "WARNING",
        }
        self.name = name
        self._functions: dict[str, Callable[..., Any]] = {}
        DBOS(config=config)

    def register(self, name: str, function: Callable[..., Any]) -> None:
        """Make a function the workflow of that name. Before `launch`.

        Its body may run again from its beginning: outside of steps it does only what may be
        repeated.
        """

        def body(*args: Any) -> Any:
            return function(*args)

        self._functions[name] = DBOS.workflow(name=name, max_recovery_attempts=1000)(body)

    def launch(self, queues: Mapping[str, Queue]) -> None:
        """Begin to work: take up what was left, and look for work on these queues."""
        DBOS.listen_queues(list(queues))
        DBOS.launch()
        for name, queue in queues.items():
            DBOS.register_queue(
                name,
                worker_concurrency=queue.concurrency,
                polling_interval_sec=queue.poll,
                on_conflict="always_update",
            )

    def enqueue(
        self,
        workflow: str,
        queue: str,
        workflow_id: str,
        *args: Any,
        priority: int = 1,
        only_one: str = "",
    ) -> None:
        """Ask that a workflow be run; a second time with the same id changes nothing.

        Parameters
        ----------
        workflow : str
            Name it was registered by.
        priority : int
            Lower runs first.
        only_one : str
            While a workflow of the queue that was given the same word has not ended, nothing is
            asked for; empty for any number.
        """
        options = SetEnqueueOptions(
            priority=priority,
            deduplication_id=only_one or None,
            duplication_policy="return-existing" if only_one else None,
        )
        with SetWorkflowID(workflow_id), options:
            DBOS.enqueue_workflow(queue, self._functions[workflow], *args)

    def step(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """Run a step of the workflow that calls this, or return what it returned before.

        What it returns must be plain JSON.
        """
        return DBOS.run_step({"name": name}, function, *args)

    def state(self, workflow_id: str) -> str:
        """Say how a workflow is: ``absent``, ``waiting``, ``running`` or ``ended``."""
        status = DBOS.get_workflow_status(workflow_id)
        if status is None:
            return "absent"
        return {"ENQUEUED": "waiting", "DELAYED": "waiting", "PENDING": "running"}.get(
            status.status, "ended"
        )

    def take_over(self, dead: str) -> list[str]:
        """Queue again what a dead worker of that name was running; return the workflows' ids."""
        left = DBOS.list_workflows(
            status="PENDING", executor_id=dead, load_input=False, load_output=False
        )
        for workflow in left:
            if workflow.queue_name is not None:
                DBOS.resume_workflow(workflow.workflow_id, queue_name=workflow.queue_name)
        return [workflow.workflow_id for workflow in left]

    def forget(self, before: datetime) -> None:
        """Delete what is kept of workflows that ended before a time."""
        ended = DBOS.list_workflows(
            completed_before=before.isoformat(), limit=1000, load_input=False, load_output=False
        )
        if ended:
            DBOS.delete_workflows([workflow.workflow_id for workflow in ended])

    def close(self) -> None:
        """Stop looking for work. What runs is left to be taken up again."""
        DBOS.destroy(workflow_completion_timeout_sec=0)


def _database(settings: Settings) -> str:
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite":
        return url.render_as_string(hide_password=False)
    file = settings.data / "workflows.sqlite"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The library leaves its file in journal mode DELETE, in which every reader blocks the writer.
    # The mode is a property of the file and stays.
    connection = sqlite3.connect(file, timeout=60)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return f"sqlite:///{Path(file)}"

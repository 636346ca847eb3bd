"""What the API says of itself holds: requests made of its own description, right and wrong ones.

In this process, without a server; the same requests at every run.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import select

from overread.portal.api import router
from overread.portal.app import build
from overread.store import deliveries, users
from overread.store.tables import Instance, Result
from overread.validation.permissions import ROLES, Grant
from tests.portal.reading_site import reading_site

EXAMPLES = 5
"""Of each operation and mode."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

QUIETLY = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@schemathesis.serializer("application/dicom")
def _as_it_is(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


class Api:
    """The API of a site with a project, with the token of somebody who may do everything."""

    def __init__(self, root: Path) -> None:
        self.site = reading_site(root)
        filled = self.site.filled
        self.app = build(filled.site)
        now = datetime.now(UTC)
        with filled.database.write() as session:
            rosa = users.find_user(session, "rosa")
            for role in ROLES:
                users.grant(session, now, "test", rosa, Grant(role))
            opened = users.open_bearer(session, now, "test", rosa, timedelta(days=1))
            result = session.scalars(select(Result.id)).first()
            image = session.scalars(select(Instance.id)).first()
            assert result is not None and image is not None
            order = deliveries.order(session, image, "PACS", cause="route all", why={}, at=now)
            session.flush()
            self.known = {
                "user_id": users.find_user(session, "robin").id,
                "result_id": result,
                "delivery_id": order.id,
                "exam_id": filled.cases["one"],
                "job_id": filled.jobs["one"],
                "case_id": self.site.cases["one"],
                "reading_id": self.site.reading("one", "rosa").id,
                "step": "mask",
                "version": "1.0.0",
            }
        self.headers = {"Authorization": f"Bearer {opened.token}"}
        generation = GenerationConfig(with_security_parameters=False, deterministic=True)
        config = SchemathesisConfig(
            seed=1, projects=ProjectsConfig(default=ProjectConfig(generation=generation))
        )
        self.schema = schemathesis.openapi.from_asgi(
            "/api/v1/openapi.json", self.app, config=config
        )
        found = [one.ok() for one in self.schema.get_all_operations() if isinstance(one, Ok)]
        self.operations = {f"{one.method.upper()} {one.path}": one for one in found}

    def ids(self, operation: Any) -> dict[str, str]:
        """Path parameters that lead to something that is there."""
        noun = operation.path.split("/")[3]
        names = {"projects": "glioma", "forms": "progression", "pipelines": "brain-tumour"}
        known = {**self.known, "name": names.get(noun, "port.json")}
        return {one.name: known[one.name] for one in operation.path_parameters}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    return Api(tmp_path_factory.mktemp("schemathesis"))


def _names() -> list[str]:
    """Every operation, without a site."""
    app = FastAPI()
    app.include_router(router)
    paths = app.openapi()["paths"]
    return [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]


@pytest.mark.parametrize("name", _names())
@pytest.mark.parametrize("mode", ["known", "positive", "negative"])
def test_the_api_is_as_described(api: Api, name: str, mode: str) -> None:
    operation = api.operations[name]
    asked: dict[str, Any] = {}
    if mode == "known":
        asked["path_parameters"] = api.ids(operation)
    elif mode == "negative":
        asked["generation_mode"] = GenerationMode.NEGATIVE

    @QUIETLY
    @hypothesis.given(case=operation.as_strategy(**asked))
    def holds(case: Any) -> None:
        case.call_and_validate(headers=api.headers, checks=CHECKS)

    try:
        holds()
    except hypothesis.errors.Unsatisfiable:
        assert mode == "negative"  # it takes nothing that could be wrong

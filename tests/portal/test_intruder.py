"""Somebody who means harm, or only looks where they should not: what they get, and what they leave.

Two projects share an exam. Whatever is edited, answered or counted in one is not for the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from pydicom import Dataset, dcmread
from sqlalchemy import select
from starlette.testclient import TestClient

from overread.portal.app import build
from overread.store import enrolments, users
from overread.store.tables import Held, Instance, Reading, Result, User
from overread.validation.permissions import Grant
from overread.validation.project import Project
from tests.drawn import drawn
from tests.portal.dicomweb.web import stow_body
from tests.portal.filled import AT, TUMOUR, Filled, Filler, Patient, lesion, make_site

NOW = datetime.now(UTC)
SHARED = Patient("PHANTOM^SHARED", "PH-I-1")
PEOPLE = {
    "rosa": [Grant("reader", "liver"), Grant("reader", "lung")],
    "robin": [Grant("reader", "liver")],
    "lena": [Grant("reader", "lung")],
    "cora": [Grant("coordinator", "liver")],
    "carl": [Grant("coordinator", "lung")],
    "both": [Grant("reader", "liver"), Grant("coordinator", "liver")],
    "dana": [Grant("data scientist", "liver"), Grant("reader", "lung")],
    "egon": [Grant("engineer")],
    "whole": [Grant("reader")],
}


@dataclass
class World:
    """An exam in two projects, the one before it in one of them, and people."""

    filled: Filled
    app: FastAPI
    cases: dict[str, str]
    clients: dict[str, TestClient]

    def images(self, name: str) -> list[Dataset]:
        """The images of an exam."""
        with self.filled.database.read() as session:
            rows = session.scalars(
                select(Instance).where(
                    Instance.study_uid == self.filled.studies[name], Instance.standing != "ours"
                )
            ).all()
            return [dcmread(self.filled.archive.path(row.key)) for row in rows]

    def store(self, who: str, at: str, file: bytes) -> Any:
        """Store an object as somebody, at an address."""
        body, headers = stow_body(file)
        return self.clients[who].post(f"{at}/dicom-web/studies", content=body, headers=headers)

    def edit(self, who: str, case: str, name: str, **changes: Any) -> Any:
        """Store an edit of the shared exam, at the address of one of its cases."""
        file = drawn(self.images("shared"), lesion(9), name=name, label=TUMOUR.label, **changes)
        return self.store(who, f"/cases/{self.cases[case]}" if case else "", file)

    def result(self, name: str) -> Result:
        """The edit of that name."""
        with self.filled.database.read() as session:
            image = drawn(self.images("shared"), lesion(9), name=name, label=TUMOUR.label)
            uid = dcmread(_file(image)).SOPInstanceUID
            row = session.scalar(
                select(Result)
                .join(Instance, Instance.id == Result.instance_id)
                .where(Instance.sop_instance_uid == uid)
            )
        assert row is not None
        return row


def _file(data: bytes) -> Any:
    from io import BytesIO

    return BytesIO(data)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    site = make_site(tmp_path_factory.mktemp("intruder"))
    named = {
        name: Project.model_validate({"name": name, "pipelines": ["brain-tumour"]})
        for name in ("liver", "lung")
    }
    filler = Filler(replace(site, projects=named))
    filler.exam("shared", patient=SHARED, accession="PH-I-1", date="20260602")
    filler.exam("before", patient=SHARED, accession="PH-I-0", date="20260102", radius=10)
    filler.exam("other", patient=Patient("PHANTOM^OTHER", "PH-I-2"), accession="PH-I-2")
    filled = filler.filled
    cases = {}
    with filled.database.write() as session:
        for case, project in (("shared", "liver"), ("shared", "lung"), ("before", "lung")):
            row = enrolments.enrol(session, AT, project, filled.cases[case], "brain-tumour")
            cases[f"{case} {project}"] = row.id
            row.ready_at = AT
    app = build(filled.site)
    clients = {}
    with filled.database.write() as session:
        for name, grants in PEOPLE.items():
            user = User(name=name, password="", disabled=False, created_at=NOW)
            session.add(user)
            session.flush()
            for one in grants:
                session.add(Held(user_id=user.id, role=one.role, project=one.project))
            token = users.open_bearer(session, NOW, "test", user, timedelta(days=1)).token
            clients[name] = TestClient(
                app, follow_redirects=False, headers={"Authorization": f"Bearer {token}"}
            )
    yield World(filled, app, cases, clients)

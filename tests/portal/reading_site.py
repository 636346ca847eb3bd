"""A site whose project, page and form are files, with two readers and a coordinator."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from overread.identity.local import hash_password
from overread.site import load
from overread.store import enrolments, users
from overread.store.archive import Archive
from overread.store.database import Database
from overread.store.tables import Enrolment, Reading, User
from tests.portal.filled import AT, DEFINITION, PASSWORDS, Filled, Filler, Patient
from tests.validation.forms import EVERYTHING

READERS = {"rosa": "reader", "robin": "reader", "cora": "coordinator", "egon": "engineer"}
PASSWORDS |= {"robin": "another reader's password", "cora": "a coordinator's password"}

PROJECT = """\
name: glioma
title: Glioma progression
pipelines: [brain-tumour]
form: progression
members:
  reader: {users: [rosa, robin]}
  coordinator: {users: [cora]}
page:
  blocks: [text, form, measurements]
  text: Compare with the exam before.
"""


@dataclass
class ReadingSite:
    """The store of such a site; cases and readings by a short name."""

    filled: Filled
    cases: dict[str, str]
    """Ids of enrolments."""

    def reading(self, case: str, reader: str) -> Reading:
        """The reading of a case, as it is kept: the latest amendment."""
        with self.filled.database.read() as session:
            found = (
                session.query(Reading)
                .join(User, User.id == Reading.reader_id)
                .filter(Reading.enrolment_id == self.cases[case], User.name == reader)
                .order_by(Reading.amends.desc())
                .first()
            )
        assert found is not None
        return found


def write_site(root: Path, *, port: int = 8080, form: dict[str, Any] | None = None) -> None:
    """Write the files: nothing but YAML and JSON."""
    steps = DEFINITION["steps"] | {
        "mask": {"use": "threshold", "in": {"volume": "volume"}, "with": {"above": 400}}
    }
    files = {
        "overread.yaml": f"site: {{name: Phantom clinic}}\nportal: {{port: {port}}}\n",
        "routes.yaml": "routes: []\n",
        "pipelines/brain-tumour.yaml": json.dumps(DEFINITION | {"steps": steps}, indent=1),
        "projects/glioma.yaml": PROJECT,
        "forms/progression.json": json.dumps(form or EVERYTHING, indent=1),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def reading_site(
    root: Path, *, port: int = 8080, form: dict[str, Any] | None = None
) -> ReadingSite:
    """Fill such a site with three cases; each reader has to read all of them."""
    write_site(root, port=port, form=form)
    filler = Filler(load(root, {}))
    filled = filler.filled
    cases = {}
    for number, name in enumerate(("one", "two", "three"), start=1):
        filler.exam(
            name, patient=Patient(f"PHANTOM^{name.upper()}", f"PH-R-{number}"),
            accession=f"PH-READ-{number}", at=AT + timedelta(hours=number),
        )  # fmt: skip
    with filled.database.write() as session:
        for user, role in READERS.items():
            project = "" if role == "engineer" else "glioma"
            users.add_user(
                session, AT, "test", name=user, secret=hash_password(PASSWORDS[user]),
                role=role, project=project,
            )  # fmt: skip
        for number, (name, root_id) in enumerate(filled.cases.items()):
            case = enrolments.enrol(session, AT, "glioma", root_id, "brain-tumour")
            cases[name] = case.id
            case.ready_at = AT + timedelta(hours=number)
            for reader in ("rosa", "robin"):
                session.add(open_reading(session, case, reader))
    return ReadingSite(filled, cases)


def open_reading(session: Session, case: Enrolment, reader: str) -> Reading:
    """A reading that somebody has to do."""
    return Reading(
        enrolment_id=case.id, project=case.project, pipeline=case.pipeline,
        reader_id=users.find_user(session, reader).id, state="open", ready_at=case.ready_at or AT,
        opened_at=None, saved_at=None, submitted_at=None, due_at=None,
    )  # fmt: skip


def copied(of: ReadingSite, root: Path) -> ReadingSite:
    """A site of its own, like one that nobody has read at yet: filling takes longer."""
    of.filled.database.close()
    shutil.copytree(of.filled.site.root, root)
    site = load(root, {})
    filled = replace(
        of.filled, site=site, database=Database(site.settings.database_url),
        archive=Archive(site.settings.data / "archive"),
    )  # fmt: skip
    return ReadingSite(filled, dict(of.cases))

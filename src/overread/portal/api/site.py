"""What the site is made of: projects, pipelines, models, forms, routes; and how it is."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from overread import nouns
from overread.dicom.study import Origin
from overread.engine import checks
from overread.errors import StepFailed
from overread.portal.api.conventions import (
    LINK,
    After,
    Limit,
    Since,
    Until,
    link_next,
    new_router,
    refusals,
    refusing,
    slice_after,
    there,
)
from overread.portal.auth import allow, require
from overread.portal.engineering import catalogue, trial
from overread.portal.state import Here
from overread.store import worklist
from overread.store.users import Signed
from overread.validation.permissions import reach

router = new_router("site")

MayRoute = Annotated[Signed, Depends(require("route.see"))]


@router.get("/projects", responses=LINK)
def list_projects(
    request: Request,
    response: Response,
    portal: Here,
    signed: Annotated[Signed, Depends(require("case.list"))],
    *,
    after: After = "",
    limit: Limit = 100,
) -> list[nouns.Project]:
    """List the projects that the caller sees cases of, by name."""
    where = reach(signed.actor, "case.list")
    seen = [
        one
        for one in portal.site.projects.values()
        if where.everywhere or one.name in where.projects
    ]
    page = slice_after(seen, "name", after, limit)
    link_next(request, response, page.next)
    return [catalogue.project(one) for one in page.rows]


@router.get("/projects/{name}", responses=refusals(404))
def get_project(
    portal: Here, signed: Annotated[Signed, Depends(require("case.list"))], name: str
) -> nouns.Project:
    """Give one project."""
    where = reach(signed.actor, "case.list")
    found = portal.site.projects.get(name) if where.everywhere or name in where.projects else None
    return catalogue.project(there(found, "project"))


@router.get("/projects/{name}/progress", responses=refusals(404))
def get_progress(
    portal: Here, signed: Annotated[Signed, Depends(require("project.see"))], name: str
) -> nouns.Progress:
    """Say how far a project and each of its readers are."""
    where = reach(signed.actor, "project.see")
    found = portal.site.projects.get(name) if where.everywhere or name in where.projects else None
    project = there(found, "project")
    with portal.database.read() as session:
        enrolled = worklist.enrolled(session, project.name)
        readers = worklist.progress(session, project.name)
    return nouns.Progress(
        project=project.name,
        cases=enrolled.cases,
        ready=enrolled.ready,
        readers=[
            nouns.ReaderProgress(
                reader=one.name,
                to_read=one.count.to_read,
                begun=one.count.begun,
                urgent=one.count.urgent,
                done=one.count.done,
            )
            for one in readers
        ],
    )


@router.get("/pipelines", responses=LINK, dependencies=[Depends(require("pipeline.list"))])
def list_pipelines(
    request: Request, response: Response, portal: Here, *, after: After = "", limit: Limit = 100
) -> list[nouns.Pipeline]:
    """List the site's pipelines, by name."""
    page = slice_after(portal.site.pipelines.values(), "name", after, limit)
    link_next(request, response, page.next)
    return [catalogue.pipeline(portal.site, one) for one in page.rows]


@router.get(
    "/pipelines/{name}",
    responses=refusals(404),
    dependencies=[Depends(require("pipeline.list"))],
)
def get_pipeline(portal: Here, name: str) -> nouns.Pipeline:
    """Give one pipeline with its definition."""
    return catalogue.pipeline(portal.site, there(portal.site.pipelines.get(name), "pipeline"))


@router.get("/models", responses=LINK, dependencies=[Depends(require("model.list"))])
def list_models(
    request: Request, response: Response, portal: Here, *, after: After = "", limit: Limit = 100
) -> list[nouns.Model]:
    """List the site's models, by name and version."""
    cards = [model.card for model in portal.site.models.values()]
    page = slice_after(cards, "reference", after, limit)
    link_next(request, response, page.next)
    return [catalogue.model(portal.site, one) for one in page.rows]


@router.get(
    "/models/{name}/{version}",
    responses=refusals(404),
    dependencies=[Depends(require("model.list"))],
)
def get_model(portal: Here, name: str, version: str) -> nouns.Model:
    """Give one version of a model: its card, and where it is used."""
    found = there(portal.site.models.get(f"{name}@{version}"), "model")
    return catalogue.model(portal.site, found.card)


@router.post(
    "/models/{name}/{version}/verify",
    responses=refusals(404),
    dependencies=[Depends(require("model.list"))],
)
def verify_model(portal: Here, name: str, version: str) -> nouns.Verified:
    """Compare a model's files with the digests that its card pins."""
    found = there(portal.site.models.get(f"{name}@{version}"), "model")
    try:
        said = checks.model(found)
    except StepFailed as error:
        return nouns.Verified(verified=False, said=str(error))
    return nouns.Verified(verified=True, said=said)


@router.get("/forms", responses=LINK, dependencies=[Depends(require("form.preview"))])
def list_forms(
    request: Request, response: Response, portal: Here, *, after: After = "", limit: Limit = 100
) -> list[nouns.Form]:
    """List the site's forms, by name."""
    page = slice_after(portal.site.forms.values(), "name", after, limit)
    link_next(request, response, page.next)
    return [catalogue.form(one) for one in page.rows]


@router.get("/forms/{name}", responses=refusals(404))
def get_form(
    portal: Here, signed: Annotated[Signed, Depends(require("case.see"))], name: str
) -> nouns.Form:
    """Give one form: readers get those of their projects."""
    found = there(portal.site.forms.get(name), "form")
    theirs = [one.name for one in portal.site.projects.values() if one.form == name]
    if not reach(signed.actor, "form.preview").everywhere:
        allow(signed, "case.see", f"form {name}", projects=theirs)
    return catalogue.form(found)


@router.get("/routes", dependencies=[Depends(require("route.see"))])
def list_routes(portal: Here) -> list[nouns.Route]:
    """List the site's routes, in the order in which they decide."""
    return [trial.route(one) for one in portal.site.routes]


@router.post(
    "/routes/test",
    responses=refusals(413),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/dicom": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def try_routes(
    request: Request,
    portal: Here,
    signed: MayRoute,  # noqa: ARG001 - who may not is refused
    *,
    calling: Annotated[str, Query(max_length=16, pattern=r"^[^\x00]*$")] = "",
    called: Annotated[str, Query(max_length=16, pattern=r"^[^\x00]*$")] = "",
    peer: Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")] = "",
) -> nouns.Tried:
    """Say where a DICOM file would go and why; its beginning is enough, and nothing is kept.

    What is not told of the association is absent.
    """
    content = await trial.body(request)
    with refusing(422):
        tried = await run_in_threadpool(
            trial.try_file, portal.site.routes, content, Origin(calling, called, peer)
        )
    return nouns.Tried.model_validate(tried)


@router.get("/routes/replay")
def replay_routes(
    portal: Here,
    signed: MayRoute,  # noqa: ARG001 - who may not is refused
    *,
    since: Since,
    until: Until = None,
    changed: Annotated[bool, Query(description="Only what would go elsewhere.")] = False,
) -> list[nouns.Replayed]:
    """Say what the present routes would do with the series that came, against what was done."""
    since = there(since, "time")
    with portal.database.read() as session:
        told = trial.replayed(session, portal, since, until)
    return [trial.as_noun(one) for one in told.series if not changed or one.added or one.dropped]


@router.get("/health", dependencies=[Depends(require("site.see"))])
def get_health(portal: Here) -> nouns.Health:
    """Look at everything that the site needs, as ``overread doctor`` does."""
    rows = [
        nouns.Check.model_validate(checks.examine(name, find))
        for name, find in checks.checks(portal.site.settings, portal.site)
    ]
    return nouns.Health(well=all(row.state != "wrong" for row in rows), checks=rows)

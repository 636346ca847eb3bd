"""What the site is made of, as pages: models with their cards, pipelines, plugins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from sqlalchemy import func as sql
from sqlalchemy import select

from overread import registry
from overread.engine import checks
from overread.errors import StepFailed
from overread.portal.auth import require
from overread.portal.engineering import catalogue, markdown
from overread.portal.engineering.missing import missing
from overread.portal.state import Here
from overread.store.tables import Job
from overread.store.users import Signed

router = APIRouter(include_in_schema=False)

MayModels = Annotated[Signed, Depends(require("model.list"))]
MayPipelines = Annotated[Signed, Depends(require("pipeline.list"))]


@router.get("/models")
def models_page(request: Request, portal: Here, signed: MayModels) -> Response:
    """Show each model's card in short."""
    models = [catalogue.model(portal.site, one.card) for one in portal.site.models.values()]
    return portal.templates.TemplateResponse(
        request, "models.html", {"signed": signed, "models": models}
    )


@router.get("/models/{name}/{version}")
def model_page(
    request: Request, portal: Here, signed: MayModels, name: str, version: str
) -> Response:
    """Show a model: its card, what its maker wrote of it, and where it has run."""
    reference = f"{name}@{version}"
    found = portal.site.models.get(reference)
    if found is None:
        return missing(request, portal, signed, "model")
    noun = catalogue.model(portal.site, found.card)
    with portal.database.read() as session:
        counted = session.execute(
            select(Job.state, sql.count())
            .where(Job.pipeline.in_(noun.pipelines))
            .group_by(Job.state)
            .order_by(Job.state)
        )
        states = dict(counted.tuples().all())
    context = {
        "signed": signed,
        "model": noun,
        "card": markdown.render(catalogue.card_text(portal.site, reference)),
        "files": [one.file.name for one in found.members],
        "states": states,
    }
    return portal.templates.TemplateResponse(request, "model.html", context)


@router.get("/models/{name}/{version}/verified")
def verified(
    request: Request, portal: Here, signed: MayModels, name: str, version: str
) -> Response:
    """Compare a model's files with the digests that its card pins, and say so in a line."""
    found = portal.site.models.get(f"{name}@{version}")
    if found is None:
        raise HTTPException(404)
    try:
        said, is_verified = checks.model(found), True
    except StepFailed as error:
        said, is_verified = str(error), False
    return portal.templates.TemplateResponse(
        request, "_verified.html", {"signed": signed, "said": said, "is_verified": is_verified}
    )


@router.get("/pipelines/{name}")
def pipeline_page(request: Request, portal: Here, signed: MayPipelines, name: str) -> Response:
    """Show a pipeline as the site defines it."""
    found = portal.site.pipelines.get(name)
    if found is None:
        return missing(request, portal, signed, "pipeline")
    context = {
        "signed": signed,
        "pipeline": catalogue.pipeline(portal.site, found),
        "definition": found,
        "routes": [one for one in portal.site.routes if found.ae_title in one.send_to],
    }
    return portal.templates.TemplateResponse(request, "pipeline.html", context)


@router.get("/plugins")
def plugins_page(request: Request, portal: Here, signed: MayPipelines) -> Response:
    """List what is installed, by family, and what of it lacks something here."""
    listed = catalogue.plugins(portal.site)
    context = {
        "signed": signed,
        "families": [
            (family, [one for one in listed if one.family == family])
            for family in registry.FAMILIES
        ],
        "pipelines": sorted(portal.site.pipelines.values(), key=lambda one: one.name),
    }
    return portal.templates.TemplateResponse(request, "plugins.html", context)

"""The JSON API: what scripts ask. Described at ``/api/v1/openapi.json``.

Everything that the pages do, by the same store functions, permissions and audit.
"""

from __future__ import annotations

from fastapi import APIRouter

from overread.portal.api import cases, deliveries, exams, jobs, people, site

router = APIRouter()
for part in (exams, jobs, cases, deliveries, site, people):
    router.include_router(part.router)

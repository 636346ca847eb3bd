"""A double of an EHR: a FHIR server that launches apps by SMART App Launch 2, as a process.

``python -m tests.portal.smart_double PORT``. Its user is signed in and allows everything. What is
open there is named by the launch: ``PATIENT`` or ``PATIENT:ENCOUNTER`` or ``PATIENT::STUDY``.
"""

from __future__ import annotations

import secrets
import sys
from base64 import b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

SYSTEM = "urn:oid:1.2.3"
CLIENT, SECRET = "overread", "a secret of the test"


def _patient(identity: str, *identifiers: tuple[str, str], born: str = "1971-02-04") -> Any:
    return {
        "resourceType": "Patient",
        "id": identity,
        "birthDate": born,
        "identifier": [{"system": system, "value": value} for system, value in identifiers],
    }


PATIENTS = {
    "six": _patient("six", (SYSTEM, "PH-0006"), ("urn:other", "PH-0011")),
    "clear": _patient("clear", (SYSTEM, "PH-0011"), born="1985-06-12"),
    "nobody": _patient("nobody", ("urn:other", "PH-0006")),
    "unknown": _patient("unknown", (SYSTEM, "PH-9999")),
    "wrong": _patient("wrong", (SYSTEM, "PH-0011"), born="1950-01-01"),
    "two": _patient("two", (SYSTEM, "PH-0006"), (SYSTEM, "PH-0011")),
    "swapped": _patient("six", (SYSTEM, "PH-0006")),
}


def _study(accession: str) -> Any:
    coding = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}
    return {
        "resourceType": "ImagingStudy",
        "identifier": [
            {"type": {"coding": [coding]}, "value": accession},
            {"system": "urn:dicom:uid", "value": "urn:oid:2.25.7"},
        ],
    }


STUDIES = {"s106": _study("PH-A-0106"), "s102": _study("PH-A-0102")}
ENCOUNTERS = {"Encounter/e1": ["s102"]}

_codes: dict[str, dict[str, str]] = {}
_tokens: dict[str, str] = {}


def configuration(request: Request) -> Response:
    """Where to authorize."""
    base = str(request.base_url).rstrip("/")
    return JSONResponse(
        {
            "authorization_endpoint": f"{base}/authorize?tenant=1",
            "token_endpoint": f"{base}/token",
            "code_challenge_methods_supported": ["S256"],
            "capabilities": ["launch-ehr", "client-confidential-symmetric", "context-ehr-patient"],
        }
    )


def authorize(request: Request) -> Response:
    """Allow it at once, as a user of the EHR would."""
    asked = dict(request.query_params)
    sound = (
        asked.get("response_type") == "code"
        and asked.get("client_id") == CLIENT
        and asked.get("aud") == f"{str(request.base_url).rstrip('/')}/fhir"
        and asked.get("code_challenge_method") == "S256"
        and "launch" in asked.get("scope", "").split()
        and asked.get("tenant") == "1"
    )
    if not sound:
        return JSONResponse(asked, 400)
    code = secrets.token_urlsafe(16)
    _codes[code] = asked
    back = {"code": code, "state": asked["state"]}
    return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(back)}", 303)


async def token(request: Request) -> Response:
    """Give a token for a code, once."""
    form = dict(parse_qsl((await request.body()).decode()))
    _, _, basic = request.headers.get("authorization", "").partition(" ")
    asked = _codes.pop(form.get("code", ""), None)
    challenge = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest())
    if (
        asked is None
        or b64decode(basic).decode() != f"{CLIENT}:{SECRET}"
        or form["redirect_uri"] != asked["redirect_uri"]
        or challenge.rstrip(b"=").decode() != asked["code_challenge"]
    ):
        return JSONResponse({"error": "invalid_grant"}, 400)
    patient, _, rest = asked["launch"].partition(":")
    encounter, _, study = rest.partition(":")
    given = secrets.token_urlsafe(16)
    _tokens[given] = patient
    said: dict[str, Any] = {"access_token": given, "token_type": "Bearer", "expires_in": 300}
    if patient:
        said["patient"] = patient
    if encounter:
        said["encounter"] = encounter
    if study:
        said["fhirContext"] = [{"reference": f"ImagingStudy/{study}"}]
    return JSONResponse(said)


def _allowed(request: Request) -> bool:
    return request.headers.get("authorization", "").removeprefix("Bearer ") in _tokens


def read(request: Request) -> Response:
    """Read a resource."""
    kind, identity = request.path_params["kind"], request.path_params["id"]
    found = {"Patient": PATIENTS, "ImagingStudy": STUDIES}.get(kind, {}).get(identity)
    if not _allowed(request) or found is None:
        return JSONResponse({"resourceType": "OperationOutcome"}, 404)
    return JSONResponse(found, media_type="application/fhir+json")


def search(request: Request) -> Response:
    """Search for the imaging studies of an encounter."""
    if not _allowed(request):
        return JSONResponse({"resourceType": "OperationOutcome"}, 401)
    names = ENCOUNTERS.get(request.query_params.get("encounter", ""), [])
    entries = [{"resource": STUDIES[name]} for name in names]
    return JSONResponse({"resourceType": "Bundle", "type": "searchset", "entry": entries})


app = Starlette(
    routes=[
        Route("/fhir/.well-known/smart-configuration", configuration),
        Route("/authorize", authorize),
        Route("/token", token, methods=["POST"]),
        Route("/fhir/ImagingStudy", search),
        Route("/fhir/{kind}/{id}", read),
    ]
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")

"""A double of a FHIR server, for tests: Patient and Observation are searched by POST, in pages."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

SYSTEM = "urn:oid:1.2.3"
LOINC = "http://loinc.org"
TOKEN = "a-token-of-the-test"


def patient(identity: str = "p1", **changes: Any) -> dict[str, Any]:
    """The patient of `tests.dicom.series`' images, unless something is changed."""
    return {
        "resourceType": "Patient",
        "id": identity,
        "identifier": [{"system": SYSTEM, "value": "TEST-1"}],
        "name": [{"family": "Müller", "given": ["Jane", "D."]}],
        "gender": "female",
        "birthDate": "1970-01-01",
        **changes,
    }


def weight(identity: str, when: str, value: Any, unit: str = "kg", **changes: Any) -> Any:
    """An observation of a body weight."""
    return {
        "resourceType": "Observation",
        "id": identity,
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "29463-7"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": when,
        "valueQuantity": {
            "value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit,
        },
        **changes,
    }  # fmt: skip


@dataclass
class Double:
    """What the server holds, how it behaves, and what it was asked."""

    resources: list[dict[str, Any]] = field(default_factory=list)
    page: int = 2
    fails: list[int] = field(default_factory=list)
    """Status codes of the next answers."""
    everything: bool = False
    """Whether it looks at no parameter."""
    next_host: str = ""
    """Where it says that the next page is, if not here."""
    url: str = ""
    asked: list[tuple[str, str, dict[str, list[str]]]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def found(self, kind: str, form: dict[str, list[str]]) -> list[dict[str, Any]]:
        """Search as the parameters say."""
        of_kind = [one for one in self.resources if one["resourceType"] == kind]
        return [one for one in of_kind if self.everything or self._fits(one, form)]

    def _fits(self, one: dict[str, Any], form: dict[str, list[str]]) -> bool:
        if one["resourceType"] == "Patient":
            wanted = re.sub(r"\\(.)", r"\1", form["identifier"][0])
            return any(f"{at['system']}|{at['value']}" == wanted for at in one["identifier"])
        day = one.get("effectiveDateTime", "")[:10]
        codes = [f"{at['system']}|{at['code']}" for at in one["code"]["coding"]]
        return (
            one["subject"]["reference"] == f"Patient/{form['patient'][0]}"
            and form["code"][0] in codes
            and all(day >= at[2:] if at[:2] == "ge" else day <= at[2:] for at in form["date"])
        )

    def bundle(self, kind: str, form: dict[str, list[str]], begin: int) -> dict[str, Any]:
        """Make one page of a search's results."""
        found = self.found(kind, form)
        link = []
        if begin + self.page < len(found):
            key = len(self.asked) - 1
            link = [
                {"relation": "self", "url": self.url},
                {
                    "relation": "next",
                    "url": f"{self.next_host or self.url}?of={key}&kind={kind}"
                    f"&begin={begin + self.page}",
                },
            ]
        entry = [{"resource": one, "search": {"mode": "match"}} for one in found]
        return {
            "resourceType": "Bundle",
            "type": "searchset",
            "link": link,
            "entry": entry[begin : begin + self.page],
        }


@contextmanager
def double(*resources: dict[str, Any], certificate: Path | None = None) -> Iterator[Double]:
    """Serve on a free port; by TLS where there is a PEM file with a key and a certificate."""
    held = Double(list(resources))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            form = parse_qs(self.rfile.read(length).decode())
            kind = urlsplit(self.path).path.split("/")[2]
            held.asked.append(("POST", self.path, form))
            self._say(lambda: held.bundle(kind, form, 0))

        def do_GET(self) -> None:
            query = {key: value[0] for key, value in parse_qs(urlsplit(self.path).query).items()}
            form = held.asked[int(query["of"])][2]
            held.asked.append(("GET", self.path, form))
            begin, kind = int(query["begin"]), query["kind"]
            self._say(lambda: held.bundle(kind, form, begin))

        def _say(self, make: Any) -> None:
            held.tokens.add(self.headers.get("Authorization", ""))
            code = held.fails.pop(0) if held.fails else 200
            body = json.dumps(make() if code == 200 else {}).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/fhir+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    held.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}/fhir"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

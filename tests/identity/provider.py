"""A double: a small OpenID provider that plays by the rules, and breaks them when told to.

It signs everybody in as the person it was last told, without asking. ``python -m
tests.identity.provider PORT`` runs it; ``POST /control`` tells it what the next ID token is like.
"""

from __future__ import annotations

import base64
import hmac
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import httpx
import uvicorn
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from tests.identity.slapd import free_port

CLIENT, SECRET = "overread", "the client's secret / with: signs"
ADA = {
    "sub": "1234", "preferred_username": "ada", "email": "ada@hospital.example",
    "groups": ["readers"],
}  # fmt: skip


def make(issuer: str) -> FastAPI:
    """Make the provider's application."""
    app = FastAPI()
    keys = {name: RSAKey.generate_key(2048, {"kid": name, "use": "sig"}) for name in ("one", "two")}
    codes: dict[str, dict[str, str]] = {}
    told: dict[str, Any] = {}

    @app.get("/.well-known/openid-configuration")
    def configuration() -> dict[str, Any]:
        return {
            "issuer": told.get("issuer", issuer),
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "userinfo_endpoint": f"{issuer}/userinfo",
            "end_session_endpoint": f"{issuer}/end",
        }

    @app.get("/jwks")
    def jwks() -> Any:
        shown: list[Any] = [key for name, key in keys.items() if name in told.get("keys", ["one"])]
        return KeySet(shown).as_dict(private=False)

    @app.get("/authorize")
    def authorize(request: Request) -> RedirectResponse:
        asked = dict(request.query_params)
        assert asked["client_id"] == CLIENT
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        if "error" in told:
            answer = {"error": told["error"]}
        else:
            code = f"code-{len(codes)}"
            codes[code] = asked
            answer = {"code": code, "iss": issuer}
        answer["state"] = told.get("state", asked["state"])
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 302)

    @app.post("/token")
    def token(
        request: Request,
        code: Annotated[str, Form()],
        redirect_uri: Annotated[str, Form()],
        code_verifier: Annotated[str, Form()],
        grant_type: Annotated[str, Form()],
    ) -> JSONResponse:
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {basic}":
            return JSONResponse({"error": "invalid_client"}, 401)
        asked = codes.pop(code, None)  # it is good for once
        if (
            asked is None
            or grant_type != "authorization_code"
            or redirect_uri != asked["redirect_uri"]
            or create_s256_code_challenge(code_verifier) != asked["code_challenge"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {
            **ADA, "iss": issuer, "aud": CLIENT, "iat": now, "exp": now + 300,
            "nonce": asked["nonce"], **told.get("claims", {}),
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        return JSONResponse(
            {"access_token": "an access token", "token_type": "Bearer", "id_token": signed(claims)}
        )

    def signed(claims: dict[str, Any]) -> str:
        algorithm, kid = told.get("alg", "RS256"), told.get("kid", "one")
        if algorithm == "none":
            parts = [b'{"alg":"none"}', JSONResponse(claims).body, b""]
            return ".".join(
                base64.urlsafe_b64encode(bytes(part)).decode().rstrip("=") for part in parts
            )
        if algorithm == "HS256":  # with the public key as its secret: a known confusion
            secret = keys["one"].as_pem(private=False)
            parts = [b'{"alg":"HS256","kid":"one"}', bytes(JSONResponse(claims).body)]
            head = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
            mark = base64.urlsafe_b64encode(hmac.digest(secret, head, "sha256")).rstrip(b"=")
            return (head + b"." + mark).decode()
        return jwt.encode({"alg": algorithm, "kid": kid}, claims, keys[told.get("signer", kid)])

    @app.get("/userinfo")
    def userinfo(request: Request) -> dict[str, Any]:
        if request.headers.get("authorization") != "Bearer an access token":
            raise HTTPException(401)
        return {"sub": told.get("userinfo_sub", ADA["sub"]), "realm": {"roles": ["chiefs"]}}

    @app.post("/control")
    def control(new: dict[str, Any]) -> None:
        told.clear()
        told.update(new)

    return app


@contextmanager
def provider() -> Iterator[str]:
    """Run the provider in a process of its own; its issuer."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.identity.provider", str(port)],
        cwd=Path(__file__).parents[2],
    )
    try:
        until = time.monotonic() + 20
        while True:
            try:
                httpx.get(f"{issuer}/jwks").raise_for_status()
                break
            except httpx.ConnectError:
                assert time.monotonic() < until, "the provider does not begin to listen"
                time.sleep(0.05)  # until it listens
        yield issuer
    finally:
        process.terminate()
        process.wait(10)


def tell(issuer: str, /, **new: Any) -> None:
    """Tell a provider how to behave from now on."""
    httpx.post(f"{issuer}/control", json=new).raise_for_status()


if __name__ == "__main__":
    uvicorn.run(make(f"http://127.0.0.1:{sys.argv[1]}"), port=int(sys.argv[1]), log_level="warning")

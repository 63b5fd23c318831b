"""What the service is compared with over HTTP: as little as a WSGI server can be asked to run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response, jsonify, request

ANSWER = b'{"allowed":true,"decision":"allow"}'


def bare(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]) -> Iterable[bytes]:
    """Read the body and answer a constant."""
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(ANSWER)))])
    return [ANSWER]


flask = Flask(__name__)


@flask.post("/api/v1/check")
def check() -> Response:
    """Decode the body and answer a constant."""
    request.get_json()
    return jsonify(allowed=True, decision="allow")

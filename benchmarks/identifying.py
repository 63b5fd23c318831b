"""What finding out who asks costs a check, and what a freeze costs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure import microseconds
from benchmarks.report import Report
from policy_engine.config import Settings
from policy_engine.http.access import Access
from policy_engine.service import PolicyService

REQUESTS = 1000
TYPE = "network_security"
RULE = {"action": "allow", "match": {"protocol": "tcp"}}
STRANGER = {"REMOTE_ADDR": "203.0.113.9"}


def run(report: Report, *, quick: bool) -> None:  # noqa: ARG001 - it is quick anyway
    """Measure the same service asked by callers of several kinds."""
    print("identity (who asks, in the process that answers)")
    with TemporaryDirectory() as folder:
        file = Path(folder, "policies.json")
        file.write_text(json.dumps({"policies": {"p": {"type": TYPE, "rules": [RULE]}}}))
        service = PolicyService(Settings(policy_file=str(file), data_dir=folder, decision_log="off"))
        try:
            _measure_callers(report, service)
            _measure_freezes(report, service)
        finally:
            service.stop()


def _measure_callers(report: Report, service: PolicyService) -> None:
    access = Access(service)
    _, key = service.keys.create("bench", ("checker",), author="bench")
    anonymous = _identifying(access, STRANGER)
    keyed = _identifying(access, {**STRANGER, "HTTP_AUTHORIZATION": f"Bearer {key}"})
    report.add("identity: nobody in particular", anonymous, "us")
    report.add("identity: an API key", keyed, "us")


def _identifying(access: Access, environ: dict[str, Any]) -> float:
    access.caller(dict(environ))  # the first time a key is verified at length
    return microseconds(lambda each: access.caller(dict(each)), [environ] * REQUESTS)


def _measure_freezes(report: Report, service: PolicyService) -> None:
    def check(context: dict[str, Any]) -> object:
        return service.engine.check(TYPE, context)

    free = _checking(check, "f")
    service.emergency.freeze("g", reason="bench", author="bench")
    report.add("identity: a freeze of another federation adds", _checking(check, "f") - free, "us")
    report.add("identity: a frozen check", _checking(check, "g"), "us")


def _checking(check: Callable[[dict[str, Any]], object], federation: str) -> float:
    return microseconds(check, [{"protocol": "tcp", "federation": federation}] * REQUESTS)

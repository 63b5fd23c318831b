"""Health: is it there, is it well, and if not, why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response

from policy_engine.http.bodies import json_response, service
from policy_engine.service import PolicyService

health = Blueprint("health", __name__)


def liveness() -> dict[str, Any]:
    """Return that the process answers."""
    return {"status": "alive"}


def readiness(of: PolicyService) -> dict[str, Any]:
    """Return whether the service is well; one that is degraded still answers checks, from the last good policies."""
    revision = of.revision
    reasons = of.troubles.all()
    return {
        "status": "degraded" if reasons else "ready",
        "reasons": reasons,
        "policy_version": revision.version,
        "revision_digest": revision.digest,
        "policies": len(of.policies),
        "rules": sum(len(policy.rules) for policy in of.policies.values()),
    }


@health.get("/health")
def get_health() -> Response:
    """Health in the shape that existing callers know; `functions` counts what policy functions did in this process."""
    return json_response(
        {
            "status": "healthy",
            "timestamp": datetime.now(UTC),
            "version": service().revision.version,
            "functions": service().runtime.counters.snapshot(),
        }
    )


@health.get("/livez")
def get_liveness() -> Response:
    """Whether the process answers at all."""
    return json_response(liveness())


@health.get("/readyz")
def get_readiness() -> Response:
    """Whether the service is ready, or degraded and why."""
    return json_response(readiness(service()))

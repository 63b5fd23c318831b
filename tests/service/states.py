"""What a service is in, and what it told of how it got there."""

from __future__ import annotations

import json
from typing import Any

from policy_engine.service import PolicyService
from policy_engine.store.revisions import Revision

Document = dict[str, Any]

NEW: Document = {"id": "new", "type": "network_security", "rules": [{"action": "allow", "match": {"protocol": "udp"}}]}


def codes(service: PolicyService) -> list[str]:
    return [trouble.code for trouble in service.troubles.all()]


def types(service: PolicyService) -> list[str]:
    return [event.event_type for event in service.events.page().events]


def with_port(document: Document, port: int) -> str:
    """The file with the allowed port changed to one of four digits: the size stays the same."""
    changed = json.loads(json.dumps(document))
    changed["policies"]["web"]["rules"][1]["match"]["dst_port"] = port
    return json.dumps(changed)


def allows(service: PolicyService, port: int) -> bool:
    return service.engine.check("network_security", {"protocol": "tcp", "dst_port": port}).allowed


def revisions(service: PolicyService) -> list[Revision]:
    """Every revision of the store, oldest first."""
    return service.store.revisions.newest(limit=10_000)[::-1]


def numbers(service: PolicyService) -> list[int]:
    return [revision.number for revision in revisions(service)]


def stored(service: PolicyService) -> dict[str, Document]:
    """The policies of the newest revision, as they are stored."""
    return service.store.revisions.documents()[1].policies


def in_force(service: PolicyService) -> dict[str, Document]:
    return {policy_id: policy.document for policy_id, policy in service.policies.items()}

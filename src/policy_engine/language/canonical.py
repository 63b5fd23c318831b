"""The canonical form of a policy set, whose digest names a revision."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import rfc8785

from policy_engine.language.policy import SERVER_OWNED
from policy_engine.model.function import FUNCTION_OWNED
from policy_engine.model.policy import PolicySet


def canonical_document(policy_set: PolicySet) -> dict[str, Any]:
    """Return what a policy set means: types, policies, and functions if any, without fields that have no meaning."""
    policies = {
        policy.id: {key: value for key, value in policy.document.items() if key not in SERVER_OWNED}
        for policy in policy_set.policies.values()
    }
    document: dict[str, Any] = {"policies": policies, "types": policy_set.type_documents}
    if policy_set.functions:
        document["functions"] = {
            function.id: {key: value for key, value in function.document.items() if key not in FUNCTION_OWNED}
            for function in policy_set.functions.values()
        }
    return document


def fingerprint(policy_set: PolicySet) -> str:
    """Return a digest that also tells 1 from 1.0, which canonical JSON does not and conditions do."""
    return sha256(json.dumps(canonical_document(policy_set), sort_keys=True).encode()).hexdigest()


def digest(policy_set: PolicySet) -> str:
    """Return `sha256:` and the digest of the canonical JSON (RFC 8785) of a policy set."""
    return f"sha256:{sha256(rfc8785.dumps(canonical_document(policy_set))).hexdigest()}"

"""What each route needs: the one table. What is not in it is refused."""

from __future__ import annotations

from collections.abc import Mapping

from policy_engine.identity.permission import CHANGING
from policy_engine.identity.permission import Permission as P  # noqa: N817 - the table is read by columns

PUBLIC = frozenset({"index", "openapi", "health.get_health", "health.get_liveness", "health.get_readiness"})
"""Endpoints that answer everybody, whatever they show."""

PERMISSIONS: Mapping[str, P | None] = {
    "/api/v1/check": P.CHECK,
    "/api/v1/check/batch": P.CHECK,
    "/api/check_policy": P.CHECK,
    "policies.list_policies": P.READ_POLICIES,
    "policies.map_policies": P.READ_POLICIES,
    "policies.get_policy": P.READ_POLICIES,
    "policies.get_policy_short": P.READ_POLICIES,
    "policies.create_policy": P.WRITE_POLICIES,
    "policies.create_policy_short": P.WRITE_POLICIES,
    "policies.merge_policy": P.WRITE_POLICIES,
    "policies.replace_policy": P.WRITE_POLICIES,
    "policies.delete_policy": P.WRITE_POLICIES,
    "policies.delete_policy_short": P.WRITE_POLICIES,
    "policies.enable_policy": P.ACTIVATE_POLICIES,
    "policies.disable_policy": P.ACTIVATE_POLICIES,
    "policies.validate_policy": P.READ_POLICIES,
    "functions.list_functions": P.READ_POLICIES,
    "functions.get_function": P.READ_POLICIES,
    "functions.validate_function": P.READ_POLICIES,
    "functions.create_function": P.WRITE_POLICIES,
    "functions.merge_function": P.WRITE_POLICIES,
    "functions.delete_function": P.WRITE_POLICIES,
    "functions.run_function": P.WRITE_POLICIES,
    "revisions.list_history": P.READ_POLICIES,
    "revisions.list_revisions": P.READ_POLICIES,
    "revisions.get_revision": P.READ_POLICIES,
    "revisions.diff_revisions": P.READ_POLICIES,
    "revisions.roll_back": P.ACTIVATE_POLICIES,
    "bundle.get_bundle": P.READ_POLICIES,
    "freezes.list_freezes": P.READ_POLICIES,
    "freezes.set_freeze": P.FREEZE,
    "freezes.lift_freeze": P.FREEZE,
    "bundle.take_bundle": P.ACTIVATE_POLICIES,
    "decisions.list_decisions": P.READ_DECISIONS,
    "decisions.get_decision": P.READ_DECISIONS,
    "events.list_events": P.READ_EVENTS,
    "events.redirect_to_stream": P.READ_EVENTS,
    "trust.observe_round": P.REPORT_ROUNDS,
    "trust.select_clients": P.PLAN_ROUNDS,
    "trust.report_violation": P.REPORT_VIOLATIONS,
    "trust.list_trust": P.READ_CLIENTS,
    "trust.get_trust": P.READ_CLIENT,
    "trust.override_trust": P.MANAGE_TRUST,
    "trust.release_override": P.MANAGE_TRUST,
    "trust.quarantine_client": P.MANAGE_TRUST,
    "trust.release_client": P.MANAGE_TRUST,
    "trust.show_distribution": P.READ_TRUST,
    "trust.show_trends": P.READ_TRUST,
    "trust.list_sources": P.READ_TRUST,
    "trust.recalculate_trust": P.MANAGE_TRUST,
    "trust.get_recalculation": P.READ_TRUST,
    "privacy.reserve_privacy": P.SPEND_PRIVACY,
    "privacy.commit_privacy": P.SPEND_PRIVACY,
    "privacy.release_privacy": P.SPEND_PRIVACY,
    "privacy.ask_privacy": P.READ_CLIENTS,
    "privacy.list_privacy": P.READ_CLIENTS,
    "privacy.get_privacy": P.READ_CLIENT,
    "keys.list_keys": P.READ_KEYS,
    "keys.get_key": P.READ_KEYS,
    "keys.create_key": P.MANAGE_KEYS,
    "keys.change_key": P.MANAGE_KEYS,
    "keys.revoke_key": P.MANAGE_KEYS,
    "keys.whoami": None,
}
"""Endpoint -> what it needs; None where any caller will do who shows no credential or a valid one."""

SLOW = frozenset({"policies.validate_policy", "functions.validate_function"})
"""Endpoints that change nothing, and take time that others wait for."""

WRITES = frozenset(endpoint for endpoint, permission in PERMISSIONS.items() if permission in CHANGING)
"""The endpoints that change something."""

CONFIDENTIAL = frozenset(
    {
        *("ADMIN_KEY_CREATED", "KEY_CREATED", "KEY_CHANGED", "KEY_REVOKED"),
        *("LOGIN_FAILED", "CHANGE_REFUSED", "BREAK_GLASS_USED"),
    }
)
"""The types that tell of keys and of who tried what: for those who may read keys."""

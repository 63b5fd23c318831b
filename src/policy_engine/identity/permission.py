"""What somebody may do: the words in which routes say what they need."""

from __future__ import annotations

from enum import StrEnum


class Permission(StrEnum):
    """One thing that somebody may or may not do."""

    SIMULATE = "simulate"
    CHECK = "check"
    PLAN_ROUNDS = "plan_rounds"
    READ_POLICIES = "read_policies"
    READ_DECISIONS = "read_decisions"
    READ_CONTEXTS = "read_contexts"
    READ_EVENTS = "read_events"
    READ_TRUST = "read_trust"
    READ_CLIENT = "read_client"
    READ_CLIENTS = "read_clients"
    READ_KEYS = "read_keys"
    REPORT_ROUNDS = "report_rounds"
    REPORT_VIOLATIONS = "report_violations"
    SPEND_PRIVACY = "spend_privacy"
    WRITE_POLICIES = "write_policies"
    ACTIVATE_POLICIES = "activate_policies"
    MANAGE_TRUST = "manage_trust"
    FREEZE = "freeze"
    MANAGE_KEYS = "manage_keys"


MEANINGS: dict[Permission, str] = {
    Permission.SIMULATE: "ask for a check at a time of one's own, which leaves nothing behind",
    Permission.CHECK: "ask for checks",
    Permission.PLAN_ROUNDS: "ask whom to invite to a round",
    Permission.READ_POLICIES: "read policies and their history, validate some, have a check explained",
    Permission.READ_DECISIONS: "read what was decided, without what the requests said",
    Permission.READ_CONTEXTS: "read what the requests said, of whom, and from where",
    Permission.READ_EVENTS: "read and follow events",
    Permission.READ_TRUST: "read trust in figures that name no client",
    Permission.READ_CLIENT: "read the trust in one client and its privacy account",
    Permission.READ_CLIENTS: "list trust and privacy accounts of all clients, ask whether a spend would fit",
    Permission.READ_KEYS: "list keys; nobody can read the secret of one",
    Permission.REPORT_ROUNDS: "report what was observed of a round",
    Permission.REPORT_VIOLATIONS: "report that a client broke a rule",
    Permission.SPEND_PRIVACY: "reserve and spend privacy budgets",
    Permission.WRITE_POLICIES: "create, change and delete policies",
    Permission.ACTIVATE_POLICIES: "enable and disable policies, roll back to an older state, hand a signed bundle in",
    Permission.MANAGE_TRUST: "set the trust in clients, put them in quarantine, reckon trust again",
    Permission.FREEZE: "stop a federation, or everything, in an emergency, and let it go on",
    Permission.MANAGE_KEYS: "make, change and revoke keys",
}
"""What each permission lets somebody do."""

CHANGING = frozenset(
    {
        Permission.REPORT_ROUNDS,
        Permission.REPORT_VIOLATIONS,
        Permission.SPEND_PRIVACY,
        Permission.WRITE_POLICIES,
        Permission.ACTIVATE_POLICIES,
        Permission.MANAGE_TRUST,
        Permission.FREEZE,
        Permission.MANAGE_KEYS,
    }
)
"""What changes something; a permission never covers both reading and changing."""

"""What happened, for those who watch."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

SOURCE = "POLICY_ENGINE"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event, in the shape that `/events` answers.

    Attributes:
        event_id: A UUID.
        event_type: One of EVENT_TYPES.
        details: What is to be said about it.
    """

    event_id: str
    timestamp: datetime
    event_type: str
    details: dict[str, Any]
    source_component: str = SOURCE


EVENT_TYPES: dict[str, str] = {
    "ENGINE_START": "the service started",
    "POLICY_LOADED": "a policy came into force from a file",
    "POLICY_APPLIED": "a check was decided",
    "POLICY_VIOLATION": "a check was denied by a rule",
    "POLICY_CREATED": "a policy was created through the API",
    "POLICY_UPDATED": "a policy was changed through the API or in the file",
    "POLICY_DELETED": "a policy was deleted through the API or from the file",
    "POLICY_ENABLED": "a policy was enabled",
    "POLICY_DISABLED": "a policy was disabled",
    "BUNDLE_ACTIVATED": "a signed bundle was accepted, and its policies are in force",
    "BUNDLE_REFUSED": "a bundle was refused, told once as long as it is the same; what is in force stays; an alert",
    "FUNCTION_LOADED": "a policy function came into force from its directory",
    "FUNCTION_CREATED": "a policy function was created through the API",
    "FUNCTION_UPDATED": "a policy function was changed through the API or in its directory",
    "FUNCTION_DELETED": "a policy function was deleted through the API or from its directory",
    "REVISION_ROLLED_BACK": "all policies were set back to what an older revision held",
    "TRUST_ROUND_CLOSED": "a round was observed, and trust follows from it",
    "TRUST_ROUND_HELD": "so many clients are excluded or rejected that the round is not believed; an alert",
    "TRUST_VIOLATION": "an enforcement point reported that a client broke a rule that counts against it",
    "TRUST_OVERRIDDEN": "somebody set the trust in a client",
    "TRUST_RECALCULATED": "standings were reckoned again from all entries",
    "CLIENT_QUARANTINED": "a person or a policy put a client in quarantine",
    "CLIENT_RELEASED": "somebody took back what was decided about a client",
    "PRIVACY_RESERVED": "a part of clients' privacy budgets was reserved for a round",
    "PRIVACY_REFUSED": "a reservation was refused: it does not fit into the budget of a client",
    "PRIVACY_COMMITTED": "what was reserved of privacy budgets was spent",
    "PRIVACY_RELEASED": "what was reserved of privacy budgets was given back",
    "FREEZE_SET": "a federation, or everything, was stopped in an emergency; an alert",
    "FREEZE_LIFTED": "somebody ended an emergency stop",
    "FREEZE_EXPIRED": "an emergency stop ended at its time",
    "BREAK_GLASS_USED": "something was changed with the admin key of the settings, past all roles; an alert",
    "CLIENT_ERASED": "the key of a client's personal data was deleted",
    "STORE_RESTORED": "the content of the store was replaced by a backup",
    "LOG_PRUNED": "entries were removed because of their age, or because of the size of the log",
    "LOG_QUOTA_EXCEEDED": "an anonymous source asks more than is logged of it",
    "ADMIN_KEY_CREATED": "the service started for the first time and made a key for whoever runs it",
    "KEY_CREATED": "somebody made an API key",
    "KEY_CHANGED": "somebody changed the name, the roles or the end of an API key",
    "KEY_REVOKED": "somebody revoked an API key",
    "CHANGE_REFUSED": "somebody wanted to change something who may not; told as failed logins are",
    "LOGIN_FAILED": "somebody showed a credential that is not valid; when there are many, some are only counted",
    "AUDIT_KEY_ROTATED": "checkpoints are signed with another key from now on",
    "RELOAD_FAILED": "a changed policy file was refused; the last good program stays",
    "RELOAD_CONFLICT": "a changed policy file was refused, because policies were changed through the API too",
}
"""Every type of event and what it means."""

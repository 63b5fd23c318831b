"""Drafts: decisions on their way to the log, as bytes, and what of them is not to be quoted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec

from policy_engine.model.decision import Decision, ShadowOutcome, Violation
from policy_engine.model.frozen import thaw
from policy_engine.model.record import Checked
from policy_engine.store.redact import Redactor, without

_encode = msgspec.json.Encoder().encode

_EMPTY = b"{}"

_Said = TypeVar("_Said", Decision, ShadowOutcome, Violation)


Labels: TypeAlias = tuple[bool, bool, str, str | None, str | None, int]
"""Whether it was allowed, whether it is an event of a violation, its type, the policy that decided, where the request
came from, how many decisions it stands for."""


class Draft(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A decision that is to be logged, but for the context it was made in.

    What was decided and known is encoded at once: whatever becomes of the caller's objects, the log says what was
    decided upon; and bytes do not keep objects alive.

    Attributes:
        decision_id: Names it where its content must not be shown.
        decision: The decision as JSON, without explanation.
        facts: What was known, as JSON.
        labels: What it is found by, besides what the request says, and where that came from.
    """

    decision_id: str
    decision: bytes
    facts: bytes
    labels: Labels


def encode_decision(decision: Decision, encoded: bytes | None) -> bytes:
    """Return a decision as it is remembered: as JSON, without explanation.

    Args:
        decision: What was decided.
        encoded: The same as JSON, if somebody has encoded it already.
    """
    if decision.explanation is not None:
        return _encode(msgspec.structs.replace(decision, explanation=None))
    return _encode(decision) if encoded is None else encoded


def draft(decision: Decision, facts: Mapping[str, Any], encoded: bytes, source: str | None, represents: int) -> Draft:
    """Return a decision as a draft.

    Args:
        decision: What was decided.
        facts: What was known.
        encoded: The decision, as `encode_decision` returns it.
        source: Where the request came from.
        represents: How many decisions it stands for.
    """
    labels = (decision.allowed, violates(decision), decision.policy_type, decision.policy_id, source, represents)
    return Draft(decision.decision_id, encoded, encode_facts(facts) if facts else _EMPTY, labels)


def violates(decision: Decision) -> bool:
    """Whether a decision is an event of a violation."""
    return bool(decision.violations) and not decision.simulated


def encode_context(context: dict[str, Any]) -> bytes:
    """Return a context as JSON that holds all of it: halves of surrogate pairs, and numbers that JSON has not.

    Raises:
        TypeError: It holds what is not of JSON.
    """
    return json.dumps(context, default=msgspec.to_builtins).encode()


def decode_context(encoded: bytes) -> dict[str, Any]:
    """Return what `encode_context` was given."""
    context: dict[str, Any] = json.loads(encoded)
    return context


def encode_facts(facts: Mapping[str, Any]) -> bytes:
    """Return facts as JSON that every reader takes."""
    try:
        return _encode(facts)
    except UnicodeEncodeError:
        return _encode(as_text(thaw(facts)))


def as_text(value: Any) -> Any:
    """Return a JSON value without halves of surrogate pairs, which no JSON text may hold."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


# What functions say


def unquoted(checked: Checked, redactor: Redactor) -> Checked:
    """Return a check in whose decision no function quotes a secret of the request; the same one if none does."""
    decision, context, _ = checked
    if not _may_quote(decision) or redactor.redact(context) == context:
        return checked
    secrets = sorted(set(redactor.secrets(context)), key=len, reverse=True)
    return checked._replace(decision=_unquoted(decision, secrets))


def _may_quote(decision: Decision) -> bool:
    """Whether something in a decision may come from a function; all that a rule gives is its own."""
    is_named = decision.rule_index is None and decision.policy_id is not None
    return bool(is_named or decision.parameters or decision.violations or decision.shadow)


def _unquoted(decision: Decision, secrets: Sequence[str]) -> Decision:
    """Return a decision in which what functions answered quotes none of the secrets of the request."""
    return msgspec.structs.replace(
        _reasoned(decision, secrets),
        parameters=without(decision.parameters, secrets),
        violations=tuple(_reasoned(each, secrets) for each in decision.violations),
        shadow=decision.shadow and _reasoned(decision.shadow, secrets),
    )


def _reasoned(said: _Said, secrets: Sequence[str]) -> _Said:
    """Return something with a reason that a function may have given: no rule has."""
    if said.rule_index is not None:
        return said
    return msgspec.structs.replace(said, reason=without(said.reason, secrets))

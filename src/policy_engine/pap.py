"""The policy administration point: changes of policies through the API."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar

import msgspec

from policy_engine.activation import Activation, Cause, documents_of, policy_set_of
from policy_engine.functions.needed import check_present
from policy_engine.functions.runtime import check_function
from policy_engine.language.canonical import fingerprint
from policy_engine.language.document import Document, read_document, read_single
from policy_engine.language.policy import SERVER_OWNED
from policy_engine.model.errors import (
    BusyError,
    ConflictError,
    PolicyExistsError,
    PreconditionError,
    UnknownPolicyError,
)
from policy_engine.model.function import StoredFunction
from policy_engine.model.policy import Policy
from policy_engine.policy_file import PolicySource
from policy_engine.store.change import Transaction
from policy_engine.store.revisions import FUNCTION, POLICY, Documents, Part, make_parts

log = logging.getLogger(__name__)

T = TypeVar("T")

LOCAL = Cause(author="local")
_TRIES = 25


class _Wanted(NamedTuple):
    """A change of one policy, ready to be made: None for what is to be deleted."""

    policy_id: str
    policy: Policy | None
    event_type: str


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What lies between two revisions, one entry a policy, type or function."""

    kind: str
    name: str
    action: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class PolicyAdministration:
    """Creates, changes and deletes policies, one revision a change, on top of whatever other processes changed."""

    def __init__(self, activation: Activation, source: PolicySource) -> None:
        self._activation = activation
        self._source = source

    @property
    def policies(self) -> Mapping[str, Policy]:
        """All policies by id."""
        return self._activation.policy_set.policies

    def policy(self, policy_id: str) -> Policy:
        """Return one policy.

        Raises:
            UnknownPolicyError: There is none of that id.
        """
        try:
            return self.policies[policy_id]
        except KeyError:
            raise UnknownPolicyError(policy_id) from None

    def read(self, body: Mapping[str, Any]) -> Document:
        """Read a policy, as it would live among those in force, or a whole policy document; change nothing.

        Raises:
            InvalidPolicyError: With every fault and its place.
        """
        return read_document(body) if "policies" in body else self._read(body)

    def create(self, body: Mapping[str, Any], *, cause: Cause = LOCAL) -> Policy:
        """Add a policy.

        Raises:
            InvalidPolicyError: The body is not a policy.
            PolicyExistsError: Its id is taken.
            UnsignedChangeError: Policies are changed by signed bundles alone.
            BusyError: Other changes take too long.
            StateError: The change could not be made lasting; it is not in force.
        """

        def make() -> _Wanted:
            wanted = _without_server_owned(body)
            if isinstance(wanted.get("id"), str) and wanted["id"] in self.policies:
                raise PolicyExistsError(wanted["id"])
            now = time.time()
            return self._wanted(self._read(wanted), {"created_at": now, "updated_at": now}, "POLICY_CREATED")

        return self._change(make, cause)

    def replace(
        self, policy_id: str, body: Mapping[str, Any], *, expected: Iterable[str] | None = None, cause: Cause = LOCAL
    ) -> Policy:
        """Put another policy in the place of one.

        Args:
            policy_id: Which one.
            body: The new one.
            expected: Entity tags, one of which the policy must have; None for any.
            cause: Who wants it and why.

        Raises:
            PreconditionError: The policy has another entity tag.
            UnknownPolicyError, InvalidPolicyError, BusyError, StateError: As for `create`.
        """

        def make() -> _Wanted:
            current = self._expected(policy_id, expected).document
            wanted = {"id": policy_id, **_without_server_owned(body)}
            return self._wanted(self._read(wanted, policy_id), _stamps(current), "POLICY_UPDATED")

        return self._change(make, cause)

    def merge(
        self, policy_id: str, body: Mapping[str, Any], *, expected: Iterable[str] | None = None, cause: Cause = LOCAL
    ) -> Policy:
        """Change some top-level fields of a policy; a field of which the new value is null is removed.

        Raises:
            PreconditionError, UnknownPolicyError, InvalidPolicyError, BusyError, StateError: As for `replace`.
        """

        def make() -> _Wanted:
            current = self._expected(policy_id, expected).document
            merged = {**_without_server_owned(current), **_without_server_owned(body)}
            wanted = {key: value for key, value in merged.items() if value is not None}
            return self._wanted(self._read(wanted, policy_id), _stamps(current), "POLICY_UPDATED")

        return self._change(make, cause)

    def enable(
        self, policy_id: str, *, enabled: bool, expected: Iterable[str] | None = None, cause: Cause = LOCAL
    ) -> Policy:
        """Enable or disable a policy; nothing happens when it is so already.

        Raises:
            PreconditionError, UnknownPolicyError, BusyError, StateError: As for `replace`.
        """

        def make() -> _Wanted:
            policy = self._expected(policy_id, expected)
            wanted = {**_without_server_owned(policy.document), "enabled": enabled}
            event_type = "POLICY_ENABLED" if enabled else "POLICY_DISABLED"
            if policy.enabled is enabled:
                return _Wanted(policy_id, policy, event_type)
            return self._wanted(self._read(wanted, policy_id), _stamps(policy.document), event_type)

        return self._change(make, cause)

    def delete(self, policy_id: str, *, expected: Iterable[str] | None = None, cause: Cause = LOCAL) -> None:
        """Remove a policy.

        Raises:
            PreconditionError, UnknownPolicyError, BusyError, StateError: As for `replace`.
        """

        def make() -> _Wanted:
            self._expected(policy_id, expected)
            return _Wanted(policy_id, None, "POLICY_DELETED")

        self._change(make, cause)

    def replace_all(
        self,
        documents: Documents,
        *,
        cause: Cause,
        event: tuple[str, dict[str, Any]] | None = None,
        signed: Callable[[Transaction, int], None] | None = None,
        expected: Iterable[str] | None = None,
    ) -> int:
        """Put other policies, types and functions in the place of all of them; return the revision that holds them.

        Args:
            documents: As they are to be.
            cause: Who wants it and why.
            event: The type and details of one more event that tells of it.
            signed: As for `Activation.commit`; it is not called when nothing changes.
            expected: Entity tags, one of which the revision in force must have; None for any.

        Raises:
            PreconditionError: The revision in force has another entity tag.
            SupersededError: A newer bundle came first.
            InvalidPolicyError, BusyError, StateError: As for `create`.
        """

        def attempt() -> int:
            wanted = policy_set_of(documents, self._activation.policy_set.functions)
            before = self._activation.policy_set
            self._check_in_force(expected)
            number = self._activation.revision.version
            if number and fingerprint(wanted) == fingerprint(before):
                return number
            parts, _ = make_parts(documents_of(before) if number else Documents({}, {}), documents)
            events = [
                *([event] if event else []),
                *(_told(part, number + 1, cause) for part in parts if part.kind in _NAMED),
            ]
            policies = wanted.policies.values()
            self.commit(policies, documents.types, cause, events, functions=wanted.functions, signed=signed)
            return number + 1

        return self.repeat(attempt)

    def roll_back(self, number: int, *, expected: Iterable[str] | None = None, cause: Cause) -> int:
        """Make a new revision that holds what an older one held; return its number.

        Raises:
            UnknownRevisionError: There is none of that number.
            FunctionInUseError: Its policies name functions that it does not hold: they would deny.
            PreconditionError, InvalidPolicyError, BusyError, StateError: As for `replace_all`.
        """
        _, documents = self._activation.revisions.documents(number)
        check_present(policy_set_of(documents), f"revision {number}")
        details = {"rolled_back_to": number, "author": cause.author, "reason": cause.reason}
        return self.replace_all(documents, cause=cause, event=("REVISION_ROLLED_BACK", details), expected=expected)

    def difference(self, one: int, other: int) -> list[Difference]:
        """Return what has to change in one revision to get another one.

        Raises:
            UnknownRevisionError: One of them is not there.
            StoreUnavailableError: The database is away.
        """
        _, before = self._activation.revisions.documents(one)
        _, after = self._activation.revisions.documents(other)
        parts, _ = make_parts(before, after)
        return [_difference(part, before, after) for part in parts]

    # How a change is made

    def _expected(self, policy_id: str, expected: Iterable[str] | None) -> Policy:
        policy = self.policy(policy_id)
        if expected is not None and entity_tag(policy) not in set(expected):
            raise PreconditionError(f"policy `{policy_id}` has been changed: it is not the one that `If-Match` names")
        return policy

    def _check_in_force(self, expected: Iterable[str] | None) -> None:
        current = self._activation.revision
        if expected is not None and revision_tag(current.version, current.digest) not in set(expected):
            raise PreconditionError(f"revision {current.version} is in force: it is not the one that `If-Match` names")

    def _read(self, body: Mapping[str, Any], policy_id: str | None = None) -> Document:
        document = read_single(body, self._activation.policy_set.type_documents, policy_id=policy_id)
        (policy,) = document.policy_set.policies.values()
        present = self.policies.get(policy.id)
        if present is None or _calls(policy) != _calls(present):
            check_function(policy, self._activation.policy_set.functions)
        return document

    def _wanted(self, document: Document, stamps: Mapping[str, float], event_type: str) -> _Wanted:
        (accepted,) = document.policy_set.policies.values()
        present = self.policies.get(accepted.id)
        if present is not None and _same(accepted, present):
            return _Wanted(accepted.id, present, event_type)
        number = self._activation.revision.version + 1
        for warning in document.warnings:
            log.warning("policy `%s`: %s", accepted.id, warning)
        written = {**accepted.document, **stamps, "version": number}
        return _Wanted(accepted.id, msgspec.structs.replace(accepted, document=written), event_type)

    def _change(self, make: Callable[[], _Wanted], cause: Cause) -> Policy:
        def attempt() -> Policy:
            wanted = make()
            present = self.policies.get(wanted.policy_id)
            if wanted.policy is not None and wanted.policy is present:
                return present
            policies = {key: policy for key, policy in self.policies.items() if key != wanted.policy_id}
            if wanted.policy is not None:
                policies = {**self.policies, wanted.policy_id: wanted.policy}
            details = {
                "policy_id": wanted.policy_id,
                "policy_version": self._activation.revision.version + 1,
                "author": cause.author,
                "before": None if present is None else entity_tag(present),
                "after": None if wanted.policy is None else entity_tag(wanted.policy),
            }
            if cause.reason:
                details["reason"] = cause.reason
            types = self._activation.policy_set.type_documents
            self.commit(policies.values(), types, cause, [(wanted.event_type, details)])
            changed = wanted.policy or present
            if changed is None:
                raise UnknownPolicyError(wanted.policy_id)
            return changed

        return self.repeat(attempt)

    def repeat(self, attempt: Callable[[], T]) -> T:
        """Make a change on top of the newest state, again when another process was quicker.

        Raises:
            BusyError, StateError: Other changes take too long, or the change could not be made lasting.
        """
        with self._source.turn(), self._activation.turn():
            for _ in range(_TRIES):
                self._activation.catch_up()
                try:
                    return attempt()
                except ConflictError:
                    continue
        raise BusyError("other processes change policies all the time; try again")

    def commit(
        self,
        policies: Iterable[Policy],
        types: dict[str, Any],
        cause: Cause,
        events: list[tuple[str, dict[str, Any]]],
        *,
        functions: Mapping[str, StoredFunction] | None = None,
        signed: Callable[[Transaction, int], None] | None = None,
    ) -> None:
        """Make a state the next revision, and write it where it came from; to be called in `repeat`.

        Raises:
            ConflictError, BusyError, StateError: As `Activation.commit`.
        """
        self._source.check_writable()
        number = self._activation.revision.version + 1
        self._activation.commit(
            policies, types, functions=functions, cause=cause, events=events, number=number, signed=signed
        )
        self._source.write_back()


def policy_document(policy: Policy) -> dict[str, Any]:
    """Return a policy as the API shows it: as it was written, with defaults filled in."""
    defaults = {
        "id": policy.id,
        "name": policy.name,
        "type": policy.type,
        "description": policy.description,
        "priority": policy.priority,
        "enabled": policy.enabled,
    }
    return {**defaults, **policy.document}


def entity_tag(policy: Policy) -> str:
    """Return the strong entity tag of a policy, without quotes: a digest of what the API shows."""
    return sha256(msgspec.json.encode(policy_document(policy), order="sorted")).hexdigest()[:32]


def revision_tag(number: int, digest: str) -> str:
    """Return the strong entity tag of a revision, without quotes."""
    return f"{number}-{digest.removeprefix('sha256:')[:32]}"


def _difference(part: Part, before: Documents, after: Documents) -> Difference:
    return Difference(
        kind=part.kind,
        name=part.name,
        action=part.action,
        before=before.of(part.kind).get(part.name),
        after=after.of(part.kind).get(part.name),
    )


_NAMED = {POLICY: "policy_id", FUNCTION: "function_id"}


def _told(part: Part, number: int, cause: Cause) -> tuple[str, dict[str, Any]]:
    details = {_NAMED[part.kind]: part.name, "policy_version": number, "author": cause.author}
    return f"{part.kind}_{part.action}".upper(), details


def _calls(policy: Policy) -> tuple[str | None, str | None]:
    return policy.function_id, policy.function_code


def _without_server_owned(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in SERVER_OWNED}


def _stamps(current: Mapping[str, Any]) -> dict[str, float]:
    now = time.time()
    return {"created_at": current.get("created_at", now), "updated_at": now}


def _same(one: Policy, other: Policy) -> bool:
    """Whether two policies are written alike, but for what the server owns."""
    texts = [json.dumps(_without_server_owned(policy.document), sort_keys=True) for policy in (one, other)]
    return texts[0] == texts[1]

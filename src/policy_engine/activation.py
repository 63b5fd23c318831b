"""Bring a state of the policies into force: in the store first, then in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

import msgspec

from policy_engine.functions.function import read_function
from policy_engine.functions.runtime import function_of
from policy_engine.language.document import LANGUAGE_VERSION, build_policy_set, read_document
from policy_engine.model.errors import (
    BusyError,
    InvalidPolicyError,
    StateError,
    StoreUnavailableError,
    UnsignedChangeError,
)
from policy_engine.model.frozen import EMPTY
from policy_engine.model.function import StoredFunction
from policy_engine.model.policy import Policy, PolicySet
from policy_engine.pdp import PolicyEngine, Revision
from policy_engine.store.change import Transaction
from policy_engine.store.revisions import Documents, Head, RevisionStore, make_parts
from policy_engine.store.revisions import Revision as StoredRevision
from policy_engine.troubles import Troubles

MAX_WAIT_SECONDS = 0.25
"""How long a change through the API waits for another one."""


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Who changes something, and why.

    Attributes:
        source: What kind of change it is: "api", "file", "import", "bundle", "rollback" or "restore".
    """

    author: str
    reason: str = ""
    source: str = "api"


class Activation:
    """What is in force in this process, and how that changes; every change is a revision of the store."""

    def __init__(
        self, revisions: RevisionStore, engine: PolicyEngine, troubles: Troubles, *, requires_signatures: bool = False
    ) -> None:
        """Keep what is in force.

        Args:
            revisions: The store.
            engine: What decides here.
            troubles: Takes what is wrong.
            requires_signatures: Whether every change has to come from a signed bundle.
        """
        self.revisions = revisions
        self.engine = engine
        self.troubles = troubles
        self.lock = RLock()
        self._requires_signatures = requires_signatures

    @property
    def revision(self) -> Revision:
        """What is in force."""
        return self.engine.revision

    @property
    def policy_set(self) -> PolicySet:
        """All policies, types and functions in force."""
        return self.revision.program.policy_set

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn of a change, but not long: a thread that waits serves nobody.

        Raises:
            BusyError: Another change takes longer.
        """
        if not self.lock.acquire(timeout=MAX_WAIT_SECONDS):
            raise BusyError("another change is under way; try again")
        try:
            yield
        finally:
            self.lock.release()

    def catch_up(self) -> bool:
        """Bring into force what another process has changed; return whether there was anything.

        Raises:
            StateError: The store cannot be read, or what it holds cannot be used by this version.
        """
        head = self.revisions.head()
        if head is None or head.number <= self.revision.version:
            return False
        with self.lock:
            if head.number > self.revision.version:
                self.load()
        return True

    def load(self) -> None:
        """Bring the newest revision of the store into force.

        Raises:
            StateError: The store cannot be read, or what it holds cannot be used by this version.
        """
        try:
            head, policy_set = read_stored(self.revisions, self.policy_set)
            revision = self._prepare(head, policy_set)
        except StoreUnavailableError:
            raise
        except StateError as error:
            self.troubles.add("revision_refused", str(error))
            raise
        self.engine.activate(revision)
        self.troubles.clear("revision_refused")
        self.look_for_functions()

    def _prepare(self, head: Head, policy_set: PolicySet) -> Revision:
        try:
            revision = self.engine.prepare(policy_set, head.number)
        except InvalidPolicyError as error:
            raise StateError(f"revision {head.number} of the store cannot be used: {error}") from error
        check_digest(head, revision.digest)
        return revision

    def commit(
        self,
        policies: Iterable[Policy],
        types: dict[str, Any],
        *,
        functions: Mapping[str, StoredFunction] | None = None,
        cause: Cause,
        events: Sequence[tuple[str, dict[str, Any]]],
        number: int,
        imported: Iterable[tuple[str, str]] = (),
        signed: Callable[[Transaction, int], None] | None = None,
    ) -> Revision:
        """Make a state of the policies a revision and bring it into force.

        Args:
            policies: All of them.
            types: All declared types, as they were written.
            functions: All functions; None for those in force.
            cause: Who wants it and why.
            events: What tells of it.
            number: The number of the revision, above the one in force.
            imported: The path and the fingerprint of each file or directory it comes from.
            signed: Notes the signed bundle that it comes from, in the same transaction; gets the number too.

        Raises:
            UnsignedChangeError: It comes from no signed bundle, and has to.
            SupersededError: A newer bundle came first; nothing was changed.
            ConflictError: Another process changed something first; nothing was changed.
            BusyError, StateError: The store does not take it; nothing was changed.
        """
        if self._requires_signatures and signed is None:
            raise UnsignedChangeError
        before = self.revision
        kept = self.policy_set.functions if functions is None else functions
        revision = self.engine.prepare(build_policy_set(policies, types, kept), number)
        parts, documents = make_parts(
            documents_of(self.policy_set) if before.version else Documents({}, {}),
            documents_of(revision.program.policy_set),
        )
        stored = StoredRevision(
            number=number,
            parent=before.version or None,
            digest=revision.digest,
            author=cause.author,
            reason=cause.reason,
            time=round(time.time(), 3),
            source=cause.source,
            language_version=LANGUAGE_VERSION,
            parts=parts,
        )
        self.revisions.commit(stored, documents, events=events, imported=imported, beside=signed)
        self.engine.activate(revision)
        self.look_for_functions()
        return revision

    def look_for_functions(self) -> None:
        """Note which policies deny because their function is not there, or cannot be run."""
        functions = self.policy_set.functions
        waiting = [
            policy.id
            for policy in self.policy_set.policies.values()
            if policy.enabled and policy.has_function and function_of(functions, policy) is None
        ]
        if waiting:
            listed = ", ".join(f"`{policy_id}`" for policy_id in waiting)
            self.troubles.add(
                "function_unavailable", f"these policies deny, as their functions are not there or cannot run: {listed}"
            )
        else:
            self.troubles.clear("function_unavailable")


def documents_of(policy_set: PolicySet) -> Documents:
    """Return a policy set as the store keeps it."""
    policies = {policy_id: policy.document for policy_id, policy in policy_set.policies.items()}
    functions = {function_id: function.document for function_id, function in policy_set.functions.items()}
    return Documents(policies, policy_set.type_documents, functions)


def read_stored(revisions: RevisionStore, present: PolicySet | None = None) -> tuple[Head, PolicySet]:
    """Return the newest revision of the store and the policies that it holds; those of `present` are taken over.

    Whether they are what the revision's digest says has still to be found out.

    Raises:
        StateError: The store cannot be read, or what it holds cannot be used by this version.
    """
    try:
        head, documents = revisions.documents()
    except (TypeError, ValueError) as error:
        raise StateError(f"{_newest(revisions)} of the store has been altered: {error}") from error
    if head.language_version > LANGUAGE_VERSION:
        raise StateError(
            f"revision {head.number} of the store needs language version `{head.language_version}`, newer than"
            f" `{LANGUAGE_VERSION}`, the newest known here: update this process"
        )
    try:
        return head, _policy_set(documents, present)
    except InvalidPolicyError as error:
        raise StateError(f"revision {head.number} of the store cannot be used: {error}") from error


def _newest(revisions: RevisionStore) -> str:
    head = revisions.head()
    return f"revision {head.number}" if head else "a revision"


def check_digest(head: Head, found: str) -> None:
    """Refuse policies whose digest is not that of the revision they are said to be.

    Raises:
        StateError: It is not.
    """
    if found != head.digest:
        raise StateError(f"revision {head.number} of the store has been altered: it is not what its digest says")


def _policy_set(documents: Documents, present: PolicySet | None) -> PolicySet:
    """Return the policies and functions in documents; those that are as they were are taken over."""
    functions = read_stored_functions(documents, {} if present is None else present.functions)
    if present is None or documents.types != present.type_documents:
        return policy_set_of(documents, functions)
    known: Mapping[str, Policy] = present.policies
    changed = {
        policy_id: document
        for policy_id, document in documents.policies.items()
        if policy_id not in known or not _same(known[policy_id].document, document)
    }
    read = read_document({"policies": changed, "types": documents.types}).policy_set.policies
    kept = [read.get(policy_id) or known[policy_id] for policy_id in documents.policies]
    return build_policy_set(kept, documents.types, functions)


def policy_set_of(documents: Documents, present: Mapping[str, StoredFunction] = EMPTY) -> PolicySet:
    """Return what documents hold; functions of `present` that are as they were are taken over.

    Raises:
        InvalidPolicyError: They cannot be used.
    """
    read = read_document({"policies": documents.policies, "types": documents.types}).policy_set
    return msgspec.structs.replace(read, functions=read_stored_functions(documents, present))


def read_stored_functions(
    documents: Documents, present: Mapping[str, StoredFunction] = EMPTY
) -> dict[str, StoredFunction]:
    """Return the functions in documents; those that are as they were are taken over.

    Raises:
        InvalidPolicyError: One of them cannot be used.
    """
    functions: dict[str, StoredFunction] = {}
    for function_id, document in documents.functions.items():
        known = present.get(function_id)
        taken = known is not None and _same(known.document, document)
        functions[function_id] = known if known and taken else read_function(document, function_id=function_id)
    return functions


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two documents are written alike; 1 and 1.0 and true are not."""
    return one == other and repr(one) == repr(other)

"""The one object that wires everything for a running process: load, reload, check, change, record."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import Any

import msgspec

from policy_engine.config import Settings
from policy_engine.language.canonical import fingerprint
from policy_engine.language.document import Document, build_policy_set, parse_document, read_document, read_single
from policy_engine.language.policy import SERVER_OWNED
from policy_engine.model.diagnostic import Diagnostic, summarise
from policy_engine.model.errors import (
    BusyError,
    InvalidPolicyError,
    PolicyExistsError,
    StateError,
    UnknownPolicyError,
)
from policy_engine.model.policy import Policy, PolicySet
from policy_engine.pdp import PolicyEngine, Revision
from policy_engine.policy_file import PolicyFile, Watcher
from policy_engine.store.rings import EventLog
from policy_engine.store.version import VersionFile
from policy_engine.troubles import Troubles

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 0.25
"""How long a change through the API waits for another one."""

_FILE_TROUBLES = ("reload_failed", "reload_conflict")


class PolicyService:
    """A running policy engine.

    Checks go straight to `engine`. Changes take a lock, are validated and compiled whole, get a version number that
    has reached the disk, and only then come into force.
    """

    def __init__(self, settings: Settings) -> None:
        """Load the policy file.

        Raises:
            InvalidPolicyError: The policy file cannot be accepted.
            OSError: It cannot be read.
            StateError: The data directory cannot be used.
        """
        self.settings = settings
        self.events = EventLog()
        self._lock = RLock()
        self.troubles = Troubles()
        self._file = PolicyFile(settings.policy_path)
        self._watcher = Watcher(self._file, self.reload, settings.watch_interval_seconds)
        self._versions = VersionFile(settings.data_path)
        document = parse_document(self._file.read())
        self.engine = PolicyEngine(
            document.policy_set,
            components=settings.components,
            zone=settings.zone,
            version=0,
            reuse_seconds=settings.decision_ttl_seconds,
            listener=self.events.record_decisions,
        )
        self._source = document.source
        self._imported = fingerprint(document.policy_set)
        version = self._versions.number_for(self.revision.digest, _file_version(document))
        self._versions.save(version, self.revision.digest)
        self.engine.activate(self.engine.revision._replace(version=version))
        self._announce_start(document)

    def _announce_start(self, document: Document) -> None:
        self.events.record("ENGINE_START", {"policy_version": self.revision.version})
        _warn(document)
        for policy_id in document.policy_set.policies:
            self._record("POLICY_LOADED", policy_id)
        for component_types in self.engine.inventory.ambiguous:
            log.warning(
                "one address belongs to components of several types (%s): its type stays unknown", component_types
            )
        self._look_for_functions()

    def start(self) -> None:
        """Begin to watch the policy file."""
        self._watcher.start()

    def stop(self) -> None:
        """End watching."""
        self._watcher.stop()

    @property
    def revision(self) -> Revision:
        """What is in force."""
        return self.engine.revision

    @property
    def policies(self) -> Mapping[str, Policy]:
        """All policies by id."""
        return self.revision.program.policy_set.policies

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

    # Changes through the API

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the turn of a change, but not long: a thread that waits serves nobody.

        Raises:
            BusyError: Another change takes longer.
        """
        if not self._lock.acquire(timeout=MAX_WAIT_SECONDS):
            raise BusyError("another change is under way; try again")
        try:
            yield
        finally:
            self._lock.release()

    def create(self, body: Mapping[str, Any]) -> Policy:
        """Add a policy.

        Raises:
            InvalidPolicyError: The body is not a policy.
            PolicyExistsError: Its id is taken.
            StateError: The change could not be made lasting; it is not in force.
        """
        with self._turn():
            wanted = _without_server_owned(body)
            if isinstance(wanted.get("id"), str) and wanted["id"] in self.policies:
                raise PolicyExistsError(wanted["id"])
            now = time.time()
            return self._put(self._read(wanted), {"created_at": now, "updated_at": now}, "POLICY_CREATED")

    def replace(self, policy_id: str, body: Mapping[str, Any]) -> Policy:
        """Put another policy in the place of one.

        Raises:
            UnknownPolicyError, InvalidPolicyError, StateError: As for `create`.
        """
        with self._turn():
            current = self.policy(policy_id).document
            wanted = {"id": policy_id, **_without_server_owned(body)}
            return self._put(self._read(wanted, policy_id), _stamps(current), "POLICY_UPDATED")

    def merge(self, policy_id: str, body: Mapping[str, Any]) -> Policy:
        """Change some top-level fields of a policy; a field of which the new value is null is removed.

        Raises:
            UnknownPolicyError, InvalidPolicyError, StateError: As for `create`.
        """
        with self._turn():
            current = self.policy(policy_id).document
            changes = _without_server_owned(body)
            merged = {**_without_server_owned(current), **changes}
            wanted = {key: value for key, value in merged.items() if value is not None}
            return self._put(self._read(wanted, policy_id), _stamps(current), "POLICY_UPDATED")

    def enable(self, policy_id: str, *, enabled: bool) -> Policy:
        """Enable or disable a policy; nothing happens when it is so already.

        Raises:
            UnknownPolicyError, StateError: As for `create`.
        """
        with self._turn():
            policy = self.policy(policy_id)
            if policy.enabled is enabled:
                return policy
            wanted = {**_without_server_owned(policy.document), "enabled": enabled}
            event_type = "POLICY_ENABLED" if enabled else "POLICY_DISABLED"
            return self._put(self._read(wanted, policy_id), _stamps(policy.document), event_type)

    def delete(self, policy_id: str) -> None:
        """Remove a policy.

        Raises:
            UnknownPolicyError, StateError: As for `create`.
        """
        with self._turn():
            self.policy(policy_id)
            kept = {key: policy for key, policy in self.policies.items() if key != policy_id}
            self._change(kept)
            self._record("POLICY_DELETED", policy_id)

    def _read(self, body: Mapping[str, Any], policy_id: str | None = None) -> Document:
        return read_single(body, self.revision.program.policy_set.type_documents, policy_id=policy_id)

    def _put(self, document: Document, stamps: Mapping[str, float], event_type: str) -> Policy:
        (accepted,) = document.policy_set.policies.values()
        present = self.policies.get(accepted.id)
        if present is not None and _same(accepted, present):
            return present
        number = max(self._versions.last.version, self.revision.version) + 1
        policy = msgspec.structs.replace(accepted, document={**accepted.document, **stamps, "version": number})
        self._change({**self.policies, policy.id: policy})
        self._record(event_type, policy.id)
        for warning in document.warnings:
            log.warning("policy `%s`: %s", policy.id, warning)
        return policy

    def _change(self, policies: Mapping[str, Policy]) -> None:
        """Bring a changed set of policies into force: its number first, then the file, then the program."""
        types = self.revision.program.policy_set.type_documents
        policy_set = build_policy_set(policies.values(), types)
        revision = self.engine.prepare(policy_set, max(self._versions.last.version, self.revision.version) + 1)
        before = self._versions.last
        self._versions.save(revision.version, revision.digest)
        if self.settings.file_write_back:
            try:
                self._write_back(policy_set)
            except StateError:
                self._versions.save(before.version, before.digest)
                raise
            self._imported = fingerprint(policy_set)
        self.engine.activate(revision)
        self._look_for_functions()
        if any(code in self.troubles for code in _FILE_TROUBLES):
            self.reload()  # the change may have ended what was wrong with the file

    def _write_back(self, policy_set: PolicySet) -> None:
        refused = any(code in self.troubles for code in _FILE_TROUBLES)
        if self._file.path.exists() and (refused or self._file.changed()):
            what = "was refused and has to be mended first" if refused else "changed and is about to be read; try again"
            raise StateError(f"the policy file `{self._file.path}` {what}: writing it would lose what is in it")
        try:
            self._file.write(self._source, policy_set)
        except OSError as error:
            raise StateError(f"cannot write the policy file `{self._file.path}`: {error.strerror}") from error

    # Changes of the file

    def reload(self) -> None:
        """Take over the policy file as it is now, whole or not at all."""
        with self._lock:
            try:
                document = parse_document(self._file.read())
                self._import(document)
            except InvalidPolicyError as error:
                self._refuse_file(f"is refused: {summarise(error.errors)}", error.errors)
            except StateError as error:
                self._file.forget()  # it is not the file's fault: try again
                self._refuse_file(f"cannot be taken over: {error}", ())
            except OSError as error:
                self._refuse_file(f"cannot be read: {error.strerror}", ())

    def _import(self, document: Document) -> None:
        found = fingerprint(document.policy_set)
        before = self.revision
        running = fingerprint(before.program.policy_set)
        if found in (running, self._imported):  # nothing new, or the file is again as it was when it was read
            self._accept_file(document, found)
        elif running != self._imported and not self.settings.file_wins:
            self._refuse_conflict()
        else:
            floor = max(before.version, self._versions.last.version, _file_version(document))
            revision = self.engine.prepare(document.policy_set, floor + 1)
            self._versions.save(revision.version, revision.digest)
            self.engine.activate(revision)
            self._accept_file(document, found)
            self._announce_changes(before.program.policy_set, document)

    def _accept_file(self, document: Document, found: str) -> None:
        self._source = document.source
        self._imported = found
        self.troubles.clear(*_FILE_TROUBLES)
        self._look_for_functions()

    def _announce_changes(self, before: PolicySet, document: Document) -> None:
        after = document.policy_set.policies
        _warn(document)
        for policy_id in before.policies:
            if policy_id not in after:
                self._record("POLICY_DELETED", policy_id)
        for policy_id, policy in after.items():
            if policy_id not in before.policies:
                self._record("POLICY_LOADED", policy_id)
            elif policy.document != before.policies[policy_id].document:
                self._record("POLICY_UPDATED", policy_id)
        log.info("policy file `%s` is in force as version %d", self._file.path, self.revision.version)

    def _refuse_file(self, why: str, errors: tuple[Diagnostic, ...]) -> None:
        detail = f"policy file `{self._file.path}` {why}"
        self.troubles.clear("reload_conflict")
        if self.troubles.add("reload_failed", detail, errors):
            log.error("%s; version %d stays in force", detail, self.revision.version)
            told = {"source": str(self._file.path), "reason": detail, "errors": msgspec.to_builtins(errors)}
            self.events.record("RELOAD_FAILED", told)

    def _refuse_conflict(self) -> None:
        detail = (
            f"policy file `{self._file.path}` changed, and so did policies through the API since it was read;"
            " `file_wins` would let the file win"
        )
        self.troubles.clear("reload_failed")
        if self.troubles.add("reload_conflict", detail):
            log.error("%s; version %d stays in force", detail, self.revision.version)
            self.events.record("RELOAD_CONFLICT", {"source": str(self._file.path), "reason": detail})

    def _look_for_functions(self) -> None:
        waiting = [
            policy.id
            for policy in self.policies.values()
            if policy.enabled and (policy.function_id is not None or policy.function_code is not None)
        ]
        if waiting:
            listed = ", ".join(f"`{policy_id}`" for policy_id in waiting)
            self.troubles.add(
                "function_unavailable", f"no function runtime is installed, so these policies deny: {listed}"
            )
        else:
            self.troubles.clear("function_unavailable")

    def _record(self, event_type: str, policy_id: str) -> None:
        details: dict[str, Any] = {"policy_id": policy_id, "policy_version": self.revision.version}
        if event_type == "POLICY_LOADED":
            details["source"] = str(self._file.path)
        self.events.record(event_type, details)


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


def _without_server_owned(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in SERVER_OWNED}


def _stamps(current: Mapping[str, Any]) -> dict[str, float]:
    now = time.time()
    return {"created_at": current.get("created_at", now), "updated_at": now}


def _file_version(document: Document) -> int:
    version: int = document.source.get("version", 0)
    return version


def _warn(document: Document) -> None:
    for warning in document.warnings:
        log.warning("%s", warning)


def _same(one: Policy, other: Policy) -> bool:
    """Whether two policies are written alike, but for what the server owns."""
    texts = [json.dumps(_without_server_owned(policy.document), sort_keys=True) for policy in (one, other)]
    return texts[0] == texts[1]

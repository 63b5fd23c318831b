"""The policy file as a source of revisions: imported when it changed, written when the API changed policies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import msgspec

from policy_engine.activation import MAX_WAIT_SECONDS, Activation, Cause
from policy_engine.function_files import FirstFunctions
from policy_engine.language.canonical import fingerprint as fingerprint_of_all
from policy_engine.language.document import Document, parse_document
from policy_engine.model.diagnostic import Diagnostic, summarise
from policy_engine.model.errors import BusyError, ConflictError, InvalidPolicyError, PolicyEngineError, StateError
from policy_engine.model.frozen import EMPTY
from policy_engine.model.policy import PolicySet
from policy_engine.policy_file import ImportLock, PolicyFile
from policy_engine.troubles import Troubles

log = logging.getLogger(__name__)

TROUBLES = ("reload_failed", "reload_conflict")
WRITE_BACK_FAILED = "write_back_failed"
_TRIES = 25
_PATIENCE_SECONDS = 10.0
"""How long the import of one process waits for that of another."""


class FileImport:
    """Keeps a policy file and the store together.

    The store remembers what was imported last from each path. A file is imported when it differs from that and from
    what is in force; when the API changed policies since, that is a conflict, unless the file is to win.
    """

    def __init__(
        self,
        path: Path,
        activation: Activation,
        record: Callable[[str, dict[str, Any]], object],
        *,
        wins: bool,
        writes_back: bool,
        lock: Path | None = None,
    ) -> None:
        """Look at a file.

        Args:
            path: Where it is.
            activation: What is in force.
            record: Takes the type and the details of an event.
            wins: Whether a changed file replaces what the API changed.
            writes_back: Whether what the API changes is written to the file.
            lock: The file by which the processes that watch a file take turns.
        """
        self.file = PolicyFile(path)
        self._path = str(path.absolute())
        self._activation = activation
        self._record = record
        self._wins = wins
        self._writes_back = writes_back
        self._source: Mapping[str, Any] = {}
        self._refused_at = 0
        self._lock = ImportLock(lock)

    @property
    def _troubles(self) -> Troubles:
        return self._activation.troubles

    def first_import(self, beside: Callable[[], FirstFunctions | None] | None = None) -> bool:
        """Take over the file into an empty store; return whether the store was still empty.

        Args:
            beside: Reads the functions of their directory, which the first revision holds too; None for none.

        Raises:
            InvalidPolicyError, OSError: The file cannot be used.
            StateError: The store does not take it.
        """
        document = parse_document(self.file.read())
        number = _file_version(document) + 1
        first = [("ENGINE_START", {"policy_version": number})]
        try:
            self._take_over(document, fingerprint(document.policy_set), first, beside() if beside else None)
        except ConflictError:  # another process was quicker
            return False
        return True

    def resume(self) -> None:
        """Bring into force what the store holds.

        Raises:
            StateError: The store cannot be read, or what it holds cannot be used.
        """
        self._activation.load()
        self._record("ENGINE_START", {"policy_version": self._activation.revision.version})

    def look(self) -> None:
        """Take over the file if it changed, or say why not; then write what the file lacks, if it is to be written."""
        conflict = "reload_conflict" in self._troubles and self._activation.revision.version != self._refused_at
        if self.file.changed() or conflict:
            self.reload()  # what another process changed may have ended a conflict
        elif WRITE_BACK_FAILED in self._troubles:
            self.write_back()

    def reload(self) -> None:
        """Take over the policy file as it is now, whole or not at all."""
        try:
            with self._lock.held(_PATIENCE_SECONDS), self._activation.lock:
                self._import()
        except InvalidPolicyError as error:
            self._refuse(f"is refused: {summarise(error.errors)}", error.errors)
        except (StateError, BusyError, ConflictError) as error:
            self.file.forget()  # it is not the file's fault: try again
            self._refuse(f"cannot be taken over: {error}", ())
        except OSError as error:
            self._refuse(f"cannot be read: {error.strerror}", ())

    def _import(self) -> None:
        for _ in range(_TRIES):
            # First the store, then the file: what is read is then no older than what is known of it.
            self._activation.catch_up()
            document = parse_document(self.file.read())
            found = fingerprint(document.policy_set)
            revisions = self._activation.revisions
            known, newest = revisions.imported(self._path), revisions.newest_import()
            running = fingerprint(self._activation.policy_set)
            if found == running:
                if known is None or known.fingerprint != found:
                    revisions.remember_import(self._path, found, self._activation.revision.version)
                self._agree(document)
            elif known is not None and found == known.fingerprint:
                self._accept(document)  # the file is as it was imported; what the API made of it since stays
                self._complete_write_back()
            elif (newest is None or running != newest.fingerprint) and not self._wins:
                self._conflict()
            else:
                try:
                    self._take_over(document, found)
                except ConflictError:
                    continue
            return
        raise BusyError("other processes change policies all the time")

    def _take_over(
        self,
        document: Document,
        found: str,
        first: Sequence[tuple[str, dict[str, Any]]] = (),
        beside: FirstFunctions | None = None,
    ) -> None:
        before = self._activation.policy_set if self._activation.revision.version else None
        number = max(self._activation.revision.version, _file_version(document)) + 1
        events = [
            (event_type, {"policy_id": policy_id, "policy_version": number, "source": str(self.file.path)})
            for event_type, policy_id in _changes(before, document.policy_set)
        ]
        self._activation.commit(
            document.policy_set.policies.values(),
            document.policy_set.type_documents,
            functions=None if beside is None else beside.functions,
            cause=Cause(author="policy file", reason=str(self.file.path), source="file"),
            events=[*first, *events, *([] if beside is None else beside.events(number))],
            number=number,
            imported=[(self._path, found), *([] if beside is None else [beside.imported])],
        )
        self._agree(document)
        for warning in document.warnings:
            log.warning("%s", warning)
        log.info("policy file `%s` is in force as version %d", self.file.path, number)

    def _accept(self, document: Document) -> None:
        self._source = document.source
        self._troubles.clear(*TROUBLES)

    def _agree(self, document: Document) -> None:
        """Note that the file holds what is in force, so that nothing is left to be written to it."""
        self._accept(document)
        self._troubles.clear(WRITE_BACK_FAILED)

    def _refuse(self, why: str, errors: tuple[Diagnostic, ...]) -> None:
        detail = f"policy file `{self.file.path}` {why}"
        self._troubles.clear("reload_conflict")
        if self._troubles.add("reload_failed", detail, errors):
            log.error("%s; version %d stays in force", detail, self._activation.revision.version)
            told = {"source": str(self.file.path), "reason": detail, "errors": msgspec.to_builtins(errors)}
            self._record("RELOAD_FAILED", told)

    def _conflict(self) -> None:
        detail = (
            f"policy file `{self.file.path}` changed, and so did policies through the API since it was read;"
            " `file_wins` would let the file win"
        )
        self._refused_at = self._activation.revision.version
        self._troubles.clear("reload_failed")
        if self._troubles.add("reload_conflict", detail):
            log.error("%s; version %d stays in force", detail, self._activation.revision.version)
            self._record("RELOAD_CONFLICT", {"source": str(self.file.path), "reason": detail})

    # Writing back

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the turn of a change, but not long; where changes are written back, only one process makes any.

        Raises:
            BusyError, StateError: It did not come.
        """
        return self._lock.held(MAX_WAIT_SECONDS) if self._writes_back else nullcontext()

    def check_writable(self) -> None:
        """Refuse a change through the API that would overwrite what is in the file.

        Raises:
            StateError: The file changed, or was refused.
        """
        if not self._writes_back or not self.file.path.exists():
            return
        refused = self._is_refused()
        if refused or self.file.changed():
            what = "was refused and has to be mended first" if refused else "changed and is about to be read; try again"
            raise StateError(f"the policy file `{self.file.path}` {what}: writing it would lose what is in it")

    def write_back(self) -> None:
        """Write what is in force to the file, if that is wanted; what fails is tried again."""
        if not self._writes_back:
            return
        try:
            with self._lock.held(MAX_WAIT_SECONDS), self._activation.lock:
                self._write()
        except (OSError, PolicyEngineError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._troubles.add(WRITE_BACK_FAILED, f"cannot write the policy file `{self.file.path}`: {reason}")

    def _write(self) -> None:
        if self._is_refused():
            self.reload()  # the change may have ended what was wrong with the file
        if self._is_refused() and self.file.path.exists():
            return
        present = self._activation.revision
        self.file.write(self._source, self._activation.policy_set)
        self._activation.revisions.remember_import(self._path, fingerprint(present.program.policy_set), present.version)
        self._troubles.clear(*TROUBLES, WRITE_BACK_FAILED)

    def _is_refused(self) -> bool:
        return any(code in self._troubles for code in TROUBLES)

    def _complete_write_back(self) -> None:
        """Write what a process that ended meanwhile did not come to write."""
        if self._writes_back:
            self.write_back()


def fingerprint(policy_set: PolicySet) -> str:
    """Return the fingerprint of what a policy file can hold: functions have files of their own."""
    return fingerprint_of_all(msgspec.structs.replace(policy_set, functions=EMPTY))


def _changes(before: PolicySet | None, after: PolicySet) -> list[tuple[str, str]]:
    """Return what an import does: types of events and ids of policies."""
    old = before.policies if before is not None else {}
    gone = [("POLICY_DELETED", policy_id) for policy_id in old if policy_id not in after.policies]
    changed = [
        ("POLICY_UPDATED" if policy_id in old else "POLICY_LOADED", policy_id)
        for policy_id, policy in after.policies.items()
        if policy_id not in old or policy.document != old[policy_id].document
    ]
    return gone + changed


def _file_version(document: Document) -> int:
    version: int = document.source.get("version", 0)
    return version

"""The directory of functions and the store, kept together as a policy file is."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from policy_engine.activation import Activation, Cause
from policy_engine.functions.files import is_function_file, read_functions
from policy_engine.functions.needed import check_unused
from policy_engine.model.diagnostic import Diagnostic, summarise
from policy_engine.model.errors import (
    BusyError,
    ConflictError,
    FunctionInUseError,
    InvalidPolicyError,
    StateError,
)
from policy_engine.model.function import FUNCTION_OWNED, StoredFunction
from policy_engine.store.revisions import FUNCTIONS_PATH

log = logging.getLogger(__name__)

TROUBLES = ("functions_refused", "functions_conflict")
MAX_FILES = 1000
MAX_FILE_BYTES = 256 * 1024
_TRIES = 25


class FirstFunctions(NamedTuple):
    """What a directory adds to the first revision of a store.

    Attributes:
        functions: Those in it, by id.
        imported: The path and the fingerprint by which the store remembers that they were taken over.
        source: The directory.
    """

    functions: Mapping[str, StoredFunction]
    imported: tuple[str, str]
    source: str

    def events(self, number: int) -> list[tuple[str, dict[str, Any]]]:
        """Return what tells of them, as part of a revision."""
        return _events({}, self.functions, number, self.source)


class FunctionFiles:
    """Takes over a directory of functions when it changed, all of it or nothing.

    The store remembers what was imported last. When the API changed functions since, a changed directory is a conflict,
    unless files are to win. A directory without a function that policies name is refused.
    """

    def __init__(
        self, path: Path, activation: Activation, record: Callable[[str, dict[str, Any]], object], *, wins: bool
    ) -> None:
        """Look at a directory; `record` takes the type and the details of an event."""
        self._path = path
        self._key = f"{FUNCTIONS_PATH}{path.absolute()}"
        self._activation = activation
        self._record = record
        self._wins = wins
        self._seen: object = None
        self._refused_at = -1

    def first(self) -> FirstFunctions | None:
        """Return what the directory adds to the first revision; None when it is refused, of which `reload` tells."""
        try:
            functions = read_functions(self._read())
        except (InvalidPolicyError, OSError):
            return None
        return FirstFunctions(functions, (self._key, fingerprint(functions)), str(self._path))

    def look(self) -> None:
        """Take over the directory if it changed, or say why not."""
        seen = self._look()
        again = any(code in self._activation.troubles for code in TROUBLES)
        if seen != self._seen or (again and self._activation.revision.version != self._refused_at):
            self.reload()

    def reload(self) -> None:
        """Take over the functions as they are now, all or none."""
        self._seen = self._look()
        try:
            with self._activation.lock:
                self._import(read_functions(self._read()))
        except (InvalidPolicyError, FunctionInUseError) as error:
            self._refuse("functions_refused", f"is refused: {summarise(error.errors)}", error.errors)
        except ConflictError as error:
            self._refuse("functions_conflict", str(error), ())
        except (StateError, BusyError) as error:
            self._seen = None  # it is not the directory's fault: try again
            self._refuse("functions_refused", f"cannot be taken over: {error}", ())
        except OSError as error:
            self._refuse("functions_refused", f"cannot be read: {error.strerror}", ())

    def _import(self, functions: dict[str, StoredFunction]) -> None:
        for _ in range(_TRIES):
            self._activation.catch_up()
            present = self._activation.policy_set.functions
            found, running = fingerprint(functions), fingerprint(present)
            known = self._activation.revisions.imported(self._key)
            if found == running:
                if known is None or known.fingerprint != found:
                    version = self._activation.revision.version
                    self._activation.revisions.remember_import(self._key, found, version)
            elif known is None or found != known.fingerprint:
                is_touched = bool(present) if known is None else running != known.fingerprint
                if is_touched and not self._wins:
                    raise ConflictError(
                        "changed, and so did functions through the API since it was read; `file_wins` would let it win"
                    )
                try:
                    self._take_over(functions, found)
                except ConflictError:  # another process was quicker
                    continue
            self._activation.troubles.clear(*TROUBLES)
            return
        raise BusyError("other processes change policies all the time")

    def _take_over(self, functions: dict[str, StoredFunction], found: str) -> None:
        policy_set = self._activation.policy_set
        check_unused(policy_set, sorted(policy_set.functions.keys() - functions.keys()))
        number = self._activation.revision.version + 1
        self._activation.commit(
            policy_set.policies.values(),
            policy_set.type_documents,
            functions=functions,
            cause=Cause(author="functions directory", reason=str(self._path), source="file"),
            events=_events(policy_set.functions, functions, number, str(self._path)),
            number=number,
            imported=[(self._key, found)],
        )
        log.info("functions directory `%s` is in force as version %d", self._path, number)

    def _refuse(self, code: str, why: str, errors: tuple[Diagnostic, ...]) -> None:
        self._refused_at = self._activation.revision.version
        detail = f"functions directory `{self._path}` {why}"
        self._activation.troubles.clear(*(other for other in TROUBLES if other != code))
        if self._activation.troubles.add(code, detail, errors):
            log.error("%s; version %d stays in force", detail, self._refused_at)
            told = {"source": str(self._path), "reason": detail, "errors": msgspec.to_builtins(errors)}
            self._record("RELOAD_CONFLICT" if code == "functions_conflict" else "RELOAD_FAILED", told)

    # The directory itself

    def _files(self) -> list[Path]:
        return sorted(path for path in self._path.iterdir() if is_function_file(path.name))

    def _look(self) -> object:
        """Return what tells whether the directory is another than before; an error is something to see, too."""
        try:
            stats = [(path.name, path.stat()) for path in self._files()]
        except OSError as error:
            return error.errno
        return [(name, stat.st_ino, stat.st_size, stat.st_ctime_ns, stat.st_mtime_ns) for name, stat in stats]

    def _read(self) -> dict[str, bytes]:
        """Return the content of the files of functions.

        Raises:
            InvalidPolicyError: They are too many, or one of them is too large or no regular file.
            OSError: One of them cannot be read.
        """
        files = self._files()
        if len(files) > MAX_FILES:
            raise InvalidPolicyError([Diagnostic(pointer="", detail=f"more than {MAX_FILES} files")])
        for path in files:
            if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
                detail = f"not a regular file of at most {MAX_FILE_BYTES} bytes"
                raise InvalidPolicyError([Diagnostic(pointer=f"/{path.name}", detail=detail)])
        return {path.name: path.read_bytes() for path in files}


def fingerprint(functions: Mapping[str, StoredFunction]) -> str:
    """Return a digest of some functions, without the fields that have no meaning."""
    documents = {key: _meaning(function) for key, function in functions.items()}
    return sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()


def _meaning(function: StoredFunction) -> dict[str, Any]:
    return {key: value for key, value in function.document.items() if key not in FUNCTION_OWNED}


def _events(
    before: Mapping[str, StoredFunction], after: Mapping[str, StoredFunction], number: int, source: str
) -> list[tuple[str, dict[str, Any]]]:
    told = {"policy_version": number, "source": source}
    return [(event_type, {"function_id": name, **told}) for event_type, name in _changes(before, after)]


def _changes(before: Mapping[str, StoredFunction], after: Mapping[str, StoredFunction]) -> list[tuple[str, str]]:
    """Return what an import does: types of events and ids of functions."""
    gone = [("FUNCTION_DELETED", name) for name in before if name not in after]
    changed = [
        ("FUNCTION_UPDATED" if name in before else "FUNCTION_LOADED", name)
        for name, function in after.items()
        if name not in before or _meaning(function) != _meaning(before[name])
    ]
    return gone + changed

"""Changes of policy functions through the API, each a revision as those of policies are."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from policy_engine.activation import Activation, Cause
from policy_engine.functions.function import function_document, read_function
from policy_engine.functions.needed import check_unused
from policy_engine.model.errors import (
    FunctionExistsError,
    PreconditionError,
    UnknownFunctionError,
)
from policy_engine.model.function import FUNCTION_OWNED, StoredFunction
from policy_engine.pap import LOCAL, PolicyAdministration


class _Wanted(NamedTuple):
    """A change of one function, ready to be made: None for what is to be deleted."""

    function_id: str
    function: StoredFunction | None
    event_type: str


class FunctionAdministration:
    """Creates, changes and deletes functions on top of whatever other processes changed."""

    def __init__(self, activation: Activation, changes: PolicyAdministration) -> None:
        """Change functions by the same turns as policies are changed by."""
        self._activation = activation
        self._changes = changes

    @property
    def functions(self) -> Mapping[str, StoredFunction]:
        """All functions by id."""
        return self._activation.policy_set.functions

    def function(self, function_id: str) -> StoredFunction:
        """Return one function.

        Raises:
            UnknownFunctionError: There is none of that id.
        """
        try:
            return self.functions[function_id]
        except KeyError:
            raise UnknownFunctionError(function_id) from None

    def create(self, body: Mapping[str, Any], *, cause: Cause = LOCAL) -> StoredFunction:
        """Add a function; where the body has no id, its name is the id, with `_` for spaces.

        Raises:
            InvalidPolicyError: The body is not a function.
            FunctionExistsError: Its id is taken.
            BusyError, StateError: As `PolicyAdministration.create`.
        """

        def make() -> _Wanted:
            function = read_function(_named(_own(body)))
            if function.id in self.functions:
                raise FunctionExistsError(function.id)
            now = time.time()
            return self._wanted(function, {"created_at": now, "updated_at": now}, "FUNCTION_CREATED")

        return self._change(make, cause)

    def merge(
        self, function_id: str, body: Mapping[str, Any], *, expected: Iterable[str] | None = None, cause: Cause = LOCAL
    ) -> StoredFunction:
        """Change some top-level fields of a function; a field of which the new value is null is removed.

        Raises:
            PreconditionError: The function has another entity tag.
            UnknownFunctionError: There is none of that id.
            InvalidPolicyError, BusyError, StateError: As `create`.
        """

        def make() -> _Wanted:
            current = self._expected(function_id, expected)
            merged = {**_own(current.document), **_own(body)}
            given = {key: value for key, value in merged.items() if value is not None}
            function = read_function(given, function_id=function_id)
            if _text(function) == _text(current):
                return _Wanted(function_id, current, "FUNCTION_UPDATED")
            now = time.time()
            stamps = {"created_at": current.document.get("created_at", now), "updated_at": now}
            return self._wanted(function, stamps, "FUNCTION_UPDATED")

        return self._change(make, cause)

    def delete(self, function_id: str, *, expected: Iterable[str] | None = None, cause: Cause = LOCAL) -> None:
        """Remove a function.

        Raises:
            FunctionInUseError: Policies name it.
            PreconditionError, UnknownFunctionError, BusyError, StateError: As `merge`.
        """

        def make() -> _Wanted:
            self._expected(function_id, expected)
            check_unused(self._activation.policy_set, [function_id])
            return _Wanted(function_id, None, "FUNCTION_DELETED")

        self._change(make, cause)

    def _expected(self, function_id: str, expected: Iterable[str] | None) -> StoredFunction:
        function = self.function(function_id)
        if expected is not None and entity_tag(function) not in set(expected):
            raise PreconditionError(
                f"function `{function_id}` has been changed: it is not the one that `If-Match` names"
            )
        return function

    def _wanted(self, function: StoredFunction, stamps: Mapping[str, float], event_type: str) -> _Wanted:
        document = {**function.document, **stamps, "version": self._activation.revision.version + 1}
        return _Wanted(function.id, msgspec.structs.replace(function, document=document), event_type)

    def _change(self, make: Callable[[], _Wanted], cause: Cause) -> StoredFunction:
        def attempt() -> StoredFunction:
            wanted = make()
            present = self.functions.get(wanted.function_id)
            if wanted.function is not None and wanted.function is present:
                return present
            functions = {key: item for key, item in self.functions.items() if key != wanted.function_id}
            if wanted.function is not None:
                functions[wanted.function_id] = wanted.function
            number = self._activation.revision.version + 1
            details = {"function_id": wanted.function_id, "policy_version": number, "author": cause.author}
            if cause.reason:
                details["reason"] = cause.reason
            policy_set = self._activation.policy_set
            self._changes.commit(
                policy_set.policies.values(),
                policy_set.type_documents,
                cause,
                [(wanted.event_type, details)],
                functions=functions,
            )
            changed = wanted.function or present
            if changed is None:
                raise UnknownFunctionError(wanted.function_id)
            return changed

        return self._changes.repeat(attempt)


def entity_tag(function: StoredFunction) -> str:
    """Return the strong entity tag of a function, without quotes: a digest of what the API shows."""
    return sha256(msgspec.json.encode(function_document(function), order="sorted")).hexdigest()[:32]


def _own(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in FUNCTION_OWNED}


def _named(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with an id: older callers send a name alone."""
    if "id" in body or "function_id" in body or not isinstance(body.get("name"), str):
        return body
    return {"function_id": "_".join(body["name"].split()), **body}


def _text(function: StoredFunction) -> str:
    return json.dumps(_own(function.document), sort_keys=True)

"""The document of one custom policy function: read whole or refused whole."""

from __future__ import annotations

from typing import Any

from policy_engine.functions.check import check_code, is_entry
from policy_engine.language import json_text
from policy_engine.language.faults import Faults, Place, Reader, anything, fields, json_object, show, string
from policy_engine.language.policy import read_id
from policy_engine.model.alias import ALIASES
from policy_engine.model.errors import InvalidPolicyError
from policy_engine.model.function import FUNCTION_OWNED, StoredFunction

MAX_INPUTS = 64


def _read_code(value: Any, place: Place, faults: Faults) -> str:
    code = string(value, place, faults)
    if isinstance(value, str) and not code.strip():
        faults.error(place, "the source is empty")
    return code


_FUNCTION: dict[str, Reader] = {
    "function_id": read_id,
    "id": read_id,
    "name": string,
    "description": string,
    "code": _read_code,
    "metadata": json_object,
    **dict.fromkeys(FUNCTION_OWNED, anything),
}


def read_function(value: Any, *, function_id: str | None = None) -> StoredFunction:
    """Read one function that is parsed already; pointers start at the function itself.

    Args:
        value: The function: `function_id` (or `id`), `name`, `description`, `metadata` and `code`.
        function_id: The id it has to have, where that is known.

    Raises:
        InvalidPolicyError: With every fault and its place.
    """
    faults = Faults()
    plain = json_text.check(value, faults)
    faults.raise_if_any()
    function = read_into(plain, (), faults, default_id=function_id)
    faults.raise_if_any()
    if function is None:
        raise InvalidPolicyError(faults.errors)
    if function_id is not None and function.id != function_id:
        faults.error(("function_id",), f"id {show(function.id)} differs from {show(function_id)}, which is meant")
        faults.raise_if_any()
    return function


def read_into(value: Any, place: Place, faults: Faults, *, default_id: str | None = None) -> StoredFunction | None:
    """Read one function that is plain JSON, and note its faults; None when there are any.

    Args:
        value: The function.
        place: Where it stands.
        faults: Takes what is wrong.
        default_id: Its id when it names none.
    """
    before = len(faults.errors)
    if not isinstance(value, dict):
        faults.error(place, f"expected a function (an object), found {show(value)}")
        return None
    found = fields(value, place, faults, _FUNCTION)
    given_id = _own_id(found, place, faults)
    own_id = default_id if given_id is None else given_id
    if own_id is None:
        faults.error(place, "field `function_id` is missing")
    if "code" not in value:
        faults.error(place, "field `code` is missing")
    metadata = found.get("metadata") or {}
    entry = _entry(metadata, place, faults)
    inputs = _inputs(metadata, place, faults)
    if own_id is None or len(faults.errors) > before:
        return None
    checked = check_code(found["code"], entry)
    for fault in checked.faults:
        faults.error((*place, "code"), fault.placed, fault.hint)
    if checked.faults:
        return None
    return StoredFunction(
        id=own_id,
        name=found.get("name") or own_id,
        description=found.get("description", ""),
        code=found["code"],
        entry=checked.entry,
        inputs=inputs,
        metadata=metadata,
        document={"function_id": own_id, **{key: item for key, item in value.items() if key not in _IDS}},
    )


_IDS = ("function_id", "id")


def _own_id(found: dict[str, Any], place: Place, faults: Faults) -> str | None:
    given = [found[name] for name in _IDS if name in found]
    if len(set(given)) > 1:
        faults.error((*place, "id"), f"`id` {show(given[1])} and `function_id` {show(given[0])} differ")
    return given[0] if given else None


def _entry(metadata: dict[str, Any], place: Place, faults: Faults) -> str | None:
    entry = metadata.get("entry")
    if entry is None or (isinstance(entry, str) and is_entry(entry)):
        return entry
    faults.error((*place, "metadata", "entry"), f"expected the name of a function in the source, found {show(entry)}")
    return None


def _inputs(metadata: dict[str, Any], place: Place, faults: Faults) -> tuple[str, ...] | None:
    inputs = metadata.get("inputs")
    if inputs is None:
        return None
    here = (*place, "metadata", "inputs")
    if not isinstance(inputs, list) or len(inputs) > MAX_INPUTS:
        faults.error(here, f"expected an array of at most {MAX_INPUTS} attributes, found {show(inputs)}")
        return None
    for index, name in enumerate(inputs):
        if not isinstance(name, str) or not all(name.split(".")):
            faults.error((*here, index), f"expected an attribute such as `client.region`, found {show(name)}")
        elif (head := name.partition(".")[0]) in ALIASES:
            hint = f"it is `{ALIASES[head]}` in a context, however a request spells it"
            faults.error((*here, index), f"no context has an attribute {show(name)}", hint)
    return tuple(sorted({name for name in inputs if isinstance(name, str)}))


def function_document(function: StoredFunction) -> dict[str, Any]:
    """Return a function as the API shows it: as it was written, with defaults filled in."""
    defaults = {
        "id": function.id,
        "function_id": function.id,
        "name": function.name,
        "description": function.description,
        "metadata": function.metadata,
    }
    return {**defaults, **function.document}

"""The files of functions: `NAME.json` with the source in it, `NAME.json` beside `NAME.py`, or `NAME.py` alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from policy_engine.functions.function import read_into
from policy_engine.language import json_text
from policy_engine.language.faults import Faults
from policy_engine.model.diagnostic import pointer
from policy_engine.model.errors import InvalidPolicyError
from policy_engine.model.function import StoredFunction

SUFFIXES = (".json", ".py")


def is_function_file(name: str) -> bool:
    """Whether a file of this name holds a function, or a part of one; hidden and private files do not."""
    return name.endswith(SUFFIXES) and not name.startswith((".", "_"))


def read_functions(files: Mapping[str, bytes]) -> dict[str, StoredFunction]:
    """Read the functions in some files, all or none.

    Args:
        files: Name -> content; files that hold no function are passed over.

    Returns:
        The functions by id, in the order of the files' names.

    Raises:
        InvalidPolicyError: With every fault; the first segment of its pointer is the name of the file.
    """
    faults = Faults()
    functions: dict[str, StoredFunction] = {}
    places: dict[str, str] = {}
    for stem in _stems(files):
        source, description = f"{stem}.py", f"{stem}.json"
        file = description if description in files else source
        function = _read(stem, files, faults)
        if function is None:
            continue
        if function.id in functions:
            faults.error((file,), f"function id `{function.id}` is taken already by {pointer(places[function.id])}")
        functions.setdefault(function.id, function)
        places.setdefault(function.id, file)
    faults.raise_if_any()
    return functions


def _stems(files: Iterable[str]) -> list[str]:
    return sorted({name.rpartition(".")[0] for name in files if is_function_file(name)})


def _read(stem: str, files: Mapping[str, bytes], faults: Faults) -> StoredFunction | None:
    source, description = f"{stem}.py", f"{stem}.json"
    document: Any = {"function_id": stem} if description not in files else _parse(description, files, faults)
    if document is None:
        return None
    if source not in files:
        return read_into(document, (description,), faults, default_id=stem)
    code = _decode(source, files, faults)
    if code is None:
        return None
    if isinstance(document, dict) and "code" in document:
        faults.error((description, "code"), f"there is a source here and in `{source}`: one is enough")
        return None
    whole = {**document, "code": code} if isinstance(document, dict) else document
    return _read_pair(whole, source, description if description in files else source, faults, stem)


def _read_pair(whole: Any, source: str, file: str, faults: Faults, stem: str) -> StoredFunction | None:
    """Read a function whose source stands in a file of its own: there its faults are too."""
    own = Faults()
    function = read_into(whole, (), own, default_id=stem)
    for fault in own.errors:
        in_code = fault.pointer == "/code"
        place = (source,) if in_code else (file, *fault.pointer.split("/")[1:])
        faults.error(place, fault.detail, fault.hint)
    return function


def _parse(name: str, files: Mapping[str, bytes], faults: Faults) -> Any:
    try:
        return json_text.parse(files[name])
    except InvalidPolicyError as error:
        for fault in error.errors:
            faults.error((name, *fault.pointer.split("/")[1:]), fault.detail, fault.hint)
        return None


def _decode(name: str, files: Mapping[str, bytes], faults: Faults) -> str | None:
    try:
        return files[name].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        faults.error((name,), f"not UTF-8 text: byte {error.start} cannot be read")
        return None

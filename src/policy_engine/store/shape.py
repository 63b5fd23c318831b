"""Shapes: what can be told of a context by its keys alone. Most contexts have one of a few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from policy_engine.store.redact import Redactor

_CLIENT = "client_id"
_COMPONENTS = ("component", "src_type")
_MAX_COMPONENT = 128


class Shape(msgspec.Struct, frozen=True, gc=False):
    """What a set of keys says.

    Attributes:
        names_client: Whether somebody may be named whom the request is about.
        is_simple: Whether somebody is, no secret is at the top, and personal data is nowhere else.
        personal: The keys of personal data.
        nested: Dotted paths that may lead to personal data.
        is_personal: Whether there are any of these.
        components: The keys that may say what kind of component asks.
        component: What kind it is if they do not.
    """

    names_client: bool
    is_simple: bool
    personal: tuple[str, ...]
    nested: tuple[str, ...]
    is_personal: bool
    components: tuple[str, ...]
    component: str | None

    def component_in(self, context: Mapping[str, Any]) -> str | None:
        """Return what kind of component asks."""
        for key in self.components:
            value = context[key]
            if value.__class__ is str:
                start: str = value[:_MAX_COMPONENT]
                return start if start.isascii() else start.encode("utf-8", "replace").decode()
        return self.component


def shape_of(keys: tuple[str, ...], redactor: Redactor) -> Shape:
    """Return the shape of contexts with these keys."""
    personal = tuple(path for path in redactor.personal if path in keys)
    nested = [path for path in redactor.personal if path not in keys and path.partition(".")[0] in keys]
    return Shape(
        names_client=_CLIENT in keys,
        is_simple=_CLIENT in keys and not nested and not redactor.masks_any(keys),
        personal=personal,
        nested=tuple(sorted(nested, key=len)),  # what is within another one is sealed with it
        is_personal=bool(personal or nested),
        components=tuple(key for key in _COMPONENTS if key in keys),
        component="fl-server" if "server_id" in keys else "fl-client" if _CLIENT in keys else None,
    )

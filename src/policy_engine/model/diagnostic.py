"""What validation has to say about one place in a document."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fault or doubt: where it is, what it is and, where one is known, the way out.

    Attributes:
        pointer: JSON pointer (RFC 6901) into the document; "" is the whole document.
        detail: What is wrong, in lower case and without a full stop.
        hint: A suggestion such as "did you mean `deny`?".
        excerpt: The line of a condition with a caret under the place.
    """

    pointer: str
    detail: str
    hint: str = ""
    excerpt: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.pointer or '/'}: {self.detail}{hint}"


def pointer(*segments: object) -> str:
    """Return the JSON pointer for a path of keys and indexes."""
    return "".join("/" + str(segment).replace("~", "~0").replace("/", "~1") for segment in segments)


def summarise(diagnostics: Iterable[Diagnostic], *, limit: int = 3) -> str:
    """Return the first few diagnostics in one line."""
    listed = list(diagnostics)
    more = f"; and {len(listed) - limit} more" if len(listed) > limit else ""
    return "; ".join(str(item) for item in listed[:limit]) + more

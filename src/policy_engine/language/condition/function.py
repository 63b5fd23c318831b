"""The functions a condition can call, and what is known of them before any value is."""

from __future__ import annotations

from dataclasses import dataclass

ANY = frozenset({"null", "bool", "int", "double", "string", "list", "map", "timestamp", "duration"})
"""Every type a value can have."""

NUMBERS = frozenset({"int", "double"})
STRING = frozenset({"string"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """How a function is called.

    Attributes:
        name: As it is written in a condition.
        parameters: What each argument may be; for a method the receiver is the first.
        optional: How many of the last parameters may be left out.
        forms: `function`, `method` or both.
        result: The type of the result.
    """

    name: str
    parameters: tuple[frozenset[str], ...]
    optional: int = 0
    forms: frozenset[str] = frozenset({"method"})
    result: str

    @property
    def usage(self) -> str:
        """One way to write a call of it."""
        receiver, *rest = list("xyz")[: len(self.parameters)]
        if "method" in self.forms:
            shown = rest[: len(rest) - self.optional]
            return f"{receiver}.{self.name}({', '.join(shown)})"
        return f"{self.name}({', '.join([receiver, *rest])})"


def _accessor(name: str, *, of_duration: bool = False) -> Function:
    receivers = frozenset({"timestamp", "duration"}) if of_duration else frozenset({"timestamp"})
    return Function(name=name, parameters=(receivers, STRING), optional=1, result="int")


def _conversion(name: str, *sources: str) -> Function:
    return Function(name=name, parameters=(frozenset(sources),), forms=frozenset({"function"}), result=name)


_BOTH = frozenset({"function", "method"})

FUNCTIONS = {
    function.name: function
    for function in (
        Function(name="size", parameters=(frozenset({"string", "list", "map"}),), forms=_BOTH, result="int"),
        Function(name="startsWith", parameters=(STRING, STRING), result="bool"),
        Function(name="endsWith", parameters=(STRING, STRING), result="bool"),
        Function(name="contains", parameters=(STRING, STRING), result="bool"),
        Function(name="matches", parameters=(STRING, STRING), forms=_BOTH, result="bool"),
        _conversion("string", "string", "bool", "int", "double", "timestamp", "duration"),
        _conversion("int", "int", "double", "string", "timestamp"),
        _conversion("double", "double", "int", "string"),
        _conversion("timestamp", "timestamp", "string", "int"),
        _conversion("duration", "duration", "string"),
        _accessor("getFullYear"),
        _accessor("getMonth"),
        _accessor("getDate"),
        _accessor("getDayOfMonth"),
        _accessor("getDayOfYear"),
        _accessor("getDayOfWeek"),
        _accessor("getHours", of_duration=True),
        _accessor("getMinutes", of_duration=True),
        _accessor("getSeconds", of_duration=True),
        _accessor("getMilliseconds", of_duration=True),
    )
}
"""Name -> function; `has` and the macros are not functions."""

MACROS = {"all": (2,), "exists": (2,), "exists_one": (2,), "filter": (2,), "map": (2, 3)}
"""Name of a macro -> how many arguments it takes."""

UNSUPPORTED = {
    "uint": "unsigned integers are not supported",
    "bytes": "bytes are not supported",
    "type": "type() is not supported",
    "dyn": "dyn() is not needed: every name has the type of its value",
    "bool": 'bool() is not supported: compare the text, `x == "true"`',
}
"""Functions of CEL that are left out, with what to say of them."""

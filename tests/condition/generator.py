"""Random conditions and contexts for the comparison with another implementation of CEL.

What is left out on purpose, because the two differ there and are meant to:

- timestamps and durations finer than a microsecond (the unit `ns`), leap seconds, differences of more than 292 years;
- `int()` and `double()` of a bool, which is an error here;
- arithmetic with the word `null`, and `%` beside what is no int: errors of the text here alone (the comparison skips
  them);
- blanks and hexadecimal digits inside the text given to `int()` and `double()`;
- time zones other than UTC, IANA names and `+hh:mm`;
- map literals with keys that are not strings; unsigned integers and bytes;
- integers and doubles beyond 2^53 in one condition: the other side compares those for equality as doubles;
- invalid constant patterns, timestamps and durations: here they are errors of the text, there of the evaluation;
- whatever a bound forbids.
"""

from __future__ import annotations

import random
from typing import Any

NAMES = ("a", "b", "c", "d", "e", "f", "g")
FIELDS = ("x", "y", "z")
STRINGS = (
    "",
    "a",
    "ab",
    "héllo",
    "😀x",
    "A.b",
    "12",
    "-7",
    "true",
    "1.5",
    "x",
    "y",
    "2024-02-29T12:30:00Z",
    "1h30m",
    "no",
)
PATTERNS = ("^a", "b$", "a.b", "[a-z]+", "(a|b)c?", "é", "^.$", "")
BAD_PATTERNS = ("(", "[", "(?=x)")
MOMENTS = ("2024-02-29T12:30:00Z", "1969-12-31T23:59:59.5Z", "2030-07-01T06:00:00.25+05:30", "2000-01-01T00:00:00Z")
DURATIONS = ("1h30m", "-1.5s", "0", "250ms", "36h", "1.5h", "-90m", "12us")
ZONES = ("UTC", "Europe/Berlin", "+05:30", "-08:00", "America/New_York", "02:00")
BAD_ZONES = ("Nowhere/There", "+5", "berlin")
EDGE_INTS = (2**63 - 1, -(2**63), 2**62, -(2**62), 2**32, 3037000500)
DOUBLES = (0.0, -0.0, 0.5, 1.0, 1.5, -2.25, 3.0, 100.0, 1e6, 123456.789, 1e-5, 0.1)
WIDE_DOUBLES = (1e15, -1e100, 1e300, 1e-300, 2.5e10)
ACCESSORS = (
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfYear",
    "getDayOfWeek",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
)
MAX_GENERATED_DEPTH = 4


class Generator:
    """Draws conditions that mostly have a value, now and then with a part of the wrong type."""

    def __init__(self, random_: random.Random) -> None:
        self._random = random_
        self._variables: list[tuple[str, str]] = []
        self._wide = random_.random() < 0.5
        kinds = ["int", "double", "string", "bool", "list", "map", random_.choice(["int", "any"])]
        self._types = dict(zip(NAMES, random_.sample(kinds, len(kinds)), strict=True))

    # Contexts.

    def context(self) -> dict[str, Any]:
        return {name: self._json(kind) for name, kind in self._types.items() if self._random.random() < 0.96}

    def _json(self, kind: str, depth: int = 0) -> Any:
        if self._random.random() < 0.03 or kind == "any":
            kind = self._random.choice(["int", "double", "string", "bool", "null", "list", "map"])
        match kind:
            case "int":
                return self._int()
            case "double":
                return self._random.choice(DOUBLES + (WIDE_DOUBLES if self._wide else ()))
            case "string":
                return self._random.choice(STRINGS + PATTERNS + BAD_PATTERNS + ZONES + BAD_ZONES)
            case "bool":
                return self._random.random() < 0.5
            case "list" if depth < 3:
                inner = self._random.choice(["int", "int", "double", "string", "bool", "map", "any"])
                return [self._json(inner, depth + 1) for _ in range(self._random.randrange(4))]
            case "map" if depth < 3:
                return {field: self._json("any", depth + 1) for field in FIELDS if self._random.random() < 0.7}
        return None

    def _int(self) -> int:
        if not self._wide and self._random.random() < 0.3:
            return self._random.choice(EDGE_INTS)
        return self._random.randrange(-3, 13)

    # Conditions.

    def condition(self) -> str:
        return self._of("bool", 0)

    def _of(self, kind: str, depth: int) -> str:
        if self._random.random() < 0.015:
            kind = self._random.choice(
                ["int", "double", "string", "bool", "list", "map", "null", "timestamp", "duration"]
            )
        deep = depth >= MAX_GENERATED_DEPTH or self._random.random() < 0.15
        options = _LEAVES[kind] if deep else _LEAVES[kind] + _BRANCHES[kind]
        return str(getattr(self, self._random.choice(options))(kind, depth + 1))

    def _any(self, depth: int) -> str:
        return self._of(self._random.choice(["int", "double", "string", "bool", "list", "map", "null"]), depth)

    def _variable(self, kind: str, depth: int) -> str:
        del depth
        hidden = {name for name, _ in self._variables}
        names = [name for name, found in self._types.items() if found in {kind, "any"} and name not in hidden]
        names += [name for name, found in self._variables if found in {kind, "any"}] * 3
        return self._random.choice(names or list(NAMES))

    def _field(self, kind: str, depth: int) -> str:
        del kind
        container = self._variable("map", depth)
        field = self._random.choice(FIELDS)
        return f'{container}["{field}"]' if self._random.random() < 0.2 else f"{container}.{field}"

    def _index(self, kind: str, depth: int) -> str:
        del kind
        return f"{self._of('list', depth)}[{self._of('int', MAX_GENERATED_DEPTH)}]"

    def _literal(self, kind: str, depth: int) -> str:
        match kind:
            case "int":
                value = self._int()
                return f"({value})" if value < 0 else str(value)
            case "double":
                return f"({self._random.choice(DOUBLES)!r})"
            case "bool":
                return self._random.choice(["true", "false"])
            case "string":
                return self._quoted(self._random.choice(STRINGS))
            case "list":
                if depth > MAX_GENERATED_DEPTH:
                    return "[]"
                inner = self._random.choice(["int", "string", "double", "bool"])
                return f"[{', '.join(self._of(inner, depth) for _ in range(self._random.randrange(4)))}]"
            case "map":
                if depth > MAX_GENERATED_DEPTH:
                    return "{}"
                fields = self._random.sample(FIELDS, self._random.randrange(4))
                return "{" + ", ".join(f'"{field}": {self._any(depth)}' for field in fields) + "}"
            case "timestamp":
                return f'timestamp("{self._random.choice(MOMENTS)}")'
            case "duration":
                return f'duration("{self._random.choice(DURATIONS)}")'
        return "null"

    def _quoted(self, text: str) -> str:
        quote = self._random.choice("\"'")
        return quote + text.replace("\\", "\\\\") + quote

    def _logical(self, kind: str, depth: int) -> str:
        operator = self._random.choice([" && ", " || "])
        return f"({operator.join(self._of(kind, depth) for _ in range(self._random.randrange(2, 4)))})"

    def _not(self, kind: str, depth: int) -> str:
        return f"!({self._of(kind, depth)})"

    def _compare(self, kind: str, depth: int) -> str:
        del kind
        inner = self._random.choice(["int", "double", "string", "bool", "timestamp", "duration", "int", "double"])
        other = self._random.choice(["int", "double"]) if inner in {"int", "double"} else inner
        operator = self._random.choice(["<", "<=", ">", ">="])
        return f"({self._of(inner, depth)} {operator} {self._of(other, depth)})"

    def _equal(self, kind: str, depth: int) -> str:
        del kind
        inner = self._random.choice(list(_LEAVES))
        left = self._of(inner, depth)
        right = self._any(depth) if self._random.random() < 0.2 else self._of(inner, depth)
        return f"({left} {self._random.choice(['==', '!='])} {right})"

    def _in(self, kind: str, depth: int) -> str:
        del kind
        return f"({self._any(depth)} in {self._of(self._random.choice(['list', 'list', 'map']), depth)})"

    def _has(self, kind: str, depth: int) -> str:
        del kind
        container = self._variable("map", depth)
        path = ".".join(self._random.choices(FIELDS, k=self._random.randrange(1, 3)))
        return f"has({container}.{path})"

    def _text_test(self, kind: str, depth: int) -> str:
        del kind
        name = self._random.choice(["startsWith", "endsWith", "contains"])
        return f"{self._of('string', depth)}.{name}({self._of('string', depth)})"

    def _matches(self, kind: str, depth: int) -> str:
        del kind
        subject = self._of("string", depth)
        pattern = self._variable("string", depth)
        if self._random.random() < 0.7:
            pattern = self._quoted(self._random.choice(PATTERNS))
        return f"matches({subject}, {pattern})" if self._random.random() < 0.3 else f"{subject}.matches({pattern})"

    def _quantified(self, kind: str, depth: int) -> str:
        name = self._random.choice(["all", "exists", "exists_one"])
        collection = self._of(self._random.choice(["list", "list", "map"]), depth)
        return f"{collection}.{name}({self._bound(kind, depth)})"

    def _bound(self, kind: str, depth: int) -> str:
        """Return a fresh or shadowing variable and one body of the type."""
        name = self._random.choice(["i", "j", "a"])
        self._variables.append((name, self._random.choice(["int", "string", "any"])))
        body = self._of(kind, depth)
        self._variables.pop()
        return f"{name}, {body}"

    def _filter(self, kind: str, depth: int) -> str:
        del kind
        return f"{self._of('list', depth)}.filter({self._bound('bool', depth)})"

    def _map(self, kind: str, depth: int) -> str:
        del kind
        inner = self._random.choice(["int", "string", "double", "bool"])
        if self._random.random() < 0.3:
            variable, _, test = self._bound("bool", depth).partition(", ")
            return f"{self._of('list', depth)}.map({variable}, {test}, {variable})"
        return f"{self._of(self._random.choice(['list', 'map']), depth)}.map({self._bound(inner, depth)})"

    def _ternary(self, kind: str, depth: int) -> str:
        return f"({self._of('bool', depth)} ? {self._of(kind, depth)} : {self._of(kind, depth)})"

    def _arithmetic(self, kind: str, depth: int) -> str:
        operators = ["+", "-", "*", "/", "%"] if kind == "int" else ["+", "-", "*", "/"]
        return f"({self._of(kind, depth)} {self._random.choice(operators)} {self._of(kind, depth)})"

    def _edge(self, kind: str, depth: int) -> str:
        """Return arithmetic at the ends of the integers, divisions by zero among it."""
        left = self._of(kind, depth) if self._wide else f"({self._random.choice(EDGE_INTS)})"
        right = self._random.choice([self._of(kind, depth), "0", "(-1)", "2", left])
        return f"({left} {self._random.choice('+-*/%')} {right})"

    def _sum(self, kind: str, depth: int) -> str:
        return f"({self._of(kind, depth)} + {self._of(kind, depth)})"

    def _negative(self, kind: str, depth: int) -> str:
        return f"-({self._of(kind, depth)})"

    def _moment(self, kind: str, depth: int) -> str:
        """Return arithmetic of timestamps and durations, kept within a few centuries."""
        if kind == "timestamp":
            operator = self._random.choice(["+", "-"])
            return f"({self._literal(kind, depth)} {operator} {self._of('duration', MAX_GENERATED_DEPTH)})"
        if self._random.random() < 0.4:
            return f"({self._literal('timestamp', depth)} - {self._literal('timestamp', depth)})"
        return (
            f"({self._of(kind, MAX_GENERATED_DEPTH)} {self._random.choice('+-')} {self._of(kind, MAX_GENERATED_DEPTH)})"
        )

    def _convert(self, kind: str, depth: int) -> str:
        sources = {
            "int": ["int", "double", "string", "timestamp"],
            "double": ["double", "int", "string"],
            "string": ["string", "bool", "int", "double", "timestamp", "duration"],
        }[kind]
        source = self._random.choice(sources)
        # The zero keeps bools out.
        zero = (
            {"int": " + 0", "double": " + 0.0", "string": ' + ""', "timestamp": ' + duration("0")'}.get(source, "")
            if kind != "string"
            else ""
        )
        return f"{kind}({self._of(source, depth)}{zero})"

    def _size(self, kind: str, depth: int) -> str:
        del kind
        subject = self._of(self._random.choice(["string", "list", "map"]), depth)
        return f"size({subject})" if self._random.random() < 0.5 else f"{subject}.size()"

    def _accessor(self, kind: str, depth: int) -> str:
        del kind
        name = self._random.choice(ACCESSORS)
        if self._random.random() < 0.25:
            return f"{self._of('duration', depth)}.{name}()"
        zone = ""
        if self._random.random() < 0.5:
            zone = self._quoted(self._random.choice(ZONES + BAD_ZONES))
        return f"{self._of('timestamp', depth)}.{name}({zone})"


_READ = [*["_variable"] * 9, "_field"]
_LEAVES = {
    "int": [*_READ, "_literal", "_literal"],
    "double": [*_READ, "_literal", "_literal"],
    "string": [*_READ, "_literal", "_literal"],
    "bool": [*_READ, "_literal", "_has"],
    "list": [*_READ, "_literal"],
    "map": [*_READ, "_literal"],
    "null": ["_literal", "_field"],
    "timestamp": ["_literal"],
    "duration": ["_literal"],
}
_BRANCHES = {
    "int": [
        "_edge",
        "_edge",
        "_arithmetic",
        "_arithmetic",
        "_negative",
        "_size",
        "_convert",
        "_accessor",
        "_ternary",
        "_index",
    ],
    "double": ["_arithmetic", "_arithmetic", "_negative", "_convert", "_ternary", "_index"],
    "string": ["_sum", "_convert", "_ternary", "_index"],
    "bool": [
        *["_logical", "_compare", "_equal"] * 3,
        *["_quantified", "_in", "_not"] * 2,
        "_text_test",
        "_matches",
        "_ternary",
        "_has",
    ],
    "list": ["_sum", "_filter", "_map", "_ternary"],
    "map": ["_ternary", "_index"],
    "null": ["_ternary"],
    "timestamp": ["_moment"],
    "duration": ["_moment"],
}

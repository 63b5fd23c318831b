"""From text to tokens."""

from __future__ import annotations

import re
from typing import NamedTuple

from policy_engine.language.condition.errors import ConditionError
from policy_engine.language.condition.syntax import Scalar

RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
"""Words that CEL keeps for itself; they may be fields (`a.for`) and not names."""

KEYWORDS = frozenset({"true", "false", "null", "in", "AND", "OR", "NOT"})
"""Words that are tokens of their own and can be neither names nor fields."""

INT64_MAX = 2**63 - 1

_ALIASES = {"AND": "&&", "OR": "||"}

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<string>[rRbB]{0,2}(?:\"{3}|'{3}|\"|'))
    |(?P<double>(?:\d+\.\d+|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
    |(?P<int>0x[0-9a-fA-F]+|\d+)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<operator>&&|\|\||<=|>=|==|!=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.ASCII,
)

_ENDS = {
    quote: re.compile(
        rf"((?:[^\\{quote[0]}]|\\.|(?!{quote}){quote[0]})*){quote}"
        if len(quote) > 1
        else rf"((?:[^\\{quote}\r\n]|\\[^\r\n])*){quote}",
        re.DOTALL,
    )
    for quote in ('"', "'", '"""', "'''")
}
_RAW_ENDS = {
    quote: re.compile(rf"(.*?){quote}" if len(quote) > 1 else rf"([^{quote}\r\n]*){quote}", re.DOTALL)
    for quote in _ENDS
}

_SIMPLE_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "?": "?", '"': '"', "'": "'", "`": "`",
}  # fmt: skip
_ESCAPE = re.compile(
    r"\\(?:[xX](?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<octal>[0-3][0-7]{2})|(?P<simple>.))",
    re.DOTALL,
)

_HINTS = {
    "=": "did you mean `==`?",
    "&": "did you mean `&&`?",
    "|": "did you mean `||`?",
    "`": 'write `map["key"]` for a key that is not a name',
    ";": "a condition is one expression",
}


class Token(NamedTuple):
    """One token.

    Attributes:
        kind: `name`, `int`, `double`, `string`, `end`, or the operator or keyword itself.
        text: As written, but for AND and OR, which are `&&` and `||`.
        offset: Where it starts, in characters from 0.
        value: What a number or string stands for.
    """

    kind: str
    text: str
    offset: int
    value: Scalar = None


def tokenize(source: str) -> list[Token]:
    """Return the tokens of a condition, the last being the one of kind `end`; raise ConditionError."""
    tokens: list[Token] = []
    position = 0
    while position < len(source):
        found = _TOKEN.match(source, position)
        if found is None:
            raise _unexpected(source, position)
        kind, text = str(found.lastgroup), found.group()
        if kind == "string":
            token, position = _string(source, position, text)
            tokens.append(token)
            continue
        if kind != "space":
            tokens.append(_token(source, kind, text, position))
        position = found.end()
    tokens.append(Token("end", "", len(source)))
    return tokens


def _token(source: str, kind: str, text: str, offset: int) -> Token:
    if kind == "name":
        text = _ALIASES.get(text, text)
        return Token(text if text in KEYWORDS or text in _ALIASES.values() else "name", text, offset)
    if kind == "operator":
        return Token(text, text, offset)
    _refuse_number_tail(source, text, offset)
    if kind == "double":
        return Token("double", text, offset, _double(source, text, offset))
    return Token("int", text, offset, _int(source, text, offset))


def _int(source: str, text: str, offset: int) -> int:
    # One more than the largest is let through: the parser knows whether a minus sign stands before it.
    digits, base = (text[2:], 16) if text.startswith("0x") else (text, 10)
    value = int(digits, base) if len(digits.lstrip("0")) <= len(str(INT64_MAX)) else INT64_MAX + 2
    if value > INT64_MAX + 1:
        raise ConditionError(f"the integer `{text}` does not fit into 64 bits", source=source, offset=offset)
    return value


def _double(source: str, text: str, offset: int) -> float:
    value = float(text)
    if value == float("inf"):
        raise ConditionError(f"the number `{text}` is too large", source=source, offset=offset)
    return value


def _refuse_number_tail(source: str, text: str, offset: int) -> None:
    after = source[offset + len(text) : offset + len(text) + 1]
    if not after or not (after.isalnum() or after == "_"):
        return
    if after in "uU":
        raise ConditionError(
            "unsigned integers are not supported", source=source, offset=offset, hint=f"write `{text}`"
        )
    raise ConditionError(f"malformed number `{text}{after}`", source=source, offset=offset)


def _string(source: str, offset: int, opening: str) -> tuple[Token, int]:
    quote = opening.lstrip("rRbB")
    prefix = opening[: len(opening) - len(quote)].lower()
    if "b" in prefix:
        raise ConditionError("bytes are not supported", source=source, offset=offset, hint="write a string")
    if prefix == "rr":
        raise ConditionError(f"unexpected `{opening[0]}`", source=source, offset=offset)
    start = offset + len(opening)
    found = (_RAW_ENDS if prefix else _ENDS)[quote].match(source, start)
    if found is None:
        raise ConditionError(f"the string that starts with `{opening}` does not end", source=source, offset=offset)
    body = found.group(1)
    value = body if prefix or "\\" not in body else _unescape(source, start, body)
    return Token("string", source[offset : found.end()], offset, value), found.end()


def _unescape(source: str, start: int, body: str) -> str:
    def replace(found: re.Match[str]) -> str:
        simple = found["simple"]
        if simple is not None:
            if simple not in _SIMPLE_ESCAPES:
                raise ConditionError(f"unknown escape `\\{simple}`", source=source, offset=start + found.start())
            return _SIMPLE_ESCAPES[simple]
        code = int(found["octal"], 8) if found["octal"] else int(found["x"] or found["u"] or found["U"], 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004 - the limits of Unicode
            raise ConditionError(f"`{found.group()}` is not a character", source=source, offset=start + found.start())
        return chr(code)

    return _ESCAPE.sub(replace, body)


def _unexpected(source: str, position: int) -> ConditionError:
    character = source[position]
    shown = character if character.isprintable() else f"U+{ord(character):04X}"
    return ConditionError(f"unexpected `{shown}`", source=source, offset=position, hint=_HINTS.get(character))

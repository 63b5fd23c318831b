"""Errors of the text: what they say, where they point, and what bounds the text."""

from __future__ import annotations

import pytest

from policy_engine.language.condition import ConditionError, compile_condition, parse
from policy_engine.language.condition.function import FUNCTIONS
from policy_engine.language.condition.library import IMPLEMENTATIONS

# The condition, its message, the line and the column, and the hint.
REFUSED = [
    ("(a + ) > 1", "expected an expression, found `)`", 1, 6, None),
    ("", "expected an expression, found the end", 1, 1, None),
    ("a >", "expected an expression, found the end", 1, 4, None),
    ("a = 1", "unexpected `=`", 1, 3, "did you mean `==`?"),
    ("a & b", "unexpected `&`", 1, 3, "did you mean `&&`?"),
    ("a | b", "unexpected `|`", 1, 3, "did you mean `||`?"),
    ("a and b", "expected the end of the condition, found `and`", 1, 3, "did you mean `AND`?"),
    ("a == NOT b", "expected an expression, found `NOT`", 1, 6, "write `!`, or put `NOT ...` in parentheses"),
    ("a\n&& b c", "expected the end of the condition, found `c`", 2, 6, None),
    ("a == 'x", "the string that starts with `'` does not end", 1, 6, None),
    ("a == 'x\n'", "the string that starts with `'` does not end", 1, 6, None),
    ('a == """x""', 'the string that starts with `"""` does not end', 1, 6, None),
    (r"a == 'x\q'", r"unknown escape `\q`", 1, 8, None),
    (r"a == '\ud800'", r"`\ud800` is not a character", 1, 7, None),
    ("a == b'x'", "bytes are not supported", 1, 6, "write a string"),
    ("a == 1u", "unsigned integers are not supported", 1, 6, "write `1`"),
    ("a == 1x", "malformed number `1x`", 1, 6, None),
    ("a == 9223372036854775808", "the integer `9223372036854775808` does not fit into 64 bits", 1, 6, None),
    ("a == " + "9" * 400, f"the integer `{'9' * 400}` does not fit into 64 bits", 1, 6, None),
    ("a == --9223372036854775809", "the integer `9223372036854775809` does not fit into 64 bits", 1, 8, None),
    ("a == 1e999", "the number `1e999` is too large", 1, 6, None),
    ("for == 1", "`for` is a reserved word", 1, 1, None),
    ("a.in == 1", "expected a name after `.`, found `in`", 1, 3, None),
    ("a.true == 1", "expected a name after `.`, found `true`", 1, 3, None),
    ("a.`b-c` == 1", "unexpected ```", 1, 3, 'write `map["key"]` for a key that is not a name'),
    ("a[?0] == 1", "expected an expression, found `?`", 1, 3, "optional values (`?.`, `[?`) are not supported"),
    ("Foo{x: 1} == a", "message literals are not supported", 1, 1, 'write a map, `{"key": value}`'),
    ("a.startWith('x')", "unknown function `startWith`", 1, 3, "did you mean `startsWith`?"),
    ("zzz(1)", "unknown function `zzz`", 1, 1, None),
    ("startsWith(a, 'x')", "`startsWith` is called as `x.startsWith(y)`", 1, 1, None),
    ("'1'.int() == 1", "`int` is called as `int(x)`", 1, 5, None),
    ("size() == 1", "wrong number of arguments for `size`", 1, 1, "it is called as `x.size()`"),
    ("a.contains('x', 'y')", "wrong number of arguments for `contains`", 1, 3, "it is called as `x.contains(y)`"),
    ("size(a,) == 1", "expected an expression, found `)`", 1, 8, None),
    ("uint(a) == a", "unsigned integers are not supported", 1, 1, None),
    ("bytes(a) == a", "bytes are not supported", 1, 1, None),
    ("type(a) == a", "type() is not supported", 1, 1, None),
    ("has(a)", "`has` takes a field, `has(a.b)`, not a single name `a`", 1, 5, None),
    ("has(a['b'])", "`has` takes a field, `has(a.b)`", 1, 5, None),
    ("has(a.b, c)", "`has` takes one argument", 1, 1, None),
    ("a.all(x)", "expected `,` after the variable of `all`, found `)`", 1, 8, None),
    ("a.all(x.y, true)", "expected `,` after the variable of `all`, found `.`", 1, 8, None),
    ("a.all(1, true)", "expected the name of a variable in `all`, found `1`", 1, 7, None),
    ("a.all(if, true)", "`if` is a reserved word", 1, 7, None),
    ("a.all(x, true, true)", "`all` takes 2 arguments, found 3", 1, 3, None),
    ("a.map(x, true, 1, 2) == a", "`map` takes 2 or 3 arguments, found 4", 1, 3, None),
    ("all(a, x, true)", "`all` is called as `x.all(...)`", 1, 1, None),
    ("{1: 2} == a", "the key of a map is a string", 1, 2, None),
    ("{'a': 1, 'a': 2} == a", "the key `a` is there twice", 1, 10, None),
    ("{'a' 1} == a", "expected `:`, found `1`", 1, 6, None),
    ("[1 2] == a", "expected `,` or `]`, found `2`", 1, 4, None),
    ("a ? b", "expected `:`, found the end", 1, 6, None),
    ("1 + 'a' == 2", "`+` cannot take int and string", 1, 5, None),
    ("true < 2", "`<` cannot take bool and int", 1, 8, None),
    ("1 == 'a'", "`==` cannot take int and string", 1, 6, None),
    ("a > 1 && a + 1 == 'x'", "`==` cannot take int and string", 1, 19, None),
    ("'a' && x", "`&&` needs a bool, found string", 1, 1, None),
    ("x || 1", "`||` needs a bool, found int", 1, 6, None),
    ("'a' ? true : false", "`?:` needs a bool, found string", 1, 1, None),
    ("!1", "`!` needs a bool, found int", 1, 2, None),
    ("-'a' == a", "`-` needs a number, found string", 1, 2, None),
    ("1 in 2", "`in` needs a list or a map on the right, found int", 1, 6, None),
    ("1 + 1", "a condition is a bool, found int", 1, 1, None),
    ("'a'.b == 1", "`.b` needs a map, found string", 1, 1, None),
    ("1[0] == 1", "`[]` needs a list or a map, found int", 1, 1, None),
    ("[1]['a'] == 1", "the index of a list is an int, found string", 1, 5, None),
    ("{'a': 1}[1] == 1", "the key of a map is a string, found int", 1, 10, None),
    ("{a > 1: 1} == b", "the key of a map is a string, found bool", 1, 2, None),
    ("size(1) == 1", "`size` cannot take this, found int", 1, 6, None),
    ("duration('1h').getFullYear() == 1", "`getFullYear` cannot take this, found duration", 1, 1, None),
    ("duration('1h').getHours('UTC') == 1", "`getHours` of a duration takes no time zone", 1, 25, None),
    ("'a'.all(x, true)", "`all` needs a list or a map, found string", 1, 1, None),
    ("a.all(x, 1)", "the condition of `all` is a bool, found int", 1, 10, None),
    ("a.filter(x, 'x') == []", "the condition of `filter` is a bool, found string", 1, 13, None),
]


@pytest.mark.parametrize(
    ("source", "message", "line", "column", "hint"), REFUSED, ids=[case[0][:40] for case in REFUSED]
)
def test_what_is_no_condition_is_refused_at_its_place(
    source: str, message: str, line: int, column: int, hint: str | None
) -> None:
    with pytest.raises(ConditionError) as refused:
        parse(source)
    error = refused.value
    assert (error.message, error.line, error.column, error.hint) == (message, line, column, hint)
    assert str(error) == f"{message} at line {line} column {column}"
    assert error.source == source


def test_an_error_is_shown_with_a_caret() -> None:
    with pytest.raises(ConditionError) as refused:
        parse("a > 1 &&\n\tb = 2")
    assert refused.value.excerpt == "\tb = 2\n\t  ^"
    with pytest.raises(ConditionError) as refused:
        parse(f"{'a' * 100} = {'b' * 100}")
    shown, caret = refused.value.excerpt.splitlines()
    assert (len(shown), shown[caret.index("^")]) == (120, "=")


CONSTANTS = [
    ("s.matches('(')", {}, "not a pattern: missing ): (", 11),
    ("s.matches(p)", {"p": "["}, "not a pattern: missing ]: [", 11),
    ("timestamp('yesterday') < t", {}, "not a timestamp in RFC 3339", 11),
    ("duration(limit) < t", {"limit": "1 h"}, "not a duration such as `1h30m`", 10),
    ("t > limit", {"limit": 2**63}, "the parameter `limit` cannot be used: the integer does not fit into 64 bits", 5),
    ("t > limit", {"limit": ()}, "the parameter `limit` cannot be used: no JSON value: tuple", 5),
    ("t > a.b", {"a": {"b": "x"}}, None, 0),
    ("1 > a.b", {"a": {"b": "x"}}, "`>` cannot take int and string", 5),
    ("limit && t", {"limit": 1}, "`&&` needs a bool, found int", 1),
    ("limit == 1", {"limit": "x"}, None, 0),
]


@pytest.mark.parametrize(("source", "parameters", "message", "column"), CONSTANTS)
def test_constants_are_looked_at_when_a_condition_is_compiled(
    source: str, parameters: dict[str, object], message: str | None, column: int
) -> None:
    parsed = parse(source)
    if message is None:
        compile_condition(parsed, parameters=parameters)
        return
    with pytest.raises(ConditionError) as refused:
        compile_condition(parsed, parameters=parameters)
    assert (refused.value.message, refused.value.column) == (message, column)


def test_the_place_of_a_malformed_constant_is_that_of_the_condition_at_hand() -> None:
    compile_condition(parse("s.matches('a')"))
    with pytest.raises(ConditionError) as refused:
        compile_condition(parse("s  .  matches(  '('  )"))
    assert refused.value.column == 17


def test_declared_types_are_looked_at() -> None:
    with pytest.raises(ConditionError, match="`<` cannot take string and int at line 1 column 7"):
        compile_condition(parse("age < 3"), attributes={"age": "string"})
    with pytest.raises(ValueError, match="unknown type `text`"):
        compile_condition(parse("age < 3"), attributes={"age": "text"})


def test_a_source_has_at_most_4_kilobytes() -> None:
    parse("'" + "é" * 2042 + "' == a")
    with pytest.raises(ConditionError, match="a condition has at most 4096 bytes at line 1 column 1"):
        parse("'" + "é" * 2046 + "' == a")


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("(", ")"),
        ("[", "]"),
        ("!", ""),
        ("-", ""),
        ("NOT ", ""),
        ("a[", "]"),
        ("a ? a : ", ""),
        ("size(", ")"),
        ("a.map(x, ", ")"),
    ],
)
def test_nesting_is_bounded(opening: str, closing: str) -> None:
    for depth in (40, 500):
        with pytest.raises(ConditionError, match="a condition nests at most 32 deep"):
            parse(f"{opening * depth}a{closing * depth}"[:4096])


def test_chains_of_operators_nest_and_chains_of_and_do_not() -> None:
    with pytest.raises(ConditionError, match="nests at most 32 deep"):
        parse(" + ".join(["a"] * 40) + " == b")
    for operator in ("&&", "||", "AND", "OR"):
        parse(f" {operator} ".join(["a"] * 400))


def test_terms_are_bounded() -> None:
    parse("a in [" + ",".join(["1"] * 997) + "]")
    with pytest.raises(ConditionError, match="a condition has at most 1000 terms"):
        parse("a in [" + ",".join(["1"] * 998) + "]")


def test_what_is_read_and_whether_and_and_or_are_mixed() -> None:
    parsed = parse("c.d > max && xs.all(x, x.y > a.b && has(x.z)) && has(c.e) && c.d > 2")
    assert [path.dotted for path in parsed.paths] == ["c.d", "max", "xs", "a.b", "c.e"]
    assert not parsed.mixes_and_or
    assert parse("a OR b AND c").mixes_and_or
    assert parse("x && (a && b || c)").mixes_and_or
    assert not parse("a OR (b AND c)").mixes_and_or
    assert parse("(a || b) && c || d").mixes_and_or


def test_a_condition_is_parsed_once() -> None:
    assert parse("a > 1") is parse("a > 1")


def test_every_function_that_can_be_called_is_implemented() -> None:
    assert FUNCTIONS.keys() == IMPLEMENTATIONS.keys()

"""What is found in a source without running it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import pytest

from policy_engine.functions.check import MAX_FAULTS, check_code
from policy_engine.functions.syntax import MAX_NODES


@pytest.mark.parametrize(
    ("code", "line", "column", "detail"),
    [
        ("def f(context:\n    pass", 1, 6, "syntax error"),
        ("def f(context):\n  é = 1\n  return é + b", 3, 14, "name `b` is not defined"),
        ("def f(context):\r\n\x0c\r\n  return b", 3, 10, "name `b` is not defined"),
        ("def f(context):\n    yield 1", 2, 5, "`yield` is not supported"),
        ("def f(context):\n    yield from []", 2, 5, "`yield from` is"),
        ("def f(context):\n    del context", 2, 5, "`del` is not"),
        ("class A(Exception): pass\ndef f(context): return 1", 1, 1, "class inheritance"),
        ("class A:\n  @staticmethod\n  def m(): pass\ndef f(context): return 1", 2, 4, "method decorators"),
        ("import statistics\ndef f(context): return 1", 1, 1, "module `statistics`"),
        ("from logging import info\ndef f(context): return 1", 1, 1, "module `logging`"),
        ("from math import *\ndef f(context): return 1", 1, 1, "`import *`"),
        ("from . import x\ndef f(context): return 1", 1, 1, "module `.`"),
        ("def f(context): return callable(f)", 1, 24, "built-in `callable`"),
        ("x = 1", 1, 1, "there is no function"),
        ("def _f(context): pass", 1, 1, "there is no function"),
        ("def f(a, b): pass", 1, 1, "cannot be called with one argument"),
        ("def f(): pass", 1, 1, "cannot be called with one argument"),
        ("def f(context, *, b): pass", 1, 1, "cannot be called with one argument"),
        ("async def f(context): pass", 1, 1, "cannot be called with one argument"),
        ("x = '\0'", 1, 1, "null bytes"),
        ("def f(context): return '\ud800'", 1, 1, "characters that no source may hold"),
        ("x = " + "-" * 60_000 + "1", 1, 1, "nested too deep"),
        ("x = a" + ".b" * 30_000, 1, 1, "nested too deep"),
        ("#" * 65_537, 1, 1, "larger than 65536 bytes"),
        ("def f(context):\n  é = 1; break", 2, 10, "'break' outside loop"),
        ("def f(context):\n  try: pass\n  finally: continue", 3, 12, "'continue' not properly in loop"),
        ("def f(context):\n  def g():\n    nonlocal x\n  return g", 3, 5, "no binding for nonlocal 'x'"),
        ("def f(context): pass\nreturn 1", 2, 1, "'return' outside function"),
        ("def f(context):\n  yield 1\n  break", 3, 3, "'break' outside loop"),
        ("def f(context): return g\ndef h(a, a): pass", 1, 24, "name `g` is not defined"),
    ],
)
def test_a_fault_is_found_where_it_is(code: str, line: int, column: int, detail: str) -> None:
    faults = check_code(code).faults
    found = [(fault.line, fault.column) for fault in faults if detail in fault.detail]
    assert (line, column) in found, faults


@pytest.mark.parametrize(
    "code",
    [
        "import math as m\nLIMIT = 5\ndef f(context): return m.pi < LIMIT",
        "def f(context):\n  total = 0\n  for key, item in context.items():\n    total += item\n  return total",
        "def f(context): return [a for b in context for a in b if (c := a)] or {k: v for k, v in {}.items()} or c",
        "def f(context):\n  try:\n    pass\n  except ValueError as error:\n    return str(error)",
        "def f(context):\n  def g(n, *a, k=1, **w): return h(n, a, k, w)\n  def h(*all): return all\n  return g(1)",
        "def f(a):\n match a:\n  case {'a': x, **y}: return x, y\n  case [z, *a]: return z, a\n  case b: return b",
        "g = None\ndef set_it():\n  global g, late\n  late = g = 1\ndef f(context): return late",
        "def f(context: Undefined) -> AlsoUndefined:\n  x: Missing = 1\n  return sorted(context, key=lambda p: p)",
        "class A:\n  x = 1\n  def get(self): return self.x\ndef f(context): return A().get()",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n  x: int = 0\ndef f(context): return P().x",
        "def f(context):\n  while True:\n    try: return 1\n    except ValueError: pass\n    finally: break",
        "import asyncio\nawait asyncio.sleep(0)\ndef f(context): return 1",
        "def f(context): return f'{context!r:>{WIDTH}}'\nWIDTH = 5",
    ],
)
def test_what_is_right_has_no_fault(code: str) -> None:
    assert check_code(code) == ("f", ())


@pytest.mark.parametrize(
    ("code", "wanted", "entry"),
    [
        ("def a(x): pass\ndef b(context): pass", None, "b"),
        ("def a(x): pass\ndef b(y): pass", None, "a"),
        ("def _a(context): pass\ndef b(context, z=1): pass", None, "b"),
        ("def a(*all): pass", None, "a"),
        ("def a(context): pass\ndef _b(context): pass", "_b", "_b"),
    ],
)
def test_the_entry_is_found(code: str, wanted: str | None, entry: str) -> None:
    assert check_code(code, wanted) == (entry, ())


def test_an_entry_that_is_not_there_is_a_fault_with_a_suggestion() -> None:
    (fault,) = check_code("def judge(context): pass", "jugde").faults
    assert str(fault) == "line 1 column 1: there is no function `jugde` (did you mean `judge`?)"


def calls(work: Callable[[], object]) -> int:
    """Return how many functions some work calls: what it takes, and the same on every machine."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


NAMES = ",".join(f"a{number}" for number in range(3000))
GREEDY = {
    "undefined names": "#n\ndef f(c):\n " + "z;" * 30_000,
    "names in nested comprehensions": "def f(c):\n return "
    + "[a for a in " * 180
    + f"[{','.join('c' for _ in range(25_000))}]"
    + "]" * 180,
    "fewer names in fewer comprehensions": "def f(c):\n return "
    + "[a for a in " * 11
    + f"[{','.join('c' for _ in range(8000))}]"
    + "]" * 11,
    "names handed on": f"def f(c):\n ({NAMES})=c\n {'lambda:' * 150}({NAMES})",
    "names for many functions": f"def f(c):\n ({NAMES})=c\n {';'.join(['lambda:0'] * 199)}",
    "too many functions": f"def f(c):\n {';'.join(['lambda:0'] * 500)}",
    "expressions in a string": "def f(c):\n return f'" + "{z}" * 20_000 + "'",
    "named arguments": "def f(c):\n c(" + ",".join(f"a{number}=1" for number in range(6000)) + ")",
    "names in patterns": f"def f(c):\n match c:\n  case [{NAMES}]|[{NAMES}]: pass",
    "finally in finally": "def f(c):\n"
    + "".join(f"{' ' * n}try: c\n{' ' * n}finally:\n" for n in range(1, 30))
    + " " * 30
    + "c",
    "names like each other": "def f(c):\n "
    + ";".join("x" * 60 + f"{number}=1" for number in range(90))
    + "\n "
    + ";".join("x" * 58 + f"y{number}" for number in range(150)),
}


@pytest.mark.parametrize("name", GREEDY)
def test_a_source_takes_no_more_than_its_length_allows(name: str) -> None:
    assert calls(lambda: check_code.__wrapped__(GREEDY[name])) < 30 * MAX_NODES


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("undefined names", "more than 20000 parts"),
        ("names in nested comprehensions", "nested too deep"),
        ("names handed on", "nested too deep"),
        ("too many functions", "more than 200 functions"),
        ("expressions in a string", "more than 4000 braces"),
        ("named arguments", "more than 1000 named arguments"),
        ("names in patterns", "more than 200 names in patterns"),
    ],
)
def test_a_source_with_too_much_of_something_is_refused(name: str, detail: str) -> None:
    (fault,) = check_code(GREEDY[name]).faults
    assert detail in fault.detail


@pytest.mark.parametrize(
    "name", ["fewer names in fewer comprehensions", "names for many functions", "finally in finally"]
)
def test_what_is_large_and_right_is_valid(name: str) -> None:
    assert check_code(GREEDY[name]) == ("f", ())


def test_no_more_faults_are_listed_than_anybody_mends() -> None:
    code = "\n".join(f"n{number} = m{number}" for number in range(3000))
    assert len(check_code(f"{code}\ndef f(context): return 1").faults) == MAX_FAULTS


def test_a_check_says_nothing_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert check_code("def f(context): return context is 1 or '\\d'").faults == ()
    assert capfd.readouterr().err == ""

"""What is found in a source without running it."""

from __future__ import annotations

import time

import pytest

from policy_engine.functions.check import MAX_FAULTS, check_code


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


def test_a_source_full_of_faults_is_answered_soon() -> None:
    code = "def f(context):\n  return " + " + ".join(f"n{number}" for number in range(900))
    began = time.process_time()
    faults = check_code("\n".join(f"n{number} = m{number}" for number in range(4000)) + "\n" + code).faults
    assert len(faults) <= MAX_FAULTS + 1
    assert time.process_time() - began < 10

"""What is fuzzed with atheris: functions that take bytes and raise when something is wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from policy_engine.language.condition import ConditionError, EvaluationError, compile_condition, parse
from policy_engine.language.document import parse_document
from policy_engine.language.vocabulary.actions import ACTIONS
from policy_engine.language.vocabulary.types import BUILT_IN
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.errors import InvalidPolicyError, InvalidRequestError
from policy_engine.model.fact import FACTS
from policy_engine.pdp import PolicyEngine

ROOT = Path(__file__).parents[1]
MOST_SECONDS = 1.0
"""Of the processor, for one input."""

Try: TypeAlias = Callable[[bytes], None]


class Target(NamedTuple):
    """Something that is fuzzed.

    Attributes:
        run: Takes an input; raises when that is not handled as it should be.
        seeds: Inputs to begin with.
        words: What inputs are likely to hold.
        longest: Bytes of the longest input.
    """

    run: Try
    seeds: Callable[[], Iterable[bytes]]
    words: Iterable[str]
    longest: int


TARGETS: dict[str, Target] = {}
"""Every target by its name."""


def register(name: str, target: Target) -> None:
    """Add a target."""
    TARGETS[name] = target


@contextmanager
def quickly() -> Iterator[None]:
    """Find what takes too long."""
    began = time.process_time()
    yield
    taken = time.process_time() - began
    assert taken < MOST_SECONDS, f"it took {taken:.1f} s"


# Policy files

_FILES = (ROOT / "config" / "policies" / "policies.json", ROOT / "src" / "policy_engine" / "defaults" / "policies.json")
_REQUESTS: tuple[dict[str, Any], ...] = (
    {},
    {"protocol": "tcp", "src_ip": "10.0.0.1", "dst_port": 8080, "client_id": "c", "federation": "f", "round": 3},
    {"protocol": ["tcp", None], "dst_port": "x", "model_size_mb": 1e308, "nested": {"deep": [{"a": None}]}},
)


def read_policies(data: bytes) -> None:
    """Read a policy file; when it is accepted, decide by it."""
    with quickly():
        try:
            document = parse_document(data)
        except InvalidPolicyError as error:
            _read(error.errors)
            return
        engine = PolicyEngine(document.policy_set)
        for kind in [*list(document.policy_set.types)[-3:], "network_security"]:
            for context in _REQUESTS:
                with suppress(InvalidRequestError):
                    engine.check(kind, context, explain=True)


def _read(faults: Sequence[Diagnostic]) -> None:
    """Read a refusal, as whoever wrote the file does."""
    assert faults
    assert all(map(str, faults))


def _policy_seeds() -> Iterator[bytes]:
    for path in _FILES:
        content = json.loads(path.read_bytes())
        yield path.read_bytes()
        for policy in _policies(content):
            yield json.dumps({"policies": [policy], "types": content.get("types", {})}).encode()


def _policies(content: dict[str, Any]) -> list[dict[str, Any]]:
    listed = content["policies"]
    return [{"id": name, **policy} for name, policy in listed.items()] if isinstance(listed, dict) else listed


_FIELDS = ("policies", "types", "rules", "match", "condition", "parameters", "severity", "on_missing", "function_code")
register(
    "policies",
    Target(read_policies, _policy_seeds, (*_FIELDS, *ACTIONS, *BUILT_IN, '{"', '": ', "\\ud800", "1e999"), 1 << 16),
)


# Conditions

_PARAMETERS: dict[str, object] = {"limit": 5, "names": ["a", "b"], "nest": {"text": "x", "rate": 0.5}}
_ATTRIBUTES = {"rate": "double", "when": "timestamp", "span": "duration"}
_CONTEXT: dict[str, Any] = {
    "a": 1,
    "b": "xy",
    "c": [1, "2", None, 3.5, [4]],
    "d": {"e": {"f": True}, "g": ""},
    "rate": 1,
    "when": "2026-01-01T00:00:00Z",
    "span": "1h",
    "big": 2**63 - 1,
}
_KNOWN: dict[str, Any] = {"current_hour": 3, "client.trust_score": 0.5}


def evaluate_condition(data: bytes) -> None:
    """Compile a condition; when it is accepted, evaluate it, where everything is there and where nothing is."""
    with quickly():
        try:
            source = data.decode()
            condition = compile_condition(
                parse(source), parameters=_PARAMETERS, attributes=_ATTRIBUTES, facts=frozenset(FACTS)
            )
        except (UnicodeDecodeError, ConditionError):
            return
        for context, facts in ((_CONTEXT, _KNOWN), ({}, {})):
            with suppress(EvaluationError):
                assert isinstance(condition.evaluate(context, facts), bool)


_CONDITIONS = (
    'a == 1 && b != "x" || !(limit >= 3)',
    "c.exists(x, x == 3.5) AND size(b) > 1",
    'has(d.e.f) ? d.e.f : names.all(n, n in ["a", "b"])',
    "NOT (a in [1, 2, 3] or current_hour < 8)",
    'b.matches("^[a-z]+$") && b.startsWith("x") && string(a) + b == "1xy"',
    'timestamp("2026-01-01T00:00:00Z") + duration("1h30m") > when',
    "client.trust_score * 2.0 - rate / 3.0 < 1e3 && -a % 7 == int(rate)",
    'd["g"] == "" && {"k": [1]}["k"][0] == 1 && nest.rate == 0.5',
    "c.filter(x, type(x) == int).map(y, y + 1).size() == 1",
)
_WORDS = (
    *(
        "&&",
        "||",
        "==",
        "!=",
        "<=",
        ">=",
        " in ",
        " AND ",
        " OR ",
        "NOT ",
        "?",
        ":",
        "has(",
        "size(",
        "string(",
        "int(",
    ),
    *("double(", "bool(", "timestamp(", "duration(", ".exists(x,", ".all(x,", ".map(x,", ".filter(x,", ".matches("),
    *(
        ".startsWith(",
        ".endsWith(",
        ".contains(",
        ".getFullYear(",
        "true",
        "false",
        "null",
        "9223372036854775807",
        "1e308",
    ),
    *("\\u00e9", "'''", "r'", "0x7f", "a.b.c", "[0]", "{'a': 1}"),
)
register(
    "conditions",
    Target(evaluate_condition, lambda: (source.encode() for source in _CONDITIONS), _WORDS, 4096),
)

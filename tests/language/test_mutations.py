"""Policy files that were damaged at random: read, or refused with a reason, and never anything else."""

from __future__ import annotations

import copy
import json
import random
import re
import time
from collections import Counter
from typing import Any

import pytest
from tests.cases.places import ROOT

from policy_engine.config import PACKAGED_POLICY_FILE
from policy_engine.language.canonical import digest
from policy_engine.language.document import parse_document, read_document
from policy_engine.model.diagnostic import Diagnostic
from policy_engine.model.errors import InvalidPolicyError
from policy_engine.pdp import PolicyEngine

SHARED = ROOT.parent / "shared" / "data" / "flopynet"
FILES = [
    ROOT / "config" / "policies" / "policies.json",
    PACKAGED_POLICY_FILE,
    *(path for path in (SHARED / "policies.json", SHARED / "default_policies.json") if path.exists()),
]
PLACED = re.compile(r"at line \d+ column \d+|: byte \d+ cannot|^field `\w+` is missing|^the document is empty")
"""What a fault says that lies in no part of the document: where it is in the text, or that the whole is at fault."""

MOST_SECONDS = 5.0
"""Of the processor, for one file: some milliseconds are usual."""

SCRAPS = [
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\xff", b"\x00", b"null", b"true", b"1e999", b"-", b"9" * 400),
    *(b"\\ud800", "é".encode(), b"\xef\xbb\xbf", b"NaN", b'"id": "x",', b"(", b"&&", b"%", b"'", b"\n"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 2**53 - 1, 2**53 + 1, 10**30, "", "x", "any", "a.b", "1-2", "10.0.0.0/8", "a > 1"),
    *("deny", "*", "\ud800", "\x00", "é" * 200, float("nan"), float("inf"), [], {}, [[]], {"": 1}, {"a": {"b": []}}),
]
NAMES = [
    "id",
    "type",
    "rules",
    "match",
    "condition",
    "parameters",
    "action",
    "priority",
    "src_ip",
    "dst_port",
    "x y",
    "",
]


def damage_text(drawn: random.Random, text: bytes) -> bytes:
    for _ in range(drawn.randint(1, 3)):
        at = drawn.randrange(len(text) + 1)
        kind = drawn.randrange(4)
        if kind == 0:
            text = text[:at] + drawn.choice(SCRAPS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + drawn.randint(1, 40) :]
        elif kind == 2:
            text = text[:at] + bytes([drawn.randrange(256)]) + text[at + 1 :]
        else:
            start = drawn.randrange(len(text) + 1)
            text = text[:at] + text[start : start + drawn.randint(1, 200)] + text[at:]
    return text


def containers(value: Any) -> list[Any]:
    found = [value] if isinstance(value, (dict, list)) else []
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        found += containers(item)
    return found


def damage_value(drawn: random.Random, value: Any) -> Any:
    value = copy.deepcopy(value)
    for _ in range(drawn.randint(1, 3)):
        spots = [item for item in containers(value) if item]
        if not spots:
            return value
        spot = drawn.choice(spots)
        key = drawn.choice(list(spot) if isinstance(spot, dict) else range(len(spot)))
        kind = drawn.randrange(4)
        if kind == 0:
            del spot[key]
        elif kind == 1:
            spot[key] = copy.deepcopy(drawn.choice(VALUES))
        elif kind == 2:
            spot[key] = copy.deepcopy(drawn.choice(containers(value)))
        elif isinstance(spot, dict):
            spot[drawn.choice(NAMES)] = spot.pop(key)
        else:
            spot.append(copy.deepcopy(spot[key]))
    return value


def survive(drawn: random.Random, text: bytes, value: Any) -> str:
    """Damage a file once and read it; say what became of it."""
    structured = drawn.random() < 0.6
    damaged = damage_value(drawn, value) if structured else damage_text(drawn, text)
    try:
        if not structured:
            document = parse_document(damaged)
        elif drawn.random() < 0.5:
            document = read_document(damaged)
        else:
            document = parse_document(json.dumps(damaged))
    except InvalidPolicyError as error:
        return "refused" if error.errors and all(map(has_place, error.errors)) else "refused without a place"
    assert len(digest(document.policy_set)) == 71
    PolicyEngine(document.policy_set).check("network_security", {"protocol": "tcp"})
    return "read"


def has_place(fault: Diagnostic) -> bool:
    return bool(str(fault).encode("utf-8", "surrogatepass")) and bool(fault.pointer or PLACED.search(fault.detail))


def small(value: dict[str, Any], drawn: random.Random) -> dict[str, Any]:
    """Return a file with few of its policies, so that damage often hits what matters and reading is quick."""
    listed = value["policies"]
    named = listed if isinstance(listed, dict) else {policy["id"]: policy for policy in listed}
    policies = {name: named[name] for name in drawn.sample(sorted(named), 3)}
    return {**value, "policies": policies if drawn.random() < 0.5 else list(policies.values())}


def damage_many(seed: int, count: int) -> Counter[str]:
    whole = [json.loads(path.read_text()) for path in FILES]
    tally: Counter[str] = Counter()
    for number in range(count):
        drawn = random.Random(f"{seed} {number}")
        value = small({**drawn.choice(whole), "history": []}, drawn)
        began = time.process_time()
        try:
            tally[survive(drawn, json.dumps(value).encode(), value)] += 1
        except Exception as error:
            error.add_note(f"seed {seed} number {number}")
            raise
        assert time.process_time() - began < MOST_SECONDS, f"seed {seed} number {number}"
    return tally


@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_damaged_files(seed: int) -> None:
    tally = damage_many(seed, 2500)
    assert tally["refused"] > 1000
    assert tally["read"] > 100
    assert set(tally) == {"refused", "read"}


@pytest.mark.deep
def test_a_hundred_thousand_other_damaged_files() -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - to repeat a failure
    assert set(damage_many(seed, 100_000)) == {"refused", "read"}

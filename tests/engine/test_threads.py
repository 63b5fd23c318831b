"""Many threads check while the revision changes under them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from policy_engine.language.document import read_document
from policy_engine.model.policy import PolicySet
from policy_engine.pdp import PolicyEngine

REVISIONS = 5


@pytest.fixture(autouse=True)
def eager_switches() -> Iterator[None]:
    """Let threads interrupt each other far more often than they would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def policies(number: int) -> PolicySet:
    """Return a set in which everything that an answer says tells its number; the type `still` never changes."""
    rules = [
        {
            "action": "allow",
            "match": {"n": number, "port": f"{number}-{number + 10}"},
            "parameters": {"number": number},
        },
        {"action": "limit", "condition": f"x > {number}", "parameters": {"also": number}},
        {"action": "deny", "match": {"n": number + 1}},
    ]
    document = {
        "types": {"t": {"default": "deny"}},
        "policies": {
            "p": {"name": f"name {number}", "type": "t", "rules": rules},
            "q": {"type": "still", "rules": [{"action": "allow"}]},
        },
    }
    return read_document(document).policy_set


def answers(engine: PolicyEngine) -> list[tuple[object, ...]]:
    """Return what the engine says to every question, each with the revision it names."""
    decisions = [
        engine.check("t", {"n": n, "port": n + 5, "x": 2}, explain=n % 2 == 0) for n in range(REVISIONS + 1)
    ] + [engine.check("still", {})]
    return [
        (item.revision_digest, item.allowed, item.reason, tuple(item.parameters.items()), item.obligations)
        for item in decisions
    ]


def test_every_answer_is_of_one_revision() -> None:
    sets = [policies(number) for number in range(REVISIONS)]
    right = [dict(enumerate(answers(PolicyEngine(policy_set)))) for policy_set in sets]
    engine = PolicyEngine(sets[0])
    wrong: list[tuple[object, ...]] = []
    seen: set[object] = set()
    done = Event()

    def ask() -> None:
        while not done.is_set():
            for question, answer in enumerate(answers(engine)):
                seen.add(answer[0])
                if answer not in [known[question] for known in right]:
                    wrong.append(answer)

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in range(1, 60 * REVISIONS):
        engine.activate(engine.prepare(sets[version % REVISIONS], version))
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(seen) == REVISIONS
    assert len({known[0][0] for known in right}) == REVISIONS

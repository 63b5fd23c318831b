"""Callers who change policies, and a ledger of what was acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.crash.client import Client
from tests.crash.load import Caller, numbers
from tests.service.running import Answer

MOST_POLICIES = 4


class Changed(NamedTuple):
    """An acknowledged change: the mark that the policy has since, None for a deletion; and the revision, if told."""

    mark: int | None
    revision: int | None


class Ledger:
    """What happened to one policy: the changes that were acknowledged, and those of which nobody knows.

    Attributes:
        open: The mark of a change without an answer: it may have been made or not.
    """

    def __init__(self) -> None:
        self.acknowledged: list[Changed] = []
        self.open: list[int | None] = []
        self.refused: list[int | None] = []
        self.tag = ""

    @property
    def is_there(self) -> bool:
        return bool(self.acknowledged) and self.acknowledged[-1].mark is not None

    def problem(self, history: list[tuple[int, int | None]]) -> str | None:
        """Return what is wrong with the history (revision and mark, oldest first) that the service tells."""
        marks = [mark for _, mark in history]
        known = [change.mark for change in self.acknowledged]
        if marks not in (known, [*known, *self.open]):
            return f"history {marks}, acknowledged {known}, open {self.open}, refused {self.refused}"
        for (revision, _), change in zip(history, self.acknowledged, strict=False):
            if change.revision is not None and change.revision != revision:
                return f"revision {revision} holds what was acknowledged as revision {change.revision}"
        return None


class PolicyWriter(Caller):
    """Creates, changes and deletes policies that nobody else touches, nor it once nobody knows of a change.

    A refusal means that nothing was changed, unless the connection to the database may be lost: then nobody knows of a
    change that was under way.
    """

    def __init__(self, ports: Sequence[int], number: int, *, refused_means_unchanged: bool = True) -> None:
        super().__init__(ports, number)
        self._refused_means_unchanged = refused_means_unchanged
        self.ledgers: dict[str, Ledger] = {}
        self._name = f"w{next(numbers)}"

    def step(self, client: Client) -> None:
        here = [name for name, ledger in self.ledgers.items() if ledger.is_there and not ledger.open]
        if len(here) < MOST_POLICIES and (not here or self.random.random() < 0.3):
            self._create(client)
            return
        name = self.random.choice(here)
        if self.random.random() < 0.15:
            self._delete(client, name)
        else:
            self._merge(client, name)

    def _create(self, client: Client) -> None:
        name, mark = f"{self._name}-{len(self.ledgers)}", next(numbers)
        self.ledgers[name] = Ledger()
        rules = [{"action": "allow", "match": {"asker": name}}]
        body = {"id": name, "type": "fl_performance", "rules": rules, "metadata": {"mark": mark}}
        self._take(name, mark, client.request("POST", "/api/v1/policies", body), 201)

    def _merge(self, client: Client, name: str) -> None:
        mark, ledger = next(numbers), self.ledgers[name]
        headers = {"If-Match": ledger.tag} if self.random.random() < 0.5 else None
        body = {"metadata": {"mark": mark}}
        self._take(name, mark, client.request("PUT", f"/api/v1/policies/{name}", body, headers), 200)

    def _delete(self, client: Client, name: str) -> None:
        self._take(name, None, client.request("DELETE", f"/api/v1/policies/{name}"), 200)

    def _take(self, name: str, mark: int | None, answer: Answer | None, expected: int) -> None:
        ledger = self.ledgers[name]
        self.note(answer, expected)
        if answer is None:
            ledger.open.append(mark)
        elif answer.status == expected:
            ledger.tag = answer.headers.get("etag", "")
            ledger.acknowledged.append(Changed(mark, answer.json.get("policy", {}).get("version")))
        elif self._refused_means_unchanged:
            ledger.refused.append(mark)
        else:
            ledger.open.append(mark)


def history_of(client: Client, name: str) -> list[tuple[int, int | None]]:
    """Return the revisions that changed a policy and the mark that it had in each, oldest first."""
    answer = client.request("GET", f"/api/v1/policies/{name}/history?limit=1000")
    assert answer is not None
    if answer.status == 404:
        return []
    assert answer.status == 200, answer
    entries: list[dict[str, Any]] = answer.json["history"]
    return [(entry["number"], entry["policy"] and entry["policy"]["metadata"]["mark"]) for entry in reversed(entries)]


def wrong_policies(client: Client, writers: Sequence[PolicyWriter]) -> list[str]:
    """Return what is not as it was acknowledged."""
    listed = client.request("GET", "/api/v1/policies")
    assert listed is not None
    present = {policy["id"]: policy.get("metadata", {}).get("mark") for policy in listed.json}
    wrong = []
    for name, ledger in ((name, ledger) for writer in writers for name, ledger in writer.ledgers.items()):
        history = history_of(client, name)
        problem = ledger.problem(history)
        if problem:
            wrong.append(f"{name}: {problem}")
        last = history[-1][1] if history else None
        if present.get(name) != last:
            wrong.append(f"{name}: in force with mark {present.get(name)}, stored with {last}")
    return wrong

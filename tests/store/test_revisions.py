"""Every state of the policies can be had again, and no change is lost to another one."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest
from tests.store.stores import Content, Stores, patiently

from policy_engine.model.errors import ConflictError, UnknownRevisionError
from policy_engine.store.opened import Store
from policy_engine.store.revisions import Documents, Import, Revision, changed_names, make_parts

EMPTY = Documents({}, {})
HUGE = 10**30


def revision(number: int, parent: int | None, before: Documents, after: Documents, author: str = "me") -> Revision:
    parts, _ = make_parts(before, after)
    return Revision(
        number=number,
        parent=parent,
        digest=f"sha256:{number}",
        author=author,
        reason="because",
        time=1.5,
        source="api",
        language_version=1,
        parts=parts,
    )


def commit(store: Store, number: int, parent: int | None, before: Documents, after: Documents, **more: Any) -> Revision:
    made = revision(number, parent, before, after)
    store.revisions.commit(made, make_parts(before, after)[1], **more)
    return made


def changed(choose: Random, before: Documents) -> Documents:
    """Return another state: some policies and types created, updated and deleted."""
    after = Documents(copy.deepcopy(before.policies), copy.deepcopy(before.types))
    for _ in range(choose.randrange(1, 4)):
        kind: dict[str, Any] = choose.choice((after.policies, after.policies, after.types))
        name = f"n{choose.randrange(6)}"
        if name in kind and choose.random() < 0.4:
            del kind[name]
        else:
            kind[name] = {
                "id": name,
                "value": choose.choice((1, 1.0, True, None, "\U0001f600", 2**60, {"b": 1, "a": [2]})),
            }
    return after


def test_an_empty_store(stores: Stores) -> None:
    store = stores()
    assert store.revisions.head() is None
    assert store.revisions.newest() == []
    assert store.revisions.of_policy("a") == []
    assert store.revisions.imported("a") is None
    for number in (None, 0, 1, -1, HUGE, -HUGE):
        with pytest.raises(UnknownRevisionError):
            store.revisions.documents(number)
        if number is not None:
            with pytest.raises(UnknownRevisionError):
                store.revisions.get(number)


def test_a_revision_is_there_for_every_process_at_once(stores: Stores) -> None:
    one, two = stores(name="one"), stores(name="two")
    after = Documents({"a": {"id": "a"}}, {"t": {"default": "deny"}})
    made = commit(one, 7, None, EMPTY, after, events=[("POLICY_CREATED", {"policy_id": "a"})])
    for store in (one, two):
        assert store.revisions.head() == (7, "sha256:7", 1)
        assert store.revisions.documents() == store.revisions.documents(7) == ((7, "sha256:7", 1), after)
        assert store.revisions.get(7) == made
        (event,) = store.events.page().events
        assert (event.event_type, event.details) == ("POLICY_CREATED", {"policy_id": "a"})


def test_a_revision_whose_parent_is_not_the_newest_changes_nothing(stores: Stores) -> None:
    one, two = stores(name="one"), stores(name="two")
    state = Documents({"a": {"id": "a"}}, {})
    commit(one, 1, None, EMPTY, state)
    commit(one, 2, 1, state, EMPTY)
    for store in (one, two):
        for parent in (None, 1, 3):
            with pytest.raises(ConflictError):
                commit(
                    store, 3, parent, EMPTY, state, events=[("POLICY_CREATED", {})], imported=[("path", "fingerprint")]
                )
    assert [item.number for item in two.revisions.newest()] == [2, 1]
    assert two.revisions.documents() == ((2, "sha256:2", 1), EMPTY)
    assert one.events.page().events == []
    assert one.revisions.imported("path") is None
    stores.stop()
    Content(stores.url).check_chains()


def test_a_number_is_not_given_twice(stores: Stores) -> None:
    store = stores()
    commit(store, 1, None, EMPTY, EMPTY)
    for number in (1, 0):
        with pytest.raises(ConflictError, match="would not come after"):
            commit(store, number, 1, EMPTY, Documents({"a": {}}, {}))
    commit(store, 2, 1, EMPTY, Documents({"b": {}}, {}))
    assert store.revisions.documents()[1] == Documents({"b": {}}, {})
    stores.stop()
    Content(stores.url).check_chains()


@pytest.mark.parametrize("seed", range(3))
def test_every_state_can_be_had_again(stores: Stores, seed: int) -> None:
    choose = Random(seed)
    opened = [stores(name="one"), stores(name="two")]
    states: dict[int, Documents] = {0: EMPTY}
    made: dict[int, Revision] = {}
    number = 0
    for _ in range(25):
        following = number + choose.choice((1, 1, 5))
        state = changed(choose, states[number])

        def attempt(number: int = number, following: int = following, state: Documents = state) -> Revision:
            return commit(choose.choice(opened), following, number or None, states[number], state)

        made[following] = patiently(attempt)
        states[following] = state
        number = following
    del states[0]
    for store in opened:
        assert store.revisions.head() == (number, f"sha256:{number}", 1)
        for known, state in states.items():
            assert repr(store.revisions.documents(known)[1]) == repr(ordered(state))
            assert store.revisions.get(known) == made[known]
        for missing in set(range(1, number)) - states.keys():
            with pytest.raises(UnknownRevisionError):
                store.revisions.documents(missing)
        check_history(choose, store, states, made)
    stores.stop()
    Content(stores.url).check_chains()


def ordered(state: Documents) -> Documents:
    return Documents(dict(sorted(state.policies.items())), dict(sorted(state.types.items())))


def check_history(choose: Random, store: Store, states: dict[int, Documents], made: dict[int, Revision]) -> None:
    numbers = sorted(states, reverse=True)
    assert [item.number for item in store.revisions.newest()] == numbers
    assert [item.number for item in store.revisions.newest(before=numbers[5], limit=3)] == numbers[6:9]
    assert store.revisions.newest(before=HUGE, limit=HUGE) == store.revisions.newest()
    assert store.revisions.newest(before=-HUGE) == []
    for name in {name for state in states.values() for name in state.policies}:
        wanted = [
            (item, states[item.number].policies.get(name))
            for item in (made[number] for number in numbers)
            if any((part.kind, part.name) == ("policy", name) for part in item.parts)
        ]
        assert store.revisions.of_policy(name) == wanted
        middle = choose.choice(numbers)
        below = [found for found in wanted if found[0].number < middle]
        assert store.revisions.of_policy(name, before=middle, limit=2) == below[:2]
        assert store.revisions.of_policy(name, before=HUGE, limit=HUGE) == wanted


def test_what_was_imported_last_is_remembered_for_each_path(stores: Stores) -> None:
    store = stores()
    commit(store, 1, None, EMPTY, EMPTY, imported=[("a.json", "one")])
    commit(store, 2, 1, EMPTY, EMPTY, imported=[("b.json", "two")])
    store.revisions.remember_import("a.json", "three", 2)
    commit(store, 3, 2, EMPTY, EMPTY, imported=[("b.json", "four")])
    assert store.revisions.imported("a.json") == Import("three", 2)
    assert store.revisions.imported("b.json") == Import("four", 3)
    assert store.revisions.imported("c.json") is None


def test_many_who_change_at_once_lose_no_change(stores: Stores) -> None:
    opened = [stores(name="one"), stores(name="two")]
    each = 6

    def change(worker: int) -> None:
        store = opened[worker % 2]
        for number in range(each):

            def attempt(number: int = number) -> None:
                head = store.revisions.head()
                before = store.revisions.documents(head.number)[1] if head else EMPTY
                policies = {**before.policies, f"p{worker}.{number}": {"by": worker}}
                counter = before.types.get("counter", {"value": 0})["value"] + 1
                after = Documents(policies, {"counter": {"value": counter}})
                parent = head.number if head else None
                commit(store, (parent or 0) + 1, parent, before, after, events=[("POLICY_CREATED", {})])

            patiently(attempt)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(8)))
    total = 8 * each
    assert [item.number for item in opened[0].revisions.newest()] == list(range(total, 0, -1))
    state = opened[1].revisions.documents()[1]
    assert len(state.policies) == total
    assert state.types == {"counter": {"value": total}}
    stores.stop()
    content = Content(stores.url)
    content.check_chains()
    assert len(content.rows("event")) == total


def test_what_lies_between_two_states() -> None:
    before = Documents({"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1}}, {"t": {"y": 1}})
    after = Documents({"a": {"x": 1}, "b": {"x": 1.0}, "d": {"x": 1}}, {"t": {"y": 1}, "u": {}})
    parts, documents = make_parts(before, after)
    assert [(part.kind, part.name, part.action) for part in parts] == [
        ("type", "u", "created"),
        ("policy", "b", "updated"),
        ("policy", "c", "deleted"),
        ("policy", "d", "created"),
    ]
    assert documents[("policy", "c")] is None
    assert changed_names(parts, "policy") == ["b", "c", "d"]
    assert make_parts(after, after) == ([], {})

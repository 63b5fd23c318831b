"""Every change of the policies is a revision: numbered, append-only, and checked before it comes into force."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from tests.conftest import Services
from tests.service.databases import alter, path_of
from tests.service.running import eventually
from tests.service.states import NEW, Document, allows, codes, in_force, numbers, revisions, stored, types, with_port
from tests.store.stores import patiently

from policy_engine.activation import Cause
from policy_engine.language.document import LANGUAGE_VERSION
from policy_engine.model.errors import BusyError, StateError, UnknownRevisionError
from policy_engine.pap import entity_tag
from policy_engine.service import PolicyService
from policy_engine.store.revisions import POLICY, Documents, Revision, make_parts

ME = Cause(author="me", reason="because")
BACK = Cause(author="me", reason="too strict", source="rollback")


def digest_of(documents: Documents) -> str:
    """The digest of a revision, from what is stored and the definition alone."""
    own = ("created_at", "updated_at", "version")
    policies = {
        policy_id: {key: value for key, value in policy.items() if key not in own}
        for policy_id, policy in documents.policies.items()
    }
    return f"sha256:{sha256(rfc8785.dumps({'policies': policies, 'types': documents.types})).hexdigest()}"


CHANGES: dict[str, tuple[Callable[[PolicyService], object], str, str]] = {
    "create": (lambda service: service.administration.create(NEW, cause=ME), "new", "created"),
    "merge": (lambda service: service.administration.merge("web", {"priority": 7}, cause=ME), "web", "updated"),
    "replace": (
        lambda service: service.administration.replace("web", {**NEW, "id": "web"}, cause=ME),
        "web",
        "updated",
    ),
    "enable": (lambda service: service.administration.enable("web", enabled=False, cause=ME), "web", "updated"),
    "delete": (lambda service: service.administration.delete("web", cause=ME), "web", "deleted"),
}


@pytest.mark.parametrize("about", CHANGES)
def test_a_change_is_a_revision(service: PolicyService, about: str) -> None:
    change, name, action = CHANGES[about]
    began = time.time()
    present = service.policies.get(name)
    change(service)
    first, revision = revisions(service)
    assert (first.number, revision.number, revision.parent) == (2, 3, 2)
    assert revision.number == service.revision.version
    assert (revision.author, revision.reason, revision.source) == ("me", "because", "api")
    assert began - 1 <= revision.time <= time.time() + 1
    assert revision.language_version == LANGUAGE_VERSION
    (part,) = revision.parts
    assert (part.kind, part.name, part.action) == ("policy", name, action)
    assert bool(part.sha256) is (action != "deleted")
    assert stored(service) == in_force(service)
    event = service.events.page().events[-1]
    after = service.policies.get(name)
    tags = {"before": present and entity_tag(present), "after": after and entity_tag(after)}
    assert event.details == {"policy_id": name, "policy_version": 3, "author": "me", "reason": "because", **tags}


def test_the_digest_is_that_of_what_is_stored(services: Services, policy_file: Path, document: Document) -> None:
    document["types"] = {"door": {"default": "deny", "attributes": {"load": "double"}}}
    document["policies"]["web"]["metadata"] = {"caf\u00e9": [1, 1.5, None, True], "deep": {"a": {"b": []}}}
    policy_file.write_text(json.dumps(document))
    service = services()
    for change, _, _ in CHANGES.values():
        change(service)
        assert service.revision.digest == service.check("network_security", {}).revision_digest
    for revision in revisions(service):
        head, documents = service.store.revisions.documents(revision.number)
        assert (head.number, head.digest) == (revision.number, revision.digest)
        assert digest_of(documents) == revision.digest
    assert service.revision.digest == revisions(service)[-1].digest


# Rollback, difference, history


def test_a_rollback_is_a_new_revision(service: PolicyService) -> None:
    service.administration.create(NEW)
    service.administration.delete("web")
    service.administration.merge("night", {"enabled": False})
    before = revisions(service)
    assert service.administration.roll_back(2, cause=BACK) == service.revision.version == 6
    assert revisions(service)[:-1] == before, "the history stays as it was"
    revision = revisions(service)[-1]
    assert (revision.parent, revision.source, revision.author, revision.reason) == (5, "rollback", "me", "too strict")
    assert revision.digest == before[0].digest
    assert {(part.name, part.action) for part in revision.parts} == {
        ("new", "deleted"),
        ("web", "created"),
        ("night", "updated"),
    }
    assert in_force(service) == stored(service) == service.store.revisions.documents(2)[1].policies
    assert allows(service, 8080)
    told = service.events.page().events[-4:]
    assert [event.event_type for event in told] == [
        *("REVISION_ROLLED_BACK", "POLICY_DELETED", "POLICY_UPDATED", "POLICY_CREATED")
    ]
    assert told[0].details == {"rolled_back_to": 2, "author": "me", "reason": "too strict"}
    assert {event.details["policy_version"] for event in told[1:]} == {6}


def test_every_revision_can_be_gone_back_to(service: PolicyService) -> None:
    for change, _, _ in CHANGES.values():
        change(service)
    for revision in revisions(service):
        number = service.administration.roll_back(revision.number, cause=BACK)
        assert service.revision.digest == revision.digest
        assert service.revision.version == number
        wanted = service.store.revisions.documents(revision.number)[1]
        assert service.store.revisions.documents(number)[1].types == wanted.types
        assert stored(service).keys() == wanted.policies.keys()


def test_a_rollback_brings_types_back(service: PolicyService, policy_file: Path, document: Document) -> None:
    document["types"] = {"door": {"default": "allow"}}
    policy_file.write_text(json.dumps(document))
    service.reload()
    assert service.check("door", {}).allowed is True
    service.administration.roll_back(2, cause=BACK)
    assert service.check("door", {}).reason_code == "type_undeclared"
    service.administration.roll_back(3, cause=BACK)
    assert service.check("door", {}).allowed is True
    assert service.store.revisions.documents()[1].types == document["types"]


@pytest.mark.parametrize("number", [0, 1, 3, 2**40])
def test_a_rollback_to_nothing(service: PolicyService, number: int) -> None:
    with pytest.raises(UnknownRevisionError):
        service.administration.roll_back(number, cause=BACK)
    assert numbers(service) == [2]


def test_the_difference_of_two_revisions(service: PolicyService, policy_file: Path, document: Document) -> None:
    service.administration.create(NEW)
    service.administration.delete("night")
    service.administration.merge("web", {"priority": 7})
    service.administration.merge("start", {"priority": 7})
    service.administration.roll_back(2, cause=BACK)
    found = {item.name: item for item in service.administration.difference(2, 5)}
    assert {name: item.action for name, item in found.items()} == {
        "new": "created",
        "night": "deleted",
        "web": "updated",
    }
    assert found["new"].before is None
    assert found["night"].after is None
    assert found["web"].before == service.store.revisions.documents(2)[1].policies["web"]
    assert found["web"].after == service.store.revisions.documents(5)[1].policies["web"]
    back = {item.name: (item.before, item.after) for item in service.administration.difference(5, 2)}
    assert back == {item.name: (item.after, item.before) for item in found.values()}
    assert service.administration.difference(2, 7) == []
    policy_file.write_text(with_port({**document, "types": {"door": {"default": "deny"}}}, 8081))
    service.reload()
    kinds = [(item.kind, item.name, item.action) for item in service.administration.difference(7, 8)]
    assert kinds == [("type", "door", "created"), ("policy", "web", "updated")]


def test_the_history_of_a_policy(service: PolicyService) -> None:
    service.administration.merge("web", {"priority": 7})
    service.administration.merge("night", {"priority": 8})
    service.administration.delete("web")
    service.administration.create({**NEW, "id": "web"})
    history = service.store.revisions.of_policy("web")
    assert [revision.number for revision, _ in history] == [6, 5, 3, 2]
    priorities = [document and document.get("priority") for _, document in history]
    assert priorities == [None, None, 7, 100]
    assert history[1][1] is None, "it was deleted then"
    assert service.store.revisions.of_policy("nobody") == []
    assert [revision.number for revision, _ in service.store.revisions.of_policy("web", before=5, limit=1)] == [3]


# What is stored is checked before it comes into force

PORT = "UPDATE part SET document = CAST(replace(CAST(document AS TEXT), '8080', '8081') AS BLOB) WHERE name = 'web'"
ALTERED = {
    "another meaning": PORT,
    "as text": "UPDATE part SET document = replace(document, '8080', '8081') WHERE name = 'web'",
    "not JSON": "UPDATE part SET document = x'7b' WHERE name = 'web'",
    "not UTF-8": "UPDATE part SET document = x'ff' WHERE name = 'web'",
    "not a policy": "UPDATE part SET document = CAST('{\"type\": 5}' AS BLOB) WHERE name = 'web'",
    "an array": "UPDATE part SET document = CAST('[]' AS BLOB) WHERE name = 'web'",
    "gone": "DELETE FROM part WHERE name = 'web'",
    "marked as deleted": "UPDATE part SET document = NULL WHERE name = 'web'",
    "another digest": "UPDATE revision SET digest = 'sha256:0'",
}


@pytest.mark.parametrize("about", ALTERED)
def test_an_altered_revision_is_refused_at_the_start(services: Services, service: PolicyService, about: str) -> None:
    path = path_of(service)
    services.end(service)
    assert alter(path, ALTERED[about]) == 1
    with pytest.raises(StateError, match=r"revision 2 of the store (has been altered|cannot be used)"):
        services()


@pytest.mark.parametrize("about", ALTERED)
def test_an_altered_revision_is_refused_by_a_running_process(services: Services, about: str) -> None:
    one, other = services(), services()
    patiently(lambda: one.administration.merge("web", {"priority": 7}))
    before = other.revision
    assert alter(path_of(one), f"{ALTERED[about]} {'AND' if 'WHERE' in ALTERED[about] else 'WHERE'} number = 3") == 1
    other.start()
    eventually(lambda: codes(other) == ["revision_refused"], "it refuses the revision")
    assert "revision 3 of the store" in other.troubles.all()[0].detail
    assert other.revision == before
    assert allows(other, 8080)
    with pytest.raises((StateError, BusyError)):
        other.administration.create(NEW)
    assert numbers(one) == [2, 3], "nobody builds on what he cannot use"
    patiently(lambda: one.administration.replace("web", {**NEW, "id": "web"}))
    eventually(lambda: other.revision.version == 4 and codes(other) == [], "the next revision is in force")


def commit(service: PolicyService, policies: dict[str, Document], *, language_version: int) -> int:
    """Make a revision as another version of the engine does that shares the store."""
    head, before = service.store.revisions.documents()
    after = Documents(policies, before.types)
    parts, documents = make_parts(before, after)
    revision = Revision(
        number=head.number + 1,
        parent=head.number,
        digest=digest_of(after),
        author="another version",
        reason="",
        time=time.time(),
        source="api",
        language_version=language_version,
        parts=parts,
    )
    service.store.revisions.commit(revision, documents)
    return revision.number


@pytest.fixture
def newer(services: Services) -> Iterator[PolicyService]:
    """A process that shares its store with one of a newer version, which has just changed something."""
    other, service = services(), services()
    service.start()
    policies = {**stored(other), "web": {**NEW, "id": "web"}}
    commit(other, policies, language_version=LANGUAGE_VERSION + 1)
    eventually(lambda: codes(service) == ["revision_refused"], "it refuses the revision")
    yield service
    service.stop()


def test_a_newer_language_is_refused_by_a_running_process(newer: PolicyService) -> None:
    (trouble,) = newer.troubles.all()
    assert "revision 3 of the store needs language version `3`" in trouble.detail
    assert "update this process" in trouble.detail
    assert newer.revision.version == 2
    assert allows(newer, 8080)
    with pytest.raises((StateError, BusyError)):
        newer.administration.create(NEW)


def test_a_newer_language_is_refused_at_the_start(services: Services, newer: PolicyService) -> None:
    assert newer.revision.version == 2
    with pytest.raises(StateError, match=r"revision 3 of the store needs language version `3`.*update this process"):
        services()


def test_a_refused_revision_is_passed_over_when_a_usable_one_follows(newer: PolicyService) -> None:
    commit(newer, stored(newer), language_version=LANGUAGE_VERSION)
    eventually(lambda: newer.revision.version == 4 and not newer.troubles.all(), "the usable one is in force")
    assert not allows(newer, 8080)
    assert in_force(newer) == stored(newer)


def test_what_is_not_known_at_the_start_is_not_made_up(services: Services, service: PolicyService) -> None:
    """A refused start leaves no mark: no revision, no event but those that were."""
    path = path_of(service)
    services.end(service)
    alter(path, PORT)
    with pytest.raises(StateError):
        services()
    alter(path, PORT.replace("'8080', '8081'", "'8081', '8080'"))
    again = services()
    assert types(again) == ["ENGINE_START", *["POLICY_LOADED"] * 3, "ENGINE_START"]
    assert numbers(again) == [2]


def test_parts_name_what_is_stored(service: PolicyService) -> None:
    for change, _, _ in CHANGES.values():
        change(service)
    for revision in revisions(service):
        for part in revision.parts:
            ((_, document),) = service.store.revisions.of_policy(part.name, before=revision.number + 1, limit=1)
            body: Any = b"" if document is None else json.dumps(document).encode()
            assert part.sha256 == (sha256(body).hexdigest() if body else "")
            assert part.kind == POLICY

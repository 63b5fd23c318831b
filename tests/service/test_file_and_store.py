"""The policy file and the store: which of them says what is in force, over restarts and in several processes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from threading import Barrier
from typing import Any

import pytest
from tests.conftest import Services
from tests.service.databases import locked
from tests.service.running import eventually
from tests.service.states import (
    NEW,
    Document,
    allows,
    codes,
    in_force,
    numbers,
    revisions,
    stored,
    types,
    with_port,
)

from policy_engine.activation import Cause
from policy_engine.http.app import create_app
from policy_engine.language.document import parse_document
from policy_engine.service import PolicyService


def told(service: PolicyService, event_type: str) -> list[dict[str, Any]]:
    return [event.details for event in service.events.page(event_types=[event_type]).events]


def restart(services: Services, service: PolicyService, **settings: Any) -> PolicyService:
    services.end(service)
    return services(**settings)


# Restarts


def test_the_first_import(service: PolicyService, policy_file: Path) -> None:
    (revision,) = revisions(service)
    assert revision.number == service.revision.version == 2
    assert (revision.parent, revision.source, revision.author) == (None, "file", "policy file")
    assert revision.reason == str(policy_file)
    assert {(part.name, part.action) for part in revision.parts} == {
        ("web", "created"),
        ("night", "created"),
        ("start", "created"),
    }
    assert types(service) == ["ENGINE_START", *["POLICY_LOADED"] * 3]


def test_a_restart_with_the_same_file(services: Services, service: PolicyService) -> None:
    service.administration.create(NEW)
    service.administration.delete("night")
    before = service.revision, in_force(service), revisions(service), service.events.page().total
    again = restart(services, service)
    assert (again.revision.version, again.revision.digest) == (before[0].version, before[0].digest)
    assert in_force(again) == stored(again) == before[1]
    assert revisions(again) == before[2]
    assert again.troubles.all() == ()
    assert types(again)[before[3] :] == ["ENGINE_START"], "what was loaded is told once, not at each start"
    assert told(again, "ENGINE_START")[-1] == {"policy_version": before[0].version}


def test_a_restart_with_a_changed_file(
    services: Services, service: PolicyService, policy_file: Path, document: Document
) -> None:
    before = service.revision.version
    services.end(service)
    policy_file.write_text(with_port(document, 8081))
    again = services()
    assert allows(again, 8081)
    assert again.revision.version == before + 1
    assert [revision.source for revision in revisions(again)] == ["file", "file"]
    assert [(part.name, part.action) for part in revisions(again)[-1].parts] == [("web", "updated")]
    assert types(again)[-2:] == ["ENGINE_START", "POLICY_UPDATED"]
    assert again.troubles.all() == ()


def test_a_restart_without_the_file(services: Services, service: PolicyService, policy_file: Path) -> None:
    """The store holds the policies: without its file the service is degraded, not gone."""
    service.administration.create(NEW)
    before = service.revision
    content = policy_file.read_bytes()
    services.end(service)
    for spoil in (policy_file.unlink, partial(policy_file.write_text, ""), partial(policy_file.write_text, "{")):
        spoil()
        again = services()
        assert (again.revision.version, again.revision.digest) == (before.version, before.digest)
        assert codes(again) == ["reload_failed"]
        assert types(again)[-1] == "RELOAD_FAILED"
        services.end(again)
    policy_file.write_bytes(content)
    assert services().troubles.all() == ()


@pytest.mark.parametrize("content", [None, "", " \n", "{", '{"policies": {"a": {}}}'])
def test_an_empty_store_and_no_file_is_no_start(services: Services, policy_file: Path, content: str | None) -> None:
    policy_file.unlink()
    if content is not None:
        policy_file.write_text(content)
    with pytest.raises((ValueError, OSError)):
        services()
    policy_file.write_text(json.dumps({"policies": {}}))
    assert services().revision.version == 1, "what failed left nothing behind"


def test_a_link_that_is_turned_while_nobody_looks(services: Services, tmp_path: Path, document: Document) -> None:
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "policies.json").write_text(with_port(document, 8080 + number))
    (tmp_path / "..data").symlink_to("..1")
    link = tmp_path / "mounted.json"
    link.symlink_to("..data/policies.json")
    service = services(policy_file=str(link))
    assert allows(service, 8081)
    services.end(service)
    (tmp_path / "..next").symlink_to("..2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    again = services(policy_file=str(link))
    assert allows(again, 8082)
    assert again.troubles.all() == ()
    assert again.revision.version == service.revision.version + 1


# Changes on both sides


@pytest.fixture
def in_conflict(service: PolicyService, policy_file: Path, document: Document) -> PolicyService:
    """A service whose policies and whose file were both changed."""
    service.administration.create(NEW)
    policy_file.write_text(with_port(document, 8081))
    service.reload()
    return service


def test_a_conflict_changes_nothing_and_is_told(in_conflict: PolicyService, policy_file: Path) -> None:
    assert codes(in_conflict) == ["reload_conflict"]
    ready = create_app(in_conflict).test_client().get("/readyz").get_json()
    assert ready["status"] == "degraded"
    assert ready["policy_version"] == in_conflict.revision.version == 3
    (event,) = told(in_conflict, "RELOAD_CONFLICT")
    assert event == {"source": str(policy_file), "reason": ready["reasons"][0]["detail"]}
    assert numbers(in_conflict) == [2, 3]
    assert allows(in_conflict, 8080)
    assert "new" in in_force(in_conflict)
    in_conflict.reload()
    assert len(told(in_conflict, "RELOAD_CONFLICT")) == 1, "it is told once"


def test_a_conflict_outlasts_a_restart(services: Services, in_conflict: PolicyService) -> None:
    again = restart(services, in_conflict)
    assert codes(again) == ["reload_conflict"]
    assert again.revision.version == 3
    assert allows(again, 8080)


def test_a_conflict_that_arises_while_nobody_looks(
    services: Services, service: PolicyService, policy_file: Path, document: Document
) -> None:
    service.administration.delete("night")
    services.end(service)
    policy_file.write_text(with_port(document, 8081))
    again = services()
    assert codes(again) == ["reload_conflict"]
    assert numbers(again) == [2, 3]


def test_a_conflict_ends_when_the_file_is_put_back(
    in_conflict: PolicyService, policy_file: Path, document: Document
) -> None:
    in_conflict.start()
    policy_file.write_text(json.dumps(document, indent=4))
    eventually(lambda: in_conflict.troubles.all() == (), "the conflict is over")
    assert numbers(in_conflict) == [2, 3]
    assert "new" in in_force(in_conflict)
    assert allows(in_conflict, 8080)


def test_a_conflict_ends_when_the_file_is_to_win(services: Services, in_conflict: PolicyService) -> None:
    again = restart(services, in_conflict, file_wins=True)
    assert again.troubles.all() == ()
    assert allows(again, 8081)
    assert "new" not in in_force(again)
    assert numbers(again) == [2, 3, 4]
    assert again.store.revisions.documents(3)[1].policies["new"]["rules"] == NEW["rules"], "history keeps it"


def test_a_conflict_ends_with_a_rollback_to_what_was_imported(in_conflict: PolicyService) -> None:
    in_conflict.start()
    in_conflict.administration.roll_back(2, cause=Cause(author="me", source="rollback"))
    eventually(lambda: in_conflict.troubles.all() == (), "the conflict is over")
    assert allows(in_conflict, 8081), "the file's new content is taken over"
    assert [revision.source for revision in revisions(in_conflict)] == ["file", "api", "rollback", "file"]


def test_a_file_that_wins_lets_changes_through_the_api_be_until_it_changes(
    services: Services, service: PolicyService
) -> None:
    service.administration.create(NEW)
    again = restart(services, service, file_wins=True)
    assert "new" in in_force(again)
    assert again.revision.version == service.revision.version


def test_another_file(services: Services, service: PolicyService, policy_file: Path, document: Document) -> None:
    """What was imported is remembered for each path."""
    other = policy_file.with_name("other.json")
    other.write_text(with_port(document, 8081))
    again = restart(services, service, policy_file=str(other))
    assert allows(again, 8081)
    again.administration.create(NEW)
    changed = restart(services, again, policy_file=str(other))
    assert "new" in in_force(changed)
    back = restart(services, changed)
    assert numbers(back) == [2, 3, 4], "the first file did not change since it was imported"
    assert back.troubles.all() == ()
    policy_file.write_text(with_port(document, 8082))
    back.reload()
    assert codes(back) == ["reload_conflict"]


# What is no revision, and how they are numbered


def test_an_equal_digest_makes_no_revision(service: PolicyService, policy_file: Path, document: Document) -> None:
    before = service.revision
    reordered = {"policies": list(reversed(document["policies"].values())), "history": [], "updated_at": 5}
    for text in (json.dumps(document, indent=3), json.dumps(reordered), json.dumps(document)):
        policy_file.write_text(text)
        service.reload()
    service.administration.enable("web", enabled=True)
    service.administration.merge("web", {"priority": 100, "version": 77})
    service.administration.replace("night", document["policies"]["night"])
    assert service.administration.roll_back(2, cause=Cause(author="me", source="rollback")) == 2
    assert service.revision == before
    assert numbers(service) == [2]


def test_a_rollback_to_what_is_in_force_makes_no_revision(service: PolicyService) -> None:
    service.administration.merge("web", {"priority": 7})
    service.administration.merge("web", {"priority": 100})
    assert service.administration.roll_back(2, cause=Cause(author="me", source="rollback")) == 4
    assert numbers(service) == [2, 3, 4]
    assert revisions(service)[0].digest == revisions(service)[2].digest


@pytest.mark.parametrize("version", [1, 2])
def test_the_number_starts_above_that_of_the_file(
    services: Services, policy_file: Path, document: Document, version: int
) -> None:
    document["version"] = version
    policy_file.write_text(json.dumps(document))
    assert services().revision.version == version + 1


def test_the_number_never_falls(services: Services, policy_file: Path, document: Document) -> None:
    service = services()
    seen = [service.revision.version]

    def note(of: PolicyService) -> None:
        seen.append(of.revision.version)
        assert of.store.revisions.head() == (of.revision.version, of.revision.digest, 2)

    for policy_id in list(service.policies):
        service.administration.delete(policy_id)
        note(service)
    assert service.policies == {}
    service.administration.roll_back(2, cause=Cause(author="me", source="rollback"))
    note(service)
    service = restart(services, service)
    assert service.revision.version == seen[-1]
    policy_file.write_text(json.dumps({"policies": {}, "version": 1}))
    service.reload()
    note(service)
    service = restart(services, service)
    assert service.revision.version == seen[-1]
    policy_file.write_text(with_port(document, 8081))
    service.reload()
    note(service)
    assert seen == list(range(2, 2 + len(seen)))
    assert numbers(service) == seen


# Two processes on one store


@pytest.fixture
def both(services: Services) -> tuple[PolicyService, PolicyService]:
    """Two services of one store, as two workers are."""
    one, other = services(), services()
    one.start()
    other.start()
    return one, other


def same(both: tuple[PolicyService, PolicyService], number: int) -> bool:
    return all(service.revision.version == number for service in both)


def test_a_changed_file_is_imported_once(
    both: tuple[PolicyService, PolicyService], policy_file: Path, document: Document
) -> None:
    for number in range(3, 13):
        policy_file.write_text(with_port(document, 8080 + number))
        eventually(partial(same, both, number), f"both are at {number}")
        assert all(allows(service, 8080 + number) for service in both)
    assert both[0].revision.digest == both[1].revision.digest
    assert numbers(both[0]) == list(range(2, 13))
    assert len(told(both[1], "POLICY_UPDATED")) == 10
    assert [codes(service) for service in both] == [[], []]


def test_a_refused_file_is_refused_by_both(both: tuple[PolicyService, PolicyService], policy_file: Path) -> None:
    content = policy_file.read_text()
    policy_file.write_text("{")
    eventually(lambda: [codes(service) for service in both] == [["reload_failed"]] * 2, "both refuse it")
    policy_file.write_text(content)
    eventually(lambda: [codes(service) for service in both] == [[]] * 2, "both are well")
    assert numbers(both[0]) == [2]


def test_a_change_through_one_is_in_force_in_the_other(both: tuple[PolicyService, PolicyService]) -> None:
    one, other = both
    changes: list[Callable[[PolicyService], object]] = [
        lambda service: service.administration.create(NEW),
        lambda service: service.administration.merge("new", {"priority": 7}),
        lambda service: service.administration.enable("new", enabled=False),
        lambda service: service.administration.delete("web"),
    ]
    for number, change in enumerate(changes, 3):
        change((one, other)[number % 2])
        eventually(partial(same, both, number), f"both are at {number}")
        assert in_force(one) == in_force(other) == stored(one)
        assert one.revision.digest == other.revision.digest
    tags = [create_app(service).test_client().get("/policies/new").headers["ETag"] for service in both]
    lists = [create_app(service).test_client().get("/policies").headers["ETag"] for service in both]
    assert tags[0] == tags[1]
    assert lists[0] == lists[1]


def test_a_change_is_made_on_top_of_what_the_other_changed(services: Services) -> None:
    one, other = services(), services()
    one.administration.merge("web", {"priority": 7})
    assert other.revision.version == 2, "it does not follow yet"
    changed = other.administration.merge("web", {"description": "both"})
    assert (changed.priority, changed.description) == (7, "both")
    assert numbers(one) == [2, 3, 4]


def test_changes_of_many_at_once_lose_nothing(both: tuple[PolicyService, PolicyService]) -> None:
    clients = [create_app(service).test_client() for service in both]

    def create(number: int) -> None:
        body = {**NEW, "id": f"new-{number}"}
        eventually(lambda: clients[number % 2].post("/policies", json=body).status_code in {201, 409}, "it is taken")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(20)))
    eventually(partial(same, both, 22), "both are at the last one")
    assert len(in_force(both[0])) == 3 + 20
    assert numbers(both[0]) == list(range(2, 23))


def test_two_that_start_at_once_import_once(services: Services, policy_file: Path, document: Document) -> None:
    """The one that comes second knows the file as well as the one that imported it."""
    document["types"] = {"door": {"default": "deny", "required": ["who"]}}
    document["history"] = [{"action": "update"}]
    policy_file.write_text(json.dumps(document))
    ready = Barrier(2)

    def begin(_: int) -> PolicyService:
        ready.wait()
        return services(file_write_back=True)

    with ThreadPoolExecutor(2) as pool:
        started = list(pool.map(begin, range(2)))
    assert numbers(started[0]) == [2]
    eventually(lambda: len(told(started[0], "ENGINE_START")) == 2, "both told that they started")
    for number, service in enumerate(started):
        service.reload()
        service.administration.create({**NEW, "id": f"new-{number}"})
        written = json.loads(policy_file.read_text())
        assert written["types"] == document["types"]
        assert written["history"] == document["history"]
        assert f"new-{number}" in written["policies"]


def test_a_start_waits_for_a_store_that_is_busy(services: Services, service: PolicyService) -> None:
    with ThreadPoolExecutor(1) as pool:
        with locked(service):
            started = pool.submit(services)
            with pytest.raises(TimeoutError):
                started.result(0.5)
        assert started.result().revision.version == 2


# Writing back


def test_what_one_writes_back_is_no_foreign_change_for_the_other(services: Services, policy_file: Path) -> None:
    both = services(file_write_back=True), services(file_write_back=True)
    clients = [create_app(service).test_client() for service in both]
    for service in both:
        service.start()
    for number in range(3, 13):
        body = {"priority": number}
        eventually(
            lambda: clients[number % 2].put("/api/v1/policies/web", json=body).status_code == 200,  # noqa: B023
            "the change is taken",
        )
        eventually(partial(same, both, number), f"both are at {number}")
        assert json.loads(policy_file.read_text())["policies"]["web"]["priority"] == number
    eventually(lambda: [codes(service) for service in both] == [[], []], "nothing is wrong")
    assert numbers(both[0]) == list(range(2, 13))
    assert {revision.source for revision in revisions(both[0])[1:]} == {"api"}
    assert told(both[0], "RELOAD_CONFLICT") == told(both[0], "RELOAD_FAILED") == []


def broken_link(policy_file: Path) -> Path:
    """Put the file into a directory that can be taken away, behind a link that stays; return where it really is."""
    real = policy_file.with_name("away") / "policies.json"
    real.parent.mkdir()
    policy_file.rename(real)
    policy_file.symlink_to(real)
    return real


def test_a_restart_completes_what_was_not_written_back(services: Services, policy_file: Path) -> None:
    real = broken_link(policy_file)
    content = real.read_bytes()
    service = services(file_write_back=True)
    shutil.rmtree(real.parent)
    service.administration.create(NEW)
    assert codes(service) == ["write_back_failed"]
    services.end(service)
    real.parent.mkdir()
    real.write_bytes(content)
    again = services(file_write_back=True)
    assert again.troubles.all() == ()
    assert again.revision.version == service.revision.version
    assert json.loads(real.read_text())["policies"].keys() == {"web", "night", "start", "new"}
    assert numbers(again) == [2, 3]


def test_what_could_not_be_written_back_does_not_overwrite_what_somebody_wrote(
    services: Services, policy_file: Path, document: Document
) -> None:
    real = broken_link(policy_file)
    service = services(file_write_back=True)
    shutil.rmtree(real.parent)
    service.administration.create(NEW)
    theirs = with_port(document, 8081)
    real.parent.mkdir()
    real.write_text(theirs)
    assert service._file is not None
    for _ in range(3):
        service._file.look()
        assert real.read_text() == theirs
    assert "reload_conflict" in service.troubles
    assert "new" in in_force(service)
    document["policies"]["new"] = NEW
    real.write_text(json.dumps(document))
    service._file.look()
    assert service.troubles.all() == (), "both sides agree"


def test_a_rollback_is_written_back_with_its_types(services: Services, policy_file: Path, document: Document) -> None:
    service = services(file_write_back=True)
    document["types"] = {"door": {"default": "deny", "required": ["who"]}}
    document["policies"]["door"] = {"type": "door", "rules": [{"action": "allow", "match": {"who": "me"}}]}
    policy_file.write_text(json.dumps(document))
    service.reload()
    assert service.revision.program.policy_set.type_documents == document["types"]
    for number in (2, 3):
        service.administration.roll_back(number, cause=Cause(author="me", source="rollback"))
        at = service.revision
        written = parse_document(policy_file.read_bytes()).policy_set
        assert written.type_documents == service.revision.program.policy_set.type_documents
        assert written.policies.keys() == service.policies.keys()
        service.reload()
        assert service.revision == at, "the file does not undo it"
    assert "door" in service.policies
    assert service.troubles.all() == ()
    assert restart(services, service, file_write_back=True).revision.version == at.version


def test_a_file_that_is_gone_is_written_anew_with_its_types(
    services: Services, policy_file: Path, document: Document
) -> None:
    document["types"] = {"door": {"default": "deny", "required": ["who"]}}
    policy_file.write_text(json.dumps(document))
    services.end(services())
    policy_file.unlink()
    service = services(file_write_back=True)
    assert codes(service) == ["reload_failed"]
    service.administration.create(NEW)
    assert service.troubles.all() == ()
    written = parse_document(policy_file.read_bytes()).policy_set
    assert written.type_documents == document["types"]
    assert written.policies.keys() == service.policies.keys()
    before = service.revision
    service.reload()
    assert service.revision == before


def test_no_old_content_comes_back(
    both: tuple[PolicyService, PolicyService], policy_file: Path, document: Document
) -> None:
    """However quickly the file changes, whoever reads it: each revision is of a later file than the one before."""
    pauses = Random(7)
    for priority in range(1, 101):
        document["policies"]["web"]["priority"] = priority
        draft = policy_file.with_suffix(".draft")
        draft.write_text(json.dumps(document))
        draft.rename(policy_file)
        time.sleep(pauses.random() / 20)
    eventually(lambda: all(service.policies["web"].priority == 100 for service in both), "the last one is in force")
    history = both[0].store.revisions.of_policy("web", limit=1000)
    priorities = [policy["priority"] for _, policy in history[:-1] if policy]
    assert priorities == sorted(set(priorities), reverse=True)
    assert len(priorities) > 10
    eventually(lambda: [codes(service) for service in both] == [[], []], "nothing is wrong")
    assert told(both[0], "RELOAD_CONFLICT") == told(both[0], "RELOAD_FAILED") == []


def test_files_and_the_api_at_once_with_writing_back(services: Services, policy_file: Path) -> None:
    """Nothing that was answered as done is undone, though both processes write the file all the time."""
    both = services(file_write_back=True), services(file_write_back=True)
    for service in both:
        service.start()
    clients = [create_app(service).test_client() for service in both]

    def create(number: int) -> None:
        body = {**NEW, "id": f"new-{number}"}
        eventually(lambda: clients[number % 2].post("/policies", json=body).status_code in {201, 409}, "it is taken")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(30)))
    eventually(partial(same, both, 32), "both are at the last one")
    eventually(lambda: [codes(service) for service in both] == [[], []], "nothing is wrong")
    assert json.loads(policy_file.read_text())["policies"].keys() == in_force(both[0]).keys()
    assert len(in_force(both[0])) == 3 + 30
    assert numbers(both[0]) == list(range(2, 33))

"""A changed policy file comes into force whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest.mock import Mock

import pytest
from tests.conftest import Services
from tests.service.databases import locked
from tests.service.running import eventually
from tests.service.states import NEW, Document, allows, codes, types, with_port

from policy_engine.http.app import create_app
from policy_engine.service import PolicyService

CHECK = ("network_security", {"protocol": "tcp", "dst_port": 8080})


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _denny(path: Path) -> None:
    path.write_text(path.read_text().replace('"action": "deny"', '"action": "denny"', 1))


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def _edit(change: Callable[[Document], Any]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return edit


def _rule(document: Document) -> Document:
    rule: Document = document["policies"]["web"]["rules"][0]
    return rule


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (_truncate, "not valid JSON"),
    "empty": (lambda path: path.write_text(""), "empty"),
    "blank": (lambda path: path.write_text(" \n"), "empty"),
    "missing": (lambda path: path.unlink(), "No such file"),
    "a directory": (_directory, "directory"),
    "a link to nowhere": (_dangling, "No such file"),
    "not UTF-8": (lambda path: path.write_bytes(b"\xff" + path.read_bytes()), "UTF-8"),
    "unknown action": (_denny, "did you mean `deny`"),
    "duplicate key": (lambda path: path.write_text('{"policies": {}, "policies": {}}'), "more than once"),
    "no policies": (lambda path: path.write_text("{}"), "`policies` is missing"),
    "array": (lambda path: path.write_text("[]"), "object"),
    "too deep": (lambda path: path.write_text("[" * 100_000), "nested"),
    "newer language": (_edit(lambda document: document.update(version=3)), "newer"),
    "unknown field": (_edit(lambda document: document.update(polices={})), "did you mean `policies`"),
    "bad condition": (_edit(lambda document: _rule(document).update(condition="a >")), "column"),
    "integer at 2^53": (_edit(lambda document: _rule(document).update(parameters={"n": 2**53})), "2^53"),
    "half a surrogate pair": (_edit(lambda document: _rule(document).update(description="\ud800")), "surrogate"),
}


def reloaded(service: PolicyService, port: int) -> bool:
    service.reload()
    return allows(service, port)


@pytest.mark.parametrize("about", BROKEN)
def test_a_broken_file_changes_nothing(
    service: PolicyService, policy_file: Path, caplog: pytest.LogCaptureFixture, about: str
) -> None:
    break_it, said = BROKEN[about]
    content = policy_file.read_bytes()
    before = service.revision, service.policies
    break_it(policy_file)
    service.reload()
    assert (service.revision, service.policies) == before
    (trouble,) = service.troubles.all()
    assert trouble.code == "reload_failed"
    assert said in trouble.detail
    assert str(policy_file) in trouble.detail
    event = service.events.page().events[-1]
    assert event.event_type == "RELOAD_FAILED"
    assert event.details["reason"] == trouble.detail
    assert [item["pointer"] for item in event.details["errors"]] == [item.pointer for item in trouble.errors]
    assert trouble.detail in caplog.text
    assert f"version {service.revision.version} stays in force" in caplog.text
    _restore(policy_file, content)
    service.reload()
    assert service.troubles.all() == ()
    assert service.revision == before[0]
    assert types(service)[-1] == "RELOAD_FAILED"


def _restore(path: Path, content: bytes) -> None:
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("about", BROKEN)
def test_a_service_does_not_start_with_a_broken_file(services: Services, policy_file: Path, about: str) -> None:
    BROKEN[about][0](policy_file)
    with pytest.raises((ValueError, OSError)):
        services()


def test_what_changed_is_told(service: PolicyService, policy_file: Path, document: Document) -> None:
    del document["policies"]["night"]
    document["policies"]["web"]["priority"] = 7
    document["policies"]["more"] = {"type": "network_security", "rules": []}
    before = service.revision
    policy_file.write_text(json.dumps(document))
    service.reload()
    told = [(event.event_type, event.details["policy_id"]) for event in service.events.page().events[4:]]
    assert told == [("POLICY_DELETED", "night"), ("POLICY_UPDATED", "web"), ("POLICY_LOADED", "more")]
    assert list(service.policies) == ["web", "start", "more"]
    assert service.revision.version == before.version + 1
    assert service.revision.digest != before.digest


@pytest.mark.parametrize("change", ["spaces", "order", "stamps", "list"])
def test_what_means_the_same_is_no_change(
    service: PolicyService, policy_file: Path, document: Document, change: str
) -> None:
    if change == "order":
        document["policies"] = dict(reversed(document["policies"].items()))
    elif change == "stamps":
        document["updated_at"] = document["policies"]["web"]["updated_at"] = 5
        document["history"] = [{"action": "update"}]
    elif change == "list":
        document["policies"] = list(document["policies"].values())
    before = service.revision, service.events.page()
    policy_file.write_text(json.dumps(document, indent=1))
    service.reload()
    assert (service.revision, service.events.page()) == before
    assert service.troubles.all() == ()


def test_a_number_of_another_kind_is_a_change(services: Services, policy_file: Path, document: Document) -> None:
    rule = {"action": "allow", "match": {"condition": "factor * x > 1.0"}, "parameters": {"factor": 1}}
    document["policies"]["start"]["rules"] = [rule]
    policy_file.write_text(json.dumps(document))
    service = services()
    context = {"x": 2.5}
    assert [error.kind for error in service.engine.check("fl_client_start", context).errors] == ["wrong_type"]
    rule["parameters"] = {"factor": 1.0}
    policy_file.write_text(json.dumps(document))
    service.reload()
    assert service.engine.check("fl_client_start", context).allowed is True


def _rename_over(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(path)


def _rewrite(path: Path, text: str) -> None:
    path.write_text(text)


def _rewrite_keeping_the_time(path: Path, text: str) -> None:
    status = path.stat()
    path.write_text(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _delete_first(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def _put_a_link(path: Path, text: str) -> None:
    target = path.with_name(f"target-{len(list(path.parent.iterdir()))}")
    target.write_text(text)
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("way", [_rename_over, _rewrite, _rewrite_keeping_the_time, _delete_first, _put_a_link])
def test_every_way_to_change_a_file_is_seen(
    service: PolicyService, policy_file: Path, document: Document, way: Callable[[Path, str], None]
) -> None:
    service.start()
    versions = [service.revision.version]
    for port in (8081, 8082, 8083):
        way(policy_file, with_port(document, port))
        eventually(partial(allows, service, port), f"port {port} is allowed")
        versions.append(service.revision.version)
    assert versions == sorted(set(versions))
    assert not allows(service, 8080)
    eventually(lambda: service.troubles.all() == (), "nothing is wrong any more")


def test_a_mounted_directory_that_is_swapped(services: Services, tmp_path: Path, document: Document) -> None:
    """Container platforms turn a link to a directory, so no file in it changes."""
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "policies.json").write_text(with_port(document, 8080 + number))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "mounted.json").symlink_to("..data/policies.json")
    service = services(policy_file=str(tmp_path / "mounted.json"))
    service.start()
    assert allows(service, 8081)
    (tmp_path / "..next").symlink_to("..2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    eventually(lambda: allows(service, 8082), "the other directory is in force")
    shutil.rmtree(tmp_path / "..1")
    assert service.troubles.all() == ()


@pytest.mark.parametrize("about", ["missing", "empty", "unknown action", "a directory"])
def test_watching_tells_a_failure_once_and_recovers(
    service: PolicyService, policy_file: Path, document: Document, monkeypatch: pytest.MonkeyPatch, about: str
) -> None:
    service.start()
    BROKEN[about][0](policy_file)
    eventually(lambda: codes(service) == ["reload_failed"], "the failure is seen")
    assert service._file is not None
    look = Mock(wraps=service._file.file.changed)
    monkeypatch.setattr(service._file.file, "changed", look)
    eventually(lambda: look.call_count >= 5, "the watcher looked again")
    assert types(service).count("RELOAD_FAILED") == 1
    _restore(policy_file, with_port(document, 8081).encode())
    eventually(lambda: allows(service, 8081) and not service.troubles.all(), "the file is in force")


def test_what_the_store_does_not_take_is_not_in_force(
    service: PolicyService, policy_file: Path, document: Document
) -> None:
    before = service.revision, service.store.revisions.documents()
    with locked(service):
        policy_file.write_text(with_port(document, 8081))
        service.reload()
        assert (service.revision, service.store.revisions.documents()) == before
        assert codes(service)[-1] == "reload_failed"
        assert "cannot be taken over" in service.troubles.all()[-1].detail
        assert "locked" in service.troubles.all()[-1].detail
        assert allows(service, 8080)
    eventually(partial(reloaded, service, 8081), "the store is back")
    eventually(lambda: service.troubles.all() == (), "nothing is wrong any more")


def test_a_file_that_could_not_be_taken_over_is_tried_again(
    service: PolicyService, policy_file: Path, document: Document
) -> None:
    service.start()
    with locked(service):
        policy_file.write_text(with_port(document, 8081))
        eventually(lambda: "reload_failed" in service.troubles, "the failure is seen")
        assert allows(service, 8080)
    eventually(lambda: allows(service, 8081) and not service.troubles.all(), "the file is in force")


# Changes through the API and in the file


def test_changes_on_both_sides_are_a_conflict(service: PolicyService, policy_file: Path, document: Document) -> None:
    service.administration.create(NEW)
    before = service.revision
    policy_file.write_text(with_port(document, 8081))
    service.reload()
    assert service.revision == before
    assert codes(service) == ["reload_conflict"]
    assert "file_wins" in service.troubles.all()[0].detail
    assert types(service)[-1] == "RELOAD_CONFLICT"
    assert allows(service, 8080)


def test_a_conflict_ends_when_the_file_is_as_it_was(
    service: PolicyService, policy_file: Path, document: Document
) -> None:
    service.administration.create(NEW)
    policy_file.write_text(with_port(document, 8081))
    service.reload()
    policy_file.write_text(json.dumps(document))
    service.reload()
    assert codes(service) == []
    assert "new" in service.policies


def test_a_conflict_ends_when_both_sides_agree(service: PolicyService, policy_file: Path, document: Document) -> None:
    service.administration.create(NEW)
    policy_file.write_text(with_port(document, 8081))
    service.reload()
    document["policies"]["new"] = NEW
    policy_file.write_text(json.dumps(document))
    before = service.revision
    service.reload()
    assert codes(service) == []
    assert service.revision == before


def test_a_conflict_ends_when_the_change_through_the_api_is_undone(
    service: PolicyService, policy_file: Path, document: Document
) -> None:
    service.start()
    service.administration.create(NEW)
    policy_file.write_text(with_port(document, 8081))
    eventually(lambda: codes(service) == ["reload_conflict"], "the conflict is seen")
    service.administration.delete("new")
    eventually(lambda: allows(service, 8081) and not service.troubles.all(), "the file is in force", seconds=6)


def test_a_number_of_another_kind_is_a_conflict_too(services: Services, policy_file: Path, document: Document) -> None:
    parameters = document["policies"]["night"]["rules"][0]["parameters"]
    service = services()
    service.administration.create(NEW)
    parameters["opens"] = 8.0
    policy_file.write_text(json.dumps(document))
    service.reload()
    assert codes(service) == ["reload_conflict"]


def test_a_file_that_was_broken_and_is_mended_is_only_a_conflict(
    service: PolicyService, policy_file: Path, document: Document
) -> None:
    service.administration.create(NEW)
    policy_file.write_text("{")
    service.reload()
    assert codes(service) == ["reload_failed"]
    policy_file.write_text(with_port(document, 8081))
    service.reload()
    assert codes(service) == ["reload_conflict"]


def test_the_file_wins_where_that_is_set(services: Services, policy_file: Path, document: Document) -> None:
    service = services(file_wins=True)
    service.administration.create(NEW)
    before = service.revision.version
    policy_file.write_text(with_port(document, 8081))
    service.reload()
    assert allows(service, 8081)
    assert "new" not in service.policies
    assert service.revision.version == before + 1
    assert service.troubles.all() == ()
    assert [kind for kind in types(service) if kind != "POLICY_APPLIED"][-2:] == ["POLICY_DELETED", "POLICY_UPDATED"]


def test_a_change_through_the_api_alone_is_no_conflict(service: PolicyService, policy_file: Path) -> None:
    service.administration.create(NEW)
    before = service.revision
    os.utime(policy_file)
    service.reload()
    assert service.revision == before
    assert service.troubles.all() == ()


# The number of the version


def test_versions_rise_and_never_fall(services: Services, policy_file: Path, document: Document) -> None:
    service = services()
    versions = [service.revision.version]
    service.administration.create(NEW)
    versions.append(service.revision.version)
    service.administration.delete("new")
    versions.append(service.revision.version)
    policy_file.write_text(with_port(document, 8081))
    service.reload()
    versions.append(service.revision.version)
    assert services().revision.version == versions[-1], "the same policies keep their number"
    policy_file.write_text(json.dumps(document))
    versions.append(services().revision.version)
    assert versions == list(range(versions[0], versions[0] + 5))


def test_the_number_is_above_that_of_the_file(services: Services, policy_file: Path, document: Document) -> None:
    document["version"] = 2
    policy_file.write_text(json.dumps(document))
    assert services().revision.version > 2


def test_a_pipe_is_refused_and_hangs_nobody(service: PolicyService, policy_file: Path, document: Document) -> None:
    policy_file.unlink()
    os.mkfifo(policy_file)
    service.reload()
    assert "not a regular file" in service.troubles.all()[0].detail
    policy_file.unlink()
    policy_file.write_text(with_port(document, 8081))
    service.reload()
    assert service.troubles.all() == ()


def test_a_change_does_not_wait_for_a_long_one(service: PolicyService) -> None:
    client = create_app(service).test_client()
    before = service.revision
    held, done = Event(), Event()

    def hold() -> None:
        with service._activation.lock:
            held.set()
            done.wait(10)

    holder = Thread(target=hold)
    holder.start()
    try:
        assert held.wait(10)
        answer = client.post("/policies", json=NEW)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert service.revision == before
    finally:
        done.set()
        holder.join()
    assert client.post("/policies", json=NEW).status_code == 201

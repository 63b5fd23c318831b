"""Changes through the API that reach the policy file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from tests.conftest import Services
from tests.http.shapes import problem
from tests.service.databases import locked
from tests.service.running import eventually

from policy_engine.http.app import create_app
from policy_engine.language.document import parse_document
from policy_engine.model.errors import StateError
from policy_engine.service import PolicyService

NEW: dict[str, Any] = {
    "id": "new",
    "type": "network_security",
    "description": "caf\u00e9",
    "rules": [{"action": "allow", "match": {"protocol": "udp"}}],
}


@pytest.fixture(params=["object", "array"])
def shaped(request: pytest.FixtureRequest, policy_file: Path, document: dict[str, Any]) -> dict[str, Any]:
    """The document in either shape, with all that may stand around the policies; the file holds it too."""
    if request.param == "array":
        document["policies"] = list(document["policies"].values())
    document.update(version=2, history=[{"action": "update", "version": 4}], updated_at=17.5)
    document["types"] = {"door": {"default": "deny", "required": ["who"]}}
    policy_file.write_text(json.dumps(document))
    return document


def test_the_shape_stays(services: Services, policy_file: Path, shaped: dict[str, Any]) -> None:
    service = services(file_write_back=True)
    service.administration.create(NEW)
    service.administration.merge("web", {"priority": 7})
    service.administration.delete("night")
    written = json.loads(policy_file.read_text())
    assert list(written) == list(shaped)
    policies = written.pop("policies")
    was = shaped.pop("policies")
    assert written == shaped
    assert type(policies) is type(was)
    if isinstance(policies, dict):
        assert [policy["id"] for policy in policies.values()] == list(policies)
        policies, was = list(policies.values()), list(was.values())
    assert [policy["id"] for policy in policies] == ["web", "start", "new"]
    assert policies[1] == was[2], "a policy that nobody changed is as it was written"
    assert policies[0].items() >= {**was[0], "priority": 7}.items()
    assert policies[2].items() >= NEW.items()
    assert "caf\u00e9" in policy_file.read_text(encoding="utf-8")


def test_its_own_change_is_not_foreign(services: Services, policy_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = services(file_write_back=True)
    service.start()
    service.administration.create(NEW)
    service.administration.merge("web", {"priority": 7})
    before = service.revision, service.events.page()
    assert service._file is not None
    read = Mock(wraps=service._file.file.read)
    monkeypatch.setattr(service._file.file, "read", read)
    policy_file.touch()
    eventually(lambda: read.called, "the file is read again")
    service.stop()
    assert (service.revision, service.events.page()) == before
    assert service.troubles.all() == ()


def test_a_later_change_of_the_file_is_no_conflict(services: Services, policy_file: Path) -> None:
    service = services(file_write_back=True)
    service.administration.create(NEW)
    document = json.loads(policy_file.read_text())
    document["policies"]["web"]["enabled"] = False
    policy_file.write_text(json.dumps(document))
    service.reload()
    assert service.troubles.all() == ()
    assert service.policies["web"].enabled is False
    assert "new" in service.policies


def test_a_restart_finds_the_same(services: Services, shaped: dict[str, Any]) -> None:
    service = services(file_write_back=True)
    service.administration.create(NEW)
    again = services(file_write_back=True)
    assert again.revision.version == service.revision.version
    assert again.revision.digest == service.revision.digest
    assert {key: policy.document for key, policy in again.policies.items()} == {
        key: policy.document for key, policy in service.policies.items()
    }
    assert len(again.policies) == len(shaped["policies"]) + 1


def test_without_the_setting_the_file_stays(service: PolicyService, policy_file: Path) -> None:
    content = policy_file.read_bytes()
    service.administration.create(NEW)
    service.administration.delete("web")
    assert policy_file.read_bytes() == content


def test_a_link_stays_a_link(services: Services, policy_file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(policy_file.name)
    services(file_write_back=True, policy_file=str(link)).administration.create(NEW)
    assert link.is_symlink()
    assert "new" in json.loads(policy_file.read_text())["policies"]


CHANGES = [
    ("POST", "/policies", NEW),
    ("PUT", "/api/v1/policies/web", {"priority": 7}),
    ("PUT", "/policies/web", {**NEW, "id": "web"}),
    ("POST", "/api/v1/policies/web/disable", None),
    ("DELETE", "/policies/web", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_a_file_that_cannot_be_written(  # noqa: PLR0917 - fixtures
    services: Services, policy_file: Path, tmp_path: Path, method: str, path: str, body: Any
) -> None:
    """The change is in force and lasting; the file follows when it can."""
    (tmp_path / "gone").mkdir()
    real = tmp_path / "gone" / "policies.json"
    policy_file.rename(real)
    policy_file.symlink_to(real)
    service = services(file_write_back=True)
    client = create_app(service).test_client()
    before = service.revision
    shutil.rmtree(tmp_path / "gone")
    assert client.open(path, method=method, json=body).status_code in {200, 201}
    assert service.revision.version == before.version + 1
    assert [trouble.code for trouble in service.troubles.all()] == ["write_back_failed"]
    assert str(policy_file) in service.troubles.all()[0].detail
    assert client.get("/readyz").get_json()["status"] == "degraded"
    service.start()
    real.parent.mkdir()
    eventually(lambda: service.troubles.all() == (), "the file was written")
    assert parse_document(real.read_bytes()).policy_set.policies.keys() == service.policies.keys()
    assert service.revision.version == before.version + 1


@pytest.mark.parametrize("write_back", [False, True])
@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_a_store_that_cannot_be_written(  # noqa: PLR0917 - fixtures
    services: Services,
    policy_file: Path,
    write_back: bool,  # noqa: FBT001
    method: str,
    path: str,
    body: Any,
) -> None:
    service = services(file_write_back=write_back)
    client = create_app(service).test_client()
    before = service.revision, policy_file.read_bytes()
    events = service.events.page().events
    with locked(service):
        assert problem(client.open(path, method=method, json=body), 503)["detail"]
        assert (service.revision, policy_file.read_bytes()) == before
        assert service.store.revisions.documents()[0].number == before[0].version
    eventually(lambda: client.open(path, method=method, json=body).status_code in {200, 201}, "the store is back")
    assert service.revision.version == before[0].version + 1
    told = service.events.page().events
    assert told[: len(events)] == events
    assert len(told) == len(events) + 1, "what was refused left no event"


@pytest.mark.parametrize("content", ["{", None])
def test_what_somebody_else_wrote_meanwhile_is_not_lost(
    services: Services, policy_file: Path, document: dict[str, Any], content: str | None
) -> None:
    service = services(file_write_back=True)
    document["policies"]["theirs"] = {**NEW, "id": "theirs"}
    theirs = content or json.dumps(document)
    policy_file.write_text(theirs)
    try:
        service.administration.create(NEW)
    except StateError:
        assert policy_file.read_text() == theirs
    else:
        assert {"theirs", "new"} <= json.loads(policy_file.read_text())["policies"].keys()


def test_a_file_that_was_deleted_and_is_written_again_is_no_trouble(services: Services, policy_file: Path) -> None:
    service = services(file_write_back=True)
    policy_file.unlink()
    service.reload()
    assert [trouble.code for trouble in service.troubles.all()] == ["reload_failed"]
    service.administration.create(NEW)
    assert service.troubles.all() == ()
    service.administration.delete("new")

"""The directory of functions: taken over when it changed, all of it or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Services
from tests.http.shapes import problem

from policy_engine.http.app import create_app
from policy_engine.pap import LOCAL
from policy_engine.service import PolicyService

CODE = "def judge(context):\n    return {'allowed': True}\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "functions"
    path.mkdir()
    (path / "judge.py").write_text(CODE)
    return path


@pytest.fixture
def watched(services: Services, directory: Path) -> PolicyService:
    return services(policy_functions_dir=str(directory))


def look(service: PolicyService) -> None:
    service._look()


def codes(service: PolicyService) -> list[str]:
    return [trouble.code for trouble in service.troubles.all()]


def kinds(service: PolicyService) -> list[str]:
    return [event.event_type for event in service.events.page().events]


def test_it_is_loaded_at_the_start_and_again_when_it_changed(watched: PolicyService, directory: Path) -> None:
    assert list(watched.functions.functions) == ["judge"]
    version = watched.revision.version
    look(watched)
    assert watched.revision.version == version
    (directory / "other.json").write_text(json.dumps({"function_id": "second", "code": CODE}))
    look(watched)
    assert list(watched.functions.functions) == ["judge", "second"]
    (directory / "judge.py").unlink()
    look(watched)
    assert list(watched.functions.functions) == ["second"]
    assert kinds(watched)[-3:] == ["FUNCTION_LOADED", "FUNCTION_LOADED", "FUNCTION_DELETED"]
    assert codes(watched) == []


def test_a_policy_of_the_file_uses_it(services: Services, directory: Path, policy_file: Path) -> None:
    policy_file.write_text(json.dumps({"policies": [{"id": "f", "type": "door", "function_id": "judge"}]}))
    service = services(policy_functions_dir=str(directory))
    assert service.check("door", {}).reason_code == "function_allow"
    assert codes(service) == []
    (directory / "judge.py").write_text(CODE.replace("True", "False"))
    look(service)
    assert service.check("door", {}).reason_code == "function_deny"


def test_the_first_revision_holds_the_file_and_the_directory(
    services: Services, directory: Path, policy_file: Path
) -> None:
    policy_file.write_text(json.dumps({"policies": [{"id": "f", "type": "door", "function_id": "judge"}]}))
    service = services(policy_functions_dir=str(directory))
    (first,) = service.store.revisions.newest()
    _, documents = service.store.revisions.documents(first.number)
    assert documents.functions.keys() == {"judge"}
    assert kinds(service) == ["ENGINE_START", "POLICY_LOADED", "FUNCTION_LOADED"]
    service.administration.create({"id": "g", "type": "door", "rules": [{"action": "deny"}]})
    service.administration.roll_back(first.number, cause=LOCAL)
    assert service.check("door", {}).reason_code == "function_allow"
    (directory / "judge.py").write_text(CODE.replace("True", "False"))
    look(service)
    assert codes(service) == []
    assert service.check("door", {}).reason_code == "function_deny"


def test_a_directory_that_is_refused_at_the_first_start_adds_nothing(services: Services, directory: Path) -> None:
    (directory / "judge.py").write_text("def judge(context")
    service = services(policy_functions_dir=str(directory))
    assert codes(service) == ["functions_refused"]
    (directory / "judge.py").write_text(CODE)
    look(service)
    assert codes(service) == []
    assert list(service.functions.functions) == ["judge"]


def test_a_rollback_to_policies_without_their_functions_is_refused(
    services: Services, directory: Path, policy_file: Path
) -> None:
    policy_file.write_text(json.dumps({"policies": [{"id": "f", "type": "door", "function_id": "judge"}]}))
    (directory / "judge.py").rename(directory / "judge.off")
    service = services(policy_functions_dir=str(directory))
    first = service.revision.version
    (directory / "judge.off").rename(directory / "judge.py")
    look(service)
    before = service.revision
    response = create_app(service).test_client().post(f"/api/v1/revisions/{first}/rollback")
    answer = problem(response, 409)
    assert answer["errors"][0]["pointer"] == "/judge"
    assert "in use by `f`" in answer["detail"]
    assert service.revision is before
    assert service.check("door", {}).allowed


@pytest.mark.parametrize("content", ["def judge(context", "def judge(context): return x", "", "x" * 300_000])
def test_an_invalid_file_changes_nothing(watched: PolicyService, directory: Path, content: str) -> None:
    (directory / "other.py").write_text(CODE)
    (directory / "judge.py").write_text(content)
    version = watched.revision.version
    look(watched)
    look(watched)
    assert watched.revision.version == version
    assert list(watched.functions.functions) == ["judge"]
    (trouble,) = watched.troubles.all()
    assert trouble.code == "functions_refused"
    assert trouble.errors[0].pointer == "/judge.py"
    assert kinds(watched).count("RELOAD_FAILED") == 1
    (directory / "judge.py").write_text(CODE)
    look(watched)
    assert codes(watched) == []
    assert list(watched.functions.functions) == ["judge", "other"]


def test_a_directory_that_is_gone_changes_nothing(watched: PolicyService, directory: Path) -> None:
    directory.rename(directory.with_name("moved"))
    look(watched)
    assert codes(watched) == ["functions_refused"]
    assert list(watched.functions.functions) == ["judge"]
    directory.with_name("moved").rename(directory)
    look(watched)
    assert codes(watched) == []


def test_a_function_that_is_in_use_cannot_go(watched: PolicyService, directory: Path) -> None:
    watched.administration.create({"id": "f", "type": "door", "function_id": "judge"})
    (directory / "judge.py").unlink()
    look(watched)
    assert codes(watched) == ["functions_refused"]
    assert "`judge` is in use by `f`" in watched.troubles.all()[0].detail
    assert watched.check("door", {}).allowed
    watched.administration.delete("f")
    look(watched)
    assert codes(watched) == []
    assert watched.functions.functions == {}


def test_a_change_on_both_sides_is_a_conflict(watched: PolicyService, directory: Path) -> None:
    watched.functions.merge("judge", {"description": "by hand"})
    look(watched)
    assert codes(watched) == []
    (directory / "judge.py").write_text(CODE + "\n")
    look(watched)
    assert codes(watched) == ["functions_conflict"]
    assert watched.functions.functions["judge"].description == "by hand"
    assert "RELOAD_CONFLICT" in kinds(watched)
    (directory / "judge.py").write_text(CODE)
    look(watched)
    assert codes(watched) == []


def test_files_win_where_they_are_to(services: Services, directory: Path) -> None:
    service = services(policy_functions_dir=str(directory), file_wins=True)
    service.functions.merge("judge", {"description": "by hand"})
    (directory / "judge.py").write_text(CODE + "\n")
    look(service)
    assert service.functions.functions["judge"].description == ""


def test_the_policy_file_does_not_take_functions_for_a_change_of_its_own(
    watched: PolicyService, policy_file: Path, document: dict[str, Any]
) -> None:
    watched.functions.merge("judge", {"description": "by hand"})
    document["policies"]["web"]["priority"] = 7
    policy_file.write_text(json.dumps(document))
    look(watched)
    assert codes(watched) == []
    assert watched.policies["web"].priority == 7
    assert watched.functions.functions["judge"].description == "by hand"


def test_what_was_loaded_is_there_after_a_restart(services: Services, directory: Path) -> None:
    first = services(policy_functions_dir=str(directory))
    version = first.revision.version
    services.end(first)
    again = services(policy_functions_dir=str(directory))
    assert again.revision.version == version
    assert list(again.functions.functions) == ["judge"]


def test_no_worker_runs_until_a_function_is_called(watched: PolicyService) -> None:
    assert watched.runtime.counters.snapshot().calls == 0
    assert watched.runtime._sandbox._pool is None  # type: ignore[attr-defined]

"""Signed bundles in a running service: what is believed comes into force; of anything else nothing does."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Event, Thread
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.bundle.making import ANN, BEN, EVE, bundle, policies
from tests.service.running import eventually

from policy_engine.activation import Cause
from policy_engine.bundle.archive import pack
from policy_engine.bundle.refusal import BundleError
from policy_engine.bundle_source import make_source
from policy_engine.cli.policies import import_policies
from policy_engine.config import Settings, load_settings
from policy_engine.model.errors import (
    BundleUnavailableError,
    SettingsError,
    StateError,
    UnsignedChangeError,
)
from policy_engine.service import PolicyService
from policy_engine.store.backup import back_up, restore
from policy_engine.store.database import Database
from policy_engine.store.keys import KeyDirectory

BY = Cause(author="ann")
DAY = timedelta(days=1)


def made(version: int = 1, port: int = 80, *, days: float = 30, **more: Any) -> bytes:
    signers = more.pop("signers", (ANN,))
    files = {"policies.json": policies(port)}
    return pack(bundle(*signers, files=files, version=version, now=datetime.now(UTC), days=days, **more))


class Place:
    """A directory with keys and a bundle, and services that live on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "bundle.json"
        self.keys = []
        for name, key in (("ann", ANN), ("ben", BEN)):
            path = directory / f"{name}.pub.pem"
            path.write_bytes(key.public.pem())
            self.keys.append(str(path))
        self.started: list[PolicyService] = []

    def put(self, content: bytes) -> None:
        """Put a bundle there at once: half of one would be refused by whoever looks in that moment."""
        draft = self.file.with_suffix(".draft")
        draft.write_bytes(content)
        draft.replace(self.file)

    def settings(self, **more: Any) -> Settings:
        values = {
            "data_dir": str(self.directory / "data"),
            "bundle_source": str(self.file),
            "bundle_poll_seconds": 0.05,
        }
        return Settings(**{**values, "bundle_keys": tuple(self.keys), **more})

    def service(self, **more: Any) -> PolicyService:
        service = PolicyService(self.settings(**more))
        self.started.append(service)
        return service

    def stop(self) -> None:
        while self.started:
            self.started.pop().stop()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    there = Place(tmp_path)
    there.put(made())
    yield there
    there.stop()


def allows(service: PolicyService, port: int) -> bool:
    return service.check("network_security", {"protocol": "tcp", "dst_port": port}).allowed


def told(service: PolicyService, event_type: str) -> list[dict[str, Any]]:
    return [event.details for event in service.events.page(event_types={event_type}).events]


def test_the_first_bundle_is_in_force_from_the_start(place: Place) -> None:
    service = place.service(require_signatures=True)
    assert allows(service, 80)
    active = service.bundles.active()
    assert active is not None
    assert (active.version, active.signers, active.policy_version) == (1, (ANN.public.key_id,), 1)
    assert active.policies_digest == service.revision.digest
    revision = service.store.revisions.get(1)
    assert revision.source == "bundle"
    assert active.digest in revision.reason
    (event,) = told(service, "BUNDLE_ACTIVATED")
    assert (event["version"], event["digest"], event["policy_version"]) == (1, active.digest, 1)
    assert [event["policy_id"] for event in told(service, "POLICY_CREATED")] == ["web"]


FUNCTION = "def f(context):\n    return {'allowed': context['dst_port'] == PORT, 'reason': 'asked'}\n"


def judged(version: int, port: int) -> bytes:
    """A bundle whose policy asks a function."""
    judge = {"name": "judge", "type": "fl_client_start", "function_id": "f"}
    files = {
        "policies.json": json.dumps({"policies": {"judge": judge}}).encode(),
        "functions/f.py": FUNCTION.replace("PORT", str(port)).encode(),
    }
    return pack(bundle(ANN, files=files, version=version, now=datetime.now(UTC)))


def test_functions_come_into_force_with_the_policies_that_ask_them(place: Place) -> None:
    place.put(judged(1, 80))
    service = place.service()

    def asked(port: int) -> bool:
        return service.check("fl_client_start", {"dst_port": port}).allowed

    assert (asked(80), asked(81)) == (True, False)
    service.start()
    place.put(judged(2, 81))
    eventually(lambda: asked(81), "the second bundle is in force")
    assert not asked(80)
    active = service.bundles.active()
    assert active is not None
    assert active.policies_digest == service.revision.digest
    place.stop()
    assert place.service().check("fl_client_start", {"dst_port": 81}).reason_code == "function_allow"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (made(signers=(EVE,)), "unknown_key"),
        (b"{}", "malformed"),
        (policies(), "malformed"),
        (made(days=-1), "expired"),
    ],
)
def test_without_a_first_bundle_nothing_starts(place: Place, content: bytes, code: str) -> None:
    place.put(content)
    with pytest.raises(BundleError) as caught:
        place.service()
    assert caught.value.code == code


def test_without_a_source_of_signed_policies_nothing_starts(place: Place) -> None:
    with pytest.raises(StateError, match="no `bundle_source`"):
        place.service(bundle_source="", require_signatures=True)
    place.file.unlink()
    with pytest.raises(BundleUnavailableError, match=r"bundle\.json"):
        place.service()


def test_a_newer_bundle_is_pulled(place: Place) -> None:
    service = place.service()
    service.start()
    place.put(made(2, 443))
    eventually(lambda: allows(service, 443), "the newer bundle is in force")
    assert not allows(service, 80)
    assert not service.troubles.all()
    assert [event["version"] for event in told(service, "BUNDLE_ACTIVATED")] == [1, 2]


def altered(content: bytes) -> bytes:
    document = json.loads(content)
    document["files"]["policies.json"] = document["files"]["policies.json"].replace("443", "444")
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def more_files(content: bytes) -> bytes:
    document = json.loads(content)
    document["files"] = {"functions/x.py": "", **document["files"]}
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


REFUSED: dict[str, Callable[[], bytes]] = {
    "malformed": lambda: made(2, 443)[:-1],
    "unsigned": lambda: made(2, 443, signers=()),
    "unknown_key": lambda: made(2, 443, signers=(EVE,)),
    "altered_file": lambda: altered(made(2, 443)),
    "extra_file": lambda: more_files(made(2, 443)),
    "missing_file": lambda: altered(made(2, 443)).replace(b"policies.json", b"functions/x.py", 1),
    "expired": lambda: made(2, 443, days=-1),
    "other_name": lambda: made(2, 443, name="staging"),
    "replayed": lambda: made(1, 443),
}


@pytest.mark.parametrize("code", REFUSED)
def test_what_is_refused_changes_nothing_and_is_told_once(place: Place, code: str) -> None:
    service = place.service()
    before = service.revision
    place.put(REFUSED[code]())
    for _ in range(3):
        service.bundles.look()
    assert service.revision is before
    assert allows(service, 80)
    (event,) = told(service, "BUNDLE_REFUSED")
    assert (event["code"], event["source"]) == (code, str(place.file))
    (trouble,) = service.troubles.all()
    assert trouble.code == "bundle_refused"
    assert f"({code})" in trouble.detail
    assert service.bundles.last_error is not None
    assert service.bundles.last_error.code == code
    place.put(made(2, 443))
    service.bundles.look()
    assert allows(service, 443)
    assert not service.troubles.all()
    assert service.bundles.last_error is None


def test_too_few_signatures(place: Place) -> None:
    place.put(made(1, signers=(ANN, BEN)))
    service = place.service(bundle_threshold=2)
    place.put(made(2, 443))
    service.bundles.look()
    assert told(service, "BUNDLE_REFUSED")[0]["code"] == "too_few_signatures"
    place.put(made(2, 443, signers=(ANN, BEN)))
    service.bundles.look()
    assert allows(service, 443)


def test_a_refusal_is_told_once_over_restarts(place: Place) -> None:
    service = place.service()
    place.put(made(2, 443, signers=(EVE,)))
    service.bundles.look()
    place.stop()
    service = place.service()
    service.bundles.look()
    assert len(told(service, "BUNDLE_REFUSED")) == 1
    assert "bundle_refused" in service.troubles


def test_an_old_bundle_is_refused_after_a_restart_and_after_a_rollback(place: Place) -> None:
    first = place.file.read_bytes()
    service = place.service()
    service.bundles.take(made(2, 443), cause=BY)
    service.administration.roll_back(1, cause=Cause(author="ann", source="rollback"))
    assert allows(service, 80)
    for _ in range(2):
        for old in (first, made(2, 22)):
            with pytest.raises(BundleError) as caught:
                service.bundles.take(old, cause=BY)
            assert caught.value.code == "replayed"
        place.stop()
        service = place.service()
    service.bundles.take(made(3, 443), cause=BY)
    assert allows(service, 443)


def test_an_old_bundle_is_refused_after_a_restore(place: Place) -> None:
    service = place.service()
    backup = place.directory / "backup.db"
    back_up(service.store.database, backup, lambda _done, _total: None)
    service.bundles.take(made(2, 443), cause=BY)
    place.stop()
    put_back(service, backup)
    service = place.service()
    assert allows(service, 80)
    for old in (made(1, 22), made(2, 22)):
        with pytest.raises(BundleError, match="replayed"):
            service.bundles.take(old, cause=BY)
    service.bundles.take(made(3, 443), cause=BY)
    assert allows(service, 443)


def put_back(service: PolicyService, backup: Path) -> None:
    """Restore a backup into the store of a service, which may be running."""
    options = service.settings.store_options
    database = Database(options.url)
    try:
        keys = KeyDirectory(service.settings.key_path)
        restore(
            database, options.tenant, backup, keys, author="ann", replace=False, progress=lambda _done, _total: None
        )
    finally:
        database.close()


def codes(service: PolicyService) -> list[str]:
    return [trouble.code for trouble in service.troubles.all()]


@pytest.mark.parametrize("require_signatures", [False, True])
def test_what_a_restore_took_away_is_pulled_again(place: Place, *, require_signatures: bool) -> None:
    service = place.service(require_signatures=require_signatures)
    backup = place.directory / "backup.db"
    back_up(service.store.database, backup, lambda _done, _total: None)
    newer = made(2, 443)
    place.put(newer)
    service.bundles.look()
    assert allows(service, 443)
    put_back(service, backup)
    service.bundles.watch()
    assert allows(service, 80)
    assert codes(service) == ["bundle_not_in_force"]
    service.start()  # its writer, too, has to find out about the restore
    eventually(lambda: allows(service, 443), "the bundle is pulled again")
    eventually(lambda: not codes(service), "nothing is wrong any more")
    active = service.bundles.active()
    assert active is not None
    assert (active.version, active.policy_version) == (2, service.revision.version)
    assert [event["version"] for event in told(service, "BUNDLE_ACTIVATED")] == [1, 2]
    before = service.revision
    for _ in range(3):
        service.bundles.look()
    assert service.revision is before


def test_what_a_restore_took_away_can_be_handed_in_again(place: Place) -> None:
    service = place.service(require_signatures=True)
    backup = place.directory / "backup.db"
    back_up(service.store.database, backup, lambda _done, _total: None)
    newer = made(2, 443, days=1)
    service.bundles.take(newer, cause=BY)
    place.stop()
    put_back(service, backup)
    service = place.service(bundle_source="", require_signatures=True)
    assert allows(service, 80)
    assert codes(service) == ["bundle_not_in_force"]
    service.bundles._clock = lambda: datetime.now(UTC) + 2 * DAY
    service.bundles.take(newer, cause=BY)
    assert allows(service, 443)
    assert codes(service) == []
    service.bundles.watch()
    assert codes(service) == ["bundle_expired"]


def test_what_a_restore_took_away_is_pulled_again_before_anything_is_decided(place: Place) -> None:
    service = place.service()
    backup = place.directory / "backup.db"
    back_up(service.store.database, backup, lambda _done, _total: None)
    place.put(made(2, 443))
    service.bundles.look()
    place.stop()
    put_back(service, backup)
    service = place.service()
    assert allows(service, 443)
    assert not codes(service)


def test_what_the_api_changed_stays_and_is_told_until_the_bundle_is_handed_in(place: Place) -> None:
    service = place.service()
    service.administration.delete("web", cause=BY)
    service.bundles.watch()
    service.bundles.look()
    assert not allows(service, 80)
    assert codes(service) == ["bundle_not_in_force"]
    place.stop()
    service = place.service()
    service.bundles.look()
    assert not allows(service, 80)
    assert codes(service) == ["bundle_not_in_force"]
    service.bundles.take(place.file.read_bytes(), cause=BY)
    assert allows(service, 80)
    assert not codes(service)
    active = service.bundles.active()
    assert active is not None
    assert active.policy_version == service.revision.version


def test_a_changed_function_is_told(place: Place) -> None:
    place.put(judged(1, 80))
    service = place.service()
    service.start()
    service.functions.merge("f", {"code": FUNCTION.replace("PORT", "81")}, cause=BY)
    eventually(lambda: "bundle_not_in_force" in service.troubles, "a running service finds out")


def test_where_signatures_come_to_be_required_the_bundle_comes_back_by_itself(place: Place) -> None:
    service = place.service()
    service.administration.delete("web", cause=BY)
    place.stop()
    place.file.unlink()
    service = place.service(require_signatures=True, bundle_source="")
    assert allows(service, 80)
    assert not codes(service)
    revision = service.store.revisions.get(service.revision.version)
    assert (revision.author, revision.source) == ("require_signatures", "bundle")


def test_numbers_that_are_written_otherwise_are_not_what_was_signed(place: Place) -> None:
    files = {"policies.json": policies(metadata={"x": 1})}
    place.put(pack(bundle(ANN, files=files, now=datetime.now(UTC))))
    service = place.service()
    service.administration.merge("web", {"metadata": {"x": 1.0}}, cause=BY)
    active = service.bundles.active()
    assert active is not None
    assert active.policies_digest == service.revision.digest
    service.bundles.watch()
    assert codes(service) == ["bundle_not_in_force"]
    service.administration.merge("web", {"metadata": {"x": 1}}, cause=BY)
    service.bundles.watch()
    assert codes(service) == []


def test_an_older_bundle_does_not_come_back_over_a_newer_one(place: Place) -> None:
    service = place.service(require_signatures=True)
    known = service.bundles.active()
    assert known is not None
    service.bundles.take(made(2, 443), cause=BY)
    service.bundles._bring_back(known)
    assert allows(service, 443)


def test_without_a_source_a_bundle_is_one_change_among_others(place: Place) -> None:
    file = place.directory / "policies.json"
    file.write_bytes(policies(22))
    service = place.service(bundle_source="", policy_file=str(file))
    service.bundles.take(made(), cause=BY)
    service.administration.delete("web", cause=BY)
    service.bundles.watch()
    assert not codes(service)


def test_without_a_source_a_bundle_that_expires_is_told_too(place: Place) -> None:
    place.service()
    place.stop()
    service = place.service(bundle_source="", require_signatures=True)
    service.bundles._clock = lambda: datetime.now(UTC) + 31 * DAY
    service.start()
    eventually(lambda: codes(service) == ["bundle_expired"], "a running service finds out")


@pytest.mark.parametrize("kind", ["file", "url"])
def test_a_bundle_that_expired_by_a_wrong_clock_is_tried_again(place: Place, kind: str) -> None:
    newer = made(2, 443)
    with serving(made()) as served:
        source = str(place.file) if kind == "file" else f"http://127.0.0.1:{served.port}/b"
        service = place.service(bundle_source=source)
        place.put(newer)
        served.content, served.tag = newer, '"2"'
        right = service.bundles._clock
        service.bundles._clock = lambda: datetime.now(UTC) + 31 * DAY
        for _ in range(2):
            service.bundles.look()
        assert [event["code"] for event in told(service, "BUNDLE_REFUSED")] == ["expired"]
        service.bundles._clock = right
        service.bundles.look()
        assert allows(service, 443)
        assert not codes(service)


def test_an_import_is_refused_where_signatures_are_required(place: Place) -> None:
    service = place.service()
    before = service.revision
    file = place.directory / "policies.json"
    file.write_bytes(policies(22))
    variables = {
        "POLICY_DATA_DIR": str(place.directory / "data"),
        "POLICY_BUNDLE_KEYS": place.keys[0],
        "POLICY_REQUIRE_SIGNATURES": "1",
    }
    result = CliRunner(env=variables).invoke(import_policies, [str(file)])
    assert (result.exit_code, "require_signatures" in result.stderr) == (2, True)
    assert not service._activation.catch_up()
    assert service.revision is before


def test_the_same_bundle_again_changes_nothing(place: Place) -> None:
    service = place.service()
    before = service.revision
    active = service.bundles.active()
    assert service.bundles.take(place.file.read_bytes(), cause=BY) == active
    assert service.revision is before
    assert len(told(service, "BUNDLE_ACTIVATED")) == 1


def test_a_newer_bundle_of_the_same_policies_makes_no_revision(place: Place) -> None:
    service = place.service()
    before = service.revision
    active = service.bundles.take(made(5), cause=BY)
    assert (active.version, active.policy_version) == (5, 1)
    assert service.revision is before
    with pytest.raises(BundleError, match="replayed"):
        service.bundles.take(made(4, 443), cause=BY)


def test_a_bundle_that_expires_in_force_stays_and_is_told(place: Place) -> None:
    service = place.service()
    service.bundles._clock = lambda: datetime.now(UTC) + 31 * DAY
    service.bundles.look()
    assert [trouble.code for trouble in service.troubles.all()] == ["bundle_expired"]
    assert allows(service, 80)
    with pytest.raises(BundleError, match="expired"):
        service.bundles.take(made(2, 443), cause=BY)
    service.bundles.take(made(2, 443, days=60), cause=BY)
    service.bundles.look()
    assert "bundle_expired" not in service.troubles


def test_unsigned_changes_are_refused_where_signatures_are_required(place: Place) -> None:
    service = place.service(require_signatures=True)
    service.bundles.take(made(2, 443), cause=BY)
    before, events = service.revision, service.events.page()
    administration = service.administration
    for change in (
        lambda: administration.create({"type": "network_security", "rules": []}),
        lambda: administration.merge("web", {"priority": 3}),
        lambda: administration.replace("web", {"type": "network_security", "rules": []}),
        lambda: administration.enable("web", enabled=False),
        lambda: administration.delete("web"),
        lambda: administration.roll_back(1, cause=BY),
    ):
        with pytest.raises(UnsignedChangeError):
            change()
    assert service.revision is before
    assert service.events.page() == events


def test_a_policy_file_is_not_taken_where_signatures_are_required(place: Place) -> None:
    file = place.directory / "policies.json"
    file.write_bytes(policies(22))
    service = place.service(require_signatures=True, policy_file=str(file))
    assert allows(service, 80)
    file.write_bytes(policies(23))
    service.start()
    service.reload()
    assert service.revision.version == 1


def test_a_bundle_is_taken_beside_a_policy_file(place: Place) -> None:
    file = place.directory / "policies.json"
    file.write_bytes(policies(22))
    service = place.service(bundle_source="", policy_file=str(file))
    assert allows(service, 22)
    service.bundles.take(made(), cause=BY)
    assert allows(service, 80)
    file.write_bytes(policies(23))
    service.reload()
    assert allows(service, 80)
    assert "reload_conflict" in service.troubles


def test_without_keys_a_signed_bundle_is_refused(place: Place) -> None:
    file = place.directory / "policies.json"
    file.write_bytes(policies(22))
    service = place.service(bundle_source="", bundle_keys=(), policy_file=str(file))
    with pytest.raises(BundleError) as caught:
        service.bundles.take(made(), cause=BY)
    assert caught.value.code == "no_keys"
    assert allows(service, 22)


def test_a_directory(place: Place) -> None:
    directory = place.directory / "set"
    directory.mkdir()

    def write(content: bytes) -> None:
        document = json.loads(content)
        for path, text in document["files"].items():
            (directory / path).write_text(text)
        envelope = json.dumps(document["manifest"], separators=(",", ":"), sort_keys=True)
        (directory / "manifest.dsse.json").write_text(envelope)

    write(made())
    service = place.service(bundle_source=str(directory))
    assert allows(service, 80)
    write(made(2, 443))
    service.bundles.look()
    assert allows(service, 443)
    (directory / "manifest.dsse.json").write_text("{")
    for _ in range(2):
        service.bundles.look()
    (directory / "manifest.dsse.json").unlink()
    service.bundles.look()
    (directory / "sub").mkdir()
    (directory / "sub" / "deeper").mkdir()
    service.bundles.look()
    assert [event["code"] for event in told(service, "BUNDLE_REFUSED")] == ["malformed", "unsigned", "malformed"]
    assert allows(service, 443)


def test_a_pipe_does_not_hold_up_the_puller(place: Place) -> None:
    service = place.service()
    place.file.unlink()
    os.mkfifo(place.file)
    service.bundles.look()
    assert "not a regular file" in service.troubles.all()[0].detail


@pytest.mark.parametrize("key", [b"", b"-----BEGIN PUBLIC KEY-----\n", ANN.pem()])
def test_a_key_that_is_none(place: Place, key: bytes) -> None:
    Path(place.keys[0]).write_bytes(key)
    with pytest.raises(StateError, match=r"ann\.pub\.pem"):
        place.service()


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"bundle_source": "x"}, "bundle_keys"),
        ({"require_signatures": True}, "bundle_keys"),
        ({"bundle_source": "x", "bundle_keys": "a", "bundle_threshold": 2}, "bundle_threshold"),
        ({"bundle_source": "x", "bundle_keys": "a", "bundle_threshold": 0}, "bundle_threshold"),
        ({"bundle_source": "x", "bundle_keys": "a", "file_write_back": True}, "file_write_back"),
        ({"bundle_source": "http://policies.example/b", "bundle_keys": "a"}, "bundle_source"),
        ({"bundle_source": "ftp://policies.example/b", "bundle_keys": "a"}, "bundle_source"),
        ({"bundle_source": "https://ann:secret@policies.example/b", "bundle_keys": "a"}, "bundle_source"),
        ({"bundle_source": "https:///b", "bundle_keys": "a"}, "bundle_source"),
        ({"bundle_source": "https://x:99999/b", "bundle_keys": "a"}, "bundle_source"),
    ],
)
def test_settings_that_do_not_go_together(values: dict[str, Any], setting: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({}, values)
    assert caught.value.setting == setting


@pytest.mark.parametrize("values", [{"bundle_source": "b"}, {"require_signatures": True}])
def test_a_directory_of_functions_that_is_not_read_is_told(values: dict[str, Any]) -> None:
    given = {"bundle_keys": "a.pem", "policy_functions_dir": "functions"}
    (warning,) = load_settings({}, {**given, **values}).warnings
    assert "`policy_functions_dir` is not read" in warning
    assert load_settings({}, given).warnings == ()


def test_settings_that_go_together() -> None:
    for source in ("https://policies.example/b?x=1", "http://127.0.0.1:8000/b", "http://[::1]/b", "/var/policies", "b"):
        values = {"bundle_source": source, "bundle_keys": "a.pem, b.pem", "bundle_threshold": 2}
        assert load_settings({}, values).settings.bundle_keys == ("a.pem", "b.pem")


# From a web server


class Served:
    """A web server that serves one bundle, and remembers what it was asked and what it answered."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.tag: str | None = '"1"'
        self.status = 200
        self.cut = 0
        self.answers: list[int] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status = served.status
                if status == 200 and served.tag and self.headers.get("If-None-Match") == served.tag:
                    status = 304
                served.answers.append(status)
                self.send_response(status)
                body = served.content if status == 200 else b""
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                if served.tag:
                    self.send_header("ETag", served.tag)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) - served.cut])

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@contextmanager
def serving(content: bytes, context: ssl.SSLContext | None = None) -> Iterator[Served]:
    served = Served(content)
    if context is not None:
        served.server.socket = context.wrap_socket(served.server.socket, server_side=True)
    thread = Thread(target=served.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.server.shutdown()
        served.server.server_close()
        thread.join()


def test_a_server_is_asked_with_the_tag_of_the_last_bundle(place: Place) -> None:
    with serving(made()) as served:
        service = place.service(bundle_source=f"http://127.0.0.1:{served.port}/b")
        served.answers.clear()
        service.bundles.look()
        service.bundles.look()
        assert served.answers == [304, 304]
        served.content, served.tag = made(2, 443), '"2"'
        service.bundles.look()
        assert allows(service, 443)
        served.content, served.tag = made(3, 8080), None
        service.bundles.look()
        service.bundles.look()
        assert served.answers[2:] == [200, 200, 200]
        assert allows(service, 8080)
        assert [event["version"] for event in told(service, "BUNDLE_ACTIVATED")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"status": 500}, "500"), ({"status": 302}, "302"), ({"status": 404}, "404"), ({"cut": 10}, "ends before")],
)
def test_a_server_in_trouble_leaves_the_last_good_bundle(place: Place, change: dict[str, int], said: str) -> None:
    with serving(made()) as served:
        service = place.service(bundle_source=f"http://127.0.0.1:{served.port}/b")
        served.content, served.tag = made(2, 443), '"2"'
        for name, value in change.items():
            setattr(served, name, value)
        served.answers.clear()
        service.bundles.look()
        (trouble,) = service.troubles.all()
        assert trouble.code == "bundle_unavailable"
        assert said in trouble.detail
        assert allows(service, 80)
        for _ in range(20):
            service.bundles.look()
        assert len(served.answers) < 8  # it asks less and less often
        served.status, served.cut = 200, 0
        for _ in range(9):
            service.bundles.look()
        assert allows(service, 443)
        assert not service.troubles.all()
        assert not told(service, "BUNDLE_REFUSED")


@pytest.mark.parametrize("sent", [b"H", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"])
@pytest.mark.parametrize("secured", [False, True])
def test_a_server_that_sends_slowly_is_cut_off(
    place: Place, monkeypatch: pytest.MonkeyPatch, sent: bytes, *, secured: bool
) -> None:
    """Each byte comes in time, but there is no end of them."""
    monkeypatch.setattr("policy_engine.bundle_source._DEADLINE_SECONDS", 0.3)
    ca, context = authority(place.directory)
    ended = Event()

    class Slow(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.sendall(sent)
                while not ended.wait(0.02):
                    self.request.sendall(b"x")

    with ThreadingTCPServer(("127.0.0.1", 0), Slow) as server:
        if secured:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            url = f"{'https' if secured else 'http'}://127.0.0.1:{server.server_address[1]}/b"
            with pytest.raises(BundleUnavailableError, match="in time"):
                make_source(url, str(ca)).fetch()
        finally:
            ended.set()
            server.shutdown()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "closed connection"),
        (b"nonsense\r\n\r\n", "nonsense"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", "how long"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", "ends before"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "more than 100 headers"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "more than 65536 bytes"),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", "304"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + b" " * 20_000_000, "longer than"),
    ],
    ids=lambda value: repr(value[:60]),
)
def test_what_a_server_may_say_instead(answer: bytes, said: str) -> None:
    class Once(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.recv(10_000)
                self.request.sendall(answer)

    with ThreadingTCPServer(("127.0.0.1", 0), Once) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            with pytest.raises(BundleUnavailableError, match=said):
                make_source(f"http://127.0.0.1:{server.server_address[1]}/b").fetch()
        finally:
            server.shutdown()


def test_a_server_that_is_gone(place: Place) -> None:
    with serving(made()) as served:
        service = place.service(bundle_source=f"http://127.0.0.1:{served.port}/b")
    service.bundles.look()
    assert service.bundles.last_error is not None
    assert service.bundles.last_error.code == "unavailable"
    assert allows(service, 80)


def authority(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """The certificate of a server on this machine, which vouches for itself, and what serves with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    certificate_file, key_file = directory / "ca.pem", directory / "server.pem"
    certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    return certificate_file, context


def test_over_tls_only_a_server_that_an_authority_vouches_for_is_asked(place: Place) -> None:
    ca, context = authority(place.directory)
    with serving(made(), context) as served:
        url = f"https://127.0.0.1:{served.port}/b"
        with pytest.raises(BundleUnavailableError, match="certificate verify failed"):
            place.service(bundle_source=url)
        assert not served.answers
        service = place.service(bundle_source=url, bundle_ca_file=str(ca))
        assert allows(service, 80)
        served.content, served.tag = made(2, 443), '"2"'
        service.bundles.look()
        service.bundles.look()
        assert allows(service, 443)
        assert served.answers[-1] == 304
        with pytest.raises(BundleUnavailableError, match="no certificates"):
            place.service(bundle_source=url, bundle_ca_file=str(place.directory / "nope"))


# Several processes


def test_of_several_services_one_activates_a_bundle(place: Place, postgres_url: str) -> None:
    services = [place.service(database=postgres_url, data_dir=str(place.directory / name)) for name in ("a", "b", "c")]
    for service in services:
        service.start()
    place.put(made(2, 443))
    eventually(lambda: all(allows(service, 443) for service in services), "all have the newer bundle")
    place.put(made(3, 22, signers=(EVE,)))
    eventually(lambda: all("bundle_refused" in service.troubles for service in services), "all refuse the forged one")
    assert [event["version"] for event in told(services[0], "BUNDLE_ACTIVATED")] == [1, 2]
    assert len(told(services[0], "BUNDLE_REFUSED")) == 1
    assert {service.revision.version for service in services} == {2}

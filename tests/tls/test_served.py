"""The real service over TLS: who gets in, and what is refused before a worker starts."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from http.client import HTTPException, HTTPSConnection, RemoteDisconnected
from pathlib import Path

import pytest
from tests.conftest import DOCUMENT
from tests.service.running import COMMAND, DEADLINE_SECONDS, Running, environment, eventually

from policy_engine.certificates import make_development_certificates
from policy_engine.client import PolicyClient
from policy_engine.model.errors import EngineUnavailableError


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    make_development_certificates(directory, hosts=("127.0.0.1", "localhost"), client="fl-server", days=2)
    make_development_certificates(directory / "strangers", hosts=("127.0.0.1",), client="fl-server", days=2)
    return directory


def trusting(certificates: Path, shown: Path | None = None, most: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client that knows the authority, and shows a certificate or none."""
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    if shown is not None:
        context.load_cert_chain(shown / "client.pem", shown / "client-key.pem")
    if most is not None:
        context.maximum_version = most
    return context


def start(directory: Path, certificates: Path, tls: ssl.SSLContext, **more: str) -> Running:
    policy_file = directory / "policies.json"
    policy_file.write_text(json.dumps(DOCUMENT))
    settings = {
        "POLICY_FILE": str(policy_file),
        "POLICY_TLS_CERTIFICATE": str(certificates / "server.pem"),
        "POLICY_TLS_KEY": str(certificates / "server-key.pem"),
        **more,
    }
    return Running.start(directory, settings, tls)


@pytest.fixture(scope="module")
def strict(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that takes TLS 1.3 and known clients alone."""
    running = start(
        tmp_path_factory.mktemp("strict"),
        certificates,
        trusting(certificates, certificates),
        POLICY_TLS_MIN_VERSION="1.3",
        POLICY_TLS_CLIENT_CA=str(certificates / "ca.pem"),
    )
    yield running
    running.stop()


@pytest.fixture(scope="module")
def optional(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that takes TLS 1.2 and verifies the certificates that clients show."""
    running = start(
        tmp_path_factory.mktemp("optional"),
        certificates,
        trusting(certificates),
        POLICY_TLS_CLIENT_CA=str(certificates / "ca.pem"),
        POLICY_TLS_CLIENT_VERIFY="optional",
    )
    yield running
    running.stop()


def ports(running: Running) -> tuple[int, int]:
    return running.port, running.stream_port


def ask(port: int, tls: ssl.SSLContext) -> int:
    """The status that a request gets."""
    connection = HTTPSConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS, context=tls)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status
    finally:
        connection.close()


REFUSED = (ssl.SSLError, ConnectionError, RemoteDisconnected)


def test_a_known_client_is_served(strict: Running, certificates: Path) -> None:
    with PolicyClient(f"https://127.0.0.1:{strict.port}", ssl_context=trusting(certificates, certificates)) as client:
        assert client.check("network_security", {"protocol": "tcp", "dst_port": 8080}).allowed
    assert strict.request("GET", "/livez", port=strict.stream_port).status == 404, "the stream's port speaks TLS too"


def test_a_client_without_certificate_is_refused(strict: Running, certificates: Path) -> None:
    for port in ports(strict):
        with pytest.raises(REFUSED):
            ask(port, trusting(certificates))
    with (
        PolicyClient(f"https://127.0.0.1:{strict.port}", ssl_context=trusting(certificates)) as client,
        pytest.raises(EngineUnavailableError),
    ):
        client.check("network_security", {"protocol": "tcp", "dst_port": 8080})


def test_a_client_of_another_authority_is_refused(strict: Running, optional: Running, certificates: Path) -> None:
    stranger = trusting(certificates, certificates / "strangers")
    for port in (*ports(strict), *ports(optional)):
        with pytest.raises(REFUSED):
            ask(port, stranger)


def test_a_server_of_another_authority_is_not_believed(strict: Running, certificates: Path) -> None:
    for port in ports(strict):
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(port, trusting(certificates / "strangers", certificates))


def test_an_old_version_is_refused(strict: Running, optional: Running, certificates: Path) -> None:
    old = trusting(certificates, certificates, ssl.TLSVersion.TLSv1_2)
    for port in ports(strict):
        with pytest.raises(REFUSED):
            ask(port, old)
    assert [ask(port, old) for port in ports(optional)] == [200, 404]


def test_a_certificate_is_optional_where_that_is_set(optional: Running, certificates: Path) -> None:
    for shown in (None, certificates):
        assert [ask(port, trusting(certificates, shown)) for port in ports(optional)] == [200, 404]


def test_plain_http_is_not_answered(optional: Running) -> None:
    tls, optional.tls = optional.tls, None
    try:
        for port in ports(optional):
            with pytest.raises((OSError, HTTPException)):
                optional.request("GET", "/livez", port=port)
        assert optional.request("GET", "/livez", port=optional.metrics_port).status == 200, "probes stay plain"
    finally:
        optional.tls = tls


def test_the_stream_is_encrypted(optional: Running, certificates: Path) -> None:
    moved = optional.request("GET", "/api/v1/events/stream")
    assert (moved.status, moved.headers["location"].partition(":")[0]) == (307, "https")
    connection = HTTPSConnection(
        "127.0.0.1", optional.stream_port, timeout=DEADLINE_SECONDS, context=trusting(certificates)
    )
    try:
        connection.request("GET", "/api/v1/events/stream?since_event_id=none")
        response = connection.getresponse()
        assert response.status == 200
        assert any(b"ENGINE_START" in response.readline() for _ in range(20))
    finally:
        connection.close()


def refused(directory: Path, *flags: str, **settings: str) -> str:
    """What is said by a service that does not start."""
    done = subprocess.run(
        [*COMMAND, "serve", "--data-dir", str(directory / "data"), "--port", "1", *flags],
        env=environment(**settings),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert not (directory / "data").exists(), "nothing is made before the settings are good"
    assert "Traceback" not in done.stderr
    return done.stderr


def test_verification_without_an_authority_is_refused(tmp_path: Path, certificates: Path) -> None:
    own = {
        "POLICY_TLS_CERTIFICATE": str(certificates / "server.pem"),
        "POLICY_TLS_KEY": str(certificates / "server-key.pem"),
        "POLICY_TLS_CLIENT_VERIFY": "required",
    }
    assert "`required` needs `tls_client_ca`" in refused(tmp_path, **own)


def test_plain_http_on_an_open_address_is_warned_of(tmp_path: Path) -> None:
    for host, warned in (("0.0.0.0", True), ("127.0.0.1", False)):  # noqa: S104 - what is to be warned of
        (tmp_path / host).mkdir()
        running = Running.start(tmp_path / host, {"HOST": host})
        try:
            eventually(running.alive, "it answers")
            assert ("without TLS" in running.log()) is warned
        finally:
            running.stop()

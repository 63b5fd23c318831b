"""The client over real sockets: it answers as the engine in process does, and says what went wrong."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Thread
from typing import Any

import msgspec
import pytest
from tests.client.serving import engine_behind, saying, serving
from tests.conftest import DOCUMENT, Processes
from tests.service.running import free_port

from policy_engine import PolicyEngine
from policy_engine.client import PolicyClient
from policy_engine.integrations.decider import FederationEngine
from policy_engine.model.decision import Decision
from policy_engine.model.errors import (
    EngineRefusedError,
    EngineUnavailableError,
    LateRoundError,
    RoundConflictError,
)
from policy_engine.service import PolicyService
from policy_engine.trust.observation import ClientUpdate, RoundObservation

FLOW = {"protocol": "tcp", "dst_port": 8080}


def observed(number: int, norm: float = 1.0) -> RoundObservation:
    clients = tuple(ClientUpdate(client_id=name, norm=norm, cos_ref=0.5, samples=10) for name in ("a", "b", "c"))
    return RoundObservation(federation="f", round=number, clients=clients)


def same(one: Decision, other: Decision) -> bool:
    """Whether two decisions say the same, apart from when and under which id."""
    varying = dict.fromkeys(("decision_id", "request_id", "evaluation_time_ms"), "")
    times = dict.fromkeys(("timestamp", "valid_until"), datetime.now(UTC))
    alike: dict[str, Any] = {**varying, **times, "policy_version": 0}
    return msgspec.structs.replace(one, **alike) == msgspec.structs.replace(other, **alike)


@pytest.fixture
def engine() -> PolicyEngine:
    return PolicyEngine.from_document(DOCUMENT)


@pytest.fixture
def asked(engine: PolicyEngine) -> Iterator[PolicyClient]:
    with serving(engine_behind(engine)) as server, PolicyClient(server.url) as client:
        yield client


def test_all_of_them_can_be_asked_alike(engine: PolicyEngine, service: PolicyService, asked: PolicyClient) -> None:
    engines: list[FederationEngine] = [engine, service, asked]
    for each in engines:
        assert each.check("network_security", FLOW).allowed


def test_the_service_answers_as_the_engine_does(engine: PolicyEngine, processes: Processes) -> None:
    running = processes()
    with PolicyClient(f"http://127.0.0.1:{running.port}") as client:
        decision = client.check("network_security", FLOW, explain=True, request_id="one")
        assert same(decision, engine.check("network_security", FLOW, explain=True))
        assert decision.explanation
        assert decision.request_id == "one"
        contexts = [FLOW, {"protocol": "tcp", "dst_port": 22}]
        many = client.check_many("network_security", contexts)
        assert all(map(same, many, engine.check_many("network_security", contexts)))
        night = client.check("fl_client_training", {}, at="2026-01-01T03:00:00Z")
        assert not night.allowed
        assert night.simulated
        for number in (1, 2, 3):
            assert client.observe(observed(number)) == engine.observe(observed(number))
        assert client.select("f", 4, ["a", "x"]) == engine.select("f", 4, ["a", "x"])
        with pytest.raises(RoundConflictError):
            client.observe(observed(3, norm=2.0))
        with pytest.raises(EngineRefusedError) as refused:
            client.check("network_security", {"dst.port": 1, "src": {"x": 1}, "a.b": 2})
        assert refused.value.status == 400


def test_trust_is_answered_over_the_wire(engine: PolicyEngine, asked: PolicyClient) -> None:
    advice = asked.observe(observed(1))
    assert advice == engine.observe(observed(1))
    assert asked.observe(observed(1)) == advice
    assert asked.select("f", 2, ["a", "z"]) == engine.select("f", 2, ["a", "z"])
    with pytest.raises(RoundConflictError, match="round 1 of federation `f`"):
        asked.observe(observed(1, norm=2.0))
    asked.observe(observed(5))
    with pytest.raises(LateRoundError) as late:
        asked.observe(observed(3))
    assert late.value.last_round == 5


def test_a_late_round_without_a_number_is_late_all_the_same() -> None:
    with serving(saying((409, b'{"code": "late"}'))) as server, PolicyClient(server.url) as client:
        with pytest.raises(LateRoundError) as late:
            client.observe(observed(7))
        assert late.value.last_round == 7


def test_another_conflict_is_a_refusal() -> None:
    with (
        serving(saying((409, b'{"detail": "no"}'))) as server,
        PolicyClient(server.url) as client,
        pytest.raises(EngineRefusedError),
    ):
        client.observe(observed(7))


def test_connections_are_kept(engine: PolicyEngine) -> None:
    with serving(engine_behind(engine)) as server, PolicyClient(server.url) as client:
        for _ in range(20):
            client.check("network_security", FLOW)
        assert server.connections == 1
        client.close()
        client.check("network_security", FLOW)
        assert server.connections == 2


def test_a_connection_that_was_closed_meanwhile_is_opened_again(engine: PolicyEngine) -> None:
    with serving(engine_behind(engine), closes=True) as server, PolicyClient(server.url) as client:
        for _ in range(5):
            assert client.check("network_security", FLOW).allowed
        assert len(server.headers) == 5


def test_threads_share_a_client(engine: PolicyEngine) -> None:
    with serving(engine_behind(engine)) as server, PolicyClient(server.url) as client, ThreadPoolExecutor(8) as pool:
        ports = [8080, 22] * 100
        answers = pool.map(lambda port: client.check("network_security", {**FLOW, "dst_port": port}).allowed, ports)
        assert list(answers) == [port == 8080 for port in ports]
        assert server.connections <= 8


def test_the_key_and_the_path_of_a_proxy_are_sent(engine: PolicyEngine) -> None:
    with serving(engine_behind(engine, "/policy")) as server:
        with PolicyClient(f"{server.url}/policy/", api_key="secret") as client:
            assert client.check("network_security", FLOW).allowed
        assert server.headers[0]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("url", ["127.0.0.1:5000", "ftp://host", "http://", "http://host?a=b", "http://me:pw@host"])
def test_an_address_has_to_be_one(url: str) -> None:
    with pytest.raises(ValueError, match="is not the address"):
        PolicyClient(url)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
def test_a_refusal_says_why(status: int) -> None:
    with serving(saying((status, b'{"detail": "that is why"}'))) as server, PolicyClient(server.url) as client:
        with pytest.raises(EngineRefusedError, match=f"{status}: that is why") as refused:
            client.check("network_security", FLOW)
        assert (refused.value.status, refused.value.detail) == (status, "that is why")


@pytest.mark.parametrize(
    "answer",
    [
        (500, b'{"detail": "broken"}'),
        (503, b""),
        (429, b"slowly"),
        (302, b""),
        (200, b"<html>"),
        (200, b'{"allowed": true}'),
        (200, b""),
    ],
)
def test_what_is_no_answer_is_unavailable(answer: tuple[int, bytes]) -> None:
    with serving(saying(answer)) as server, PolicyClient(server.url) as client, pytest.raises(EngineUnavailableError):
        client.check("network_security", FLOW)


def test_nobody_there_is_unavailable() -> None:
    with PolicyClient(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(EngineUnavailableError):
        client.check("network_security", FLOW)


def test_silence_is_unavailable() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with PolicyClient(address, timeout_seconds=0.05) as client, pytest.raises(EngineUnavailableError):
            client.select("f", 1, ["a"])


def test_an_answer_that_is_cut_off_is_unavailable() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

        thread = Thread(target=hang_up)
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with PolicyClient(address) as client, pytest.raises(EngineUnavailableError):
            client.check("network_security", FLOW)
        thread.join()

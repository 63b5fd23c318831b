"""Clients whose names are as long as they may be: their pseudonyms are longer, and read back all the same."""

from __future__ import annotations

import pytest
from tests.conftest import Services
from tests.http.shapes import pointers
from tests.service.running import eventually
from tests.trust.rounds import observed, update

from policy_engine.http.app import create_app
from policy_engine.model.errors import InvalidRequestError
from policy_engine.service import PolicyService
from policy_engine.trust.observation import MAX_NAME

NAMES = ["c" * MAX_NAME, "é" * MAX_NAME, "😀" * MAX_NAME]


def ended(service: PolicyService, job_id: str) -> str | None:
    job = service.reputation.jobs.get(job_id)
    return None if job is None or job.state == "running" else job.state


@pytest.mark.parametrize("name", NAMES, ids=["ascii", "accents", "emoji"])
def test_they_can_be_reckoned_again(services: Services, name: str) -> None:
    service = services()
    service.observe(observed(1, update(name), update("other")))
    trust = service.engine.trust
    trust.override(name, kind="quarantine", federation="f", author="ann", reason="why")
    before = service.calculate_trust_score(name, "f")
    job = service.reputation.recalculate("ann", "why")
    assert eventually(lambda: ended(service, job.job_id), "it is at an end") == "done"
    assert service.calculate_trust_score(name, "f") == before
    services.end(service)
    assert services().calculate_trust_score(name, "f") == before
    client = create_app(services()).test_client()
    seen, page = [], client.get("/api/v1/trust?limit=1").get_json()
    while page["clients"]:
        seen += [each["client_id"] for each in page["clients"]]
        page = client.get("/api/v1/trust", query_string={"limit": "1", "cursor": page["next_cursor"]}).get_json()
    assert sorted(seen) == sorted([name, "other"])


def test_longer_ones_are_refused(services: Services) -> None:
    service = services()
    with pytest.raises(InvalidRequestError):
        service.observe(observed(1, update("c" * (MAX_NAME + 1))))
    sent = {"federation": "f", "round": 1, "clients": [{"client_id": "c", "answered": False}], "left_out": ["d" * 257]}
    client = create_app(service).test_client()
    assert pointers(client.post("/api/v1/trust/observations", json=sent)) == ["/left_out/0"]

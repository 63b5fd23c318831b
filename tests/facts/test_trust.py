"""What checks may know of a client: by federation, by what people decided, and nothing while nobody can tell."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.facts.trust import TrustFacts, TrustRecord
from policy_engine.model.fact import FACTS

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NEW = TrustRecord(0.85, 1.0, 0.5, 1.0, 1.0, 0.0, 0, 0)
Shares = st.floats(0, 1)


def record(trust: float) -> TrustRecord:
    return TrustRecord(trust, 0.1, 0.2, 0.3, 0.4, -0.5, 7, 0)


def band_of(federation: str, trust: float) -> str:
    return f"{federation}:{'low' if trust < 0.5 else 'high'}"


@pytest.fixture
def facts() -> TrustFacts:
    made = TrustFacts(NEW, band_of)
    made.put("f", [("a", record(0.9)), ("b", record(0.2))])
    made.put("g", [("a", record(0.3)), ("c", record(0.6))])
    return made


def told(facts: TrustFacts, **context: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    facts.add(found, TrustFacts.names, context, NOW)
    return found


def trust(facts: TrustFacts, client: Any, **context: Any) -> Any:
    return told(facts, client_id=client, **context).get("client.trust_score")


def test_every_fact_is_registered_and_reserved() -> None:
    assert all(FACTS[name].reserved for name in TrustFacts.names)


def test_only_what_is_wanted_is_added(facts: TrustFacts) -> None:
    found: dict[str, Any] = {}
    facts.add(found, frozenset({"client.compliance", "current_hour"}), {"client_id": "b"}, NOW)
    assert found == {"client.compliance": 0.4}


def test_all_of_a_record_is_told(facts: TrustFacts) -> None:
    assert told(facts, client_id="c") == {
        "client.known": True,
        "client.trust_score": 0.6,
        "client.trust_band": "g:high",
        "client_reputation": 0.6,
        "client.participation_rate": 0.1,
        "client.update_quality": 0.2,
        "client.behavioral_consistency": 0.3,
        "client.compliance": 0.4,
        "trust_score_change": -0.5,
    }


def test_the_federation_that_is_named_counts(facts: TrustFacts) -> None:
    assert trust(facts, "a", federation="f") == 0.9
    assert trust(facts, "a", federation="g") == 0.3


def test_without_one_the_lowest_trust_counts(facts: TrustFacts) -> None:
    assert trust(facts, "a") == 0.3


@pytest.mark.parametrize("claimed", ["nowhere", 7, None, ["f"], {"f": 1}, True])
def test_a_federation_that_nobody_knows_hides_nothing(facts: TrustFacts, claimed: Any) -> None:
    assert trust(facts, "a", federation=claimed) == 0.3
    assert trust(facts, "b", federation=claimed) == 0.2


def test_a_client_is_new_where_it_never_was(facts: TrustFacts) -> None:
    found = told(facts, client_id="b", federation="g")
    assert (found["client.known"], found["client.trust_score"], found["client.trust_band"]) == (False, 0.85, "g:high")


def test_a_client_nobody_has_seen_has_the_facts_of_a_new_one(facts: TrustFacts) -> None:
    found = told(facts, client_id="nobody")
    assert (found["client.known"], found["client.trust_score"]) == (False, 0.85)


@pytest.mark.parametrize("client", [None, ["b"], {"b": 1}, True, 0.2])
def test_what_names_no_client_has_no_facts(facts: TrustFacts, client: Any) -> None:
    assert told(facts, client_id=client) == {}
    assert told(facts) == {}


def test_a_number_names_the_client_of_that_name(facts: TrustFacts) -> None:
    facts.put("f", [("17", record(0.1))])
    assert trust(facts, 17) == trust(facts, "17") == 0.1


def test_what_people_decided_goes_before(facts: TrustFacts) -> None:
    facts.decide("g", "c", lambda _now: (0.1, False))
    assert told(facts, client_id="c")["client.trust_band"] == "g:low"
    facts.decide("f", "a", lambda _now: (None, True))
    assert told(facts, client_id="a")["client.trust_band"] == "quarantined"
    assert told(facts, client_id="a", federation="g")["client.trust_band"] == "quarantined"
    facts.decide_all("f", {"b": lambda _now: (None, True)})
    assert told(facts, client_id="a", federation="f")["client.trust_band"] == "f:high"
    assert told(facts, client_id="b")["client.trust_band"] == "quarantined"
    assert told(facts, client_id="c")["client.trust_band"] == "g:low"
    facts.decide("g", "c", None)
    assert trust(facts, "c") == 0.6


def test_decisions_hold_now_whatever_time_is_simulated() -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    facts = TrustFacts(NEW, band_of, lambda: now)
    facts.put("f", [("a", record(0.9))])
    facts.decide("f", "a", lambda at: (None, at < datetime(2026, 7, 1, tzinfo=UTC)))
    found: dict[str, Any] = {}
    facts.add(found, TrustFacts.names, {"client_id": "a"}, datetime(2099, 1, 1, tzinfo=UTC))
    assert found["client.trust_band"] == "quarantined"
    now = datetime(2026, 8, 1, tzinfo=UTC)
    assert told(facts, client_id="a")["client.trust_band"] == "f:high"


def test_a_change_of_trust_tells_of_what_people_set(facts: TrustFacts) -> None:
    facts.decide("f", "b", lambda _now: (0.6, False))
    assert told(facts, client_id="b")["trust_score_change"] == pytest.approx(-0.5 + 0.6 - 0.2)


def test_where_a_client_is_on_record(facts: TrustFacts) -> None:
    assert facts.federations("a") == ["f", "g"]
    assert facts.federations("nobody") == []


def test_nothing_is_known_while_nobody_can_tell(facts: TrustFacts) -> None:
    facts.away = True
    assert told(facts, client_id="a") == {"client.trust_band": "unknown"}
    facts.away = False
    assert trust(facts, "a") == 0.3


def test_a_later_record_takes_the_place_of_an_earlier_one(facts: TrustFacts) -> None:
    facts.put("g", [("a", record(0.8))])
    assert (trust(facts, "a", federation="g"), trust(facts, "a", federation="f"), len(facts)) == (0.8, 0.9, 3)


def test_all_can_be_replaced_at_once(facts: TrustFacts) -> None:
    other = TrustFacts(NEW, band_of)
    other.put("h", [("z", record(0.4))])
    facts.replace(other)
    assert (trust(facts, "z"), told(facts, client_id="a")["client.known"]) == (0.4, False)


@given(st.dictionaries(st.sampled_from("fgh"), Shares, min_size=1), st.data())
def test_packing_loses_nothing(trusts: dict[str, float], data: st.DataObject) -> None:
    facts = TrustFacts(NEW, band_of)
    for federation, value in trusts.items():
        facts.put(federation, [("a", record(value))])
    named = data.draw(st.sampled_from(sorted(trusts)))
    assert trust(facts, "a", federation=named) == trusts[named]
    assert trust(facts, "a") == min(trusts.values())

"""What a freeze does to checks, without a store: who is denied, what stays in force, when it ends."""

from __future__ import annotations

import time
from typing import Any

import pytest

from policy_engine import PolicyEngine
from policy_engine.language.document import read_document
from policy_engine.model.errors import InvalidRequestError
from policy_engine.model.freeze import Freeze

DOCUMENT: dict[str, Any] = {
    "policies": {
        "web": {"type": "network_security", "rules": [{"action": "allow", "match": {"protocol": "tcp"}}]},
        "dns": {"type": "network_security", "rules": [{"action": "allow", "match": {"protocol": "udp"}}]},
        "rounds": {"type": "fl_server_control", "rules": [{"action": "log"}]},
        "heavy": {"type": "fl_client_training", "rules": [{"action": "limit", "match": {"size": "big"}}]},
    }
}


@pytest.fixture
def engine() -> PolicyEngine:
    return PolicyEngine.from_document(DOCUMENT)


def freeze(scope: str = "all", **more: Any) -> Freeze:
    return Freeze(**{"freeze_id": scope, "scope": scope, "reason": "attack", "author": "ann", "at": 0.0, **more})


def codes(engine: PolicyEngine, protocol: str = "tcp", **context: Any) -> str:
    return engine.check("network_security", {"protocol": protocol, **context}).reason_code


def test_everything(engine: PolicyEngine) -> None:
    before = engine.check("network_security", {"protocol": "tcp"})
    engine.freeze([freeze()])
    for kind in DOCUMENT["policies"].values():
        decision = engine.check(kind["type"], {"protocol": "tcp", "federation": "f"}, explain=True)
        assert (decision.allowed, decision.decision, decision.reason_code) == (False, "deny", "frozen")
        assert decision.reason == "everything is frozen: attack"
        assert (decision.policy_id, decision.violations, decision.obligations) == (None, (), ())
        assert decision.valid_until == decision.timestamp
        assert decision.explanation == ()
    assert decision.policy_version == before.policy_version
    assert [each.reason_code for each in engine.check_many("network_security", [{"protocol": "tcp"}] * 2)] == [
        "frozen",
        "frozen",
    ]
    engine.freeze([])
    assert engine.check("network_security", {"protocol": "tcp"}).reason == before.reason


def test_one_federation(engine: PolicyEngine) -> None:
    engine.freeze([freeze("f")])
    assert codes(engine, federation="f") == "frozen"
    assert engine.check("network_security", {"federation": "f", "protocol": "tcp"}).reason.startswith("federation `f`")
    for federation in ("g", "F", "all", "default"):
        assert codes(engine, federation=federation) == "rule_allow"
    assert codes(engine) == "rule_allow"


def test_who_names_no_federation_is_of_the_default_one(engine: PolicyEngine) -> None:
    engine.freeze([freeze("default")])
    assert codes(engine) == codes(engine, federation=None) == codes(engine, federation="default") == "frozen"
    assert codes(engine, federation="f") == "rule_allow"


@pytest.mark.parametrize("federation", [7, True, ["g"], {"id": "g"}, 0, False, [], {}, "", " f", "f\n"])
def test_a_federation_that_makes_no_sense_may_be_the_frozen_one(engine: PolicyEngine, federation: Any) -> None:
    engine.freeze([freeze("f")])
    assert codes(engine, federation=federation) == "frozen"


def test_another_time_in_the_request_is_no_way_around_it(engine: PolicyEngine) -> None:
    engine.freeze([freeze(expires=time.time() + 60)])
    decision = engine.check("network_security", {"protocol": "tcp"}, at="2100-01-01T00:00:00Z")
    assert decision.reason_code == "frozen"


def test_it_ends_at_its_time(engine: PolicyEngine) -> None:
    engine.freeze([freeze(expires=time.time() - 0.001), freeze("f", expires=time.time() + 60)])
    assert codes(engine) == "rule_allow"
    assert codes(engine, federation="f") == "frozen"
    holds = freeze(expires=100.0)
    assert holds.holds_at(99.9)
    assert not holds.holds_at(100.0)


def test_requests_that_make_no_sense_are_refused_as_ever(engine: PolicyEngine) -> None:
    engine.freeze([freeze()])
    for kind, context in (
        ("", {}),
        ("network_security", {"a.b": 1}),
        ("network_security", {"src_port": 5, "source_port": 6}),
    ):
        with pytest.raises(InvalidRequestError):
            engine.check(kind, context)
    assert engine.check("nobody_knows_it", {}).reason_code == "type_undeclared"


def test_some_policies_stay_in_force(engine: PolicyEngine) -> None:
    engine.freeze([freeze(policies=("dns", "heavy"))])
    assert codes(engine, "udp") == "rule_allow"
    assert codes(engine, "tcp") == "frozen", "its policy is not among them"
    training = {size: engine.check("fl_client_training", {"size": size}) for size in ("big", "small")}
    assert training["big"].reason_code == "duty_permit"
    assert training["small"].reason_code == "frozen", "a default is not left, even one that allows"
    explained = engine.check("network_security", {"protocol": "udp"}, explain=True)
    assert [each.policy_id for each in explained.explanation or ()] == ["dns"]
    assert engine.check("fl_server_control", {}).reason_code == "frozen"


def test_a_freeze_never_allows_what_would_be_denied(engine: PolicyEngine) -> None:
    strict = {"id": "strict", "type": "fl_client_training", "rules": [{"action": "deny", "condition": "size == 'big'"}]}
    policies = {**DOCUMENT["policies"], "strict": strict}
    engine.activate(engine.prepare(read_document({**DOCUMENT, "policies": policies}).policy_set, 2))
    engine.freeze([freeze(policies=("heavy",))])
    decision = engine.check("fl_client_training", {"size": "big"}, explain=True)
    assert (decision.allowed, decision.policy_id) == (False, "strict")
    assert "strict" in {each.policy_id for each in decision.explanation or ()}


def test_the_strictest_of_several_decides(engine: PolicyEngine) -> None:
    engine.freeze([freeze(policies=("dns",)), freeze("f")])
    assert (codes(engine, "udp"), codes(engine, "udp", federation="f")) == ("rule_allow", "frozen")
    engine.freeze([freeze(policies=("dns",)), freeze("f", policies=("web",))])
    assert (codes(engine, "udp", federation="f"), codes(engine, "tcp", federation="f")) == ("frozen", "frozen")
    engine.freeze([freeze(policies=("dns", "web")), freeze("f", policies=("web", "dns"))])
    assert codes(engine, "udp", federation="f") == "rule_allow"
    engine.freeze([freeze(policies=("dns",)), freeze("f", expires=1.0)])
    assert codes(engine, "udp", federation="f") == "rule_allow", "what has expired is not counted"


def test_other_policies_come_into_force_meanwhile(engine: PolicyEngine) -> None:
    engine.freeze([freeze(policies=("dns", "gone"))])
    changed = {"policies": {**DOCUMENT["policies"], "dns": DOCUMENT["policies"]["web"]}}
    engine.activate(engine.prepare(read_document(changed).policy_set, 2))
    assert (codes(engine, "udp"), codes(engine, "tcp")) == ("frozen", "rule_allow")
    engine.activate(engine.prepare(read_document({"policies": {}}).policy_set, 3))
    assert codes(engine, "tcp") == "frozen"
    engine.freeze([])
    assert codes(engine, "tcp") == "default_deny"


def test_trust_is_judged_as_ever() -> None:
    exclude = {
        "type": "security",
        "rules": [{"action": "exclude_client", "match": {"condition": "client.trust_score < 0.9"}}],
    }
    engine = PolicyEngine.from_document({"policies": {"trust": exclude}})
    known = {"c": {"client.trust_score": 0.5}}
    before = engine._judge("f", 1, known)
    assert before["c"].excluded
    engine.freeze([freeze()])
    assert engine._judge("f", 1, known) == before

"""The authority on trust: rounds once and in order, decisions of people, what policies say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from math import inf, nan
from typing import Any

import msgspec
import pytest
from tests.trust.rounds import ATTACK, HONEST, observed, random_round, update

from policy_engine import PolicyEngine
from policy_engine.authority import TrustAuthority
from policy_engine.model.errors import FunctionBusyError, LateRoundError, RoundConflictError, UnknownOverrideError
from policy_engine.trust.settings import TrustSettings, Weights
from policy_engine.trust.standing import Band

DESCRIBED = {
    "name": "trust_based_participation",
    "rules": [
        {"condition": "client.trust_score < 0.3", "action": "exclude_client", "severity": "high"},
        {
            "condition": "client.trust_score < 0.6",
            "action": "weight_reduction",
            "severity": "medium",
            "parameters": {"weight_multiplier": 0.5},
        },
    ],
}
"""The trust policy of the description."""


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def engine(*policies: dict[str, Any], **options: Any) -> PolicyEngine:
    return PolicyEngine.from_document(
        {"policies": {f"p{number}": each for number, each in enumerate(policies)}}, **options
    )


def attacked(authority: Any, rounds: int = 5) -> None:
    for number in range(1, rounds + 1):
        authority.observe(observed(number, *HONEST, ATTACK))


def test_the_same_round_gets_the_first_answer() -> None:
    authority = TrustAuthority()
    first = authority.observe(observed(1, *HONEST, ATTACK))
    authority.observe(observed(2, *HONEST, ATTACK))
    assert authority.observe(observed(1, *HONEST, ATTACK)) == first
    assert authority.known("x", "f").record.answered == 2


def test_the_same_round_with_other_content_is_a_conflict() -> None:
    authority = TrustAuthority()
    authority.observe(observed(1, *HONEST))
    with pytest.raises(RoundConflictError):
        authority.observe(observed(1, *HONEST, ATTACK))
    assert not authority.known("x", "f").known


def test_a_round_before_the_last_one_is_late() -> None:
    authority = TrustAuthority()
    authority.observe(observed(5, *HONEST))
    with pytest.raises(LateRoundError, match="round 5 is closed"):
        authority.observe(observed(3, *HONEST))


def test_federations_do_not_know_of_each_other() -> None:
    authority = TrustAuthority()
    attacked(authority)
    advice = authority.observe(observed(1, ATTACK, *HONEST, federation="g"))
    assert advice.by_client["x"].band is Band.REDUCED
    assert authority.calculate_trust_score("x", "f") < authority.calculate_trust_score("x", "g")
    assert authority.calculate_trust_score("x") == authority.calculate_trust_score("x", "f")


def test_each_federation_has_its_parameters() -> None:
    strict = TrustSettings(exclude_below=0.9, reduce_below=0.95)
    authority = TrustAuthority(
        settings={
            "strict": strict,
            "*": TrustSettings(
                weights=Weights(participation=1.0, update_quality=0.0, behavioral_consistency=0.0, compliance=0.0)
            ),
        }
    )
    assert authority.observe(observed(1, *HONEST, federation="strict")).clients[0].band is Band.EXCLUDED
    assert authority.observe(observed(1, *HONEST, federation="other")).clients[0].trust == 1.0


def test_a_round_that_many_send_at_once_counts_once() -> None:
    authority = TrustAuthority()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: authority.observe(observed(1, *HONEST)), range(16)))
    assert all(answer == answers[0] for answer in answers)
    assert authority.known("h0").record.answered == 1


# Decisions of people


def test_a_quarantine_holds_until_it_is_released() -> None:
    authority = TrustAuthority()
    authority.override("h0", kind="quarantine", author="ann", reason="stolen laptop", federation="f")
    assert authority.known("h0", "f").band == "quarantined"
    advice = authority.observe(observed(1, *HONEST)).by_client["h0"]
    assert (advice.band, advice.accept, advice.reason) == (Band.QUARANTINED, False, "the client is in quarantine")
    assert authority.select("f", 2, ["h0", "h1"]).left_out == {"h0": "the client is in quarantine"}
    authority.release("h0", kind="quarantine", author="ann", reason="found again", federation="f")
    assert authority.observe(observed(2, *HONEST)).by_client["h0"].accept
    with pytest.raises(UnknownOverrideError, match="is not in quarantine in federation `f`"):
        authority.release("h0", kind="quarantine", author="ann", reason="", federation="f")


def test_a_quarantine_anywhere_is_one_everywhere_for_checks() -> None:
    authority = TrustAuthority()
    authority.observe(observed(1, *HONEST))
    authority.observe(observed(1, *HONEST, federation="g"))
    authority.override("h0", kind="quarantine", author="ann", reason="stolen laptop", federation="f")
    for federation in ("f", "g", "h", None):
        assert authority.known("h0", federation).band == "quarantined"
    assert authority.select("g", 2, ["h0"]).invited == ["h0"]  # who takes part in g is for g to say


@pytest.mark.parametrize("trust", [5.0, -0.1, nan, inf, None])
def test_no_score_outside_its_bounds_can_be_set(trust: float | None) -> None:
    authority = TrustAuthority()
    with pytest.raises(ValueError, match=r"trust|score"):
        authority.override("h0", kind="trust", author="ann", reason="", federation="f", trust=trust)
    with pytest.raises(ValueError, match="time"):
        authority.override("h0", kind="quarantine", author="ann", reason="", federation="f", expires_at=nan)
    assert not authority.known("h0", "f").known


def test_who_is_excluded_by_nothing_but_its_score_is_probed_too() -> None:
    clock = Clock()
    authority = TrustAuthority(clock=clock)
    for number in range(1, 5):
        authority.observe(observed(number, *HONEST, update("x", cos_ref=-0.7)))
    told: dict[str, Any] = {"kind": "trust", "author": "ann", "reason": "", "federation": "f"}
    authority.override("x", **told, trust=0.9, expires_at=clock.now + 60)
    authority.observe(observed(5, *HONEST, update("x", cos_ref=-0.7)))
    clock.now += 61
    assert authority.known("x", "f").band == "excluded"
    assert authority.breakdown("x", "f").excluded_in is None
    assert [authority.select("f", number, ["x"]).probed for number in (6, 7, 8, 9)] == [["x"], [], [], ["x"]]


def test_what_policies_exclude_counts_for_the_cap() -> None:
    rule = {"action": "exclude_client", "condition": "client.trust_score < 0.99"}
    advice = engine({"type": "security", "rules": [rule]}).observe(observed(1, *HONEST))
    assert (advice.held, advice.refused_share, advice.excluded_share) == (True, 1.0, 0.0)


def test_what_policies_put_in_quarantine_does_not_count_for_the_cap() -> None:
    rule = {"action": "quarantine", "condition": "client.trust_score < 0.99"}
    advice = engine({"type": "security", "rules": [rule]}).observe(observed(1, *HONEST))
    assert not any(each.accept for each in advice.clients)
    assert (advice.held, advice.refused_share) == (False, 0.0)


def test_who_is_left_out_by_what_a_person_set_counts_for_the_cap() -> None:
    authority = TrustAuthority()
    authority.override("x", kind="trust", author="ann", reason="", federation="f", trust=0.1)
    round_ = msgspec.structs.replace(observed(1, *HONEST[:3]), left_out=("x", "nobody"))
    assert authority.observe(round_).excluded_share == 0.25


def test_a_change_tells_of_violations_and_of_what_people_set() -> None:
    authority = TrustAuthority()
    for number in range(1, 4):
        authority.observe(observed(number, *HONEST))
    for rule in range(5):
        authority.report("h0", federation="f", policy_id="p", rule_index=rule, author="switch")
    change = authority.known("h0", "f").record.change
    assert change < -0.1
    assert change == pytest.approx(authority.breakdown("h0", "f").trust_score_change)
    authority.override("h1", kind="trust", author="ann", reason="", federation="f", trust=0.1)
    assert authority.known("h1", "f").record.change == pytest.approx(authority.breakdown("h1", "f").trust_score_change)
    assert authority.known("h1", "f").record.change < -0.5


def test_a_decision_expires() -> None:
    clock = Clock()
    authority = TrustAuthority(clock=clock)
    authority.override(
        "h0", kind="trust", author="ann", reason="known", federation="f", trust=0.1, expires_at=clock.now + 60
    )
    assert authority.calculate_trust_score("h0") == 0.1
    assert authority.observe(observed(1, *HONEST)).by_client["h0"].band is Band.EXCLUDED
    assert authority.select("f", 2, ["h0"]).invited == []
    clock.now += 61
    assert authority.calculate_trust_score("h0") > 0.8
    assert authority.select("f", 2, ["h0"]).invited == ["h0"]
    assert authority.breakdown("h0", "f").overrides == []


def test_a_probe_is_every_third_round() -> None:
    authority = TrustAuthority()
    attacked(authority, 3)
    since = authority.breakdown("x", "f").excluded_in
    assert since is not None
    chosen = [authority.select("f", since + ahead, ["x", "h0"]) for ahead in range(1, 7)]
    assert [bool(each.probed) for each in chosen] == [False, False, True, False, False, True]
    assert all(each.invited == ["h0"] for each in chosen)


# Policies


@pytest.mark.parametrize("kind", ["security", "trust_reputation"])
def test_the_described_policy_works_as_written(kind: str) -> None:
    decider = engine({**DESCRIBED, "type": kind})
    decider.observe(observed(1, *HONEST, ATTACK))
    reduced = decider.check(kind, {"client_id": "x"})
    assert (reduced.allowed, reduced.obligations[0].verb) == (True, "weight_reduction")
    assert reduced.parameters == {"weight_multiplier": 0.5}
    for number in range(2, 6):
        decider.observe(observed(number, *HONEST, ATTACK))
    excluded = decider.check(kind, {"client_id": "x"})
    assert (excluded.allowed, excluded.rule_index) == (False, 0)
    assert decider.check(kind, {"client_id": "h0"}).obligations == ()


def test_policies_may_be_stricter_than_trust_alone() -> None:
    strict = engine(
        {"type": "security", "rules": [{"condition": "client.trust_score < 0.99", "action": "exclude_client"}]}
    )
    advice = strict.observe(observed(1, *HONEST))
    assert not any(each.accept for each in advice.clients)
    assert advice.clients[0].reason == "policy `p0` rule 0: exclude_client"


@pytest.mark.parametrize("error", [ValueError("x"), FunctionBusyError("x")])
def test_a_function_that_gives_no_answer_excludes(error: Exception) -> None:
    def judge(context: dict[str, Any]) -> dict[str, Any]:
        if context["client_id"] == "h1":
            raise error
        return {"allowed": True}

    policy = {"type": "trust_reputation", "function_id": "judge"}
    found = engine(policy, functions={"judge": judge}).observe(observed(1, *HONEST)).by_client
    assert [name for name, advice in found.items() if not advice.accept] == ["h1"]
    assert "`p0`" in found["h1"].reason


def test_without_its_function_a_policy_about_trust_excludes_everybody() -> None:
    found = engine({"type": "trust_reputation", "function_id": "gone"}).observe(observed(1, *HONEST))
    assert not any(advice.accept for advice in found.clients)


def test_a_policy_reduces_a_weight() -> None:
    rule = {
        "condition": "client.trust_score < 0.99",
        "action": "weight_reduction",
        "parameters": {"weight_multiplier": 0.1},
    }
    advice = engine({"type": "trust_reputation", "rules": [rule]}).observe(observed(1, *HONEST))
    assert {each.weight_multiplier for each in advice.clients} == {0.1}
    assert advice.clients[0].reason == "policy `p0` multiplies its weight by 0.1"


@pytest.mark.parametrize("value", [-1, 2, "half", None, True])
def test_a_weight_that_makes_no_sense_is_none_at_all(value: Any) -> None:
    rule = {"condition": "client.known", "action": "weight_reduction", "parameters": {"weight_multiplier": value}}
    advice = engine({"type": "security", "rules": [rule]}).observe(observed(1, *HONEST))
    assert {each.weight_multiplier for each in advice.clients} in ({0.0}, {0.5})
    assert (value is None) or {each.weight_multiplier for each in advice.clients} == {0.0}


def test_a_policy_puts_a_client_in_quarantine() -> None:
    decider = engine({"type": "security", "rules": [{"condition": "client.compliance < 0.7", "action": "quarantine"}]})
    huge = update("x", norm=100.0)
    first = decider.observe(observed(1, *HONEST, huge)).by_client["x"]
    assert (first.accept, first.quarantined_by) == (False, "p0")
    assert decider.trust.known("x", "f").band == "quarantined"
    (override,) = decider.trust.breakdown("x", "f").overrides
    assert (override.author, override.reason) == ("policy p0", "policy `p0` rule 0: quarantine")
    assert decider.observe(observed(2, *HONEST, update("x"))).by_client["x"].band is Band.QUARANTINED


def test_rules_about_something_else_exclude_nobody() -> None:
    other = {"type": "security", "rules": [{"condition": "login_failures > 3", "action": "deny"}]}
    assert all(each.accept for each in engine(other).observe(observed(1, *HONEST)).clients)


def test_a_type_that_denies_by_default_excludes_whom_no_rule_allows() -> None:
    rule = {"condition": "client.compliance > 0.9", "action": "allow"}
    document = {
        "types": {"trust_reputation": {"combining": "deny-overrides", "default": "deny"}},
        "policies": {"p": {"type": "trust_reputation", "rules": [rule]}},
    }
    advice = PolicyEngine.from_document(document).observe(observed(1, *HONEST, update("x", norm=100.0))).by_client
    assert advice["h0"].accept
    assert not advice["x"].accept


# Nobody gains anything by a claim


def test_a_claimed_reputation_gains_nothing() -> None:
    decider = engine(
        {
            "type": "fl_security",
            "rules": [
                {"match": {"operation": "submit_update"}, "action": "allow"},
                {"condition": "client_reputation <= 0.9", "action": "deny"},
            ],
        }
    )
    attacked(decider)
    for context in ({}, {"client_id": "x"}, {"client_id": "nobody"}, {"client_id": ["h0"]}, {"client_id": None}):
        honest = decider.check("fl_security", {"operation": "submit_update", **context})
        claim = {"client_reputation": 1.0, "client": {"trust_score": 1.0, "known": True}}
        claimed = decider.check("fl_security", {"operation": "submit_update", **claim, **context})
        assert not claimed.allowed
        assert (claimed.allowed, claimed.reason) == (honest.allowed, honest.reason)


def test_a_new_name_gains_nothing() -> None:
    authority = TrustAuthority()
    attacked(authority, 6)
    loyal = authority.observe(observed(7, *HONEST, update("fresh"))).by_client
    assert loyal["fresh"].weight_multiplier < loyal["h0"].weight_multiplier
    assert loyal["fresh"].reason == "on probation"
    assert authority.select("f", 8, ["h0", "fresh", "newer"]).on_probation == ["fresh", "newer"]
    assert authority.known("never seen").known is False


NUMBERS = (
    "client.trust_score",
    "client_reputation",
    "client.participation_rate",
    "client.update_quality",
    "client.behavioral_consistency",
    "client.compliance",
    "trust_score_change",
)


def test_facts_say_what_the_breakdown_says() -> None:
    condition = " && ".join(["client.known", "client.trust_band != ''", *(f"{name} <= 1.0" for name in NUMBERS)])
    decider = engine({"type": "security", "rules": [{"action": "log", "condition": condition}]})
    for number in range(1, 9):
        decider.observe(random_round(3, number))
    for name in ("c0", "c5", "c11"):
        found = decider.trust.breakdown(name, "f")
        facts = decider.evaluate("security", {"client_id": name}).facts
        assert facts == {
            "client.known": True,
            "client.trust_score": found.trust_score,
            "client.trust_band": found.trust_band,
            "client_reputation": found.trust_score,
            "client.participation_rate": found.factors["participation"],
            "client.update_quality": found.factors["update_quality"],
            "client.behavioral_consistency": found.factors["behavioral_consistency"],
            "client.compliance": found.factors["compliance"],
            "trust_score_change": found.trust_score_change,
        }

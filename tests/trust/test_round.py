"""A round of trust: scores stay in bounds, attackers lose, honest clients do not."""

from __future__ import annotations

from math import inf, isfinite, nan
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_engine.trust.observation import ClientUpdate, RoundObservation
from policy_engine.trust.round import Closed, close_round, counted
from policy_engine.trust.settings import TrustSettings, Weights
from policy_engine.trust.standing import NEW, Band, Standing, is_probed, trust_score

DEFAULTS = TrustSettings()
Cosines = st.floats(-1, 1)


def update(name: str, norm: float = 1.0, cos_ref: float = 0.6, **more: Any) -> ClientUpdate:
    return ClientUpdate(client_id=name, norm=norm, cos_ref=cos_ref, **more)


def observed(number: int, *updates: ClientUpdate) -> RoundObservation:
    return RoundObservation(federation="f", round=number, clients=updates)


def played(rounds: int, *updates: ClientUpdate, known: dict[str, Standing] | None = None) -> Closed:
    """Play the same round again and again."""
    standings = dict(known or {})
    for number in range(1, rounds + 1):
        closed = close_round(observed(number, *updates), standings, DEFAULTS)
        standings |= closed.standings
    return closed


HONEST = [update(f"h{number}", norm=0.9 + 0.02 * number, cos_ref=0.55 + 0.01 * number) for number in range(8)]


@st.composite
def clients(draw: st.DrawFn) -> list[ClientUpdate]:
    made = []
    for number in range(draw(st.integers(1, 12))):
        if draw(st.booleans()) or draw(st.booleans()):
            norm = draw(st.one_of(st.just(0.0), st.floats(0, 1e308), st.floats(0, 5)))
            more = {"cos_prev": draw(st.none() | Cosines), "max_pair_cos": draw(st.none() | Cosines)}
            made.append(update(f"c{number}", norm, draw(Cosines), **more))
        else:
            made.append(ClientUpdate(client_id=f"c{number}", answered=False))
    return made


@given(st.lists(clients(), min_size=1, max_size=6), st.sets(st.sampled_from(["c0", "c1", "c2"])))
@settings(max_examples=300, deadline=None)
def test_every_number_stays_in_its_bounds(rounds: list[list[ClientUpdate]], quarantined: set[str]) -> None:
    standings: dict[str, Standing] = {}
    for number, made in enumerate(rounds, 1):
        closed = close_round(observed(number, *made), standings, DEFAULTS, quarantined)
        assert closed.standings.keys() == closed.advice.by_client.keys() == {item.client_id for item in made}
        for name, verdict in closed.advice.by_client.items():
            assert 0 <= verdict.trust <= 1
            assert 0 <= verdict.weight_multiplier <= 1
            assert (verdict.weight_multiplier > 0) <= verdict.accept
            assert (verdict.band is Band.QUARANTINED) == (name in quarantined)
            assert verdict.accept is False or verdict.band not in {Band.EXCLUDED, Band.QUARANTINED}
            assert verdict.clip_norm is None or isfinite(verdict.clip_norm)
            assert verdict.reason
        for standing in closed.standings.values():
            for factor in (
                standing.participation,
                standing.update_quality,
                standing.behavioral_consistency,
                standing.compliance,
            ):
                assert 0 <= factor <= 1
        standings |= closed.standings


@given(clients())
def test_the_order_of_clients_does_not_matter(made: list[ClientUpdate]) -> None:
    one = close_round(observed(1, *made), {}, DEFAULTS)
    other = close_round(observed(1, *made[::-1]), {}, DEFAULTS)
    assert one.standings == other.standings
    assert one.advice.by_client == other.advice.by_client


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("norm", nan),
        ("norm", inf),
        ("norm", -0.1),
        ("norm", None),
        ("cos_ref", nan),
        ("cos_ref", 1.1),
        ("cos_ref", None),
        ("cos_prev", -inf),
        ("cos_prev", -1.01),
        ("max_pair_cos", nan),
        ("loss", nan),
    ],
)
def test_what_is_no_statistic_is_refused(field: str, value: float | None) -> None:
    fields: dict[str, Any] = {"norm": 1.0, "cos_ref": 0.5, field: value}
    with pytest.raises(ValueError, match=f"`x`.*`{field}`"):
        ClientUpdate(client_id="x", **fields)


def test_a_client_that_did_not_answer_has_no_statistics() -> None:
    with pytest.raises(ValueError, match="did not answer"):
        ClientUpdate(client_id="x", answered=False, norm=1.0)


def test_a_client_is_in_a_round_once() -> None:
    with pytest.raises(ValueError, match="`x` is in the round twice"):
        observed(1, update("x"), update("x"))
    with pytest.raises(ValueError, match="`x` is in the round twice"):
        RoundObservation(federation="f", round=1, clients=(update("x"),), left_out=("x",))


def test_a_bad_document_names_its_place() -> None:
    document = b'{"federation": "f", "round": 1, "clients": [{"client_id": "a", "norm": 1e999, "cos_ref": 0.1}]}'
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(document, type=RoundObservation)


def test_a_new_client_counts_and_is_on_probation() -> None:
    assert trust_score(NEW, DEFAULTS) == pytest.approx(0.85)
    first = played(1, *HONEST)
    assert {verdict.weight_multiplier for verdict in first.advice.by_client.values()} == {DEFAULTS.probation_weight}
    later = played(DEFAULTS.probation_rounds + 1, *HONEST)
    assert {verdict.weight_multiplier for verdict in later.advice.by_client.values()} == {1.0}


def test_honest_clients_are_trusted() -> None:
    closed = played(30, *HONEST)
    assert {verdict.band for verdict in closed.advice.by_client.values()} == {Band.TRUSTED}
    assert min(verdict.trust for verdict in closed.advice.by_client.values()) > 0.95
    assert not closed.advice.held


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        (update("x", cos_ref=-0.6), "quality"),
        (update("x", norm=9.0, cos_ref=0.6), "above 3"),
        (update("x", norm=0.01, cos_ref=0.6), "below 0.1"),
        (update("x", cos_prev=0.99), "repeats"),
        (update("x", max_pair_cos=0.999), "another client"),
        (update("x", cos_ref=0.0), "quality"),
    ],
)
def test_an_attacker_is_refused_at_once_and_excluded_soon(attack: ClientUpdate, says: str) -> None:
    first = played(1, *HONEST, attack).advice.by_client["x"]
    assert (first.accept, first.weight_multiplier) == (False, 0.0)
    assert says in first.reason
    closed = played(4, *HONEST, attack)
    assert closed.advice.by_client["x"].band is Band.EXCLUDED
    assert closed.standings["x"].excluded_in in {2, 3, 4}
    assert {verdict.band for name, verdict in closed.advice.by_client.items() if name != "x"} == {Band.TRUSTED}


def test_trust_is_lost_faster_than_earned() -> None:
    good = played(20, *HONEST).standings
    lost = close_round(observed(21, *HONEST[1:], update("h0", cos_ref=-0.5)), good, DEFAULTS).standings["h0"]
    fall = trust_score(good["h0"], DEFAULTS) - trust_score(lost, DEFAULTS)
    won = close_round(observed(22, *HONEST), {**good, "h0": lost}, DEFAULTS).standings["h0"]
    assert trust_score(won, DEFAULTS) - trust_score(lost, DEFAULTS) < fall / 2


def test_an_excluded_client_can_earn_trust_back() -> None:
    bad = played(6, *HONEST, update("x", cos_ref=-0.6)).standings
    assert bad["x"].excluded_in is not None
    back = played(30, *HONEST, update("x", cos_ref=0.6), known=bad)
    assert back.advice.by_client["x"].band is Band.TRUSTED
    assert back.standings["x"].excluded_in is None


def test_an_excluded_client_is_probed_every_third_round() -> None:
    standing = Standing(excluded_in=5)
    assert [number for number in range(1, 16) if is_probed(standing, number, DEFAULTS)] == [8, 11, 14]
    assert not is_probed(NEW, 8, DEFAULTS)


def test_excluded_clients_do_not_move_what_others_are_measured_by() -> None:
    standings = {f"x{number}": Standing(update_quality=0.0, excluded_in=1) for number in range(20)}
    big = [update(f"x{number}", norm=50.0, cos_ref=-1.0) for number in range(20)]
    verdicts = close_round(observed(2, *HONEST, *big), standings, DEFAULTS).advice.by_client
    assert all(verdicts[item.client_id].accept for item in HONEST)
    assert not any(verdicts[item.client_id].accept for item in big)


def test_a_round_that_excludes_too_many_is_held() -> None:
    standings = {f"h{number}": Standing(update_quality=0.1) for number in range(5)}
    lost = [update(f"h{number}", cos_ref=-0.9) for number in range(5)]
    few = close_round(observed(2, *HONEST, *lost[:0]), {}, DEFAULTS)
    assert (few.advice.held, few.advice.excluded_share) == (False, 0.0)
    many = close_round(observed(2, *lost, *HONEST[5:]), standings, DEFAULTS)
    assert (many.advice.held, many.advice.excluded_share) == (True, 5 / 8)
    patient = msgspec.structs.replace(DEFAULTS, max_excluded_share=0.7)
    assert not close_round(observed(2, *lost, *HONEST[5:]), standings, patient).advice.held


def test_clients_that_were_left_out_count_in_the_cap() -> None:
    standings = {f"x{number}": Standing(update_quality=0.1, excluded_in=1) for number in range(10)}
    seen = observed(2, *HONEST)
    assert close_round(seen, standings, DEFAULTS).advice.excluded_share == 0.0
    left_out = msgspec.structs.replace(seen, left_out=(*standings, "unknown"))
    held = close_round(left_out, standings, DEFAULTS)
    assert (held.advice.held, held.advice.excluded_share) == (True, 10 / 18)
    assert held.standings.keys() == {item.client_id for item in HONEST}
    by_a_person = close_round(left_out, standings, DEFAULTS, quarantined={"x0", "x1", "x2"})
    assert (by_a_person.advice.held, by_a_person.advice.excluded_share) == (False, 7 / 15)


def test_a_round_that_rejects_too_many_is_held_before_anybody_is_excluded() -> None:
    bad = [update(f"x{number}", cos_ref=-0.9) for number in range(9)]
    few = close_round(observed(1, *HONEST, *bad[:8]), {}, DEFAULTS).advice
    assert (few.held, few.excluded_share, few.refused_share) == (False, 0.0, 0.5)
    many = close_round(observed(1, *HONEST, *bad), {}, DEFAULTS).advice
    assert (many.held, many.excluded_share, many.refused_share) == (True, 0.0, 9 / 17)
    silent = [ClientUpdate(client_id=f"x{number}", answered=False) for number in range(9)]
    assert not close_round(observed(1, *HONEST, *silent), {}, DEFAULTS).advice.held
    apart = close_round(observed(1, *HONEST, *bad), {}, DEFAULTS, quarantined={item.client_id for item in bad}).advice
    assert (apart.held, apart.refused_share) == (False, 0.0)


def test_who_does_not_answer_loses_participation_alone() -> None:
    silent = played(50, *HONEST[1:], ClientUpdate(client_id="h0", answered=False))
    standing, verdict = silent.standings["h0"], silent.advice.by_client["h0"]
    assert standing.participation < 0.01
    assert standing.update_quality == NEW.update_quality
    assert (verdict.accept, verdict.reason) == (False, "no update came")
    assert verdict.band is Band.REDUCED


def test_a_large_update_is_clipped_to_the_median() -> None:
    verdicts = played(1, *HONEST, update("big", norm=2.0)).advice.by_client
    assert verdicts["big"].accept
    assert verdicts["big"].clip_norm == pytest.approx(0.98)
    assert verdicts["h0"].clip_norm is None


def test_a_new_name_gains_nothing() -> None:
    bad = played(1, *HONEST, update("x", cos_ref=-0.6))
    again = close_round(observed(2, *HONEST, update("y", cos_ref=-0.6)), bad.standings, DEFAULTS)
    assert again.advice.by_client["y"].weight_multiplier == 0.0
    loyal = played(10, *HONEST)
    fresh = close_round(observed(11, *HONEST, update("z")), loyal.standings, DEFAULTS)
    assert fresh.advice.by_client["z"].weight_multiplier < loyal.advice.by_client["h0"].weight_multiplier


def test_newcomers_do_not_turn_the_measure() -> None:
    known = played(4, *HONEST).standings
    crowd = [update(f"new{number}", norm=20.0, cos_ref=-0.9) for number in range(8)]
    verdicts = close_round(observed(5, *HONEST, *crowd), known, DEFAULTS).advice.by_client
    assert all(verdicts[each.client_id].accept for each in HONEST)
    assert not any(verdicts[each.client_id].accept for each in crowd)


def test_whose_updates_are_the_measure() -> None:
    assert counted(["a", "b", "c"], {"a"}, {"b"}) == ["c"]
    assert counted(["a", "b", "c", "d"], {"a"}, {"b", "c"}) == ["b", "c", "d"]  # too few are established
    assert counted(["a", "b"], (), {"a", "b"}) == ["a", "b"]
    assert counted(["a", "b"], {"a", "b"}, ()) == ["a", "b"]
    assert counted([], (), ()) == []


@pytest.mark.parametrize(
    "made",
    [
        lambda: RoundObservation(federation="f", round=1, clients=()),
        lambda: RoundObservation(federation="", round=1, clients=(update("a"),)),
        lambda: RoundObservation(federation="f", round=0, clients=(update("a"),)),
        lambda: RoundObservation(federation="f", round=nan, clients=(update("a"),)),  # type: ignore[arg-type]
        lambda: TrustSettings(exclude_below=nan),
        lambda: TrustSettings(reduced_weight=1.5),
        lambda: TrustSettings(probe_every=0),
        lambda: Weights(participation=nan),
        lambda: Weights(participation=-0.7, update_quality=1.3),
    ],
)
def test_what_makes_no_sense_is_refused_in_python_too(made: Any) -> None:
    with pytest.raises(ValueError, match=r"is not|has 1|is below"):
        made()


def test_weights_add_up_to_one() -> None:
    with pytest.raises(ValueError, match=r"add up to 1\.1"):
        Weights(participation=0.4)
    with pytest.raises(ValueError, match="`exclude_below`"):
        TrustSettings(exclude_below=0.7)

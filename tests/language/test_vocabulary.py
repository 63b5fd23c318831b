"""The registries: actions, types, match keys."""

from __future__ import annotations

import pytest

from policy_engine.language.vocabulary import actions, types
from policy_engine.language.vocabulary.keys import attribute_of, canonical, kind_of
from policy_engine.model.clause import Kind
from policy_engine.model.policy import Combining, Effect, TypeSpec

WORDS = {
    Effect.ALLOW: "allow permit grant",
    Effect.DENY: "deny block reject forbid quarantine isolate suspend exclude_client",
    Effect.RESTRICTIVE: "limit throttle restrict rate_limit filter select choose enforce apply implement "
    "verify check confirm validate authorize weight_reduction",
    Effect.DUTY: "configure modify adjust tune set prioritize boost elevate retry repeat reattempt "
    "checkpoint save backup failover fallback redirect reroute distribute scale",
    Effect.OBSERVE: "monitor watch observe inspect log audit record track evaluate_trust simulate test mock",
}


def test_every_word_has_its_effect() -> None:
    assert {word: action.effect for word, action in actions.ACTIONS.items()} == {
        word: effect for effect, words in WORDS.items() for word in words.split()
    }


@pytest.mark.parametrize(
    ("word", "verb"),
    [
        ("allow", "allow"),
        ("grant", "allow"),
        ("forbid", "deny"),
        ("quarantine", "quarantine"),
        ("rate_limit", "limit"),
        ("confirm", "verify"),
        ("save", "checkpoint"),
        ("track", "audit"),
        ("mock", "simulate"),
        ("fallback", "failover"),
    ],
)
def test_every_word_has_its_verb(word: str, verb: str) -> None:
    assert actions.ACTIONS[word].verb == verb


def test_a_verb_is_its_own_verb() -> None:
    assert {action.verb: actions.ACTIONS[action.verb].verb for action in actions.ACTIONS.values()} == {
        action.verb: action.verb for action in actions.ACTIONS.values()
    }


@pytest.mark.parametrize("words", [("deny",), ("new_verb", "grant"), ("new_verb", "new_verb")])
def test_a_word_cannot_get_another_meaning(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setattr(actions, "ACTIONS", dict(actions.ACTIONS))
    before = dict(actions.ACTIONS)
    with pytest.raises(ValueError, match=f"`{words[-1]}` is known already"):
        actions.register(Effect.ALLOW, *words)
    assert {word: actions.ACTIONS[word] for word in before} == before


def test_a_new_action_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "ACTIONS", dict(actions.ACTIONS))
    actions.register(Effect.DENY, "banish", "exile")
    assert (actions.ACTIONS["exile"].verb, actions.ACTIONS["exile"].effect) == ("banish", Effect.DENY)


def test_the_built_in_types() -> None:
    denied = {name for name, spec in types.BUILT_IN.items() if not spec.default}
    assert denied == {"network_security", "fl_client_start", "fl_security"}
    first = {name for name, spec in types.BUILT_IN.items() if spec.combining is Combining.FIRST_APPLICABLE}
    assert first == {"network_security"}
    assert {name: spec.required for name, spec in types.BUILT_IN.items() if spec.required} == {
        "network_security": ("protocol",)
    }
    assert all(spec.declared and spec.description and spec.name == name for name, spec in types.BUILT_IN.items())
    assert len(types.BUILT_IN) == 24


def test_a_type_cannot_be_registered_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(types, "BUILT_IN", dict(types.BUILT_IN))
    types.register(TypeSpec(name="new"))
    with pytest.raises(ValueError, match="`new`"):
        types.register(TypeSpec(name="new", default=True))


@pytest.mark.parametrize(
    ("key", "name", "attribute", "kind"),
    [
        ("dst_port", "dst_port", "dst_port", Kind.PORT),
        ("dst_port_range", "dst_port_range", "dst_port", Kind.PORT),
        ("destination_port_range", "dst_port_range", "dst_port", Kind.PORT),
        ("port", "port", "port", Kind.PORT),
        ("port_range", "port_range", "port", Kind.PORT),
        ("ip", "ip", "ip", Kind.ADDRESS),
        ("source_ip", "src_ip", "src_ip", Kind.ADDRESS),
        ("dest_ip_range", "dst_ip_range", "dst_ip", Kind.ADDRESS),
        ("client.source_ip", "client.source_ip", "client.source_ip", Kind.ADDRESS),
        ("a.server_port_range", "a.server_port_range", "a.server_port", Kind.PORT),
        ("port.name", "port.name", "port.name", Kind.PLAIN),
        ("protocol", "protocol", "protocol", Kind.PROTOCOL),
        ("a.protocol", "a.protocol", "a.protocol", Kind.PROTOCOL),
        ("ip_protocol", "ip_protocol", "ip_protocol", Kind.PLAIN),
        ("protocol_range", "protocol_range", "protocol_range", Kind.PLAIN),
        ("price_range", "price_range", "price_range", Kind.PLAIN),
        ("source_type", "src_type", "src_type", Kind.PLAIN),
        ("zip", "zip", "zip", Kind.PLAIN),
        ("transport", "transport", "transport", Kind.PLAIN),
        ("dst_ports", "dst_ports", "dst_ports", Kind.PLAIN),
    ],
)
def test_what_a_key_constrains(key: str, name: str, attribute: str, kind: Kind) -> None:
    assert canonical(key) == name
    assert attribute_of(name) == attribute
    assert kind_of(attribute) is kind

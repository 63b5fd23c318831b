"""Which component owns an address."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any

import pytest

from policy_engine.facts import inventory
from policy_engine.facts.inventory import Component, Inventory, components_from_nodes
from policy_engine.pdp import PolicyEngine

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def of(**types: str | list[str]) -> Inventory:
    """Return an inventory of one component for each type; `_` stands for `-`."""
    components = []
    for name, addresses in types.items():
        listed = (addresses,) if isinstance(addresses, str) else tuple(addresses)
        components.append(Component(id=name, type=name.replace("_", "-"), addresses=listed))
    return Inventory(components)


NESTED = of(
    wide="10.0.0.0/8",
    site="10.1.0.0/16",
    rack=["10.1.1.0/24", "10.1.2.0/24"],
    host="10.1.1.7",
    first="10.0.0.0",
    last="10.255.255.255",
    six="2001:db8::/32",
    six_host="2001:db8::5",
)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("9.255.255.255", None),
        ("10.0.0.0", "first"),
        ("10.0.0.1", "wide"),
        ("10.1.0.0", "site"),
        ("10.1.0.255", "site"),
        ("10.1.1.0", "rack"),
        ("10.1.1.6", "rack"),
        ("10.1.1.7", "host"),
        ("10.1.1.8", "rack"),
        ("10.1.1.255", "rack"),
        ("10.1.2.0", "rack"),
        ("10.1.3.0", "site"),
        ("10.2.0.0", "wide"),
        ("10.255.255.254", "wide"),
        ("10.255.255.255", "last"),
        ("11.0.0.0", None),
        ("::ffff:10.1.1.7", "host"),
        ("::FFFF:A01:107", "host"),
        ("2001:db7:ffff::", None),
        ("2001:db8::", "six"),
        ("2001:0DB8:0::5", "six-host"),
        ("2001:db8::6", "six"),
        ("2001:db9::", None),
        ("::10.1.1.7", None),
        ("010.1.1.7", None),
        ("10.1.1.7 ", None),
        ("host", None),
        ("", None),
        (None, None),
        (167837959, None),
        (["10.1.1.7"], None),
    ],
)
def test_the_most_specific_network_owns_an_address(address: Any, kind: str | None) -> None:
    for _ in range(2):
        assert NESTED.type_of(address) == kind


@pytest.mark.parametrize(
    ("components", "address", "kind"),
    [
        ({"a": "10.0.0.1", "b": "10.0.0.1"}, "10.0.0.1", None),
        ({"a": ["10.0.0.1", "10.0.0.1/32"]}, "10.0.0.1", "a"),
        ({"a": "10.0.0.0/24", "b": ["10.0.0.0/24", "10.0.0.1"]}, "10.0.0.1", "b"),
        ({"a": "10.0.0.0/24", "b": ["10.0.0.0/24", "10.0.0.1"]}, "10.0.0.2", None),
        ({"a": "10.0.0.0/16", "b": "10.0.1.0/24", "c": "10.0.1.0/24"}, "10.0.1.1", None),
        ({"a": "10.0.0.0/16", "b": "10.0.1.0/24", "c": "10.0.1.0/24"}, "10.0.2.1", "a"),
        ({"a": "::ffff:10.0.0.0/104"}, "10.255.0.1", "a"),
        ({"a": "::ffff:10.0.0.1", "b": "10.0.0.1"}, "10.0.0.1", None),
        ({"a": "0.0.0.0/0"}, "255.255.255.255", "a"),
        ({"a": "0.0.0.0/0"}, "::", None),
        ({"a": "::/0"}, "255.255.255.255", None),
        ({"a": "::/0"}, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "a"),
        ({}, "10.0.0.1", None),
        ({"a": []}, "10.0.0.1", None),
    ],
)
def test_what_several_types_share_is_not_known(
    components: dict[str, str | list[str]], address: str, kind: str | None
) -> None:
    assert of(**components).type_of(address) == kind


def test_what_is_shared_is_told() -> None:
    assert of(b="10.0.0.1", a=["10.0.0.1", "10.0.0.2"], c="10.0.0.0/24").ambiguous == ("a,b",)
    assert NESTED.ambiguous == ()


@pytest.mark.parametrize("address", ["10.0.0.1/24", "10.0.0.256", "host", "", "10.0.0.0/33", "fe80::1%eth0", "1-2"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        of(a=address)


def test_random_inventories_agree_with_looking_at_every_network() -> None:
    for seed in range(150):
        drawn = Random(seed)
        networks = [
            (ip_network((drawn.choice(bases), drawn.choice(prefixes)), strict=False), drawn.choice("abc"))
            for bases, prefixes in [
                (range(0x0A000000, 0x0A000020), range(24, 33)),
                ([2**100, 2**100 + 3], range(120, 129)),
            ]
            for _ in range(drawn.randint(0, 6))
        ]
        found = Inventory([Component(id=str(item), type=kind, addresses=(str(item),)) for item, kind in networks])
        for number in [*range(0x09FFFFF0, 0x0A000030), *range(2**100 - 2, 2**100 + 10)]:
            address = ip_address(number)
            around = [(item.prefixlen, kind) for item, kind in networks if address in item]
            owners = {kind for prefix, kind in around if prefix == max(around)[0]}
            assert found.type_of(str(address)) == (owners.pop() if len(owners) == 1 else None), (seed, address)


@pytest.mark.parametrize(
    ("context", "wanted", "facts"),
    [
        (
            {"src_ip": "10.1.1.7", "dst_ip": "10.1.2.3"},
            {"src_type", "dst_type"},
            {"src_type": "host", "dst_type": "rack"},
        ),
        ({"src_ip": "10.1.1.7", "dst_ip": "10.1.2.3"}, {"dst_type", "now"}, {"dst_type": "rack"}),
        ({"src_ip": "8.8.8.8"}, {"src_type", "dst_type"}, {}),
        ({"src_ip": None, "dst_ip": 5}, {"src_type", "dst_type"}, {"dst_type": "unknown"}),
        ({"src_ip": "10.1.1.7 ", "src_type": "rack"}, {"src_type"}, {"src_type": "unknown"}),
        ({"src_ip": "10.1.1.7/32", "src_type": "rack"}, {"src_type"}, {"src_type": "unknown"}),
        ({"src_ip": ["10.1.1.7"], "src_type": "rack"}, {"src_type"}, {"src_type": "host"}),
        ({"src_ip": ["10.1.1.7", "10.1.2.3", "8.8.8.8"]}, {"src_type"}, {"src_type": ["host", "rack"]}),
        ({"src_type": "host"}, {"src_type"}, {}),
    ],
)
def test_only_what_is_known_and_wanted_is_added(
    context: dict[str, Any], wanted: set[str], facts: dict[str, Any]
) -> None:
    found: dict[str, Any] = {}
    NESTED.add(found, frozenset(wanted), context, NOW)
    assert found == facts


def test_long_texts_are_not_remembered() -> None:
    found = of(a="10.0.0.0/24")
    assert found.type_of("1" * 10_000) is None
    assert not found._remembered


def test_it_remembers_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "REMEMBERED", 2)
    found = of(a="10.0.0.0/24")
    assert [found.type_of(f"10.0.0.{number}") for number in range(5)] == ["a"] * 5
    assert len(found._remembered) == 2


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("NODE_IP_FL_SERVER", "10.0.0.1", ("fl-server", "fl-server", ("10.0.0.1",))),
        ("NODE_IP_FL_CLIENT_2", "10.0.0.2", ("fl-client-2", "fl-client", ("10.0.0.2",))),
        ("NODE_IP_FL_CLIENT_12", " 10.0.0.2 ", ("fl-client-12", "fl-client", ("10.0.0.2",))),
        ("node_ip_collector", "10.0.0.3, ::1", ("collector", "collector", ("10.0.0.3", "::1"))),
        ("NODE_IP_SDN_CONTROLLER", "10.0.0.0/24", ("sdn-controller", "sdn-controller", ("10.0.0.0/24",))),
        ("NODE_IP_SERVER2", "10.0.0.4", ("server2", "server2", ("10.0.0.4",))),
        ("NODE_IP_FL_SERVER", "  ", None),
        ("NODE_IP_", "10.0.0.1", None),
        ("MY_NODE_IP_X", "10.0.0.1", None),
        ("NODE_PORT_X", "80", None),
    ],
)
def test_settings_that_name_components(key: str, value: str, expected: tuple[str, str, tuple[str, ...]] | None) -> None:
    found = [(item.id, item.type, item.addresses) for item in components_from_nodes({key: value})]
    assert found == ([] if expected is None else [expected])


DOCUMENT = {
    "types": {"t": {"default": "allow"}, "c": {"default": "allow"}},
    "policies": {
        "match": {"type": "t", "rules": [{"action": "deny", "match": {"src_type": "fl-client"}}]},
        "condition": {
            "type": "c",
            "rules": [{"action": "deny", "condition": "src_type == 'fl-client'", "on_missing": "skip"}],
        },
    },
}


@pytest.mark.parametrize("policy_type", ["t", "c"])
@pytest.mark.parametrize(
    ("context", "allowed"),
    [
        ({"src_ip": "10.0.0.1", "src_type": "fl-server"}, False),
        ({"source_ip": "::ffff:10.0.0.1", "source_type": "fl-server"}, False),
        ({"src_ip": "10.0.0.1"}, False),
        ({"src_ip": "10.0.0.9", "src_type": "fl-client"}, True),
        ({"src_ip": "8.8.8.8", "src_type": "fl-client"}, False),
        ({"src_ip": "8.8.8.8", "src_type": "fl-server"}, True),
        ({"src_ip": "8.8.8.8"}, True),
        ({"src_type": "fl-client"}, False),
        ({"dst_ip": "10.0.0.1", "src_type": "fl-server"}, True),
    ],
)
def test_the_inventory_beats_a_claim(policy_type: str, context: dict[str, Any], allowed: bool) -> None:  # noqa: FBT001 - data
    components = [
        Component(id="c", type="fl-client", addresses=("10.0.0.1",)),
        Component(id="s", type="fl-server", addresses=("10.0.0.9",)),
    ]
    engine = PolicyEngine.from_document(DOCUMENT, components=components)
    assert engine.check(policy_type, context).allowed is allowed

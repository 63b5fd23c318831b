"""The inventory of components: which type of component owns an address."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import datetime
from ipaddress import ip_network
from typing import Any

import msgspec

from policy_engine.model.network import address_number

_NODE = re.compile(r"NODE_IP_([A-Z0-9_]+)", re.IGNORECASE)
_NUMBERED = re.compile(r"-\d+$")
REMEMBERED = 8192
LONGEST_ADDRESS = 64
"""Longer texts are no addresses and are not remembered."""
UNKNOWN = "unknown"
"""The type of what is said to be an address and is none."""


class Component(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One component of the federation.

    Attributes:
        id: Its name.
        type: What policies call it, such as "fl-client".
        addresses: IPv4 and IPv6 addresses, or networks in CIDR form.
    """

    id: str
    type: str
    addresses: tuple[str, ...] = ()


def components_from_nodes(nodes: Mapping[str, str]) -> list[Component]:
    """Return the components that settings of the form `NODE_IP_FL_SERVER=10.0.0.1` name.

    A number at the end tells apart components of one type: `NODE_IP_FL_CLIENT_2` is `fl-client-2` of type `fl-
    client`. Other settings are passed over.
    """
    found = []
    for key, value in sorted(nodes.items()):
        name = _NODE.fullmatch(key)
        if name is not None and value.strip():
            node = name.group(1).lower().replace("_", "-")
            addresses = tuple(part.strip() for part in value.split(","))
            found.append(Component(id=node, type=_NUMBERED.sub("", node), addresses=addresses))
    return found


class Inventory:
    """Resolves `src_type` and `dst_type` from `src_ip` and `dst_ip`.

    The most specific network wins. Where components of different types share it, nothing is known: the engine does
    not guess.
    """

    names = frozenset({"src_type", "dst_type"})

    def __init__(self, components: Iterable[Component] = ()) -> None:
        """Take the components.

        Raises:
            ValueError: An address cannot be read.
        """
        self.components = tuple(components)
        owners: dict[tuple[int, int], set[str]] = {}
        for component in self.components:
            for address in component.addresses:
                owners.setdefault(bounds(address), set()).add(component.type)
        self._types = _cut(owners)
        self._starts = sorted(self._types)
        self.ambiguous = tuple(sorted(",".join(sorted(types)) for types in owners.values() if len(types) > 1))
        self._remembered: dict[str, str | None] = {}

    def add(self, facts: dict[str, Any], wanted: frozenset[str], context: dict[str, Any], _now: datetime) -> None:
        """Add the types of the components that own the request's addresses."""
        for name, address in (("src_type", "src_ip"), ("dst_type", "dst_ip")):
            value = context.get(address)
            if value is not None and name in wanted and self.components:
                kinds = self._kinds(value)
                if kinds:
                    facts[name] = kinds[0] if len(kinds) == 1 else kinds

    def _kinds(self, value: Any) -> list[str]:
        """Return the types that an address, or each address of a list, belongs to.

        What is no address belongs to UNKNOWN: a claim beside it would stand for a component that cannot be looked up.
        """
        found: dict[str, None] = {}
        for item in value if value.__class__ is list else (value,):
            kind = self.type_of(item)
            if kind is None and address_number(item) is None:
                kind = UNKNOWN
            if kind is not None:
                found[kind] = None
        return list(found)

    def type_of(self, address: Any) -> str | None:
        """Return the type of the component that owns an address, None when none does or several could."""
        if address.__class__ is not str:
            return None
        try:
            return self._remembered[address]
        except KeyError:
            kind = self._find(address)
            if len(self._remembered) < REMEMBERED and len(address) <= LONGEST_ADDRESS:
                self._remembered[address] = kind
            return kind

    def _find(self, address: str) -> str | None:
        number = address_number(address)
        place = 0 if number is None else bisect_right(self._starts, number)
        return self._types[self._starts[place - 1]] if place else None


def bounds(text: str) -> tuple[int, int]:
    """Return the first and the last number of an address or a network.

    Raises:
        ValueError: The text is neither, or it has bits set beyond its prefix.
    """
    network = ip_network(text)
    first = address_number(str(network.network_address))
    if first is None:
        raise ValueError(f"`{text}` is not an address")
    return first, first + network.num_addresses - 1


def _cut(owners: Mapping[tuple[int, int], set[str]]) -> dict[int, str | None]:
    """Return the type from each start on; networks nest or are disjoint, so the innermost is the most specific."""
    cuts: dict[int, str | None] = {}
    open_networks: list[tuple[int, str | None]] = []

    def close_before(start: float) -> None:
        while open_networks and open_networks[-1][0] < start:
            last, _ = open_networks.pop()
            cuts[last + 1] = open_networks[-1][1] if open_networks else None

    for (first, last), types in sorted(owners.items(), key=lambda item: (item[0][0], -item[0][1])):
        close_before(first)
        cuts[first] = next(iter(types)) if len(types) == 1 else None
        open_networks.append((last, cuts[first]))
    close_before(float("inf"))
    return cuts

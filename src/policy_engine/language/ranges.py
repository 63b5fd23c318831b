"""Port and address ranges in policies: text and numbers to inclusive intervals."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from policy_engine.language.faults import show
from policy_engine.model.clause import Interval
from policy_engine.model.network import IPV6_OFFSET, MAX_PORT, address_number, port_number

_MAPPED_PREFIX = 96
_ARTICLES = {"port": "a", "address": "an"}


class RangeError(ValueError):
    """A range that cannot be understood."""

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.hint = hint


def port_intervals(value: Any) -> tuple[Interval, ...]:
    """Return the ports that a policy's value names: a number, "8080", "22-79,81-8079" or a list of these.

    Raises:
        RangeError: The value is not such a thing.
    """
    return _merge([interval for part in _parts(value, "port") for interval in [_ports(part)]])


def address_intervals(value: Any) -> tuple[Interval, ...]:
    """Return the addresses that a policy's value names.

    An address, a CIDR, "a-b", several with commas, or a list of these.

    Raises:
        RangeError: The value is not such a thing.
    """
    return _merge([interval for part in _parts(value, "address") for interval in [_addresses(part)]])


def _parts(value: Any, noun: str) -> Iterator[Any]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            yield from (part.strip() for part in item.split(","))
        elif isinstance(item, int) and not isinstance(item, bool) and noun == "port":
            yield item
        else:
            raise RangeError(f"expected {_ARTICLES[noun]} {noun} or a range, found {show(item)}")


def _ports(part: Any) -> Interval:
    low_text, dash, high_text = part.partition("-") if isinstance(part, str) else (part, "", "")
    low = _port(low_text)
    high = _port(high_text) if dash else low
    if low > high:
        raise RangeError(f"range `{part}` ends before it starts", f"write `{high}-{low}`")
    return low, high


def _port(text: Any) -> int:
    number = port_number(text.strip() if isinstance(text, str) else text)
    if number is None:
        raise RangeError(f"{show(text)} is not a port from 0 to {MAX_PORT}")
    return number


def _addresses(part: str) -> Interval:
    if "/" in part:
        return _network(part)
    low_text, dash, high_text = (piece.strip() for piece in part.partition("-"))
    low = _address(low_text)
    high = _address(high_text) if dash else low
    if (low < IPV6_OFFSET) != (high < IPV6_OFFSET):
        raise RangeError(f"range `{part}` goes from one address family to the other")
    if low > high:
        raise RangeError(f"range `{part}` ends before it starts", f"write `{high_text}-{low_text}`")
    return low, high


def _address(text: str) -> int:
    number = address_number(text)
    if number is None:
        raise RangeError(f"{show(text)} is not an IPv4 or IPv6 address")
    return number


def _network(text: str) -> Interval:
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise RangeError(f"`{text}` is not an address range in CIDR form") from error
    prefix = text.partition("/")[2]
    if not (prefix.isascii() and prefix.isdigit()) or "%" in text:
        raise RangeError(f"`{text}` is not an address range in CIDR form", "give the prefix length as a number")
    if address_number(text.partition("/")[0]) != _number(network):
        raise RangeError(f"`{text}` has bits set beyond its prefix", f"did you mean `{network}`?")
    low = _number(network)
    return low, low + network.num_addresses - 1


def _number(network: IPv4Network | IPv6Network) -> int:
    number = int(network.network_address)
    if isinstance(network, IPv4Network):
        return number
    mapped = network.network_address.ipv4_mapped
    return int(mapped) if mapped is not None and network.prefixlen >= _MAPPED_PREFIX else number + IPV6_OFFSET


def _merge(intervals: list[Interval]) -> tuple[Interval, ...]:
    merged: list[Interval] = []
    for low, high in sorted(intervals):
        if merged and low <= merged[-1][1] + 1 and (low < IPV6_OFFSET) == (merged[-1][1] < IPV6_OFFSET):
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)

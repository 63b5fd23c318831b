"""Ports and addresses in text, as numbers."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

MAX_PORT = 65535
IPV6_OFFSET = 2**32
"""IPv6 addresses are numbered above all IPv4 ones, so that one sorted line holds both and they never meet."""

_MAPPED = 0xFFFF
_PORT_DIGITS = 5


def port_number(value: Any) -> int | None:
    """Return the port that a request's value names, None when it names none."""
    if value.__class__ is str:
        if not (value.isascii() and value.isdigit()) or len(value) > _PORT_DIGITS or (value[0] == "0" and value != "0"):
            return None
        value = int(value)
    if value.__class__ is int and 0 <= value <= MAX_PORT:
        number: int = value
        return number
    return None


def address_number(value: Any) -> int | None:
    """Return the number of an IPv4 or IPv6 address, None when the value is not one.

    An IPv4-mapped IPv6 address is the IPv4 address. Zone ids are refused.
    """
    if value.__class__ is not str:
        return None
    try:
        if ":" in value:
            number = int.from_bytes(inet_pton(AF_INET6, value), "big")
            return number & 0xFFFFFFFF if number >> 32 == _MAPPED else number + IPV6_OFFSET
        return int.from_bytes(inet_pton(AF_INET, value), "big")
    except (OSError, ValueError):
        return None

"""Addresses, networks and names: what tells who asks when there is no credential."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

_MAX_REMEMBERED = 10_000


class Networks:
    """A set of networks."""

    def __init__(self, listed: Iterable[str]) -> None:
        """Read them.

        Raises:
            ValueError: One is not an address or a network.
        """
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(each, strict=False) for each in listed)
        self._seen: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: object) -> bool:
        """Whether an address, as a text, belongs to one of them; what is no address does not."""
        if not self._networks or not isinstance(address, str):
            return False
        known = self._seen.get(address)
        if known is None:
            if len(self._seen) >= _MAX_REMEMBERED:
                self._seen.clear()
            parsed = parse_address(address)
            known = self._seen[address] = parsed is not None and any(parsed in each for each in self._networks)
        return known


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address, one of IPv4 that IPv6 carries as what it is; None for what is none."""
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def forwarded_for(header: str, proxies: Networks) -> str | None:
    """Return the address that asked the outermost of our proxies; None when the header does not say.

    Every proxy appends whom it was asked by, so what stands on the left may be made up by the caller.
    """
    for part in reversed(header.split(",")):
        address = part.strip()
        if parse_address(address) is None:
            return None
        if address not in proxies:
            return address
    return None


def is_foreign_page(environ: Mapping[str, Any], hosts: Iterable[str]) -> bool:
    """Whether a request may come from a web page of somewhere else, in a browser whose address we trust.

    Either the page says so by its origin, or it reached us under a name that its owner let lead here: a name with a
    dot that is none of ours. A page cannot have an address or a name without a dot as its own.
    """
    return _is_foreign(environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN"), frozenset(hosts))


@lru_cache(maxsize=1024)
def _is_foreign(host: str, origin: str | None, hosts: frozenset[str]) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "") if host else "localhost"
        is_ours = bool(name) and ("." not in name or parse_address(name) is not None or name in hosts)
        return not is_ours or (origin is not None and urlsplit(origin).netloc != host)
    except ValueError:
        return True

"""Places that bundles may come from."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

SCHEMES = ("https://", "http://")


def check_place(place: str) -> str | None:
    """Return what is wrong with a path or a URL as the place of bundles, None if nothing is."""
    if "://" not in place:
        return None
    try:
        url = urlsplit(place)
        port_is_wrong = url.port == 0
    except ValueError:
        return "it is not a URL"
    if not place.startswith(SCHEMES) or not url.hostname or port_is_wrong:
        return "it is neither a path nor a URL such as `https://policies.example/bundle`"
    if url.username is not None or url.password is not None:
        return "a URL with a name or a password in it would be shown in logs"
    if url.scheme == "http" and not _is_loopback(url.hostname):
        return "bundles are pulled over `https`, or from this machine itself"
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

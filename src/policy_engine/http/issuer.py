"""The keys of an OpenID Connect issuer: fetched beside the requests, again now and then, and when one is missing."""

from __future__ import annotations

import json
import logging
import time
from http import HTTPStatus
from http.client import HTTPException
from threading import Condition, Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from joserfc.jwk import KeySet

from policy_engine.identity.token import is_issuer, read_key_set

log = logging.getLogger(__name__)

DISCOVERY = "/.well-known/openid-configuration"

_FRESH_SECONDS = 600.0
"""How often keys are fetched when all is well: one that its issuer withdrew is refused so soon."""

_PAUSE_SECONDS = 5.0
"""How long after a look no other one is taken, whatever tokens say: strangers must not make us ask without end."""

_TIMEOUT_SECONDS = 5.0
_MAX_BYTES = 2**20


class _NoRedirect(HTTPRedirectHandler):
    """Go nowhere else: the issuer is who answers at its address."""

    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect; it becomes an error."""


class IssuerKeys:
    """Holds the keys of an issuer.

    Attributes:
        keys: The keys; None until they could be fetched.
        generation: Rises each time they become others.
    """

    def __init__(self, issuer: str) -> None:
        self.keys: KeySet | None = None
        self.generation = 0
        self._issuer = issuer
        self._opener = build_opener(_NoRedirect)
        self._known: Any = None
        self._looks = 0
        self._is_wanted = False
        self._is_looking = False
        self._next = 0.0
        self._condition = Condition()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to fetch them."""
        with self._condition:
            self._wake()

    def look_again(self, wait_seconds: float) -> bool:
        """Fetch them again, unless that was done just now; return whether they have become others meanwhile.

        Args:
            wait_seconds: How long to wait for that.
        """
        with self._condition:
            before, seen = self.generation, self._looks
            if not self._is_looking and time.monotonic() < self._next:
                return False
            self._wake()
            self._condition.wait_for(lambda: self._looks > seen, wait_seconds)
            return self.generation != before

    def _wake(self) -> None:
        self._is_wanted = True
        if self._thread is None:
            self._thread = Thread(target=self._run, name="issuer", daemon=True)
            self._thread.start()
        self._condition.notify_all()

    def _run(self) -> None:
        while True:
            with self._condition:
                pause = _FRESH_SECONDS if self.keys is not None else None  # else it is the next token that asks
                self._condition.wait_for(lambda: self._is_wanted, pause)
                self._is_wanted, self._is_looking = False, True
            found = self._fetch()
            with self._condition:
                if found is not None and found != self._known:
                    self.keys, self._known = read_key_set(found), found
                    self.generation += 1
                self._is_looking, self._next = False, time.monotonic() + _PAUSE_SECONDS
                self._looks += 1
                self._condition.notify_all()

    def _fetch(self) -> Any:
        """Return the document with the keys; None, and a line in the log, when there is none that can be used."""
        try:
            document = self._get(self._address())
            read_key_set(document)
        except (OSError, ValueError, HTTPException, RecursionError) as error:
            log.warning("the keys of the issuer `%s` cannot be fetched: %s", self._issuer, error)
            return None
        return document

    def _address(self) -> str:
        """Return where the issuer says that its keys are.

        Raises:
            ValueError: It is not this issuer, or does not say.
        """
        described = self._get(self._issuer.rstrip("/") + DISCOVERY)
        if not isinstance(described, dict) or described.get("issuer") != self._issuer:
            raise ValueError("it describes another issuer")
        address = described.get("jwks_uri")
        if not isinstance(address, str) or not is_issuer(address):
            raise ValueError("its `jwks_uri` is not an https address")
        return address

    def _get(self, address: str) -> Any:
        request = Request(address, headers={"Accept": "application/json"})  # noqa: S310 - `is_issuer` has let it pass
        with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
            if response.status != HTTPStatus.OK:
                raise HTTPError(address, response.status, "not 200", response.headers, None)
            content = response.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ValueError("the document is too large")
        return json.loads(content)

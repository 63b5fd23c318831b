"""One caller with a connection that is kept, and what it may be answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Any, Self

from tests.service.running import Answer

TIMEOUT_SECONDS = 20.0


class Client:
    """Talks to one port; not thread-safe."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer | None:
        """Return the answer, None when there was none: then nobody knows whether the request was carried out."""
        content = None if body is None else json.dumps(body).encode()
        try:
            self._connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
            response = self._connection.getresponse()
            # keys as the server writes them: in lower case
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        except (OSError, HTTPException):
            self._connection.close()
            return None


def is_clear_refusal(answer: Answer) -> bool:
    """Whether an answer says that the service cannot at the moment, why, and that it is worth while to ask again."""
    return (
        answer.status == 503
        and answer.headers["content-type"] == "application/problem+json"
        and answer.headers.get("retry-after", "").isdigit()
        and bool(answer.json["detail"])
        and answer.json["status"] == 503
    )

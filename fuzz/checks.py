"""What schemathesis checks of each answer; it loads this by SCHEMATHESIS_HOOKS."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import schemathesis

MOST_SECONDS = 1.0


# Untyped where schemathesis is not: it is there in the environment for fuzzing alone.
@schemathesis.check  # type: ignore[untyped-decorator]
def no_error_inside(_ctx: Any, response: Any, case: Any) -> None:
    """No answer tells of an error inside, and none takes long whenever it is asked for."""
    assert response.status_code != HTTPStatus.INTERNAL_SERVER_ERROR, response.text
    if response.elapsed > MOST_SECONDS:
        again = case.call()  # the machine may have been busy
        taken = again.elapsed.total_seconds() if hasattr(again.elapsed, "total_seconds") else again.elapsed
        assert taken <= MOST_SECONDS, f"it took {response.elapsed:.1f} s, then {taken:.1f} s"

"""The load generator: `wrk`, one thread, sixteen connections."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

_LUA = """
local bodies = { %s }
local at = 0
request = function()
  at = at %% #bodies + 1
  return wrk.format("POST", "/api/v1/check", {["Content-Type"] = "application/json"}, bodies[at])
end
"""
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


class Load(NamedTuple):
    """What a server stood."""

    rate: float
    p99_ms: float


def is_missing() -> bool:
    return shutil.which("wrk") is None


def write_script(place: Path, policy_type: str, contexts: Sequence[dict[str, Any]]) -> Path:
    """Write the Lua script that posts these contexts in turn."""
    bodies = [json.dumps({"policy_type": policy_type, "context": context}) for context in contexts]
    script = place / "post.lua"
    script.write_text(_LUA % ",".join(f"[==[{body}]==]" for body in bodies), encoding="utf-8")
    return script


def run_wrk(url: str, script: Path, *, seconds: int) -> Load:
    """Put load on a server; an answer that is not 2xx, or a broken connection, ends the run."""
    command = ["wrk", "-t1", "-c16", f"-d{seconds}", "--latency", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    if "Non-2xx" in said or "Socket errors" in said or rate is None or tail is None:
        raise SystemExit(f"wrk met errors, so nothing was measured:\n{said}")
    return Load(float(rate[1]), float(tail[1]) * _UNITS[tail[2]])

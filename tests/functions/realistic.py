"""Functions as people write them, each with requests to answer."""

from __future__ import annotations

from typing import Any

REALISTIC: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "model size": (
        """
MIN, MAX = 1_000_000, 1_000_000_000
def judge(context):
    size = context.get("model_size", 0)
    if size < MIN:
        return {"allowed": False, "reason": f"{size} bytes is too small, minimum is {MIN}", "violations": ["small"]}
    if size > MAX:
        return {"allowed": False, "reason": f"{size:,} bytes is too large", "violations": ["large"]}
    return {"allowed": True, "reason": "within limits"}
""",
        [{}, {"model_size": 5_000_000}, {"model_size": 2_000_000_000}],
    ),
    "business hours": (
        """
from datetime import datetime, timezone, timedelta
def judge(context):
    moment = datetime.fromisoformat(context["at"]).astimezone(timezone(timedelta(hours=3)))
    open_now = moment.weekday() < 5 and 9 <= moment.hour < 17
    return {"allowed": open_now, "reason": moment.strftime("%Y-%m-%d %H:%M")}
""",
        [{"at": "2026-03-02T08:30:00+00:00"}, {"at": "2026-03-01T08:30:00+00:00"}, {"at": "2026-03-02T20:00:00+00:00"}],
    ),
    "allow list by pattern": (
        """
import re
ALLOWED = [re.compile(p) for p in (r"^client-\\d{1,3}$", r"^edge-[a-f0-9]{4}$")]
def judge(context):
    name = context.get("client_id", "")
    return {"allowed": any(p.match(name) for p in ALLOWED), "reason": name.upper()}
""",
        [{"client_id": "client-12"}, {"client_id": "edge-00ff"}, {"client_id": "client-1234"}, {}],
    ),
    "weighted score": (
        """
WEIGHTS = {"accuracy": 0.5, "uptime": 0.3, "latency": 0.2}
def judge(context):
    score = sum(WEIGHTS[k] * float(context.get("metrics", {}).get(k, 0)) for k in WEIGHTS)
    return {"allowed": score >= 0.6, "reason": f"score {score:.3f}", "parameters": {"score": round(score, 4)}}
""",
        [{}, {"metrics": {"accuracy": 0.9, "uptime": 0.5, "latency": 1}}, {"metrics": {"accuracy": "0.3"}}],
    ),
    "quota by region": (
        """
from collections import Counter
def judge(context):
    counted = Counter(c["region"] for c in context["clients"])
    over = sorted(r for r, n in counted.items() if n > context["limit"])
    return {"allowed": not over, "violations": over, "parameters": dict(counted)}
""",
        [
            {"clients": [{"region": "eu"}, {"region": "eu"}, {"region": "us"}], "limit": 1},
            {"clients": [], "limit": 0},
        ],
    ),
    "outliers": (
        """
import math
def judge(context):
    norms = context["norms"]
    mean = sum(norms) / len(norms)
    spread = math.sqrt(sum((n - mean) ** 2 for n in norms) / len(norms))
    z = abs(context["norm"] - mean) / spread if spread else 0.0
    return {"allowed": z < 3, "reason": "z=%.2f" % z}
""",
        [
            {"norms": [1.0, 1.1, 0.9, 1.05], "norm": 1.0},
            {"norms": [1, 1], "norm": 9},
            {"norms": [1.0, 2.0], "norm": 30},
        ],
    ),
    "median": (
        """
def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
def judge(context):
    m = median(context["losses"])
    return {"allowed": context["loss"] <= 2 * m, "parameters": {"median": m}}
""",
        [{"losses": [3, 1, 2], "loss": 4}, {"losses": [1, 2, 3, 4], "loss": 5.5}],
    ),
    "network": (
        """
def number(address):
    a, b, c, d = (int(part) for part in address.split("."))
    return (a << 24) | (b << 16) | (c << 8) | d
def inside(address, network):
    base, bits = network.split("/")
    mask = (0xFFFFFFFF << (32 - int(bits))) & 0xFFFFFFFF
    return number(address) & mask == number(base) & mask
def judge(context):
    return {"allowed": any(inside(context["src_ip"], n) for n in ("10.0.0.0/8", "192.168.100.0/24"))}
""",
        [{"src_ip": "10.9.8.7"}, {"src_ip": "192.168.100.20"}, {"src_ip": "192.168.101.20"}],
    ),
    "signature": (
        """
import hashlib
def judge(context):
    found = hashlib.sha256(context["payload"].encode()).hexdigest()
    return {"allowed": found == context["digest"], "reason": found[:12]}
""",
        [
            {"payload": "abc", "digest": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
            {"payload": "", "digest": ""},
        ],
    ),
    "nested settings": (
        """
def get(value, path, default=None):
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return default
        value = value[key]
    return value
def judge(context):
    gpu = get(context, "client.hardware.gpu.memory_gb", 0)
    return {"allowed": gpu >= 8, "reason": f"{gpu} GB"}
""",
        [{"client": {"hardware": {"gpu": {"memory_gb": 16}}}}, {"client": {"hardware": None}}, {}],
    ),
    "privacy budget": (
        """
from decimal import Decimal
def judge(context):
    left = Decimal(context["budget"]) - sum((Decimal(x) for x in context["spent"]), Decimal(0))
    return {"allowed": left >= Decimal(context["wanted"]), "reason": f"{left} left"}
""",
        [{"budget": "1.0", "spent": ["0.1", "0.2"], "wanted": "0.7"}, {"budget": "1.0", "spent": [], "wanted": "1.1"}],
    ),
    "state machine": (
        """
NEXT = {"idle": {"start"}, "running": {"pause", "stop"}, "paused": {"resume", "stop"}}
def judge(context):
    state, action = context.get("state", "idle"), context.get("action")
    allowed = action in NEXT.get(state, set())
    options = sorted(NEXT.get(state, []))
    return {"allowed": allowed, "reason": f"{state} -> {action!r}", "parameters": {"options": options}}
""",
        [{"action": "start"}, {"state": "running", "action": "resume"}, {"state": "gone"}],
    ),
    "round robin": (
        """
def judge(context):
    clients = sorted(set(context["clients"]))
    turn = clients[context["round"] % len(clients)]
    return {"allowed": turn == context["client_id"], "reason": f"it is {turn}'s turn"}
""",
        [{"clients": ["b", "a", "c"], "round": 4, "client_id": "b"}, {"clients": ["a"], "round": 9, "client_id": "x"}],
    ),
    "stable share": (
        """
import hashlib
def judge(context):
    number = int(hashlib.md5(context["client_id"].encode()).hexdigest()[:8], 16)
    return {"allowed": number % 100 < 30, "parameters": {"bucket": number % 100}}
""",
        [{"client_id": f"client-{number}"} for number in range(6)],
    ),
    "json in a field": (
        """
import json
def judge(context):
    try:
        sent = json.loads(context["body"])
    except ValueError:
        return {"allowed": False, "reason": "not JSON"}
    return {"allowed": sent.get("version", 0) >= 2, "reason": json.dumps(sent, sort_keys=True)}
""",
        [{"body": '{"version": 2, "a": [1, null]}'}, {"body": "{"}, {"body": "{}"}],
    ),
    "class": (
        """
class Limits:
    low = 1
    def __init__(self, high):
        self.high = high
    def holds(self, value):
        return self.low <= value <= self.high
def judge(context):
    limits = Limits(high=context.get("max", 10))
    return {"allowed": all(limits.holds(v) for v in context["values"])}
""",
        [{"values": [1, 5]}, {"values": [0]}, {"values": [11], "max": 11}],
    ),
    "record": (
        """
from dataclasses import dataclass
@dataclass
class Client:
    name: str
    rank: int = 0
def judge(context):
    ranked = sorted((Client(**c) for c in context["clients"]), key=lambda c: (-c.rank, c.name))
    return {"allowed": ranked[0].name == context["wanted"], "parameters": {"order": [c.name for c in ranked]}}
""",
        [{"clients": [{"name": "b"}, {"name": "a"}, {"name": "c", "rank": 2}], "wanted": "c"}],
    ),
    "text": (
        """
def judge(context):
    words = context["text"].strip().lower().replace(",", " ").split()
    longest = max(words, key=len, default="")
    shown = "|".join(w.title().rjust(6, ".") for w in words)
    return {"allowed": len(words) <= 5, "reason": shown, "violations": [longest[::-1]]}
""",
        [{"text": " Hello, World "}, {"text": "a b c d e f"}, {"text": ""}],
    ),
    "missing and malformed": (
        """
def judge(context):
    problems = []
    for key, kind in (("client_id", str), ("round", int), ("loss", float)):
        if key not in context:
            problems.append(f"{key} is missing")
        elif not isinstance(context[key], kind):
            problems.append(f"{key} is not {kind.__name__}")
    return {"allowed": not problems, "violations": problems}
""",
        [{}, {"client_id": "a", "round": 1, "loss": 0.5}, {"client_id": 1, "round": "1", "loss": 1}],
    ),
    "match statement": (
        """
def judge(context):
    match context:
        case {"op": "read"}:
            return {"allowed": True}
        case {"op": "write", "role": "admin" | "author" as role}:
            return {"allowed": True, "reason": role}
        case {"op": str(op), **rest}:
            return {"allowed": False, "reason": op, "parameters": rest}
    return {"allowed": False, "reason": "no op"}
""",
        [{"op": "read"}, {"op": "write", "role": "author"}, {"op": "write", "role": "x", "n": 1}, {}],
    ),
    "moving average": (
        """
from itertools import accumulate
from functools import reduce
def judge(context):
    losses = context["losses"]
    smooth = list(accumulate(losses, lambda a, b: 0.5 * a + 0.5 * b))
    falling = all(b <= a for a, b in zip(smooth, smooth[1:]))
    return {"allowed": falling, "parameters": {"last": smooth[-1], "product": reduce(lambda a, b: a * b, losses, 1)}}
""",
        [{"losses": [4, 3, 2.5, 1]}, {"losses": [1, 2, 3]}],
    ),
    "try and finally": (
        """
def judge(context):
    steps = []
    try:
        ratio = context["done"] / context["all"]
    except ZeroDivisionError:
        steps.append("empty")
        ratio = 0
    except (KeyError, TypeError) as error:
        return {"allowed": False, "reason": type(error).__name__}
    else:
        steps.append("reckoned")
    finally:
        steps.append("done")
    return {"allowed": ratio >= 0.5, "violations": steps}
""",
        [{"done": 1, "all": 2}, {"done": 1, "all": 0}, {"done": 1}, {"done": "x", "all": 2}],
    ),
    "sets": (
        """
def judge(context):
    needed, held = {"train", "report"}, set(context.get("capabilities", []))
    missing = sorted(needed - held)
    return {"allowed": needed <= held, "violations": missing, "parameters": {"extra": sorted(held ^ needed)}}
""",
        [{}, {"capabilities": ["train", "report", "x"]}],
    ),
    "numbers": (
        """
def judge(context):
    n = context["n"]
    return {"allowed": n % 2 == 0, "parameters": {"parts": list(divmod(n, 7)), "power": pow(n, 3, 11), "half": n / 2,
            "floor": -n // 2, "rounded": round(n / 3, 2), "hex": hex(n), "shown": f"{n:08.3f}|{n:>+6}|{n:e}"}}
""",
        [{"n": 10}, {"n": 7}, {"n": 123456}],
    ),
}

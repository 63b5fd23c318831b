"""Flower itself is in an environment of its own; elsewhere nothing here is collected."""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from importlib.util import find_spec

collect_ignore_glob: list[str] = []
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

if find_spec("flwr") is None:
    collect_ignore_glob.append("test_*.py")
else:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its dependencies warn about each other while they are imported
        import_module("flwr.serverapp.strategy")

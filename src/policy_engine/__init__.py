"""The policy decision point for federated learning."""

from policy_engine.model.decision import Decision, Outcome
from policy_engine.model.errors import (
    InvalidPolicyError,
    InvalidRequestError,
    PolicyEngineError,
)
from policy_engine.pdp import PolicyEngine

__all__ = [
    "Decision",
    "InvalidPolicyError",
    "InvalidRequestError",
    "Outcome",
    "PolicyEngine",
    "PolicyEngineError",
    "__version__",
]
__version__ = "0.1.0"

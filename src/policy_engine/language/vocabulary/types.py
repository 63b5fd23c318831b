"""The registry of policy types that exist without being declared in a file."""

from __future__ import annotations

from policy_engine.model.policy import Combining, TypeSpec

BUILT_IN: dict[str, TypeSpec] = {}
"""Every built-in type by name."""


def register(spec: TypeSpec) -> None:
    """Make a type known.

    Raises:
        ValueError: It is known already: its meaning would change under the policies that have it.
    """
    if spec.name in BUILT_IN:
        raise ValueError(f"type `{spec.name}` is known already")
    BUILT_IN[spec.name] = spec


register(
    TypeSpec(
        name="network_security",
        combining=Combining.FIRST_APPLICABLE,
        required=("protocol",),
        description="which flows may pass",
    )
)

_DENIED_BY_DEFAULT = {
    "fl_client_start": "whether a client may join",
    "fl_security": "whether an operation on models and updates is safe",
}
_ALLOWED_BY_DEFAULT = {
    "fl_client_training": "whether a client may train, and with which parameters",
    "fl_client_evaluation": "whether a client may evaluate, and how",
    "fl_client_selection": "whether a round may be configured with these clients",
    "fl_server_control": "whether the next round may start",
    "fl_server_client_filter": "which clients may be selected",
    "fl_server_aggregation": "whether a client's update may be aggregated",
    "fl_training_parameters": "the parameters of training",
    "fl_performance": "how participation and performance are watched",
    "trust_reputation": "what follows from a client's trust",
    "security": "whom to exclude or to quarantine",
    "security_monitoring": "what is watched for attacks",
    "data_privacy": "how data and updates are protected",
    "resource_control": "how much of a resource may be used",
    "network_qos": "how traffic is prioritised",
    "temporal_control": "what is possible when",
    "performance_optimization": "how load is met",
    "reliability": "what follows from failures",
    "reliability_management": "how failures are met before they happen",
    "compliance_control": "what has to be proven",
    "load_management": "where load goes",
    "demonstration": "examples",
}
for _name, _description in _DENIED_BY_DEFAULT.items():
    register(TypeSpec(name=_name, default=False, description=_description))
for _name, _description in _ALLOWED_BY_DEFAULT.items():
    register(TypeSpec(name=_name, default=True, description=_description))

"""The engine inside Flower: wrap a strategy, and it asks."""

from policy_engine.integrations.flower.strategy import PolicyStrategy

__all__ = ["PolicyStrategy"]

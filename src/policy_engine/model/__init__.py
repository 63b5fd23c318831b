"""Frozen value types: what passes between the parts of the engine."""

"""Conditions: the Common Expression Language, strict, compiled to Python code objects."""

"""Measurements beside peers, with thresholds in `thresholds.toml`."""

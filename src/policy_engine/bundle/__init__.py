"""Signed bundles of policies: what they look like, how they are made, and when one is to be believed."""

"""The command `policy-engine`."""

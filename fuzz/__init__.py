"""Fuzzing: what reads strangers' bytes is given all kinds of them; `make fuzz` and `make fuzz-quick` run it."""

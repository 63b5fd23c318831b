"""The pure core: a policy set becomes a program, and a program decides."""

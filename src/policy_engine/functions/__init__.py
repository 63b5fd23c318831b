"""Custom policy functions: read them, check them without running them, run them in a sandbox."""

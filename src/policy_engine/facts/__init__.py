"""What the engine knows itself and a caller may not claim."""

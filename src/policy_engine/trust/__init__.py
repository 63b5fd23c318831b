"""Trust: what clients earn and lose by the updates that they send. Pure: no clock, no storage, no network."""

"""Other engines, each given the same rules in the fastest form it has a proper interface for.

What is true of all: rules are parsed and indexed before the clock starts, and so is each request brought into the form
that the peer takes fastest (`prepare`). This engine reads plain contexts, so whatever `prepare` costs is in the peers'
favour. Among network rules denies stand before allows, so deny-overrides, which the peers do, gives the same answers as
first-applicable; threshold rules are deny-overrides everywhere. Each module says what its peer is given, and why that
is its fastest form.
"""

from benchmarks.peers.peer import Peer

__all__ = ["Peer"]

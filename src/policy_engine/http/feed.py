"""The fan-out: events from the log to everybody who follows them, in the form of Server-Sent Events.

Nothing is lost and nothing comes twice, because there is no difference between who is up to date and who catches up.
Those who stand at the same place (a cursor, and the types they want) form a track. In each round the tracks are read
from the log in one state of it; each then moves to the cursor behind what its members were sent, and nowhere else. All
that come to the end of that state have the same cursor from then on, so tracks of the same types become one there.
Who joins stands at the cursor it brings, or gets the one at the end of the next round. Each event carries the cursor
behind it as its id, so a client that was cut anywhere resumes behind the last event that it received whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import NamedTuple, Protocol

import msgspec

from policy_engine.model.event import Event
from policy_engine.store.events import EventLog
from policy_engine.store.following import Followed, Place

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.1
KEEP_ALIVE_SECONDS = 15.0
BUFFER_BYTES = 256 * 1024
"""How much may wait for a subscriber when there is more for it: one that takes so little is cut off."""

FRAME_BYTES = 256 * 1024
"""How much is sent to a subscriber at once, about."""

_AGAIN_SECONDS = 0.02
_FAULT_SECONDS = 1.0
_STALL_SECONDS = 10.0
_ROUND_EVENTS = 200
_ROUND_TRACKS = 32
_TURN = 32
"""How many subscribers are served before other threads get a chance to take the interpreter lock."""

_encode = msgspec.json.Encoder().encode


class Frame(NamedTuple):
    """What is written to many subscribers: as it is, and as a chunk of HTTP/1.1."""

    plain: bytes
    chunked: bytes


class Subscriber(Protocol):
    """Somebody who follows the events."""

    @property
    def waiting(self) -> int:
        """How many bytes were sent and have not been taken yet."""

    def send(self, frame: Frame) -> None:
        """Send something after all that was sent before."""

    def cut(self) -> None:
        """End the stream at once; `Feed.leave` follows."""


class Track:
    """All who stand at the same place.

    Attributes:
        served: When it was read last.
        behind: Whether there was more than it was sent.
        held_since: Since when its only member has not taken what it was sent.
    """

    __slots__ = ("behind", "held_since", "members", "place", "served")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.members: dict[Subscriber, None] = {}
        self.served = 0.0
        self.behind = True
        self.held_since: float | None = None


class Stride(NamedTuple):
    """What the members of a track are sent, and where they stand after it."""

    frame: Frame
    place: Place
    behind: bool


class Feed:
    """Sends the events of a log to subscribers; lives on one event loop."""

    def __init__(self, events: EventLog, executor: Executor, *, keep_alive_seconds: float = KEEP_ALIVE_SECONDS) -> None:
        """Prepare.

        Args:
            events: What is followed.
            executor: Where the log is read: that may wait for a disk.
            keep_alive_seconds: How often something is sent, if only a comment.
        """
        self._events = events
        self._executor = executor
        self._keep_alive_seconds = keep_alive_seconds
        self._tracks: dict[Place, Track] = {}
        self._track_of: dict[Subscriber, Track] = {}
        self._joined = asyncio.Event()
        self._next_keep_alive = 0.0

    def __len__(self) -> int:
        return len(self._track_of)

    def join(self, subscriber: Subscriber, place: Place) -> None:
        """Let somebody follow from a place on."""
        track = self._track_of[subscriber] = self._tracks.setdefault(place, Track(place))
        track.members[subscriber] = None
        self._joined.set()

    def leave(self, subscriber: Subscriber) -> None:
        """Forget somebody, who may be unknown."""
        track = self._track_of.pop(subscriber, None)
        if track is None:
            return
        del track.members[subscriber]
        if not track.members and self._tracks.get(track.place) is track:
            del self._tracks[track.place]

    async def run(self) -> None:
        """Send events until this is cancelled."""
        clock = asyncio.get_running_loop().time
        next_flush = 0.0
        self._next_keep_alive = clock() + self._keep_alive_seconds
        while True:
            await self._wait(next_flush)
            now = clock()
            is_flush = now >= next_flush
            if is_flush:
                next_flush = now + FLUSH_SECONDS
            try:
                await self._keep_alive(now)
                await self._round(self._choose(now, everybody=is_flush), now)
            except Exception:  # whatever is wrong with one event must not end the streams for good
                log.exception("the event stream failed; it goes on")
                await asyncio.sleep(_FAULT_SECONDS)

    async def _wait(self, next_flush: float) -> None:
        """Wait for the next flush or somebody who joins, or only a moment while somebody catches up."""
        await asyncio.sleep(_AGAIN_SECONDS)
        if any(track.behind for track in self._tracks.values()):
            return
        self._joined.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(next_flush if self._tracks else None):
                await self._joined.wait()

    async def _round(self, tracks: Sequence[Track], now: float) -> None:
        """Bring some tracks a step further."""
        if not tracks:
            return
        places = [track.place for track in tracks]
        loop = asyncio.get_running_loop()
        for track, step in zip(tracks, await loop.run_in_executor(self._executor, self._read, places), strict=True):
            track.served = now
            await self._move(track, step)

    def _choose(self, now: float, *, everybody: bool) -> list[Track]:
        """Return the tracks whose turn it is: of those that catch up, or of all.

        With each one that catches up goes the largest of the same types, so that it can become part of that.
        """
        ready = [track for track in self._tracks.values() if not self._is_held(track, now)]
        wanted = sorted((track for track in ready if everybody or track.behind), key=lambda track: track.served)
        turn = wanted[:_ROUND_TRACKS]
        types = {track.place.types for track in (ready if everybody else turn)}
        by_size = sorted(ready, key=lambda track: len(track.members))
        largest = {track.place.types: track for track in by_size if track.place.types in types}
        return list(dict.fromkeys([*list(largest.values())[-_ROUND_TRACKS:], *turn]))

    def _is_held(self, track: Track, now: float) -> bool:
        """Whether to wait for the only one there, who catches up and has not taken yet what it was sent."""
        if not track.behind or len(track.members) != 1:
            return False
        (member,) = track.members
        if member.waiting <= BUFFER_BYTES // 4:
            track.held_since = None
            return False
        track.held_since = track.held_since or now
        if now - track.held_since > _STALL_SECONDS:
            member.cut()
        return True

    def _read(self, places: Sequence[Place]) -> list[Stride]:
        """Read the log and encode each event once a track; runs in the executor."""
        found = self._events.follow(places, _ROUND_EVENTS)
        return [stride(place, followed) for place, followed in zip(places, found, strict=True)]

    async def _move(self, track: Track, to: Stride) -> None:
        """Move a track, then send its members what lies between: who joins meanwhile stands where it says it does."""
        if self._tracks.get(track.place) is not track:
            return  # everybody has left, or it has become part of another one
        members = list(track.members)
        del self._tracks[track.place]
        there = self._tracks.get(to.place)
        small, large = (track, there or track) if there is None or len(there.members) > len(members) else (there, track)
        if small is not large:
            large.members.update(small.members)
            self._track_of.update(dict.fromkeys(small.members, large))
        large.place, large.behind, large.served = to.place, to.behind, track.served
        self._tracks[to.place] = large
        if to.frame.plain:
            await self._send(members, to.frame)

    async def _send(self, members: Sequence[Subscriber], frame: Frame) -> None:
        for number, member in enumerate(members, 1):
            if member not in self._track_of:
                continue  # it has left since
            if member.waiting > BUFFER_BYTES:
                member.cut()
            else:
                member.send(frame)
            if not number % _TURN:
                await asyncio.sleep(0)

    async def _keep_alive(self, now: float) -> None:
        """Send a comment, and as an id without an event the place where each stands: clients then resume from there."""
        if now < self._next_keep_alive:
            return
        self._next_keep_alive = now + self._keep_alive_seconds
        for track in list(self._tracks.values()):
            if track.place.cursor is not None:
                idle = [member for member in track.members if not member.waiting]
                await self._send(idle, make_frame([b": keep-alive\n", _id(track.place.cursor)]))


def stride(place: Place, followed: Followed) -> Stride:
    """Return what is sent to those at a place, for what was found behind it."""
    parts, cursor, size = list(_begin(place, followed)), followed.cursor, 0
    for event, behind_it in followed.events:
        if size >= FRAME_BYTES:
            return Stride(make_frame(parts), Place(cursor, place.types), behind=True)
        cursor = behind_it
        parts.append(encode_event(event, cursor))
        size += len(parts[-1])
    return Stride(make_frame(parts), Place(followed.cursor, place.types), behind=not followed.complete)


def _begin(place: Place, followed: Followed) -> Iterator[bytes]:
    """Yield what comes before the events; who has no id yet to resume from gets one."""
    if followed.gap:
        yield b"event: gap\ndata: {}\n\n"
    if place.cursor is None or (followed.gap and not followed.events):
        yield _id(followed.cursor)


def encode_event(event: Event, cursor: str) -> bytes:
    """Return one event as Server-Sent Events has it."""
    head = f"event: {event.event_type}\nid: {cursor}\ndata: ".encode()
    return b"%b%b\n\n" % (head, _encode(event))


def make_frame(parts: Sequence[bytes]) -> Frame:
    """Put together what is written at once."""
    content = b"".join(parts)
    return Frame(content, b"%x\r\n%b\r\n" % (len(content), content) if content else b"")


def _id(cursor: str) -> bytes:
    """Return an id without an event: it dispatches nothing, but a client that reconnects sends it."""
    return f"id: {cursor}\n\n".encode()

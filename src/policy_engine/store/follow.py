"""Follow what other processes change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from sqlalchemy import Connection

from policy_engine.model.errors import StoreUnavailableError
from policy_engine.store.database import Database, translated
from policy_engine.store.revisions import CHANNEL

log = logging.getLogger(__name__)


class Follower:
    """Calls back at short intervals, and on PostgreSQL as soon as a revision is announced."""

    def __init__(self, database: Database, look: Callable[[], None], interval_seconds: float) -> None:
        self._database = database
        self._look = look
        self._interval = interval_seconds
        self._stop = Event()
        self._listening: Connection | None = None
        self._thread = Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End following and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._database.is_sqlite:
                self._stop.wait(self._interval)
            else:
                self._wait_for_notice()
            try:
                self._look()
            except Exception:  # a process that stops following would answer from old policies for good
                log.exception("following other processes failed; it goes on")
        self._drop()

    def _wait_for_notice(self) -> None:
        try:
            with translated(self._database.url):
                driver = self._listen()
                for _ in driver.notifies(timeout=self._interval, stop_after=1):
                    pass
        except StoreUnavailableError:  # polling goes on without notices
            self._drop()
            self._stop.wait(self._interval)

    def _listen(self) -> Any:
        if self._listening is None:
            self._listening = self._database.connect()
            self._listening.exec_driver_sql(f"LISTEN {CHANNEL}")
        return self._listening.connection.driver_connection

    def _drop(self) -> None:
        connection, self._listening = self._listening, None
        if connection is not None:
            with suppress(Exception):  # it may be broken already
                connection.invalidate()
                connection.close()

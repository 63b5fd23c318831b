"""A grid in this process: each message goes to a function and comes back, with no Ray and no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # what the process of a server is given

App = Callable[[Message], RecordDict | None]
"""What a client does with a message; None is no reply."""


class LocalGrid(Grid):  # type: ignore[misc]  # Flower is not there where types are checked
    """Clients by node.

    Attributes:
        sent: Every message that went out, in order.
    """

    def __init__(self, apps: Mapping[int, App]) -> None:
        self.apps = dict(apps)
        self.sent: list[Message] = []

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *_: Any, **__: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.apps)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        del timeout  # nobody waits here
        replies = []
        for message in messages:
            self.sent.append(message)
            try:
                content = self.apps[message.metadata.dst_node_id](message)
            except RuntimeError as error:
                replies.append(Message(Error(code=1, reason=str(error)), reply_to=message))
                continue
            if content is not None:
                replies.append(Message(content, reply_to=message))
        return replies

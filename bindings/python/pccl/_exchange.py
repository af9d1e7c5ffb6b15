"""Messages from one peer to another."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from . import _pccl
from ._arguments import OfThisProcess, seconds
from ._enums import Result
from ._errors import PCCLError, PCCLTimeoutError

_NOT_DELIVERED = (Result.RANK_CONNECTION_LOST, Result.RANK_CONNECTION_FAILED)


class Message(NamedTuple):
    """What `Communicator.receive` gives."""

    sender: uuid.UUID
    data: bytearray
    """Its bytes, which are the receiver's: `numpy.frombuffer(message.data, dtype)` or `torch.frombuffer(message.data, dtype=dtype)`."""
    tag: int
    sequence: int
    """Grows with each message that `sender` posts to this peer. A gap is a message that was not delivered."""


class PostHandle(OfThisProcess):
    """A message on its way. Its data is kept until the outcome is known; do not change it before."""

    def __init__(self, communicator: _pccl.Communicator, post: _pccl.Post) -> None:
        self._communicator = communicator
        self._post = post
        self._outcome: tuple[int, str] | None = None

    @property
    def message(self) -> str:
        """Why it was not delivered, in the library's words; "" if it was, or if that is not known yet."""
        return self._outcome[1] if self._outcome else ""

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is known what became of the message. May be called again, with the same answer.

        True: the whole message is in the receiver's mailbox, or the receiver was lost before it could confirm that. False: it is not and
        never will be, because the receiver was lost or its mailbox was full for the timeout of `post`. This peer still has the content.

        Raises PCCLTimeoutError if that is not known after `timeout` seconds (None: no limit), which ends nothing: wait again. Other PCCLErrors:
        INVALID_ARGUMENT, the message is larger than the receiver's mailbox; and what ends this peer's own membership.
        """
        limit = seconds(timeout)
        if self._outcome is None:
            self._outcome = self._communicator.await_post(self._post, limit)
            if self._outcome is None:
                raise PCCLTimeoutError(Result.TIMEOUT, "pcclAwaitPost", "the message is still on its way: wait again")
        result = Result(self._outcome[0])
        if result != Result.SUCCESS and result not in _NOT_DELIVERED:
            raise PCCLError(result, "pcclAwaitPost", self.message)
        return result == Result.SUCCESS

    def __repr__(self) -> str:
        return f"PostHandle({'on its way' if self._outcome is None else Result(self._outcome[0]).name})"

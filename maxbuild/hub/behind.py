"""Work done one piece behind: a thread takes what it is given, in order, while its giver gets the next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

_MOST_WAITING: Final = 4

Piece = TypeVar("Piece")


class Behind(Generic[Piece]):
    """Calls `take` with each piece, one after the other. The first error is raised where the next piece is put."""

    def __init__(self, take: Callable[[Piece], None]) -> None:
        """Start the thread."""
        self._take = take
        self._pieces: SimpleQueue[Piece | None] = SimpleQueue()
        self._room = threading.Semaphore(_MOST_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="maxbuild-download", daemon=True)
        self._thread.start()

    def put(self, piece: Piece) -> None:
        """Have `piece` taken; waits where too many wait already. Raises what went wrong with an earlier one."""
        self._room.acquire()
        if self._error is not None:
            self._room.release()
            raise self._error
        self._pieces.put(piece)

    def drain(self) -> None:
        """Wait until all pieces are taken, or raise what went wrong with one."""
        for _ in range(_MOST_WAITING):
            self._room.acquire()
        self._room.release(_MOST_WAITING)
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """End the thread, once what waits is taken."""
        self._pieces.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (piece := self._pieces.get()) is not None:
            try:
                if self._error is None:
                    self._take(piece)
            except BaseException as error:  # noqa: BLE001 - a thread has nobody above it: who puts the next piece has
                self._error = error
            finally:
                self._room.release()

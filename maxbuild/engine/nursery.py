"""The nursery (a fork server), as the build sees it: a process that imports once what each task of a kind would import.

Invariant: a task leaves what it would leave in a fresh process, and gets one where a nursery cannot be had or is lost.
What the other process does is in `forking`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial

from maxbuild.engine.children import Children
from maxbuild.engine.isolation import Ends, Wait, python_command

_PATIENCE = 5.0


class Nursery:
    """One process that has called `preload` ("package.module:function"), started on first need, until `close`."""

    def __init__(self, preload: str) -> None:
        """Take what imports; nothing is started yet."""
        self._preload = preload
        self._mutex = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._useless = False
        self._running = 0

    def start(self, environment: Mapping[str, str], children: Children, ends: Ends) -> Wait | None:
        """Have a child forked that reads its request from `ends`; None where no child can be had from here.

        environment: what the nursery gets where it is not there yet. Raise Cancelled once all `children` were killed.
        """
        with self._mutex, ExitStack() as undo:
            if self._process is None and not self._useless:
                self._open(environment, children)
            if self._control is None or self._useless:
                return None
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                children.add(ours, partial(_order_to_kill, ours))
                undo.callback(children.remove, ours)
                try:
                    socket.send_fds(self._control, [b"f"], [*ends, theirs.fileno()])
                except OSError:  # it ended, and those that it had hear so too
                    self._useless = True
                    return None
            undo.pop_all()
            self._running += 1
        return partial(self._wait, ours, children)

    def _wait(self, child: socket.socket, children: Children) -> int | None:
        """Wait for a child's end and return its status; None where the nursery ended first, or could not fork."""
        with child:
            try:
                said = child.recv(16)
            except ConnectionResetError:  # it ended with an order to kill unread
                said = b""
            finally:
                children.remove(child)
        with self._mutex:
            self._running -= 1
        return int(said) if said else None

    def _open(self, environment: Mapping[str, str], children: Children) -> None:
        """Start the process and wait until it has imported everything, or has ended instead."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, ExitStack() as undo:
            undo.callback(ours.close)
            command = [*python_command("maxbuild.engine.forking"), self._preload]
            # Not in the folder of a task, which goes when the task ends.
            options = {"stdin": theirs, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": os.sep}
            process = children.start(command, env=environment, **options)
            theirs.close()
            if not ours.recv(1):
                self._useless = True
                children.ended(process)
                return
            undo.pop_all()
        children.remove(process)  # from now on it ends when it is told to, after its own children
        self._process, self._control = process, ours

    def rest(self) -> None:
        """Give back the memory, if nothing runs that came from here; the next start imports again."""
        if self._mutex.acquire(blocking=False):
            try:
                if not self._running:
                    self._end()
            finally:
                self._mutex.release()

    def close(self) -> None:
        """End the process, and whatever it has forked that still runs."""
        with self._mutex:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if self._control is not None:
            self._control.close()
            self._control = None
        if process is not None:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _order_to_kill(child: socket.socket) -> None:
    """Have a nursery kill a child and its process group: it alone knows whether the number is still that child's."""
    with suppress(OSError):
        child.send(b"k")

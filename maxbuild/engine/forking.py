"""The nursery's own process: imports what it is told to, then forks a child for every request, and tells how it ended.

`python -m maxbuild.engine.forking PRELOAD`, with a socket as stdin. It says one byte when it is ready. Each message
brings four descriptors: the child's stdin, output and progress, and a socket for the child's exit status; whatever
comes over that one, or its end, is an order to kill the child. When the builder dies, all its sockets end, and with
them this process and all that it has forked.
"""

from __future__ import annotations

import gc
import os
import select
import selectors
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, NoReturn, cast

from maxbuild.engine import worker
from maxbuild.engine.children import kill_group
from maxbuild.engine.steps import find_step

_DESCRIPTORS = 4

Settle = Callable[[], object]


class _Child(NamedTuple):
    """A child that runs: its number, a descriptor that tells its end, and the socket over which its builder speaks."""

    pid: int
    end: int
    builder: socket.socket

    def let_go(self) -> None:
        os.close(self.end)
        self.builder.close()


def main() -> None:
    """Import, say so, and serve until the builder wants no more; say nothing where it would be wrong to fork."""
    control = socket.socket(fileno=worker.take_stdin())
    # What libraries say while they are imported belongs into every child's log: each would have heard it.
    said = os.memfd_create("said")
    os.dup2(said, 1)
    os.dup2(said, 2)
    with _dying_with(control):
        settle = cast("Callable[[], Settle]", find_step(sys.argv.pop()))()
    _flush()
    # Garbage is looked for among what children make; pages with what is here already stay shared.
    gc.freeze()
    if _is_alone():
        control.send(b"r")
        _Server(control, said, settle).serve()
    os._exit(0)


@contextmanager
def _dying_with(control: socket.socket) -> Iterator[None]:
    """Kill this process when the builder dies before the context is left: who imports does not listen."""
    waits, done = os.pipe()

    def watch() -> None:
        if waits not in select.select([control.fileno(), waits], [], [])[0]:
            os.killpg(0, signal.SIGKILL)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(done)
        thread.join()
        os.close(waits)


def _is_alone() -> bool:
    """Return whether this process has a single thread: a fork would copy what others are in the midst of.

    Asked after a fork, as CPython does since 3.12 (Modules/posixmodule.c, warn_about_fork_with_threads): a pool of
    threads that knows of forks has ended itself for it and starts again when it is used (OpenBLAS, blas_server.c).
    """
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return len(list(Path("/proc/self/task").iterdir())) == 1


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


class _Server:
    """Forks children and reaps them, in one thread."""

    def __init__(self, control: socket.socket, said: int, settle: Settle) -> None:
        self._control = control
        self._said = said
        self._settle = settle
        self._selector = selectors.DefaultSelector()
        self._children: set[_Child] = set()

    def serve(self) -> None:
        """Serve until the builder has gone, or wants no more."""
        self._selector.register(self._control, selectors.EVENT_READ)
        try:
            while True:
                key, _ = self._selector.select()[0]  # one at a time: it can change what else there is to do
                if key.data is None:
                    if not self._take_request():
                        return
                elif key.fd == key.data.end:
                    self._reap(key.data)
                else:
                    self._kill(key.data)
        finally:
            for child in self._children:
                kill_group(child.pid)
                os.waitpid(child.pid, 0)

    def _take_request(self) -> bool:
        """Take a request and fork; return whether there was one."""
        message, descriptors, _, _ = socket.recv_fds(self._control, 1, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        with ExitStack() as own:
            for descriptor in descriptors:
                own.callback(os.close, descriptor)
            # Where one is missing (too many are open), or no process can be started, the builder hears no status.
            if len(descriptors) == _DESCRIPTORS:
                with suppress(OSError):
                    self._fork(*descriptors)
        return bool(message)

    def _fork(self, stdin: int, output: int, progress: int, told: int) -> None:
        builder = socket.socket(fileno=os.dup(told))
        with ExitStack() as undo:
            undo.callback(builder.close)
            pid = os.fork()
            if pid == 0:
                builder.close()
                os.close(told)
                self._become_child(stdin, output, progress)
            undo.callback(os.waitpid, pid, 0)
            undo.callback(os.kill, pid, signal.SIGKILL)
            os.setpgid(pid, pid)  # the child does it too: whoever is first
            child = _Child(pid, os.pidfd_open(pid), builder)
            undo.pop_all()
        self._children.add(child)
        self._selector.register(child.end, selectors.EVENT_READ, child)
        self._selector.register(child.builder, selectors.EVENT_READ, child)

    def _kill(self, child: _Child) -> None:
        """Kill a child whose builder wants that, or is gone; its end comes when it has ended."""
        self._selector.unregister(child.builder)
        kill_group(child.pid)

    def _reap(self, child: _Child) -> None:
        """End what a child left running, and tell how it ended.

        The group is killed before its leader is reaped: until then nobody else can be given the same number.
        """
        kill_group(child.pid)
        _, status = os.waitpid(child.pid, 0)
        self._children.remove(child)
        self._selector.unregister(child.end)
        with suppress(KeyError):  # it was told to kill
            self._selector.unregister(child.builder)
        with suppress(OSError):
            child.builder.send(b"%d" % os.waitstatus_to_exitcode(status))
        child.let_go()

    def _become_child(self, stdin: int, output: int, progress: int) -> NoReturn:
        """Be, in a fork, what `worker` is in a fresh process."""
        try:
            os.setpgid(0, 0)
            self._selector.close()
            self._control.close()
            for sibling in self._children:
                sibling.let_go()
            for descriptor, places in ((stdin, (0,)), (output, (1, 2))):
                for place in places:
                    os.dup2(descriptor, place)
                os.close(descriptor)
            os.write(1, os.pread(self._said, os.fstat(self._said).st_size, 0))
            os.close(self._said)
            worker.main_of_fork(self._settle, progress)
        except BaseException:  # noqa: BLE001 - nobody is above: the log is told
            traceback.print_exc()
        finally:
            _flush()
            os._exit(1)


if __name__ == "__main__":
    main()

"""Children of a test that die, meet a limit, or see another disk than their parent; what they may take from root."""

from __future__ import annotations

import ctypes
import json
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from maxbuild.engine.writer import _SETTINGS
from maxbuild.errors import MaxbuildError

JSONAnswer = Any


@pytest.fixture(scope="module", autouse=True)
def spared_disk() -> Iterator[None]:
    """Let SQLite sync nothing, as `os.fsync` does nothing in these tests: only a machine that goes down could tell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_SETTINGS, "sqlite_synchronous", 0)
        yield


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit status, minus the signal that killed it, and what its work returned."""

    status: int
    answer: JSONAnswer = None


def in_child(work: Callable[[], JSONAnswer]) -> Ended:
    """Do `work` in a forked child.

    A MaxbuildError is the answer `{"error": ...}`, and its exit code the status. Where the machine does not let the
    child do something, the test is skipped; any other exception fails it.
    """
    receiver, sender = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn where the test runner has threads
        child = os.fork()
    if child == 0:
        os.close(receiver)
        _answer(work, sender)
    os.close(sender)
    with os.fdopen(receiver, "rb") as pipe:
        answer = json.loads(pipe.read() or "null")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    match answer:
        case {"crash": trace}:
            pytest.fail(trace)
        case {"unsupported": what}:
            pytest.skip(f"this machine does not allow it: {what}")
    return Ended(status, answer)


def _answer(work: Callable[[], JSONAnswer], sender: int) -> NoReturn:
    status = 0
    try:
        answer = work()
    except MaxbuildError as error:
        answer, status = {"error": error.to_json()}, error.exit_code
    except Unsupported as error:
        answer = {"unsupported": str(error)}
    except BaseException:  # noqa: BLE001 - nobody is above: the parent fails the test
        answer, status = {"crash": traceback.format_exc()}, 70
    os.write(sender, json.dumps(answer).encode())
    os._exit(status)


# What a child can take from itself

_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000
_READ_ONLY, _REMOUNT, _RECURSIVE, _PRIVATE = 1, 32, 16384, 1 << 18
_CAPABILITIES_3 = 0x20080522


class Unsupported(Exception):
    """This machine does not let a process do that."""


def drop_capabilities() -> None:
    """Make the rights of files count for this process, also where it is root's."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


def mount_tmpfs(place: Path, options: str) -> None:
    """Mount an empty tmpfs at `place`, which this process and its children alone see."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _call("unshare", _NEW_MOUNTS)
    else:
        _call("unshare", _NEW_MOUNTS | _NEW_USERS)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _call("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)
    _call("mount", b"none", os.fsencode(place), b"tmpfs", 0, options.encode())


def remount(place: Path, options: str = "", *, read_only: bool = False) -> None:
    """Change what `mount_tmpfs` mounted: its options, or that nobody may write there."""
    flags = _REMOUNT | (_READ_ONLY if read_only else 0)
    _call("mount", b"none", os.fsencode(place), b"tmpfs", flags, options.encode())


def _call(name: str, *arguments: object) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        raise Unsupported(f"{name}: {os.strerror(ctypes.get_errno())}")

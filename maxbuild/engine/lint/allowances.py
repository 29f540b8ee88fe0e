"""What steps may touch though they do not declare it: each place with the reason why no result depends on it unseen.

The nearest place above a path decides. What is not here and not declared is a finding.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import maxbuild

_TOOLCHAIN = "programs and libraries; those known to shape results are in the keys of these, by version"
_MODULES = "modules of Python; what of maxbuild is imported is in the key by digest"
_LINKER = "tells where libraries lie; their versions count, not their places"
_NAMES = "names of users, hosts and services, which reach no result"
_MACHINE = "facts of the machine; results may not depend on them, which comparing the bytes of two machines shows"
_MESSAGES = "the language of messages, which reach logs alone"
_CRYPTOGRAPHY = "settings of OpenSSL, which Python reads when it is imported; what it hashes comes out the same"
_DEVICE = "holds nothing"
_CHANCE = "random numbers; results may not depend on them, which comparing the bytes of two runs shows"
_SHARED_MEMORY = "memory shared by processes of one task; empty when it begins"

CODE = frozenset({".py", ".pyc", ".so", ".pth"})


@dataclass(frozen=True, slots=True)
class Allowance:
    """A place that may be read, with all below it, and why; `writing` says that it may be written as well.

    code_only: of files there, only those that Python imports.
    """

    place: str
    reason: str
    writing: bool = False
    code_only: bool = False

    def covers(self, path: str, *, listed: bool, writing: bool) -> bool:
        """Return whether this, being the nearest place above it, lets `path` be read, listed or written."""
        if writing:
            return self.writing
        return not self.code_only or listed or os.path.splitext(path)[1] in CODE  # noqa: PTH122


SYSTEM = (
    *(Allowance(place, _TOOLCHAIN) for place in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")),
    *(Allowance(f"/etc/ld.so.{name}", _LINKER) for name in ("cache", "conf", "conf.d", "preload")),
    Allowance("/etc/alternatives", _LINKER),
    Allowance("/etc/locale.alias", _MESSAGES),
    Allowance("/etc/ssl/openssl.cnf", _CRYPTOGRAPHY),
    *(Allowance(f"/etc/{name}", _NAMES) for name in ("passwd", "group", "nsswitch.conf", "localtime", "host.conf")),
    Allowance("/proc", _MACHINE),
    Allowance("/sys/devices/system", _MACHINE),
    Allowance("/sys/fs/cgroup", _MACHINE),
    Allowance("/dev/null", _DEVICE, writing=True),
    Allowance("/dev/zero", _DEVICE),
    Allowance("/dev/random", _CHANCE),
    Allowance("/dev/urandom", _CHANCE),
    Allowance("/dev/shm", _SHARED_MEMORY, writing=True),  # noqa: S108 - it is what it is for
)


def of_this_process() -> tuple[Allowance, ...]:
    """Return what every step of this process may touch: the system, the interpreter, and where modules come from."""
    interpreter = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
    modules = {os.path.abspath(entry) for entry in sys.path}  # noqa: PTH100
    package = os.path.dirname(maxbuild.__file__)  # noqa: PTH120
    return (
        *SYSTEM,
        *(Allowance(place, _MODULES, code_only=True) for place in modules - interpreter),
        *(Allowance(place, _TOOLCHAIN) for place in interpreter),
        Allowance(package, _MODULES, code_only=True),
    )


class Allowances:
    """A list of allowances, asked by path."""

    def __init__(self, allowances: Iterable[Allowance]) -> None:
        """Take them; of two for one place, the later counts. Places count as they are spelled, and where they lead."""
        self._by_place: dict[str, Allowance] = {}
        self._ways: set[str] = set()
        """The folders above places that may be written: who may fill a place may make it."""
        for allowance in allowances:
            for place in (allowance.place, os.path.realpath(allowance.place)):
                self._by_place[place] = allowance
                if allowance.writing:
                    self._ways.update(map(os.fspath, Path(place).parents))

    def cover(self, path: str, *, listed: bool = False, writing: bool = False) -> bool:
        """Return whether the nearest place above the absolute `path`, links resolved, lets it be touched so."""
        if writing and path in self._ways:
            return True
        for place in (path, *map(os.fspath, Path(path).parents)):
            if (allowance := self._by_place.get(place)) is not None:
                return allowance.covers(path, listed=listed or place == path, writing=writing)
        return False

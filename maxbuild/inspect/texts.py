"""The texts that x86-64 code puts together: compilers cut short ones into constants and store these side by side.

Constants are followed from where they are loaded to where they are stored, in the order in which the code stands. So
compilers copy a text of known length: without a loop, and without a branch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Read = Callable[[int, int], bytes]
"""Returns so many bytes from an address of the library, or fewer where it has none."""

_LINE = re.compile(r"^\s+[0-9a-f]+:\t(?:[0-9a-f]{2} )+\s*(v?mov\w*|call) +([^\n]*)", re.MULTILINE)
_FUNCTION = re.compile(r"^[0-9a-f]+ <[^\n]*>:$", re.MULTILINE)
_CONSTANT = re.compile(r"\$0x([0-9a-f]+),(.+)")
_LOADED = re.compile(r"-?(?:0x[0-9a-f]+)?\(%rip\),%([xyz]mm\d+) +# ([0-9a-f]+)")
_REGISTER = re.compile(r"%(\w+)(?:,(.+))?$")
_PLACE = re.compile(r"(-?)(?:0x([0-9a-f]+))?\(%(\w+)\)$")

_SUFFIXES = {"movb": 1, "movw": 2, "movl": 4, "movq": 8}
_VECTORS = {"x": 16, "y": 32, "z": 64}
_LOST_IN_CALLS = frozenset({"rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11"})
_BYTE_REGISTERS = re.compile(r"(?:[abcd]l|[sd]il|[bs]pl|r\d+b)$")


def texts_in_code(listing: str, read: Read) -> Iterator[bytes]:
    """Yield every run of bytes that the code stores from constants; some are texts. `listing` is objdump's."""
    for function in _FUNCTION.split(listing):
        yield from _Follower(read).follow(function)


class _Follower:
    """What is known on the way through a function: constants in registers, and what was stored through which."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._constants: dict[str, bytes] = {}
        self._stored: dict[str, dict[int, bytes]] = {}

    def follow(self, function: str) -> Iterator[bytes]:
        """Yield the runs that `function` stores."""
        for name, operands in _LINE.findall(function):
            if name == "call":
                for register in _LOST_IN_CALLS:
                    yield from self._forget(register)
            else:
                yield from self._move(name, operands.strip())
        for register in list(self._stored):
            yield from self._forget(register)

    def _move(self, name: str, operands: str) -> Iterator[bytes]:
        source, target = b"", ""
        if found := _CONSTANT.match(operands):
            target = found[2]
            size = _SUFFIXES.get(name) or (_size(target[1:]) if target.startswith("%") else 0)
            source = int(found[1], 16).to_bytes(16, "little")[: size or 8]
        elif found := _LOADED.match(operands):
            target = f"%{found[1]}"
            source = self._read(int(found[2], 16), _VECTORS[found[1][0]])
        elif (found := _REGISTER.match(operands)) and found[2]:
            target, source = found[2], self._constants.get(_whole(found[1]), b"")[: _size(found[1])]
        else:
            target = operands.rpartition(",")[2]
        if place := _PLACE.match(target):
            offset = int(place[2] or "0", 16) * (-1 if place[1] else 1)
            yield from self._store(place[3], offset, source)
        elif register := _REGISTER.match(target):
            yield from self._forget(_whole(register[1]))
            # A write of half a register clears the rest.
            self._constants[_whole(register[1])] = source.ljust(8, b"\0") if source else b""

    def _store(self, base: str, offset: int, content: bytes) -> Iterator[bytes]:
        known = self._stored.setdefault(base, {})
        if offset in known:  # another text in the same place
            yield from _runs(known)
            known.clear()
        if content:
            known[offset] = content

    def _forget(self, register: str) -> Iterator[bytes]:
        self._constants.pop(register, None)
        yield from _runs(self._stored.pop(register, {}))


def _runs(stored: dict[int, bytes]) -> Iterator[bytes]:
    """Yield what lies without a gap; pieces may overlap."""
    run, end = bytearray(), 0
    for offset, content in sorted(stored.items()):
        if run and offset <= end:
            run[len(run) - (end - offset) :] = content
        else:
            if run:
                yield bytes(run)
            run = bytearray(content)
        end = offset + len(content)
    if run:
        yield bytes(run)


def _whole(register: str) -> str:
    """Return the name of the whole of a register, of which `register` may be a part: `rax` for `eax`, `ax` and `al`."""
    if register[1:3] == "mm":
        return "v" + register[3:]
    if register[0] == "r" and register[1:2].isdigit():
        return register.rstrip("dwb")
    stem = register.removeprefix("r").removeprefix("e").removesuffix("l") if len(register) > 2 else register
    stem = stem[0] + "x" if len(stem) == 2 and stem[1] in "lh" else stem
    return f"r{stem}"


def _size(register: str) -> int:
    """Return how many bytes a register, or the part of it that `register` names, holds."""
    if register[1:3] == "mm":
        return _VECTORS[register[0]]
    if _BYTE_REGISTERS.match(register):
        return 1
    if register.startswith("e") or register.endswith("d"):
        return 4
    return 8 if register.startswith("r") and not register.endswith("w") else 2

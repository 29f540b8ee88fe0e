"""Tasks: what a plan hands to the engine. A task is data; what carries it out is found by the name of its kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

from maxbuild.engine.canonical import JSON
from maxbuild.engine.digest import Digest

_FAMILY = "/*"

Progress: TypeAlias = Callable[[int, int | None], None]
"""What a step calls as it goes: units done, and units in all where that is known."""


class SourceFile(NamedTuple):
    """An input that lies outside the store; it is read where it is and its bytes are never copied."""

    path: Path


class OutputOf(NamedTuple):
    """An input that another task leaves: the name of the task, and of one output (or one member of a family)."""

    task: str
    output: str


@dataclass(frozen=True, slots=True)
class Task:
    """One node of the graph.

    `name` is for people, unique in a graph and never in the key. `local` reaches the step and is never in the key
    either (a mirror, a token). An output that ends in `/*` is a family, whose members the result alone tells.
    `memory` is how many bytes it takes to run, as far as one can say. One that runs `always` does so in every build,
    whatever the store has. Neither is ever in the key.
    Raises ValueError for an output that is not a plain relative name.
    """

    name: str
    kind: str
    params: Mapping[str, JSON]
    inputs: Mapping[str, SourceFile | OutputOf]
    toolchain: Mapping[str, str]
    outputs: tuple[str, ...]
    local: Mapping[str, JSON] = field(default_factory=dict)
    memory: int = 0
    always: bool = False

    def __post_init__(self) -> None:
        """Refuse names that could not be told apart or would leave the folder they are written to."""
        if not self.name:
            raise ValueError("a task needs a name")
        if not self.outputs or len(set(self.outputs)) != len(self.outputs):
            raise ValueError(f"task `{self.name}` needs outputs, each named once")
        for output in self.outputs:
            check_output_name(output.removesuffix(_FAMILY))

    @property
    def producers(self) -> frozenset[str]:
        """Return the names of the tasks this one consumes from."""
        return frozenset(source.task for source in self.inputs.values() if isinstance(source, OutputOf))

    def declares(self, output: str) -> bool:
        """Return whether `output` is one of the outputs, or could be a member of one of the families."""
        if "*" in output:
            return False
        if output in self.outputs:
            return True
        families = (family[:-1] for family in self.outputs if family.endswith(_FAMILY))
        return any(output.startswith(family) and output != family for family in families)

    @property
    def single_outputs(self) -> tuple[str, ...]:
        """Return the outputs that are no families: each of them must be there when the task is done."""
        return tuple(output for output in self.outputs if not output.endswith(_FAMILY))


_NOT_A_STEP = frozenset({"", ".", ".."})


@lru_cache(maxsize=1024)  # most tasks call their outputs alike
def check_output_name(name: str) -> None:
    """Raise ValueError unless `name` is a relative POSIX path in its shortest spelling, without `..` or `*`."""
    if "*" in name or "\0" in name or not _NOT_A_STEP.isdisjoint(name.split("/")):
        raise ValueError(f"not a name for an output: {name!r}")


class Renewal(IntEnum):
    """How a result can be had again once it is gone, the cheapest first: what a store lets go of first."""

    DOWNLOAD = 0
    """It comes again from where it came."""
    REPACK = 1
    """It is made again from other results, by little more than reading and writing."""
    COMPUTE = 2
    """It has to be computed again."""


class Kind(NamedTuple):
    """A kind of task: `run` ("package.module:function") is imported only when a task of the kind is carried out.

    `isolated` gives every task a process of its own, whose memory is returned and whose changes to a library meet
    nobody; otherwise it runs in a thread of this one. `renewal` says how dear its results are. `toolchain`
    ("package.module:function") names what returns, for the name of the kind and the params of a task, the toolchain of
    the host it is called on; a kind that has it may be carried out on another host, whose toolchain is then compared
    with the task's. `preload` ("package.module:function") names what imports, once in a build, what every isolated step
    of the kind would import; each then gets a fork of that process. It returns a function that forks call in their own
    place. One that `transfers` waits for a network more than it works: it takes none of the jobs, but one of few places
    for its like.
    """

    name: str
    run: str
    isolated: bool
    renewal: Renewal = Renewal.COMPUTE
    toolchain: str | None = None
    preload: str | None = None
    transfers: bool = False


class Vouched(NamedTuple):
    """The digest of a file whose bytes were hashed in passing, and its stat tuple as it was then.

    The bytes are on the disk, and whoever writes to the file after that leaves another stat tuple.
    """

    digest: Digest
    status: os.stat_result


@dataclass(frozen=True, slots=True)
class Job:
    """What a step function gets. It writes only under `scratch`, reads only `inputs`, and returns its outputs' paths.

    A returned path under `scratch` moves into the store; one outside of it is adopted by reference, not copied.
    """

    params: Mapping[str, JSON]
    inputs: Mapping[str, Path]
    scratch: Path
    progress: Progress
    local: Mapping[str, JSON] = field(default_factory=dict)
    digests: Mapping[str, Digest] = field(default_factory=dict)
    """The content digest of each input, so that no step hashes what is known."""
    vouched: dict[Path, Vouched] = field(default_factory=dict)
    """What the step says of files elsewhere that it returns: they are not read again, unless they changed since. What
    an isolated step says, nobody hears."""


Step: TypeAlias = Callable[[Job], Mapping[str, Path]]
"""A step function: output names to paths of files."""

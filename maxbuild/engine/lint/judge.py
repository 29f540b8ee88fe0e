"""Judging accesses: which of them a step declared, which are allowed to all, and which are findings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maxbuild.engine.executor import Order
from maxbuild.engine.lint.access import Access, How
from maxbuild.engine.lint.allowances import Allowance, Allowances

_INPUT = "an input of the task"
_SCRATCH = "the task's own folder"
_OUTPUT = "an output of the task"


@dataclass(frozen=True, slots=True)
class Finding:
    """A path that a task touched without declaring it, links resolved, and the program that did."""

    how: How
    path: str
    process: str


@dataclass(frozen=True, slots=True)
class LintReport:
    """What one task did beyond what it declares.

    `findings` are files it read, listed, executed or wrote. `absent` are files under the home or the working directory
    of the user that it looked for and did not find: their appearance could change the result. `traced` says whether
    native code and other processes were watched too.
    """

    task: str
    kind: str
    findings: tuple[Finding, ...]
    absent: tuple[Finding, ...]
    traced: bool

    def lines(self) -> Iterator[str]:
        """Return a sentence for each finding, for people."""
        for finding in self.findings:
            yield f"task `{self.task}` {finding.how} {finding.path} (by {finding.process}), which it does not declare"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is true of a whole build: what its tasks, and those of one kind, may touch; where the user's files lie."""

    allowances: tuple[Allowance, ...]
    by_kind: Mapping[str, Sequence[Allowance]]
    private: tuple[str, ...]


def judge(
    order: Order, outputs: Mapping[str, Path], accesses: Iterable[Access], surroundings: Surroundings, *, traced: bool
) -> LintReport:
    """Return what of `accesses` the task of `order`, which left `outputs`, does not declare."""
    of_kind = surroundings.by_kind.get(order.kind.name, ())
    allowed = Allowances([*surroundings.allowances, *of_kind, *_declared(order, outputs)])
    findings: dict[tuple[How, str], Finding] = {}
    absent: dict[str, Finding] = {}
    for access in accesses:
        listed, writing = access.how is How.LISTED or os.path.isdir(access.real), access.how is How.WROTE  # noqa: PTH112
        if allowed.cover(access.real, listed=listed, writing=writing):
            continue
        if access.found or writing:
            how = How.LISTED if listed and access.how is How.READ else access.how
            findings.setdefault((how, access.real), Finding(how, access.real, access.process))
        elif access.path.startswith(surroundings.private):
            absent.setdefault(access.path, Finding(access.how, access.path, access.process))
    return LintReport(order.name, order.kind.name, _sorted(findings.values()), _sorted(absent.values()), traced)


def _declared(order: Order, outputs: Mapping[str, Path]) -> Iterator[Allowance]:
    for path in order.job.inputs.values():
        yield Allowance(os.fspath(path), _INPUT)
    for path in outputs.values():
        yield Allowance(os.fspath(path), _OUTPUT, writing=True)
    yield Allowance(os.fspath(order.job.scratch.parent), _SCRATCH, writing=True)
    yield Allowance(os.fspath(order.log), _SCRATCH, writing=True)


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: (finding.path, finding.how)))

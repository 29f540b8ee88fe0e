"""The executor of the lint: carries out steps on this host as ever, watched, and reports what each one touched."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from maxbuild.engine.children import Children
from maxbuild.engine.executor import LocalExecutor, Order
from maxbuild.engine.isolation import python_command
from maxbuild.engine.lint.access import Access, read_lines
from maxbuild.engine.lint.allowances import Allowance, of_this_process
from maxbuild.engine.lint.hook import watching
from maxbuild.engine.lint.judge import LintReport, Surroundings, judge
from maxbuild.engine.lint.strace import find_strace, read_trace, traced

_CHILD = "maxbuild.engine.lint.child"


class LintingExecutor:
    """Carries out steps on this host and tells `report` of each that ran, whether it went well or not.

    Steps in this process are watched by an audit hook, isolated ones by an audit hook and, where there is one that
    works, by strace.
    """

    def __init__(
        self, report: Callable[[LintReport], None], allowances: Mapping[str, Sequence[Allowance]] | None = None
    ) -> None:
        """Take whom to tell, in the threads that carry out steps, and what each kind may touch beside what all may."""
        self._report = report
        home, here = os.path.expanduser("~"), os.getcwd()  # noqa: PTH109, PTH111
        self._surroundings = Surroundings(of_this_process(), allowances or {}, (f"{home}/", f"{here}/"))
        self._strace = find_strace()

    def run(self, order: Order, children: Children) -> Mapping[str, Path]:
        """Carry out `order` here."""
        return self._run_isolated(order, children) if order.kind.isolated else self._run_here(order, children)

    def close(self) -> None:
        """Hold nothing."""

    def _run_here(self, order: Order, children: Children) -> Mapping[str, Path]:
        accesses: list[Access] = []
        outputs: Mapping[str, Path] = {}
        try:
            with watching(accesses.append):
                outputs = LocalExecutor().run(order, children)
            return outputs
        finally:
            self._report(judge(order, outputs, accesses, self._surroundings, traced=False))

    def _run_isolated(self, order: Order, children: Children) -> Mapping[str, Path]:
        folder = order.job.scratch.parent
        notes, trace = folder / "accesses", folder / "trace"
        command = [*python_command(_CHILD), os.fspath(notes)]
        if self._strace is not None:
            command = traced(self._strace, command, trace)
        outputs: Mapping[str, Path] = {}
        try:
            outputs = LocalExecutor(command).run(order, children)
            return outputs
        finally:
            accesses = [*read_lines(notes), *read_trace(trace, order.job.scratch)]
            self._report(judge(order, outputs, accesses, self._surroundings, traced=self._strace is not None))

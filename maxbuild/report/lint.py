"""What the hermeticity lint found, in words and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.units import plural
from maxbuild.report.words import one_line

if TYPE_CHECKING:
    from maxbuild.engine.lint import LintReport


def lint_text(reports: Sequence[LintReport], terminal: Terminal, *, verbose: bool) -> str:
    """Return a line for each finding and one that sums up; `verbose` adds what was looked for in vain."""
    warning = terminal.paint("warning:", Style.YELLOW)
    ordered = sorted(reports, key=lambda report: report.task)
    lines = [f"{warning} {one_line(line)}" for report in ordered for line in report.lines()]
    if verbose:
        lines += [
            f"task `{one_line(report.task)}` looked for {one_line(path.path)} (by {one_line(path.process)}) in vain"
            for report in ordered
            for path in report.absent
        ]
    return "\n".join([*lines, _sum(ordered)])


def lint_content(reports: Sequence[LintReport]) -> list[dict[str, object]]:
    """Return what was found for a JSON document, task by task."""
    return [
        {
            "task": report.task,
            "traced": report.traced,
            **{
                name: [{"how": str(found.how), "path": found.path, "process": found.process} for found in touched]
                for name, touched in (("findings", report.findings), ("absent", report.absent))
            },
        }
        for report in sorted(reports, key=lambda report: report.task)
    ]


def _sum(reports: Sequence[LintReport]) -> str:
    if not reports:
        return "lint: nothing ran, so nothing was watched"
    findings = sum(len(report.findings) for report in reports)
    absent = sum(len(report.absent) for report in reports)
    told = f"lint: {plural(findings, 'undeclared path')} in {plural(len(reports), 'task')} that ran"
    told += f", {plural(absent, 'path')} looked for in vain (`--verbose` lists them)" if absent else ""
    blind = sum(1 for report in reports if not report.traced)
    return told + (f"; {plural(blind, 'task')} watched without strace" if blind else "")

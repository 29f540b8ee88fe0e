"""The graph of a report as something to draw: boxes and arrows, with what is not known yet among them as such."""

from __future__ import annotations

from dataclasses import dataclass

from maxbuild.engine import Deferred, Report, State, TaskReport
from maxbuild.report import units
from maxbuild.report.summary import closing_line
from maxbuild.report.words import deferred, one_line, reasons, state_word


@dataclass(frozen=True, slots=True)
class Box:
    """One task, or one part that is not known yet; then `task` is None."""

    name: str
    kind: str
    title: str
    detail: str
    task: TaskReport | None = None

    @property
    def state(self) -> State | None:
        """Return what a survey found of the task, None where there is none yet."""
        return None if self.task is None else self.task.state

    @property
    def certain(self) -> bool:
        """Return whether the task is known and what it consumes is."""
        return self.task is not None and self.task.state is not State.WAITING


@dataclass(frozen=True, slots=True)
class Picture:
    """Boxes by name, in the order in which the graph learned of them, and arrows from producer to consumer."""

    title: str
    summary: str
    boxes: dict[str, Box]
    arrows: tuple[tuple[str, str], ...]


def picture_of(name: str, report: Report) -> Picture:
    """Return the picture of a survey of the manifest `name`."""
    tasks = {task.name: _task_box(task) for task in report.tasks}
    parts = {deferred(part): _deferred_box(part) for part in report.deferred}
    arrows = [(str(a), str(b)) for a, b in report.graph.edges if a in tasks and b in tasks]
    arrows += [(part.after, deferred(part)) for part in report.deferred if part.after in tasks]
    summary = closing_line(name, report, 0.0, afterwards=False).removeprefix(f"{one_line(name)}: ")
    return Picture(one_line(name), summary, tasks | parts, tuple(dict.fromkeys(arrows)))


def _task_box(task: TaskReport) -> Box:
    # "compile main/head @ cpu:x86-64-v3" is too long for a title; what follows the @ goes to the second line.
    title, _, place = one_line(task.name).partition(" @ ")
    facts = [place, state_word(task.state), reasons(task)]
    if task.state is State.CACHED:
        facts.append(units.duration(task.seconds) if task.seconds is not None else "")
        facts.append(units.size(task.bytes) if task.bytes is not None else "")
    return Box(task.name, task.kind, title, " · ".join(fact for fact in facts if fact), task)


def _deferred_box(part: Deferred) -> Box:
    title, _, place = one_line(part.what).partition(" @ ")
    detail = f"known after {one_line(part.after)}"
    return Box(deferred(part), title.partition(" ")[0], title, f"{place} · {detail}" if place else detail)

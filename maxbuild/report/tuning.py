"""What tuning found: a table of the forms of each region, and a line that says which of them run."""

from __future__ import annotations

from collections.abc import Sequence

from maxbuild.report.table import Cell, Column, table
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.units import plural
from maxbuild.report.words import one_line
from maxbuild.runtime.tuning import Trial, Tuning


def tuning_text(tuning: Tuning, terminal: Terminal) -> str:
    """Return the table, why forms were left out, what was measured where, and what runs from now on."""
    taken = set(tuning.choices.values())
    workloads = list(dict.fromkeys(name for trial in tuning.trials for name in trial.nanoseconds))
    columns = [
        Column("region", least=16, middle=True),
        *(Column(one_line(name), right=True) for name in workloads),
        Column(""),
    ]
    rows = [_row(trial, workloads, is_taken=trial.path in taken) for trial in tuning.trials]
    left_out = [
        f"{terminal.paint('left out:', Style.YELLOW)} "
        + one_line(f"{trial.region}, alternative {trial.rank}: {trial.trouble}")
        for trial in tuning.trials
        if trial.trouble
    ]
    where = tuning.made_with
    driver = f", driver {tuning.driver}" if tuning.driver else ""
    regions, count = len({trial.region for trial in tuning.trials}), len(tuning.choices)
    summary = [
        one_line(f"measured on {where.device} ({where.target}){driver}, torch {where.torch}"),
        f"{count} of {plural(regions, 'region')} {'runs' if count == 1 else 'run'} an alternative",
    ]
    return "\n\n".join("\n".join(part) for part in ([table(columns, rows, terminal)], left_out, summary) if part)


def _row(trial: Trial, workloads: Sequence[str], *, is_taken: bool) -> list[Cell]:
    name = f"  alternative {trial.rank}" if trial.rank else one_line(trial.region)
    word, style = ("left out", Style.YELLOW) if trial.trouble else ("taken", Style.GREEN)
    verdict = Cell(word, style) if trial.trouble or is_taken else Cell("")
    return [Cell(name), *(Cell(_time(trial, workload)) for workload in workloads), verdict]


def _time(trial: Trial, workload: str) -> str:
    """Return a time in microseconds, and for an alternative its share of the default's."""
    if workload not in trial.nanoseconds:
        return ""
    share = trial.ratios.get(workload)
    told = f" × {share:.2f}" if trial.rank and share is not None else ""
    return f"{trial.nanoseconds[workload] / 1000:.1f} µs{told}"

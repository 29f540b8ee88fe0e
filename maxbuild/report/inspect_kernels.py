"""The kernels of packages as a table: a line each, or a heading each where a terminal has no room for such lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from maxbuild.inspect.kernel import Kernel
from maxbuild.inspect.package import Inspection
from maxbuild.report.table import Cell, Column, cut, natural_width, table
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.words import one_line

_REGION, _KERNEL, _TARGET = Column("region"), Column("kernel"), Column("target", least=14, middle=True)
_USAGE = ("bytes", "warps", "registers", "stack", "shared memory")
_MIX = ("instructions", "matrix", "fma", "global", "shared", "local", "barriers")
_FIGURES = tuple(Column(title, right=True) for title in (*_USAGE, *_MIX))

# The same where room is scarce: a long title has its first word above.
_SHORT = {"shared memory": ("shared", "memory"), "instructions": ("instructions", "all")}
_SHORT_FIGURES = tuple(
    Column(title, right=True, group=group)
    for figure in (*_USAGE, *_MIX)
    for group, title in [_SHORT.get(figure, ("instructions" if figure in _MIX else "", figure))]
)
_INDENT = "  "

# What is given up first where even that is too wide: what warnings tell as well, and what differs least.
_SPARED = ("barriers", "fma", "warps", "local", "global")


@dataclass(frozen=True, slots=True)
class KernelLine:
    """One kernel of one package: its region's names, its own, the package's label, and its figures."""

    region: str
    kernel: str
    label: str
    figures: tuple[Cell, ...]


def kernel_line(region: str, kernel: Kernel, label: str, inspection: Inspection) -> KernelLine:
    """Return the line of a kernel."""
    return KernelLine(region, one_line(kernel.launch.name), label, tuple(_figures(kernel, inspection)))


def kernels_text(lines: Sequence[KernelLine], terminal: Terminal) -> str:
    """Return the table; `lines` come in the order in which they are told, those of one kernel together."""
    columns = (_REGION, _KERNEL, _TARGET, *_FIGURES)
    rows = [[Cell(line.region), Cell(line.kernel), Cell(line.label), *line.figures] for line in lines]
    if terminal.width is None or natural_width(columns, rows) <= terminal.width:
        return table(columns, rows, terminal)
    return _under_headings(lines, terminal, terminal.width)


def _under_headings(lines: Sequence[KernelLine], terminal: Terminal, width: int) -> str:
    columns = [replace(_TARGET, title=f"{_INDENT}{_TARGET.title}"), *_SHORT_FIGURES]
    rows = [[Cell(_INDENT + line.label), *line.figures] for line in lines]
    left_out = []
    for title in _SPARED:
        if natural_width(columns, rows) <= width:
            break
        index = next(index for index, column in enumerate(columns) if column.title == title)
        left_out += [title] if any(row[index].text for row in rows) else []
        del columns[index]
        rows = [[*row[:index], *row[index + 1 :]] for row in rows]
    told = table(columns, rows, terminal).split("\n")
    head = len(told) - len(rows)
    parts, before = told[:head], None
    for line, row in zip(lines, told[head:], strict=True):
        heading = f"{line.region}  {cut(line.kernel, max(width - len(line.region) - 2, 1), middle=True)}"
        parts += [row] if heading == before else [cut(heading, width), row]
        before = heading
    if left_out:
        parts.append(terminal.paint(f"a wider terminal shows {', '.join(left_out)} too; so does `--json`", Style.DIM))
    return "\n".join(parts)


def _figures(kernel: Kernel, inspection: Inspection) -> list[Cell]:
    usage, mix, device = kernel.usage, kernel.mix, inspection.device
    too_much = device is not None and kernel.shared_memory > device.shared_memory_per_block
    cells = [Cell(str(kernel.size)), Cell(str(kernel.launch.num_warps))]
    cells.append(Cell(str(usage.registers) if usage else "?"))
    cells.append(Cell(str(usage.stack) if usage else "?", Style.YELLOW if usage and usage.stack else Style.PLAIN))
    cells.append(Cell(str(kernel.shared_memory), Style.RED if too_much else Style.PLAIN))
    if mix is None:
        return [*cells, *(Cell("") for _ in _MIX)]
    counts = (mix.total, mix.matrix, mix.fma, mix.global_, mix.shared, mix.local, mix.barrier)
    return [*cells, *(Cell(str(count)) for count in counts)]

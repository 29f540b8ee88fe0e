"""What packages hold as a chart: kernels of several targets side by side, or regions where there are no kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from maxbuild.inspect.kernel import Kernel
from maxbuild.inspect.package import Inspection
from maxbuild.inspect.region import Region
from maxbuild.report.bars import Bar, Chart, Row, Series, bars_svg
from maxbuild.report.inspect import labels_of
from maxbuild.report.units import plural
from maxbuild.report.words import one_line

# One hue per maker, so that what is new in a generation and what is another maker's way are told apart.
_COLOURS: Mapping[str, Sequence[str]] = {
    "cuda": ("#1f6f3a", "#3f9a55", "#69bd72", "#98d48f", "#0f8a80", "#5cc0b2"),
    "hip": ("#b23a2e", "#d9694c", "#ee9a76", "#f5c3a3"),
    "cpu": ("#2f62b0", "#6a96d8", "#a6c3ec"),
}
_ABSENT = Bar(None, "—")

_KERNEL_PANELS = ("registers per thread", "stack per thread, bytes", "shared memory per block, bytes", "file, bytes")
_MATRIX_PANEL = "matrix instructions"
_REGION_PANELS = ("file, bytes", "library, bytes")


def comparison_svg(inspections: Sequence[Inspection]) -> str:
    """Return the chart as SVG: of all kernels, or of all regions where there are none."""
    with_kernels = [i for i in inspections if any(region.kernels for region in i.regions)]
    return bars_svg(_kernel_chart(with_kernels) if with_kernels else _region_chart(inspections))


def _series(inspections: Sequence[Inspection]) -> Iterator[Series]:
    used: dict[str, int] = {}
    for inspection, label in zip(inspections, labels_of(inspections), strict=True):
        api = inspection.target.partition(":")[0]
        colours, count = _COLOURS[api], used.get(api, 0)
        used[api] = count + 1
        yield Series(label, inspection.device.name if inspection.device else "", colours[count % len(colours)])


def _kernel_chart(inspections: Sequence[Inspection]) -> Chart:
    found: dict[tuple[str, str], dict[int, Kernel]] = {}
    for place, inspection in enumerate(inspections):
        for region in inspection.regions:
            for kernel in region.kernels:
                found.setdefault((region.names[0], kernel.launch.name), {})[place] = kernel
    counted = any(kernel.mix for kernels in found.values() for kernel in kernels.values())
    measures: list[Callable[[Kernel, Inspection], Bar]] = [_registers, _stack, _shared, _file]
    measures += [_matrix] if counted else []
    rows = []
    for (region_name, name), kernels in sorted(found.items()):
        bars = [
            [measure(kernels[place], i) if place in kernels else _ABSENT for place, i in enumerate(inspections)]
            for measure in measures
        ]
        rows.append(Row(one_line(name), one_line(region_name), bars))
    panels = [*_KERNEL_PANELS, _MATRIX_PANEL] if counted else _KERNEL_PANELS
    return Chart(_title(inspections), plural(len(rows), "kernel"), list(_series(inspections)), panels, rows)


def _region_chart(inspections: Sequence[Inspection]) -> Chart:
    found: dict[str, dict[int, Region]] = {}
    for place, inspection in enumerate(inspections):
        for region in inspection.regions:
            found.setdefault(region.names[0], {})[place] = region
    rows = []
    for name, regions in sorted(found.items()):
        places = [regions.get(place) for place in range(len(inspections))]
        files = [_amount(region.size) if region else _ABSENT for region in places]
        libraries = [_amount(region.wrapper.size) if region and region.wrapper else _ABSENT for region in places]
        rows.append(Row(one_line(name), "", [files, libraries]))
    return Chart(_title(inspections), plural(len(rows), "region"), list(_series(inspections)), _REGION_PANELS, rows)


def _title(inspections: Sequence[Inspection]) -> str:
    return one_line(", ".join(dict.fromkeys(inspection.name for inspection in inspections)))


def _amount(value: int, alarm: str = "") -> Bar:
    return Bar(value, f"{value:,}".replace(",", "\u202f"), alarm)


def _registers(kernel: Kernel, _: Inspection) -> Bar:
    return _amount(kernel.usage.registers) if kernel.usage else _ABSENT


def _stack(kernel: Kernel, _: Inspection) -> Bar:
    return _amount(kernel.usage.stack, "in memory" if kernel.usage.stack else "") if kernel.usage else _ABSENT


def _shared(kernel: Kernel, inspection: Inspection) -> Bar:
    most = inspection.device.shared_memory_per_block if inspection.device else None
    too_much = most is not None and kernel.shared_memory > most
    return _amount(kernel.shared_memory, "too much" if too_much else "")


def _file(kernel: Kernel, _: Inspection) -> Bar:
    return _amount(kernel.size)


def _matrix(kernel: Kernel, _: Inspection) -> Bar:
    return _amount(kernel.mix.matrix) if kernel.mix else _ABSENT

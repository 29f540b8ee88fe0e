"""Tune a package: every alternative of every region compared with the default, timed, and chosen or not.

A region is tried where it stands, in a run of the whole model: with the inputs that the regions before it make, and the
weights of its first layer. Calling it again changes nothing, since it writes the same keys and values to the same
places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from maxbuild.errors import PackageError
from maxbuild.runtime import LoadedPackage
from maxbuild.runtime.model import Model, RegionCall
from maxbuild.runtime.program import Step
from maxbuild.runtime.tuning import Trial
from maxbuild.tuning.clock import Clock
from maxbuild.tuning.contest import Timing, measure, winner
from maxbuild.tuning.workloads import Workload, run_once, workloads_of
from maxbuild.verify import TOLERANCES, error_between

Load = Callable[[Path], RegionCall]
"""Loads the region in a file onto the device of the package."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Findings:
    """What came of all: for each region's file the alternative that is to run instead, and every trial."""

    choices: Mapping[str, str]
    trials: Sequence[Trial]


def tune(package: LoadedPackage, load: Load, clock: Clock, say: Say = lambda _: None) -> Findings:
    """Try all alternatives of `package`, which was loaded as it is built; `say` is told what is going on."""
    choices: dict[str, str] = {}
    trials: list[Trial] = []
    tried: set[str] = set()
    for role, model in package.models.items():
        entry = package.header.components[role]
        forms: dict[str, _Forms] = {}
        for region, by_rank in entry.alternatives.items():
            path = entry.regions[region]
            if path not in tried:  # what shares a region shares what was found of it
                tried.add(path)
                forms[region] = _Forms(f"{role}/{region}", path, by_rank)
        _try_forms(model, forms, package.folder, load, clock, say)
        for form in forms.values():
            best = form.best()
            if best:
                choices[form.path] = form.by_rank[str(best)]
            trials += form.trials()
    return Findings(choices, trials)


@dataclass(slots=True)
class _Forms:
    """The forms of one region, and what is known of each so far. trouble: why a form is out."""

    region: str
    path: str
    by_rank: Mapping[str, str]
    calls: dict[int, RegionCall] = field(default_factory=dict)
    timings: dict[str, Mapping[int, Timing]] = field(default_factory=dict)
    errors: dict[int, float] = field(default_factory=dict)
    trouble: dict[int, str] = field(default_factory=dict)

    @property
    def ranks(self) -> list[int]:
        """Return the ranks of the alternatives."""
        return sorted(map(int, self.by_rank))

    @property
    def in_the_running(self) -> list[int]:
        """Return the ranks of the alternatives that nothing is wrong with."""
        return [rank for rank in self.ranks if rank not in self.trouble]

    def best(self) -> int:
        """Return the rank of the form that is to run."""
        if not self.timings:
            return 0
        return winner({rank: [by[rank].ratio for by in self.timings.values()] for rank in self.in_the_running})

    def trials(self) -> Iterator[Trial]:
        """Yield what became of each form, the default first."""
        for rank in (0, *self.ranks):
            timed = {name: by[rank] for name, by in self.timings.items() if rank in by and rank not in self.trouble}
            yield Trial(
                region=self.region,
                rank=rank,
                path=self.by_rank[str(rank)] if rank else self.path,
                nanoseconds={name: round(timing.seconds * 1e9) for name, timing in timed.items()},
                ratios={name: timing.ratio for name, timing in timed.items()},
                error=self.errors.get(rank) if rank not in self.trouble else None,
                trouble=self.trouble.get(rank),
            )


def _try_forms(model: Model, forms: Mapping[str, _Forms], folder: Path, load: Load, clock: Clock, say: Say) -> None:
    for form in forms.values():
        for rank in form.ranks:
            try:
                form.calls[rank] = load(folder / form.by_rank[str(rank)])
            except PackageError as error:
                form.trouble[rank] = str(error)
    steps = {step.region: step for step in model.program.steps}
    for workload in workloads_of(model) if forms else ():

        def watch(name: str, region: RegionCall, workload: Workload = workload) -> RegionCall:
            if name not in forms:
                return region
            return _Tried(forms[name], region, steps[name], workload, TOLERANCES[model.program.dtype], clock, say)

        run_once(model.with_regions(watch), workload)


class _Tried:
    """A region whose first call tries all its forms; what it returns is always the default's."""

    def __init__(
        self,
        forms: _Forms,
        default: RegionCall,
        step: Step,
        workload: Workload,
        tolerance: float,
        clock: Clock,
        say: Say,
    ) -> None:
        self._forms, self._default, self._workload = forms, default, workload
        self._caches = range(len(step.values), len(step.values) + len(step.caches))
        self._tolerance, self._clock, self._say = tolerance, clock, say
        self._tried = False

    def __call__(self, inputs: list[Tensor]) -> Sequence[Tensor]:
        given = list(inputs)
        if not self._tried:
            self._tried = True
            self._say(f"{self._forms.region}: {self._workload.name}")
            self._compare(given)
            self._time(given)
        return self._default(given)

    def _compare(self, given: list[Tensor]) -> None:
        """Rule out the alternatives that fail, or whose outputs or caches are beyond the tolerance."""
        expected = self._outcome(self._default, given)
        for rank in self._forms.in_the_running:
            try:
                got = self._outcome(self._forms.calls[rank], given)
            except PackageError as failure:
                self._forms.trouble[rank] = str(failure)
                continue
            error = max(error_between(ours, theirs) for ours, theirs in zip(got, expected, strict=True))
            if error <= self._tolerance:
                self._forms.errors[rank] = max(error, self._forms.errors.get(rank, 0.0))
            else:
                self._forms.trouble[rank] = f"it is off by {error:.1e}, more than {self._tolerance:.0e}"

    def _outcome(self, call: RegionCall, given: list[Tensor]) -> list[Tensor]:
        """Return the outputs of a call and the caches after it; those of `given` stay as they are."""
        caches = [given[index].clone() for index in self._caches]
        inputs = [*given[: self._caches.start], *caches, *given[self._caches.stop :]]
        return [*call(inputs), *caches]

    def _time(self, given: list[Tensor]) -> None:
        calls = {0: self._default, **{rank: self._forms.calls[rank] for rank in self._forms.in_the_running}}
        # A region may empty the list that it is called with.
        works = {rank: _calling(call, given) for rank, call in calls.items()}
        if len(works) > 1:
            self._forms.timings[self._workload.name] = measure(works, self._clock)


def _calling(call: RegionCall, given: list[Tensor]) -> Callable[[], object]:
    return lambda: call(list(given))

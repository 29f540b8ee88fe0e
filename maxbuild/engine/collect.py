"""The collector: lets go of results by age, by size and by kind, and of what serves no result, beside living builders.

Invariant: a result that a living builder relies on is never taken; what a package on disk or a pinned run was made of
only where a kind is cleared. A result goes before its content, so that a collector that is killed leaves content
without a result and never a result without content.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from types import MappingProxyType

from maxbuild.engine.digest import Digest, TaskKey
from maxbuild.engine.holdings import RESULT, Held, Holdings, named_by, read_results, take_stock
from maxbuild.engine.journal import runs, used
from maxbuild.engine.roots import ROOT, Root, read_roots
from maxbuild.engine.session import Claims, claims_of_the_living
from maxbuild.engine.store import Store
from maxbuild.engine.task import Kind, Renewal
from maxbuild.engine.waste import Sort, Waste, find_waste, remove_waste

_BATCH = 256
"""How many results go while everybody else waits."""
_NO_KINDS: Mapping[str, Kind] = MappingProxyType({})


class Cause(StrEnum):
    """Why a result is let go of."""

    KIND = "kind"
    """Results of its kind were to be cleared."""
    AGE = "age"
    """Nobody used it for longer than results are to be kept."""
    SIZE = "size"
    """The store was to be smaller."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One result that is let go of: `size` is what the store, `freed` what the disk gets back, both in bytes."""

    key: TaskKey
    kind: str
    cause: Cause
    used: float
    """When a run used it last, in seconds since 1970."""
    size: int = 0
    freed: int = 0


@dataclass(frozen=True, slots=True)
class Collected:
    """What was let go of, or would be: results and waste; and the bytes of content that stay."""

    results: tuple[Taken, ...]
    waste: tuple[Waste, ...]
    kept: int

    @property
    def size(self) -> int:
        """Return the bytes that go from the store."""
        return sum(taken.size for taken in self.results) + sum(piece.size for piece in self.waste)

    @property
    def freed(self) -> int:
        """Return the bytes that the disk gets back; what has another name, in a package say, goes on taking room."""
        return sum(taken.freed for taken in self.results) + sum(piece.freed for piece in self.waste)


@dataclass(frozen=True, slots=True)
class _Limits:
    """What to let go of; see `collect`."""

    kinds: Mapping[str, Kind]
    max_size: int | None
    before: float | None
    clear: Collection[Renewal]

    def renewal(self, held: Held) -> Renewal:
        """Return how a result can be had again; one of a kind that nobody knows had better be kept."""
        kind = self.kinds.get(held.kind)
        return Renewal.COMPUTE if kind is None else kind.renewal


@dataclass(frozen=True, slots=True)
class _Guard:
    """What must not be taken: what living builders rely on, and what roots and pinned runs keep."""

    claims: Claims
    roots: tuple[Root, ...]
    kept: frozenset[TaskKey]

    def keeps(self, key: TaskKey) -> bool:
        """Return whether the result under `key` stays, however old it is and however much there is."""
        return key in self.kept or key in self.claims.results


def collect(
    store: Store,
    kinds: Mapping[str, Kind] = _NO_KINDS,
    *,
    max_size: int | None = None,
    max_age: float | None = None,
    clear: Collection[Renewal] = (),
    dry_run: bool = False,
    now: float | None = None,
) -> Collected:
    """Let go of what `store` need not keep, and return what that is; `dry_run` says what it would be.

    First all results of the renewals `clear`, roots or not; then those not used for `max_age` seconds; then, while the
    store's own content takes more than `max_size` bytes, what can be downloaded again, then what can be packed again,
    then what has to be computed again, each time the longest unused first (0 bytes: everything that may go). Last,
    what serves no result. Without limits, that is all.

    `kinds` tells how results can be had again; one of an unknown kind counts as computed. `now` is in seconds since
    1970. Raises StoreError when the store cannot be written.
    """
    store.check_writable()
    before = None if max_age is None else (time.time() if now is None else now) - max_age
    limits = _Limits(kinds, max_size, before, clear)
    stock, guard = take_stock(store), _guard(store)
    chosen = _choose(stock, guard, limits, used(store))
    if dry_run:
        taken = _weigh(stock, guard.claims, chosen)
        after = _without(stock, taken)
        waste = find_waste(store, after, guard.roots, living=bool(guard.claims.living), before=before)
    else:
        taken = list(_take(store, stock, chosen))
        after, guard = take_stock(store), _guard(store)
        found = find_waste(store, after, guard.roots, living=bool(guard.claims.living), before=before)
        waste = remove_waste(store, found)
    kept = after.size - sum(piece.size for piece in waste if piece.sort is Sort.CONTENT)
    order = list(Sort)
    waste = sorted(waste, key=lambda piece: (order.index(piece.sort), piece.name))
    return Collected(tuple(taken), tuple(waste), kept)


def _guard(store: Store) -> _Guard:
    roots = tuple(root for root in read_roots(store)[0] if root.holds())
    pinned = {task.key for run in runs(store) if run.pinned for task in run.tasks.values() if task.key is not None}
    return _Guard(claims_of_the_living(store.base), roots, frozenset(pinned.union(*(root.keys for root in roots))))


# What to take


def _choose(stock: Holdings, guard: _Guard, limits: _Limits, uses: Mapping[TaskKey, float]) -> list[Taken]:
    """Return the results to let go of, in the order in which they go."""
    last_use = {key: max(held.written, uses.get(key, 0.0)) for key, held in stock.results.items()}
    order = sorted(stock.results.values(), key=lambda held: (limits.renewal(held), last_use[held.key], held.key))
    causes: dict[TaskKey, Cause] = {}
    for held in order:
        if held.key in guard.claims.results:
            continue
        if limits.renewal(held) in limits.clear:
            causes[held.key] = Cause.KIND
        elif held.key not in guard.kept and limits.before is not None and last_use[held.key] < limits.before:
            causes[held.key] = Cause.AGE
    if limits.max_size is not None:
        candidates = [held for held in order if held.key not in causes and not guard.keeps(held.key)]
        left = {key: held for key, held in stock.results.items() if key not in causes}
        for held in _choose_by_size(stock, left, candidates, guard.claims, limits.max_size):
            causes[held.key] = Cause.SIZE
    return [
        Taken(key, stock.results[key].kind, cause, last_use[key])
        for key, cause in sorted(causes.items(), key=lambda item: list(Cause).index(item[1]))
    ]


def _choose_by_size(
    stock: Holdings, left: Mapping[TaskKey, Held], candidates: Sequence[Held], claims: Claims, max_size: int
) -> list[Held]:
    """Return the first of `candidates` without which the content of the results `left` takes `max_size` bytes."""
    named = named_by(left)
    named.update(claims.contents)
    size = sum(file.size for digest, file in stock.files.items() if named[digest] or claims.living)
    chosen = []
    for held in candidates:
        if size <= max_size and max_size > 0:
            break
        chosen.append(held)
        named.subtract(held.contents)
        size -= sum(stock.files[digest].size for digest in held.contents & stock.files.keys() if not named[digest])
    return [held for held in chosen if max_size == 0 or not _is_put_back(held, stock, named)]


def _is_put_back(held: Held, stock: Holdings, named: Counter[Digest]) -> bool:
    """Return whether a chosen result stays after all, since others that stay name all it has."""
    if not all(named[digest] for digest in held.contents if digest in stock.files):
        return False
    named.update(held.contents)
    return True


def _weigh(stock: Holdings, claims: Claims, chosen: Sequence[Taken]) -> list[Taken]:
    """Return `chosen` with what each would take along, once all before it are gone."""
    named = named_by(stock.results)
    named.update(claims.contents)
    weighed = []
    for taken in chosen:
        contents = stock.results[taken.key].contents
        named.subtract(contents)
        weighed.append(_with_sizes(taken, stock, (digest for digest in contents if not named[digest])))
    return weighed


def _with_sizes(taken: Taken, stock: Holdings, contents: Iterable[Digest]) -> Taken:
    files = [stock.files[digest] for digest in contents if digest in stock.files]
    return replace(taken, size=sum(file.size for file in files), freed=sum(file.freed for file in files))


def _without(stock: Holdings, taken: Collection[Taken]) -> Holdings:
    """Return what would be left of `stock` if nothing else happened."""
    keys = {piece.key for piece in taken}
    results = {key: held for key, held in stock.results.items() if key not in keys}
    going = {digest for key in keys for digest in stock.results[key].contents} - named_by(results).keys()
    return replace(stock, results=results, files={key: file for key, file in stock.files.items() if key not in going})


# Taking it


def _take(store: Store, stock: Holdings, chosen: Iterable[Taken]) -> Iterator[Taken]:
    """Take results and what they alone name, a few at a time, and each time only what nobody has come to need."""
    waiting = iter(chosen)
    ledger = _Ledger(store, stock)
    while batch := list(islice(waiting, _BATCH)):
        with store.collecting():
            claims = claims_of_the_living(store.base)
            ledger.renew()
            gone = [
                _with_sizes(taken, stock, ledger.take(taken.key, claims))
                for taken in batch
                if taken.key not in claims.results and ledger.may_take(taken)
            ]
        yield from gone


class _Ledger:
    """Which results there are while some are taken, and how many of them name each content.

    It is good only within `collecting`, after `renew`.
    """

    def __init__(self, store: Store, stock: Holdings) -> None:
        """Begin with what there was in `stock` when it was chosen what to take."""
        self._store = store
        self._chosen_from = stock.results
        self._results: dict[TaskKey, Held] = {}
        self._named: Counter[Digest] = Counter()
        self._written: dict[str, float] = {}
        self._roots = store.index.written(ROOT)
        self._placed: frozenset[TaskKey] = frozenset()
        """What packages were made of that were placed meanwhile."""

    def renew(self) -> None:
        """Take note of what builders have done since the last time."""
        written, roots = self._store.index.written(RESULT), self._store.index.written(ROOT)
        if written != self._written:
            self._results, _ = read_results(self._store)
            self._named = named_by(self._results)
            self._written = written
        if roots != self._roots:
            self._placed = frozenset(key for root in read_roots(self._store)[0] if root.holds() for key in root.keys)
            self._roots = roots

    def may_take(self, taken: Taken) -> bool:
        """Return whether a result is the one that was chosen, and no package was made of it since."""
        same = self._results.get(taken.key) == self._chosen_from[taken.key]
        return same and (taken.cause is Cause.KIND or taken.key not in self._placed)

    def take(self, key: TaskKey, claims: Claims) -> list[Digest]:
        """Remove a result, then the content that it alone named, and return the latter."""
        row = f"{RESULT}{key}"
        self._store.index.delete(row)
        self._written.pop(row, None)
        contents = self._results.pop(key).contents
        self._named.subtract(contents)
        gone = [digest for digest in sorted(contents) if not self._named[digest] and digest not in claims.contents]
        for digest in gone:
            self._store.blobs.remove(self._store.blobs.own_path(digest))
        return gone

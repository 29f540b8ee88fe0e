"""Files from a hub into the standard hub cache, where every other program finds them too.

What is put there is what was expected: the digest that was made of the bytes as they passed says so before the file
gets its name. What was there already is read once, by whoever knows how to tell a file that has not changed since.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from huggingface_hub import constants
from huggingface_hub.errors import OfflineModeIsEnabled

from maxbuild.errors import MaxbuildError, TaskFailed
from maxbuild.hub.body import Announced, ByXet, WrongContent, bring
from maxbuild.hub.hashes import Content, is_same_file, read_content
from maxbuild.hub.partial import PartialFile
from maxbuild.hub.patience import Patience
from maxbuild.hub.places import Places, blob_name, remove_cached
from maxbuild.hub.problems import EXPECTED, Wanted, explain, with_tries
from maxbuild.lock import GIT_BLOB_SHA1, LockedFile

Progress: TypeAlias = "Callable[[int], None]"
"""Hears how many bytes of a file there are."""

_TRIES_OF_CONTENT: Final = 2


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file in the hub cache whose content is what was expected: where it lies, and its sha256.

    `status` is the stat tuple that the file had when that was found out; None where somebody was at it just then.
    """

    place: Path
    sha256: str
    status: os.stat_result | None = None


def is_offline() -> bool:
    """Return whether the environment forbids the network (HF_HUB_OFFLINE)."""
    return constants.is_offline_mode()


def fetch_file(wanted: Wanted, expected: LockedFile, progress: Progress, *, again: bool = False) -> Fetched:
    """Bring the file `wanted`, at a commit, into the hub cache, unless it is there, and return it.

    `again` downloads it even if it is there. What is there and damaged is replaced. Raises TaskFailed where the content
    is not what is expected, twice, MaxbuildError when the hub has no answer, StoreError when the disk refuses.
    """
    try:
        return _Fetch(wanted, expected, progress, Places.of(wanted)).run(again=again)
    except EXPECTED as error:
        raise explain(error, wanted) from error


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One file on its way into the cache."""

    wanted: Wanted
    expected: LockedFile
    progress: Progress
    places: Places

    def run(self, *, again: bool) -> Fetched:
        """Return the file, from the cache if `again` is not set and it is sound there, else from the hub."""
        trouble: list[str] = []
        if not again and (cached := self._cached(trouble)):
            return cached
        if is_offline():
            raise self._refusal(trouble) if trouble else self._offline(again=again)
        try:
            return self._download(again=again or bool(trouble))
        except MaxbuildError as error:
            if not trouble:
                raise
            raise type(error)(error.message, causes=[*error.causes, *trouble], hint=error.hint) from error.__cause__

    def _cached(self, trouble: list[str]) -> Fetched | None:
        """Return what the cache holds, None where it does not; what was damaged there is removed and told."""
        for place in self.places.candidates(self.expected):
            found, status = self._read(place)
            if self._is_expected(found):
                content = place if place == self.places.link else self.places.point(place)
                return Fetched(Path(os.path.realpath(content)), found.sha256, status)
            trouble += self._discard(place, found)
        return None

    def _download(self, *, again: bool) -> Fetched:
        wrong: list[str] = []
        try:
            with self.places.locked(self.expected, lambda: self.progress(0)):
                if not again and (cached := self._cached(wrong)):  # somebody else was fetching it
                    return cached
                return self._in_two_tries(wrong)
        except ByXet:  # upstream takes the lock itself
            return self._by_xet(wrong, again=again)

    def _in_two_tries(self, wrong: list[str]) -> Fetched:
        for _ in range(_TRIES_OF_CONTENT):
            try:
                return self._once()
            except WrongContent as error:
                wrong += [str(error)]
                if error.final:
                    break
        else:
            wrong.append("it was downloaded a second time")
        raise self._refusal(wrong)

    def _once(self) -> Fetched:
        """Bring the file, and put it into its place if it is right."""
        self.places.contents.mkdir(parents=True, exist_ok=True)
        git = self.expected.algorithm == GIT_BLOB_SHA1
        partial_path = self.places.partial(self.expected)
        with PartialFile(partial_path, self.expected.size, git=git, progress=self.progress) as partial:
            patience = Patience(lambda: self.progress(partial.received))
            try:
                announced = bring(self.wanted, partial, self.progress, patience)
            except WrongContent:
                partial.discard()
                raise
            except EXPECTED as error:
                if not partial.received:
                    partial.discard()
                raise with_tries(explain(error, self.wanted), patience, partial.received, partial.size) from error
            content = partial.finish()
            if not self._is_expected(content):
                partial.discard()
                raise self._wrong(content, announced)
            return self._publish(partial, content, announced)

    def _publish(self, partial: PartialFile, content: Content, announced: Announced) -> Fetched:
        before = partial.status()
        place = self.places.publish(partial.path, self.places.content(self.expected, announced.etag))
        after = place.stat()
        return Fetched(place, content.sha256, after if is_same_file(before, after) else None)

    def _by_xet(self, wrong: list[str], *, again: bool) -> Fetched:
        from maxbuild.hub.xet import bring_by_xet  # noqa: PLC0415 - the one part that needs upstream's whole client

        for _ in range(_TRIES_OF_CONTENT):
            place = bring_by_xet(self.wanted, self.progress, again=again)
            found, status = self._read(place)
            if self._is_expected(found):
                return Fetched(Path(os.path.realpath(place)), found.sha256, status)
            wrong += self._discard(place, found)
        raise self._refusal([*wrong, "it was downloaded a second time"])

    def _read(self, place: Path) -> tuple[Content, os.stat_result]:
        """Return what the file at `place` holds, and its stat tuple all the while."""
        try:
            return read_content(place, self.expected.size, git=self.expected.algorithm == GIT_BLOB_SHA1)
        except OSError as error:
            raise TaskFailed(
                f"cannot read `{place}`, which lies in the hub cache",
                causes=[error.strerror or str(error)],
                hint="mend its rights, or choose another place with HF_HOME",
            ) from error

    def _is_expected(self, found: Content) -> bool:
        expected = self.expected
        return found.size == expected.size and found.digest(expected.algorithm) == expected.digest

    def _wrong(self, found: Content, announced: Announced) -> WrongContent:
        if announced.etag is not None and announced.etag in (found.sha256, found.git_oid):
            return WrongContent(f"{self._unlike(found)}: the hub says that this commit holds it", final=True)
        return WrongContent(self._unlike(found))

    def _unlike(self, found: Content) -> str:
        if found.size != self.expected.size:
            return f"it has {found.size} bytes, expected {self.expected.size}"
        return f"its digest is {found.digest(self.expected.algorithm)}, expected {self.expected.digest}"

    def _discard(self, place: Path, found: Content) -> list[str]:
        """Take damaged content out of the hub cache; return what was wrong and what became of it.

        Content that is what its name in the cache says stays: then the cache is right, and something else was expected.
        """
        unlike = self._unlike(found)
        if blob_name(place) in {found.sha256, found.git_oid}:
            return [unlike, "it is undamaged: the hub says that this commit holds it"]
        try:
            remove_cached(place)
        except OSError as error:
            return [unlike, f"`{place}` is damaged and could not be removed: {error.strerror}"]
        return [unlike, f"`{place}` was damaged and has been removed"]

    def _refusal(self, causes: list[str]) -> TaskFailed:
        return TaskFailed(
            f"{self.wanted.text} is not what the lock expects",
            causes=causes,
            hint=(
                "run again with network; if it stays so, either the hub is not the one that the lock was made with"
                " (check HF_ENDPOINT), or the disk is damaged"
            ),
        )

    def _offline(self, *, again: bool) -> MaxbuildError:
        if again:
            return MaxbuildError(
                f"cannot download {self.wanted.text} again: HF_HUB_OFFLINE is set",
                hint="unset HF_HUB_OFFLINE, or leave out `force_download`",
            )
        return explain(OfflineModeIsEnabled(), self.wanted)

"""Archives: a cache moves whole to another place, and nothing of a bad archive is believed."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from conftest import ToyPlan, World, toy, why
from stocks import WEIGHTS, rot, tasks
from toys import KINDS

from maxbuild.engine import (
    Kind,
    Reason,
    Renewal,
    Report,
    SourceFile,
    State,
    Store,
    execute,
    hash_bytes,
    journal,
    survey,
)
from maxbuild.engine.archive import BadArchive, Unpacked, pack, pack_file, select, unpack
from maxbuild.engine.archive.form import BLOCK, END, Head, Member, Reader, content_name, frame
from maxbuild.engine.audit import audit
from maxbuild.engine.holdings import take_stock
from maxbuild.errors import StoreError, UsageError


@pytest.fixture
def built(world: World, tmp_path: Path) -> Report:
    """Return what the first build in the world's store came to."""
    report = world.build(*tasks(world, tmp_path / "model"))
    assert world.ran()
    return report


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    """Return an empty store at another place."""
    with Store(tmp_path / "elsewhere" / "store") as store:
        yield store


def packed(store: Store, **choice: object) -> bytes:
    """Return an archive of `store`."""
    sink = io.BytesIO()
    pack(store, select(store, **choice), sink)  # type: ignore[arg-type]
    return sink.getvalue()


def unpacked(store: Store, archive: bytes) -> Unpacked:
    """Put an archive into `store`."""
    return unpack(store, io.BytesIO(archive))


def members(archive: bytes) -> list[tuple[str, bytes]]:
    """Return names and contents of an archive's members, read as anybody would."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(entry.name, tar.extractfile(entry).read()) for entry in tar]  # type: ignore[union-attr]


def tar(entries: Sequence[tuple[str, bytes]], *, end: bytes = END) -> bytes:
    """Return an archive of these members."""
    blocks = [
        block
        for name, content in entries
        for block in (frame(Member(name, len(content))), content, bytes(-len(content) % BLOCK))
    ]
    return b"".join([*blocks, end])


# Moving


def test_a_moved_cache_has_every_result_at_another_path(
    world: World, built: Report, other: Store, tmp_path: Path
) -> None:
    """After export and import, a build over equal files at other paths runs nothing, and `why` has something to say."""
    pack_file(world.store, select(world.store), tmp_path / "cache.tar")
    moved = tasks(world, tmp_path / "moved")
    world.store.close()
    world.store.root.rename(tmp_path / "no longer there")
    (tmp_path / "model").rename(tmp_path / "nor the model")
    with (tmp_path / "cache.tar").open("rb") as source:
        brought = unpack(other, source)
    assert (brought.results, brought.new_results) == (3, 3)  # `join` and `twin` are one
    report = execute(ToyPlan(moved), other, KINDS, scope="world", jobs=1)
    assert {task.state for task in report.tasks} == {State.CACHED}
    assert report.results == built.results
    assert world.ran() == []
    (tmp_path / "moved" / "words").write_text("three")
    changed = survey(ToyPlan(moved), other, scope="world")
    assert [explanation.reason for explanation in why(changed, "list")] == [Reason.INPUT]


def test_an_archive_follows_from_the_cache_alone(world: World, built: Report, tmp_path: Path) -> None:
    """Two exports are equal to the byte, any tar reads them, and no time, owner or path is in them."""
    archive = packed(world.store)
    pack_file(world.store, select(world.store), tmp_path / "cache.tar")
    assert (tmp_path / "cache.tar").read_bytes() == archive
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        facts = {(entry.mtime, entry.uid, entry.gid, entry.uname, entry.mode, entry.isreg()) for entry in tar}
        assert facts == {(0, 0, 0, "", 0o644, True)}
        assert tar.getnames()[1:-2] == sorted(tar.getnames()[1:-2])
    assert str(tmp_path).encode() not in archive
    assert [path.name for path in tmp_path.glob("*cache.tar*")] == ["cache.tar"]


def test_an_imported_cache_exports_the_same_archive(world: World, built: Report, other: Store) -> None:
    """Nothing is lost on the way: what was imported and is exported again is equal to the byte."""
    archive = packed(world.store)
    unpacked(other, archive)
    assert packed(other) == archive
    assert audit(other).findings == ()


def test_importing_twice_changes_nothing(world: World, built: Report, other: Store) -> None:
    """What is there already stays as it is: the first writer wins."""
    archive = packed(world.store)
    unpacked(other, archive)
    before = other.index.rows("")
    brought = unpacked(other, archive)
    assert (brought.new_results, brought.new_contents) == (0, 0)
    assert {key: row for key, row in other.index.rows("").items() if not key.startswith("stamp:")} == {
        key: row for key, row in before.items() if not key.startswith("stamp:")
    }


def test_what_a_store_has_is_kept(world: World, other: Store, tmp_path: Path) -> None:
    """Another result under the same key, and a newer document under the same name, are not replaced."""
    world.build(toy("a", "nondeterministic", text="x"))
    archive = packed(world.store)
    report = execute(ToyPlan([toy("a", "nondeterministic", text="x")]), other, KINDS, scope="world", jobs=1)
    execute(ToyPlan([toy("a", "nondeterministic", text="y")]), other, KINDS, scope="world", jobs=1)
    last = other.last("world", "a")
    assert unpacked(other, archive).new_results == 0
    assert other.last("world", "a") == last
    key = report.tasks[0].key
    assert key is not None
    kept = other.find_result(key)
    assert kept is not None
    assert kept.result == report.results["a"]


def test_an_export_can_be_of_one_name_or_of_one_run(world: World, other: Store) -> None:
    """A scope's archive has what the scope consists of now; a run's what that run used; unknown ones are refused."""
    with journal.Journal.begin(world.store, "one", ["test"]) as written:
        report = world.build(toy("a", "concat", text="old"), scope="one", on_event=written)
        written.end(report)
    world.build(toy("a", "concat", text="new"), scope="one")
    world.build(toy("b", "concat", text="other"), scope="two")

    def texts(**choice: object) -> list[str]:
        lines = dict(members(packed(world.store, **choice)))["results.jsonl"].splitlines()
        return sorted(json.loads(json.loads(line)["document"])["params"]["text"] for line in lines)

    assert texts() == ["new", "old", "other"]
    assert texts(scope="one") == ["new"]
    assert texts(run=journal.run_ids(world.store)[0]) == ["old"]
    with pytest.raises(UsageError, match="nothing was built under the name `three`") as caught:
        select(world.store, scope="three")
    assert caught.value.hint == "there is `one`, `two`"
    with pytest.raises(UsageError, match="no run `never`"):
        select(world.store, run="never")


def test_an_export_for_ci_has_no_weights(world: World, built: Report, other: Store) -> None:
    """Only what must be computed again goes along, and nothing that lies outside of the store."""
    kinds = {**KINDS, "multi_output": Kind("multi_output", "toys:multi_output", False, Renewal.DOWNLOAD)}
    archive = packed(world.store, kinds=kinds)
    assert WEIGHTS.encode() in packed(world.store)
    assert [name for name, _ in members(archive)].count(content_name(hash_bytes(WEIGHTS.encode()))) == 0
    assert unpacked(other, archive).results == 1


def test_damaged_content_is_not_exported(world: World, built: Report, tmp_path: Path) -> None:
    """What is not what its name says is found as it passes, and no archive appears (G6)."""
    blob = world.blob(built, "join")
    rot(blob)
    with pytest.raises(StoreError, match="gone or damaged"):
        pack_file(world.store, select(world.store), tmp_path / "cache.tar")
    assert list(tmp_path.glob("*cache.tar*")) == []


def test_large_content_passes_in_pieces(world: World, other: Store, tmp_path: Path) -> None:
    """Export and import hold a few pieces in memory, however large the content is."""
    size = 64 << 20
    with (tmp_path / "large").open("wb") as file:
        file.truncate(size)
    world.build(toy("large", "pass_through", {"from": SourceFile(tmp_path / "large")}))
    tracemalloc.start()
    pack_file(world.store, select(world.store), tmp_path / "cache.tar")
    with (tmp_path / "cache.tar").open("rb") as source:
        unpack(other, source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 8


def test_content_beyond_8_gib_has_a_frame_that_any_tar_reads() -> None:
    """The size of a member is not bounded by the eleven digits of the first tars."""
    member = Member(content_name(hash_bytes(b"")), 40 << 30)
    assert tarfile.TarInfo.frombuf(frame(member), "utf-8", "strict").size == 40 << 30
    reader = Reader(io.BytesIO(frame(member)))
    assert reader.next() == member


# Bad archives


def nothing_was_believed(store: Store, archive: bytes, match: str | None = None) -> None:
    """Import `archive`, which must be refused, and see that it left no result, no document, and only true content."""
    with pytest.raises(BadArchive, match=match):
        unpacked(store, archive)
    stock = take_stock(store)
    assert not stock.results
    assert not store.index.keys("last:")
    assert audit(store).findings == ()


def test_an_archive_cut_anywhere_is_refused(world: World, built: Report, other: Store) -> None:
    """However much is missing at the end, no result is taken."""
    archive = packed(world.store)
    for length in [*range(0, len(archive), BLOCK // 2), len(archive) - 1]:
        nothing_was_believed(other, archive[:length])


def test_a_byte_changed_anywhere_is_found(world: World, built: Report, other: Store) -> None:
    """Whichever byte of an archive is another, in a frame, a content, a list or between them, it is refused."""
    archive = packed(world.store)
    for place in range(0, len(archive), 23):
        damaged = bytearray(archive)
        damaged[place] ^= 1 << (place % 8)
        with pytest.raises(BadArchive):
            unpacked(other, bytes(damaged))
    nothing_was_believed(other, bytes(damaged))


HEADLESS = "does not begin with `head.json`"


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda parts: parts[1:], HEADLESS),
        (lambda parts: [("head.json", b" " * 5000), *parts[1:]], HEADLESS),
        (lambda parts: [("head.json", b"{}"), *parts[1:]], "its schema is null"),
        (lambda parts: [("head.json", b'{"schema": "maxbuild.cache.v2"}'), *parts[1:]], "this version reads"),
        (lambda parts: [("head.json", b"[" * 4000), *parts[1:]], "head is no JSON"),
        (lambda parts: [parts[0], ("/etc/passwd", b"x"), *parts[1:]], "`/etc/passwd` is out of place"),
        (lambda parts: [parts[0], ("../../x", b"x"), *parts[1:]], "out of place"),
        (lambda parts: [parts[0], ("cas/sha256/../../x", b"x"), *parts[1:]], "out of place"),
        (lambda parts: [parts[0], parts[1], *parts[1:]], "comes twice"),
        (lambda parts: [parts[0], parts[2], parts[1], *parts[3:]], "comes twice, or out of order"),
        (lambda parts: [parts[0], *parts[2:]], "not hold as much as its head says"),
        (lambda parts: [parts[0], (parts[1][0], b"other"), *parts[2:]], "holds"),
        (lambda parts: [parts[0], (parts[1][0], bytes(1 << 20)), *parts[2:]], "larger than its head says"),
        (lambda parts: parts[:-1], "it has no `last.jsonl`"),
        (lambda parts: [*parts, ("more", b"")], "`more` is out of place"),
        (lambda parts: [*parts[:-2], parts[-1], parts[-2]], "`last.jsonl` is out of place"),
        (lambda parts: [*parts[:-2], ("results.jsonl", b""), parts[-1]], "`results.jsonl` holds"),
    ],
)
def test_members_that_do_not_belong_are_refused(
    world: World,
    built: Report,
    other: Store,
    spoil: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]],
    match: str,
) -> None:
    """An archive has exactly the members an export writes, in their order, of the sizes that its head says."""
    nothing_was_believed(other, tar(spoil(members(packed(world.store)))), match)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, b"x", b"L", b"S"])
def test_what_is_no_plain_file_is_refused(world: World, built: Report, other: Store, kind: bytes) -> None:
    """Links, devices, folders and the extensions of tars are none of an archive's."""
    archive = packed(world.store)
    entry = tarfile.TarInfo(content_name(hash_bytes(b"")))
    entry.type, entry.linkname = kind, "/etc/passwd"
    head = frame(Member("head.json", 1))
    first = len(head) + BLOCK
    spoiled = archive[:first] + entry.tobuf(tarfile.GNU_FORMAT) + archive[first:]
    nothing_was_believed(other, spoiled, "no plain file")


def rewritten(archive: bytes, change: Callable[[list[dict[str, object]]], list[dict[str, object]]]) -> bytes:
    """Return an archive with other results, whose head is right for them: what somebody would make up."""
    parts = dict(members(archive))
    rows = change([json.loads(line) for line in parts["results.jsonl"].splitlines()])
    parts["results.jsonl"] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    head = json.loads(parts["head.json"])
    del head["schema"]
    digest = hash_bytes(parts["results.jsonl"])
    parts["head.json"] = Head(**{**head, "results": len(rows), "results_digest": digest}).spell()
    return tar(list(parts.items()))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda rows: [{**rows[0], "key": "0" * 64}, *rows[1:]], "not that of its key"),
        (lambda rows: [{**rows[0], "document": "{}"}, *rows[1:]], "not that of its key"),
        (lambda rows: [rows[0], *rows], "comes twice"),
        (lambda rows: rows[::-1], "out of order"),
        (lambda rows: [{**rows[0], "outputs": {"out": "0" * 64}}, *rows[1:]], "none: it has no|not in it|declares no"),
        (lambda rows: [{**rows[0], "outputs": {"../x": "0" * 64}}, *rows[1:]], "not a name for an output"),
        (lambda rows: [{**rows[0], "outputs": {"out": 1}}, *rows[1:]], "no result"),
        (lambda rows: [{**rows[0], "seconds": float("inf")}, *rows[1:]], "numbers that cannot be"),
        (lambda rows: [{"no": "result"}, *rows[1:]], "no result"),
    ],
)
def test_results_that_prove_nothing_are_refused(
    world: World, built: Report, other: Store, change: Callable[..., list[dict[str, object]]], match: str
) -> None:
    """A result is believed by its key, with outputs that its document declares and content that came along."""
    archive = packed(world.store)
    assert unpacked_fresh(archive, other.root.with_name("sound")) == 3
    nothing_was_believed(other, rewritten(archive, change), match)


def unpacked_fresh(archive: bytes, root: Path) -> int:
    """Return how many results an archive brings into a fresh store, rewritten without a change."""
    with Store(root) as store:
        return unpacked(store, rewritten(archive, lambda rows: rows)).new_results


def test_something_after_the_end_is_refused(world: World, built: Report, other: Store) -> None:
    """Two archives in a row are not one, and blocks of nothing, which tars fill up with, do no harm."""
    archive = packed(world.store)
    nothing_was_believed(other, archive + archive, "followed by something")
    assert unpacked(other, archive + bytes(10240)).new_results == 3

"""Placing packages: whole or not at all, repaired when damaged, left alone when right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maxbuild.engine import OutputOf, Result, State, Store, Task, TaskKey, TaskReport, hash_file
from maxbuild.engine.graph import TaskGraph
from maxbuild.engine.roots import read_roots
from maxbuild.errors import StoreError, UsageError
from maxbuild.packages import place_packages
from maxbuild.runtime.package import ComponentEntry, FileEntry, PackageHeader


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store."""
    return Store(tmp_path / "store")


def publish(store: Store, contents: dict[str, bytes], outside: Path | None = None) -> Any:
    """Put files and a header that names them into the store; return what `place_packages` needs of plan and report."""
    files = {}
    for path, content in contents.items():
        if outside is None:
            digest = store.publish_bytes(content)
        else:
            outside.mkdir(exist_ok=True)
            (outside / path).write_bytes(content)
            digest = store.adopt(outside / path)
        files[path] = FileEntry(digest, len(content))
    first = next(iter(files))
    entry = ComponentEntry(first, first, {}, {}, None)
    header = PackageHeader("demo", "cpu:x86-64-v3", {"main": entry}, None, {}, files)
    digest = store.publish_bytes(json.dumps(header.to_json()).encode())
    manifest = SimpleNamespace(name="demo")
    plan = SimpleNamespace(manifest=manifest, package_tasks=lambda: {"cpu:x86-64-v3": "package"})
    results = {"package": Result({"package": digest})}
    return plan, SimpleNamespace(results=results, tasks=(), task_graph=TaskGraph())


def place(published: Any, store: Store, output: Path) -> Path:
    """Place the one package and return where it is."""
    placed: Sequence[Path] = place_packages(*published, store, output)
    return placed[0]


def names(folder: Path) -> list[str]:
    """Return what lies in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


def test_large_blobs_are_linked_and_a_second_placing_changes_nothing(store: Store, tmp_path: Path) -> None:
    """Content of the store is linked, not copied; what is right is left alone."""
    published = publish(store, {"a": b"1" * 100})
    folder = place(published, store, tmp_path / "out")
    assert (folder / "a").stat().st_nlink == 2
    before = folder.stat().st_ino
    assert place(published, store, tmp_path / "out") == folder
    assert folder.stat().st_ino == before


def test_a_package_does_not_change_with_the_users_small_files(store: Store, tmp_path: Path) -> None:
    """A tokenizer that is edited in place in the model's folder stays as it was in the package, and the other way."""
    folder = place(publish(store, {"tokenizer.json": b"{}"}, tmp_path / "model"), store, tmp_path / "out")
    (tmp_path / "model" / "tokenizer.json").write_bytes(b"[]")
    assert (folder / "tokenizer.json").read_bytes() == b"{}"


def test_linking_a_users_weights_does_not_read_them_again(store: Store, tmp_path: Path) -> None:
    """A link moves a file's change time; the store still knows the file."""
    folder = place(publish(store, {"w": b"1" * (2 << 20)}, tmp_path / "model"), store, tmp_path / "out")
    assert (folder / "w").samefile(tmp_path / "model" / "w")
    assert store.known_source(tmp_path / "model" / "w") is not None


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_package_is_placed_anew(store: Store, tmp_path: Path, damage: str) -> None:
    """Whatever happened to a file of a package, placing it again makes it right."""
    published = publish(store, {"a": b"1" * 100, "b": b"2" * 100})
    folder = place(published, store, tmp_path / "out")
    victim = folder / "a"
    victim.unlink()
    if damage != "gone":
        victim.write_bytes(b"0" * 100 if damage == "flip" else b"1")
    place(published, store, tmp_path / "out")
    assert victim.read_bytes() == b"1" * 100
    assert names(folder.parent) == [folder.name]


def test_another_package_takes_the_place_of_the_old(store: Store, tmp_path: Path) -> None:
    """A file that the new package has not is gone, and nothing is left beside it."""
    place(publish(store, {"a": b"1", "old": b"2"}), store, tmp_path / "out")
    folder = place(publish(store, {"a": b"3"}), store, tmp_path / "out")
    assert names(folder) == ["a", "package.json"]
    assert names(folder.parent) == [folder.name]


def test_what_a_killed_build_left_is_swept(store: Store, tmp_path: Path) -> None:
    """Scratch folders beside a package go with the next placing."""
    folder = tmp_path / "out" / "demo" / "cpu-x86-64-v3"
    (folder.parent / f".{folder.name}.abc" / "new").mkdir(parents=True)
    place(publish(store, {"a": b"1"}), store, tmp_path / "out")
    assert names(folder.parent) == [folder.name]


def test_what_is_no_package_is_left_alone(store: Store, tmp_path: Path) -> None:
    """A folder of the user's own in that place is never replaced."""
    folder = tmp_path / "out" / "demo" / "cpu-x86-64-v3"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="in the way"):
        place(publish(store, {"a": b"1"}), store, tmp_path / "out")
    assert (folder / "thesis.tex").exists()


def test_a_missing_blob_is_told(store: Store, tmp_path: Path) -> None:
    """A blob that went away between build and placing is named, and nothing is placed."""
    published = publish(store, {"a": b"1"})
    path = store.blob_path(next(iter(json.loads(_header(store, published))["files"].values()))["sha256"])
    assert path is not None
    path.unlink()
    with pytest.raises(StoreError, match="not in the store"):
        place(published, store, tmp_path / "out")


def test_a_placed_package_keeps_what_it_was_made_of(store: Store, tmp_path: Path) -> None:
    """The store has a root for a package: itself and all it was made of, and nothing else, as long as it is there."""
    plan, report = publish(store, {"a": b"1"})
    load, other = (Task(name, "toy", {}, {}, {}, ("out",)) for name in ("load", "other"))
    package = Task("package", "toy", {}, {"weights": OutputOf("load", "out")}, {}, ("package",))
    report.task_graph.add([load, other, package])
    keys = {name: TaskKey(str(number) * 64) for number, name in enumerate(("load", "other", "package"))}
    report.tasks = [TaskReport(name, "toy", State.BUILT, key=key) for name, key in keys.items()]
    folder = place((plan, report), store, tmp_path / "out")
    (root,) = read_roots(store)[0]
    assert root.witness == folder / "package.json"
    assert root.keys == {keys["load"], keys["package"]}
    assert root.holds()
    (folder / "package.json").unlink()
    assert not root.holds()


def _header(store: Store, published: Any) -> bytes:
    path = store.blob_path(published[1].results["package"].outputs["package"])
    assert path is not None
    assert hash_file(path)
    return path.read_bytes()

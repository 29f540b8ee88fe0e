"""Audits: what rotted is found where no stat tuple shows it, set aside, and made again."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import World
from stocks import WEIGHTS, rot, tasks

from maxbuild.engine import (
    Report,
)
from maxbuild.engine.audit import Audit, Damage, audit


@pytest.fixture
def built(world: World, tmp_path: Path) -> Report:
    """Return what the first build in the world's store came to."""
    report = world.build(*tasks(world, tmp_path / "model"))
    assert world.ran()
    return report


def damages(found: Audit) -> list[Damage]:
    """Return what was found, sorted."""
    return sorted(finding.damage for finding in found.findings)


def test_rot_that_leaves_size_and_time_is_found_and_made_again(world: World, built: Report) -> None:
    """A build believes the stat tuple; an audit reads and sets aside, and the next build makes it again (G6)."""
    assert audit(world.store).findings == ()
    rot(world.blob(built, "join"))
    assert world.survey(*tasks(world, world.folder.parent / "model")).complete
    found = audit(world.store)
    assert damages(found) == [Damage.CONTENT, Damage.INCOMPLETE]
    assert "concat" in found.findings[-1].name
    assert world.store.statistics().quarantined == 1
    report = world.build(*tasks(world, world.folder.parent / "model"))
    assert report.results == built.results
    assert len(world.ran()) == 1
    assert audit(world.store).findings == ()


def test_rot_outside_of_the_store_is_found(world: World, built: Report, tmp_path: Path) -> None:
    """A weight file that rotted where it lies is not believed any more."""
    rot(tmp_path / "model" / "weights")
    assert world.store.find_result(key_of(built, "weights")) is not None
    assert damages(audit(world.store)) == [Damage.OUTSIDE, Damage.INCOMPLETE]
    assert world.store.find_result(key_of(built, "weights")) is None


def key_of(report: Report, name: str) -> object:
    """Return the key of a task."""
    return next(task.key for task in report.tasks if task.name == name)


def test_rows_and_files_that_are_none_are_found(world: World, built: Report) -> None:
    """A row under another's key, a result without an output, and a file without a digest for a name are told."""
    row = world.store.index.rows(f"result:{key_of(built, 'join')}")
    world.store.index.set_json("result:" + "0" * 64, next(iter(row.values())))
    key = key_of(built, "list")
    value = next(iter(world.store.index.rows(f"result:{key}").values()))
    assert isinstance(value, dict)
    world.store.index.set_json(f"result:{key}", {**value, "outputs": {}})
    folder = world.store.base / "cas" / "sha256" / "xx"
    folder.mkdir()
    (folder / "stray").write_text("stray")
    assert damages(audit(world.store)) == [Damage.STRANGER, Damage.ROW, Damage.ROW]


def test_an_audit_tells_how_far_it_is(world: World, built: Report) -> None:
    """Progress ends with all bytes read, of the store's own and of those outside."""
    told: list[tuple[int, int | None]] = []
    found = audit(world.store, lambda done, total: told.append((done, total)))
    assert told[-1] == (found.size, found.size)
    assert found.size > len(WEIGHTS)
    assert [done for done, _ in told] == sorted(done for done, _ in told)

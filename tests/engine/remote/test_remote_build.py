"""Builds over a remote cache: what one has computed another fetches, and a remote that is no good changes no result."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import World, small_build, states, toy
from remote import servers
from remote.samples import Opener, hearing
from remote.servers import Lie, Nginx, Server
from toys import LEDGER

from maxbuild.engine import State, Store, hash_bytes
from maxbuild.engine.sharing import Sharing

PR = {"MAXBUILD_REMOTE_USER": "builder", "MAXBUILD_REMOTE_PASSWORD": "pr-secret"}


@pytest.fixture
def other(tmp_path: Path, world: World) -> World:
    """Return another machine: an empty store, and sources of its own."""
    (tmp_path / "other").mkdir()
    return World(tmp_path / "other", Store(tmp_path / "other-store"), Path(os.environ[LEDGER]))


def test_what_one_machine_computed_another_fetches(
    running_nginx: Nginx, world: World, other: World, opened: Opener
) -> None:
    """With a cache that was written from elsewhere nothing runs, the bytes are the same, and the next build is null."""
    written = world.build(
        *small_build(), sharing=Sharing(opened(running_nginx.url, instance="pr-901", write=True, environ=PR))
    )
    assert world.ran() == ["a", "z"]
    reader = opened(running_nginx.url, instance="pr-901", environ={})
    fetched = other.build(*small_build(), sharing=Sharing(reader))
    assert other.ran() == []
    assert states(fetched) == {"a": State.FETCHED, "z": State.FETCHED}
    assert other.content(fetched, "z") == world.content(written, "z")
    assert reader.statistics().hits == 2

    again = opened(running_nginx.url, instance="pr-901", environ={})
    assert states(other.build(*small_build(), sharing=Sharing(again))) == {"a": State.CACHED, "z": State.CACHED}
    assert (again.statistics().hits, again.statistics().misses) == (0, 0)


def test_what_was_fetched_may_be_partly_there(running_nginx: Nginx, world: World, other: World, opened: Opener) -> None:
    """Where the remote lost a blob its task runs, and what comes after it is fetched all the same."""
    written = world.build(
        *small_build(), sharing=Sharing(opened(running_nginx.url, instance="pr-902", write=True, environ=PR))
    )
    world.ran()
    lost = written.results["a"].outputs["out"]
    (running_nginx.content / "pr-902" / "cas" / lost).unlink()
    report = other.build(*small_build(), sharing=Sharing(opened(running_nginx.url, instance="pr-902", environ={})))
    assert other.ran() == ["a"]
    assert states(report) == {"a": State.BUILT, "z": State.FETCHED}


@pytest.mark.parametrize(
    "lie",
    [servers.wrong_bytes, servers.html, servers.short, servers.broken_off, servers.status(500), servers.status(403)],
)
def test_a_lying_remote_costs_one_warning_and_no_result(
    lie: Lie, server: Server, world: World, other: World, opened: Opener
) -> None:
    """Every task runs and leaves what it leaves without a remote, on many threads too; the warning comes once."""
    tasks = [toy(f"task {number}", "concat", text=str(number)) for number in range(12)]
    server.lie = lie
    with hearing() as heard:
        report = world.build(*tasks, jobs=6, sharing=Sharing(opened(server.url, write=True)))
    assert len(heard.texts) == 1
    assert set(states(report).values()) == {State.BUILT}
    assert len(world.ran()) == 12
    alone = other.build(*tasks)
    assert report.results == alone.results


def test_a_remote_that_names_other_outputs_is_not_believed(server: Server, world: World, opened: Opener) -> None:
    """A result whose outputs are not those of the task is none; the task runs."""
    task = toy("a", "concat", text="x")
    key = world.survey(task).tasks[0].key
    blob = b"something else"
    server.content = {
        f"/main/ac/{key}": (
            b'{"outputFiles":[{"path":"other","digest":{"hash":"%s","sizeBytes":"%d"}}]}'
            % (hash_bytes(blob).encode(), len(blob))
        ),
        f"/main/cas/{hash_bytes(blob)}": blob,
    }
    report = world.build(task, sharing=Sharing(opened(server.url)))
    assert states(report) == {"a": State.BUILT}
    assert world.ran() == ["a"]


def test_a_null_build_asks_no_remote(server: Server, world: World, opened: Opener) -> None:
    """What is in the store is not asked for, nor offered."""
    world.build(*small_build())
    world.build(*small_build(), sharing=Sharing(opened(server.url, write=True)))
    assert server.asked == []

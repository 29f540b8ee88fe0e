"""`plan`, `why` and `graph`: what they say of one survey, and that they run nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from cli_world import World
from syrupy.assertion import SnapshotAssertion

from maxbuild.cli.graph import Format, drawn
from maxbuild.cli.plan import tell_plan
from maxbuild.cli.why import answer_why
from maxbuild.errors import UsageError, render
from maxbuild.manifest import load_manifest
from maxbuild.report.picture import picture_of

Steady = Callable[[str], str]
Capture = pytest.CaptureFixture[str]


def plan(world: World, *, values: bool = False, json: bool = False) -> None:
    """Say what `plan` says, with a manifest whose values are shown."""
    manifest = world.folder.parent / "toy.yaml"
    manifest.write_text(
        "version: 1\nname: toy\ntargets: ['cpu:x86-64-v3']\nmodels: {main: {model_path: ./model, max_length: 9}}\n"
    )
    loaded = load_manifest(manifest, overrides=["main.max_length=16"])
    tell_plan(world.survey(), loaded, 0.1, values=values, json=json)


def why(world: World, query: str = "") -> None:
    """Say what `why` says."""
    answer_why(query, world.survey(), world.store, "toy")


def test_cold_plan_names_what_is_not_known_yet(
    world: World, steady: Steady, snapshot: SnapshotAssertion, capsys: Capture
) -> None:
    """On a cold store what hangs on a trace is listed as not known, never guessed, and nothing runs."""
    plan(world)
    assert steady(capsys.readouterr().out) == snapshot
    assert world.store.statistics().results == 0


def test_warm_plan_shows_reasons_and_final_values(
    world: World, steady: Steady, snapshot: SnapshotAssertion, capsys: Capture
) -> None:
    """--values shows each value and who had the last word on it."""
    world.warm()
    world.edit("weights", "7 8 9")
    capsys.readouterr()
    plan(world, values=True)
    assert steady(capsys.readouterr().out) == snapshot


def test_plan_document_holds_values(world: World, capsys: Capture) -> None:
    """The document of `plan --values --json` has the values with their origins."""
    plan(world, values=True, json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "maxbuild.plan.v1"
    assert {"name": "main.max_length", "value": 16, "origin": "flag"} in document["values"]
    assert {part["after"] for part in document["deferred"]} == {"trace main"}


@pytest.mark.parametrize("query", ["", "trace main", "LOAD", "package", "compile head"])
def test_why_of_changed_tasks(
    query: str, world: World, steady: Steady, snapshot: SnapshotAssertion, capsys: Capture
) -> None:
    """`why` tells reasons from old to new with their source, and of a cached task those of its last run."""
    world.warm()
    world.edit("weights", "7 8 9")
    capsys.readouterr()
    why(world, query)
    assert steady(capsys.readouterr().out) == snapshot


def test_why_of_changed_toolchain_of_a_trace_tells_what_is_unknown(world: World, capsys: Capture) -> None:
    """Without a task, `why` ends with what cannot be known before a trace has run."""
    world.warm()
    world.replan(length=1024)
    capsys.readouterr()
    why(world)
    out = capsys.readouterr().out
    assert "param  max_length  512 → 1024" in out
    assert out.rstrip().endswith("after trace main: package")


def test_why_with_nothing_to_do(world: World, capsys: Capture) -> None:
    """When all is cached `why` says so in one line."""
    world.warm()
    capsys.readouterr()
    why(world)
    assert capsys.readouterr().out == "nothing to do: 5 tasks cached\n"


@pytest.mark.parametrize("query", ["compile", "trase main", "zzz"])
def test_why_never_guesses(query: str, world: World, snapshot: SnapshotAssertion) -> None:
    """What could mean several tasks lists them; what means none gives the nearest, or the way to the list."""
    world.warm()
    with pytest.raises(UsageError) as raised:
        why(world, query)
    assert render(raised.value) == snapshot


def test_why_of_a_task_not_known_yet_says_after_which(world: World) -> None:
    """On a cold store a compile is unknown, and the hint says after which task it will be known."""
    with pytest.raises(UsageError, match="no task is called `compile`") as raised:
        why(world, "compile")
    assert "known only after `trace main`" in str(raised.value.hint)


def test_why_document_has_sources(world: World, capsys: Capture) -> None:
    """In the document each reason also says where the input comes from."""
    world.warm()
    world.edit("weights", "7 8 9")
    capsys.readouterr()
    answer_why("load", world.survey(), world.store, "toy", json=True)
    (task,) = json.loads(capsys.readouterr().out)["tasks"]
    assert task["reasons"][0]["source"] == str(world.folder / "weights")


@pytest.mark.parametrize("notation", [Format.DOT, Format.MERMAID])
def test_graph_in_other_notations(notation: Format, world: World, steady: Steady, snapshot: SnapshotAssertion) -> None:
    """Text notations hold every task with its state, and dashes for what is not known yet."""
    cold = drawn(picture_of("toy", world.survey()), notation)
    world.warm()
    world.edit("weights", "7 8 9")
    assert steady(cold + drawn(picture_of("toy", world.survey()), notation)) == snapshot


def test_graph_document_has_nodes_and_edges(world: World) -> None:
    """The JSON graph has a node per task with its key and state, and edges between names that exist."""
    world.warm()
    document = json.loads(drawn(picture_of("toy", world.survey()), Format.JSON))
    names = {node["name"] for node in document["nodes"]}
    assert document["schema"] == "maxbuild.graph.v1"
    assert all(node["state"] == "cached" and len(node["key"]) == 64 for node in document["nodes"])
    assert {edge[end] for edge in document["edges"] for end in ("from", "to")} == names
    assert len(document["edges"]) == 5


def test_svg_draws_every_task_and_is_the_same_each_time(world: World) -> None:
    """The picture is well-formed, has a box and a title per task, and the same graph gives the same bytes."""
    world.replan(roles=("main", "draft"), targets=("cpu:x86-64-v3", "cpu:x86-64-v4"))
    world.warm()
    first, second = (drawn(picture_of("toy", world.survey()), Format.SVG) for _ in range(2))
    space = "{http://www.w3.org/2000/svg}"
    root = ET.fromstring(first)
    titles = {str(title.text).split("\n")[0] for title in root.iter(f"{space}title")}
    assert first == second
    assert {task.name for task in world.survey().tasks} <= titles
    assert len(root.findall(f"{space}path")) == len(world.survey().graph.edges)


def test_svg_of_a_cold_store_is_dashed_where_unknown(world: World) -> None:
    """What is not known yet is drawn dashed."""
    picture = drawn(picture_of("toy", world.survey()), Format.SVG)
    assert len(re.findall(r"<rect[^>]*rx=\"7\"[^>]*stroke-dasharray", picture)) == 2

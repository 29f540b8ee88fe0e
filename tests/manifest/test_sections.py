"""What sections and `devices` may say together: what the table cannot tell of one value alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maxbuild.errors import ManifestError
from maxbuild.manifest import Manifest, load_manifest


def load(folder: Path, targets: list[str] | None = None, **more: Any) -> Manifest:
    """Load a manifest of one model that says `more`; `main` and `draft` are further fields of models."""
    models = {"main": {"model_path": "a/b", **more.pop("main", {})}}
    if "draft" in more:
        models["draft"] = {"model_path": "a/c", **more.pop("draft")}
        more["speculative"] = {"speculative_method": "standalone", "num_speculative_tokens": 1}
    path = folder / "manifest.yaml"
    path.write_text(
        json.dumps({"version": 1, "name": "demo", "targets": targets or ["cuda:sm_90"], "models": models, **more})
    )
    return load_manifest(path)


def problem_of(folder: Path, **words: Any) -> tuple[str, str]:
    """Return the one thing that is wrong: its message, and the text that stands at its place."""
    with pytest.raises(ManifestError) as caught:
        load(folder, **words)
    (problem,) = caught.value.problems
    return problem.message, problem.source[problem.column - 1 :]


@pytest.mark.parametrize(
    ("targets", "devices"),
    [
        (["cpu:x86-64-v3", "cpu:x86-64-v2"], "cpu"),
        (["cuda:sm_90", "hip:gfx942"], "gpu"),
        (["cuda:sm_90"], "gpu:3"),
        (["cpu:x86-64-v3", "cuda:sm_90"], None),
    ],
)
def test_devices_of_the_targets_kind_are_kept(targets: list[str], devices: str | None, tmp_path: Path) -> None:
    """A kind that every target has is right, and its number is handed on."""
    assert load(tmp_path, targets=targets, main={"devices": devices}).models["main"].devices == devices


def test_default_devices_are_none_of_one_kind(tmp_path: Path) -> None:
    """`default`, as command lines say it, fits every list of targets and says nothing."""
    manifest = load(tmp_path, targets=["cpu:x86-64-v3", "cuda:sm_90"], main={"devices": "default"})
    assert manifest.models["main"].devices is None


@pytest.mark.parametrize(
    ("targets", "devices", "unfit"),
    [
        (["cuda:sm_90"], "cpu", "cuda:sm_90"),
        (["cpu:x86-64-v3"], "gpu", "cpu:x86-64-v3"),
        (["cuda:sm_90", "cpu:x86-64-v3"], "gpu:1", "cpu:x86-64-v3"),
    ],
)
def test_devices_of_another_kind_than_a_target_are_refused(
    targets: list[str], devices: str, unfit: str, tmp_path: Path
) -> None:
    """What is built is decided by the targets; the message is at the role's `devices` and names the target."""
    message, there = problem_of(tmp_path, targets=targets, main={"devices": devices})
    assert message == f"`devices: {devices}` does not fit the target `{unfit}`"
    assert there.startswith(f'"{devices}"')


def test_several_devices_are_refused(tmp_path: Path) -> None:
    """A package runs on one device, also where a draft would run on another."""
    message, _ = problem_of(tmp_path, main={"devices": "gpu:0,1"})
    assert message == "`devices: gpu:0,1` is refused: a package runs on one device"
    message, there = problem_of(tmp_path, main={"devices": "gpu:0"}, draft={"devices": "gpu:1"})
    assert message == "the components of a package run on the same device"
    assert there.startswith('"gpu:1"')
    assert load(tmp_path, main={"devices": "gpu:1"}, draft={"devices": "gpu:1"})
    assert load(tmp_path, main={"devices": "gpu:1"}, draft={})


@pytest.mark.parametrize("devices", ["tpu", "cpu:0", "gpu:", "gpu:a", "gpu:0,", "gpu:-1", "gpu 0", "default:1"])
def test_what_names_no_device_is_refused(devices: str, tmp_path: Path) -> None:
    """The message names what was said."""
    assert problem_of(tmp_path, main={"devices": devices})[0] == f"`{devices}` is no `devices`"


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        ("kv_cache", {"kv_connector_config": {"a": 1}}, "`kv_connector_config` needs a `kv_connector`"),
        (
            "kv_cache",
            {"kv_connector": "tiered", "enable_prefix_caching": False},
            "`kv_connector: tiered` keeps prefixes, and `enable_prefix_caching` is `false`",
        ),
        ("runtime", {"device_graph_capture": True}, "`device_graph_capture` needs a `max_batch_size`"),
        ("runtime", {"debug_verify_replay": True}, "`debug_verify_replay` needs `device_graph_capture: true`"),
        (
            "runtime",
            {"debug_verify_replay": True, "device_graph_capture": False},
            "`debug_verify_replay` needs `device_graph_capture: true`",
        ),
        (
            "runtime",
            {"max_num_steps": 0},
            "`max_num_steps` must be at least 1, or -1 where the server decides, not `0`",
        ),
    ],
)
def test_values_that_need_another_are_refused_without_it(
    section: str, fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """An option that would do nothing, or contradict another, is told at its place."""
    told, there = problem_of(tmp_path, **{section: fields})
    assert told == message
    name = message.split("`")[1].partition(":")[0]
    assert there.startswith(json.dumps(fields[name]))


def test_values_that_go_together_are_kept(tmp_path: Path) -> None:
    """The same values with what they need are right, and arrive typed."""
    manifest = load(
        tmp_path,
        kv_cache={"kv_connector": "tiered", "kv_connector_config": {"disk_offload_max_gb": 12.5}},
        runtime={
            "max_batch_size": 8,
            "device_graph_capture": True,
            "debug_verify_replay": True,
            "max_num_steps": 1,
            "ce_delay_ms": 2,
        },
    )
    assert manifest.kv_cache.kv_connector_config == {"disk_offload_max_gb": 12.5}
    assert manifest.runtime.debug_verify_replay
    assert isinstance(manifest.runtime.ce_delay_ms, float)
    assert manifest.compile.gpu_profiling == "off"
    with pytest.raises(TypeError):
        manifest.kv_cache.kv_connector_config["b"] = 1  # type: ignore[index]

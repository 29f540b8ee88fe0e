"""Overrides: typed by the field, applied in order, pointed at where they were said."""

from __future__ import annotations

from pathlib import Path

import pytest

from maxbuild.errors import ManifestError
from maxbuild.manifest import Encoding, HubRepository, Manifest, load_manifest

BASE = """\
version: 1
name: demo
targets: [cpu:x86-64-v2]
models:
  main: {model_path: organization/name, max_length: 512}
"""


def load(folder: Path, *listed: str, flags: tuple[str, ...] = ()) -> Manifest:
    """Load a small manifest with the overrides `listed` in it and `flags` on the command line."""
    path = folder / "manifest.yaml"
    items = "".join(f"  - {item}\n" for item in listed)
    path.write_text(BASE + ("overrides:\n" + items if listed else ""), encoding="utf-8")
    return load_manifest(path, overrides=flags)


def test_value_is_typed_by_its_field(tmp_path: Path) -> None:
    """A number, a truth value and an encoding become what their fields hold."""
    main = load(
        tmp_path, "main.max_length=1024", "main.use_subgraphs=false", "main.quantization_encoding=bfloat16"
    ).models["main"]
    assert (main.max_length, main.use_subgraphs) == (1024, False)
    assert main.quantization_encoding is Encoding.BFLOAT16


@pytest.mark.parametrize("revision", ["12345678", "0123", "null", "true", "1e5", "a=b.c"])
def test_text_stays_text(tmp_path: Path, revision: str) -> None:
    """For a field of text every value is text, digits and further `=` included."""
    manifest = load(tmp_path, f"main.huggingface_model_revision={revision}")
    assert manifest.models["main"].huggingface_model_revision == revision


def test_last_override_wins_and_is_known_to(tmp_path: Path) -> None:
    """Of two overrides of one field, the later has the last word and is named as the origin."""
    manifest = load(tmp_path, "main.max_length=1024", "main.max_length=2048")
    assert manifest.models["main"].max_length == 2048
    assert manifest.origins["main.max_length"] == "override#2"


def test_command_line_comes_after_the_manifest(tmp_path: Path) -> None:
    """A flag wins over the manifest's overrides; the manifest keeps both in the order of their use."""
    manifest = load(tmp_path, "main.max_length=1024", flags=("main.max_length=4096",))
    assert manifest.models["main"].max_length == 4096
    assert manifest.origins["main.max_length"] == "flag"
    assert manifest.overrides == ("main.max_length=1024", "main.max_length=4096")


def test_null_gives_back_the_default(tmp_path: Path) -> None:
    """For a field that is no text, `null` takes back what the manifest says."""
    manifest = load(tmp_path, "main.max_length=null")
    assert manifest.models["main"].max_length is None
    assert manifest.origins["main.max_length"] == "default"


def test_replaced_value_is_not_judged(tmp_path: Path) -> None:
    """A model that this host lacks can be replaced by one that it has."""
    path = tmp_path / "manifest.yaml"
    path.write_text(BASE.replace("organization/name", "/no/such/folder"), encoding="utf-8")
    manifest = load_manifest(path, overrides=["main.model_path=organization/other"])
    assert manifest.models["main"].source == HubRepository("organization/other")


def test_wrong_value_is_told_at_the_override(tmp_path: Path) -> None:
    """The place of a wrong value is the override that gave it, not the field that it replaced."""
    with pytest.raises(ManifestError) as caught:
        load(tmp_path, "main.use_subgraphs=false", "main.max_length=1")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (8, 5)
    assert problem.message == "`max_length` must be at least 2, not `1`"


def test_unknown_role_is_told_with_the_roles_that_exist(tmp_path: Path) -> None:
    """An override of a role that the manifest lacks names those that it has."""
    with pytest.raises(ManifestError) as caught:
        load(tmp_path, flags=("mian.max_length=1024",))
    (problem,) = caught.value.problems
    assert problem.place == "--override mian.max_length=1024"
    assert problem.message == "no role `mian` to override; roles of this manifest: `main`"
    assert problem.hint == "did you mean `main`?"


def test_override_of_one_role_leaves_the_other_that_shares_its_anchor(tmp_path: Path) -> None:
    """What an alias repeats is a value of its own."""
    path = tmp_path / "manifest.yaml"
    path.write_text(
        "version: 1\nname: demo\ntargets: [cpu:x86-64-v2]\n"
        "models: {main: &model {model_path: a/b, max_length: 512}, draft: *model}\n"
        "speculative: {speculative_method: standalone, num_speculative_tokens: 1}\n",
        encoding="utf-8",
    )
    models = load_manifest(path, overrides=["draft.max_length=64"]).models
    assert (models["main"].max_length, models["draft"].max_length) == (512, 64)

"""What a right manifest comes to: typed values, resolved places, and who said each of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from maxbuild.errors import ManifestError
from maxbuild.manifest import Encoding, HubRepository, LocalFolder, Manifest, load_manifest
from maxbuild.manifest.options import ROLE, defaults_at
from maxbuild.targets.spelling import parse_target

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "samples"


def write(folder: Path, *, main: str = "model_path: organization/name", more: str = "") -> Path:
    """Write a manifest whose role `main` has the fields `main`, and return its path."""
    path = folder / "manifest.yaml"
    path.write_text(
        f"version: 1\nname: demo\ntargets: [cpu:x86-64-v2]\nmodels:\n  main: {{{main}}}\n{more}", encoding="utf-8"
    )
    return path


def load(folder: Path, **words: str) -> Manifest:
    """Load what `write` writes."""
    return load_manifest(write(folder, **words))


def test_smallest_manifest_has_the_documented_defaults() -> None:
    """What is not said is the default, and known to be."""
    manifest = load_manifest(SAMPLES / "minimal.yaml")
    main = manifest.models["main"]
    assert (manifest.version, manifest.name, manifest.targets) == (1, "minimal", ("cpu:x86-64-v2",))
    assert (manifest.speculative, manifest.overrides, manifest.path) == (None, (), SAMPLES / "minimal.yaml")
    assert main.source == HubRepository("google/gemma-3-1b-it")
    said = main.model_dump(exclude={"model_path"})
    assert said == {name: defaults_at(ROLE)[name] for name in said}
    assert (main.max_length, main.use_subgraphs, main.trust_remote_code) == (None, True, False)


def test_every_effective_option_arrives_typed() -> None:
    """Each option that does something comes out as the value that the manifest gives it."""
    manifest = load_manifest(SAMPLES / "everything.yaml")
    main, draft = manifest.models["main"], manifest.models["draft"]
    assert manifest.targets == ("cpu:x86-64-v3", "cpu:x86-64-v2")
    assert main.source == LocalFolder((SAMPLES / "models" / "whole").resolve())
    assert (main.subfolder, main.trust_remote_code, main.use_subgraphs) == ("text", True, False)
    assert (main.quantization_encoding, main.max_length) == (Encoding.BFLOAT16, 4096)
    assert main.served_model_name == "everything at once"
    assert draft.source == HubRepository("organization/draft.model_v2")
    assert (draft.quantization_encoding, draft.max_length) == (Encoding.FLOAT32, 4096)
    assert manifest.speculative is not None
    assert manifest.speculative.num_speculative_tokens == 4
    assert manifest.kv_cache.device_memory_utilization == 0.5
    assert (manifest.compile.emit_ptx, manifest.runtime.max_batch_size, manifest.runtime.ce_delay_ms) == (True, 64, 2.5)


def test_chat_template_is_the_content_of_the_file_or_the_text_itself() -> None:
    """A file is read once, relative to the manifest; a template in place stays as it is."""
    manifest = load_manifest(SAMPLES / "everything.yaml")
    assert manifest.models["main"].chat_template == (SAMPLES / "chat.jinja").read_text(encoding="utf-8")
    assert manifest.models["draft"].chat_template == (
        "{% for message in messages %}\n{{ message.content }}\n{% endfor %}\n"
    )


def test_chat_template_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """A file that is no UTF-8 is no template."""
    (tmp_path / "chat.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="cannot read the chat template"):
        load(tmp_path, main="model_path: organization/name, chat_template: chat.jinja")


def test_demo_manifest_is_right(tmp_path: Path) -> None:
    """The first manifest that a reader tries loads, given the models that its examples make."""
    (tmp_path / "manifests").mkdir()
    for name in ("tiny-gemma3", "tiny-gemma3-draft"):
        (tmp_path / "examples" / "models" / name).mkdir(parents=True)
    demo = shutil.copy(ROOT / "manifests" / "demo.yaml", tmp_path / "manifests")
    manifest = load_manifest(Path(demo))
    assert manifest.targets == (parse_target("cpu").spelling,)
    assert manifest.models["draft"].source == LocalFolder(
        (tmp_path / "examples" / "models" / "tiny-gemma3-draft").resolve()
    )
    assert manifest.origins["main.quantization_encoding"] == "override#1"


def test_anchor_and_merge_key_say_a_model_once() -> None:
    """`<<` brings the keys of an anchored mapping; keys beside it win."""
    models = load_manifest(SAMPLES / "anchors.yaml").models
    assert models["main"].model_path == "organization/large"
    assert models["draft"].model_path == "organization/small"
    assert models["draft"].max_length == models["main"].max_length == 512
    assert models["draft"].quantization_encoding is Encoding.FLOAT32


@pytest.mark.parametrize("revision", ["12345678", "0123456", "1e5", "true", "2024-01-01", "'null'"])
def test_text_is_taken_as_written_whatever_yaml_would_make_of_it(tmp_path: Path, revision: str) -> None:
    """A revision of digits, a name like `no` and a date are the texts that they are."""
    fields = f"model_path: organization/name, huggingface_model_revision: {revision}"
    path = write(tmp_path, main=fields)
    path.write_text(path.read_text(encoding="utf-8").replace("name: demo", "name: no"), encoding="utf-8")
    manifest = load_manifest(path)
    assert manifest.name == "no"
    assert manifest.models["main"].huggingface_model_revision == revision.strip("'")


def test_key_with_nothing_after_it_means_the_default(tmp_path: Path) -> None:
    """An optional field left empty is as if it were not there, in its origin too."""
    manifest = load(tmp_path, main="model_path: organization/name, max_length: , use_subgraphs: ~", more="overrides:\n")
    assert manifest.models["main"].max_length is None
    assert manifest.models["main"].use_subgraphs is True
    assert manifest.origins["main.max_length"] == "default"


@pytest.mark.parametrize("text", ["./model", "model", "deep/model", "../{}/model", "deep/../model"])
def test_folder_is_found_relative_to_the_manifest(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any path that is a folder beside the manifest is local, also one that reads like a repository."""
    (tmp_path / "model").mkdir()
    (tmp_path / "deep" / "model").mkdir(parents=True)
    monkeypatch.chdir("/")
    path = text.format(tmp_path.name)
    source = load(tmp_path, main=f"model_path: {path}").models["main"].source
    assert source == LocalFolder((tmp_path / path).resolve())


def test_folder_of_the_user_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert load(tmp_path, main="model_path: ~/model").models["main"].source == LocalFolder(
        (tmp_path / "model").resolve()
    )


@pytest.mark.parametrize("text", ["a/b", "google/gemma-3-12b-it", "meta-llama/Llama-3.2_1B", "0/0"])
def test_repository_is_known_by_its_form(tmp_path: Path, text: str) -> None:
    """`organization/name` that is no folder here is a hub repository; nothing is asked of the network."""
    assert load(tmp_path, main=f"model_path: '{text}'").models["main"].source == HubRepository(text)


@pytest.mark.parametrize(
    "text", ["gpt2", "a/b/c", "/no/such", "./a/b", "a/b/", "-a/b", "a/b-", "a--b/c", "a b/c", "é/b"]
)
def test_neither_folder_nor_repository_is_refused_with_the_way_to_write_both(tmp_path: Path, text: str) -> None:
    """What is neither names the folder that was looked for, and how a repository is written."""
    with pytest.raises(ManifestError) as caught:
        load(tmp_path, main=f"model_path: '{text}'")
    (problem,) = caught.value.problems
    assert problem.message == f"no such folder: `{text}`"
    assert problem.hint == "a model on the hub is written `organization/name`"


@pytest.mark.parametrize("text", ["/etc", "..", "a/../../b", "~/x", "a\\\\b"])
def test_subfolder_stays_inside_the_model(tmp_path: Path, text: str) -> None:
    """A subfolder is relative and does not lead out."""
    with pytest.raises(ManifestError, match="is no folder inside the model"):
        load(tmp_path, main=f'model_path: organization/name, subfolder: "{text}"')


def test_targets_are_in_one_spelling_and_once_each(tmp_path: Path) -> None:
    """Of targets that are the same, one is left, in the order of the list."""
    path = write(tmp_path)
    manifest = load_manifest(path, targets=["cpu:x86-64-v3", "cpu:x86-64-v2", "cpu:x86-64-v3"])
    assert manifest.targets == ("cpu:x86-64-v3", "cpu:x86-64-v2")


def test_targets_of_the_command_line_stand_in_for_the_list(tmp_path: Path) -> None:
    """With `--target`, the manifest's own list may even be absent; the origin says so."""
    path = tmp_path / "manifest.yaml"
    path.write_text("version: 1\nname: demo\nmodels: {main: {model_path: a/b}}\n", encoding="utf-8")
    manifest = load_manifest(path, targets=["cpu:x86-64-v4"])
    assert manifest.targets == ("cpu:x86-64-v4",)
    assert manifest.origins["targets"] == "flag"


def test_origins_name_who_had_the_last_word_on_each_value() -> None:
    """Every value of every role, and of every section, has an origin."""
    manifest = load_manifest(SAMPLES / "everything.yaml", overrides=["main.max_length=8192"])
    origins = manifest.origins
    assert origins["name"] == origins["targets"] == origins["main.model_path"] == "manifest"
    assert origins["draft.max_length"] == "override#3"
    assert origins["draft.quantization_encoding"] == "override#2"
    assert origins["draft.served_model_name"] == "default"
    assert origins["main.max_length"] == "flag"
    assert origins["speculative.num_speculative_tokens"] == "manifest"
    assert (origins["runtime.max_batch_size"], origins["runtime.max_num_steps"]) == ("manifest", "default")
    expected = {f"{role}.{field}" for role in manifest.models for field in type(manifest.models[role]).model_fields}
    assert expected < set(origins)


def test_manifest_is_frozen(tmp_path: Path) -> None:
    """Nothing can change a manifest once it is read."""
    manifest = load(tmp_path)
    with pytest.raises(ValidationError):
        manifest.name = "other"
    with pytest.raises(TypeError):
        manifest.models["draft"] = manifest.models["main"]  # type: ignore[index]


def test_manifest_can_be_written_as_json() -> None:
    """What `plan` prints of a manifest is plain data."""
    data = json.loads(load_manifest(SAMPLES / "everything.yaml").model_dump_json())
    assert data["models"]["draft"]["max_length"] == 4096
    assert data["origins"]["draft.max_length"] == "override#3"


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    """One reading tells everything: names, types, places and pairs."""
    with pytest.raises(ManifestError) as caught:
        load(tmp_path, main="model_path: ./no, max_length: 1, x: 1", more="speculative: {}\noverrides: [y]\n")
    places = [(problem.line, problem.column) for problem in caught.value.problems]
    assert places == sorted(places)
    assert len(places) == 7


def test_mistake_in_an_aliased_mapping_is_told_once(tmp_path: Path) -> None:
    """A mistake that two roles share stands at one place, and is one problem."""
    path = tmp_path / "manifest.yaml"
    path.write_text(
        "version: 1\nname: demo\ntargets: [cpu:x86-64-v2]\n"
        "models: {main: &model {model_path: a/b, max_length: x, y: 1}, draft: *model}\n"
        "speculative: {speculative_method: standalone, num_speculative_tokens: 1}\n",
        encoding="utf-8",
    )
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    assert [problem.column for problem in caught.value.problems] == [53, 56]


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    """A manifest saved by an editor of another system is the same manifest."""
    path = write(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_manifest(path).name == "demo"

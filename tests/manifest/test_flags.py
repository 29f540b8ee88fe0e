"""Flags: every option in the ancestor's spelling, over a manifest or in place of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from manifest_files import HEAD, problems_of, write

from maxbuild.errors import UsageError
from maxbuild.manifest import Encoding, LocalFolder, Manifest, load_manifest
from maxbuild.manifest.flags import Flag, all_flags, takes_value

MODEL = Flag("--model", "google/gemma-3-12b-it")
TARGET = ["cuda:sm_90"]


def load(
    *flags: Flag, path: Path | None = None, overrides: list[str] | None = None, target: list[str] = TARGET
) -> Manifest:
    """Load what these flags say."""
    return load_manifest(path, flags=flags, overrides=overrides or [], targets=target)


def test_command_line_of_the_ancestor_is_a_manifest() -> None:
    """Model, draft, target and an override are all that is needed; the rest is told as default."""
    draft = (Flag("--draft-model-path", "google/gemma-3-1b-it"), Flag("--no-draft-use-subgraphs"))
    manifest = load(MODEL, *draft, overrides=["main.max_length=4096"])
    assert (manifest.name, manifest.targets) == ("gemma-3-12b-it", ("cuda:sm_90",))
    assert manifest.models["main"].max_length == 4096
    assert manifest.models["draft"].model_path == "google/gemma-3-1b-it"
    assert (manifest.models["main"].use_subgraphs, manifest.models["draft"].use_subgraphs) == (True, False)
    assert manifest.speculative is not None
    assert (manifest.speculative.speculative_method, manifest.speculative.num_speculative_tokens) == ("standalone", 4)
    assert manifest.path == Path("gemma-3-12b-it.yaml")
    origins = manifest.origins
    assert origins["main.model_path"] == origins["targets"] == origins["main.max_length"] == "flag"
    assert origins["name"] == origins["speculative.num_speculative_tokens"] == "default"


def test_flag_is_typed_by_its_field() -> None:
    """A text stays one, whatever it looks like; numbers, choices and truth values are what they are."""
    manifest = load(
        MODEL,
        Flag("--huggingface-model-revision", "0123"),
        Flag("--max-length", "512"),
        Flag("--quantization-encoding", "bfloat16"),
        Flag("--no-use-subgraphs"),
        Flag("--trust-remote-code"),
        Flag("--max-batch-size", "8"),
        Flag("--device-memory-utilization", "0.5"),
        Flag("--enable-in-flight-batching"),
        Flag("--no-enable-chunked-prefill"),
        Flag("--name", "mine"),
    )
    main, runtime = manifest.models["main"], manifest.runtime
    assert (main.huggingface_model_revision, main.max_length) == ("0123", 512)
    assert (main.quantization_encoding, main.use_subgraphs, main.trust_remote_code) == (Encoding.BFLOAT16, False, True)
    assert (runtime.max_batch_size, runtime.enable_in_flight_batching, runtime.enable_chunked_prefill) == (
        8,
        True,
        False,
    )
    assert (manifest.kv_cache.device_memory_utilization, manifest.name) == (0.5, "mine")


def refusal(flag: Flag) -> str:
    """Return why `flag` is refused beside two models; nothing where it is not."""
    try:
        load(MODEL, Flag("--draft-model-path", "a/b"), flag)
    except UsageError as error:
        return str(error)
    return ""


def said_beside_models(flag: Flag) -> int:
    """Return how many values `flag` says beside two models and a target."""
    origins = load(MODEL, Flag("--draft-model-path", "a/b"), flag).origins
    return list(origins.values()).count("flag") - 3


def test_every_flag_says_its_option_or_is_refused_with_the_reason() -> None:
    """No flag of the ancestor is unknown, and none is taken without a word: it says a value, or is told why not."""
    assert len(all_flags()) > 130
    for spelling in all_flags():
        if spelling in {"--model", "--model-path", "--models", "--target", "--model-override"}:
            continue
        flag = Flag(spelling, "nonsense {" if takes_value(spelling) else None)
        assert spelling in refusal(flag) or said_beside_models(flag) == 1, spelling


def test_mapping_is_given_inline_or_in_a_file(tmp_path: Path) -> None:
    """JSON in place, or the name of a YAML or JSON file, for all models and for one field."""
    (tmp_path / "deep" / "model").mkdir(parents=True)
    models = {"main": {"model_path": "./model", "max_length": 5}, "draft": {"model_path": "a/b"}}
    path = write(tmp_path, {"deep/models.json": json.dumps(models, indent=1)})
    manifest = load(Flag("--models", str(path)), Flag("--speculative-method", "standalone"))
    assert manifest.models["main"].source == LocalFolder(tmp_path / "deep" / "model")
    assert manifest.origins["main.max_length"] == f"flag {path}:4"
    assert (manifest.name, manifest.models["draft"].model_path) == ("model", "a/b")
    inline = load(Flag("--models", json.dumps({"main": {"model_path": "a/b"}})), Flag("--max-length", "7"))
    assert (inline.models["main"].max_length, inline.origins["main.model_path"]) == (7, "flag")
    assert "draft" not in inline.models


def test_models_stand_in_for_the_whole_map(tmp_path: Path) -> None:
    """`--models` is all models, as `--target` is all targets."""
    text = f"{HEAD}models: {{main: {{model_path: a/b, max_length: 4}}}}\n"
    manifest = load(Flag("--models", '{"main": {"model_path": "c/d"}}'), path=write(tmp_path, {"top.yaml": text}))
    assert (manifest.models["main"].model_path, manifest.models["main"].max_length) == ("c/d", None)


def test_flags_go_over_a_manifest(tmp_path: Path) -> None:
    """What flags do not say stays; the origin tells who had the last word."""
    path = write(tmp_path, {"top.yaml": f"{HEAD}models: {{main: {{model_path: a/b, max_length: 4}}}}\n"})
    manifest = load(Flag("--max-length", "8"), Flag("--draft-model-path", "c/d"), path=path)
    assert (manifest.name, manifest.models["main"].model_path, manifest.models["main"].max_length) == ("demo", "a/b", 8)
    assert manifest.models["draft"].model_path == "c/d"
    assert manifest.path == path


def test_path_of_a_flag_leads_from_where_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell completes paths from its own folder; what the manifest says stays beside it."""
    for name in ("here/model", "there/model"):
        (tmp_path / name).mkdir(parents=True)
    path = write(tmp_path, {"there/top.yaml": f"{HEAD}models: {{main: {{model_path: ./model}}}}\n"})
    monkeypatch.chdir(tmp_path / "here")
    assert load(path=path).models["main"].source == LocalFolder(tmp_path / "there" / "model")
    by_flag = load(Flag("--model", "./model"), path=path)
    by_override = load(path=path, overrides=["main.model_path=./model"])
    for manifest in (by_flag, by_override, load(Flag("--model", "./model"))):
        assert manifest.models["main"].source == LocalFolder(tmp_path / "here" / "model")


@pytest.mark.parametrize(
    ("flags", "overrides", "place"),
    [
        ([MODEL, Flag("--model-path", "a/b")], [], "--model-path a/b"),
        ([MODEL, Flag("--models", '{"main": {"model_path": "a/b"}}')], [], "--model google/gemma-3-12b-it"),
        ([MODEL, Flag("--max-length", "5"), Flag("--max-length", "6")], [], "--max-length 6"),
        ([MODEL, Flag("--use-subgraphs"), Flag("--no-use-subgraphs")], [], "--no-use-subgraphs"),
        ([MODEL, Flag("--max-length", "5")], ["main.max_length=6"], "--override main.max_length=6"),
        (
            [Flag("--models", '{"main": {"model_path": "a/b"}}')],
            ["main.model_path=c/d"],
            "--override main.model_path=c/d",
        ),
        (
            [MODEL, Flag("--vision-config-overrides", '{"a": 1}')],
            ["main.vision_config_overrides.a=2"],
            "--override main.vision_config_overrides.a=2",
        ),
    ],
)
def test_two_words_on_one_value_are_an_error(flags: list[Flag], overrides: list[str], place: str) -> None:
    """Nothing that is typed is dropped: what contradicts is told at the later word, which names the earlier."""
    (problem,) = problems_of(lambda: load(*flags, overrides=overrides))
    assert (problem.file, problem.hint) == (place, "leave one of the two out")
    assert "says something else of" in problem.message


def test_saying_the_same_twice_is_no_contradiction() -> None:
    """Scripts that add a flag that is there already go on working."""
    manifest = load(MODEL, MODEL, Flag("--max-length", "5"), overrides=["main.max_length=5"])
    assert manifest.models["main"].max_length == 5


def test_without_a_target_the_host_is_meant() -> None:
    """The ancestor's shortest line has none: then it is this host's GPU or CPU."""
    manifest = load(MODEL, target=[])
    assert manifest.targets[0].split(":")[0] in {"cpu", "cuda", "hip"}
    assert manifest.origins["targets"] == "default"


@pytest.mark.parametrize(
    ("text", "name"),
    [("organization/name.v1-It", "name.v1-It"), ("./deep/tiny model/", "tiny-model"), ("{folder}/.hidden", "hidden")],
)
def test_name_is_the_model_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str) -> None:
    """Without `--name`, what is built is called after the last part of the model's path, as far as a name can be."""
    for folder in ("deep/tiny model", ".hidden"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert load(Flag("--model", text.format(folder=tmp_path))).name == name


def test_flags_without_a_model_name_none() -> None:
    """Without a manifest the model is the least that has to be said."""
    with pytest.raises(UsageError, match="neither a manifest nor a model is named"):
        load(Flag("--max-length", "5"))


def test_problem_of_a_flag_is_told_by_its_words() -> None:
    """There is no file to point into, so the place is the flag as it was typed."""
    (problem,) = problems_of(lambda: load(MODEL, Flag("--draft-max-length", "many"), Flag("--draft-model-path", "a/b")))
    assert problem.place == "--draft-max-length many"
    models = '{"main": {"model_path": "a/b"}, "main": {}}'
    (problem,) = problems_of(lambda: load(Flag("--models", models)))
    assert (problem.place, problem.message) == (f"--models {models}", "key `main` is given twice")

"""The files of a model are chosen by name: one format of weights, whole and once, no pickles, trusted code only."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "hub"))  # so that the listings there are found from here

from listings import GEMMA_1B, GEMMA_12B, GGUF_8B, LLAMA_8B, MINILM, MISTRAL_7B, SDXL

from maxbuild.errors import UnsupportedModel, WeightsError
from maxbuild.weights.selection import (
    AN_ADAPTER,
    ANOTHER_FOLDER,
    ANOTHER_LAYOUT,
    ANOTHER_VARIANT,
    CODE,
    THE_REST,
    ComponentFiles,
    check_whole,
    select_files,
    shards_of,
)

WHOLE = ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json")


def choose(names: Iterable[str], *, encoding: str | None = None, trust_remote_code: bool = False) -> ComponentFiles:
    """Choose among `names` for a model called `m`."""
    return select_files(names, "m", trust_remote_code=trust_remote_code, encoding=encoding)


def folder(listing: Mapping[str, int], name: str) -> list[str]:
    """Return the names under one folder of a listing."""
    return [path.removeprefix(f"{name}/") for path in listing if path.startswith(f"{name}/")]


def aside(files: ComponentFiles) -> dict[str, str]:
    """Return the files that are left for a reason that people want to hear."""
    return {name: reason for name, reason in (files.aside or {}).items() if reason != THE_REST}


def test_gemma_is_taken_but_for_what_the_tokenizer_holds_already() -> None:
    """Of google/gemma-3-12b-it: five shards with their index, what a server reads, no second vocabulary."""
    files = choose(GEMMA_12B)
    assert files.weights == tuple(f"model-0000{number}-of-00005.safetensors" for number in range(1, 6))
    assert files.index == ("model.safetensors.index.json",)
    assert files.serving == (
        "added_tokens.json", "chat_template.json", "generation_config.json", "preprocessor_config.json",
        "processor_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    )  # fmt: skip
    assert set(files.aside or {}) == {".gitattributes", "README.md", "tokenizer.model"}
    assert choose(GEMMA_1B).weights == ("model.safetensors",)
    assert choose(GEMMA_1B).index == ()


def test_llama_is_taken_without_metas_own_layout() -> None:
    """Of Llama-3.1-8B: the shards, not the 16 GB of pickle under `original/`."""
    files = choose(LLAMA_8B)
    assert len(files.weights) == 4
    assert aside(files) == {"original/consolidated.00.pth": "another format: PyTorch pickles"}


def test_mistral_is_taken_once() -> None:
    """Of Mistral-7B: the shards for transformers, not the same weights consolidated."""
    files = choose(MISTRAL_7B)
    assert [name for name in files.weights if name.startswith("consolidated")] == []
    assert len(files.weights) == 3
    assert aside(files) == {"consolidated.safetensors": ANOTHER_LAYOUT}


def test_of_a_repository_of_all_formats_one_is_taken() -> None:
    """Of all-MiniLM-L6-v2: 91 MB of safetensors, none of its ONNX, OpenVINO, PyTorch, Rust and TensorFlow files."""
    files = choose(MINILM)
    assert files.weights == ("model.safetensors",)
    formats = {"ONNX": 8, "OpenVINO": 4, "PyTorch pickles": 1, "Rust": 1, "TensorFlow": 1}
    reasons = list(aside(files).values())
    assert {form: reasons.count(f"another format: {form}") for form in formats} == formats
    assert aside(files)["train_script.py"] == CODE
    assert "vocab.txt" not in files.serving
    assert "1_Pooling/config.json" in files.names


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("text_encoder", "model.safetensors"),
        ("unet", "diffusion_pytorch_model.safetensors"),
        ("vae", "diffusion_pytorch_model.safetensors"),
    ],
)
@pytest.mark.parametrize("encoding", [None, "float32", "bfloat16"])
def test_of_a_diffusers_folder_the_plain_variant_is_taken(name: str, plain: str, encoding: str | None) -> None:
    """Of SDXL's folders: full precision, not fp16, which no encoding that can be built is made of."""
    files = choose(folder(SDXL, name), encoding=encoding)
    assert files.weights == (plain,)
    assert aside(files)[plain.replace(".safetensors", ".fp16.safetensors")] == ANOTHER_VARIANT


def test_a_diffusers_pipeline_names_its_folders() -> None:
    """Without `subfolder`, a pipeline is refused with the folders that hold models."""
    with pytest.raises(UnsupportedModel, match="a pipeline of several models") as caught:
        choose(SDXL)
    assert "`text_encoder`, `text_encoder_2`, `unet`, `vae`" in str(caught.value.hint)


def test_a_gguf_repository_says_what_it_is() -> None:
    """GGUF alone is no model that can be built, and the message says so, not only that a config is lacking."""
    with pytest.raises(UnsupportedModel, match=r"no config\.json") as caught:
        choose(GGUF_8B)
    assert caught.value.causes == ("its weights are GGUF, which maxbuild does not read",)
    with pytest.raises(WeightsError, match="no weight files") as lacking:
        choose(("config.json", *GGUF_8B))
    assert lacking.value.causes == ("it holds weights in formats that maxbuild does not read: GGUF",)


def test_the_variant_of_the_encoding_is_taken() -> None:
    """Weights that are there in the encoding wanted need no cast, so they are taken."""
    names = ("config.json", "model.safetensors", "model.bf16.safetensors", "model.fp16.safetensors")
    assert choose(names, encoding="bfloat16").weights == ("model.bf16.safetensors",)
    assert choose(names, encoding="float32").weights == ("model.safetensors",)
    assert choose(names).weights == ("model.safetensors",)
    sharded = ("model.bf16-00001-of-00002.safetensors", "model-00002-of-00002.bf16.safetensors")
    index = "model.safetensors.index.bf16.json"
    files = choose(("config.json", *sharded, index, "model.safetensors"), encoding="bfloat16")
    assert set(files.weights) == set(sharded)
    assert files.index == (index,)


def test_the_only_variant_is_taken_and_several_are_refused() -> None:
    """What is there in one form is taken in that; which of several is meant is asked."""
    assert choose(("config.json", "model.fp16.safetensors")).weights == ("model.fp16.safetensors",)
    with pytest.raises(WeightsError, match="`fp16`, `fp8`"):
        choose(("config.json", "model.fp16.safetensors", "model.fp8.safetensors"))


def test_one_file_is_taken_before_its_shards() -> None:
    """Both hold the same weights, and transformers takes the one file too."""
    files = choose((*WHOLE, "model.safetensors", "model.safetensors.index.json"))
    assert files.weights == ("model.safetensors",)
    assert files.index == ()


@pytest.mark.parametrize(
    ("names", "lacking"),
    [
        (("model-00002-of-00003.safetensors",), "shard 1 of 3 of `model` is not there and 1 more"),
        (("model-1-of-61.safetensors",), "shard 2 of 61 of `model` is not there and 59 more"),
        (("model-00001-of-000002.safetensors",), "shard 2 of 2 of `model` is not there"),
    ],
)
def test_a_set_with_holes_is_refused(names: tuple[str, ...], lacking: str) -> None:
    """Shards count themselves in their names, so that one is missing is known before anything is fetched."""
    with pytest.raises(WeightsError) as caught:
        choose(("config.json", *names))
    assert lacking in caught.value.message
    with pytest.raises(WeightsError, match="not whole"):
        check_whole(names, "weight_path")


def test_shards_with_names_of_their_own_are_taken_by_their_index() -> None:
    """An index may list files of any name; all that is no other layout belongs to it."""
    names = ("config.json", "model.safetensors.index.json", "layers-0.safetensors", "layers-1.safetensors")
    files = choose((*names, "consolidated.safetensors", "adapter_model.safetensors"))
    assert files.weights == ("layers-0.safetensors", "layers-1.safetensors")
    assert files.index == ("model.safetensors.index.json",)
    assert aside(files) == {"consolidated.safetensors": ANOTHER_LAYOUT, "adapter_model.safetensors": AN_ADAPTER}


def test_weights_of_other_folders_are_left() -> None:
    """What lies in a folder of the model is another model's, or a checkpoint of the training."""
    files = choose((*WHOLE, "checkpoint-100/model.safetensors"))
    assert aside(files) == {"checkpoint-100/model.safetensors": ANOTHER_FOLDER}


def test_an_index_stands_for_its_shards() -> None:
    """By names alone, an index means the shards of its stem and its variant."""
    names = (*WHOLE, "model.fp16-00001-of-00001.safetensors", "model.safetensors")
    assert shards_of("model.safetensors.index.json", names) == WHOLE[1:3]
    assert shards_of("model.safetensors.index.fp16.json", names) == ("model.fp16-00001-of-00001.safetensors",)


def test_takes_code_where_it_is_trusted() -> None:
    """Python files are among a component's files only with `trust_remote_code`."""
    names = (*WHOLE, "modeling_x.py", "scripts/train.py")
    assert choose(names).code == ()
    assert aside(choose(names)) == {"modeling_x.py": CODE}
    assert choose(names, trust_remote_code=True).code == ("modeling_x.py",)


def test_a_vocabulary_is_taken_where_no_tokenizer_holds_it() -> None:
    """Without `tokenizer.json`, a server makes its tokenizer of other files."""
    names = ("config.json", "model.safetensors", "vocab.json", "merges.txt", "tokenizer.model")
    assert choose(names).serving == ("merges.txt", "tokenizer.model", "vocab.json")
    assert choose((*names, "tokenizer.json")).serving == ("tokenizer.json",)


def test_refuses_pickles_and_says_how_to_convert() -> None:
    """A model with pickle weights alone is refused by the name of the file."""
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin") as caught:
        choose(("config.json", "pytorch_model.bin"))
    assert "safetensors" in str(caught.value.hint)


def test_refuses_a_folder_without_config_or_weights() -> None:
    """What is missing is named, and the folder where it is."""
    with pytest.raises(UnsupportedModel, match=r"config\.json") as caught:
        choose(("model.safetensors", "text/config.json"))
    assert "`text`" in str(caught.value.hint)
    with pytest.raises(WeightsError, match="no weight files"):
        choose(("config.json",))

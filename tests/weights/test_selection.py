"""The files of a model are chosen by name: one format of weights, no pickles, code only where it is trusted."""

from __future__ import annotations

import pytest

from maxbuild.errors import UnsupportedModel, WeightsError
from maxbuild.weights.selection import select_files

WHOLE = ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json")


def test_takes_config_weights_and_what_a_server_reads() -> None:
    """Other files, other formats and other copies of the weights are left."""
    others = ("README.md", "pytorch_model.bin", "consolidated.safetensors", "modeling_x.py", "onnx/model.onnx")
    files = select_files((*WHOLE, *others), "m", trust_remote_code=False)
    assert files.names == WHOLE
    assert files.weights == WHOLE[1:3]


def test_takes_code_where_it_is_trusted() -> None:
    """Python files are among a component's files only with `trust_remote_code`."""
    assert select_files((*WHOLE, "modeling_x.py"), "m", trust_remote_code=True).code == ("modeling_x.py",)


def test_refuses_pickles_and_says_how_to_convert() -> None:
    """A model with pickle weights alone is refused by the name of the file."""
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin") as caught:
        select_files(("config.json", "pytorch_model.bin"), "m", trust_remote_code=False)
    assert "safetensors" in str(caught.value.hint)


def test_refuses_a_folder_without_config_or_weights() -> None:
    """What is missing is named."""
    with pytest.raises(UnsupportedModel, match=r"config\.json"):
        select_files(("model.safetensors",), "m", trust_remote_code=False)
    with pytest.raises(WeightsError, match="no weight files"):
        select_files(("config.json",), "m", trust_remote_code=False)

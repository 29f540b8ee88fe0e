"""What becomes of a module that brings no architectures, or the wrong ones: one clear error, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from architectures.sources import ARCHITECTURE, EXAMPLE, package, write

from maxbuild.architectures.importing import import_architectures
from maxbuild.architectures.registry import choose_architecture, operator_of, use_architectures
from maxbuild.errors import UnsupportedModel

HEAD = """
from __future__ import annotations
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from maxbuild.architectures import Architecture, Operator

def same(x: Tensor) -> Tensor:
    return x.clone()
"""


def imported(folder: Path, **modules: str) -> list[str]:
    """Import modules of these names and texts, and return the names of what they bring."""
    for name, text in modules.items():
        write(folder / name, **{name: text})
    return [architecture.name for architecture in import_architectures(folder)]


def test_architectures_come_from_every_module(tmp_path: Path) -> None:
    """In the order of the modules' names."""
    modules = {name: ARCHITECTURE.format(name=name) for name in ("made_b", "made_a")}
    assert imported(tmp_path, **modules) == ["made_aForCausalLM", "made_bForCausalLM"]


@pytest.mark.parametrize(
    ("text", "message", "cause"),
    [
        ("x = 1", "has no list `ARCHITECTURES`", ""),
        ("ARCHITECTURES = []", "is no list of architectures: []", ""),
        ("ARCHITECTURES = 'tern'", "is no list of architectures: 'tern'", ""),
        ("ARCHITECTURES = [int]", "`ARCHITECTURES[0]` of the custom architecture module `made` is no `maxbuild", ""),
        ("\nimport not_there_at_all", "cannot be imported", "made.py:2: ModuleNotFoundError: No module named"),
        ("def f():\n    raise KeyError('x')\nf()", "cannot be imported", "made.py:2: KeyError: 'x'"),
        ("raise SystemExit(3)", "cannot be imported", "made.py:1: SystemExit: 3"),
        ("x = (", "cannot be imported", "made.py:1: SyntaxError: '(' was never closed"),
        (
            HEAD + "Operator('same', same)",
            "cannot be imported",
            "ValueError: an operator's name is `namespace::operator`",
        ),
        (
            HEAD + "Operator('aten::same', same)",
            "cannot be imported",
            "ValueError: operator `aten::same`: the namespace",
        ),
        (HEAD + "Operator('made::same', lambda x: x)", "cannot be imported", "is no function at the top of a module"),
        (
            HEAD + "def bare(x):\n    return x\nOperator('made::same', bare)",
            "cannot be imported",
            "TypeError: operator `made::same`: infer_schema(func): Parameter x must have a type annotation",
        ),
        (
            HEAD + "ARCHITECTURES = [Architecture('a-b', 3, LlamaForCausalLM, blocks=7, operators=[same])]",
            "is wrong",
            "`name` must be the name of a class, as config.json has it, and is 'a-b'",
        ),
        (HEAD + "ARCHITECTURES = [Architecture('A', 3, LlamaForCausalLM)]", "is wrong", "`config` must be a subclass"),
        (HEAD + "ARCHITECTURES = [Architecture('A', LlamaConfig, int)]", "is wrong", "`model` must be a subclass"),
        (
            HEAD + "class B(LlamaConfig): pass\nARCHITECTURES = [Architecture('A', B, LlamaForCausalLM)]",
            "is wrong",
            "`LlamaForCausalLM.config_class` is",
        ),
        (
            HEAD + "ARCHITECTURES = [Architecture('A', LlamaConfig, LlamaForCausalLM, operators=same)]",
            "is wrong",
            "`operators` must be a tuple of Operator",
        ),
    ],
)
def test_a_wrong_module_is_told(tmp_path: Path, text: str, message: str, cause: str) -> None:
    """By the module's name, and by file and line as the module knows them where code ran; no path of this host."""
    with pytest.raises(UnsupportedModel) as caught:
        imported(tmp_path, made=text)
    assert message in caught.value.message
    assert "`made`" in caught.value.message
    assert cause in " ".join(caught.value.causes)
    assert str(tmp_path) not in str(caught.value)


def test_every_mistake_of_a_declaration_is_told_at_once(tmp_path: Path) -> None:
    """Name, config, model, blocks and operators."""
    with pytest.raises(UnsupportedModel) as caught:
        imported(tmp_path, made=HEAD + "ARCHITECTURES = [Architecture(1, 2, 3, blocks=4, operators=5)]")
    assert [cause.split()[0] for cause in caught.value.causes] == [
        "`name`", "`config`", "`model`", "`blocks`", "`operators`",
    ]  # fmt: skip


def test_a_file_that_was_not_seen_is_missed_loudly(tmp_path: Path) -> None:
    """Only what an import statement names is there; what is put together at run time is told with a hint."""
    text = "import importlib\nimportlib.import_module('made.' + 'kernels')\n"
    package(tmp_path / "made", init=text)
    with pytest.raises(UnsupportedModel) as caught:
        import_architectures(tmp_path)
    assert caught.value.causes == ("made/__init__.py:2: ModuleNotFoundError: No module named 'made.kernels'",)
    assert "only modules that an import statement names" in (caught.value.hint or "")


def test_two_architectures_of_one_name_are_refused(tmp_path: Path) -> None:
    """config.json could not say which is meant; the error says whose they are."""
    with pytest.raises(UnsupportedModel, match="two custom architectures have the name `madeForCausalLM`") as caught:
        imported(tmp_path, made_a=ARCHITECTURE.format(name="made"), made_b=ARCHITECTURE.format(name="made"))
    assert caught.value.causes == ("one is of `made_a`, the other of `made_b`",)


def test_two_operators_of_one_name_are_refused(tmp_path: Path) -> None:
    """A region graph could not say which is meant."""
    text = (
        HEAD + "operator = Operator('made::same', same)\n"
        "ARCHITECTURES = [Architecture('{0}', LlamaConfig, LlamaForCausalLM, operators=(operator,))]"
    )
    with pytest.raises(UnsupportedModel, match="two operators of custom architectures have the name `made::same`"):
        imported(tmp_path, made_a=text.format("A"), made_b=text.format("B"))


def test_another_version_takes_the_place_of_the_first(tmp_path: Path) -> None:
    """In one process too: what was imported under the name before is dropped."""
    assert imported(tmp_path / "a", made=ARCHITECTURE.format(name="first")) == ["firstForCausalLM"]
    assert imported(tmp_path / "b", made=ARCHITECTURE.format(name="second")) == ["secondForCausalLM"]


def test_importing_writes_nothing_beside_the_source(tmp_path: Path) -> None:
    """A package's folder is looked at, not written into."""
    imported(tmp_path, made=ARCHITECTURE.format(name="made"))
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "made.py"]


@pytest.mark.parametrize(
    ("config", "chosen"),
    [
        ({"architectures": ["firstForCausalLM"], "model_type": "first"}, "firstForCausalLM"),
        ({"model_type": "second"}, "secondForCausalLM"),
        ({"architectures": [], "model_type": "second"}, "secondForCausalLM"),
        ({"architectures": ["LlamaForCausalLM"], "model_type": "first"}, None),
        ({"model_type": "llama"}, None),
        ({}, None),
    ],
)
def test_config_json_names_the_architecture(tmp_path: Path, config: dict[str, object], chosen: str | None) -> None:
    """By its first architecture, without one by its model type; others stay transformers' own."""
    for name in ("first", "second"):
        write(tmp_path / name, **{name: ARCHITECTURE.format(name=name)})
    use_architectures(import_architectures(tmp_path))
    found = choose_architecture(config)
    assert (found and found.name) == chosen


def test_what_config_json_leaves_open_is_told(tmp_path: Path) -> None:
    """Two of one model type and no name; a name with another model type."""
    twice = (
        ARCHITECTURE.format(name="made") + "ARCHITECTURES.append(Architecture('Other', madeConfig, madeForCausalLM))\n"
    )
    write(tmp_path / "made", made=twice)
    use_architectures(import_architectures(tmp_path))
    with pytest.raises(UnsupportedModel, match="may mean any of `madeForCausalLM`, `Other`"):
        choose_architecture({"model_type": "made"})
    with pytest.raises(UnsupportedModel, match="says that `Other` is of model type `llama`") as caught:
        choose_architecture({"model_type": "llama", "architectures": ["Other"]})
    assert caught.value.causes == ("its config class `madeConfig` is of `made`",)


CUSTOM_WINS = """
import sys
from pathlib import Path
from transformers import AutoModelForCausalLM
from maxbuild.architectures.importing import import_architectures
from maxbuild.architectures.registry import use_architectures
from maxbuild.models.architecture import read_config, build_model
import torch
folder = Path(sys.argv[1])
use_architectures(import_architectures(folder / "modules"))
config = read_config(folder, trust_remote_code=False)
model = build_model(config, torch.float32, 64, trust_remote_code=False)
print(type(config).__module__, type(model).__module__)
"""


@pytest.mark.parametrize(("name", "module"), [("LlamaForCausalLM", "made"), ("Other", "transformers.models.llama")])
def test_a_custom_architecture_wins_over_transformers_own(tmp_path: Path, name: str, module: str) -> None:
    """Of the same name and model type; and over code that the model brings, which is then not asked for."""
    text = (
        "from transformers import LlamaConfig, LlamaForCausalLM\nfrom maxbuild.architectures import Architecture\n"
        "class Config(LlamaConfig):\n    model_type = 'llama'\n"
        "class Model(LlamaForCausalLM):\n    config_class = Config\n"
        f"ARCHITECTURES = [Architecture('{name}', Config, Model)]\n"
    )
    write(tmp_path / "modules" / "made", made=text)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "vocab_size": 16}
    config |= {"intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64}
    if name == "LlamaForCausalLM":
        config["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = subprocess.run([sys.executable, "-c", CUSTOM_WINS, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(found.startswith(module) for found in done.stdout.split())


def test_the_example_brings_its_operator(tmp_path: Path) -> None:
    """By the name that region graphs have."""
    (tmp_path / "tern").symlink_to(EXAMPLE)
    use_architectures(import_architectures(tmp_path))
    assert operator_of("tern.add_rms_norm.default") is not None
    assert operator_of("tern.other.default") is None

"""Compare what a package computes with what transformers computes from the same weights, by region and as a whole.

Invariant: both sides run on the same device, with the same inputs, fixed by the component's shape alone, and in full
precision; a package's code runs only after its digests have been checked.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from maxbuild.architectures.registry import choose_architecture, use_custom_architectures
from maxbuild.errors import PackageError
from maxbuild.models.architecture import ENCODINGS, auto_class, build_model, read_config
from maxbuild.models.outline import outline
from maxbuild.runtime import LoadedPackage, load_package
from maxbuild.runtime.model import Model
from maxbuild.runtime.program import Pooling, PoolingMode, Program, Results
from maxbuild.runtime.scoring import embed
from maxbuild.runtime.weights import read_tensors, tensor_names

TOLERANCES: Mapping[str, float] = {"float32": 1e-4, "bfloat16": 5e-2}
"""The largest error that rounding explains, by encoding: float32 has 24 bits of mantissa, bfloat16 has 8."""

_ROW_LENGTHS = (24, 17, 9)
_DECODE_STEPS = 4


@dataclass(frozen=True, slots=True)
class Comparison:
    """The worst error of one region, or of the results: max |got - expected| / max(1, max |expected|)."""

    role: str
    what: str
    error: float
    tolerance: float

    @property
    def within(self) -> bool:
        """Tell whether rounding explains the error. NaN is never within."""
        return self.error <= self.tolerance


def verify_package(folder: Path, device: str | None = None) -> list[Comparison]:
    """Check every digest, then compare each component; the last comparison of each is that of its results.

    device: as `load_package` takes it. Raise PackageError where the package is damaged, or not for this host.
    """
    package = load_package(folder, device=device)
    # The header names the source of custom architectures, and its digests were compared just now. Nothing else that
    # lies in the package's folder is imported.
    named = {path: package.folder.absolute() / path for path in package.header.files}
    with tempfile.TemporaryDirectory() as scratch, in_full_precision():
        use_custom_architectures(named, Path(scratch))
        return [comparison for role in package.header.components for comparison in _verify_component(package, role)]


@contextlib.contextmanager
def in_full_precision() -> Iterator[None]:
    """Let GPUs multiply float32 in float32, not in TF32, and sum up bfloat16 and float16 in float32.

    TF32 has 10 bits of mantissa, so its errors are beyond what is tolerated of float32. What a compiled kernel of a
    region does inside is not touched by this. The process's own settings come back.
    """
    settings = torch.backends.cuda.matmul
    names = ("allow_tf32", "allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction")
    before = {name: getattr(settings, name) for name in names}
    try:
        for name in names:
            setattr(settings, name, False)
        yield
    finally:
        for name, value in before.items():
            setattr(settings, name, value)


def _verify_component(package: LoadedPackage, role: str) -> Iterator[Comparison]:
    model = package.models[role]
    tolerance = max(TOLERANCES[dtype] for dtype in {model.program.dtype, *_cache_dtypes(model.program)})
    folder = (package.folder / package.header.components[role].files["config.json"]).parent
    document = json.loads((folder / "config.json").read_bytes())
    if "auto_map" in document and choose_architecture(document) is None:
        raise PackageError(
            f"component `{role}` brings its own model code, which a package does not hold",
            causes=["all digests are right; what it computes cannot be compared"],
        )
    # transformers writes into configs while it builds models, so each gets its own.
    references = _references(read_config(folder, trust_remote_code=False), model, role)
    watched = _WatchedRegions(model, references)
    eager = _eager_model(package, role, read_config(folder, trust_remote_code=False))
    embeds = model.program.results is Results.EMBEDDING
    whole = _compare_embeddings(watched.model, eager) if embeds else _compare_logits(watched.model, eager)
    for region, error in watched.worst.items():
        yield Comparison(role, region, error, tolerance)
    yield Comparison(role, model.program.results.output, whole, tolerance)


def _cache_dtypes(program: Program) -> set[str]:
    """Return the dtypes of a program's caches: rounding what is cached is rounding too."""
    return {cache.dtype for cache in program.caches}


def _references(config: PreTrainedConfig, model: Model, role: str) -> Mapping[str, Any]:
    """Trace the component again and return its regions as plain torch code; PackageError where they are others."""
    program = model.program
    dtype = ENCODINGS[program.dtype]
    embedding = program.results is Results.EMBEDDING
    meta = build_model(config, dtype, program.max_length, trust_remote_code=False, embedding=embedding)
    caches = _cache_dtypes(program)
    again = outline(
        meta,
        program.max_length,
        use_subgraphs=program.regions != ("model",),
        results=program.results,
        pooling=program.pooling,
        cache_dtype=getattr(torch, caches.pop()) if len(caches) == 1 else None,
    )
    if again.program != program:
        raise PackageError(
            f"component `{role}` of the package cannot be compared region by region",
            causes=["this version of maxbuild or transformers cuts the model in another way"],
            hint="build the package again with what is installed here",
        )
    return {name: graph.to_module(model.device) for name, graph in again.regions.items()}


class _WatchedRegions:
    """A model whose regions are compared with their references at every call."""

    def __init__(self, model: Model, references: Mapping[str, Any]) -> None:
        self.worst: dict[str, float] = {}
        self.model = model.with_regions(lambda name, region: self._watch(name, region, references[name]))

    def _watch(self, name: str, region: Any, reference: Any) -> Any:
        def call(inputs: list[Tensor]) -> list[Tensor]:
            # A region writes into the caches among its inputs, so each side gets its own.
            copies = [tensor.clone() for tensor in inputs]
            expected = [*reference(*copies), *copies]
            given = list(inputs)
            got = list(region(inputs))
            pairs = zip([*got, *given], expected, strict=True)
            error = max(error_between(ours, theirs) for ours, theirs in pairs)
            self.worst[name] = max(error, self.worst.get(name, 0.0))
            return got

        return call


def error_between(got: Tensor, expected: Tensor) -> float:
    """Return max |got - expected| / max(1, max |expected|); infinite for NaN on either side or another shape."""
    if got.shape != expected.shape:
        return float("inf")
    difference = (got.double() - expected.double()).abs().max().item() if got.numel() else 0.0
    scale = max(1.0, expected.double().abs().max().item()) if got.numel() else 1.0
    return difference / scale if difference == difference else float("inf")  # noqa: PLR0124 - NaN


def _eager_model(package: LoadedPackage, role: str, config: PreTrainedConfig) -> PreTrainedModel:
    """Return transformers' own model, with its own attention, and the package's tensors, those in use and no copies."""
    ours = package.models[role]
    dtype = ENCODINGS[ours.program.dtype]
    with torch.device("meta"):
        model: PreTrainedModel = auto_class(
            embedding=package.models[role].program.results is Results.EMBEDDING
        ).from_config(config, dtype=dtype, attn_implementation="eager")
    unused = [name for name in tensor_names(package.folder, package.header, role) if name not in ours.weights]
    rest = read_tensors(package.folder, package.header, role, unused, ours.device)
    for name, tensor in {**ours.weights, **rest}.items():
        owner, _, local = name.rpartition(".")
        module = model.get_submodule(owner)
        if local in module._parameters:
            module._parameters[local] = torch.nn.Parameter(tensor, requires_grad=False)
        else:
            module._buffers[local] = tensor
    model.tie_weights()
    model.eval()
    return model


@torch.inference_mode()
def _compare_logits(model: Model, eager: PreTrainedModel) -> float:
    """Run rows of different lengths through a prefill and some decode steps, and each row alone through eager."""
    steps = min(_DECODE_STEPS, model.program.max_length - 1)
    # The longest row outgrows a sliding window, or a wrong window would not show.
    window = getattr(eager.config.get_text_config(), "sliding_window", None) or 0
    lengths = [
        min(length, model.program.max_length - steps) for length in (window + _ROW_LENGTHS[0], *_ROW_LENGTHS[1:])
    ]
    tokens = _fixed_tokens(len(lengths), max(lengths) + steps, model.program.vocab_size).to(model.device)
    expected = [
        eager(input_ids=tokens[row : row + 1, : length + steps], use_cache=False).logits[0, length - 1 :]
        for row, length in enumerate(lengths)
    ]
    caches = model.caches(len(lengths))
    prefill = model.numbers[: max(lengths)].expand(len(lengths), -1)
    last = torch.tensor([[length - 1] for length in lengths], device=model.device)
    got = [model.forward(tokens[:, : max(lengths)], prefill, last, caches, max(lengths))]
    for step in range(steps):
        positions = torch.tensor([[length + step] for length in lengths], device=model.device)
        keys = max(lengths) + step + 1
        got.append(model.forward(tokens.gather(1, positions), positions, torch.zeros_like(positions), caches, keys))
    ours = torch.cat(got, dim=1)
    return max(error_between(ours[row], expected[row]) for row in range(len(lengths)))


@torch.inference_mode()
def _compare_embeddings(model: Model, eager: PreTrainedModel) -> float:
    """Embed rows of different lengths in one batch, and each row alone through eager, pooled one token at a time."""
    window = getattr(eager.config.get_text_config(), "sliding_window", None) or 0
    lengths = [min(length, model.program.max_length) for length in (window + _ROW_LENGTHS[0], *_ROW_LENGTHS[1:])]
    tokens = _fixed_tokens(len(lengths), max(lengths), model.program.vocab_size)
    rows = [tokens[row, :length] for row, length in enumerate(lengths)]
    got = embed(model, [row.tolist() for row in rows])
    hidden = [eager(input_ids=row[None].to(model.device), use_cache=False).last_hidden_state[0].cpu() for row in rows]
    expected = [_pool_plainly(tokens.float(), model.program.pooling) for tokens in hidden]
    return max(error_between(*pair) for pair in zip(got, expected, strict=True))


def _pool_plainly(tokens: Tensor, pooling: Pooling | None) -> Tensor:
    """Return what `pooling` makes of the vectors of one row's tokens, (tokens, size)."""
    if pooling is None:
        return tokens
    match pooling.mode:
        case PoolingMode.FIRST:
            pooled = tokens[0]
        case PoolingMode.LAST:
            pooled = tokens[-1]
        case PoolingMode.MEAN:
            pooled = tokens.mean(dim=0)
    return pooled / pooled.norm() if pooling.normalized else pooled


def _fixed_tokens(rows: int, length: int, vocab_size: int) -> Tensor:
    """Return tokens (rows, length) that are the same everywhere and look at all of the vocabulary."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, vocab_size, (rows, length), generator=generator)

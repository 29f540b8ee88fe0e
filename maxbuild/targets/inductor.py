"""All that knows Inductor from inside: its options for a CPU baseline, and how its archives become reproducible.

Invariant: equal regions and targets give equal bytes, on any host and in any folder. Inductor looks at the host's
instructions, and leaves paths, random ids and its own sources in what it writes; that is pinned or dropped here.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from maxbuild.models import operators  # noqa: F401 - registers what the options below name
from maxbuild.targets.environment import compiler_command
from maxbuild.targets.spelling import Target

# The vectors that code for each level may use, by Inductor's names; below v3 it has none to offer.
_VECTORS: Mapping[str, str | None] = {"x86-64-v2": None, "x86-64-v3": "VecAVX2", "x86-64-v4": "VecAVX512"}

# Expert matmuls go to torch's own grouped kernel, by the C interface through which compiled regions call all kernels.
_EXPERT_ARGUMENTS = (
    "(AtenTensorHandle rows, AtenTensorHandle weights, AtenTensorHandle* offsets, AtenTensorHandle* bias,"
    " int32_t* out_dtype, AtenTensorHandle* result)"
)
_EXPERT_SHIM = (
    '__attribute__((visibility("hidden"))) AOTITorchError aoti_torch_cpu_expert_matmul'
    + _EXPERT_ARGUMENTS
    + " { return aoti_torch_cpu__grouped_mm(rows, weights, offsets, bias, out_dtype, result); }"
)

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip archive can hold."""


def options(target: Target, compiler: Path) -> dict[str, Any]:
    """Return Inductor's options for `target`."""
    return {
        "cpp.cxx": (None, str(compiler)),
        "cpp.march": target.arch,
        # Without this the number of cores of this host is written into every parallel loop.
        "cpp.dynamic_threads": True,
        # The target says what instructions there are; asking the compiler costs seconds.
        "cpp.vec_isa_ok": True,
        "aot_inductor.package_constants_in_so": False,
        "aot_inductor.enable_line_tables": False,
        # A precompiled header costs more than one compile gains by it, and it would outlive this process.
        "aot_inductor.precompile_headers": False,
        "aot_inductor.custom_ops_to_c_shims": {torch.ops.maxbuild.expert_matmul.default: [_EXPERT_SHIM]},
    }


@contextlib.contextmanager
def vectors_of(target: Target) -> Iterator[None]:
    """Let Inductor see the vectors of `target` in place of this host's."""
    from torch._inductor import cpu_vec_isa  # noqa: PLC0415 - costly to import

    name = _VECTORS[target.arch]
    vectors = [] if name is None else [getattr(cpu_vec_isa, name)()]
    module: Any = cpu_vec_isa
    original: Callable[[], list[Any]] = module.valid_vec_isa_list
    module.valid_vec_isa_list = lambda: vectors
    try:
        yield
    finally:
        module.valid_vec_isa_list = original


def compiler_without_paths(folder: Path) -> Path:
    """Write a front to the C++ compiler that keeps the names of files out of what it makes, and return its path.

    Checks in the code quote the file they stand in: torch's headers lie where the environment is, and Inductor names
    its own sources by hashes of command lines.
    """
    command = compiler_command()
    assert command is not None
    # Inductor tells compilers apart by name.
    name = next(Path(word).name for word in reversed(command) if not word.startswith("-"))
    front = folder / "bin" / name
    front.parent.mkdir(parents=True)
    flags = ["-Wno-builtin-macro-redefined", '-D__FILE__="region.cpp"', f"-ffile-prefix-map={folder}=."]
    front.write_text(f'#!/bin/sh\nexec {shlex.join([*command, *flags])} "$@"\n')
    front.chmod(0o755)
    return front


def rewrite_archive(archive: Path, output: Path, scratch: Path) -> None:
    """Write the `.pt2` file `archive` again as `output`: the library and its metadata, under names of their own.

    Dropped: generated sources (they quote command lines), random ids, names made of hashes of paths, symbols and notes
    that no loader reads.
    """
    with zipfile.ZipFile(archive) as source:
        inside = {Path(name).name: name for name in source.namelist() if "/data/aotinductor/model/" in name}
        library = next(name for name in inside if name.endswith(".wrapper.so"))
        metadata = next(name for name in inside if name.endswith(".wrapper_metadata.json"))
        stripped = scratch / "region.wrapper.so"
        stripped.write_bytes(source.read(inside[library]))
        strip = shutil.which("strip") or "strip"
        subprocess.run([strip, "--strip-unneeded", "--remove-section=.note.gnu.build-id", stripped], check=True)
        contents = {
            "region/archive_format": b"pt2",
            "region/archive_version": b"0",
            "region/byteorder": b"little",
            "region/data/aotinductor/model/region.wrapper.so": stripped.read_bytes(),
            "region/data/aotinductor/model/region.wrapper_metadata.json": source.read(inside[metadata]),
        }
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as rewritten:
        for name, data in contents.items():
            rewritten.writestr(zipfile.ZipInfo(name, _EPOCH), data)

"""What CPU and GPU compiles share of Inductor: its options, a compiler without paths, reproducible archives.

Invariant: equal regions and targets give equal bytes, on any host and in any folder. Inductor looks at the host's
instructions, and leaves paths, random ids and its own sources in what it writes; that is pinned or dropped here.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maxbuild.errors import TaskFailed
from maxbuild.targets.environment import compiler_command
from maxbuild.targets.spelling import Target

TYPICAL_SIZES: Mapping[str, int] = {"batch": 2, "sequence": 64, "logits": 3, "keys": 256, "cache": 512}
"""The sizes that Inductor plans for where it must guess (how to split a loop among threads, say): a short prefill."""

ARCHIVE_FOLDER = "region/data/aotinductor/model"
"""Where a region's library lies in its `.pt2` file, and what the library loads beside it."""

# The vectors that code for each level may use, by Inductor's names; below v3 it has none to offer.
_VECTORS: Mapping[str, str | None] = {"x86-64-v2": None, "x86-64-v3": "VecAVX2", "x86-64-v4": "VecAVX512"}

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip archive can hold."""


def options(compiler: Path) -> dict[str, Any]:
    """Return Inductor's options for every target."""
    from torch._inductor import config  # noqa: PLC0415 - costly to import

    # New in torch 2.13; before, there were no such tables.
    line_tables = {"aot_inductor.enable_line_tables": False}
    return {
        **(line_tables if line_tables.keys() <= config.get_config_copy().keys() else {}),
        "cpp.cxx": (None, str(compiler)),
        # Without this the number of cores of this host is written into every parallel loop.
        "cpp.dynamic_threads": True,
        # The target says what instructions there are; asking the compiler costs seconds.
        "cpp.vec_isa_ok": True,
        "aot_inductor.package_constants_in_so": False,
        # A precompiled header costs more than one compile gains by it, and it would outlive this process.
        "aot_inductor.precompile_headers": False,
    }


@contextlib.contextmanager
def vectors_of(level: str) -> Iterator[None]:
    """Let Inductor see the vectors of an x86-64 level in place of this host's."""
    from torch._inductor import cpu_vec_isa  # noqa: PLC0415 - costly to import

    name = _VECTORS[level]
    vectors = [] if name is None else [getattr(cpu_vec_isa, name)()]
    module: Any = cpu_vec_isa
    original: Callable[[], list[Any]] = module.valid_vec_isa_list
    module.valid_vec_isa_list = lambda: vectors
    try:
        yield
    finally:
        module.valid_vec_isa_list = original


@contextlib.contextmanager
def failing_as(target: Target, causes: Callable[[], Sequence[str]] = tuple) -> Iterator[None]:
    """Raise what goes wrong within as TaskFailed; a full disk stays what it is.

    causes: gives better reasons than the error's own text, where there are any.
    """
    try:
        yield
    except (OSError, TaskFailed):
        raise  # a full disk is the engine's to tell
    except Exception as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise TaskFailed(
            f"could not compile a region for `{target.spelling}`", causes=causes() or _causes_of(error)
        ) from error


def _causes_of(error: Exception) -> list[str]:
    """Return an error's first line and, where a compiler's output follows, the first that calls itself an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines[1:] if "error: " in line]
    return [f"{type(error).__name__}: {lines[0] if lines else ''}", *told[:1]]


def compiler_front(folder: Path, level: str, link: Sequence[str] = ()) -> Path:
    """Write a front to the C++ compiler that keeps this host out of what it makes, and return its path.

    Names of files: checks in the code quote the file they stand in, torch's headers lie where the environment is, and
    Inductor names its own sources by hashes of command lines. Instructions: Inductor asks for the host's, and torch
    before 2.13 has no option for others; `level` is an x86-64 level. link: the linker's last arguments.
    """
    command = compiler_command()
    assert command is not None
    # Inductor tells compilers apart by name.
    name = next(Path(word).name for word in reversed(command) if not word.startswith("-"))
    front = folder / "bin" / name
    front.parent.mkdir(parents=True)
    flags = ["-Wno-builtin-macro-redefined", '-D__FILE__="region.cpp"', f"-ffile-prefix-map={folder}=."]
    # Some distributions' compilers link so by default and others do not; libraries that nothing uses are not recorded.
    flags.append("-Wl,--as-needed")
    # Of several `-march` the last counts; gcc drops those before it, and with them what `native` stands for.
    last = [f"-march={level}", *link]
    front.write_text(f'#!/bin/sh\nexec {shlex.join([*command, *flags])} "$@" {shlex.join(last)}\n')
    front.chmod(0o755)
    return front


def rewrite_archive(archive: Path, output: Path, scratch: Path, beside: Mapping[str, bytes] | None = None) -> None:
    """Write the `.pt2` file `archive` again as `output`: the library and its metadata, under names of their own.

    Dropped: the content of generated sources (they quote command lines), random ids, names made of hashes of paths,
    symbols and notes that no loader reads. beside: further files, by their path in the archive.
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
            f"{ARCHIVE_FOLDER}/region.wrapper.so": stripped.read_bytes(),
            f"{ARCHIVE_FOLDER}/region.wrapper_metadata.json": source.read(inside[metadata]),
            # Loaders before torch 2.13 take the metadata's name from that of a source (model_package_loader.cpp).
            f"{ARCHIVE_FOLDER}/region.wrapper.cpp": b"",
            **(beside or {}),
        }
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as rewritten:
        for name, data in contents.items():
            rewritten.writestr(zipfile.ZipInfo(name, _EPOCH), data)

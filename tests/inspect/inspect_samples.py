"""Small packages as `inspect` reads them: real kernels by Triton, real libraries by the C++ compiler, real headers."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maxbuild.inspect.kernel import Launch
from maxbuild.runtime.package import ComponentEntry, FileEntry, PackageHeader

MODEL = "region/data/aotinductor/model"
EXTENSIONS = {"cuda": "cubin", "hip": "hsaco"}
TRITON_TARGETS: Mapping[str, tuple[str, Any, int]] = {
    "cuda:sm_80": ("cuda", 80, 32),
    "cuda:sm_90": ("cuda", 90, 32),
    "cuda:sm_100": ("cuda", 100, 32),
    "cuda:sm_120": ("cuda", 120, 32),
    "hip:gfx90a": ("hip", "gfx90a", 64),
    "hip:gfx942": ("hip", "gfx942", 64),
    "hip:gfx950": ("hip", "gfx950", 64),
    "hip:gfx1100": ("hip", "gfx1100", 32),
}


@dataclass(frozen=True)
class Compiled:
    """A kernel as Triton compiled it; `assembly` is the assembler's text, of AMD's alone."""

    launch: Launch
    binary: bytes
    assembly: str

    def named(self, name: str) -> Compiled:
        """Return the kernel under another name; its entry point stays."""
        file = f"{name}.{self.launch.file.rpartition('.')[2]}"
        return replace(self, launch=replace(self.launch, name=name, file=file))


Kernels = Callable[[str, str], Compiled]
"""Gives a kernel by kind and target."""


def compile_kernel(kind: str, target: str) -> Compiled:
    """Compile a kernel: `add`; `matmul`, for matrix units; `crowded`, which spills; `wide`, which asks for too much."""
    import sampled_kernels
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    api = target.partition(":")[0]
    few_registers = {"maxnreg": 40} if api == "cuda" else {"waves_per_eu": 8}
    halves, floats = dict.fromkeys("abc", "*fp16"), {"x": "*fp32", "y": "*fp32"}
    function, types, constants, options = {
        "add": (sampled_kernels.add, floats | {"n": "i32"}, {"block": 1024}, {}),
        "softmax": (sampled_kernels.softmax, floats | {"n": "i32"}, {"block": 2048}, {}),
        "matmul": (sampled_kernels.matmul, halves | {"depth": "i32"}, {"size": 64, "step": 32}, {}),
        "crowded": (sampled_kernels.transpose, floats, {"size": 64}, {"num_warps": 1, **few_registers}),
        "wide": (sampled_kernels.transpose, floats, {"size": 256}, {"num_warps": 16}),
    }[kind]
    done = triton.compile(
        ASTSource(function, types, constants), target=GPUTarget(*TRITON_TARGETS[target]), options=options
    )
    facts, extension = done.metadata, EXTENSIONS[api]
    launch = Launch(
        name=f"triton_{kind}_0",
        file=f"triton_{kind}_0.{extension}",
        entry=facts.name,
        shared_memory=facts.shared,
        num_warps=facts.num_warps,
        num_stages=facts.num_stages,
        warp_size=TRITON_TARGETS[target][2],
        source="inductor",
    )
    return Compiled(launch, done.asm[extension], done.asm.get("amdgcn", ""))


# What AOTInductor writes, as far as `inspect` can tell: a kernel is loaded by the texts of its file and entry point.
_LOADER = """
#include <string>
extern "C" {
int aoti_torch_get_dim(void*, long*);
int {driver}(void**, const char*);
}
static void* load(std::string file, const std::string& entry) {
    void* loaded = nullptr;
    {driver}(&loaded, (file + entry).c_str());
    return loaded;
}
extern "C" void AOTInductorModelRun(void* tensor, long* dims) {
    aoti_torch_get_dim(tensor, dims);
"""
_DRIVERS = {"cuda": "cuModuleLoad", "hip": "hipModuleLoad"}
_STUBS = {"cuda": "libtorch_cuda.so", "hip": "libtorch_hip.so"}


class Workshop:
    """Makes libraries in a folder of its own, each once."""

    def __init__(self, folder: Path) -> None:
        """Work in `folder`, which need not be there."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def library(self, source: str, *flags: str) -> bytes:
        """Compile and link a C++ library against torch, and return its bytes."""
        torch = importlib.util.find_spec("torch")
        assert torch is not None
        assert torch.origin is not None
        name = hashlib.sha256(repr((source, flags)).encode()).hexdigest()[:16]
        output = self.folder / f"{name}.so"
        if not output.exists():
            text = self.folder / f"{name}.cpp"
            text.write_text(source)
            lib = Path(torch.origin).parent / "lib"
            command = ["g++", "-std=c++20", "-O1", "-fPIC", "-shared", "-march=x86-64-v2", text, *flags, f"-L{lib}"]
            subprocess.run([*command, "-ltorch_cpu", "-Wl,--as-needed", "-o", output], check=True)
        return output.read_bytes()

    def stub(self, soname: str) -> Path:
        """Return an empty library of this name, to link with."""
        path = self.folder / soname
        if not path.exists():
            command = ["g++", "-shared", "-nostdlib", "-x", "c", "/dev/null", f"-Wl,-soname,{soname}", "-o", path]
            subprocess.run(command, check=True)
        return path

    def wrapper(self, api: str, loads: Sequence[tuple[str, str]], *flags: str) -> bytes:
        """Return a wrapper that loads these kernels, each by file and entry point."""
        source = _LOADER.replace("{driver}", _DRIVERS[api])
        source += "".join(f'    load("{file}", "{entry}");\n' for file, entry in loads) + "}\n"
        return self.library(source, "-Wl,--no-as-needed", str(self.stub(_STUBS[api])), *flags)


def write_region(
    path: Path,
    wrapper: bytes,
    target: str,
    kernels: Sequence[Compiled] = (),
    metadata: Mapping[str, str] | None = None,
    *,
    described: Sequence[Launch] | None = None,
) -> Path:
    """Write a `.pt2` as the compile step does; `described` is what it tells of launches, where that is not right."""
    told = [kernel.launch for kernel in kernels] if described is None else described
    members: dict[str, bytes] = {
        "region/archive_format": b"pt2",
        f"{MODEL}/region.wrapper.so": wrapper,
        f"{MODEL}/region.wrapper_metadata.json": json.dumps(dict(metadata or {})).encode(),
        **{f"{MODEL}/{kernel.launch.file}": kernel.binary for kernel in kernels},
    }
    if not target.startswith("cpu"):
        fields = ("name", "file", "entry", "shared_memory", "num_warps", "num_stages", "warp_size", "source")
        launches = [{field: getattr(launch, field) for field in fields} for launch in told]
        document = {"schema": "maxbuild.launches.v1", "target": target, "kernels": launches}
        members["region/maxbuild.json"] = json.dumps(document).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return path


def write_package(folder: Path, target: str, regions: Mapping[str, Path], name: str = "sample") -> Path:
    """Write a package whose component `main` has these regions, and return its folder."""
    folder.mkdir(parents=True)
    paths = {region: f"regions/{region}.pt2" for region in regions}
    files: dict[str, bytes] = {"main/program.json": b"{}", "main/weights.json": b"{}"}
    for region, path in regions.items():
        files[paths[region]] = path.read_bytes()
    component = ComponentEntry("main/program.json", "main/weights.json", paths, {}, None)
    entries = {path: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for path, data in files.items()}
    header = PackageHeader(name, target, {"main": component}, None, {"torch": "2.13.0"}, entries)
    for path, data in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(data)
    (folder / "package.json").write_text(json.dumps(header.to_json()))
    return folder

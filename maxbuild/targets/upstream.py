"""All that is replaced inside torch and Triton to compile for a GPU that is not there, each with its reason.

Invariant: what is touched stands in `TOUCHED`, with what is relied on; where a version moved it, `pose_as` says so
before anything is compiled. Nothing is put back: a process compiles for one target and ends.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.runtime.errors import OutOfResources

from maxbuild.errors import TaskFailed
from maxbuild.targets.candidates import ranked
from maxbuild.targets.devices import Device
from maxbuild.targets.toolkit import Toolkit
from maxbuild.targets.virtual import VirtualDriver, capability, device_interface, properties

_HIP_VERSION = "7.1"
"""Makes torch take itself for a build for ROCm; the version of the HIP headers that Triton 3.7 brings."""


@dataclass(frozen=True, slots=True)
class Touched:
    """A name of torch's or Triton's that is replaced, called or read here though nobody promises it.

    parameters: those that are relied on, in their order; the name may take more after them.
    """

    module: str
    name: str
    reason: str
    parameters: Sequence[str] = ()


TOUCHED: Sequence[Touched] = (
    Touched("triton.runtime", "driver.set_active", "a driver that asks the table of devices", ("driver",)),
    Touched("torch._dynamo.device_interface", "get_interface_for_device", "makes upstream register its own first"),
    Touched(
        "torch._dynamo.device_interface",
        "register_interface_for_device",
        "Dynamo and Inductor ask the table of devices",
        ("device", "device_interface"),
    ),
    *(
        Touched("torch.cuda", name, "parts of Inductor ask it past the device interface")
        for name in ("current_device", "device_count", "get_device_capability", "get_device_properties")
    ),
    Touched("torch._inductor.runtime.triton_helpers", "set_driver_to_gpu", "would look for a real driver"),
    Touched("torch._inductor.fx_passes.misc_patterns", "_misc_patterns_init", "makes tensors on the device"),
    Touched(
        "torch._inductor.graph", "is_same_tensor", "compares addresses, which fake tensors lack", ("data", "value")
    ),
    Touched(
        "torch._inductor.codegen.wrapper",
        "PythonWrapperCodegen.generate_and_run_autotune_block",
        "runs kernels on the device to time them",
        ("self",),
    ),
    Touched(
        "torch._inductor.runtime.triton_heuristics",
        "CachingAutotuner.precompile",
        "compiles every configuration, to time them on the device",
        ("self",),
    ),
    Touched(
        "torch._inductor.runtime.triton_heuristics",
        "CachingAutotuner._precompile_config",
        "compiles one configuration",
        ("self", "cfg"),
    ),
    Touched(
        "torch._inductor.runtime.triton_heuristics",
        "CachingAutotuner.save_gpu_kernel",
        "notes a kernel for the code that launches it",
        ("self", "stream", "launcher"),
    ),
    Touched(
        "torch._inductor.codecache",
        "AotCodeCompiler.compile",
        "its source names kernels by their paths on this host",
        ("graph", "wrapper_code"),
    ),
    Touched("torch._inductor.codecache", "CudaKernelParamCache.cache", "says by which paths"),
    Touched("torch._inductor.codecache", "get_cpp_wrapper_cubin_path_name", "says under which key those are"),
    Touched(
        "torch._inductor.cpp_builder",
        "get_cpp_torch_device_options",
        "looks for a toolkit on this host",
        ("device_type", "aot_mode", "compile_only"),
    ),
    Touched("torch._inductor.cpu_vec_isa", "valid_vec_isa_list", "asks this host's CPU (`inductor.vectors_of`)"),
    Touched("torch._higher_order_ops.triton_kernel_wrap", "kernel_side_table.id_to_kernel", "tells whose a kernel is"),
    Touched("torch._subclasses.fake_tensor", "in_kernel_invocation_manager", "a tensor on no device (`retarget`)"),
)
"""Seen in torch 2.11.0, 2.12.0 and 2.13.0 and Triton 3.6.0, 3.7.0 and 3.7.1."""

LOAD_KERNEL = "CUDA_DRIVER_CHECK(cuModuleLoad(&mod, filePath.c_str()));"
"""How a region's library loads a kernel's file (`kernel_driver` in torch/_inductor/codegen/cuda/device_op_overrides.py,
torch 2.11 to 2.13)."""

_LOAD_KERNEL_OR_PTX = """
    CUresult loaded = cuModuleLoad(&mod, filePath.c_str());
    if (loaded == CUDA_ERROR_NO_BINARY_FOR_GPU) {
        loaded = cuModuleLoad(&mod, std::filesystem::path(filePath).replace_extension(".ptx").c_str());
    }
    CUDA_DRIVER_CHECK(loaded);
"""

# The symbols of libc10.so (c10/core/impl/DeviceGuardImplInterface.h) and the numbers of c10::DeviceType.
_GUARDS = "_ZN3c104impl26device_guard_impl_registryE"
_REGISTER_GUARD = "_ZN3c104impl24DeviceGuardImplRegistrarC1ENS_10DeviceTypeEPKNS0_24DeviceGuardImplInterfaceE"
_CPU, _CUDA = 0, 1

_LONGEST_NAME = 200
"""Inductor names a kernel after all operators in it; a file's name has 255 bytes at most."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A compiled kernel of a region. `binary` is a cubin or hsaco; `source` is `inductor`, or the module it is of."""

    name: str
    file: str
    entry: str
    shared_memory: int
    num_warps: int
    num_stages: int
    warp_size: int
    source: str
    binary: bytes
    ptx: str | None


class Kernels:
    """What becomes of a region's kernels: those that were compiled, and what kept others from it."""

    def __init__(self, device: Device, rank: int = 0) -> None:
        """Start with none. rank: take each kernel's configuration of this rank, where it has so many."""
        self.device, self.rank = device, rank
        self.compiled: dict[str, Kernel] = {}
        self.failures: list[str] = []

    @property
    def extension(self) -> str:
        """Return the extension of a binary's file."""
        return "cubin" if self.device.capability else "hsaco"

    def file_of(self, name: str) -> str:
        """Return the name of a kernel's file: the kernel's, cut where it is longer than names of files may be."""
        if len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}_{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return f"{name}.{self.extension}"

    def compile(self, tuner: Any) -> None:
        """Compile the first of `tuner`'s configurations, from `rank` on, that the device has room for."""
        name = tuner.inductor_meta["kernel_name"]
        lacking = None
        for config in ranked(tuner.configs, tuner.size_hints, self.device, self.rank):
            try:
                result = tuner._precompile_config(config)
                launcher = result.make_launcher()
            except OutOfResources as error:
                lacking = error
                continue
            except Exception as error:
                self.failures.append(f"kernel `{name}`: {type(error).__name__}: {_first_line(error)}")
                raise
            tuner.configs, tuner.compile_results, tuner.launchers = None, [result], [launcher]
            tuner.save_gpu_kernel(0, launcher)
            self.compiled[name] = self._describe(name, tuner, launcher.bin)
            return
        assert lacking is not None
        arch = self.device.target.partition(":")[2]
        amount = f"{lacking.required} bytes of" if lacking.name == "shared memory" else f"{lacking.required}"
        self.failures.append(f"kernel `{name}` needs {amount} {lacking.name}, `{arch}` has {lacking.limit}")
        raise RuntimeError(self.failures[-1])

    def _describe(self, name: str, tuner: Any, binary: Any) -> Kernel:
        facts = binary.metadata
        return Kernel(
            name=name,
            file=self.file_of(name),
            entry=facts.name,
            shared_memory=facts.shared,
            num_warps=facts.num_warps,
            num_stages=facts.num_stages,
            warp_size=self.device.warp_size,
            source=_source_of(tuner),
            binary=binary.asm[self.extension],
            ptx=binary.asm.get("ptx"),
        )


def pose_as(kernels: Kernels, toolkit: Toolkit, *, emit_ptx: bool) -> None:
    """Let torch and Triton see `kernels.device`, and hand their kernels to `kernels`, from now on in this process.

    emit_ptx: let regions fall back on a kernel's PTX. Raise TaskFailed where this torch or Triton is not as expected.
    """
    changes = [change for touched in TOUCHED if (change := moved(touched))]
    if changes:
        raise TaskFailed(
            f"this torch ({torch.__version__}) or Triton ({triton.__version__}) is not one that GPU targets work with",
            causes=changes,
            hint='pip install "torch>=2.11,<2.14"',
        )
    _replace_device(kernels.device)
    _replace_guard()
    _skip_what_needs_a_device()
    _compile_without_timing(kernels)
    _compile_source_without_paths(kernels, emit_ptx=emit_ptx)
    _use_toolkit(toolkit)


def moved(touched: Touched) -> str | None:
    """Tell how a name is not as it is relied on here; None where it is."""
    path = f"{touched.module}.{touched.name}"
    try:
        value: Any = importlib.import_module(touched.module)
    except ImportError:
        return f"`{touched.module}` is gone ({touched.reason})"
    for part in touched.name.split("."):
        if not hasattr(value, part):
            return f"`{path}` is gone ({touched.reason})"
        value = getattr(value, part)
    if touched.parameters:
        found = list(inspect.signature(value).parameters)
        if found[: len(touched.parameters)] != list(touched.parameters):
            return f"`{path}` takes ({', '.join(found)}), not ({', '.join(touched.parameters)}, …)"
    return None


def _replace_device(device: Device) -> None:
    """Answer from the table whoever asks a driver."""
    from torch._dynamo import device_interface as interfaces  # noqa: PLC0415

    if device.capability is None:
        # What is compiled for ROCm asks here, also for how to write C++ code (aoti_hipify_utils.py).
        torch.version.hip, torch.version.cuda = _HIP_VERSION, None
    triton.runtime.driver.set_active(VirtualDriver(device))
    facts, version = properties(device), capability(device)
    module: Any = torch.cuda
    module.get_device_properties = lambda _device=None: facts
    module.get_device_capability = lambda _device=None: version
    module.current_device = lambda: 0
    module.device_count = lambda: 1
    # The first question makes upstream register its own interfaces, which ours then take the place of.
    interfaces.get_interface_for_device("cpu")
    for name in ("cuda", "cuda:0"):
        interfaces.register_interface_for_device(name, device_interface(device))


def _replace_guard() -> None:
    """Let operators run on fake `cuda` tensors in a torch that was built without CUDA.

    Operators switch to the device of their arguments through a guard, and such a torch has none for CUDA ("not linked
    with support for cuda devices"). The CPU's does nothing, so it serves. A torch that was built with CUDA makes its
    own do nothing where it sees no device (`ensureCUDADeviceGuardSet` in the same file of c10).
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 2).in_dll(library, _GUARDS)
    if not guards[_CUDA]:
        register = library[_REGISTER_GUARD]
        register.argtypes = [ctypes.c_void_p, ctypes.c_int8, ctypes.c_void_p]
        register(ctypes.create_string_buffer(8), _CUDA, guards[_CPU])


def _skip_what_needs_a_device() -> None:
    from torch._inductor import graph  # noqa: PLC0415
    from torch._inductor.fx_passes import misc_patterns  # noqa: PLC0415
    from torch._inductor.runtime import triton_helpers  # noqa: PLC0415

    replaced: list[tuple[Any, str, Callable[..., Any]]] = [
        (triton_helpers, "set_driver_to_gpu", lambda: None),
        (misc_patterns, "_misc_patterns_init", lambda *_, **__: None),
        (graph, "is_same_tensor", lambda data, value: data is value),
    ]
    for module, name, replacement in replaced:
        setattr(module, name, replacement)


def _compile_without_timing(kernels: Kernels) -> None:
    from torch._inductor.codegen.wrapper import PythonWrapperCodegen  # noqa: PLC0415
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner  # noqa: PLC0415

    def precompile(tuner: Any, *_: Any, **__: Any) -> None:
        if not tuner.launchers:
            kernels.compile(tuner)

    def define_kernels(codegen: Any) -> None:
        # The block of code that upstream runs defines the kernels, which compiles them, and then launches each.
        exec(codegen.kernel_autotune_defs.getvalue(), {})  # noqa: S102 - Inductor's own code, from this very process

    autotuner: Any = CachingAutotuner
    autotuner.precompile = precompile
    wrapper: Any = PythonWrapperCodegen
    wrapper.generate_and_run_autotune_block = define_kernels


def _compile_source_without_paths(kernels: Kernels, *, emit_ptx: bool) -> None:
    """Name kernels in a region's C++ code as their files in the archive: a library looks for them beside itself."""
    from torch._inductor import codecache  # noqa: PLC0415

    original = codecache.AotCodeCompiler.compile
    key = codecache.get_cpp_wrapper_cubin_path_name()

    def compile_source(graph: Any, wrapper_code: str, *rest: Any, **named: Any) -> Any:
        for name, parameters in codecache.CudaKernelParamCache.cache.items():
            wrapper_code = wrapper_code.replace(str(parameters[key]), kernels.file_of(name))
        if emit_ptx:
            if LOAD_KERNEL not in wrapper_code:
                raise RuntimeError("regions load kernels in another way than `emit_ptx` knows")
            wrapper_code = wrapper_code.replace(LOAD_KERNEL, _LOAD_KERNEL_OR_PTX)
        return original(graph, wrapper_code, *rest, **named)

    compiler: Any = codecache.AotCodeCompiler
    compiler.compile = compile_source


def _use_toolkit(toolkit: Toolkit) -> None:
    """Let compiler calls name `toolkit`; what libraries are linked with, the recorder says last."""
    from torch._inductor import cpp_builder  # noqa: PLC0415
    from torch.utils import cpp_extension  # noqa: PLC0415

    def options_of(device_type: str, *_: Any, **__: Any) -> tuple[list[str], ...]:
        headers, libraries = cpp_extension.include_paths("cpu"), cpp_extension.library_paths("cpu")
        if device_type == "cpu":
            return [], headers, [], [], libraries, [], []
        return list(toolkit.definitions), [*headers, *toolkit.headers], [], [], libraries, [], []

    builder: Any = cpp_builder
    builder.get_cpp_torch_device_options = options_of


def _source_of(tuner: Any) -> str:
    """Return `inductor` for a kernel that Inductor wrote, the module of ours for another: `maxbuild.attention`."""
    from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table  # noqa: PLC0415

    if not tuner.custom_kernel:
        return "inductor"
    kernels: list[Any] = list(kernel_side_table.id_to_kernel.values())
    modules = {kernel.fn.__name__: kernel.fn.__module__ for kernel in kernels}
    return str(modules.get(tuner.fn.__name__, "unknown")).replace("maxbuild.kernels.", "maxbuild.")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")

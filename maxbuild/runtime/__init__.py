"""What a serving host needs: read a package, check it, load it, run it. Imports nothing of maxbuild's build side.

    from maxbuild.runtime import load_package
    package = load_package(Path("packages/demo/cpu-x86-64-v3"))
    generation = package.generate(package.text.encode("one two three"), max_new_tokens=16)
    print(package.text.decode(list(generation.tokens)))

Importing this module costs little; torch is imported when a package is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maxbuild.errors import PackageError
from maxbuild.runtime.device import Gpus, TorchGpus, asked_index, check_memory, choose_device
from maxbuild.runtime.package import PackageHeader, check_files, check_host, read_header
from maxbuild.runtime.program import Results
from maxbuild.runtime.tuning import AS_BUILT, Applied, apply_tuning

if TYPE_CHECKING:
    import torch

    from maxbuild.runtime.generate import Generation
    from maxbuild.runtime.model import Model
    from maxbuild.runtime.sampling import Samplers, Sampling
    from maxbuild.runtime.speculation import Speculation
    from maxbuild.runtime.text import Text

__all__ = ["LoadedPackage", "PackageHeader", "load_package"]

MAIN, DRAFT = "main", "draft"


@dataclass(frozen=True, slots=True)
class LoadedPackage:
    """A package ready to run: its header, its models by role, where they are, and the text side of the main model."""

    header: PackageHeader
    models: dict[str, Model]
    folder: Path
    device: torch.device
    tuning: Applied = AS_BUILT
    samplers: Samplers | None = None

    @property
    def text(self) -> Text:
        """Return the main model's tokenizer and chat template; PackageError where the package has none."""
        from maxbuild.runtime.text import Text  # noqa: PLC0415 - costs an import that tokens alone do not need

        return Text(self.folder, self.header.components[MAIN])

    @property
    def embeds(self) -> bool:
        """Tell whether the main model gives embeddings, and no text."""
        return self.models[MAIN].program.results is Results.EMBEDDING

    def log_probabilities(self, tokens: Sequence[int]) -> list[float]:
        """Return how likely the main model finds each token but the first, as natural logarithms.

        Raise UsageError where the main model was built without `enable_echo`.
        """
        from maxbuild.runtime.scoring import log_probabilities  # noqa: PLC0415 - imports torch

        return log_probabilities(self.models[MAIN], tokens)

    def embed(self, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Return an embedding of each row of tokens; UsageError where the main model is no embedding model."""
        from maxbuild.runtime.scoring import embed  # noqa: PLC0415 - imports torch

        return embed(self.models[MAIN], rows)

    def generate(
        self,
        prompt: Sequence[int],
        max_new_tokens: int,
        *,
        stop_tokens: frozenset[int] = frozenset(),
        sampling: Sampling | None = None,
        use_draft: bool = True,
    ) -> Generation:
        """Continue `prompt`, with the draft where the package has one and `use_draft` allows it."""
        from maxbuild.runtime.generate import generate  # noqa: PLC0415 - imports torch

        return generate(
            self.models[MAIN],
            prompt,
            max_new_tokens,
            stop_tokens=stop_tokens,
            sampling=sampling,
            samplers=self.samplers,
            speculation=self._speculation() if use_draft else None,
        )

    def _speculation(self) -> Speculation | None:
        """Return how the draft is used; None where there is none, or none that was loaded."""
        from maxbuild.runtime.speculation import Markers, Speculation  # noqa: PLC0415 - imports torch

        entry, draft = self.header.speculative, self.models.get(DRAFT)
        if entry is None or draft is None:
            return None
        if self.samplers is None:
            raise PackageError("the package has a draft and no samplers", hint="build it again with this version")
        markers = None if entry.thinking_tokens is None else Markers(*entry.thinking_tokens)
        return Speculation(draft, entry.num_speculative_tokens, self.samplers, markers)


def load_package(
    folder: Path,
    *,
    device: str | None = None,
    check_digests: bool = True,
    leave_out: Collection[str] = (),
    tuned: bool = True,
) -> LoadedPackage:
    """Check and load the package in `folder`.

    device: `cpu`, `cuda` or `cuda:N`, AMD's GPUs being called `cuda` too; by default the first one that the package's
    target fits. check_digests: read every file once and compare it with the header before any of it is used; leave it
    out only where something else vouches for the files. leave_out: roles not to load. tuned: run the alternatives that
    were timed to be faster on this very device, where a file beside the package says so; the result tells why such a
    file was left aside. Raise PackageError where the package is damaged, is not for this host or device, or has no room
    there; then nothing of its code has been loaded.
    """
    header = read_header(folder)
    index = asked_index(header.built_for, device)
    check_host(header)
    if MAIN not in header.components:
        raise PackageError(f"package `{folder}` has no component `{MAIN}`")
    if check_digests:
        check_files(folder, header)
    from maxbuild.runtime.model import Model, bytes_of_weights  # noqa: PLC0415 - imports torch, after who refuses early
    from maxbuild.runtime.sampling import Samplers  # noqa: PLC0415

    gpus = TorchGpus()
    place = choose_device(header.built_for, index, gpus)
    roles = [role for role in header.components if role not in leave_out]
    if place.type != "cpu":  # where weights are mapped, not copied
        check_memory(place, sum(bytes_of_weights(folder, header, role) for role in roles), gpus)
    tuning = _tuning(folder, header, place, gpus) if tuned else AS_BUILT
    models = {role: Model.load(folder, header, role, place, tuning.choices) for role in roles}
    return LoadedPackage(header, models, folder, place, tuning, Samplers.load(folder, header, place))


def _tuning(folder: Path, header: PackageHeader, place: torch.device, gpus: Gpus) -> Applied:
    import torch  # noqa: PLC0415 - loaded by now

    gpu = None if place.type == "cpu" else gpus.all()[place.index]
    return apply_tuning(folder, header, gpu, str(torch.__version__))

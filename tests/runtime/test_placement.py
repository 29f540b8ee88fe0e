"""Where tensors lie while a package runs, shown on a device that is pretended: see `pretend_device`."""

from __future__ import annotations

import pytest
import torch
from plain_samplers import plain_samplers, speculation_of
from pretend_device import DEVICE, PretendDevice
from toy_model import PROGRAM, toy_model

from maxbuild.errors import PackageError
from maxbuild.runtime import row
from maxbuild.runtime.generate import generate
from maxbuild.runtime.model import Caches
from maxbuild.runtime.samplers import Strategy
from maxbuild.runtime.sampling import Picker, Sampling

CPU = torch.device("cpu")
PROMPT = [3, 1, 4, 1, 5]


def run(
    device: torch.device,
    proposals: int,
    count: int = 20,
    sampling: Sampling | None = None,
    strategy: Strategy = Strategy.GREEDY,
) -> tuple[list[int], int]:
    """Return what the toy generates on `device`, and how many of a draft's proposals it took."""
    generation = generate(
        toy_model(1, device),
        PROMPT,
        count,
        sampling=sampling,
        samplers=plain_samplers(device=device),
        speculation=speculation_of(toy_model(1, device, noise=0.4), proposals, strategy) if proposals else None,
    )
    return list(generation.tokens), generation.statistics.accepted


@pytest.mark.parametrize("proposals", [0, 1, 4])
def test_a_device_generates_what_a_cpu_does(proposals: int) -> None:
    """With and without draft: no operator mixes devices, regions get aligned inputs of the device, tokens are equal."""
    expected, accepted = run(CPU, proposals)
    with PretendDevice():
        assert run(DEVICE, proposals) == (expected, accepted)
    assert expected == run(CPU, 0)[0]
    assert len(set(expected)) > 5, "the toy says one thing only"
    if proposals > 1:
        assert 0 < accepted < 20, "proposals are to be taken and refused"


@pytest.mark.parametrize("strategy", Strategy)
def test_a_seed_gives_the_same_text_on_every_device(strategy: Strategy) -> None:
    """Random numbers are those of the seed and the place, whatever computes; all strategies draw on the device."""
    sampling = Sampling(temperature=1.0, top_k=20, top_p=0.95, seed=5)
    expected = run(CPU, 4, sampling=sampling, strategy=strategy)
    with PretendDevice() as device:
        assert run(DEVICE, 4, sampling=sampling, strategy=strategy) == expected
        assert device.waits == 0
    assert expected[0] != run(CPU, 4)[0]


def test_tokens_cross_once_per_run_of_the_main_model() -> None:
    """Each round brings its tokens at once, a draft's proposals among them; only the prompt goes to the device."""
    for proposals in (0, 4):
        with PretendDevice() as device:
            main = toy_model(1, DEVICE)
            runs = 0

            def count(name: str, region: object) -> object:
                def call(inputs: list[torch.Tensor]) -> object:
                    nonlocal runs
                    runs += name == "after"
                    return region(inputs)  # type: ignore[operator]

                return call

            watched = main.with_regions(count)  # type: ignore[arg-type]
            speculation = speculation_of(toy_model(1, DEVICE, noise=0.4), proposals) if proposals else None
            device.went = 0  # of the weights
            tokens = generate(watched, PROMPT, 20, speculation=speculation).tokens
            assert len(list(tokens)) == 20
        assert device.came == runs
        assert runs < 20 or not proposals
        assert (device.went, device.waits) == (1, 0)


def test_choosing_among_the_likely_waits_for_nothing() -> None:
    """top_k and top_p drop the same tokens on a device as on a CPU, and the host is not told how many."""
    logits = torch.randn(1, 1, 50, generator=torch.Generator().manual_seed(1))
    for top_k, top_p in ((5, 1.0), (0, 0.7), (20, 0.5)):
        sampling = Sampling(1.0, top_k, top_p)
        least = Picker(sampling, 1, samplers=plain_samplers()).least_logits(logits)
        with PretendDevice() as device:
            picker = Picker(sampling, 1, samplers=plain_samplers(device=DEVICE), device=DEVICE)
            on_device = logits.to(DEVICE)
            device.came = device.waits = 0
            got = picker.least_logits(on_device)
            assert (device.came, device.waits) == (0, 0)
            assert torch.equal(got.cpu(), least)
        assert 0 < (logits[0] >= least).sum() < 50


def test_a_long_prompt_runs_in_pieces() -> None:
    """Pieces of a prompt give what the whole gives: the place of each in its row is kept."""
    whole = run(CPU, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row, "PREFILL_CHUNK", 3)
        assert run(CPU, 2)[0] == whole[0]


def test_what_does_not_fit_is_said_of_caches() -> None:
    """A device without room for the caches is told in words, with the size that was asked for."""

    class Full(PretendDevice):
        def __torch_dispatch__(
            self, function: object, types: object, args: object = (), kwargs: object = None
        ) -> object:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")

    with Full(), pytest.raises(PackageError, match="too little memory for the caches of 2 × 40 tokens") as caught:
        Caches(PROGRAM, 2, 40, DEVICE)
    assert caught.value.causes == ("CUDA out of memory. Tried to allocate 20.00 GiB.",)

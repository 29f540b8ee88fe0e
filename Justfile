# Everything a person does here; `just` alone lists it.
set shell := ["bash", "-euo", "pipefail", "-c"]

_default:
    @just --list --unsorted

# Install maxbuild and its tools into the active environment.
setup:
    pip install -e ".[dev]"

# Lint, format and types.
check:
    ruff check maxbuild kernels tests examples bench
    ruff format --check maxbuild kernels tests examples bench
    mypy

# All tests, on all cores; arguments go to pytest.
test *arguments:
    python -m pytest -n auto --dist worksteal {{arguments}}

# The tests that take no compile: seconds, not minutes.
quick *arguments:
    python -m pytest -n auto -m "not slow" {{arguments}}

# Search for histories that break the engine, for some hours; a failure is kept in .hypothesis and tried first.
fuzz hours="1":
    #!/usr/bin/env bash
    set -euo pipefail
    end=$((SECONDS + {{hours}} * 3600))
    while ((SECONDS < end)); do
        MAXBUILD_SEARCH=fuzz MAXBUILD_FUZZ_EXAMPLES=200 python -m pytest -q tests/engine/test_engine_model.py
    done

# Format and fix what can be fixed.
fix:
    ruff check --fix maxbuild kernels tests examples bench
    ruff format maxbuild kernels tests examples bench

# Build the demo.
warm *arguments:
    maxbuild warm manifests/demo.yaml {{arguments}}

# Run one bench: null, engine, depth, decode, download, startup, targets, gpu, kernels.
bench name *arguments:
    python -m bench.{{name}} {{arguments}}

# Fetch what a machine with a GPU, torch and transformers lacks, as wheels to carry there; python: the version there.
gpu-wheels folder="dist/gpu-wheels" python="3.12":
    python -m bench.gpu_wheels {{folder}} --python {{python}}

# Check packages on this machine's NVIDIA GPU, with the wheels that `gpu-wheels` fetched; `--dry-run` needs no GPU.
gpu-check folder="dist/gpu-wheels" *arguments:
    python3 -m bench.gpu_check {{folder}} {{arguments}}

# Train the demo models again (minutes on a CPU).
train-demo *arguments:
    python examples/train_demo_models.py {{arguments}}

# Write the files that are made from code: the manifest's JSON Schema, and the page of its options.
docs:
    maxbuild schema --output manifests/manifest.schema.json
    maxbuild options --markdown --output docs/reference/options.md

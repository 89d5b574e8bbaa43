# Needs Python 3.11 to 3.13 and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-lowest faults docs format onnx web clean

help:  ## List what there is.
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(INSTALLED)  ## Create .venv and install the project into it.

$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13; say make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[demo,test]'
	@touch $@

# Two devices keep two cores busier than one device does.
demo: $(INSTALLED)  ## Train on drawings of cats, about ten minutes on two idle cores.
	JAX_NUM_CPU_DEVICES=2 $(BIN)/python -m msggan_jax.main --config=configs/demo.py \
	  --config.batch_size=auto

test: $(INSTALLED)  ## Check style and types, run the tests: six minutes on two cores.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/python -m pytest

test-slow: $(INSTALLED)  ## Run the tests that take longer, too.
	$(BIN)/python -m pytest -m ''

test-lowest:  ## Run the tests with the lowest versions that setup.cfg admits.
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python \
	  --resolution lowest-direct --editable '.[demo,test]'
	.venv-lowest/bin/python -m pytest

FAULTS ?= 200
faults: $(INSTALLED)  ## Kill, stop and damage a run of four processes FAULTS times.
	$(BIN)/python -m tests.runs.chaos --faults=$(FAULTS) --folder=runs/faults

docs: $(INSTALLED)  ## Write the reference of the configuration from its table.
	$(BIN)/python docs/reference.py

format: $(INSTALLED)  ## Bring the code into its format.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# jax2onnx asks for an older Orbax than checkpoints need: an environment of its
# own, and jax2onnx without its dependencies.
onnx:  ## Create .venv-onnx, whose Python runs `export --format=onnx`.
	$(PYTHON) -m venv .venv-onnx
	.venv-onnx/bin/python -m pip install --quiet --editable . -r launch/onnx.txt
	.venv-onnx/bin/python -m pip install --quiet --no-deps jax2onnx==0.17.1

# The export checks the files' SHA-256 once more, before it embeds them.
WEB := onnxruntime-web-1.30.0.tgz
WEB_HASH := d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71
web:  ## Fetch onnxruntime-web for `export --format=web`; needs npm.
	mkdir -p .onnxruntime-web
	cd .onnxruntime-web && npm pack --silent onnxruntime-web@1.30.0
	cd .onnxruntime-web && echo "$(WEB_HASH)  $(WEB)" | sha256sum --check
	cd .onnxruntime-web && tar xzf $(WEB) --strip-components=2 \
	  package/dist/ort.wasm.min.js \
	  package/dist/ort-wasm-simd-threaded.mjs \
	  package/dist/ort-wasm-simd-threaded.wasm
	rm .onnxruntime-web/$(WEB)

clean:  ## Remove .venv, .venv-onnx and .onnxruntime-web; data/ and runs/ stay.
	rm -rf $(VENV) .venv-onnx .onnxruntime-web

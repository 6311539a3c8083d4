# Everything a user or CI runs. `make demo`: the whole system on the embedded sample. `make test`: all checks and tests.
PYTHON ?= python3
PORT ?= 8080
# Pinned for repeatable runs. Where pip knows an index with CPU builds it takes one; else the general Linux wheel, which
# brings CUDA packages along (gigabytes): on a machine without a GPU, name a CPU wheel here.
TORCH ?= torch==2.13.0
VENV := .venv
RELEVANCE := $(VENV)/bin/relevance
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
# --no-compile: of 15,000 modules a command imports 4,000; Python compiles these when it imports them. Those of torch
# are imported, and so compiled, beside the second installation, which takes one core.
INSTALL := $(PIP) install --progress-bar off --no-compile
DEMO := build/demo
OBSERVABILITY := tests/e2e/test_observability.py

.PHONY: demo models test lint unit docs image setup clients transformers5 clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	@exec $(RELEVANCE) demo $(DEMO) --port $(PORT)

models: $(VENV)/.installed
	@$(RELEVANCE) demo $(DEMO) --models-only

setup: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml
	@echo "== set up $(VENV): $(TORCH), then the project with [train,serve]"
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "error: Python %d.%d found; expected 3.11 or newer (make PYTHON=...)" % sys.version_info[:2])'
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(INSTALL) $(TORCH)
	@echo "== torch is there; now transformers, optimum, onnxruntime, fastapi and what they need"
	@$(VENV)/bin/python -c 'import torch._dynamo' 2>/dev/null & $(INSTALL) -e '.[train,serve]'; ended=$$?; wait; exit $$ended
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "== add the tools for tests and checks"
	@$(INSTALL) -e '.[train,translate,serve,dev]'
	@touch $@

test: lint unit

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# The tests of alerts depend on the clock: they run beside the others, which have a lower priority (nice). A failure of
# either does not stop the other.
# The longest files come first, so that both processes end at about the same time.
unit: $(VENV)/.installed-dev
	@failed=0; export OMP_NUM_THREADS=1; mkdir -p build; \
	$(VENV)/bin/python -m pytest $(OBSERVABILITY) > build/observability.log 2>&1 & alerts=$$!; \
	nice -n 15 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10 \
		--ignore $(OBSERVABILITY) tests/e2e tests/contract tests/unit || failed=1; \
	wait $$alerts || failed=1; echo "== $(OBSERVABILITY)"; cat build/observability.log; \
	exit $$failed

# The site of the docs, build/site/index.html; a broken link is an error.
docs: $(VENV)/.installed-dev
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python docs/site/pages.py

# Other rerankers' clients, in an environment of their own: some hundred packages, for tests/contract/service/api/rerank/test_real_clients.py.
clients: .venv-clients/.installed

.venv-clients/.installed: requirements/clients.txt
	@$(PYTHON) -m venv --clear .venv-clients
	@.venv-clients/bin/python -m pip --disable-pip-version-check install -q --no-deps --no-compile -r $<
	@touch $@

# transformers 5 over the packages of $(VENV), for tests/contract/training/test_transformers5.py: training works with it.
transformers5: .venv-transformers5/.installed

.venv-transformers5/.installed: requirements/transformers5.txt | $(VENV)/.installed-dev
	@$(VENV)/bin/python -m venv --clear .venv-transformers5
	@below=$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); .venv-transformers5/bin/python -c \
		'import pathlib, sys, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "below.pth").write_text(sys.argv[1])' $$below
	@.venv-transformers5/bin/python -m pip --disable-pip-version-check install -q --no-deps --no-compile -r $<
	@touch $@

image: $(VENV)/.installed-dev
	CHECK_IMAGE=1 $(VENV)/bin/python -m pytest tests/contract/project/test_image.py  # as root: the Dockerfile's steps in a chroot

clean:
	rm -rf build

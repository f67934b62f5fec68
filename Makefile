# make demo, make test, make test-all, make lint: each installs what it needs into .venv first.
# make experiments: runs experiments/ and writes their report.
# make proofs: compiles proofs/ and lists the theorems with their axioms; it needs Coq from Debian.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
IMAGES := experiments/images
RESULTS := experiments/results

COQ := coq libcoq-mathcomp-algebra libcoq-flocq libcoq-coquelicot

.PHONY: demo test test-all lint proofs experiments bench clean

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else "patchsim needs Python 3.10 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/patchsim match $(IMAGES)/astronaut.png $(IMAGES)/badge.png --output $(RESULTS)/demo-match.png --heatmap $(RESULTS)/demo-map.png
	$(BIN)/patchsim match $(IMAGES)/astronaut.png $(IMAGES)/turned.png --scales=0.7,0.8,0.9 --angles=-45:45:15 --subpixel --figure $(RESULTS)/demo.png
	@echo 'wrote $(RESULTS)/demo.png, demo-match.png and demo-map.png'

# A process on each core. Threads that wait for work in a loop would take its core from another.
PYTEST := OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal --durations=10

test: $(INSTALLED)
	$(PYTEST) --hypothesis-profile=quick

# All tests, and ten times as many examples.
test-all: $(INSTALLED)
	$(PYTEST) -m ''

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict patchsim

proofs:
	@command -v coqc coqchk >/dev/null || { echo 'no Coq here; on Debian or Ubuntu: sudo apt-get install -y $(COQ)' >&2; exit 1; }
	$(MAKE) -C proofs --jobs=2 --no-print-directory
	proofs/check

# Everything that the report shows, in about 20 minutes; QUICK=1 takes a few, and writes to
# experiments/results/quick/. One of them alone: make experiments ONLY=accuracy.
experiments: $(INSTALLED)
	$(BIN)/python experiments/run_all.py $(if $(filter-out 0,$(QUICK)),--quick) $(if $(ONLY),--only $(ONLY))

# Skips what would take a contestant more than LIMIT seconds a call; 60 measures nearly everything.
LIMIT ?= 1
bench: $(INSTALLED)
	$(BIN)/python experiments/speed.py targets
	$(BIN)/python experiments/speed.py grid --limit $(LIMIT)

clean:
	rm -rf $(VENV) build *.egg-info
	$(MAKE) -C proofs --no-print-directory clean

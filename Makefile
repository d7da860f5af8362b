# Two commands do everything on a fresh machine: `make demo` and `make test`. Both set up .venv themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
RUN    := runs/neox-arith
CORPUS := runs/corpus
READER := runs/models/neox-corpus
AXIOMS := runs/axioms/small

.PHONY: demo influence axioms test test-slow lint bench bench-count bench-gpu bench-axioms-gpu bench-explorer explore train wheel clean

# torch is pinned in the lock file: a plain `pip install torch` would fetch another build of several GB.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "arithcirc needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

demo: $(STAMP)
	$(BIN)/arithcirc analyze
	@echo
	@echo "Open the report in a browser: $(RUN)/step4000/report.html"

# Which documents taught a small model its facts and rules: corpus, training, labels of its neurons, influence, report.
influence: $(STAMP)
	$(BIN)/arithcirc influence corpus --out $(CORPUS)
	$(BIN)/arithcirc influence train $(CORPUS) --out $(READER)
	$(BIN)/arithcirc analyze $(READER) --operators "+-" --operands 0..19
	$(BIN)/arithcirc influence fit $(READER) --corpus $(CORPUS)
	$(BIN)/arithcirc influence score $(READER) --corpus $(CORPUS) --births
	$(BIN)/arithcirc influence report $(READER)

# Small models that learn a causal axiom, four kinds of positions on three mixes: trained, asked, two opened, reported.
axioms: $(STAMP)
	$(BIN)/arithcirc axioms study
	$(BIN)/arithcirc axioms open $(AXIOMS)/models/TS2-none-s0 --against $(AXIOMS)/models/TS2-learned-s0
	$(BIN)/arithcirc axioms report $(AXIOMS)

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow -n 2 --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python tests/bench/localize.py
	$(BIN)/python tests/bench/neurons.py
	$(BIN)/python tests/bench/heuristics.py
	$(BIN)/python tests/bench/memory.py
	$(BIN)/python tests/bench/sweep.py

# What the jobs of real size would take on an H200, counted on models without weights; needs no GPU. Then what the sweep
# of all 154 checkpoints of each Pythia model would cost, as the table in README.
bench-count: $(STAMP)
	$(BIN)/python tests/bench/predict.py
	$(BIN)/python tests/bench/sweep.py --table

# What a reader of the explorer waits for, on the shipped model's run and its sweep where there is one; needs a Chromium.
# The second line takes the pictures of README.
bench-explorer: demo
	$(BIN)/python tests/bench/explorer.py
	$(BIN)/python tests/bench/explorer_pictures.py

# The same jobs for real, random bfloat16 weights at the shapes of Pythia-6.9B and Llama-3-8B, on the GPU of this machine.
# Jobs already in bench-scale.json are skipped, so a run that was stopped goes on.
bench-gpu: $(STAMP)
	$(BIN)/python tests/bench/scale.py --shape pythia-6.9b
	$(BIN)/python tests/bench/scale.py --shape meta-llama-3-8b --jobs localize maps
	$(BIN)/python tests/bench/sweep.py --gpu pythia-6.9b

# The published recipe of axioms, 67M parameters, without positions and with learned ones; a later call goes on where this
# one stops. Without a GPU, `python tests/bench/axioms_paper.py --count` says what it would cost.
bench-axioms-gpu: $(STAMP)
	$(BIN)/python tests/bench/axioms_paper.py --minutes 120

# Analyses the shipped model first; finished stages are reused. Its run opens, all others below runs can be chosen.
explore: demo
	$(BIN)/arithcirc explore $(RUN)/step4000 runs

train: $(STAMP)
	$(BIN)/arithcirc train --recipe neox-arith

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) runs dist build .pytest_cache .mypy_cache .ruff_cache

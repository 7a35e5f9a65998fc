# Every command of Concordance; `make` lists them.

# Options are variables given on the command line. Their text is data, which neither make nor a
# shell may read: each is frozen as it was typed ($ stays $) and travels in the environment, where
# stages/__main__.py takes it from. This stands first, before anything could expand them.
override given := $(sort $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v)))
$(foreach v,$(given),$(eval override export $v := $$(value $v)))
override export CONCORDANCE_GIVEN := $(given)
quick := $(if $(filter QUICK,$(given)),$(if $(filter-out 0 no,$(value QUICK)),--quick))

override SHELL := /bin/bash
override .SHELLFLAGS := -euo pipefail -c
override PYTHON := .venv/bin/python
.ONESHELL:
.DEFAULT_GOAL := help

STAGES := discover explain layers evaluate compare concepts status verify clean sample-model doctor
.PHONY: $(STAGES) setup test bench notebooks docs lint help no-options

discover: ## Find the concepts of DATASET= (default: the bundled sample) and make their atlas
explain: ## Show the concepts in IMAGE=: those of RUN=, or K= of its own for MODEL=
layers: ## List the layers of MODEL= and which of them can be used
evaluate: ## Score RUN= against the true MASKS=
compare: ## Compare the concepts of the runs A= and B=
concepts: ## Print the concepts of RUN=
status: ## Say which stages of RUN= are done and which files are missing
verify: ## Check every file of RUN= against its record
clean: ## Remove what RUN= can make again
sample-model: ## Train the network of the bundled sample anew
doctor: ## Say whether this machine has what Concordance needs

$(STAGES): setup
	@exec $(PYTHON) -m stages $@

setup: ## Make .venv with the locked packages; every other command does it first, once
	@cmp -s requirements.lock .venv/installed.lock && exit
	fail() { printf 'setup: %s\n' "$$*" >&2; exit 2; }
	[ "$$(uname -sm)" = "Linux x86_64" ] || fail "the locked packages are for Linux x86_64 and" \
	    "this is $$(uname -sm): use conda env create -f environment.yml and python -m stages.discover"
	exec 9<requirements.lock && flock 9  # a second make waits here, and then has nothing to do
	cmp -s requirements.lock .venv/installed.lock && exit
	for python in python3.11 python3 none; do
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
	done || fail "Concordance needs Python 3.11 or newer, and neither python3.11 nor python3 is:" \
	    "install it (Debian: apt-get install python3 python3-venv) and run make setup again"
	total=$$(grep -c == requirements.lock)
	echo "setup: $$total packages into .venv with $$("$$python" --version) (once; it takes minutes)"
	# From nothing: half of an interrupted installation can look whole to pip.
	"$$python" -m venv --clear .venv >/dev/null || fail "$$python -m venv does not work:" \
	    "install its venv module (Debian: apt-get install python3-venv) and run make setup again"
	$(PYTHON) -m pip --no-input --disable-pip-version-check install --no-user --no-deps \
	    --require-hashes --progress-bar off -r requirements.lock 2>&1 | tee .venv/setup.log |
	  awk -v total="$$total" '/^ERROR/ {print "  " $$0}
	    /^(Collecting|Processing) / && ++n % 25 == 0 {print "  " n " of " total " packages fetched"; fflush()}
	    /^Installing/ {print "  installing"; fflush()}' ||
	  fail "a package could not be installed (.venv/setup.log says more);" \
	    "mend the cause and run make setup again"
	cp requirements.lock .venv/installed.part && mv .venv/installed.part .venv/installed.lock
	echo "setup: done"

test: no-options setup ## Run the tests, all but the slow ones
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m "not slow" -n auto --maxprocesses=8 --dist=loadfile

bench: setup ## Run the benchmarks beside their peers; QUICK=1: smaller cases
	@failed=0
	for name in extract factorize concepts atlas scale; do
	  $(PYTHON) -m benchmarks.$$name $(quick) || failed=1
	done
	exit $$failed

notebooks: no-options setup ## Run the notebooks and keep what they show
	@for notebook in notebooks/*.ipynb; do
	  PYTHONPATH="$$PWD" .venv/bin/jupyter-execute --inplace "$$notebook"
	done

docs: no-options setup ## Write the tables of commands and options in README.md anew
	@exec $(PYTHON) -m stages.docs

lint: no-options setup ## Check style, formatting and types
	@$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

no-options:
	@[ -z "$$CONCORDANCE_GIVEN" ] || {
	  printf 'unknown option %s; this command takes none\n' "$$CONCORDANCE_GIVEN" >&2; exit 2; }

help: ## List the commands
	@echo "make <command> [OPTION=value ...]"
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' Makefile
	echo "The options of a command: .venv/bin/python -m stages.<command> --help"

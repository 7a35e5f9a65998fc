# Every command of Concordance; `make` lists them.

ifeq ($(filter oneshell,$(.FEATURES)),)
$(error Concordance needs GNU make 3.82 or newer, this is $(MAKE_VERSION): on macOS, brew install make and type gmake)
endif

# Options are variables given on the command line. Their text is data, which neither make nor a
# shell may read: each is frozen as it was typed ($ stays $) and travels in the environment, where
# stages/__main__.py takes it from. This stands first, before anything could expand them.
override given := $(sort $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v)))
$(foreach v,$(given),$(eval override export $v := $$(value $v)))
# PYTHON and INDEX say where packages are, and are no options of the commands.
override export CONCORDANCE_GIVEN := $(filter-out PYTHON INDEX,$(given))
quick := $(if $(filter QUICK,$(given)),$(if $(filter-out 0 no,$(value QUICK)),--quick))

override SHELL := /bin/bash
override .SHELLFLAGS := -euo pipefail -c
override python := $(if $(filter PYTHON,$(given)),"$$PYTHON",.venv/bin/python)
override index := $(if $(filter INDEX,$(given)),--index="$$INDEX")
.ONESHELL:
.DEFAULT_GOAL := help

STAGES := discover explain layers evaluate compare concepts suspects pin status verify clean sample-model doctor
.PHONY: $(STAGES) setup setup-test test slow bench notebooks docs third-party sbom fuzz lint coverage \
  help no-options

discover: ## Find the concepts of DATASET= (default: the bundled sample) and make their atlas
explain: ## Show the concepts in IMAGE=: those of RUN=, or K= of its own for MODEL=
layers: ## List the layers of MODEL= and which of them can be used
evaluate: ## Score RUN= against the true MASKS=
compare: ## Compare the concepts of the runs A= and B=
concepts: ## Print the concepts of RUN=
suspects: ## Print the concepts of RUN= that move the network away from the labels
pin: ## Name CONCEPT= of RUN= as NAME=, or take the NAMES= of another run
status: ## Say which stages of RUN= are done and which files are missing
verify: ## Check every file of RUN= against its record
clean: ## Remove what RUN= can make again
sample-model: ## Train the network of the bundled sample anew
doctor: ## Say whether this machine has what Concordance needs

$(STAGES): setup
	@exec $(python) -m stages $@

setup: ## Make .venv, once; INDEX=<url> takes torch from there, PYTHON= another environment
	@$(call set_up,requirements.lock,)

setup-test:
	@$(call set_up,requirements.lock requirements-test.lock,--test)

# Whatever Python there is makes the environment: it need have no package.
define set_up
if [ -n '$(filter PYTHON,$(given))' ]; then
  exec "$$PYTHON" -m stages.setup --check="$$PYTHON"
fi
is_done=yes
for file in $(1) pyproject.toml; do cmp -s "$$file" ".venv/installed-$$file" || is_done=; done
[ -n "$$is_done" ] && [ -z '$(index)' ] && exit
for found in python3.11 python3 none; do
  "$$found" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
done || {
  echo "setup: Concordance needs Python 3.11 or newer, and neither python3.11 nor python3 is:" \
    "install it (Debian: apt-get install python3 python3-venv) and run make setup again" >&2
  exit 2
}
exec "$$found" -m stages.setup $(2) $(index)
endef

test: no-options setup-test ## Run the tests, all but the slow ones
	@OMP_NUM_THREADS=1 $(python) -m pytest -m "not slow" -n auto --maxprocesses=8 --dist=loadfile

slow: no-options setup-test ## Run the slow tests, the long ones too
	@OMP_NUM_THREADS=1 $(python) -m pytest -m slow -n auto --maxprocesses=8 --dist=loadfile

coverage: no-options setup-test ## Run the tests and list the lines of the library none of them runs
	@OMP_NUM_THREADS=1 $(python) -m pytest -m "not slow" -n auto --maxprocesses=8 --dist=loadfile \
	  --cov=pipeline --cov-report=term-missing:skip-covered

bench: setup-test ## Run the benchmarks beside their peers; QUICK=1: smaller cases
	@failed=0
	for name in extract factorize concepts thousands atlas scale datasets duplicates; do
	  $(python) -m benchmarks.$$name $(quick) || failed=1
	done
	exit $$failed

notebooks: no-options setup-test ## Run the notebooks and keep what they show
	@[ -z "$${RUN:-}" ] || export RUN="$$($(python) -c 'import os; print(os.path.abspath(os.environ["RUN"]))')"
	for notebook in notebooks/*.ipynb; do
	  $(python) -m jupyter execute --inplace "$$notebook"
	done

docs: no-options setup ## Write the tables of commands and options in README.md anew
	@exec $(python) -m stages.docs

third-party: no-options setup ## Write THIRD_PARTY.md anew: the packages of requirements.lock and their licences
	@exec $(python) -m stages.third_party

sbom: no-options setup-test ## Write a bill of materials (CycloneDX) of requirements.lock to dist/
	@mkdir -p dist
	# The dependencies among packages are not in a lock, as the tool would warn.
	$(python) -W ignore::UserWarning -m cyclonedx_py requirements --pyproject pyproject.toml \
	  --output-reproducible --output-file dist/concordance.cdx.json requirements.lock
	echo "dist/concordance.cdx.json lists $$(grep -c '"purl"' dist/concordance.cdx.json) packages"

fuzz: setup-test ## Feed damaged files to all that reads files, for MINUTES= (default: 15)
	@FUZZ_MINUTES="$${MINUTES:-15}" $(python) -m pytest tests/fuzz -n 0 --timeout=0 -s

lint: no-options setup-test ## Check style, formatting and types
	@$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

no-options:
	@[ -z "$$CONCORDANCE_GIVEN" ] || {
	  printf 'unknown option %s; this command takes none\n' "$$CONCORDANCE_GIVEN" >&2; exit 2; }

help: ## List the commands
	@echo "make <command> [OPTION=value ...]"
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' Makefile
	echo "The options of a command: .venv/bin/python -m stages.<command> --help"

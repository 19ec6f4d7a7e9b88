# Commands for developers. `make help` lists them; `make test` and `make demo` set up what they need first.
#
# PYTHON=/path/to/python   use that environment (checked, never changed) instead of making .venv
# ARGS="..."               passed on to pytest (test, test-slow) or to the demo

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Keep compiled modules: without them every process of a test compiles wnv again.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
STAMP := $(VENV)/.complete

ifdef PYTHON
run := $(PYTHON)
environment := check-environment
else
run := $(VENV)/bin/python
environment := $(STAMP)
# The stamp names its folder: a copied or moved tree, or one whose Python is gone, is set up again.
$(shell [ -x $(VENV)/bin/python ] && [ "$$(cat $(STAMP) 2>/dev/null)" = "$(CURDIR)" ] || rm -f $(STAMP))
endif

.PHONY: help setup lint test test-slow bench wheel demo check-environment

help: ## List these targets
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'
	@echo 'Options: PYTHON=/path/to/python uses that environment instead of making .venv; ARGS="..." goes to pytest or the demo.'

setup: $(environment) ## Make .venv with everything that is tested (test and demo do this themselves)
	@echo "Ready: $(run)"

lint: $(environment) ## Ruff, formatting, room contracts, types
	$(run) -m ruff check
	$(run) -m ruff format --check
	$(run) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'
	$(run) -m basedpyright --pythonpath $(run)

test: lint ## Lint, then every test that is not slow (ARGS="-n 0 PATH" runs one file without starting workers)
	$(run) -m pytest -m 'not slow' -n 2 --dist loadfile $(ARGS)

test-slow: $(environment) ## The slow tests: trainings, installed packages, commands of the READMEs
	$(run) -m pytest -m slow -n 2 --dist loadfile $(ARGS)

bench: $(environment) ## Measure a claim: NAME=attention (default) or another name of `wnv-bench`
	$(run) -m wnv.cli.bench $(or $(NAME),attention) $(ARGS)

wheel: $(environment) ## Build the wheel and the sdist into dist/
	$(run) -m build --no-isolation --outdir dist

demo: $(environment) ## Train, evaluate and render on the synthetic world; FROM_SCRATCH=1 starts without the shipped weights
	$(run) -m wnv.cli.demo $(if $(filter-out 0 no false,$(FROM_SCRATCH)),from_scratch=true) $(ARGS)

# Python 3.11 first: constraints.txt is tested with it.
define FIND_PYTHON
for name in python3.11 python3.12 python3.13 python3.14 python3; do
  if "$$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$$name"; exit; fi
done
echo 'make: no Python 3.11 or newer that can make virtual environments was found; install one (Debian, Ubuntu:' \
  'apt install python3 python3-venv), or name an environment that has the packages: make PYTHON=/path/to/python ...' >&2
exit 1
endef
export FIND_PYTHON

# The stamp is written last, so the next command completes an interrupted set-up. torch is installed first, by its exact version, so
# that no dependency chooses another build.
$(STAMP): pyproject.toml constraints.txt
	@rm -f $@
	@if ! $(VENV)/bin/python -m pip --version >/dev/null 2>&1; then \
	  base=$$(bash -c "$$FIND_PYTHON"); echo "Making $(VENV) with $$("$$base" --version)"; "$$base" -m venv --clear $(VENV); fi
	@echo 'Installing the versions of constraints.txt (some minutes the first time)'
	@$(VENV)/bin/python -m pip install --disable-pip-version-check -c constraints.txt setuptools "$$(grep '^torch==' constraints.txt)"
	@$(VENV)/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt --no-build-isolation -e '.[dev]'
	@echo "$(CURDIR)" > $@

define CHECK_ENVIRONMENT
import importlib, os, sys

install = f"{sys.executable} -m pip install -c constraints.txt -e '.[dev]'"
if sys.version_info < (3, 11):
    sys.exit(f"make: PYTHON must be 3.11 or newer, got {sys.version.split()[0]} ({sys.executable})")
try:
    import importlib.metadata, tomllib
    from packaging.requirements import Requirement
except ImportError:
    sys.exit(f"make: PYTHON={sys.executable} lacks the package packaging, and likely others; install them: {install}")
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
wanted = [*map(Requirement, project["dependencies"] + extras["dev"])]
lacking = []
for requirement in wanted:
    if requirement.marker and not requirement.marker.evaluate():
        continue
    for extra in requirement.extras if requirement.name == project["name"] else ():
        wanted += map(Requirement, extras[extra])
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        lacking.append(str(requirement))
    else:
        if not requirement.specifier.contains(version, prereleases=True):
            lacking.append(f"{requirement} (has {version})")
if lacking:
    sys.exit(f"make: PYTHON={sys.executable} lacks {', '.join(lacking)}; install them: {install}")
conf = importlib.import_module("wnv.conf").__path__[0]
if not os.path.samefile(conf, "conf"):
    sys.exit(f"make: PYTHON={sys.executable} has wnv installed from {conf}, not from this folder; install this one: {install}")
endef
export CHECK_ENVIRONMENT

check-environment:
	@$(run) -c "$$CHECK_ENVIRONMENT"

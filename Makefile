# Everything needs only Python >= 3.11 and make.
#   make report   write padding-report.html and padding-report.nc
#   make test     run all tests
#   make lint     ruff and mypy
#   make docs     build the site into build/docs
#   make bench    print the ratios to the bare forward pass
#   make gpu      test and measure on one GPU, in under five minutes; without one, say so
#   make dist     build wheel and sdist into build/dist
#   make dist-check  install each into an empty environment, import every module and write a page there
#   make lowest   test with the lowest versions that pyproject.toml allows

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DELETE_ON_ERROR:
.PHONY: report test lint docs bench gpu dist dist-check lowest clean

report: $(VENV)/installed
	$(BIN)/probe report padding --overwrite

# A worker for each core, each with one thread: tests are small, and threads would wait for one another.
test: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

# mypy looks for packages in folders of their names, which build/links has.
lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/links && mkdir -p build/links/probe
	ln -s $(CURDIR)/probe/* $(CURDIR)/analyses $(CURDIR)/reports build/links/probe/
	cd build/links && $(CURDIR)/$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache

# Ends with an error if Sphinx warns, a link leads nowhere, or a page loads anything from another host.
docs: $(VENV)/installed-docs
	$(BIN)/python docs/build.py

bench: $(VENV)/installed-test
	$(BIN)/python -m tests.benchmarks

gpu: $(VENV)/installed-test
	$(BIN)/python -m pytest tests/gpu
	$(BIN)/python -m tests.benchmarks gpu

# The wheel is built from the sdist.
dist: $(BIN)/uv
	rm -rf build/dist
	$(BIN)/uv build --quiet --out-dir build/dist

# -I and a folder elsewhere: nothing of this folder is seen. uv keeps what it has installed once, torch above all.
dist-check: dist
	set -e; for file in build/dist/*.whl build/dist/*.tar.gz; do \
	    rm -rf build/empty; $(BIN)/python -m venv build/empty; \
	    $(BIN)/uv pip install --quiet --python build/empty $$file; \
	    build/empty/bin/python -I tests/installed.py; \
	    (cd build/empty && bin/probe report padding --preset tiny); \
	    rm -rf build/empty; \
	done

# uv finds the lowest versions, which pip cannot. Old packages warn of what newer ones beside them have renamed.
LOWEST ?= tests
lowest: $(BIN)/uv
	rm -rf build/lowest
	$(PYTHON) -m venv build/lowest
	$(BIN)/uv pip install --quiet --python build/lowest --resolution lowest-direct --only-binary :all: -e '.[test]'
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest -W ignore::DeprecationWarning $(LOWEST)

$(BIN)/uv: | $(BIN)/python
	$(BIN)/python -m pip install --quiet uv

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "probe needs Python >= 3.11; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "on Debian, install python3-venv"; exit 1; }

$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build *.egg-info

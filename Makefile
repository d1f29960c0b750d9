# Two commands do everything: `make demo` runs the main job, `make test` passes the tests.
# Both install what they need into .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests run side by side.
TEST_WORKERS ?= 2
# A new lock file or pyproject makes a new installation.
INSTALLED := $(VENV)/.installed
# What benchmarks compare with has other needs, so it lives apart.
PEERS := .bench/venv
PEERS_INSTALLED := $(PEERS)/.installed

export HF_HUB_DISABLE_TELEMETRY = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: install demo demo-control demo-offline test check peers bench report clean

install: $(INSTALLED)

# The lock is installed without resolving: the pins were resolved together, and PyPI's torchvision,
# which vLLM asks for and text models never import, is built for another torch. torch comes first
# and with its own needs, which differ between the CPU and the CUDA build.
$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check setuptools==80.9.0 wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation deepspeed==0.19.8
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# The quickstart: a hidden reward, demonstrations, and whether the run found out. See README.md.
demo: install
	$(BIN)/python recipes/align.py configs/llm/quickstart.yaml
	$(BIN)/irl-align report runs/quickstart

# Control: an expert on the true reward, then ML-IRL from ten of its episodes, over five seeds.
demo-control: install
	$(BIN)/python recipes/collect_expert.py configs/control/pendulum_expert.yaml
	$(BIN)/python recipes/control_ml_irl.py configs/control/pendulum.yaml --seeds 5 --expert runs/pendulum_expert

# Offline: no step in the environment is learned from but those of others, in a data set.
demo-offline: install
	$(BIN)/python recipes/collect_expert.py configs/control/pendulum_expert.yaml
	$(BIN)/python recipes/make_offline_dataset.py configs/control/offline/pendulum_expert.yaml --out runs/offline/pendulum_data --steps 10000
	$(BIN)/python recipes/control_offline_ml_irl.py configs/control/offline/pendulum.yaml --expert runs/pendulum_expert

test: install
	$(BIN)/python -m pytest tests -n $(TEST_WORKERS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy irl_align
	$(BIN)/python -m pytest tests/core tests/theory tests/test_architecture.py

peers: $(PEERS_INSTALLED)

$(PEERS_INSTALLED): eval/bench/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r eval/bench/peers.txt
	touch $@

# Peers that cannot be installed cost their own rows only; the benchmarks that want them say so.
bench: install
	-$(MAKE) peers
	$(BIN)/python -m eval.bench

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info

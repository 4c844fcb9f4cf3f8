# Two commands for a newcomer: `make demo` and `make test`. Each makes .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
N ?= 200
DIRECTION ?= up
TIMES ?= 10
SEED ?= 20260917
PORT ?= 8080
S3_PORT ?= 9000
SIZE ?= 256
RATE ?= 16
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv demo up down kill-task test test-engine test-rest check format servers servers-stop kills kills-disks kills-big-copy faults continuity model-check live bench bench-batch dist wheel-test compose-test reference clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

venv: $(VENV)/.installed  ## .venv with everything in it, at the versions of constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	@test ! -L $(VENV) || { echo "$(VENV) is a link: bring the environment that it leads to up to date by hand"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; for another interpreter say: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "making $(VENV) (once; half a minute to some minutes, as fast as the packages come)"
	@$(PYTHON) -m venv --clear $(VENV) || { echo "no venv module: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt uv
	@$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt --build-constraint constraints.txt \
	  -e '.[test,check,bench]'
	@touch $@

demo: venv  ## a real Airflow, a real SIGKILL, a continued upload
	@$(BIN)/python -m tests.demo

up: venv  ## a whole Airflow with the example DAGs and an S3 endpoint (PORT=8080 S3_PORT=9000 SIZE=256 RATE=16)
	@$(BIN)/python -m tests.local up --port $(PORT) --s3-port $(S3_PORT) --size $(SIZE) --rate $(RATE)

kill-task: venv  ## SIGKILL to the task that runs now in the Airflow of `make up`
	@$(BIN)/python -m tests.local kill-task

down: venv  ## stop what `make up` started, and remove its files
	@$(BIN)/python -m tests.local down

test: test-engine test-rest  ## all tests; real S3 servers are used when they run (make servers)

test-engine: venv  ## the engine's unit tests, in a session where Airflow cannot be imported
	ORBIT_NO_AIRFLOW=1 $(BIN)/python -m pytest -q tests/unit/engine

test-rest: venv  ## everything else: two processes, then the end-to-end tests alone
	$(BIN)/python -m tests.servers status || true
	$(BIN)/python -m pytest -q -n 2 --dist loadscope tests --ignore=tests/unit/engine --ignore=tests/e2e
	$(BIN)/python -m pytest -q tests/e2e

check: venv  ## ruff format and lint, mypy strict, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: venv  ## let ruff put the code into shape
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

servers: venv  ## install (root, apt-get) and start Ceph, LocalStack and moto on 127.0.0.1
	$(BIN)/python -m tests.servers install
	$(BIN)/python -m tests.servers start

servers-stop: venv  ## stop what `make servers` started
	$(BIN)/python -m tests.servers stop

kills: venv  ## N uploads (DIRECTION=down: downloads; batch: every verb on 20,000 keys) killed and continued
	$(BIN)/python -m tests.kills --direction $(DIRECTION) --runs $(N) --seed $(SEED)

kills-disks: venv  ## downloads under power cuts, full and failing disks (root and strace are needed)
	$(BIN)/python -m tests.kills.disks

faults: venv  ## one fault at a time beside s3transfer, s5cmd and rclone; writes docs/trust.md (a quarter of an hour)
	$(BIN)/python -m tests.faults --seed $(SEED) --page docs/trust.md

continuity: venv  ## TIMES=10 of each: killed, timed out, cleared, cut off in a real Airflow; writes docs/durability.md
	@$(BIN)/python -m tests.continuity --times $(TIMES) --seed $(SEED) --page docs/durability.md

model-check: venv  ## versions of a bucket against a plain dict (ARGS="--store ceph --runs 20 --steps 30 --seed 1")
	$(BIN)/python -m tests.model_check $(ARGS)

live: venv  ## the live suite; wants S3_TEST_BUCKET, AWS keys, and S3_TEST_ENDPOINT for another store than AWS
	S3_TESTS_ENABLED=1 $(BIN)/python -m pytest -q -rs tests/live

bench-batch: venv  ## batches on 10,000 keys of every server of `make servers` beside Airflow's operators and s5cmd
	$(BIN)/python -m benchmarks.batch

kills-big-copy: venv  ## a copy of 6 GiB killed and continued, on Ceph when it runs (make servers), else on the model server
	$(BIN)/python -m tests.kills.big_copy

bench: venv  ## uploads, downloads, small objects and memory beside boto3, s5cmd, rclone and obstore: ratios in one run
	$(BIN)/python -m benchmarks.upload
	$(BIN)/python -m benchmarks.download --modes http,https
	$(BIN)/python -m benchmarks.small_objects
	$(BIN)/python -m benchmarks.memory

dist: venv  ## sdist and wheel in dist/
	$(BIN)/uv build --quiet --build-constraints constraints.txt --out-dir dist

compose-test: venv  ## docker-compose.yaml's services as processes (root; apt-get install postgresql redis-server)
	@$(BIN)/python -m tests.compose

reference: venv  ## docs/reference.md from the docstrings
	@$(BIN)/python -m tests.docs.reference

wheel-test: venv  ## the wheel in an empty environment, without this source tree: contents, types, the example DAG
	@$(BIN)/python -m tests.packaging

clean:  ## remove what make made, but for running servers' data
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build

# First-come-first-served coupons. `make help` lists the targets.
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

USERS ?= 1000
QUANTITY ?= 100
THREADS ?= 32
ARGS ?=
MINUTES ?= 10
RESULT ?=
SEED ?=
BROKERS ?=
WORKERS ?= 3

PYTHON_HERE := .venv/bin/python
MANAGE := bin/stack exec -- $(PYTHON_HERE) manage.py

# Tests run on a stack of their own. They never touch the data of the running stack or servers named by the caller's
# variables, so these variables are unset first. Their Kafka lives for minutes: the second compiler of the JVM never pays
# for itself there.
TEST_STACK := env $(foreach name,DATABASE_URL REDIS_URL KAFKA_BOOTSTRAP_SERVERS DJANGO_SECRET_KEY DJANGO_DEBUG \
	DJANGO_SECRET_KEY_FALLBACKS COUPON_MESSAGE_KEYS COUPON_CODE_KEYS \
	DJANGO_ALLOWED_HOSTS DJANGO_SETTINGS_MODULE WEB_PORT COUPON_API_KEYS COUPON_METRICS_DIR \
	PYTHONDONTWRITEBYTECODE, -u $(name)) JDK_JAVA_OPTIONS=-XX:TieredStopAtLevel=1 \
	STACK_HOME=.stack/test COUPON_ENV_FILE=.stack/test/env

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: up ## set everything up, let USERS=1000 on THREADS=32 apply for QUANTITY=100 coupons, check the ledger
	@bin/stack exec -- $(PYTHON_HERE) -m benchmarks.demo --users $(USERS) --quantity $(QUANTITY) --threads $(THREADS)

.PHONY: test
test: venv ## set everything up and run the test suite on WORKERS=3 stacks; ARGS="-k word" for pytest
	@bin/stack packages tests
	@$(TEST_STACK) bin/stack run $(BESIDE) -- $(PYTHON_HERE) -m pytest $(SIDE_BY_SIDE) -m "not system" $(ARGS)
# one stack a worker, since tests stop servers (tests/support/own_stack.py); one test at a time, in the order of tests/conftest.py
SIDE_BY_SIDE = -n $(WORKERS) --dist load --maxschedchunk 1 --max-worker-restart=0
BESIDE = $(patsubst %,--beside=.stack/test-%,$(shell seq 2 $(WORKERS)))

.PHONY: test-paused
test-paused: venv ## run the test suite while its processes pause at random, up to 1.6 s each: SEED=1 ARGS=...
	@bin/stack packages tests
	@$(TEST_STACK) bin/stack run $(BESIDE) -- $(PYTHON_HERE) -m tests.support.pauses --seed $(or $(SEED),1) -- \
		$(PYTHON_HERE) -m pytest $(SIDE_BY_SIDE) -m "not system" $(ARGS)

.PHONY: test-compose
test-compose: venv ## run docker-compose.yml on a container engine of its own, as root: ARGS="-k restart"
	@bin/stack packages
	@$(TEST_STACK) bin/stack run -- $(PYTHON_HERE) -m pytest -m system tests/containers $(ARGS)

.PHONY: test-system
test-system: venv ## run the tests that need cron, nginx, a browser, containers or root
	@bin/stack packages system-tests
	@$(TEST_STACK) bin/stack run -- $(PYTHON_HERE) -m pytest -m system $(ARGS)

.PHONY: fuzz
fuzz: venv ## send fuzzed requests and messages for longer: FUZZ_ROUNDS=20 FUZZ_EXAMPLES=25 FUZZ_MESSAGE_EXAMPLES=20000 CHECKOUT_EXAMPLES=300 FUZZ_SEED=...
	@bin/stack packages
	@rm -rf .stack/test*/$(FUZZED)
	@FUZZ_ROUNDS=$(or $(FUZZ_ROUNDS),20) FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),25) FUZZ_SEED=$(or $(FUZZ_SEED),1) \
		FUZZ_MESSAGE_EXAMPLES=$(or $(FUZZ_MESSAGE_EXAMPLES),20000) FUZZ_TOPIC_MESSAGES=$(or $(FUZZ_TOPIC_MESSAGES),10000) \
		CORRUPT_CAMPAIGNS=$(or $(CORRUPT_CAMPAIGNS),500) CHECKOUT_EXAMPLES=$(or $(CHECKOUT_EXAMPLES),300) \
		ATTACKS_FOLDER=$(FUZZED) $(TEST_STACK) bin/stack run $(BESIDE) -- $(PYTHON_HERE) -m pytest $(SIDE_BY_SIDE) \
		tests/scenarios/test_fuzzed_requests.py tests/unit/consumers/test_fuzzed_messages.py tests/scenarios/test_fuzzed_topic.py \
		tests/integration/reconciliation/test_corruptions.py tests/integration/redemption/test_checkout_model.py $(ARGS)
	@echo "$(PYTHON_HERE) -m faults.attacks --collect-fuzz .stack/test*/$(FUZZED)  # keeps what was counted"
FUZZED = attacks-of-fuzz

.PHONY: soak
soak: venv ## inject concurrent faults by a seeded schedule: MINUTES=10 SEED=... BROKERS=3 ARGS=--kills
	@bin/stack packages tests
	@if [ -n "$(BROKERS)" ]; then $(SOAK_STACK) bin/stack up --brokers $(BROKERS); fi
	@$(SOAK_STACK) PYTHONPATH=bin bin/stack run -- $(PYTHON_HERE) -m faults.soak --minutes $(MINUTES) --seed "$(SEED)" $(ARGS)
SOAK_STACK = $(subst .stack/test,.stack/soak$(BROKERS),$(TEST_STACK))

.PHONY: up
up: ## set up packages, .venv, the three servers, database, migrations and topic: ready to use
	@bin/stack packages
	@bin/venv & venv=$$!; bin/stack up; stack=$$?; wait $$venv && exit $$stack
	@$(MANAGE) migrate --verbosity 0
	@$(MANAGE) create_topic

.PHONY: down
down: ## stop the servers, including those of the tests
	@bin/stack down
	@for state in .stack/*/stack.json; do \
		if [ -f "$$state" ]; then STACK_HOME="$${state%/stack.json}" bin/stack down || exit 1; fi; \
	done

.PHONY: status
status: ## show each server's state; exit 0 only when all three answer
	@bin/stack status

.PHONY: env
env: ## print the settings of the running stack as KEY=value lines (make -s env)
	@bin/stack env

.PHONY: run
run: up ## run web, consumer, keeper and the scheduled jobs in the foreground; Ctrl-C ends all
	@exec bin/stack exec -- $(PYTHON_HERE) bin/run

.PHONY: web
web: up ## run the web server alone, in the foreground
	@exec bin/stack exec -- bin/web

.PHONY: consumer
consumer: up ## run the consumer alone, in the foreground; ARGS="--concurrency 2"
	@exec $(MANAGE) run_coupon_consumer $(ARGS)

.PHONY: keeper
keeper: up ## run the keeper alone, in the foreground
	@exec $(MANAGE) run_keeper $(ARGS)

.PHONY: jobs
jobs: up ## run django-crontab's CRONJOBS without a cron daemon, in the foreground
	@exec $(MANAGE) run_jobs $(ARGS)

.PHONY: bench
bench: up ## run the benchmarks on the running stack; ARGS= for their options
	-@bin/stack packages benchmarks
	@bin/stack exec -- $(PYTHON_HERE) -m benchmarks $(ARGS)

.PHONY: bench-report
bench-report: venv ## write the tables of docs/performance.md from the newest result; RESULT=file
	@$(PYTHON_HERE) -m benchmarks.report $(RESULT)

.PHONY: bench-smoke
bench-smoke: venv ## check that the benchmarks work: each part small and once, on a stack of its own
	@bin/stack packages
	@bin/stack packages benchmarks
	@$(subst .stack/test,.stack/smoke,$(TEST_STACK)) bin/stack run -- $(PYTHON_HERE) -m benchmarks.smoke

.PHONY: lint
lint: venv ## check format, lint, types and import rules
	@bin/stack env >/dev/null
	@$(PYTHON_HERE) -m ruff format --check .
	@$(PYTHON_HERE) -m ruff check .
	@$(PYTHON_HERE) -m mypy
	@PYTHONPATH=. .venv/bin/lint-imports

.PHONY: lock
lock: venv ## write requirements*.txt from the ranges in pyproject.toml; UPGRADE=1 takes the newest versions
	@$(COMPILE) -o requirements.txt pyproject.toml
	@$(COMPILE) --extra dev -c requirements.txt -o requirements-dev.txt pyproject.toml
COMPILE = CUSTOM_COMPILE_COMMAND="make lock" PYTHONWARNINGS=ignore $(PYTHON_HERE) -m piptools compile --quiet --generate-hashes --strip-extras --allow-unsafe \
	--no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)

.PHONY: venv
venv: ## install .venv from requirements-dev.txt
	@bin/venv

.PHONY: clean
clean: down ## stop the servers and remove .venv, .stack and all caches
	@rm -rf .venv .stack .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage staticfiles benchmarks/scratch
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

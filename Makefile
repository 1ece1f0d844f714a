# Every target is a line over `perennial`; the workflows call these and nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[36m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.pipeline ## Create .venv with what the pipeline needs

run: $(VENV)/.pipeline ## Run what changed of the pipeline and show the result
	@perennial run

test: $(VENV)/.dev ## Run the tests
	@pytest $(ARGS)

test-service: $(VENV)/.dev ## Run the tests of the running service (the pages need chromium-driver)
	@pytest tests/service $(ARGS)

test-e2e: $(VENV)/.dev ## Run the slow tests: whole pipelines, remotes, real tables
	@pytest tests/e2e $(ARGS)

lint: $(VENV)/.dev ## Check style, types and workflows
	@ruff check . && ruff format --check . && mypy && zizmor --offline --quiet .github

format: $(VENV)/.dev ## Format the code and mend what can be mended
	@ruff check --fix-only . && ruff format .

serve: $(VENV)/.pipeline $(VENV)/.serve ## Serve the last model on a free local port
	@perennial serve

score: $(VENV)/.pipeline ## Score a file: DATA=<csv or parquet> OUT=<csv or parquet>
	@perennial score $(or $(DATA),$(error say what to score: make score DATA=in.csv OUT=out.csv)) $(or $(OUT),$(error say where to: OUT=out.csv))

image: ## Build the serving image with docker, podman or buildah
	@scripts/image

verify: $(VENV)/.pipeline ## Tell whether dvc.lock is current, without training
	@perennial verify

reproduce: $(VENV)/.pipeline ## Train again in an empty place and compare
	@perennial reproduce

gate: $(VENV)/.pipeline ## Tell whether this tree's model may be merged: against the champion of the base commit
	@perennial gate

report: $(VENV)/.pipeline ## Write and print the report of the last gate
	@perennial report

review: $(VENV)/.pipeline ## Gate and report, as they run on a pull request
	@perennial review

pr: lint test $(VENV)/.pipeline ## All that a pull request of this branch will go through, and open the report
	@perennial review --open

comment: ## Post a run's report on its pull request (called by comment.yml)
	@PYTHONPATH=src CML_BIN=$${CML_BIN:-$(wildcard .cml/cml)} python3 -m perennial.review.comment

cml: ## Fetch CML, if CML_SHA256 is set
	@scripts/cml

release-plan: $(VENV)/.release ## Say which version this commit becomes, and why
	@perennial release-plan

release-image: $(VENV)/.release ## Build, try and push this commit's image (IMAGE=<registry>/<name>), write its SBOM
	@perennial release-image

release: $(VENV)/.release ## Tag the version, publish its page, propose it for staging (called by release.yml)
	@perennial release

promote: $(VENV)/.pipeline ## Propose for production what runs in staging
	@perennial promote

rollback: $(VENV)/.pipeline ## Propose an earlier version again: TO=v1.2.3 [ENVIRONMENT=staging]
	@perennial rollback "$${TO:?say which version: make rollback TO=v1.2.3}" --environment "$${ENVIRONMENT:-production}"

verify-image: ## Check who built IMAGE=<name>@sha256:…: release.yml of this repository, on its default branch
	@scripts/verify-image

canary: $(VENV)/.pipeline ## Let the challenger of deploy/compose.yaml answer more and more (ARGS="--shadow", "--steps 10,100" …)
	@perennial canary $(ARGS)

drift: $(VENV)/.pipeline $(VENV)/.serve ## Judge the last windows of PREDICTION_STORE: quiet, watch, data-quality or retrain
	@perennial drift $(ARGS)

watch: $(VENV)/.pipeline $(VENV)/.serve ## Drift, told in the run's summary and one standing issue (called by drift.yml)
	@perennial watch

evidently: .venv-monitor/.monitor ## Draw the last window of PREDICTION_STORE with Evidently (1 GB, an environment of its own); decides nothing
	@.venv-monitor/bin/perennial evidently $(ARGS)

retrain: $(VENV)/.pipeline $(VENV)/.serve ## Propose a model trained on the newest labelled rows, if the last drift said so
	@CML_BIN=$${CML_BIN:-$(wildcard .cml/cml)} perennial retrain

trace: $(VENV)/.pipeline ## Print what is behind a prediction: ID=<prediction id>, or TRACE=<digest, version or commit>
	@perennial trace "$${ID:-$${TRACE:?say what to trace: make trace ID=<prediction id>}}"

loop: $(VENV)/.pipeline $(VENV)/.serve ## Play three months of it: serve, drift, alarm, pull request, merge, recovery (minutes, offline)
	@perennial loop

simulate: $(VENV)/.pipeline ## Write the built-in data again (ARGS="--months 3 --drift covariate …")
	@perennial simulate $(ARGS)

track-data: $(VENV)/.pipeline ## Move data/raw under DVC: REMOTE=<folder, s3://…, gs://…, azure://…>
	@perennial track-data $(or $(REMOTE),$(error say where to: make track-data REMOTE=s3://bucket/path))

benchmark: $(VENV)/.dev ## Measure pipeline, gate, watch and service (two hours; needs wrk); writes benchmarks/
	@python benchmarks/pipeline.py && python benchmarks/gate/run.py && python benchmarks/drift/run.py && python benchmarks/serving/run.py

lock: $(VENV)/.dev ## Resolve requirements/*.txt again from pyproject.toml
	@scripts/lock

clean: ## Remove the virtual environment and every cache
	rm -rf $(VENV) .venv-monitor .dvc/cache .dvc/tmp .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.%: requirements/%.txt pyproject.toml
	@scripts/install $*

.venv-monitor/.monitor: requirements/monitor.txt pyproject.toml
	@scripts/install monitor .venv-monitor

.PHONY: help setup serve score image gate report review pr comment cml release-plan release-image release promote rollback verify-image drift watch evidently retrain canary trace run test test-service test-e2e lint format verify reproduce loop simulate track-data benchmark lock clean

# The two commands of the README are `make demo` and `make test`; each does all its own set-up.

PYTEST = .venv-$(1)/bin/python -m pytest -q -p no:cacheprovider

.PHONY: demo test test-newest test-oldest bench lint venv-newest venv-oldest venv-lint clean

test: test-newest test-oldest

test-newest: venv-newest
	$(call PYTEST,newest) tests/unit tests/functional tests/integration

test-oldest: venv-oldest
	$(call PYTEST,oldest) tests/unit tests/functional

demo: venv-newest
	.venv-newest/bin/python tests/demo.py

bench: venv-newest
	$(call PYTEST,newest) tests/bench

lint: venv-lint
	.venv-lint/bin/ruff check .
	.venv-lint/bin/ruff format --check .
	find formulas -name '*.sls' -exec .venv-lint/bin/salt-lint {} +

venv-newest venv-oldest venv-lint: venv-%:
	tests/provision $*

clean:
	rm -rf .venv-newest .venv-oldest .venv-lint artifacts

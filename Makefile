# `make demo` and `make test` set up all that they need.

PYTEST = .venv-$(1)/bin/python -m pytest -q -p no:cacheprovider
# the tests see no other process of the machine
ISOLATED = tests/isolated $(PYTEST)
# the virtualenvs that a suite needs; none with READY=yes, because then all are ready
NEEDS = $(if $(READY),,$(1:%=venv-%))
UML = uml-faults uml-machines uml-data uml-rest

# tests that the oldest Salt does not need: they test utils (plain Python), or have a short form in another file
UTILS = test_config_against_uwsgi test_gravity_config test_gravity_formula test_gravity_units test_gunicorn test_luks_header test_nginx \
	$(addprefix managers/,test_gravity_update test_supervisord test_systemd test_uwsgi_process)

SALT = newest

.PHONY: changelog coverage help demo demo-small docs galaxy galaxy-short test test-one test-functional test-integration test-unit test-debian test-middle test-oldest bench scale killtest fuzz pillar lint slow uml uml-data uml-faults uml-machines uml-rest venv-newest venv-middle venv-oldest venv-lint venv-docs venv-bed venv-bed-old venv-galaxy clean

# the first target: make without a target shows it
help:
	@sed -n '/^| `make/{s/^| //;s/ |$$//;s/`//g;s/ | /: /;p}' README.md

# make test-one T=tests/unit/test_galaxy_spec.py [SALT=oldest]; T may have all arguments of pytest
test-one: venv-$(SALT) venv-bed venv-bed-old
	$(call ISOLATED,$(SALT)) $(T)

# Three suites at a time on two cores, because each of them often waits; the longest first. A suite's output comes when
# it ends. If one fails, the others go on.
test:
	$(MAKE) --no-print-directory --output-sync=target -j2 venv-newest venv-oldest venv-bed venv-bed-old
	$(MAKE) --no-print-directory --keep-going --output-sync=target -j3 READY=yes test-functional test-oldest $(UML) test-integration galaxy-short test-unit

test-functional test-integration test-unit: $(call NEEDS,newest bed bed-old)
test-functional:
	$(call ISOLATED,newest) -m 'not slow' tests/functional
test-integration:
	$(call ISOLATED,newest) -m 'not slow' tests/integration
test-unit:
	$(call ISOLATED,newest) -m 'not slow' tests/unit tests/fuzz

# what may differ with another Salt: the tree's rules, the loader, modules, states, runners, managers, the formula
test-oldest test-middle: test-%: $(call NEEDS,% bed bed-old)
	$(call ISOLATED,$*) -m 'not slow' tests/unit/test_tree.py tests/functional $(UTILS:%=--ignore=tests/functional/%.py)

# modules and formula on another release of Debian (RELEASE=trixie: Debian 13), without systemd: no container runs there
test-debian:
	tests/elsewhere $(or $(RELEASE),trixie) -m 'not slow' -k 'not systemd' tests/unit/test_tree.py tests/functional/modules \
		$(addprefix tests/functional/,test_formula.py test_gunicorn.py test_loader.py test_onedir.py test_runners.py)

# real dm-crypt in user-mode Linux: volumes, refusals, states, remote control, a short kill test, a machine that reboots
uml:
	$(MAKE) --no-print-directory --output-sync=target -j2 $(UML)

$(UML): $(call NEEDS,newest)
uml-data:
	$(call PYTEST,newest) tests/uml/test_guest.py -k 'crash or volume or migration'
uml-faults:
	$(call PYTEST,newest) tests/uml/test_guest.py -k 'faults or truth or unattended'
uml-rest:
	$(call PYTEST,newest) tests/uml/test_guest.py -k 'not (crash or volume or migration or faults or truth or unattended)'
uml-machines:
	$(call PYTEST,newest) -m 'not slow' --ignore=tests/uml/test_guest.py tests/uml

# The long tests: a fleet's table of eight machines, a rolling restart of four behind nginx, a beacon, double starts,
# fifty machines after a power cut, a boot without the key.
slow: venv-newest venv-bed
	$(call PYTEST,newest) -m slow tests/integration tests/uml
	$(call ISOLATED,newest) -m slow tests/functional

# cuts the power at 200 random moments within every operation that writes, and makes 200 disks that lost writes
killtest: venv-newest
	nice .venv-newest/bin/python tests/uml/killtest.py --kills $(or $(KILLS),200)
	nice .venv-newest/bin/python tests/uml/lostwrites.py --images $(or $(IMAGES),200)

# each parser of foreign text gets 3,000 inputs a test, 123,000 in all; half an hour
fuzz: venv-newest
	FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),3000) $(call ISOLATED,newest) tests/fuzz
	.venv-newest/bin/pip install -q --no-deps atheris==3.0.0 || true
	.venv-newest/bin/python tests/fuzz/guided.py $(or $(FUZZ_EXAMPLES),3000)

# writes pillar.example and docs/pillar.schema.json from the declaration of all settings
pillar: venv-newest
	.venv-newest/bin/python tests/support/pillar_docs.py

# The real Galaxy: a short test with SQLite; with PostgreSQL also a job, health and a rolling restart. 15 minutes.
galaxy: venv-newest venv-galaxy
	tests/provision postgres
	$(call ISOLATED,newest) tests/galaxy

# The real Galaxy in short: the state starts it, galaxy.status and galaxy.health see it, the state stops it.
galaxy-short: $(call NEEDS,newest) venv-galaxy
	$(call ISOLATED,newest) -m 'not slow' tests/galaxy

demo:
	@echo 'Installs Galaxy 26.1 in .venv-galaxy (1.6 GB), Salt in .venv-newest (250 MB), and as root on Debian 12 nginx and redis.'
	@$(MAKE) --no-print-directory venv-newest venv-galaxy
	tests/isolated .venv-newest/bin/python tests/demo.py

# the same demo, with a stand-in for Galaxy's application
demo-small:
	@echo 'Installs Gravity, gunicorn and Celery in .venv-bed (80 MB), Salt in .venv-newest (250 MB), and as root on Debian 12 nginx.'
	@$(MAKE) --no-print-directory venv-newest venv-bed
	tests/isolated .venv-newest/bin/python tests/demo.py --small

# BENCH_SHARE=0.1 takes a tenth of the rounds
bench: venv-newest venv-bed
	BENCH_SHARE=$(or $(BENCH_SHARE),1) $(call ISOLATED,newest) tests/bench

# a thousand machines that start after one power cut (docs/boot.md), and a thousand beacons; hours
scale: venv-newest
	tests/isolated .venv-newest/bin/python tests/bench/scale.py --machines $(or $(MACHINES),1000)

lint: venv-lint
	.venv-lint/bin/ruff check .
	.venv-lint/bin/ruff format --check .
	.venv-lint/bin/mypy
	find formulas -name '*.sls' -exec .venv-lint/bin/salt-lint {} +
	.venv-lint/bin/yamllint -s .pre-commit-config.yaml docs/monitoring pillar.example pillar.minimal

# names the lines of _utils that no test runs; subprocesses and guests count. COVERAGE names other suites
coverage: venv-newest venv-bed venv-bed-old
	.venv-newest/bin/pip install -q --no-deps coverage==7.17.3
	rm -rf artifacts/coverage && mkdir -p -m 1777 artifacts/coverage
	-tests/isolated .venv-newest/bin/coverage run -m pytest -q -p no:cacheprovider -m 'not slow' $(or $(COVERAGE),tests/unit tests/functional)
	-$(if $(COVERAGE),,.venv-newest/bin/coverage run -m pytest -q -p no:cacheprovider tests/uml/test_guest.py)
	.venv-newest/bin/coverage combine -q
	.venv-newest/bin/coverage report

# moves the fragments of changelog.d into CHANGELOG.md, below the number in VERSION
changelog: venv-lint
	.venv-lint/bin/towncrier build --yes --version "$$(cat VERSION)"

# fails at each warning: a broken link, a docstring that is not reStructuredText
docs: venv-docs
	.venv-docs/bin/sphinx-build -q -W --keep-going -b html docs artifacts/docs
	@echo artifacts/docs/index.html

venv-newest venv-middle venv-oldest venv-lint venv-docs venv-bed venv-bed-old venv-galaxy: venv-%:
	tests/provision $*

clean:
	rm -rf .venv-newest .venv-middle .venv-oldest .venv-lint .venv-docs .venv-bed .venv-bed-old .venv-galaxy artifacts

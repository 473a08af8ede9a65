# Everything starts on a fresh machine: each target makes what it needs, and a second run is quick.
PYTHON ?= python3
PREPARE = $(PYTHON) tools/prepare.py
TESTS = .venv/bin/python tools/run_tests.py
# Further words for pytest: make test ARGS="-k name"; --serial: one pytest after the other
ARGS ?=
# The Python of make unit and make portable: make unit PY=3.11
PY ?=
VENV_OF_PY = .venv$(if $(PY),-py$(PY))
UNIT = -m pytest tests/unit -m "not slow" $(ARGS)
# Tests of what runs anywhere: option parsing, keys and file formats. The rest needs Linux (/proc, pidfd, peer credentials).
PORTABLE = $(wildcard tests/unit/test_flags_*.py) $(addprefix tests/unit/test_,keys.py known_hosts.py krl.py certificates.py packets.py)
# Plays that make test-all also runs where OpenSSH's client is not installed
PLAYS_WITHOUT_OPENSSH = $(addprefix tests/ansible/test_,main_path.py connection_options.py become_plays.py modules.py bastion.py)
# How long make fuzz searches, all targets together
SECONDS ?= 60
# What make coverage runs, and the percentage of lines below which it fails
COVERAGE_TESTS ?= tests/unit tests/integration
COVERAGE_FLOOR ?= 77

.PHONY: demo test test-all core-targets other-suites coverage bench bench-library fuzz lint unit unit-oldest unit-upstream portable docs man release clean

demo:
	@$(PREPARE) main
	.venv/bin/pmitogen demo

test:
	@$(PREPARE) system main:test 2.22
	$(TESTS) $(ARGS)

test-all:
	@$(PREPARE) system main:test 2.16 2.17 2.18 2.19 2.20 newest others extras library
	PMITOGEN_FUZZ_SECONDS=600 PMITOGEN_REKEY_SECONDS=300 $(TESTS) --all --timeout 1200 $(ARGS)
	$(TESTS) --off $(ARGS)
	$(TESTS) --no-openssh $(PLAYS_WITHOUT_OPENSSH)

# Percentage of lines that the tests run, in processes that they start as well; the report names the lines that they do not run.
coverage:
	@$(PREPARE) system main:test
	rm -rf build/coverage && mkdir -p build/coverage
	.venv/bin/coverage run -m pytest $(COVERAGE_TESTS) -m "not slow" $(ARGS) \
	    || echo "coverage: tests failed; those with limits of time, memory or files may, when measured: make test decides"
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage html --quiet --directory build/coverage/html
	.venv/bin/coverage report --fail-under $(COVERAGE_FLOOR)

# Unit tests on one Python, on the oldest dependencies, on the development branches of Paramiko, Mitogen and ansible-core.
unit:
	@$(PREPARE) main$(addprefix @,$(PY)):test
	$(VENV_OF_PY)/bin/python $(UNIT)

unit-oldest:
	@$(PREPARE) oldest:test
	.venv-oldest/bin/python $(UNIT)

unit-upstream:
	@$(PREPARE) upstream:test
	.venv-upstream/bin/python $(UNIT)

portable:
	@$(PREPARE) main$(addprefix @,$(PY)):test
	$(VENV_OF_PY)/bin/python -m pytest $(PORTABLE) $(ARGS)

# ansible-core's own integration targets, over ssh and over pmitogen; as root: make core-targets ARGS="--core 2.21 copy file"
core-targets:
	@$(PREPARE) system main:test 2.22
	.venv/bin/python -m tests.core_targets $(ARGS)

# Tests of OpenSSH, rsync and git with our programs, as root: make other-suites SOURCES=DIR, with their sources in DIR/openssh and so on
other-suites:
	@[ -n "$(SOURCES)" ] || { echo "make other-suites: set SOURCES to the directory with openssh/, rsync/ and git/"; exit 2; }
	@$(PREPARE) system main:test
	@failed=0; for suite in openssh rsync git; do \
	    .venv/bin/python -m tests.other_suites $$suite $(SOURCES)/$$suite $(ARGS) || failed=1; done; exit $$failed

bench:
	@$(PREPARE) system main:test 2.22 2.21@3.13
	.venv/bin/python -m bench $(if $(QUICK),--quick) $(ARGS)

# The library beside asyncssh, Paramiko, fabric and parallel-ssh.
bench-library:
	@$(PREPARE) system main:test library
	.venv/bin/python -m bench.library $(if $(QUICK),--quick) $(ARGS)

fuzz:
	@$(PREPARE) system main:test
	.venv/bin/python -m tests.hostile.fuzzing --seconds $(SECONDS) $(ARGS)

lint:
	@$(PREPARE) main:test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/codespell
	.venv/bin/python tools/docs/prose.py
	.venv/bin/check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.venv/bin/check-jsonschema -q --builtin-schema vendor.dependabot .github/dependabot.yml
	.venv/bin/zizmor -q --offline --no-progress .github

# The documentation site, in build/site; it needs no server. A warning is an error, and so is a link that leads nowhere.
docs:
	@$(PREPARE) docs
	rm -rf build/site
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build -q
	.venv-docs/bin/python tools/docs/links.py build/site

# The manual page and the completions, in dist/.
man:
	@$(PREPARE) main
	mkdir -p dist
	.venv/bin/pmitogen manual > dist/pmitogen.1
	for shell in bash zsh fish; do .venv/bin/pmitogen completion $$shell > dist/pmitogen.$$shell || exit 1; done

# Wheel, source distribution, collection, bill of materials and checksums in dist/; uploads nothing. TAG=1 also sets the tag.
release:
	@$(PREPARE) release
	.venv-release/bin/python tools/release.py $(if $(TAG),--tag)

clean:
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# make          both halves: the extension's scripts and the runner
# make test     everything; T=sql-tests/plan/table.sql that file, T=RoneoTests those Swift tests
# make demo     two throw-away clusters, end to end
# make help     the rest

PREFIX    ?= /usr/local
PG_CONFIG ?= pg_config
SWIFT     ?= swift
RELEASE    = -c release --static-swift-stdlib
RONEO      = .build/release/roneo
UNITS      = $(wildcard packaging/systemd/*.service packaging/systemd/*.timer)
UNIT_DIR   = $(DESTDIR)$(PREFIX)/lib/systemd/system
SYSUSERS_DIR = $(DESTDIR)$(PREFIX)/lib/sysusers.d
# Runs a command on a server that has the extension, whatever is installed on the machine.
STAGED     = scripts/with-extension
# What "roneo install" puts below PREFIX/share.
SHELL_FILES = man/man1/roneo.1 bash-completion/completions/roneo \
	zsh/site-functions/_roneo fish/vendor_completions.d/roneo.fish
SCRIPTS    = $(filter-out %.sql %.md %.txt %.pl,$(wildcard .ci/* scripts/* sql-tests/run sql-tests/*/*))

export PG_CONFIG

all: extension runner

extension:
	$(MAKE) -C extension

runner:
	$(SWIFT) build $(RELEASE) --product roneo

ifeq ($(T),)
test: bootstrap lint sql-test swift-test server-test stress-test
else ifneq ($(filter %.sql,$(T)),)
test: bootstrap
	sql-tests/run -v $(T)
else ifneq ($(filter %/check sql-tests/servers/%,$(T)),)
test: bootstrap
	prove -v --exec bash $(T)
else
test: bootstrap
	$(STAGED) $(SWIFT) test --filter '$(T)'
endif

bootstrap:
	scripts/bootstrap test

lint:
	shellcheck -x $(SCRIPTS)
	$(SWIFT) format lint --strict --recursive Package.swift Sources Tests

sql-test:
	$(MAKE) -C extension check-frozen
	sql-tests/run

# Upgrades; and crashes, standbys, restored servers, networks that are cut and the like, with the
# runner that the Swift tests have built.
server-test:
	prove -j 2 --timer --exec bash sql-tests/servers/check sql-tests/servers/captures \
		sql-tests/servers/restarts sql-tests/servers/network sql-tests/servers/stopped \
		sql-tests/upgrade/check

# Late rows, and captures, under kills of the runner, of backends and of servers; longer ones find more.
stress-test:
	sql-tests/stress/late_rows 10
	sql-tests/stress/captures 10
	sql-tests/stress/verify 20

# Between versions of PostgreSQL, for whoever has several: BINDIRS='/usr/lib/postgresql/*/bin'
version-test:
	sql-tests/versions/check $(BINDIRS)

swift-test:
	$(STAGED) $(SWIFT) test

demo:
	scripts/bootstrap demo
	$(MAKE) runner
	$(STAGED) $(RONEO) demo

bench:
	scripts/bootstrap bench
	$(MAKE) all
	sql-tests/bench/run

# The list that sql-tests/api.sql compares the public interface with; look at its diff.
api:
	sql-tests/run --write-api

install: all
	$(MAKE) -C extension install
	install -d '$(DESTDIR)$(PREFIX)/bin'
	install -m 755 $(RONEO) '$(DESTDIR)$(PREFIX)/bin/roneo'
	$(MAKE) install-units
	DESTDIR='$(DESTDIR)' $(RONEO) install --without-extension --prefix '$(PREFIX)'

uninstall:
	$(MAKE) -C extension uninstall
	rm -f '$(DESTDIR)$(PREFIX)/bin/roneo'
	rm -f $(foreach file,$(SHELL_FILES),'$(DESTDIR)$(PREFIX)/share/$(file)') \
		'$(DESTDIR)/etc/fish/completions/roneo.fish'
	rm -f $(UNITS:packaging/systemd/%='$(UNIT_DIR)/%') '$(SYSUSERS_DIR)/roneo.conf'

# Where systemd looks for what an administrator has installed; nothing is enabled or started.
install-units:
ifeq ($(shell uname -s),Linux)
	install -d '$(UNIT_DIR)' '$(SYSUSERS_DIR)'
	install -m 644 $(UNITS) '$(UNIT_DIR)/'
	sed -i 's|/usr/local/bin/|$(PREFIX)/bin/|' $(UNITS:packaging/systemd/%='$(UNIT_DIR)/%')
	install -m 644 packaging/systemd/roneo.sysusers '$(SYSUSERS_DIR)/roneo.conf'
endif

freeze:
	$(MAKE) -C extension freeze

format:
	$(SWIFT) format --in-place --recursive Package.swift Sources Tests

clean:
	$(MAKE) -C extension clean
	rm -rf .build

help:
	@echo 'make                build the extension and the runner (.build/release/roneo)'
	@echo 'make test           every test, on throw-away clusters; installs what they need'
	@echo 'make test T=FILE    one file of sql-tests, or the Swift tests of that name'
	@echo 'make version-test   copies between the servers in BINDIRS, such as /usr/lib/postgresql/*/bin'
	@echo 'make demo           two throw-away clusters, end to end; installs what it needs'
	@echo 'make bench          measure side by side with peers'
	@echo 'make lint           shellcheck and swift format'
	@echo 'make format         format the Swift sources'
	@echo 'make api            write the list of public signatures again'
	@echo 'make install        extension where pg_config says; roneo, manual, completions, units to PREFIX'
	@echo 'make uninstall      take both away again'
	@echo 'make freeze         copy the built extension scripts to extension/released'
	@echo 'make clean          remove what was built'
	@echo 'Honoured: PG_CONFIG, DESTDIR, PREFIX, SWIFT; KEEP=1 keeps a test cluster.'

.PHONY: all extension runner test bootstrap lint sql-test swift-test server-test stress-test \
	version-test demo bench api install install-units uninstall freeze format clean help

# The steps of a test run change the machine in turn; bootstrap comes first.
.NOTPARALLEL:

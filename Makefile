# vitrine: every target does its own set-up. `make help` lists them.

, := ,
SHELL      := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := all

# sudo drops the directory of a Go that was not installed by a package.
export PATH := $(PATH):/usr/local/go/bin
export GOFLAGS := -buildvcs=false

GO      := go
BIN     := $(CURDIR)/bin
VERSION := $(shell git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)

# The image and storage libraries without C: OpenPGP in Go, no btrfs, no Docker daemon.
# NRI plugins are processes; an interpreter for WebAssembly would be 2.6 MB of the daemon.
TAGS      := containers_image_openpgp,exclude_graphdriver_btrfs,containers_image_docker_daemon_stub,nri_no_wasm
# Only the launcher links C: libcontainer's first stage and libseccomp.
C_PKGS    := ./launch/libct/... ./cmd/vitrine-launch/...
PURE_PKGS  = $$(CGO_ENABLED=0 $(GO) list -tags $(TAGS) ./... | grep -v -e '/launch/libct' -e '/cmd/vitrine-launch')
STAMP     := -X main.version=$(VERSION)

# Sizes of the torture runs: CYCLES pods, KILLS of the daemon, LINES of log, POINTS to die at, OOMKILLS.
CYCLES ?= 1000
KILLS  ?= 200
LINES  ?= 10000000
POINTS ?= 1000
# WATCHED containers under load, UPGRADES of each one's monitor, MKILLS of monitors.
WATCHED  ?= 100
UPGRADES ?= 20
MKILLS   ?= 1000
OOMKILLS ?= 1000

.PHONY: all help packages build test unit e2e e2e-handlers fields test-observe collector torture torture-short demo observe bench bench-telemetry screenshots check generate deps test-vm test-vm-short test-vm-power install uninstall clean

all: packages build ## install what is missing, build everything into bin/

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

packages: ## install missing Debian packages (needs root only when one is missing)
	@test/packages

-include network/cni.mk

build: $(BIN)/vitrined $(BIN)/vitrine-monitor $(BIN)/vitrine-launch $(BIN)/vitrine-enter $(BIN)/vitrine-shim $(BIN)/vitrine cni ## the binaries, without installing packages

$(BIN)/vitrined $(BIN)/vitrine: $(BIN)/%: FORCE
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '-s -w $(STAMP)' -o $@ ./cmd/$*

# The older collector starts with a smaller heap, and a monitor hardly ever collects.
$(BIN)/vitrine-monitor: FORCE
	GOEXPERIMENT=nogreenteagc CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w $(STAMP)' -o $@ ./cmd/vitrine-monitor

$(BIN)/vitrine-shim: FORCE
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w $(STAMP)' -o $@ ./cmd/vitrine-shim

$(BIN)/vitrine-launch: FORCE
	CGO_ENABLED=1 $(GO) build -trimpath -tags seccomp,netgo,osusergo -ldflags '-s -w $(STAMP) -linkmode external -extldflags "-static -Wl,--no-warnings"' -o $@ ./cmd/vitrine-launch

# Freestanding: no C library, 22 KB. The tests build it with the same script.
$(BIN)/vitrine-enter: $(wildcard cmd/vitrine-enter/*)
	@mkdir -p $(BIN)
	cmd/vitrine-enter/build $@

# FORCE: the go command knows better than make what is up to date.
.PHONY: FORCE
FORCE:

# $(call gotest,FLAGS,PACKAGES,ARGS OF THE TESTS). With RERUN=1 a test that failed is run
# once more, alone, and named as flaky when it then passes; with more than three failures
# nothing is run again (docs/decisions/0071).
GOTESTSUM := gotest.tools/gotestsum@v1.13.0
RUNNER    := $(CURDIR)/.cache/gotestsum
FLAKY     := $(CURDIR)/.cache/flaky
gotest     = $(if $(RERUN),$(RUNNER) --format $(if $(V),standard-verbose,pkgname) --rerun-fails=1 --rerun-fails-max-failures=3 --rerun-fails-report=$(FLAKY) --packages="$(2)" -- -count=1 -p 2 $(1),$(GO) test $(if $(V),-v) -count=1 -p 2 $(1) $(2)) $(if $(3),-args $(3))$(if $(RERUN), && { test ! -e $(FLAKY) || { sed 's/^/FLAKY: /' $(FLAKY); rm $(FLAKY); }; })

$(RUNNER): Makefile
	GOBIN=$(@D) $(GO) install $(GOTESTSUM)
	@touch $@

test: packages build unit e2e test-observe ## everything a change must pass, under 20 minutes

unit: packages $(if $(RERUN),$(RUNNER)) ## tests of the rooms
	packages=$$(echo $(PURE_PKGS) | tr ' ' '\n' | grep -v /test/); export CGO_ENABLED=0; $(call gotest,-tags $(TAGS) -timeout 8m,$$packages)
	export CGO_ENABLED=1; $(call gotest,-tags seccomp$(,)$(TAGS) -timeout 5m,$(C_PKGS))
	cd launch/seccomp && export CGO_ENABLED=1; $(call gotest,-timeout 5m,./...)

e2e: packages build $(if $(RERUN),$(RUNNER)) ## tests of the whole system
	packages=$$($(GO) list -tags $(TAGS) ./test/... | grep -v /test/observe); export CGO_ENABLED=0; $(call gotest,-tags $(TAGS) -timeout 12m,$$packages)

# A real OpenTelemetry Collector, from its modules, for the tests and for observe.
collector: .cache/otel-collector ## build the OpenTelemetry Collector of the tests
.cache/otel-collector: $(wildcard test/observe/collector/*)
	@mkdir -p .cache
	cd test/observe/collector && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(CURDIR)/$@.new .
	@mv $@.new $@

test-observe: packages build collector $(if $(RERUN),$(RUNNER)) ## the daemon with a real Collector and a real Prometheus
	@test/packages prometheus
	export CGO_ENABLED=0; $(call gotest,-tags $(TAGS) -timeout 12m,./test/observe)

# Debian 12's crun refuses a hybrid hierarchy: there its suite runs in the guest (test-vm).
HANDLERS ?= runc
e2e-handlers: packages build ## the end-to-end tests once per OCI runtime of HANDLERS as default handler
	@for handler in $(HANDLERS); do echo "e2e: $$handler"; \
	export VITRINE_TEST_HANDLER=$$handler CGO_ENABLED=0; $(call gotest,-tags $(TAGS) -timeout 12m,./test/e2e); done

# FIELDS chooses rows of test/e2e/fields.txt.
FIELDS ?= .
fields: packages build ## prove that the tests named for the fields of CRI fail without them: FIELDS
	export CGO_ENABLED=0; $(GO) test -v -count=1 -tags $(TAGS) -timeout 60m -run TestNamedTestsFailWithoutTheirField ./test/e2e -args '-prove-fields=$(FIELDS)'

torture: V = 1
torture: packages build $(if $(RERUN),$(RUNNER)) ## the long runs in full: CYCLES, KILLS, LINES, POINTS, WATCHED, UPGRADES, MKILLS, OOMKILLS
	export CGO_ENABLED=0; $(call gotest,-tags $(TAGS) -timeout 120m,./test/torture,-cycles=$(CYCLES) -kills=$(KILLS) -lines=$(LINES) -points=$(POINTS) \
		-watched=$(WATCHED) -upgrades=$(UPGRADES) -monitor-kills=$(MKILLS) -oomkills=$(OOMKILLS))

torture-short: ## the long runs as CI has time for
	$(MAKE) torture CYCLES=100 KILLS=20 LINES=1000000 POINTS=20 WATCHED=10 UPGRADES=3 MKILLS=20 OOMKILLS=200

demo: packages build ## the main job, narrated; KEEP=1 leaves it running, STOP=DIR ends that
	@CGO_ENABLED=0 $(GO) run -tags $(TAGS) ./test/demo $(if $(KEEP),--keep) $(if $(STOP),--stop $(STOP))

observe: packages build collector ## the demo with Prometheus and an OpenTelemetry Collector beside it, until Ctrl-C
	@test/packages prometheus
	@TAGS=$(TAGS) test/observe/up

bench: packages build ## figures; PEER=SOCKET, containerd or conmon measures another runtime in turns, ARGS=... more options
	@$(if $(filter containerd,$(PEER)),test/packages containerd runc)
	@$(if $(filter conmon,$(PEER)),test/packages conmon runc)
	@CGO_ENABLED=0 $(GO) run -tags $(TAGS) ./test/bench $(if $(PEER),--peer $(PEER)) $(ARGS)

bench-telemetry: packages build ## pod starts with telemetry off, on, and with a dead collector, side by side
	@CGO_ENABLED=0 $(GO) run -tags $(TAGS) ./test/bench --telemetry $(ARGS)

screenshots: build ## draw docs/screens anew: the page, vitrine trace and why; and the page by chromium into bin/screenshots
	@CGO_ENABLED=0 $(GO) run -tags $(TAGS) ./test/screens docs/screens
	@test/packages chromium
	@mkdir -p $(BIN)/screenshots
	CGO_ENABLED=0 VITRINE_SCREENSHOTS=$(BIN)/screenshots $(GO) test -count=1 -tags $(TAGS) -run TestPage ./test/e2e

check: packages generate-check ## format, vet, import policy, generated files
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	CGO_ENABLED=0 $(GO) vet -tags $(TAGS) $(PURE_PKGS)
	CGO_ENABLED=1 $(GO) vet -tags seccomp,$(TAGS) $(C_PKGS)
	CGO_ENABLED=0 $(GO) test -count=1 ./test/deps

generate: ## write generated files anew
	CGO_ENABLED=0 GOFLAGS="$(GOFLAGS) -tags=$(TAGS)" $(GO) generate ./...

# Generated files are clean when generating changes nothing; a tree with other
# changes in it may be checked too.
.PHONY: generate-check
generate-check:
	@before=$$(git diff | sha256sum; git status --porcelain); $(MAKE) --no-print-directory generate >/dev/null; \
	after=$$(git diff | sha256sum; git status --porcelain); \
	test "$$before" = "$$after" || { echo "make generate changes the tree:"; git status --short; exit 1; }

deps: ## write the reviewed import list of the monitor anew and show what changed
	CGO_ENABLED=0 $(GO) test -count=1 ./test/deps -args -update
	@git diff --stat -- docs/deps || true

test-vm: packages build ## the end-to-end tests in guests with cgroup v2 and systemd: every kernel, driver and handler
	@TAGS=$(TAGS) test/rig/test-vm

test-vm-short: packages build ## some of them, side by side within 20 minutes, as CI has time for
	@TAGS=$(TAGS) test/rig/test-vm --short

# CUTS disks of one run, each cut at another moment.
CUTS ?= 4
test-vm-power: packages build ## images and pods after power cuts, in guests: CUTS disks
	@TAGS=$(TAGS) test/rig/power-cut $(CUTS)

# Where make install puts things; DESTDIR goes before all of it. The daemon finds monitor,
# launcher, shim and the CNI plugins beside its own binary.
PREFIX  ?= /usr/local
DESTDIR ?=
UNITDIR ?= $(PREFIX)/lib/systemd/system
to       = $(DESTDIR)$(PREFIX)

install: build ## install binaries, pages, completion, unit and sample configuration; PREFIX, DESTDIR
	install -d $(to)/bin/cni $(to)/share/man/man{1,5,8} $(DESTDIR)$(UNITDIR) $(DESTDIR)/etc/vitrine
	@# A new file in the old one's place: running monitors keep theirs.
	install -m 755 $(BIN)/{vitrined,vitrine-monitor,vitrine-launch,vitrine-enter,vitrine-shim,vitrine} $(to)/bin
	install -m 755 $(BIN)/cni/* $(to)/bin/cni
	for page in docs/man/*; do install -m 644 $$page $(to)/share/man/man$${page##*.}; done
	install -d $(to)/share/{bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}
	for name in vitrine vitrined; do \
		$(BIN)/$$name completion bash > $(to)/share/bash-completion/completions/$$name; \
		$(BIN)/$$name completion zsh > $(to)/share/zsh/site-functions/_$$name; \
		$(BIN)/$$name completion fish > $(to)/share/fish/vendor_completions.d/$$name.fish; done
	sed 's|/usr/local/bin|$(PREFIX)/bin|' cmd/vitrined/vitrined.service > $(DESTDIR)$(UNITDIR)/vitrined.service
	test -e $(DESTDIR)/etc/vitrine/vitrined.toml || install -m 644 docs/vitrined.toml $(DESTDIR)/etc/vitrine/vitrined.toml

uninstall: ## remove what install put there; configuration, images and state stay
	rm -f $(to)/bin/{vitrined,vitrine-monitor,vitrine-launch,vitrine-enter,vitrine-shim,vitrine} $(DESTDIR)$(UNITDIR)/vitrined.service
	for page in docs/man/*; do rm -f $(to)/share/man/man$${page##*.}/$${page##*/}; done
	for name in vitrine vitrined; do rm -f $(to)/share/bash-completion/completions/$$name $(to)/share/zsh/site-functions/_$$name $(to)/share/fish/vendor_completions.d/$$name.fish; done
	for plugin in $(BIN)/cni/*; do rm -f $(to)/bin/cni/$${plugin##*/}; done
	rmdir --ignore-fail-on-non-empty $(to)/bin/cni

clean: ## remove what was built
	rm -rf $(BIN)

# joulepipe: everything a developer types. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec

PREFIX  ?= /usr/local
DESTDIR ?=
GO      ?= go
OUT     ?= runs/study

# go-nvml declares functions that NVIDIA has deprecated; their warnings are not ours to act on.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations

VERSION ?= $(shell git describe --tags --always 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)
DIRTY   ?= $(shell git diff --quiet HEAD 2>/dev/null && echo false || echo true)
LDFLAGS := -X joulepipe/pkg/cli.version=$(VERSION) -X joulepipe/pkg/cli.commit=$(COMMIT) -X joulepipe/pkg/cli.dirty=$(DIRTY)

# Only these two open a GPU; the rest needs no C compiler and runs anywhere.
DEVICE_TOOLS := nvpoll nvload
TOOLS := $(DEVICE_TOOLS) nvbaseline nvattrib nvsoak nvreport
BINS  := $(TOOLS:%=bin/%)

.PHONY: help build study setup test race coverage bench bench-peers fuzz ptx lint man install clean $(BINS)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(BINS) bin/gridloop ## the six binaries, in bin/, and what the GPU checks need

$(DEVICE_TOOLS:%=bin/%): CGO_ENABLED := 1
$(BINS): CGO_ENABLED ?= 0
$(BINS): bin/%:
	@mkdir -p bin
	@CGO_ENABLED=$(CGO_ENABLED) $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/$*

# The leanest grid there is, to hold ours against on a GPU machine without a compiler.
bin/gridloop: test/grid/gridloop.c
	@mkdir -p bin
	@gcc -O2 -Wall -static -o $@ $<

study: build ## the whole study, on the GPU if there is one, else on a simulated one (OUT=runs/study)
	@scripts/physics.sh --auto --quick --force $(OUT)

# Python checks the arithmetic from outside, g++ runs the GPU kernels on the CPU,
# Chromium opens the report and axe-core judges it; a clean Debian has none of them.
setup: ## what the tests need besides Go: python3, git, g++, chromium and, by npm, axe-core
	@for p in python3 git g++ chromium npm; do command -v $$p >/dev/null && continue; \
	  [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  [ $$p = chromium ] && p='chromium fonts-dejavu-core'; \
	  $$sudo apt-get update -q && $$sudo apt-get install -qy --no-install-recommends $$p; done
	@[ test/page/node_modules/.package-lock.json -nt test/page/package-lock.json ] || \
	  npm ci --prefix test/page --ignore-scripts --no-audit --no-fund --loglevel=error

test: setup ## all tests
	$(GO) test ./...

# What starts goroutines (test/layering looks whether all of it is here), or is called
# by several. The rest computes on one.
CONCURRENT := cmd/nvattrib cmd/nvload cmd/nvpoll cmd/nvsoak pkg/cli pkg/clock pkg/cuda pkg/cuda/wave pkg/energy \
  pkg/gpu/nvml pkg/gpu/replay pkg/gpu/sim pkg/load pkg/poll pkg/sched pkg/stream pkg/transformer
race: setup ## the tests of what is concurrent under the race detector, without statistics over many runs
	CGO_ENABLED=1 $(GO) test -race -short $(CONCURRENT:%=./%)

# What docs/validation/coverage.md has: half an hour on two processors.
RUNS ?= 1000
coverage: ## how often intervals hold the truth, by RUNS simulated runs of each sensor and 500 of a heat soak
	$(GO) test ./pkg/energy -timeout 0 -v -run TestSimulatedSensors -args -runs $(RUNS)
	$(GO) test ./pkg/thermal -timeout 0 -v -run RandomRuns -args -runs 500

bench: ## benchmarks of the hot paths: records/s and allocations
	$(GO) test -run '^$$' -bench . -benchmem ./pkg/...

bench-peers: build ## nvattrib beside polars, DuckDB, pandas and Miller (test/peers)
	@test/peers/setup.sh
	@test/peers/bench.py

FUZZTIME ?= 10s
fuzz: ## every fuzz target for FUZZTIME
	@grep -rlE '^func Fuzz' --include='*_test.go' pkg | xargs -n1 dirname | sort -u | while read -r dir; do \
	  for f in $$($(GO) test -list '^Fuzz' ./$$dir | grep '^Fuzz'); do \
	    echo "$$dir $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) ./$$dir; \
	  done; done

# Clang needs no CUDA toolkit for this, and writes PTX that drivers have understood
# since 2020; what nvcc 13 writes only those of 2025 do. The first line says what the text was made
# of, and what it was, so that a test can tell when one of them was changed alone.
CUDA_CC ?= clang-16 -x cuda --cuda-device-only --cuda-gpu-arch=sm_80 -nocudainc -nocudalib -O3 -S
ptx: ## the GPU kernels, from their CUDA C (CUDA_CC='nvcc -ptx -arch=compute_80')
	@cd pkg/cuda/kernels; for source in *.cu; do \
	  $(CUDA_CC) -std=c++17 -o ptx.new $$source; \
	  sed -i '/^[[:space:]]*\/\//d; /^$$/d' ptx.new; \
	  { echo "// of $$(cat device.h $$source | sha256sum | cut -c-64), text $$(sha256sum <ptx.new | cut -c-64)"; cat ptx.new; } >$${source%.cu}.ptx; \
	  rm ptx.new; \
	done

lint: ## gofmt, go vet, staticcheck, go mod tidy
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "not gofmt'ed: $$out"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff
	@bash -n scripts/*.sh test/gpu/*.sh .ci/run

man: build ## manual pages in man/, completions in completions/
	@mkdir -p man completions
	@for t in $(TOOLS); do \
	  bin/$$t --generate-man >man/$$t.1; \
	  bin/$$t --generate-completion bash >completions/$$t.bash; \
	  bin/$$t --generate-completion zsh >completions/_$$t; \
	  bin/$$t --generate-completion fish >completions/$$t.fish; \
	done

install: man ## binaries, manual pages and completions under DESTDIR/PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 \
	  $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	  $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 755 $(BINS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(TOOLS:%=man/%.1) $(DESTDIR)$(PREFIX)/share/man/man1
	for t in $(TOOLS); do \
	  install -m 644 completions/$$t.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$t; \
	  install -m 644 completions/_$$t $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$t; \
	  install -m 644 completions/$$t.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$t.fish; \
	done

clean: ## what the other targets have made, but the runs
	rm -rf bin man completions

# Sluice. `make help` lists the targets; CI runs `.ci/run`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

GO       ?= go
BIN      := bin
FUZZTIME ?= 20s
DEMO     ?=
PKGS     ?= ./...
HEAVY    := /test/(attack|e2e|envoydiff)$$
TOOLS    := -modfile=tools/go.mod
MODULES  := test/conformance test/family # with a go.mod of their own, which ./... leaves out

.PHONY: help build test race plant lint run bench pgo attack conformance family fuzz check clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/dataplane and bin/controlplane
	@mkdir -p $(BIN)
	$(GO) build -trimpath -o $(BIN)/ ./cmd/dataplane ./cmd/controlplane

test: ## Run every test
	$(GO) test -shuffle=on -timeout 20m $(PKGS)

race: ## Run every test under the race detector, those that load the machine one after the other
	@all=$$($(GO) list $(PKGS)); light=$$(grep -vE '$(HEAVY)' <<<"$$all"); heavy=$$(grep -E '$(HEAVY)' <<<"$$all"); \
	{ [ -z "$$light" ] || $(GO) test -race -shuffle=on -timeout 40m $$light; } && \
	{ [ -z "$$heavy" ] || $(GO) test -race -shuffle=on -timeout 40m -p 1 $$heavy; }

plant: ## Plant faults in the core and see the simulation find each
	$(GO) test -tags plant -timeout 40m ./dataplane/worker -run Planted

lint: ## Check formatting, vet, linters
	@files=$$(git ls-files '*.go') && [ -n "$$files" ] || { echo "git lists no files"; exit 1; }; \
	out=$$(gofmt -l $$files); if [ -n "$$out" ]; then echo "not gofmt'ed:"; echo "$$out"; exit 1; fi
	$(GO) vet $(PKGS)
	GOOS=darwin $(GO) vet $(PKGS)
	@set -e; for m in $(MODULES); do echo "$(GO) vet ./... ($$m)"; (cd $$m && $(GO) vet ./...); done
	$(GO) tool $(TOOLS) golangci-lint run

run: build ## Watch a control plane steer two proxies (DEMO=10s ends by itself)
	$(GO) run ./test/demo -bin $(BIN) $(if $(DEMO),-for $(DEMO))

bench: build ## Measure CPU per call beside the proxies found on PATH, into docs/performance.md
	$(GO) run ./test/bench run -dataplane $(BIN)/dataplane -doc docs/performance.md $(BENCHFLAGS)

pgo: build ## Record the CPU profile that the compiler optimises the proxy with
	$(GO) run ./test/bench pgo -dataplane $(BIN)/dataplane

attack: ## Attack the real binary in every way it has a limit for
	$(GO) test ./test/attack -v -timeout 30m $(ATTACKFLAGS)

conformance: build ## Run h2spec, gRPC interop and connectconformance through the proxy
	test/conformance/run $(CONFORMANCEFLAGS)

family: ## Run the grpc-proxy family's own tests against our packages
	test/family/run $(FAMILYFLAGS)

fuzz: ## Run every fuzzer for FUZZTIME
	@set -e; for f in $$(grep -rlE '^func Fuzz' --include='*_test.go' .); do \
	  for n in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/p' $$f); do \
	    echo "== $$n ($$(dirname $$f))"; $(GO) test -run '^$$' -fuzz "^$$n$$" -fuzztime $(FUZZTIME) ./$$(dirname $$f); \
	  done; done

check: ## Fail if tidy or golden files would change anything
	@set -e; for m in . tools $(MODULES); do echo "$(GO) mod tidy -diff ($$m)"; (cd $$m && $(GO) mod tidy -diff); done
	$(GO) mod verify
	$(GO) test -run 'Golden|Docs' $(PKGS)

clean: ## Remove what build made
	rm -rf $(BIN)

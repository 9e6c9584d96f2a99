# Every target that a person may want has a line after ##, which `make help` shows.

GO    ?= go
TOOL  := $(GO) tool -modfile=tools/go.mod
ARGS  ?=
SEED  ?=
# How long `make fuzz` spends on each target.
FUZZTIME ?= 30s
# Empty: `make check` leaves the database of known vulnerabilities alone.
VULNS ?= yes
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

.PHONY: help build demo test floors check vulnerabilities bench chaos fuzz fmt deps clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build every command into bin/
	$(GO) build -trimpath -o bin/ ./cmd/...

demo: ## Send 2,000 messages and a campaign of 20,000 through private servers and a simulator: ARGS=--stay keeps it running
	@tools/deps.sh redis postgres || tools/deps.sh postgres # the demo can do without redis-server
	$(GO) build -o bin/demo ./cmd/demo # not go run, which makes a failure of every Ctrl-C
	@bin/demo $(ARGS)

test: deps floors ## Run all tests with the race detector, against real servers of their own
	$(GO) test $$(tools/race.sh) $$($(GO) list ./... | grep -v -e /internal$$ -e /cmd/worker$$ -e /chaos$$)
	$(GO) test $$(tools/race.sh) -parallel 3 -timeout 15m ./cmd/worker # whole workers, which mostly wait for the clock: by themselves
	$(GO) test $$(tools/race.sh) -timeout 15m ./chaos # the fault suite in brief

floors: # of the house: once where check and test run together
	$(GO) test -count=1 ./internal # go list is no input that the test cache knows

check: floors ## Check format, vet, staticcheck, the floors of the house, and known vulnerabilities
	@unformatted=$$($(TOOL) gofumpt -l .); if [ -n "$$unformatted" ]; then \
		echo "not formatted (make fmt):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) -C deploy/check vet ./... && $(GO) -C deploy/check test -count=1 ./... # board, alerts, manifests: their files lie outside the module, of which alone the test cache knows
	@if [ -n "$(VULNS)" ]; then $(MAKE) --no-print-directory vulnerabilities; fi

vulnerabilities: ## Look for known vulnerabilities, if their database answers
	@if curl -fsS -m 5 -o /dev/null https://vuln.go.dev/index/db.json 2>/dev/null; \
	then $(GO) run $(GOVULNCHECK) ./...; \
	else echo "vulnerabilities: not checked, https://vuln.go.dev does not answer"; fi

bench: ## Measure throughput and latency against two bare limits and a naive build: ARGS=--json
	@tools/deps.sh redis postgres
	$(GO) run ./bench $(ARGS)

chaos: ## Break servers, workers and answers, and check that nothing is lost or sent twice: SEED=7 ARGS='--only kill --long'
	@tools/deps.sh redis postgres
	$(GO) build -o bin/chaos ./chaos # not go run, which makes a failure of every Ctrl-C
	@bin/chaos $(if $(SEED),--seed $(SEED)) $(ARGS)

fuzz: ## Fuzz each parser of what strangers send: FUZZTIME=5m ARGS=FuzzPostMessages
	@tools/fuzz.sh $(FUZZTIME) $(ARGS)

fmt: ## Format the code
	$(TOOL) gofumpt -w .

deps: ## Install what the tests need and this machine lacks: Redis, Postgres, a C compiler
	@tools/deps.sh redis postgres cc

clean: ## Remove what was built
	rm -rf bin

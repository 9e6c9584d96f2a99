package main

import (
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
)

// mixed is the plan of most scenarios.
var mixed = plan{messages: 3000, perSecond: 150, workers: 3, settle: 4 * time.Minute}

// mutant is the plan of those who miss a safety; what they lose is lost soon.
var mutant = plan{messages: 3000, perSecond: 150, workers: 3, settle: time.Minute, tags: "chaos", latency: "60ms-350ms"}

func (p plan) but(change func(*plan)) plan {
	change(&p)
	return p
}

// scenarios are all kinds of trouble, in the order of the table.
var scenarios = []scenario{
	{
		name: "kill", about: "kill -9 of a random worker every 2-5 s", do: killWorkers, naive: true, brief: true,
		plan: mixed.but(func(p *plan) {
			p.messages, p.perSecond, p.workers, p.handOver, p.windows, p.latency = 5000, 200, 4, true, true, "60ms-350ms"
		}),
		long: plan{messages: 100_000, settle: 5 * time.Minute},
	},
	{name: "redis-kill", about: "Redis is killed and comes back with its append-only file", do: killRedis, naive: true, plan: mixed},
	{name: "redis-tail", about: "Redis comes back without its last second of writes", do: cutRedis, naive: true, brief: true, plan: mixed},
	{name: "redis-flush", about: "Redis loses everything", do: flushRedis, naive: true, plan: mixed},
	{
		name: "redis-freeze", about: "Redis stands still for longer than a lease, right after a send", do: freezeRedis, naive: true, brief: true,
		plan: mixed.but(func(p *plan) { p.outage = 45 * time.Second }),
	},
	{name: "lease-lost", about: "the leases of a killed worker vanish from Redis", do: loseLeases, plan: mixed},
	{name: "postgres-kill", about: "Postgres is killed twice and recovers", do: killPostgres, brief: true, plan: mixed},
	{
		name: "postgres-outage", about: "Postgres is away", do: stopPostgres, after: noSendsWithoutClaims,
		plan: mixed.but(func(p *plan) { p.outage = 15 * time.Second }), long: plan{outage: 2 * time.Minute, messages: 10_000},
	},
	{name: "ambiguous", about: "WeChat accepts and its answer is lost, in seven ways", do: loseAnswers, naive: true, brief: true, plan: mixed},
	{name: "refused", about: "connections to WeChat are refused for 8 s", do: refuseConnections, plan: mixed},
	{name: "keepalive", about: "WeChat closes connections behind each third answer", do: hangUp, plan: mixed},
	{
		name: "zombie", about: "a worker stands still in the middle of sending until it counts as dead, and goes on", do: stopWorker, naive: true, brief: true,
		plan: mixed.but(func(p *plan) { p.latency, p.outage = "100ms-300ms", 25*time.Second }),
	},
	{name: "token", about: "the access token is made invalid every second", do: kickTokens, after: fewTokens, plan: mixed},
	{
		name: "poison", about: "workers die of a message, three times", do: poison, after: diedOfPoison,
		plan: plan{messages: 1, fixed: true, perSecond: 1, workers: 0, tags: "chaos", settle: 3 * time.Minute},
	},
	{
		name: "elsewhere", about: "somebody else uses up the day's quota: WeChat says 45009 at 60 % of our count", do: spendElsewhere, after: sentMost,
		tolerated: map[int]int64{45009: 3 * senders},
		plan: mixed.but(func(p *plan) {
			p.messages, p.fixed, p.parked = 2000, true, true
			p.yaml = "limits: {template: {per_day: 1000, per_second: 300}, custom: {per_day: 1000000, per_second: 150}, subscribe: {per_day: 1000000, per_second: 150}}"
		}),
	},
	{name: "redirect", about: "WeChat accepts and redirects to itself", do: redirect, plan: mixed},
	{
		name: "points", about: "a worker dies at each point of a message's way, with each kind", do: crashPoints, after: crashedOften,
		plan: mixed.but(func(p *plan) { p.messages, p.workers, p.tags = 2000, 0, "chaos" }),
	},

	{
		name: "network", about: "all lines of the workers are up to 300 ms late at each piece, and tear", do: badNetwork, after: linesTore,
		plan: mixed.but(func(p *plan) { p.messages, p.perSecond, p.workers = 1500, 50, 0 }), long: plan{messages: 40_000},
	},
	{
		name: "clocks", about: "of three workers' clocks one is ten minutes ahead and one ten minutes behind", do: skewClocks, after: clocksMattered,
		plan: mixed.but(func(p *plan) { p.workers, p.windows = 0, true }),
	},

	{
		name: "campaigns", about: "workers and Redis are killed, and two campaigns paused, until they have sent", do: troubleCampaigns, after: campaignsEnded, brief: true,
		plan: mixed.but(func(p *plan) { p.messages, p.campaigns = 9000, true }), long: plan{messages: 1_000_000, settle: 10 * time.Minute},
	},

	// What the suite is worth: each safety taken away, which must be noticed.
	{name: "without-claim", about: "nothing is claimed before it is sent", do: killWorkers, without: fault.Claim, plan: mutant},
	{name: "without-no-redirects", about: "redirects are followed", do: redirect, without: fault.NoRedirects, plan: mutant},
	{name: "without-reconciler", about: "nobody looks for what is left behind", do: killWorkers, without: fault.Reconciler, plan: mutant},
}

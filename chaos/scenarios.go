package main

import (
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
)

// mixed is the plan of most scenarios.
var mixed = plan{messages: 3000, perSecond: 150, workers: 3, settle: 4 * time.Minute}

// limited is mixed with windows, and with a day that has fewer calls than there are template messages: what Redis counted
// must be known again when it was lost, or a limit is overrun.
var limited = mixed.but(func(p *plan) { p.windows, p.scarce, p.parked = true, true, true })

// mutant is the plan of those who miss a safety; what they lose is lost soon.
var mutant = plan{messages: 3000, perSecond: 150, workers: 3, settle: time.Minute, tags: "chaos", latency: "60ms-350ms"}

// late is the plan of one customer-service message that two workers have in hand: the account takes the risk of sending
// it again, and the second call is long.
var late = plan{
	messages: 1, fixed: true, perSecond: 1, workers: 0, settle: time.Minute, tags: "chaos", latency: "4s-4s", customs: true,
	yaml: "policy: {custom_ambiguous: resend, retry_after: [1s, 10s, 1m]}",
}

func (p plan) but(change func(*plan)) plan {
	change(&p)
	return p
}

// scenarios are all kinds of trouble, in the order of the table.
var scenarios = []scenario{
	{
		name: "kill", about: "kill -9 of a random worker every 2-5 s", do: killWorkers, naive: true, brief: true, after: resolvedSoon,
		plan: mixed.but(func(p *plan) {
			p.messages, p.perSecond, p.workers, p.handOver, p.windows, p.latency = 5000, 200, 4, true, true, "60ms-350ms"
		}),
		long: plan{messages: 100_000, settle: 5 * time.Minute},
	},
	{name: "redis-kill", about: "Redis is killed and comes back with its append-only file", do: killRedis, naive: true, after: spentDay, plan: limited},
	{name: "redis-tail", about: "Redis comes back without its last second of writes", do: cutRedis, naive: true, brief: true, after: spentDay, plan: limited},
	{name: "redis-flush", about: "Redis loses everything", do: flushRedis, naive: true, after: spentDay, plan: limited},
	{
		name: "redis-freeze", about: "Redis stands still for longer than a lease, right after a send", do: freezeRedis, naive: true, brief: true, after: spentDay,
		plan: limited.but(func(p *plan) { p.outage = 45 * time.Second }),
	},
	{
		name: "lease-lost", about: "the leases of a killed worker vanish from Redis", do: loseLeases, after: cameBack,
		plan: mixed.but(func(p *plan) { p.latency = "60ms-350ms" }),
	},
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
		after: lateResults, plan: mixed.but(func(p *plan) { p.latency, p.outage = "100ms-300ms", 25*time.Second }), long: plan{outage: 5 * time.Minute},
	},
	{name: "token", about: "the access token is made invalid every second", do: kickTokens, after: fewTokens, plan: mixed},
	{
		name: "poison", about: "workers die of a message, three times", do: poison, after: diedOfPoison,
		plan: plan{messages: 1, fixed: true, perSecond: 1, workers: 0, tags: "chaos", settle: 3 * time.Minute, many: 100},
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
		name: "points", about: "producers and workers die at each arrow of a message's way, with each of three kinds", do: crashPoints, after: crashedOften, command: true,
		plan: mixed.but(func(p *plan) { p.messages, p.workers, p.tags = 1000, 0, "chaos" }),
	},
	{
		name: "fence", about: "a worker stops between claim and wire and goes on while another sends its message", do: wake, plan: late, brief: true,
	},
	{
		name: "gate-kill", about: "workers are killed while messages come to a closed gate, which opens then", do: killAtGate, command: true, plan: mixed,
	},
	{
		name: "roll", about: "workers are replaced by SIGTERM, one after another", do: rollWorkers, after: drainedInTime,
		plan: mixed.but(func(p *plan) { p.latency = "60ms-350ms" }),
	},
	{
		name: "api-roll", about: "producers speak HTTP; two servers and three workers are replaced by SIGTERM, one after another, twice", do: rollBoth, after: noneRefused,
		plan: mixed.but(func(p *plan) { p.messages, p.servers, p.latency = 12_000, 2, "60ms-350ms" }),
	},
	{
		name: "clocks", about: "of three workers one has a clock ten minutes ahead, one a clock ten minutes behind", do: wrongClocks, after: rightTimes, command: true,
		plan: mixed.but(func(p *plan) { p.handOver, p.windows, p.clocks, p.latency = true, true, true, "60ms-350ms" }),
	},
	{
		name: "upgrade", about: "the schema is migrated under workers of an earlier version (--old PATH), which new ones join and then replace", do: upgrade, after: noneFailed, old: true,
		plan: mixed.but(func(p *plan) { p.workers, p.handOver, p.windows, p.latency = 2, true, true, "60ms-350ms" }),
	},
	{
		name: "redis-refuses", about: "Redis refuses writes: OOM, then READONLY", do: refuseWrites, after: noneFailed,
		plan: mixed.but(func(p *plan) { p.outage = 6 * time.Second }),
	},
	{
		name: "redis-slow", about: "Redis answers 200 ms late, then 3 s late", do: slowLink, after: noneFailed,
		plan: mixed.but(func(p *plan) { p.outage, p.link = 8*time.Second, true }),
	},
	{
		name: "postgres-blocked", about: "the messages are locked for 5 s; then Postgres has no session free", do: blockPostgres, after: noneFailedInBounds,
		plan: mixed.but(func(p *plan) { p.outage = 8 * time.Second }),
	},
	{
		name: "postgres-full", about: "the disk of the messages is full", do: fillDisk, after: noneFailedInBounds, mounts: true,
		plan: mixed.but(func(p *plan) { p.outage = 8 * time.Second }),
	},
	{
		name: "busy", about: "WeChat answers -1 to everything for 30 s", do: busy, after: noneFailed,
		plan: mixed.but(func(p *plan) { p.outage = 30 * time.Second }), long: plan{outage: 10 * time.Minute, settle: 10 * time.Minute},
	},
	{
		name: "hang", about: "1 %, 20 %, then all calls get no answer", do: hang, after: fewRepeated,
		plan: mixed.but(func(p *plan) { p.outage, p.messages, p.settle = 10*time.Second, 6000, 8*time.Minute }),
	},
	{
		name: "replay", about: "messages that failed are replayed, by commands that are killed and by two at a time", do: replay, after: replayedOnce, command: true,
		plan: plan{messages: 10_000, fixed: true, perSecond: 2000, workers: 2, settle: 3 * time.Minute, templates: true, failed: true},
	},
	{
		name: "closed-gate", about: "many messages wait behind a closed gate, which opens", do: closedGate, command: true,
		plan: plan{messages: 1, fixed: true, perSecond: 1, workers: 1, settle: time.Second, templates: true, many: 100_000}, long: plan{many: 1_000_000},
	},
	{
		name: "tenant", about: "an account has many messages in the queue, and another sends single ones", do: besideMany,
		plan: plan{messages: 1, fixed: true, perSecond: 1, workers: 2, settle: time.Second, templates: true, neighbour: true, many: 50_000}, long: plan{many: 1_000_000},
	},
	{
		name: "soak", about: "four fifths of what the limits allow, for long (ten minutes in the long form), and then three times that", do: soak,
		plan: mixed.but(func(p *plan) { p.messages, p.perSecond, p.workers, p.many = 10_000, 330, 1, 5000 }), long: plan{messages: 200_000, many: 50_000},
	},
	{
		name: "network", about: "all lines of the workers are up to 300 ms late at each piece, and tear", do: badNetwork, after: linesTore,
		plan: mixed.but(func(p *plan) { p.messages, p.perSecond, p.workers = 1500, 50, 0 }), long: plan{messages: 40_000},
	},
	{
		name: "campaigns", about: "workers and Redis are killed, and two campaigns paused, until they have sent", do: troubleCampaigns, after: afterCampaigns, brief: true,
		plan: mixed.but(func(p *plan) { p.messages, p.campaigns = 9000, true }), long: plan{messages: 1_000_000, faster: 20, troubles: 40, settle: 10 * time.Minute},
	},

	// What the suite is worth: each safety taken away, which must be noticed.
	{name: "without-claim", about: "nothing is claimed before it is sent", do: killWorkers, without: fault.Claim, notice: "(b)", plan: mutant},
	{name: "without-fence", about: "an outcome counts under any claim", do: wake, without: fault.Fence, notice: "(b)", plan: late, brief: true},
	{
		name: "without-settle-first", about: "parcels are acknowledged before their outcomes are written", do: killAtGate, without: fault.SettleFirst, notice: "(a)",
		plan: mutant, command: true,
	},
	{name: "without-no-redirects", about: "redirects are followed", do: redirect, without: fault.NoRedirects, notice: "(b)", plan: mutant, brief: true},
	{
		name: "without-clock", about: "each worker goes by its own machine's clock", do: wrongClocks, without: fault.Clock, after: rightTimes, command: true,
		plan: mutant.but(func(p *plan) { p.handOver, p.windows, p.clocks = true, true, true }),
	},
	{name: "without-reconciler", about: "nobody looks for what is left behind", do: killWorkers, without: fault.Reconciler, notice: "(a)", plan: mutant},
}

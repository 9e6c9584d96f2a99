package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Fleet is what all processes together have in hand, as the one that keeps house counted it. The others export none,
// so that the sum over all pods is the fleet's.
type Fleet struct {
	At       time.Time
	Queues   []Queue
	Stocks   []Stock
	Quotas   []Quota
	Gates    []Gate
	Webhooks []Webhooks
	Workers  map[string]int // that live, by version
	Left     time.Duration  // silence of the longest-dead worker whose claims are not resolved
	Receipts int64          // that look for their message
	Rejected int64          // tasks that cannot become messages
}

// A Queue is what Redis holds of a class, in tasks.
type Queue struct {
	Class  string
	Tasks  map[string]int64 // by asynq's state
	Oldest time.Duration    // of those pending
}

// A Stock is an account's messages of one kind that have not ended.
type Stock struct {
	Account, Kind         string
	Queued, Parked, Due   int64
	QueuedFor, DueFor     time.Duration
	Campaign              int64 // recipients of running campaigns whose turn has not come
	Dispatchable          int64 // queued, due and of campaigns: nothing but pace and workers holds them
	PacePerSecond, Behind float64
}

// A Quota is an account's day at one API.
type Quota struct {
	Account, Kind             string
	Limit, Used, Leased, Left int64
}

// A Gate stands before an API of an account; the API "all" is the account itself.
type Gate struct{ Account, API, State string }

// Webhooks is what an account's endpoint is still to be told.
type Webhooks struct {
	Account  string
	Waiting  int64
	For      time.Duration
	Disabled bool
}

// gateStates are the values of hongyan_gate_state.
var gateStates = map[string]float64{"open": 0, "closed": 1, "broken": 2}

var (
	queueTasks        = describe("queue_tasks", "Tasks (parcels of messages) in Redis, by asynq's state.", "class", "state")
	queueOldest       = describe("queue_oldest_seconds", "How long the next task of a class has waited for a worker.", "class")
	messagesQueued    = describe("messages_queued", "Accepted messages of the ledger whose parcel is in a queue.", "account", "kind")
	messagesQueuedFor = describe("messages_queued_oldest_seconds", "Age of the oldest parcel that is not done.", "account", "kind")
	messagesParked    = describe("messages_parked", "Messages in Postgres until a time; at most 100,000 are counted.", "account", "kind")
	messagesDue       = describe("messages_due", "Parked messages whose time has come; at most 100,000 are counted for each lane.", "account", "kind")
	messagesDueFor    = describe("messages_due_oldest_seconds", "How long the longest due message has been due.", "account", "kind")
	campaignsWaiting  = describe("campaign_recipients_waiting", "Recipients of running campaigns who are no messages yet.", "account", "kind")
	dispatchable      = describe("messages_dispatchable", "Messages that nothing but pace and workers holds: queued, due, or a running campaign's, behind an open gate.", "account", "kind")
	backlog           = describe("backlog_seconds", "Dispatchable messages ÷ the pace at present: the time that they take at best.", "account", "kind")
	pacePerSecond     = describe("pace_per_second", "Calls that the limits allow at present.", "account", "kind")
	quotaLimit        = describe("quota_limit", "Calls of the Beijing day, by WeChat's word or the configuration.", "account", "kind")
	quotaUsed         = describe("quota_used", "Calls of the day that were made, by us and by others as far as WeChat told.", "account", "kind")
	quotaLeased       = describe("quota_leased", "Calls of the day in the hands of pods.", "account", "kind")
	quotaLeft         = describe("quota_left", "Calls of the day that are left, the margin taken off.", "account", "kind")
	gateState         = describe("gate_state", "0 open, 1 closed until a time, 2 broken until WeChat accepts the account.", "account", "api")
	workersAlive      = describe("workers", "Workers whose heartbeat is younger than 15 s, by version.", "version")
	resolverLag       = describe("resolver_lag_seconds", "Silence of the longest-dead worker whose claims are not resolved; 0: there is none.")
	receiptsWaiting   = describe("receipts_waiting", "Receipts that look for their message.")
	webhooksWaiting   = describe("webhook_events_waiting", "Outcomes and receipts that an endpoint is still to be told.", "account")
	webhooksOldest    = describe("webhook_oldest_seconds", "Age of the first of them.", "account")
	webhookDisabled   = describe("webhook_disabled", "1: the endpoint failed for too long and is told nothing until somebody enables it.", "account")
	rejectedTasks     = describe("rejected_tasks", "Tasks that cannot become messages and are kept for people.")
	censusAt          = describe("census_timestamp_seconds", "When all this was counted.")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("hongyan_"+name, help, labels, nil)
}

// fleet exports the last count, nothing while there is none.
type fleet struct{ last atomic.Pointer[Fleet] }

func (f *fleet) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		queueTasks, queueOldest, messagesQueued, messagesQueuedFor, messagesParked, messagesDue, messagesDueFor, campaignsWaiting, dispatchable, backlog,
		pacePerSecond, quotaLimit, quotaUsed, quotaLeased, quotaLeft, gateState, workersAlive, resolverLag, receiptsWaiting,
		webhooksWaiting, webhooksOldest, webhookDisabled, rejectedTasks, censusAt,
	} {
		to <- d
	}
}

func (f *fleet) Collect(to chan<- prometheus.Metric) {
	c := f.last.Load()
	if c == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, q := range c.Queues {
		for state, n := range q.Tasks {
			gauge(queueTasks, float64(n), q.Class, state)
		}
		gauge(queueOldest, q.Oldest.Seconds(), q.Class)
	}
	for _, s := range c.Stocks {
		gauge(messagesQueued, float64(s.Queued), s.Account, s.Kind)
		gauge(messagesQueuedFor, s.QueuedFor.Seconds(), s.Account, s.Kind)
		gauge(messagesParked, float64(s.Parked), s.Account, s.Kind)
		gauge(messagesDue, float64(s.Due), s.Account, s.Kind)
		gauge(messagesDueFor, s.DueFor.Seconds(), s.Account, s.Kind)
		gauge(campaignsWaiting, float64(s.Campaign), s.Account, s.Kind)
		gauge(dispatchable, float64(s.Dispatchable), s.Account, s.Kind)
		gauge(pacePerSecond, s.PacePerSecond, s.Account, s.Kind)
		gauge(backlog, s.Behind, s.Account, s.Kind)
	}
	for _, q := range c.Quotas {
		gauge(quotaLimit, float64(q.Limit), q.Account, q.Kind)
		gauge(quotaUsed, float64(q.Used), q.Account, q.Kind)
		gauge(quotaLeased, float64(q.Leased), q.Account, q.Kind)
		gauge(quotaLeft, float64(q.Left), q.Account, q.Kind)
	}
	for _, g := range c.Gates {
		gauge(gateState, gateStates[g.State], g.Account, g.API)
	}
	for _, w := range c.Webhooks {
		gauge(webhooksWaiting, float64(w.Waiting), w.Account)
		gauge(webhooksOldest, w.For.Seconds(), w.Account)
		gauge(webhookDisabled, flag(w.Disabled), w.Account)
	}
	for version, n := range c.Workers {
		gauge(workersAlive, float64(n), version)
	}
	gauge(resolverLag, c.Left.Seconds())
	gauge(receiptsWaiting, float64(c.Receipts))
	gauge(rejectedTasks, float64(c.Rejected))
	gauge(censusAt, float64(c.At.UnixMilli())/1000)
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

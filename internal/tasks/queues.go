package tasks

import (
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/hibiken/asynq"

	"github.com/hongyan-dispatch/hongyan/message"
)

// The types of task.
const (
	TypeSend  = "message:send" // a parcel of whole messages
	TypeChunk = "chunk:send"   // the id of a campaign's chunk, whose recipients stand in Postgres
)

const (
	urgentQueue = "urgent"
	normalQueue = "normal"
	massQueue   = "mass"
	bulkPrefix  = "bulk:"
	bulkShards  = 8 // a queue is one slot of a Redis cluster, and so one core
)

// QueueOf is the queue of a message. Queues are fixed and few: asynq asks them one by one, so a queue per
// account would cost every task a call per account. Any account may use any bulk shard; the hash only
// keeps one account's campaign from standing in all of them.
func QueueOf(kind message.Kind, lane message.Lane, account string) string {
	switch {
	case kind == message.Mass:
		return massQueue
	case lane == message.Urgent:
		return urgentQueue
	case lane == message.Bulk:
		h := fnv.New32a()
		_, _ = h.Write([]byte(account)) // never fails
		return bulkQueue(int(h.Sum32() % bulkShards))
	default:
		return normalQueue
	}
}

func bulkQueue(shard int) string { return bulkPrefix + strconv.Itoa(shard) }

// A Class is served by an asynq.Server of its own in each pod: asynq reserves no slots for a queue within
// a server, so that campaigns would hold every slot that an urgent message waits for.
type Class struct {
	Name        string
	Queues      []string
	Concurrency int
	Poll        time.Duration // how long an idle server sleeps before it asks for a task again
	PollDelayed time.Duration // likewise for tasks whose retry is due
}

// Classes lists the classes, most urgent first. An idle pod asks Redis about 150 times a second, two
// thirds of it for urgent.
func Classes() []Class {
	bulk := make([]string, bulkShards)
	for i := range bulk {
		bulk[i] = bulkQueue(i)
	}
	return []Class{
		{Name: "urgent", Queues: []string{urgentQueue}, Concurrency: 32, Poll: 10 * time.Millisecond, PollDelayed: time.Second},
		{Name: "normal", Queues: []string{normalQueue}, Concurrency: 30, Poll: 100 * time.Millisecond, PollDelayed: time.Second},
		{Name: "bulk", Queues: bulk, Concurrency: 12, Poll: 200 * time.Millisecond, PollDelayed: 2 * time.Second},
		{Name: "mass", Queues: []string{massQueue}, Concurrency: 2, Poll: time.Second, PollDelayed: 5 * time.Second},
	}
}

// Queues lists every queue, in the order of [Classes].
func Queues() []string {
	var all []string
	for _, c := range Classes() {
		all = append(all, c.Queues...)
	}
	return all
}

// ShutdownTimeout is how long a stopping server waits for its handlers. asynq then puts their tasks back
// and lets them run on, so handlers must end sooner by themselves.
const ShutdownTimeout = 25 * time.Second

// ServerConfig is the class as asynq wants it. The caller adds what is not the class's to say: logger,
// error handler, IsFailure, base context.
func (c Class) ServerConfig() asynq.Config {
	queues := make(map[string]int, len(c.Queues))
	for _, q := range c.Queues {
		queues[q] = 1
	}
	return asynq.Config{
		Queues:                   queues,
		Concurrency:              c.Concurrency,
		TaskCheckInterval:        c.Poll,
		DelayedTaskCheckInterval: c.PollDelayed,
		ShutdownTimeout:          ShutdownTimeout,
		RetryDelayFunc:           RetryDelay,
	}
}

const (
	firstRetryDelay = time.Second
	maxRetryDelay   = 5 * time.Minute
)

// RetryDelay is how long a task rests whose messages' fate could not be written: 1 s, doubled at each
// try up to 5 min, then a random half of it or more, so that what failed together comes back apart.
func RetryDelay(tried int, _ error, _ *asynq.Task) time.Duration {
	d := maxRetryDelay
	if shift := max(tried, 0); shift < 9 { // 1 s << 9 is over 5 min
		d = firstRetryDelay << shift
	}
	return d/2 + rand.N(d/2)
}

const (
	// maxRetry is far above any count that is meant: crashes and lost replies of Redis count too, and at
	// the limit asynq would archive a task whose messages have no outcome. Our own counters decide.
	maxRetry = 1000
	// taskTimeout is three times the worst run: asynq abandons a handler that takes longer and runs the
	// task a second time beside it.
	taskTimeout = 10 * time.Minute
)

// Options are the asynq options of a parcel. There is no Retention: a kept id would make a parcel that
// comes again look as if it were still there.
func Options(p *message.Parcel) []asynq.Option {
	return []asynq.Option{
		asynq.TaskID(p.ID.String()),
		asynq.Queue(QueueOf(p.Kind, p.Lane, p.Account)),
		asynq.MaxRetry(maxRetry),
		asynq.Timeout(taskTimeout),
	}
}

// Package tasks is what travels through Redis: the names, payloads, queues and options of Hongyan's two
// asynq tasks, and the clients that carry them. It holds no handlers, so that a producer never links the
// pipeline.
//
// The one fact to know: asynq costs about as much for a task as six sends cost, so messages that were
// enqueued together travel together. A message:send task is a parcel of up to 100 whole messages of one
// account, kind and lane. The parcel's id is the task's id; a parcel never changes, so a task id that is
// taken means "still there", and that is success.
//
// Redis may lose a task and asynq may run one twice, even at the same time. What a message's fate is
// stands in Postgres; a task only wakes somebody up to look.
package tasks

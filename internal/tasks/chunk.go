package tasks

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Chunk names a chunk of a campaign's firing, whose recipients stand in Postgres. Run tells its tasks apart: a
// chunk that comes again comes under another task id, so that nothing which Redis kept of an earlier one is in its
// way.
type Chunk struct {
	Firing, No int32
	Run        int32
	Account    string // for the queue
	Kind       message.Kind
}

func (c Chunk) queue() string  { return QueueOf(c.Kind, message.Bulk, c.Account) }
func (c Chunk) taskID() string { return fmt.Sprintf("chunk:%d:%d:%d", c.Firing, c.No, c.Run) }

// chunkVersion is the first byte of the payload: version, then firing and no as varints.
const chunkVersion = 1

// EncodeChunk makes a chunk:send task, fresh as those of [Encode].
func EncodeChunk(c Chunk) *asynq.Task {
	payload := binary.AppendUvarint([]byte{chunkVersion}, uint64(uint32(c.Firing)))
	payload = binary.AppendUvarint(payload, uint64(uint32(c.No)))
	return asynq.NewTask(TypeChunk, payload,
		asynq.TaskID(c.taskID()),
		asynq.Queue(c.queue()),
		asynq.MaxRetry(maxRetry),
		asynq.Timeout(taskTimeout),
	)
}

// ChunksGone says of each chunk whether its task will never run by itself, as [Lookup.Gone] says it of parcels.
func ChunksGone(ctx context.Context, rdb redis.UniversalClient, chunks []Chunk) ([]bool, error) {
	tasks := make([]*redis.SliceCmd, len(chunks))
	_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, c := range chunks {
			tasks[i] = pipe.HMGet(ctx, Place{Queue: c.queue()}.key("t:"+c.taskID()), "state", "msg")
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up chunks: %w", err)
	}
	gone := make([]bool, len(chunks))
	for i, t := range tasks {
		state, payload := t.Val()[0], t.Val()[1]
		gone[i] = state == nil || payload == nil || state == "archived" || state == "completed"
	}
	return gone, nil
}

// DecodeChunk reads the firing and the number of a chunk:send task; its error wraps a *[Rejected].
func DecodeChunk(t *asynq.Task) (firing, no int32, err error) {
	b := t.Payload()
	if len(b) == 0 || b[0] != chunkVersion {
		return 0, 0, rejected("no chunk of version %d", chunkVersion)
	}
	f, width := binary.Uvarint(b[1:])
	if width <= 0 || f == 0 || f > 1<<31-1 {
		return 0, 0, rejected("no firing")
	}
	b = b[1+width:]
	n, width := binary.Uvarint(b)
	if width <= 0 || n > 1<<31-1 {
		return 0, 0, rejected("no chunk number")
	}
	if len(b) > width {
		return 0, 0, rejected("%d bytes too many", len(b)-width)
	}
	return int32(f), int32(n), nil
}

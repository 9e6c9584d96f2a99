package tasks

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestChunksOnTheWire(t *testing.T) {
	for _, c := range []Chunk{{Firing: 1}, {Firing: 7, No: 50_000, Run: 3}, {Firing: math.MaxInt32, No: math.MaxInt32}} {
		c.Kind, c.Account = message.Template, "shop"
		firing, no, err := DecodeChunk(EncodeChunk(c))
		if err != nil || firing != c.Firing || no != c.No {
			t.Errorf("%+v comes back as %d, %d, %v", c, firing, no, err)
		}
	}
}

func FuzzDecodeChunk(f *testing.F) {
	f.Add(EncodeChunk(Chunk{Firing: 7, No: 50_000}).Payload())
	f.Add([]byte{chunkVersion, 0, 1})
	f.Add([]byte{chunkVersion, 1, 1, 1})
	f.Fuzz(func(t *testing.T, payload []byte) {
		firing, no, err := DecodeChunk(asynq.NewTask(TypeChunk, payload))
		if err != nil {
			if _, ok := errors.AsType[*Rejected](err); !ok {
				t.Errorf("%x: %v is no Rejected", payload, err)
			}
			return
		}
		if firing <= 0 || no < 0 {
			t.Errorf("%x: firing %d, no %d", payload, firing, no)
		}
	})
}

func TestChunksAreEnqueuedOnce(t *testing.T) {
	rdb, err := Redis(devstack.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	e, err := NewEnqueuer(rdb)
	if err != nil {
		t.Fatal(err)
	}
	chunks := []Chunk{{Firing: 1, No: 1, Account: "shop", Kind: message.Template}, {Firing: 1, No: 2, Account: "shop", Kind: message.Template}}
	for range 2 {
		for i, err := range e.EnqueueChunks(t.Context(), chunks) {
			if err != nil {
				t.Errorf("chunk %d: %v", i, err)
			}
		}
	}
	chunks[0].Run = 1 // comes again
	if errs := e.EnqueueChunks(t.Context(), chunks[:1]); errs[0] != nil {
		t.Error(errs[0])
	}
	missing := Chunk{Firing: 1, No: 3, Account: "shop", Kind: message.Template}
	if gone, err := ChunksGone(t.Context(), rdb, append(chunks, missing)); err != nil || !slices.Equal(gone, []bool{false, false, true}) {
		t.Errorf("gone are %v, %v, want the third", gone, err)
	}
	info, err := asynq.NewInspectorFromRedisClient(rdb).GetQueueInfo(QueueOf(message.Template, message.Bulk, "shop"))
	if err != nil || info.Pending != 3 {
		t.Errorf("%d tasks wait, %v, want 3", info.Pending, err)
	}
}

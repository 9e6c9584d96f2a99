package postgres

import (
	"context"
	"fmt"
)

// Reject keeps what came out of a queue and cannot become a message: undecodable, of an id out of range, or
// unstorable ([ErrUnstorable]). After it the task may be acknowledged.
func (s *Store) Reject(ctx context.Context, queue, taskID, typ string, payload []byte, reason string) error {
	if payload == nil {
		payload = []byte{}
	}
	_, err := s.pool.Exec(ctx, `INSERT INTO rejected_task (queue, task, type, payload, reason) VALUES ($1, $2, $3, $4, $5)`,
		clean(queue), clean(taskID), clean(typ), payload, clean(reason))
	if err != nil {
		return fmt.Errorf("reject task: %w", err)
	}
	return nil
}

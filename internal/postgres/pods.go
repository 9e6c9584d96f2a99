package postgres

import (
	"context"
	"fmt"
)

// A Pod is one run of one worker process. Others tell by its heartbeat whether it lives.
type Pod struct {
	ID    int32
	store *Store
}

// StartPod writes down that a process begins to work. Each start is a new pod, so nothing of an earlier run can be
// taken for this one's.
func (s *Store) StartPod(ctx context.Context, name, version string) (Pod, error) {
	p := Pod{store: s}
	err := s.pool.QueryRow(ctx, `
		WITH p AS (INSERT INTO pod (name, version) VALUES ($1, $2) RETURNING id)
		INSERT INTO pod_batch (pod, batch) SELECT id, 0 FROM p RETURNING pod`, name, version).Scan(&p.ID)
	if err != nil {
		return Pod{}, fmt.Errorf("start pod: %w", err)
	}
	return p, nil
}

// Beat says that the pod lives. Call it every few seconds: a pod silent for 15 s counts as dead.
func (p Pod) Beat(ctx context.Context) error {
	tag, err := p.store.pool.Exec(ctx, `UPDATE pod SET seen_at = now() WHERE id = $1`, p.ID)
	if err != nil {
		return fmt.Errorf("beat: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("beat: pod %d has no row", p.ID)
	}
	return nil
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/hongyan-dispatch/hongyan/internal/tasks"
)

// Servers is one asynq server for each class of queues.
type Servers struct {
	servers []*asynq.Server
	handler *Handler
	drain   chan struct{}
}

// NewServers makes the servers of a pod. The Redis client is the servers' own:
// it carries the hook of tasks.Detach.
func NewServers(rdb redis.UniversalClient, h *Handler, log *slog.Logger) *Servers {
	drain := make(chan struct{})
	h.Drain = drain
	s := &Servers{handler: h, drain: drain}
	for _, class := range tasks.Classes() {
		c := class.ServerConfig()
		c.IsFailure = isFailure
		c.RetryDelayFunc = retryDelay
		c.Logger = asynqLog{log.With("component", "asynq", "class", class.Name)}
		c.LogLevel = asynq.WarnLevel
		s.servers = append(s.servers, asynq.NewServerFromRedisClient(rdb, c))
	}
	return s
}

// Run serves until the context ends; then it stops taking parcels, gives back what is not claimed, sees the rest
// to its outcome, and returns.
func (s *Servers) Run(ctx context.Context) error {
	for i, server := range s.servers {
		if err := server.Start(s.handler); err != nil {
			s.shutdown(s.servers[:i])
			return fmt.Errorf("start server: %w", err)
		}
	}
	<-ctx.Done()
	s.shutdown(s.servers)
	return nil
}

func (s *Servers) shutdown(started []*asynq.Server) {
	close(s.drain) // what waits for a token, a slot or a sender gives up; what is claimed goes on
	var g errgroup.Group
	for _, server := range started {
		g.Go(func() error {
			server.Stop()
			server.Shutdown()
			return nil
		})
	}
	_ = g.Wait()
	// What asynq has given up on may still be settling.
	settled := make(chan struct{})
	go func() { s.handler.Wait(); close(settled) }()
	select {
	case <-settled:
	case <-time.After(tasks.ShutdownTimeout):
	}
}

// isFailure: a pod that drains, or whose Postgres is away, is not the parcel's fault. A lost lease is: a parcel
// that kills its pods must not go round for ever.
func isFailure(err error) bool {
	return errors.Is(err, asynq.ErrLeaseExpired) || errors.Is(err, context.DeadlineExceeded)
}

// retryDelay gives a parcel back at once where this pod merely drains.
func retryDelay(tried int, err error, t *asynq.Task) time.Duration {
	if errors.Is(err, ErrDraining) {
		return 0
	}
	return tasks.RetryDelay(tried, err, t)
}

// asynqLog gives asynq's words to slog. asynq is told to speak from warnings on.
type asynqLog struct{ log *slog.Logger }

func (l asynqLog) Debug(args ...any) { l.log.Debug(fmt.Sprint(args...)) }
func (l asynqLog) Info(args ...any)  { l.log.Info(fmt.Sprint(args...)) }
func (l asynqLog) Warn(args ...any)  { l.log.Warn(fmt.Sprint(args...)) }
func (l asynqLog) Error(args ...any) { l.log.Error(fmt.Sprint(args...)) }
func (l asynqLog) Fatal(args ...any) { l.log.Error(fmt.Sprint(args...)) }

package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// Logger writes to w, from a level (debug, info, warn, error) on, as text or json.
func Logger(w io.Writer, level, format string) *slog.Logger {
	var from slog.Level
	if err := from.UnmarshalText([]byte(level)); err != nil {
		from = slog.LevelInfo // the configuration's check has refused it already
	}
	o := &slog.HandlerOptions{Level: from}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// RedisTo gives go-redis' own words to the log, at level debug: left alone it writes them to stderr in a form of its
// own, several lines for one lost connection, and its callers get the same as errors. For mains: it holds for the
// whole process.
func RedisTo(log *slog.Logger) { redis.SetLogger(redisLog{log.With("component", "go-redis")}) }

type redisLog struct{ log *slog.Logger }

func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.log.DebugContext(ctx, fmt.Sprintf(format, args...))
}

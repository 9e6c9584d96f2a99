package telemetry

import (
	"io"
	"log/slog"
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

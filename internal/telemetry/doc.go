// Package telemetry is how operators watch a process: structured logs, Prometheus metrics and OpenTelemetry
// traces. No label holds an openid, a message's id or a secret; their values come from closed lists and the configuration.
package telemetry

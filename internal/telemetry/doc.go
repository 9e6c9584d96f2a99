// Package telemetry is how operators watch a process: structured logs and Prometheus metrics. No label holds an
// openid, a message's id or a secret; their values come from closed lists and the configuration.
package telemetry

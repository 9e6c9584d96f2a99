// Package app builds a worker from its configuration: stores, guards, pipeline, servers and loops. It is what
// cmd/worker, cmd/demo and the benchmarks run, and holds the adapters between rooms that do not know each other.
package app

// Package check holds the tests of the board, the alerts, the manifests and the chart. `make check` runs them. They link
// nothing of Hongyan: what it exports stands in ../metrics.txt, which a test of internal/telemetry keeps true, and what
// commands, flags and keys it has is looked up by internal/kubernetes_test.go.
package check

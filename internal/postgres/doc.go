// Package postgres keeps every row of Hongyan: the ledger of messages (what was accepted, claimed and settled),
// the work lists of releaser and reconciler, idempotency keys, suppressions, gates, mass-send caps and pods.
//
// The one fact to know: a message's state changes only by a statement that names the state it must have now. A
// claim takes only what is accepted, a settle writes only under the number of its own claim (the fence), a verdict
// without a claim writes only over accepted. What a statement does not change is somebody else's, and counts as
// handled.
//
// Producers go through [Store.Accept]. Workers go through one [Committer] per pod, which gathers the claims,
// settles and verdicts of all their goroutines into transactions of up to 256 rows.
//
// The pool's sessions are set for this work: generic plans, nested loops over index look-ups, no sequential scans.
// Ids carry their time, tables are partitioned by it, and statements pass the least and the greatest id of their
// batch, so that a plan made once probes only the partitions of its ids.
package postgres

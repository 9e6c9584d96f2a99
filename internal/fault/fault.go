// Package fault is the fault suite's hand inside a process: points at which a process dies as by kill -9, and
// safeties that are taken away one at a time, to see that the suite would notice.
//
// None of it is in a program that is built without the tag chaos: there At is empty, Has is true, and the compiler
// leaves both out. With the tag three variables of the environment decide:
//
//	HONGYAN_FAULT_AT=claimed:3       die when that point is passed for the third time
//	HONGYAN_FAULT_AT=claimed/mass    die when it is passed by a mass message; at written it is the API's path that says so
//	HONGYAN_FAULT_STOP=claimed       stop there, as by SIGSTOP, until SIGCONT
//	HONGYAN_FAULT_WITHOUT=fence      do without that safety
package fault

import "time"

// A Point is a place on a message's way, named for what has just happened.
type Point string

// The points, in the order of the way. Between any two of them lies an arrow at which a process may die.
const (
	Offered  Point = "offered"  // a producer holds messages; nothing is written
	Accepted Point = "accepted" // committed in the ledger; no queue has them
	Enqueued Point = "enqueued" // in the queue; the producer's caller does not know
	Dequeued Point = "dequeued" // a worker has the parcel
	Taken    Point = "taken"    // the guards let the message pass; its slots and its quota are taken
	Claimed  Point = "claimed"  // the intent is committed; nothing is on the wire
	Written  Point = "written"  // the request is on the wire
	Answered Point = "answered" // WeChat's answer is read; nothing is written down
	Settled  Point = "settled"  // the outcome is committed; the parcel is not acknowledged
)

// Points lists them.
func Points() []Point {
	return []Point{Offered, Accepted, Enqueued, Dequeued, Taken, Claimed, Written, Answered, Settled}
}

// A Safety is one thing that keeps a promise.
type Safety string

// The safeties that can be taken away.
const (
	Claim       Safety = "claim"        // an intent is committed before the wire, and granted once
	Fence       Safety = "fence"        // an outcome counts only under the last claim
	NoRedirects Safety = "no-redirects" // a call goes where it was sent, once
	SettleFirst Safety = "settle-first" // a parcel is acknowledged after its outcomes are committed
	Reconciler  Safety = "reconciler"   // what a fault leaves behind is found
	Clock       Safety = "clock"        // processes go by one clock
)

// Lag is how long an outcome is in coming where a parcel is acknowledged before: what a machine under load may take.
const Lag = 300 * time.Millisecond

// Safeties lists them.
func Safeties() []Safety { return []Safety{Claim, Fence, NoRedirects, SettleFirst, Reconciler, Clock} }

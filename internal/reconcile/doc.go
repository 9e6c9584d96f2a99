// Package reconcile heals what faults leave behind. One pod at a time leads it, and one, perhaps
// another, what dead pods left; two at once do no harm, since every change is conditional on the state that it was decided for.
//
//	left behind                                  found by                             becomes
//	accepted, and no queue has its parcel        the outbox, looked up in Redis       enqueued under the same id
//	the same, archived or kept as completed      likewise                             its id freed, then the same
//	running in Redis without a lease             the lists of active tasks            given a lease that is over
//	sending, and its pod is silent for 15 s      the pod's claims in flight           parked or unknown, by kind
//	a receipt without its message                the receipts' own list              joined; an unknown one is sent
//	the same for the third time                  the message's count of deaths        dead: poison
//
// The one fact to know: a message whose pod died may have been sent, wherever the pod was. It goes on only where
// WeChat takes an id of ours and so sends it once, within the time in which WeChat remembers the id; or where the
// account's policy takes the risk. Everything else ends unknown.
package reconcile

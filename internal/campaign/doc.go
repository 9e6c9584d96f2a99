// Package campaign is what a campaign is: what an operator writes (the spec), when it fires, what each recipient is
// sent, and how it may move from state to state. It is pure: rows are kept by package postgres, chunks are fed by
// package feed and sent by package worker.
//
// The one fact to know: nothing of a campaign is decided twice. A firing is made once for each tick of the schedule,
// and the id of a recipient's message is computed from the firing and the recipient's number ([MessageID]), so that
// whoever comes second, a scheduler or a worker, finds that the first was there.
package campaign

// Package pipeline takes one message from the queue to WeChat: the guards that look, the guards that take,
// the claim, the call, and the judgement of what WeChat answered. It decides; it writes nothing but the
// claim. It knows no Redis, Postgres or asynq: what a stage needs is handed in.
//
// The one fact a newcomer needs: the claim stands right before the wire. Whoever holds the claim is the only
// one, over all pods and all redeliveries, who may call WeChat for this message; everything before the claim
// may run twice and takes once.
package pipeline

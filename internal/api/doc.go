// Package api is the door for producers that are not written in Go: messages, what became of them, events, and the
// accounts' quotas, gates and windows over HTTP, with keys that say who may do what. openapi.json is its contract; a test
// holds every answer against it.
//
// The one fact to know: 202 is written after the commit. Whatever else comes back, and where nothing comes back, the same
// request may be made again, and with a key each message is sent once.
package api

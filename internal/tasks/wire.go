package tasks

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hongyan-dispatch/hongyan/message"
)

// The payload of message:send, version 1. Integers are varints as in encoding/binary; text is its
// length and its bytes; times are microseconds since 1970.
//
//	parcel   version(1 byte) id(16) account(text) kind(1) lane(1) count messages…
//	message  id(16) fields(1) then those whose bit is set, in the order of the bits, then body(text)
//	         0 to(text)  1 list: count, texts  2 key(text)  3 not before  4 expires at
//	         5 parent(16)  6 labels: count, then name and value of each, by name  7 fallback
//	fallback kind(1) lane(1, may be 0) account(text) message
//
// A message has its parcel's account, kind and lane. A fallback has no fallback.
const version = 1

const (
	hasTo = 1 << iota
	hasList
	hasKey
	hasNotBefore
	hasExpiresAt
	hasParent
	hasLabels
	hasFallback
)

// Codes on the wire are positions in these lists; append only. 0 is none.
var (
	kindCodes = []message.Kind{"", message.Template, message.Subscribe, message.Custom, message.Mass}
	laneCodes = []message.Lane{"", message.Urgent, message.Normal, message.Bulk}
)

const (
	// maxParcelBytes is the most a parcel of several messages may weigh; asynq writes the payloads of all
	// running tasks to Redis again every 5 s. A single message may weigh more, up to maxTaskBytes.
	maxParcelBytes = 64 << 10
	maxTaskBytes   = message.MaxMassBytes + 2*message.MaxBytes // a message, its fallback, our framing

	minMessageBytes = 16 + 1 + 1 + 2 // id, fields, length of the body, {}
)

// Bounds of a time: Postgres, JSON and the wire can all say it.
var (
	minTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	maxTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
)

// The rules below hold for both directions, so that what Encode writes Decode reads.

func checkTime(t time.Time) error {
	if t.Before(minTime) || t.After(maxTime) {
		return fmt.Errorf("time is not between the years 2000 and 9999")
	}
	return nil
}

// checkText refuses what a text column of Postgres refuses.
func checkText(s string) error {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		return fmt.Errorf("text is not UTF-8 without NUL")
	}
	return nil
}

// checkBody looks at the edges only: the sender puts its own members behind the first brace. That the
// rest is the JSON of its kind was checked where the message came in.
func checkBody(b []byte) error {
	if len(b) < 2 || b[0] != '{' || b[len(b)-1] != '}' {
		return fmt.Errorf("body is no JSON object")
	}
	if bytes.IndexByte(b, 0) >= 0 || !utf8.Valid(b) {
		return fmt.Errorf("body is not UTF-8 without NUL")
	}
	return nil
}

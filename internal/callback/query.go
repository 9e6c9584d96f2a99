package callback

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// replayWindow is how far a request's timestamp may lie from our clock. WeChat's repetitions come within seconds.
const replayWindow = 10 * time.Minute

// What the parts of a query may be at most.
const (
	maxNonce = 128
	maxEcho  = 256
)

// The answers to a request that is not let in. They are the whole answer: its sender learns no reason.
const (
	badRequest = http.StatusBadRequest
	forbidden  = http.StatusForbidden
	tooLarge   = http.StatusRequestEntityTooLarge
)

// A Refusal is why a request is not let in. Reason is one of a few constant sentences, fit for logs and metrics:
// it quotes nothing of the request, no token and no key. The sender gets Status and nothing else.
type Refusal struct {
	Status int // HTTP
	Reason string
}

// Error is the reason.
func (r *Refusal) Error() string { return r.Reason }

func refuse(status int, reason string) error { return &Refusal{status, reason} }

// A query is what WeChat adds to the URL.
type query struct {
	signature, msgSignature string
	timestamp, nonce        string
	encrypted               bool // encrypt_type is aes
}

// readQuery takes a query that is shaped like WeChat's and made about now. What it says is unchecked.
func readQuery(v url.Values, now time.Time) (query, error) {
	var q query
	for _, part := range []struct {
		name string
		to   *string
	}{
		{"signature", &q.signature},
		{"msg_signature", &q.msgSignature},
		{"timestamp", &q.timestamp},
		{"nonce", &q.nonce},
	} {
		if text, ok := only(v, part.name); ok && (text == "" || isToken(text, maxNonce)) {
			*part.to = text
		} else if len(v[part.name]) > 0 {
			return query{}, refuse(badRequest, "query is malformed")
		}
	}
	if q.timestamp == "" || q.nonce == "" || q.signature == "" && q.msgSignature == "" {
		return query{}, refuse(badRequest, "query lacks signature, timestamp or nonce")
	}
	at, ok := unixSeconds(q.timestamp)
	if !ok {
		return query{}, refuse(badRequest, "query is malformed")
	}
	if at.Sub(now).Abs() > replayWindow {
		return query{}, refuse(forbidden, "timestamp is more than 10 minutes off: a replay, or Postgres' clock is wrong, by which the server goes")
	}
	switch kind, ok := only(v, "encrypt_type"); {
	case len(v["encrypt_type"]) == 0 || ok && (kind == "" || kind == "raw"):
	case ok && kind == "aes":
		q.encrypted = true
	default:
		return query{}, refuse(badRequest, "query has an unknown encrypt_type")
	}
	return q, nil
}

// only is the value of a key that is there once. Of two values, another reader may take the other one.
func only(v url.Values, key string) (string, bool) {
	if len(v[key]) != 1 {
		return "", false
	}
	return v[key][0], true
}

// isToken says whether text is 1 to limit letters, digits and the signs of base64: nothing that is markup.
func isToken(text string, limit int) bool {
	for _, c := range []byte(text) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case c == '+', c == '/', c == '=', c == '-', c == '_':
		default:
			return false
		}
	}
	return text != "" && len(text) <= limit
}

// unixSeconds reads a query's timestamp: digits alone, so that one time has one spelling. The signature is over parts
// that are joined without a mark between them, so every freedom here helps to pass off old ones as new.
func unixSeconds(text string) (time.Time, bool) {
	if len(text) > 12 || strings.Trim(text, "0123456789") != "" || text[0] == '0' {
		return time.Time{}, false
	}
	v, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(v, 0), err == nil
}

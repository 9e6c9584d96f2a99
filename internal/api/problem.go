package api

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A problem is an answer that is none (RFC 9457).
type problem struct {
	Type   string               `json:"type"`
	Title  string               `json:"title"`
	Status int                  `json:"status"`
	Detail string               `json:"detail,omitempty"`
	Remedy string               `json:"remedy,omitempty"`
	Errors []message.FieldError `json:"errors,omitempty"` // what is wrong with the fields of the body

	after time.Duration // Retry-After
	close bool          // the rest of the body is not read
}

// The kinds of problem; the page at /docs explains each.
func trouble(status int, kind, title, detail, remedy string) *problem {
	return &problem{Type: "/docs#problem-" + kind, Title: title, Status: status, Detail: detail, Remedy: remedy}
}

func invalid(errs message.Invalid) *problem {
	p := trouble(http.StatusBadRequest, "invalid", "The body breaks a rule", errs.Error(), "mend the fields that errors names; nothing was accepted")
	p.Errors = errs
	return p
}

func malformed(detail, remedy string) *problem {
	return trouble(http.StatusBadRequest, "malformed", "The request cannot be read", detail, remedy)
}

func noKey() *problem {
	return trouble(http.StatusUnauthorized, "no-key", "No key, or one that opens nothing", "the request has no live API key",
		"send Authorization: Bearer hy_…; an operator makes keys with server key create")
}

func forbidden(detail string) *problem {
	return trouble(http.StatusForbidden, "forbidden", "The key does not allow this", detail, "ask an operator for a key with that scope")
}

func notFound(detail string) *problem {
	return trouble(http.StatusNotFound, "not-found", "There is no such thing", detail, "")
}

func conflict(detail, remedy string) *problem {
	return trouble(http.StatusConflict, "conflict", "It is not what it was thought to be", detail, remedy)
}

func tooLarge(detail, remedy string) *problem {
	p := trouble(http.StatusRequestEntityTooLarge, "too-large", "The body is too large", detail, remedy)
	p.close = true
	return p
}

func unavailable(detail string) *problem {
	p := trouble(http.StatusServiceUnavailable, "unavailable", "A store does not answer", detail,
		"make the same request again; nothing was accepted")
	p.after = time.Second
	return p
}

func inDoubt(detail string) *problem {
	p := trouble(http.StatusServiceUnavailable, "in-doubt", "Whether it was accepted is not known", detail,
		"make the same request again with the same keys: what was accepted is not accepted twice")
	p.after = time.Second
	return p
}

func tooMany(detail string, after time.Duration) *problem {
	p := trouble(http.StatusTooManyRequests, "too-many", "Too much at a time", detail, "wait as long as Retry-After says, and make the same request again")
	p.after = after
	return p
}

// seconds is a time for Retry-After: whole seconds, at least one.
func seconds(d time.Duration) int { return max(1, int(math.Ceil(d.Seconds()))) }

func (p *problem) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if p.after > 0 {
		h.Set("Retry-After", strconv.Itoa(seconds(p.after)))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="hongyan"`)
	}
	if p.close {
		h.Set("Connection", "close")
	}
	w.WriteHeader(p.Status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(p) // whoever asked asks again
}

// write writes an answer.
func write(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(answer) // whoever asked asks again
}

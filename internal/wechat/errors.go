package wechat

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// An Error is an errcode other than 0. It never holds a URL of ours, a token or a secret.
type Error struct {
	API  string // the path, such as /cgi-bin/message/template/send
	Code int    // errcode
	Msg  string // errmsg without the rid
	RID  string // WeChat's request id, for /cgi-bin/openapi/rid/get; kept there for 7 days

	miniprogram bool // the request carried a mini program
}

// Error is such as "/cgi-bin/message/custom/send: 45015 response out of time limit (rid …)".
func (e *Error) Error() string {
	if e.RID == "" {
		return fmt.Sprintf("%s: %d %s", e.API, e.Code, e.Msg)
	}
	return fmt.Sprintf("%s: %d %s (rid %s)", e.API, e.Code, e.Msg, e.RID)
}

// Disposition says what the refusal means for us.
func (e *Error) Disposition() Disposition {
	if e.Code == CodeAppID && e.miniprogram {
		return Request // the mini program is not bound to the account; the account is well
	}
	return DispositionOf(e.API, e.Code)
}

// DispositionInDoubt is Disposition for a message whose earlier attempt, less than 60 s ago, ended
// [Ambiguous]: then "the message is duplicate in 60 seconds" says that the earlier one was taken.
func (e *Error) DispositionInDoubt() Disposition {
	if e.Code == CodeDuplicateIn60s {
		return Accepted
	}
	return e.Disposition()
}

// RetryAfter is how long WeChat wants us to wait; 0 where the code says nothing of time.
func (e *Error) RetryAfter() time.Duration {
	if r := find(e.Code); r != nil {
		return r.wait
	}
	return 0
}

// TokenRefused says whether this errcode asks for one refresh of the token and one repetition.
func (e *Error) TokenRefused() bool { return e.Disposition() == TokenRefresh }

var (
	errNoToken  = errors.New("no access token")
	errNoObject = errors.New("the body is no JSON object")
)

// maxErrmsg bounds what is kept of an errmsg.
const maxErrmsg = 512

// splitRID takes " rid: 5f2a…-…-…" off the end of an errmsg.
func splitRID(errmsg string) (msg, rid string) {
	msg = errmsg
	if i := strings.LastIndex(errmsg, "rid: "); i >= 0 && !strings.ContainsAny(errmsg[i+5:], " ,]") {
		msg, rid = errmsg[:i], errmsg[i+5:]
	}
	if len(msg) > maxErrmsg {
		msg = msg[:maxErrmsg]
	}
	return strings.ToValidUTF8(strings.TrimSpace(msg), ""), rid
}

// transportError says what went wrong on the way, naming the API and the host and never the URL.
func transportError(r Call, err error) error {
	for {
		var u *url.Error
		if !errors.As(err, &u) {
			break
		}
		err = u.Err // what stood around it held the URL too
	}
	if text := err.Error(); hide(text, r) != text || strings.Contains(text, "access_token=") {
		err = errorsWithout(err)
	}
	return fmt.Errorf("%s: %s: %w", r.Path, r.Base.Host, err)
}

// errorsWithout is for an error that quotes what it must not: only its kind is kept.
func errorsWithout(err error) error {
	for _, kind := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return errors.New("transport error (its text held a credential)")
}

// hide blots out the credentials of r in text, which may be WeChat's own words.
func hide(text string, r Call) string {
	for _, s := range []Secret{r.Token, r.Hide} {
		if !s.IsZero() {
			text = strings.ReplaceAll(text, s.Reveal(), redacted)
			text = strings.ReplaceAll(text, url.QueryEscape(s.Reveal()), redacted)
		}
	}
	return text
}

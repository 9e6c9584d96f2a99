package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// ErrForbidden says that the API key opens nothing, or does not allow this.
var ErrForbidden = errors.New("the API key does not allow it")

// A Remote enqueues over the HTTP API of a server, for programs that reach neither Redis nor Postgres. What it accepts is
// committed in Postgres. Its methods may be called concurrently.
//
// It repeats what failed for no fault of the request, as long as the context lasts but at most for [Patience], and waits as
// long as the server asks. A try that gets no answer for 20 seconds is given up. A message is sent once all the same: one
// without a Key is given one, the same for every try.
type Remote struct {
	base *url.URL
	key  string
	http *http.Client
	try  time.Duration // tryFor, but in tests
}

// slowLine is how many bytes of a body a line may take a second for.
const slowLine = 64 << 10

// typeJSON is the media type of what is posted, unless it says another.
const typeJSON = "application/json"

// HTTP is a client of the server at a URL, such as https://hongyan.example.com, with an API key (server key create).
func HTTP(server, key string) (*Remote, error) {
	base, err := url.Parse(server)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.RawQuery != "" {
		return nil, errors.New("server: want a URL such as https://hongyan.example.com")
	}
	if key == "" || strings.ContainsAny(key, " \r\n") {
		return nil, errors.New("key: want an API key such as server key create prints")
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the key goes nowhere else
	return &Remote{base: base, key: key, try: tryFor, http: &http.Client{Transport: t, CheckRedirect: refuse}}, nil
}

// patient is the same client, for requests that take long: one try has all the time there is.
func (r *Remote) patient() *Remote {
	p := *r
	p.try = Patience
	return &p
}

// Close releases idle connections.
func (r *Remote) Close() error {
	r.http.CloseIdleConnections()
	return nil
}

// Durability says what accepted messages depend on.
func (*Remote) Durability() Durability { return InPostgres }

// A Problem is the server's answer to a request that it did not do (RFC 9457).
type Problem struct {
	Type   string          `json:"type"`
	Title  string          `json:"title"`
	Status int             `json:"status"`
	Detail string          `json:"detail"`
	Remedy string          `json:"remedy"`
	Errors message.Invalid `json:"errors"`

	after time.Duration
}

func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = fmt.Sprintf("the server answered %d %s", p.Status, p.Title)
	}
	if p.Remedy != "" {
		text += "; " + p.Remedy
	}
	return text
}

// Unwrap makes of the problem the error that a [Client] would give.
func (p *Problem) Unwrap() error {
	switch {
	case p.Status == http.StatusBadRequest && len(p.Errors) > 0:
		return p.Errors
	case p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden:
		return ErrForbidden
	case p.Status == http.StatusNotFound:
		return ErrNotFound
	case p.Status == http.StatusConflict && len(p.Errors) > 0:
		return ErrKeyConflict
	case strings.HasSuffix(p.Type, "problem-in-doubt"):
		return ErrInDoubt
	case p.passing():
		return ErrUnavailable
	}
	return nil
}

// passing says whether the same request may succeed later.
func (p *Problem) passing() bool {
	switch p.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// Enqueue enqueues one message, in the normal lane unless it says otherwise. The error is that of the receipt.
func (r *Remote) Enqueue(ctx context.Context, m message.Message) (Receipt, error) {
	receipt := Receipt{Durability: InPostgres}
	if err := sendable(&m, false); err != nil {
		receipt.fail(err)
		return receipt, err
	}
	var answer struct {
		ID        message.ID   `json:"id"`
		Parts     []message.ID `json:"parts"`
		Approval  message.ID   `json:"approval_id"`
		Duplicate bool         `json:"duplicate"`
	}
	if err := r.do(ctx, http.MethodPost, "/v1/messages", m.AppendJSON(nil), &answer); err != nil {
		receipt.fail(err)
		return receipt, err
	}
	receipt.ID, receipt.Parts, receipt.Approval, receipt.Duplicate = answer.ID, answer.Parts, answer.Approval, answer.Duplicate
	return receipt, nil
}

// sendable readies a message for its way: whole, valid, and with a key, under which it may be posted again.
func sendable(m *message.Message, batch bool) error {
	if m.Fallback != nil { // the caller's stays as it is
		fallback := *m.Fallback
		m.Fallback = &fallback
	}
	m.Defaults(batch)
	if err := m.Validate(time.Now()); err != nil {
		return err
	}
	if m.Key == "" {
		m.Key = "auto-" + message.NewID(time.Now()).String()
	}
	return nil
}

// EnqueueBatch enqueues many messages, in the bulk lane unless they say otherwise. A message that is refused stops no
// other: see the receipts, which stand in the order of the messages.
func (r *Remote) EnqueueBatch(ctx context.Context, messages []message.Message) []Receipt {
	receipts := make([]Receipt, len(messages))
	open := make([]int, 0, len(messages)) // that have no receipt yet
	own := make([]message.Message, len(messages))
	for i := range messages {
		own[i], receipts[i] = messages[i], Receipt{Durability: InPostgres}
		if err := sendable(&own[i], true); err != nil {
			receipts[i].fail(err)
		} else {
			open = append(open, i)
		}
	}
	t := newTries(ctx)
	defer t.end()
	for len(open) > 0 {
		left, err := r.lines(t, own, open, receipts)
		if open = left; len(open) == 0 {
			break
		}
		if again, last := t.again(err); !again {
			for _, i := range open {
				receipts[i].fail(last)
			}
			break
		}
	}
	return receipts
}

// lines posts messages as JSON Lines, and says which have no result that lasts.
func (r *Remote) lines(t *tries, messages []message.Message, open []int, receipts []Receipt) (left []int, err error) {
	out, in := io.Pipe()
	defer out.Close() // whoever writes learns that nobody reads
	go func() {
		var chunk []byte
		for _, i := range open {
			chunk = append(messages[i].AppendJSON(chunk), '\n')
			if len(chunk) >= 64<<10 {
				if _, err := in.Write(chunk); err != nil {
					return
				}
				chunk = chunk[:0]
			}
		}
		_, _ = in.Write(chunk) // the answer tells
		_ = in.Close()
	}()
	w := watch(t.ctx, r.try)
	defer w.end()
	res, err := r.send(w.ctx, http.MethodPost, "/v1/messages", "application/x-ndjson", &moving{out, w})
	if err != nil {
		return open, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return open, problemOf(res)
	}
	done := make([]bool, len(open))
	results := json.NewDecoder(res.Body)
	for {
		var l struct {
			Problem
			Line       int          `json:"line"`
			ID         message.ID   `json:"id"`
			Duplicate  bool         `json:"duplicate"`
			Parts      []message.ID `json:"parts"`
			Done       bool         `json:"done"`
			RetryAfter int          `json:"retry_after"`
		}
		if err = results.Decode(&l); err != nil {
			break // it broke off
		}
		w.moved()
		l.Problem.after = time.Duration(l.RetryAfter) * time.Second
		n := l.Line - 1
		switch {
		case l.Line == 0 && l.Done:
			err = io.EOF
		case l.Line == 0:
			l.Problem.Status = http.StatusServiceUnavailable
			err = &l.Problem
		case n < 0 || n >= len(open):
			err = fmt.Errorf("the server answered for line %d of %d", l.Line, len(open))
		case l.Status == http.StatusAccepted:
			at := &receipts[open[n]]
			at.ID, at.Duplicate, at.Parts, done[n] = l.ID, l.Duplicate, l.Parts, true
		case !l.passing():
			p := l.Problem
			receipts[open[n]].fail(&p)
			done[n] = true
		}
		if err != nil {
			break
		}
		if done[n] {
			t.goesOn()
		}
	}
	for n, i := range open {
		if !done[n] {
			left = append(left, i)
		}
	}
	return left, err
}

// Event notes what a user did. It may be reported in any order and any number of times.
func (r *Remote) Event(ctx context.Context, e Event) error {
	if err := e.Validate(time.Now()); err != nil {
		return err
	}
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return r.do(ctx, http.MethodPost, "/v1/events", body, nil)
}

// Status asks what became of a message. The answer's Message has no body, and of a mass list no recipients.
func (r *Remote) Status(ctx context.Context, id message.ID) (Status, error) {
	return r.status(ctx, "/v1/messages/"+id.String())
}

// Find asks what became of the message of a key.
func (r *Remote) Find(ctx context.Context, account, key string) (Status, error) {
	return r.status(ctx, "/v1/messages?"+url.Values{"account": {account}, "key": {key}}.Encode())
}

func (r *Remote) status(ctx context.Context, path string) (Status, error) {
	var a struct {
		ID        message.ID        `json:"id"`
		Parent    message.ID        `json:"parent_id"`
		Account   string            `json:"account"`
		Kind      message.Kind      `json:"kind"`
		Recipient string            `json:"recipient"`
		Key       string            `json:"key"`
		Lane      message.Lane      `json:"lane"`
		Status    outcome.Status    `json:"status"`
		Reason    outcome.Reason    `json:"reason"`
		ErrCode   int               `json:"errcode"`
		MsgID     string            `json:"wechat_msgid"`
		Attempts  int               `json:"attempts"`
		Due       time.Time         `json:"due_at"`
		Finished  time.Time         `json:"finished_at"`
		Labels    map[string]string `json:"labels"`
		Timeline  []Step            `json:"timeline"`
	}
	if err := r.do(ctx, http.MethodGet, path, nil, &a); err != nil {
		return Status{}, err
	}
	m := &message.Message{ID: a.ID, Parent: a.Parent, Account: a.Account, Kind: a.Kind, Key: a.Key, Lane: a.Lane, Labels: a.Labels}
	if a.Kind != message.Mass {
		m.To = message.OpenID(a.Recipient)
	}
	msgID, _ := strconv.ParseInt(a.MsgID, 10, 64) // empty is 0
	return Status{
		Message: m, Status: a.Status, Reason: a.Reason, Attempts: a.Attempts, ErrCode: a.ErrCode, MsgID: msgID,
		Due: a.Due, Finished: a.Finished, Timeline: a.Timeline,
	}, nil
}

// Cancel ends a message that is accepted or parked, and says which status the message has now.
func (r *Remote) Cancel(ctx context.Context, id message.ID) (outcome.Status, error) {
	err := r.do(ctx, http.MethodPost, "/v1/messages/"+id.String()+"/cancel", nil, nil)
	if p, ok := errors.AsType[*Problem](err); ok && p.Status == http.StatusConflict {
		s, err := r.Status(ctx, id)
		return s.Status, err
	}
	if err != nil {
		return "", err
	}
	return outcome.Cancelled, nil
}

// do makes a request until it is answered for good, and reads the answer.
func (r *Remote) do(ctx context.Context, method, path string, body []byte, into any) error {
	kind := ""
	if body != nil {
		kind = typeJSON
	}
	return r.doAs(ctx, method, path, kind, body, into)
}

func (r *Remote) doAs(ctx context.Context, method, path, kind string, body []byte, into any) error {
	t := newTries(ctx)
	defer t.end()
	for {
		try, cancel := context.WithTimeout(t.ctx, r.try+time.Duration(len(body))*time.Second/slowLine)
		err := r.once(try, method, path, kind, body, into)
		cancel()
		if err == nil {
			return nil
		}
		if again, last := t.again(err); !again {
			return last
		}
	}
}

func (r *Remote) once(ctx context.Context, method, path, kind string, body []byte, into any) error {
	res, err := r.send(ctx, method, path, kind, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusMultipleChoices {
		return problemOf(res)
	}
	if into == nil {
		_, err = io.Copy(io.Discard, res.Body)
		return err
	}
	return json.NewDecoder(res.Body).Decode(into)
}

func (r *Remote) send(ctx context.Context, method, path, kind string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(r.base.String(), "/")+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+r.key)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	res, err := r.http.Do(req)
	if unwanted, ok := errors.AsType[*url.Error](err); ok {
		err = unwanted.Err // without the URL, which may hold a key
	}
	return res, err
}

// maxProblem bounds what is read of an answer that is none of ours.
const maxProblem = 1 << 20

func problemOf(res *http.Response) *Problem {
	p := &Problem{}
	_ = json.NewDecoder(io.LimitReader(res.Body, maxProblem)).Decode(p) // a proxy may have its own form
	p.Status = res.StatusCode
	p.after = retryAfter(res.Header.Get("Retry-After"), time.Now())
	return p
}

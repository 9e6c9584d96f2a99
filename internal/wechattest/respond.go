package wechattest

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// WeChat's own header; it is not always this one, clients must look at the body.
var contentType = []string{"application/json; encoding=utf-8"}

// respond writes the answer, late and damaged if that was asked for.
func (c *call) respond(w http.ResponseWriter, bad *refusal) {
	if f := c.strike; f != nil && f.Kind == Errcode {
		bad = refuse(f.Code) // accepted, and yet this answer
	}
	if bad != nil {
		c.refused(bad)
	}
	if d := c.sim.latency.Load().draw(c.sim); d > 0 {
		c.sim.hang(d)
	}
	if c.early != nil {
		select {
		case <-c.early:
		case <-c.sim.done:
		}
	}
	if c.strike != nil {
		if c.account != nil {
			c.meter().damaged()
		}
		if c.damage(w, c.strike) {
			return
		}
	}
	h := w.Header()
	h["Content-Type"] = contentType
	if !c.sim.Clock.isReal() {
		h.Set("Date", c.sim.Clock.Now().UTC().Format(http.TimeFormat))
	}
	_, _ = w.Write(c.out)
}

// refused makes the refusal the answer, remembers it under its rid, and counts it.
func (c *call) refused(bad *refusal) {
	rid := c.sim.newRID(c.now)
	c.out = append(c.out[:0], `{"errcode":`...)
	c.out = strconv.AppendInt(c.out, int64(bad.code), 10)
	c.out = append(c.out, `,"errmsg":`...)
	c.out = quote(c.out, bad.msg+" rid: "+rid)
	c.out = append(c.out, bad.extra...)
	c.out = append(c.out, '}')
	if c.account == nil || c.ep == nil {
		return
	}
	m := c.meter()
	m.answered(bad.code)
	if c.spent && c.set.OnlyAccepted {
		m.refund(c.now)
	}
	c.sim.rids.keep(rid, c)
}

// damage answers as the fault says; false leaves the true answer to the caller.
func (c *call) damage(w http.ResponseWriter, f *Fault) bool {
	switch f.Kind {
	case Hang:
		c.sim.hang(f.For)
		return false
	case Errcode:
		return false
	case Status:
		http.Error(w, http.StatusText(f.Code), f.Code)
	case HTML:
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(w, "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>")
	case Truncate:
		w.Header()["Content-Type"] = contentType
		out := c.answerOrNothing()
		_, _ = w.Write(out[:len(out)/2])
	case Redirect:
		to := f.Location
		if to == "" {
			to = "http://" + c.req.Host + c.req.URL.RequestURI()
		}
		http.Redirect(w, c.req, to, http.StatusTemporaryRedirect)
	default:
		c.cut(w, f.Kind)
	}
	return true
}

func (c *call) answerOrNothing() []byte {
	if len(c.out) == 0 {
		c.out = append(c.out, "{}"...)
	}
	return c.out
}

// cut ends the connection as the kind of fault says.
func (c *call) cut(w http.ResponseWriter, kind FaultKind) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		panic(http.ErrAbortHandler) // HTTP/2, or a recorder: the server ends the stream
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	out := c.answerOrNothing()
	whole := "HTTP/1.1 200 OK\r\nContent-Type: " + contentType[0] + "\r\nContent-Length: " + strconv.Itoa(len(out)) + "\r\n\r\n"
	switch kind {
	case HalfReply:
		_, _ = conn.Write(append([]byte(whole), out[:len(out)/2]...))
	case HangUp:
		_, _ = conn.Write(append([]byte(whole), out...))
	case Reset:
		inner := conn
		if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
			inner = t.NetConn()
		}
		if t, ok := inner.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
	}
	_ = conn.Close()
}

// hang waits in real time, or until the simulator closes.
func (s *Sim) hang(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.done:
	}
}

// newRID is a request id as WeChat writes it: three groups of 8 hex digits, the first of them the time.
func (s *Sim) newRID(now time.Time) string {
	s.randMu.Lock()
	defer s.randMu.Unlock()
	return fmt.Sprintf("%08x-%08x-%08x", uint32(now.Unix()), s.rand.Uint32(), s.rand.Uint32())
}

// ridMemory keeps the latest refusals for openapi/rid/get.
type ridMemory struct {
	mu    sync.Mutex
	byRID map[string]ridRecord
	ring  [1024]string
	next  int
}

type ridRecord struct {
	account  *Account
	at       time.Time
	took     time.Duration
	path     string
	body     string
	answer   string
	clientIP string
}

func (m *ridMemory) keep(rid string, c *call) {
	ip, _, _ := net.SplitHostPort(c.req.RemoteAddr)
	r := ridRecord{
		account: c.account, at: c.now, took: c.sim.Clock.Now().Sub(c.now), path: c.ep.path,
		body: string(c.body[:min(len(c.body), 4096)]), answer: string(c.out), clientIP: ip,
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byRID == nil {
		m.byRID = map[string]ridRecord{}
	}
	delete(m.byRID, m.ring[m.next])
	m.ring[m.next] = rid
	m.next = (m.next + 1) % len(m.ring)
	m.byRID[rid] = r
}

func (m *ridMemory) find(rid string) (ridRecord, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.byRID[rid]
	return r, ok
}

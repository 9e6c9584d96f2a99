package wechattest

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// A LogMode is how much the accept log keeps.
type LogMode int32

// The modes of the log.
const (
	LogSends  LogMode = iota // every accepted send, about 100 bytes each
	LogBodies                // and its body
	LogCounts                // only its number, for benchmarks
)

// An Accept is one send that the simulator accepted, that is, decided to deliver. It was written before
// the simulator decided whether to answer.
type Accept struct {
	Seq        uint64    `json:"seq"` // from 1, without gaps between the logged
	At         time.Time `json:"at"`  // by the simulator's clock
	AppID      string    `json:"appid"`
	API        string    `json:"api"`
	To         string    `json:"to"`         // the openid; for a mass send list:N, tag:ID or all
	Recipients int       `json:"recipients"` // 1; of a mass send, those who get it
	ClientID   string    `json:"client_id,omitempty"`
	Content    string    `json:"content"`         // hash of what the user sees: the same for the same content
	MsgID      int64     `json:"msgid,omitempty"` // 0 where the API gives none
	DataID     int64     `json:"data_id,omitempty"`
	Body       string    `json:"body,omitempty"` // under LogBodies
}

// acceptLog holds records in chunks without pointers, so that a long log costs the collector nothing.
type acceptLog struct {
	mode   atomic.Int32
	total  atomic.Uint64
	mu     sync.Mutex
	chunks []*logChunk
}

type logChunk struct {
	records []record
	text    []byte // to, client id and body of the records, one after another
}

type record struct {
	at          int64
	msgID       int64
	dataID      int64
	content     uint64
	recipients  int32
	textAt      uint32
	bodyLen     uint32
	toLen       uint16
	clientIDLen uint16
	account     uint16
	api         uint16
}

const (
	chunkRecords = 4096
	maxLoggedID  = 256 // bytes of a client id
)

// accepted writes a send into the log and counts it. It is called before the answer is made.
func (c *call) accepted(to, clientID []byte, content uint64, recipients int, msgID, dataID int64) {
	c.sim.log.add(record{
		at: c.now.UnixNano(), msgID: msgID, dataID: dataID, content: content,
		recipients: int32(recipients), account: c.account.number, api: uint16(c.ep.number),
	}, to, clientID, c.body)
	c.meter().accepted(c.now)
}

func (l *acceptLog) add(r record, to, clientID, body []byte) {
	mode := LogMode(l.mode.Load())
	if mode == LogCounts {
		l.total.Add(1)
		return
	}
	if mode != LogBodies {
		body = nil
	}
	clientID = clientID[:min(len(clientID), maxLoggedID)]
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.chunks) - 1
	if last < 0 || len(l.chunks[last].records) == chunkRecords || len(l.chunks[last].text) > 16<<20 {
		l.chunks = append(l.chunks, &logChunk{
			records: make([]record, 0, chunkRecords),
			text:    make([]byte, 0, 64*chunkRecords),
		})
		last++
	}
	c := l.chunks[last]
	r.textAt, r.toLen, r.clientIDLen, r.bodyLen = uint32(len(c.text)), uint16(len(to)), uint16(len(clientID)), uint32(len(body))
	c.text = append(append(append(c.text, to...), clientID...), body...)
	c.records = append(c.records, r)
	l.total.Add(1)
}

// SetLog changes what the log keeps from now on.
func (s *Sim) SetLog(m LogMode) { s.log.mode.Store(int32(m)) }

// AcceptedTotal is how many sends were accepted, logged or only counted.
func (s *Sim) AcceptedTotal() int { return int(s.log.total.Load()) }

// Accepts calls f for every logged send after the one numbered after, in order, until f gives false.
// Sends may be accepted meanwhile; those are seen too or not.
func (s *Sim) Accepts(after uint64, f func(Accept) bool) {
	accounts := s.Accounts()
	apis := make([]string, len(s.routes))
	for path, ep := range s.routes {
		apis[ep.number] = path
	}
	seq := uint64(0)
	for i := 0; ; i++ {
		c, records := s.log.chunk(i)
		if records == nil {
			return
		}
		if seq+uint64(len(records)) <= after {
			seq += uint64(len(records))
			continue
		}
		for _, r := range records {
			if seq++; seq <= after {
				continue
			}
			if !f(r.accept(seq, c, accounts, apis)) {
				return
			}
		}
	}
}

// chunk is the i-th chunk as it stands: what it holds already never changes.
func (l *acceptLog) chunk(i int) (text []byte, records []record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i >= len(l.chunks) {
		return nil, nil
	}
	return l.chunks[i].text, l.chunks[i].records
}

func (r record) accept(seq uint64, all []byte, accounts []*Account, apis []string) Accept {
	t := all[r.textAt:]
	to, t := t[:r.toLen], t[r.toLen:]
	clientID, t := t[:r.clientIDLen], t[r.clientIDLen:]
	return Accept{
		Seq: seq, At: time.Unix(0, r.at).In(Beijing), AppID: accounts[r.account].set.Load().AppID, API: apis[r.api],
		To: string(to), Recipients: int(r.recipients), ClientID: string(clientID),
		Content: strconv.FormatUint(r.content, 16), MsgID: r.msgID, DataID: r.dataID, Body: string(t[:r.bodyLen]),
	}
}

// AllAccepts are all logged sends.
func (s *Sim) AllAccepts() []Accept {
	var all []Accept
	s.Accepts(0, func(a Accept) bool {
		all = append(all, a)
		return true
	})
	return all
}

// CountBy counts the logged sends by what key makes of each; an empty key is not counted.
func (s *Sim) CountBy(key func(Accept) string) map[string]int {
	n := map[string]int{}
	s.Accepts(0, func(a Accept) bool {
		if k := key(a); k != "" {
			n[k]++
		}
		return true
	})
	return n
}

// ByClientID and ByOpenID are keys for [Sim.CountBy].
func ByClientID(a Accept) string { return a.ClientID }

// ByOpenID counts sends to single users.
func ByOpenID(a Accept) string {
	if a.API == PathMassSend || a.API == PathMassSendAll {
		return ""
	}
	return a.To
}

// contentHash is the hash of what a user sees of a message, given in parts.
func contentHash(parts ...[]byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	for _, p := range parts {
		_, _ = d.Write(p)
		_, _ = d.Write([]byte{0})
	}
	return d.Sum64()
}

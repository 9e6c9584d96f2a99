package wechattest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what the whole simulator is made with. The zero value answers at once, in real time, and
// logs every accepted send.
type Options struct {
	Latency Latency
	Log     LogMode
	Seed    uint64 // of everything random; 0 takes one, see [Sim.Seed]
}

// A Sim is the simulator: an [http.Handler] for WeChat's API and, under /_sim/, for its own
// administration. It is safe for concurrent use.
type Sim struct {
	Clock Clock

	seed     uint64
	routes   map[string]*endpoint
	admin    http.Handler
	latency  atomic.Pointer[Latency]
	faults   faults
	log      acceptLog
	tokens   sync.Map // value → *token
	accounts sync.Map // appid → *Account
	unknown  atomic.Int64
	ids      atomic.Int64 // for msgids
	pushes   *pushes
	rids     ridMemory
	done     chan struct{}
	close    func()

	randMu sync.Mutex
	rand   *rand.Rand

	listMu sync.Mutex
	list   []*Account
}

// New makes a simulator without accounts.
func New(o Options) *Sim {
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	s := &Sim{seed: o.Seed, rand: rand.New(rand.NewPCG(o.Seed, 1)), done: make(chan struct{})}
	s.pushes = newPushes(s, o.Seed)
	s.close = sync.OnceFunc(func() { close(s.done) })
	s.routes = routes()
	s.admin = s.adminRoutes()
	s.log.mode.Store(int32(o.Log))
	s.latency.Store(&o.Latency)
	return s
}

// Seed repeats this run's random choices, as far as calls come in the same order.
func (s *Sim) Seed() uint64 { return s.seed }

// Close lets calls that hang go on at once, and waits for pushes that are on their way; those that wait for their
// time are not sent.
func (s *Sim) Close() {
	s.close()
	s.pushes.stop()
}

// SetLatency changes how long answers take.
func (s *Sim) SetLatency(l Latency) { s.latency.Store(&l) }

// AddAccount adds an account.
func (s *Sim) AddAccount(set Settings) (*Account, error) {
	ready, err := set.clone().ready(s.pathOf)
	if err != nil {
		return nil, err
	}
	s.listMu.Lock()
	defer s.listMu.Unlock()
	if s.Account(set.AppID) != nil {
		return nil, fmt.Errorf("account %s: there is one already", set.AppID)
	}
	a := &Account{
		sim: s, number: uint16(len(s.list)), users: map[string]*user{},
		meters: make([]meter, len(s.routes)), media: map[string]medium{},
	}
	a.set.Store(ready)
	s.list = append(s.list, a)
	s.accounts.Store(set.AppID, a)
	return a, nil
}

// MustAddAccount is AddAccount for settings that are known to be good; it panics where they are not.
func (s *Sim) MustAddAccount(set Settings) *Account {
	a, err := s.AddAccount(set)
	if err != nil {
		panic("wechattest: " + err.Error())
	}
	return a
}

// Account is the account of an appid, nil if there is none.
func (s *Sim) Account(appID string) *Account {
	a, ok := s.accounts.Load(appID)
	if !ok {
		return nil
	}
	return a.(*Account)
}

// Accounts are all accounts, in the order in which they were added.
func (s *Sim) Accounts() []*Account {
	s.listMu.Lock()
	defer s.listMu.Unlock()
	return slices.Clone(s.list)
}

// UnknownCalls is how many calls named no account: no such appid, or a token that was never given out.
func (s *Sim) UnknownCalls() int64 { return s.unknown.Load() }

// pathOf is the path of an API that is given by its path or by the end of it, such as "template/send".
func (s *Sim) pathOf(api string) (string, error) {
	if s.routes[api] != nil {
		return api, nil
	}
	found := ""
	for path := range s.routes {
		if strings.HasSuffix(path, "/"+strings.TrimPrefix(api, "/")) {
			if found != "" {
				return "", fmt.Errorf("API %q is both %s and %s", api, found, path)
			}
			found = path
		}
	}
	if found == "" {
		return "", fmt.Errorf("API %q is not known", api)
	}
	return found, nil
}

// ServeHTTP answers one call.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, adminPrefix) {
		s.admin.ServeHTTP(w, r)
		return
	}
	c := calls.Get().(*call)
	c.begin(s, r)
	defer c.end()
	if err := c.readBody(w); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			http.Error(w, "request entity too large", http.StatusRequestEntityTooLarge)
		}
		return // else the caller went away in mid-request: nothing was decided
	}
	bad := c.judge()
	c.respond(w, bad)
}

// A call is one request on its way through the simulator.
type call struct {
	sim     *Sim
	req     *http.Request
	query   string
	ep      *endpoint // nil: no such path
	account *Account
	set     *settings
	now     time.Time
	spent   bool            // the call took one from the day's quota
	strike  *Fault          // a fault that damages the answer
	early   <-chan struct{} // closed when a receipt was pushed that comes before the answer
	in      bytes.Buffer
	body    []byte
	out     []byte
}

var calls = sync.Pool{New: func() any { return new(call) }}

func (c *call) begin(s *Sim, r *http.Request) {
	c.sim, c.req, c.query, c.now = s, r, r.URL.RawQuery, s.Clock.Now()
	c.ep = s.routes[r.URL.Path]
	c.account, c.set, c.strike, c.spent, c.early = nil, nil, nil, false, nil
	c.in.Reset()
	c.body, c.out = nil, c.out[:0]
}

func (c *call) end() {
	c.req, c.account, c.set, c.body = nil, nil, nil, nil
	if c.in.Cap() <= 64<<10 {
		calls.Put(c)
	}
}

const (
	maxBody  = 4 << 20
	maxMedia = 12 << 20
)

func (c *call) readBody(w http.ResponseWriter) error {
	if c.req.Body == nil || c.req.Body == http.NoBody {
		return nil
	}
	limit := int64(maxBody)
	if c.ep != nil && c.ep.path == PathMediaUpload {
		limit = maxMedia
	}
	if c.req.ContentLength < 0 || c.req.ContentLength > limit {
		_, err := c.in.ReadFrom(http.MaxBytesReader(w, c.req.Body, limit))
		c.body = c.in.Bytes()
		return err
	}
	c.in.Grow(int(c.req.ContentLength) + bytes.MinRead)
	_, err := c.in.ReadFrom(c.req.Body)
	c.body = c.in.Bytes()
	if err == nil && int64(len(c.body)) < c.req.ContentLength {
		return io.ErrUnexpectedEOF
	}
	return err
}

// newTokenValue is a token's text: 136 characters, as WeChat's are.
func (s *Sim) newTokenValue(generation int64) string {
	var b [96]byte
	s.randMu.Lock()
	defer s.randMu.Unlock()
	for i := range b {
		b[i] = byte(s.rand.Uint32())
	}
	return strconv.FormatInt(generation%90+10, 10) + "_" + base64.RawURLEncoding.EncodeToString(b[:]) + "AAAAA"
}

// newMsgID is a msgid above 2^53, which a float64 cannot hold.
func (s *Sim) newMsgID() int64 { return 3_000_000_000_000_000_001 + 1_000_003*s.ids.Add(1) }

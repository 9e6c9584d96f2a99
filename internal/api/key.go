package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A Key lets a producer in.
type Key struct {
	ID        string
	Name      string // who holds it; two keys of one name are one person's
	Hash      [sha256.Size]byte
	Scopes    []Scope
	PerSecond float64   // messages and events, good or bad, and other requests, at this process; 0: any number
	Expires   time.Time // zero: never
}

const (
	keyPrefix   = "hy"
	secretBytes = 32
)

// NewKey makes a key's id, its text, which is shown once and never kept, and the hash that is kept.
func NewKey() (id, text string, hash [sha256.Size]byte) {
	var name [6]byte
	var secret [secretBytes]byte
	_, _ = rand.Read(name[:]) // never fails (crypto/rand, Go 1.24)
	_, _ = rand.Read(secret[:])
	id = hex.EncodeToString(name[:])
	return id, keyPrefix + "_" + id + "_" + base64.RawURLEncoding.EncodeToString(secret[:]), sha256.Sum256(secret[:])
}

// openKey takes a key's text apart.
func openKey(text string) (id string, hash [sha256.Size]byte, ok bool) {
	parts := strings.SplitN(text, "_", 3)
	if len(parts) != 3 || parts[0] != keyPrefix {
		return "", hash, false
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(secret) != secretBytes {
		return "", hash, false
	}
	return parts[1], sha256.Sum256(secret), true
}

// freshFor is how long keys are believed that were read: so long a revoked one still opens.
const freshFor = 2 * time.Second

// loadWithin bounds the wait for a store that hangs, in which everybody waits.
const loadWithin = 3 * time.Second

// keyring holds the live keys, read all at once: a stranger's guesses cost no query.
type keyring struct {
	load func(context.Context) ([]Key, error)

	mu     sync.Mutex
	read   time.Time // by this machine's clock, which nothing puts back
	byID   map[string]*holder
	failed error
}

// A holder is a live key with what it has used of its rate.
type holder struct {
	Key
	limiter *rate.Limiter
}

var errNoKey = errors.New("no such key")

// find is the live key of that text at this time, of all processes. Any error but errNoKey is a store's.
func (r *keyring) find(ctx context.Context, text string, now time.Time) (*holder, error) {
	id, hash, wellFormed := openKey(text)
	if !wellFormed {
		return nil, errNoKey
	}
	keys, err := r.keys(ctx)
	if err != nil {
		return nil, err
	}
	k, known := keys[id]
	var held [sha256.Size]byte
	if known {
		held = k.Hash
	}
	if subtle.ConstantTimeCompare(held[:], hash[:]) != 1 || !known || !k.Expires.IsZero() && !k.Expires.After(now) {
		return nil, errNoKey
	}
	return k, nil
}

func (r *keyring) keys(ctx context.Context) (map[string]*holder, error) {
	r.mu.Lock()
	defer r.mu.Unlock() // one reads, the others wait for it
	now := time.Now()
	if now.Sub(r.read) < freshFor {
		return r.byID, r.failed
	}
	loading, cancel := context.WithTimeout(ctx, loadWithin)
	defer cancel()
	list, err := r.load(loading)
	if err != nil && ctx.Err() != nil {
		return nil, err // the asker went away, which says nothing of the store
	}
	r.read, r.failed = now, err
	if err != nil {
		return nil, err
	}
	byID := make(map[string]*holder, len(list))
	for _, k := range list {
		h := &holder{Key: k}
		if was, known := r.byID[k.ID]; known && was.PerSecond == k.PerSecond {
			h.limiter = was.limiter
		} else if k.PerSecond > 0 {
			h.limiter = rate.NewLimiter(rate.Limit(k.PerSecond), max(burst, int(math.Ceil(k.PerSecond))))
		}
		byID[k.ID] = h
	}
	r.byID = byID
	return byID, nil
}

// burst is what a key may do at once: a whole array of messages, or a slab of a stream.
const burst = MaxArray

// take lets n elements, or one other request, pass, or says how long to wait.
func (h *holder) take(n int, now time.Time) (wait time.Duration) {
	if h.limiter == nil {
		return 0
	}
	r := h.limiter.ReserveN(now, n)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// bearer is the key of a request.
func bearer(r *http.Request) (string, bool) {
	scheme, text, found := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(text), found && strings.EqualFold(scheme, "Bearer")
}

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

var wholeOpenID = regexp.MustCompile(`oCHAOS\d{22}`)

// canaries searches for what must stand nowhere: secrets and tokens in the logs and metrics of workers and servers, in
// the API's replies, in Redis and in the ledger's texts; whole openids in logs, metrics, and where no reply has them.
func (r *rig) canaries(ctx context.Context) (leaks []string, err error) {
	secrets, err := r.secrets(ctx)
	if err != nil {
		return nil, err
	}
	packed := forms(string(user(0))[:8])[1:] // the plain one is what logs may show
	search := func(where string, text []byte, openids bool) {
		holds := func(form []byte) bool { return bytes.Contains(text, form) }
		for what, of := range secrets {
			if slices.ContainsFunc(of, holds) {
				leaks = append(leaks, "(canary) "+where+" holds "+what)
			}
		}
		if openids && (wholeOpenID.Match(text) || slices.ContainsFunc(packed, holds)) {
			leaks = append(leaks, "(canary) "+where+" holds a whole openid")
		}
	}
	for _, w := range r.crew.alive() {
		text, err := fetch(ctx, w.metrics)
		if err != nil {
			return nil, fmt.Errorf("metrics of %s: %w", w.name, err)
		}
		search("the metrics of "+w.name, text, true)
	}
	for _, w := range r.crew.workers {
		text, err := os.ReadFile(w.log)
		if err != nil {
			return nil, err
		}
		search("the log of "+w.name, text, true)
	}
	replies, err := r.replies(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range replies {
		search(p.where, p.text, p.nobody)
		n, err := p.strangers()
		if err != nil {
			return nil, err
		}
		if n > 0 && !p.nobody {
			leaks = append(leaks, fmt.Sprintf("(canary) %s holds %d whole openids in fields that have none", p.where, n))
		}
	}
	r.figure("replies searched", len(replies))
	if err := r.searchRedis(ctx, search); err != nil {
		return nil, err
	}
	var texts string
	err = r.db.QueryRow(ctx, `
		SELECT coalesce(string_agg(t, E'\n'), '') FROM (
			SELECT concat_ws(' ', errmsg, rid, note) AS t FROM event
			UNION ALL SELECT concat_ws(' ', reason, detail) FROM gate
			UNION ALL SELECT reason FROM rejected_task) x`).Scan(&texts)
	if err != nil {
		return nil, err
	}
	search("the ledger's timeline", []byte(texts), true)
	tables, err := r.tablesWithSecrets(ctx, secrets)
	for _, table := range tables {
		leaks = append(leaks, "(canary) table "+table+" holds a secret")
	}
	return leaks, err
}

// secrets are what must stand nowhere, in every form in which it might.
func (r *rig) secrets(ctx context.Context) (map[string][][]byte, error) {
	key, err := r.apiKey(ctx)
	if err != nil {
		return nil, err
	}
	_, key, _ = strings.Cut(strings.TrimPrefix(key, "hy_"), "_") // its id is no secret
	all := map[string][][]byte{
		"the appsecret": forms(secret), "the callback's token": forms(callbackToken), "the callback's key": forms(callbackKey), "the API key": forms(key),
	}
	r.mu.Lock() // workers go on calling: a sync of quotas, a probe
	defer r.mu.Unlock()
	for token := range r.tokens {
		all["an access token"] = append(all["an access token"], forms(token)...)
	}
	return all, nil
}

// forms are what a text looks like when it is written plainly, in a URL, in hexadecimal digits, and in base64, wherever in
// what was encoded it stood.
func forms(text string) (all [][]byte) {
	add := func(form string) {
		if !slices.ContainsFunc(all, func(f []byte) bool { return string(f) == form }) {
			all = append(all, []byte(form))
		}
	}
	add(text)
	add(url.QueryEscape(text))
	add(hex.EncodeToString([]byte(text)))
	for before, first := range []int{0, 2, 3} { // bytes before it, and the first digit that is all its own
		coded := append(make([]byte, before), text...)
		for _, of := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			add(of.EncodeToString(coded)[first : len(coded)*8/6])
		}
	}
	return all
}

// tablesWithSecrets searches every row of every table, as a dump has them.
func (r *rig) tablesWithSecrets(ctx context.Context, secrets map[string][][]byte) (found []string, err error) {
	rows, err := r.db.Query(ctx, "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1")
	if err != nil {
		return nil, err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	var patterns []string
	for _, of := range secrets {
		for _, form := range of { // columns of bytes are shown in hexadecimal digits
			patterns = append(patterns, regexp.QuoteMeta(string(form)))
		}
	}
	for _, table := range tables {
		var holds bool
		err := r.db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+table+" t WHERE t::text ~ $1)", strings.Join(patterns, "|")).Scan(&holds)
		if err != nil {
			return found, err
		}
		if holds {
			found = append(found, table)
		}
	}
	return found, nil
}

func (r *rig) searchRedis(ctx context.Context, search func(string, []byte, bool)) error {
	keys := r.rdb.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		text, err := r.rdb.Dump(ctx, keys.Val()).Bytes() // strings of some length are compressed in a dump: see valueOf
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		value, err := r.valueOf(ctx, keys.Val())
		if err != nil {
			return err
		}
		queued := strings.HasPrefix(keys.Val(), "asynq:") // payloads hold whom a message is for
		search("Redis key "+wholeOpenID.ReplaceAllString(keys.Val(), "(an openid)"), append(append(text, keys.Val()...), value...), !queued)
	}
	return keys.Err()
}

// valueOf is a key's value in words.
func (r *rig) valueOf(ctx context.Context, key string) (string, error) {
	kind, err := r.rdb.Type(ctx, key).Result()
	if err != nil {
		return "", err
	}
	var v any
	switch kind {
	case "string":
		v, err = r.rdb.Get(ctx, key).Result()
	case "hash":
		v, err = r.rdb.HGetAll(ctx, key).Result()
	case "list":
		v, err = r.rdb.LRange(ctx, key, 0, -1).Result()
	case "set":
		v, err = r.rdb.SMembers(ctx, key).Result()
	case "zset":
		v, err = r.rdb.ZRange(ctx, key, 0, -1).Result()
	case "none": // expired meanwhile
	default:
		return "", fmt.Errorf("a %s, which this search cannot read", kind)
	}
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	return fmt.Sprint(v), err
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	reply, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	return io.ReadAll(reply.Body)
}

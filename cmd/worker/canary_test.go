package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"
)

var wholeOpenID = regexp.MustCompile(`oFLEET\d{22}`)

// searchForCanaries looks, after each test, for what must stand nowhere: appsecrets and tokens in logs, Redis and
// error rows; whole openids in logs, error rows, and in Redis but for what is queued.
func (f *fleet) searchForCanaries() {
	for _, p := range f.workers {
		p.kill() // what it writes at its end has been written
		f.searchText("a worker's log", p.stderr(), true)
	}
	f.searchRedis()
	f.searchErrorRows()
}

func (f *fleet) searchText(where, text string, openids bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for secret := range f.secrets {
		if strings.Contains(text, secret) {
			f.Errorf("%s holds the secret or token %.12s…", where, secret)
		}
	}
	if found := wholeOpenID.FindString(text); openids && found != "" {
		f.Errorf("%s holds the whole openid %s", where, found)
	}
}

func (f *fleet) searchRedis() {
	cluster, ok := f.rdb.(*redis.ClusterClient)
	if !ok {
		f.searchServer(f.background(), f.rdb)
		return
	}
	err := cluster.ForEachMaster(f.background(), func(ctx context.Context, rdb *redis.Client) error {
		f.searchServer(ctx, rdb)
		return nil
	})
	if err != nil {
		f.Error(err)
	}
}

func (f *fleet) searchServer(ctx context.Context, rdb redis.Cmdable) {
	keys := rdb.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		key := keys.Val()
		value, err := redisValue(ctx, rdb, key)
		if err != nil {
			f.Errorf("read %s: %v", key, err)
		}
		queued := strings.HasPrefix(key, "asynq:") // payloads, of which asynq copies those in work
		f.searchText("Redis key "+wholeOpenID.ReplaceAllString(key, "(an openid)"), key+"\n"+value, !queued)
	}
	if err := keys.Err(); err != nil {
		f.Error(err)
	}
}

func redisValue(ctx context.Context, rdb redis.Cmdable, key string) (value string, err error) {
	var v any
	switch kind := rdb.Type(ctx, key).Val(); kind {
	case "string":
		v, err = rdb.Get(ctx, key).Result()
	case "hash":
		v, err = rdb.HGetAll(ctx, key).Result()
	case "list":
		v, err = rdb.LRange(ctx, key, 0, -1).Result()
	case "set":
		v, err = rdb.SMembers(ctx, key).Result()
	case "zset":
		v, err = rdb.ZRange(ctx, key, 0, -1).Result()
	case "none": // expired meanwhile
	default:
		return "", fmt.Errorf("a %s, which this search cannot read", kind)
	}
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	return fmt.Sprint(v), err
}

func (f *fleet) searchErrorRows() {
	rows, err := f.db.Query(f.background(), `
		SELECT 'event', concat_ws(' ', errmsg, rid, note) FROM event
		UNION ALL SELECT 'gate', concat_ws(' ', reason, detail) FROM gate
		UNION ALL SELECT 'rejected_task', reason FROM rejected_task`)
	if err != nil {
		f.Error(err)
		return
	}
	defer rows.Close()
	for rows.Next() {
		var table, text string
		if err := rows.Scan(&table, &text); err != nil {
			f.Error(err)
		}
		f.searchText("table "+table, text, true)
	}
}

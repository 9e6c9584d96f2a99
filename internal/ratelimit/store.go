package ratelimit

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// store is where all pods' books lie: Redis; in tests also a core in memory.
type store interface {
	lease(ctx context.Context, k Key, day int64, r request) (grant, error)
	mark(ctx context.Context, k Key, day int64) (ours int64, err error)
	sync(ctx context.Context, k Key, day int64, c count) error
	slow(ctx context.Context, k Key) (time.Duration, error)
	usage(ctx context.Context, k Key, day int64) (book, error)
	// lock takes the right to rebuild a key for some seconds; false: somebody else has it.
	lock(ctx context.Context, k Key) (bool, error)
	unlock(ctx context.Context, k Key) error
}

// book is what usage.lua tells.
type book struct {
	known               bool
	limit, used, leased int64
	factor              int64
}

const rebuildLock = 5 * time.Second

var (
	//go:embed start.lua
	startLua string
	//go:embed lease.lua
	leaseLua    string
	leaseScript = redis.NewScript(startLua + leaseLua)
	//go:embed sync.lua
	syncLua    string
	syncScript = redis.NewScript(startLua + syncLua)
	//go:embed slow.lua
	slowLua    string
	slowScript = redis.NewScript(startLua + slowLua)
	//go:embed usage.lua
	usageLua    string
	usageScript = redis.NewScript(startLua + usageLua)
)

type redisStore struct {
	rdb redis.UniversalClient
	// clock is for tests that cannot wait for midnight; nil: Redis' own clock.
	clock func() (micros int64)
}

// keys are the day's ledger, its holders and the pace of k: in one slot of a cluster, as all of an account.
func keys(k Key, day int64) []string {
	quota := "hongyan:quota:{" + string(k.App) + "}:" + k.API + ":" + dateOf(day)
	return []string{quota, quota + ":holders", paceKey(k)}
}

func paceKey(k Key) string {
	return "hongyan:pace:{" + string(k.App) + "}:" + k.API
}

func (s *redisStore) now() string {
	if s.clock == nil {
		return ""
	}
	return strconv.FormatInt(s.clock(), 10)
}

func (s *redisStore) lease(ctx context.Context, k Key, day int64, r request) (grant, error) {
	answer, err := s.run(ctx, leaseScript, keys(k, day), s.now(), day, r.holder, r.seq, r.spent, r.acked, r.held,
		r.want, r.free, r.bare, r.maxWait, r.urgent, r.perDay, r.margin, r.reserve, r.open, r.reserved, r.rebuilt, r.heard)
	if err != nil {
		return grant{}, err
	}
	if len(answer) != 9 {
		return grant{}, fmt.Errorf("lease script answered %d numbers", len(answer))
	}
	return grant{
		tokens: answer[0], n: answer[1], start: micros(answer[2]), interval: time.Duration(answer[3]),
		left: answer[4], leased: answer[5], midnight: micros(answer[6]),
		freed: micros(answer[7]), now: answer[8],
	}, nil
}

func (s *redisStore) mark(ctx context.Context, k Key, day int64) (int64, error) {
	answer, err := s.run(ctx, syncScript, keys(k, day), s.now(), day)
	if err == nil && len(answer) != 1 {
		err = fmt.Errorf("sync script answered %d numbers", len(answer))
	}
	if err != nil {
		return 0, err
	}
	return answer[0], nil
}

func (s *redisStore) sync(ctx context.Context, k Key, day int64, c count) error {
	_, err := s.run(ctx, syncScript, keys(k, day), s.now(), day, c.limit, c.used, c.rebuilt, c.mark)
	return err
}

func (s *redisStore) slow(ctx context.Context, k Key) (time.Duration, error) {
	opens, err := slowScript.Run(ctx, s.rdb, keys(k, 0), s.now()).Int64()
	return micros(opens), err
}

func (s *redisStore) usage(ctx context.Context, k Key, day int64) (book, error) {
	answer, err := s.run(ctx, usageScript, keys(k, day), s.now(), day)
	if err != nil {
		return book{}, err
	}
	if len(answer) != 5 {
		return book{}, fmt.Errorf("usage script answered %d numbers", len(answer))
	}
	return book{known: answer[0] == 1, limit: answer[1], used: answer[2], leased: answer[3], factor: answer[4]}, nil
}

func (s *redisStore) lock(ctx context.Context, k Key) (bool, error) {
	err := s.rdb.SetArgs(ctx, paceKey(k)+":rebuild", 1, redis.SetArgs{Mode: "NX", TTL: rebuildLock}).Err()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	return err == nil, err
}

func (s *redisStore) unlock(ctx context.Context, k Key) error {
	return s.rdb.Del(ctx, paceKey(k)+":rebuild").Err()
}

// run runs a script that answers with a word and numbers; a word other than ok is an error.
func (s *redisStore) run(ctx context.Context, script *redis.Script, keys []string, args ...any) ([]int64, error) {
	answer, err := script.Run(ctx, s.rdb, keys, args...).Slice()
	if err != nil {
		return nil, err
	}
	if len(answer) == 0 {
		return nil, errors.New("script answered nothing")
	}
	numbers := make([]int64, 0, len(answer)-1)
	for _, a := range answer[1:] {
		n, ok := a.(int64)
		if !ok {
			return nil, fmt.Errorf("script answered a %T", a)
		}
		numbers = append(numbers, n)
	}
	switch word := answer[0]; {
	case word == "ok":
		return numbers, nil
	case word == "day" && len(numbers) == 1:
		return nil, otherDay(numbers[0])
	case word == "unknown":
		return nil, errUnknown
	case word == "old":
		return nil, errOld
	default:
		return nil, fmt.Errorf("script answered %v", word)
	}
}

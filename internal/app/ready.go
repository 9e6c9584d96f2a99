package app

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
)

// storesOf are what a process cannot work without. WeChat is none of them: its refusals shut gates.
func storesOf(store *postgres.Store, rdb redis.UniversalClient) []telemetry.Store {
	return []telemetry.Store{
		{Name: "postgres", Ask: store.Ping},
		{Name: "redis", Ask: func(ctx context.Context) error { return rdb.Ping(ctx).Err() }},
		{Name: "migrations", Ask: store.Migrated},
	}
}

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// stay keeps everything running and says what to try, until the context ends.
func (s *servers) stay(ctx context.Context, w io.Writer, one message.ID, campaign string) error {
	for _, account := range s.sim.Accounts() { // the examples' own openids are nobody's
		err := account.Change(func(set *wechattest.Settings) { set.AnyOpenID = true })
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(w, `
Everything stays up until Ctrl-C; from here on every openid follows both accounts. In another terminal:

  psql '%[1]s' -c "SELECT account, kind, status, reason, count(*) FROM outcomes GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
  psql '%[1]s' -c "SELECT * FROM outcomes WHERE labels->>'act' = '%[2]s'"
  go run ./cmd/enqueue batch %[3]s --config %[4]s
  go run ./cmd/enqueue status %[5]s --config %[4]s
  go run ./cmd/enqueue campaign status %[9]s --config %[4]s
  go run ./cmd/enqueue campaign export %[9]s outcomes.csv --config %[4]s
  go run ./cmd/enqueue campaign create examples/campaign.yaml --config %[4]s   # and on with docs/campaigns.md
  export HONGYAN_URL=%[10]s HONGYAN_API_KEY=$(go run ./cmd/server key create me --scope 'shop:*:enqueue' --scope 'shop:*:read' --scope 'shop:*:replay' --config %[4]s)
  curl -H "Authorization: Bearer $HONGYAN_API_KEY" "$HONGYAN_URL/v1/messages/%[5]s?explain=true"   # and on with docs/api.md; its page: %[10]s/docs
  curl %[10]s/metrics         # of the server; also /healthz and /readyz
  curl %[6]s/_sim/state      # the simulator's accounts, tokens and counts
  curl %[6]s/_sim/accepts    # every send that it accepted
  curl %[6]s/_sim/pushes     # every callback that it made, and what became of it
  curl %[6]s/_sim/accounts/%[8]s/act -d '{"openid":"oYou","action":"follow"}'   # or message, menu, scan, unsubscribe, block
  tail -f %[7]s

`, s.dbURL, actInstead, "examples/orders.jsonl", s.configFile(), one, s.simURL, s.worker.logFile, appIDs[club], campaign, s.serverURL())
	<-ctx.Done()
	return nil
}

package app

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/webhook"
)

// syncWebhooks writes down which accounts have a webhook.
func (w *pod) syncWebhooks(ctx context.Context) error {
	wanted := map[string]bool{}
	for name, a := range w.accounts {
		if name == a.Name {
			wanted[name] = a.Webhook.URL != ""
		}
	}
	return w.store.SyncWebhooks(ctx, wanted)
}

// tellWebhooks tells producers' endpoints while this pod is the one that does.
func (w *pod) tellWebhooks(ctx context.Context) error {
	var senders []*webhook.Sender
	for name, a := range w.accounts {
		if name != a.Name || a.Webhook.URL == "" {
			continue
		}
		to, err := url.Parse(a.Webhook.URL)
		if err != nil {
			return fmt.Errorf("accounts.%s.webhook.url: no URL", name)
		}
		key, err := webhook.ParseKey(a.Webhook.Secret.Reveal())
		if err != nil {
			return fmt.Errorf("accounts.%s.webhook.secret: %w", name, err)
		}
		senders = append(senders, &webhook.Sender{
			Account: name, URL: to, Key: key, OpenID: a.Webhook.OpenID,
			Store: webhookStore{w.store, name}, Log: w.log, Observe: w.options.Webhook,
		})
	}
	if len(senders) == 0 {
		return nil
	}
	work := func(ctx context.Context) error {
		var all errgroup.Group
		for _, s := range senders {
			all.Go(func() error { return s.Run(ctx) })
		}
		return all.Wait()
	}
	return w.store.Lead(ctx, "webhooks", work, func(err error) { w.log.Warn("lead the webhooks", "error", err) })
}

// webhookStore is one account's events.
type webhookStore struct {
	store   *postgres.Store
	account string
}

func (s webhookStore) Events(ctx context.Context, now time.Time, limit int) ([]webhook.Event, error) {
	rows, err := s.store.WebhookEvents(ctx, s.account, now, limit)
	events := make([]webhook.Event, len(rows))
	for i, r := range rows {
		events[i] = webhook.Event{ID: r.ID, Type: r.Type, At: r.At, Tries: r.Tries, Data: r.Data}
	}
	return events, err
}

func (s webhookStore) Told(ctx context.Context, ids []string) error {
	return s.store.WebhookTold(ctx, s.account, ids)
}

func (s webhookStore) Failed(ctx context.Context, id string, again, now time.Time, reason string) (time.Time, error) {
	return s.store.WebhookFailed(ctx, s.account, id, again, now, reason)
}

func (s webhookStore) Forget(ctx context.Context, id string) error {
	return s.store.ForgetWebhookEvent(ctx, id)
}

func (s webhookStore) Disable(ctx context.Context, reason string, now time.Time) (int64, error) {
	return s.store.DisableWebhook(ctx, s.account, reason, now)
}

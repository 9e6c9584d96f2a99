package client_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// usual is the body of a template message of the usual size.
const usual = `{"template_id":"kXz3n8hPq1sT5vW7yB9dF2gJ4mN6rU8xA0cE3iL5oQ1","url":"https://shop.example.com/orders/2026112200012345","data":` +
	`{"character_string1":{"value":"2026112200012345"},"thing2":{"value":"云南高山小粒咖啡豆500克"},"amount3":{"value":"￥128.00"},` +
	`"time4":{"value":"2026-11-22 10:00:00"},"phrase5":{"value":"已付款"}}}`

func benchClient(b *testing.B, ledger bool) *client.Client {
	o := client.Options{Redis: devstack.Redis(b)}
	if ledger {
		o.Database = devstack.Postgres(b, postgres.Migrate)
	}
	c, err := client.New(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// BenchmarkEnqueueBatch enqueues batches of 2000 from one goroutine.
func BenchmarkEnqueueBatch(b *testing.B) {
	for _, way := range []struct {
		name         string
		ledger, keys bool
	}{{"redis", false, false}, {"ledger", true, false}, {"ledger_keys", true, true}} {
		b.Run(way.name, func(b *testing.B) {
			c := benchClient(b, way.ledger)
			round := make([]message.Message, 2000)
			n := 0
			for b.Loop() {
				for i := range round {
					n++
					round[i] = message.Message{
						Account: "shop", Kind: message.Template, To: message.OpenID(fmt.Sprintf("oBENCH%022d", n)), Body: json.RawMessage(usual),
					}
					if way.keys {
						round[i].Key = fmt.Sprintf("order-%d-paid", n)
					}
				}
				for _, r := range c.EnqueueBatch(b.Context(), round) {
					if r.Err != nil {
						b.Fatal(r.Err)
					}
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkEnqueue enqueues one message a call, from 8 goroutines.
func BenchmarkEnqueue(b *testing.B) {
	for _, way := range []struct {
		name       string
		ledger     bool
		goroutines int
	}{{"redis", false, 8}, {"ledger", true, 64}} {
		b.Run(way.name, func(b *testing.B) {
			c := benchClient(b, way.ledger)
			const each = 200
			n := 0
			for b.Loop() {
				var wg sync.WaitGroup
				for range way.goroutines {
					wg.Go(func() {
						for range each {
							_, err := c.Enqueue(b.Context(), message.Message{
								Account: "shop", Kind: message.Template, To: "oBENCH0000000000000000000001", Body: json.RawMessage(usual),
							})
							if err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				n += way.goroutines * each
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

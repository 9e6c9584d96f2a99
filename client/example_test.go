package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

func Example() {
	ctx := context.Background()
	c, err := client.New(ctx, client.Options{
		Redis:    os.Getenv("HONGYAN_REDIS_URL"),
		Database: os.Getenv("HONGYAN_DATABASE_URL"),
	})
	if err != nil {
		slog.Error("cannot enqueue", "err", err)
		return
	}
	defer c.Close()
	receipt, err := c.Enqueue(ctx, message.Message{
		Account: "shop", Kind: message.Template, To: "oABCdefGHIjklMNOpqrSTUvwxYZ0", Key: "order-1001-paid", Lane: message.Urgent,
		Body: json.RawMessage(`{"template_id":"order_paid","data":{"thing2":{"value":"明前龙井"},"amount3":{"value":"￥128.00"}}}`),
	})
	switch {
	case errors.Is(err, client.ErrKeyConflict):
		slog.Error("this key belongs to another message", "err", err)
	case err != nil:
		slog.Warn("enqueue it again, with the same key", "err", err)
	default:
		slog.Info("accepted", "message_id", receipt.ID, "durability", receipt.Durability)
	}
}

func ExampleClient_EnqueueBatch() {
	ctx := context.Background()
	c, err := client.New(ctx, client.Options{Redis: "redis://127.0.0.1:6379/0"})
	if err != nil {
		return
	}
	defer c.Close()
	var batch []message.Message
	for n, openid := range []message.OpenID{"oABCdefGHIjklMNOpqrSTUvwxYZ0", "oABCdefGHIjklMNOpqrSTUvwxYZ1"} {
		batch = append(batch, message.Message{
			Account: "shop", Kind: message.Template, To: openid, Key: fmt.Sprintf("double-eleven-%d", n),
			Body:      json.RawMessage(`{"template_id":"campaign","data":{"thing1":{"value":"双十一主会场"}}}`),
			ExpiresAt: time.Now().Add(24 * time.Hour),
		})
	}
	for i, receipt := range c.EnqueueBatch(ctx, batch) {
		var invalid message.Invalid
		switch {
		case errors.As(receipt.Err, &invalid):
			slog.Error("this one can never be sent", "openid", batch[i].To.Short(), "field", invalid[0].Path, "rule", invalid[0].Rule)
		case receipt.Err != nil:
			slog.Warn("enqueue it again, with the same key", "err", receipt.Err)
		}
	}
}

func ExampleParseEvent() {
	e, err := client.ParseEvent([]byte(`{"account":"shop","openid":"oABCdefGHIjklMNOpqrSTUvwxYZ0","type":"message","at":"2026-12-01T09:00:00+08:00"}`))
	fmt.Println(e.Type, e.OpenID.Short(), e.At.Unix(), err)
	_, err = client.ParseEvent([]byte(`{"account":"shop","openid":"oABCdefGHIjklMNOpqrSTUvwxYZ0","type":"message","at":"9 a.m."}`))
	fmt.Println(err)
	// Output:
	// message oA…Z0 1796086800 <nil>
	// at: want RFC 3339 with a time zone, such as 2026-12-01T09:00:00+08:00
}

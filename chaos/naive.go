package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/hibiken/asynq"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// naiveTask is the payload of the naive build: one message.
type naiveTask struct {
	N    int             `json:"n"`
	Kind message.Kind    `json:"kind"`
	To   message.OpenID  `json:"to"`
	Body json.RawMessage `json:"body"`
}

type naiveFlags struct {
	Redis    string
	Database string
	WeChat   string `name:"wechat"`
}

const naiveTable = `CREATE TABLE IF NOT EXISTS naive_outcome (n int4, errcode int4, at timestamptz DEFAULT now())`

// run is the worker that one would write in an afternoon: one task a message, send, then write it down.
func (f naiveFlags) run(ctx context.Context) error {
	opt, err := asynq.ParseRedisURI(f.Redis)
	if err != nil {
		return err
	}
	db, err := pgxpool.New(ctx, f.Database)
	if err != nil {
		return err
	}
	defer db.Close()
	caller := &http.Client{Timeout: 10 * time.Second}
	var granted struct {
		AccessToken string `json:"access_token"`
	}
	credential := fmt.Appendf(nil, `{"grant_type":"client_credential","appid":%q,"secret":%q}`, appID, secret)
	if err := post(ctx, caller, f.WeChat+wechattest.PathStableToken, credential, &granted); err != nil {
		return err
	}
	paths := map[message.Kind]string{
		message.Template: wechattest.PathTemplate, message.Custom: wechattest.PathCustom, message.Subscribe: wechattest.PathSubscribe,
	}
	server := asynq.NewServer(opt, asynq.Config{Concurrency: senders, LogLevel: asynq.ErrorLevel})
	err = server.Start(asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
		var task naiveTask
		if err := json.Unmarshal(t.Payload(), &task); err != nil {
			return err
		}
		var body map[string]any
		if err := json.Unmarshal(task.Body, &body); err != nil {
			return err
		}
		body["touser"] = task.To
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		var answer struct {
			ErrCode int `json:"errcode"`
		}
		if err := post(ctx, caller, f.WeChat+paths[task.Kind]+"?access_token="+granted.AccessToken, text, &answer); err != nil {
			return err
		}
		_, err = db.Exec(ctx, "INSERT INTO naive_outcome (n, errcode) VALUES ($1, $2)", task.N, answer.ErrCode)
		return err
	}))
	if err != nil {
		return err
	}
	fmt.Println("dispatching")
	<-ctx.Done()
	server.Shutdown()
	return nil
}

func post(ctx context.Context, c *http.Client, url string, body []byte, into any) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	reply, err := c.Do(q)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	return json.NewDecoder(reply.Body).Decode(into)
}

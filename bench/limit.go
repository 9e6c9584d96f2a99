package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/valyala/fasthttp"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
)

// outcomeRow is the row that the limit and the naive build write.
type outcomeRow struct {
	n     int
	msgid int64
}

// runLimit posts n messages by c keep-alive senders and writes their outcomes by COPY: what cannot be beaten.
func runLimit(ctx context.Context, f childFlags) error {
	db, err := pgxpool.New(ctx, f.Database)
	if err != nil {
		return err
	}
	defer db.Close()
	post := map[string]func(string, int) func([]byte) (int64, error){
		limitOurs: postWithOurs, limitNet: postWithNetHTTP, limitLean: postWithFastHTTP,
	}[f.Client](f.URL, f.Senders)
	fmt.Println("ready")
	waitForStart()

	rows := make(chan outcomeRow, 4096)
	written := make(chan error, 1)
	go func() { written <- copyOutcomes(ctx, db, rows) }()
	var next atomic.Int64
	var senders sync.WaitGroup
	failed := make(chan error, f.Senders)
	for range f.Senders {
		senders.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= f.N {
					return
				}
				msgid, err := post(wire(n))
				if err != nil {
					failed <- err
					return
				}
				rows <- outcomeRow{n: n, msgid: msgid}
			}
		})
	}
	senders.Wait()
	close(rows)
	if err := <-written; err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		fmt.Println("done")
		waitForStart() // for the parent to read our CPU time
		return nil
	}
}

const sendPath = "/cgi-bin/message/template/send?access_token=bench-token-0123456789"

// postWithOurs has the client that a worker has.
func postWithOurs(base string, c int) func([]byte) (int64, error) {
	to := &url.URL{Scheme: "http", Host: strings.TrimPrefix(base, "http://")}
	path, query, _ := strings.Cut(sendPath, "?")
	transport := wechat.NewHTTP(wechat.HTTPConfig{MaxConns: c})
	return func(body []byte) (int64, error) {
		reply, _, err := transport.Do(context.Background(), wechat.Call{
			Method: http.MethodPost, Base: to, Path: path, Query: wechat.NewSecret(query), Body: body, Timeout: 10 * time.Second,
		})
		if err != nil {
			return 0, err
		}
		return accepted(reply.Body)
	}
}

func postWithNetHTTP(url string, c int) func([]byte) (int64, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: c, MaxIdleConns: c}, Timeout: 10 * time.Second}
	return func(body []byte) (int64, error) {
		reply, err := client.Post(url+sendPath, "application/json", bytes.NewReader(body))
		if err != nil {
			return 0, err
		}
		defer reply.Body.Close()
		answer, err := io.ReadAll(reply.Body)
		if err != nil {
			return 0, err
		}
		return accepted(answer)
	}
}

func postWithFastHTTP(url string, c int) func([]byte) (int64, error) {
	client := &fasthttp.Client{MaxConnsPerHost: c, ReadTimeout: 10 * time.Second, NoDefaultUserAgentHeader: true, MaxIdemponentCallAttempts: 1}
	return func(body []byte) (int64, error) {
		request, reply := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		defer fasthttp.ReleaseRequest(request)
		defer fasthttp.ReleaseResponse(reply)
		request.SetRequestURI(url + sendPath)
		request.Header.SetMethod(http.MethodPost)
		request.Header.SetContentType("application/json")
		request.SetBodyRaw(body)
		if err := client.Do(request, reply); err != nil {
			return 0, err
		}
		return accepted(reply.Body())
	}
}

// accepted reads WeChat's answer as any sender must.
func accepted(body []byte) (msgid int64, err error) {
	var answer struct {
		ErrCode int    `json:"errcode"`
		ErrMsg  string `json:"errmsg"`
		MsgID   int64  `json:"msgid"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, err
	}
	if answer.ErrCode != 0 {
		return 0, fmt.Errorf("the stub answered %d %s", answer.ErrCode, answer.ErrMsg)
	}
	return answer.MsgID, nil
}

// copyOutcomes writes rows by COPY, up to 1,000 at a time.
func copyOutcomes(ctx context.Context, db *pgxpool.Pool, rows <-chan outcomeRow) error {
	batch := make([]outcomeRow, 0, 1000)
	for row := range rows {
		batch = append(batch[:0], row)
	fill:
		for len(batch) < cap(batch) {
			select {
			case row, ok := <-rows:
				if !ok {
					break fill
				}
				batch = append(batch, row)
			case <-time.After(2 * time.Millisecond):
				break fill
			}
		}
		_, err := db.CopyFrom(ctx, pgx.Identifier{"bench_outcome"}, []string{"campaign_id", "n", "openid", "errcode", "msgid", "at"},
			pgx.CopyFromSlice(len(batch), func(i int) ([]any, error) {
				r := batch[i]
				return []any{1, r.n, string(openID(r.n)), 0, r.msgid, time.Now()}, nil
			}))
		if err != nil {
			return fmt.Errorf("copy outcomes: %w", err)
		}
	}
	return nil
}

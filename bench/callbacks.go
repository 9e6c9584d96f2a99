package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/hongyan-dispatch/hongyan/internal/app"
	"github.com/hongyan-dispatch/hongyan/internal/callback"
	"github.com/hongyan-dispatch/hongyan/internal/config"
)

// The account whose callbacks are measured.
const (
	callbackApp   = "wx0000000000000001"
	callbackToken = "benchtoken"
	callbackKey   = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
)

// callbackSenders is how many pushes WeChat makes at one time.
const callbackSenders = 64

// callbacks measures encrypted events a second, through the HTTP door into Redis and Postgres; beside a server that only
// decrypts and answers.
func callbacks(ctx context.Context, e *environment, rounds int, r *Report) error {
	n := 40_000
	if e.flags.Quick {
		n /= 10
	}
	var bare, whole, p99 []float64
	for round := range rounds {
		for _, s := range []struct {
			bare  bool
			rates *[]float64
		}{{true, &bare}, {false, &whole}} {
			if err := e.reset(ctx, 0); err != nil {
				return err
			}
			rate, slowest, err := e.measureCallbacks(s.bare, n)
			if err != nil {
				return fmt.Errorf("round %d: %w", round+1, err)
			}
			*s.rates = append(*s.rates, rate)
			if !s.bare {
				p99 = append(p99, slowest)
			}
			fmt.Fprintf(os.Stderr, "round %d/%d  callbacks, bare %-5t %8.0f/s\n", round+1, rounds, s.bare, rate)
		}
	}
	r.add("callbacks, decrypt and 200 alone", median(bare), "/s")
	r.add("callbacks recorded in Postgres and Redis", median(whole), "/s")
	r.add("callbacks recorded, p99 at half that rate", median(p99), "ms")
	return nil
}

// measureCallbacks answers with pushes a second and, for a server that records, the p99 at half that rate in ms.
func (e *environment) measureCallbacks(bare bool, n int) (rate, p99 float64, err error) {
	path := filepath.Join(e.dir, "callbacks.yaml")
	text := fmt.Sprintf("redis: {url: %q}\npostgres: {url: %q}\nlog: {level: error}\naccounts:\n"+
		"  - {name: shop, appid: %s, secret: s, type: service, callback: {token: %s, aes_key: %s}}\n",
		e.stack.RedisURL(), e.stack.DatabaseURL(), callbackApp, callbackToken, callbackKey)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return 0, 0, err
	}
	role := "server"
	if bare {
		role = "bareserver"
	}
	server, err := spawn(role, "--config", path)
	if err != nil {
		return 0, 0, err
	}
	defer server.stop()
	address, err := server.line()
	if err != nil {
		return 0, 0, err
	}
	client := &fasthttp.Client{MaxConnsPerHost: 4096, ReadTimeout: 10 * time.Second, NoDefaultUserAgentHeader: true, MaxIdemponentCallAttempts: 1}
	pushes := sealedPushes(n)
	start := time.Now()
	if err := inParallel(callbackSenders, n, func(i int) error { return pushes[i].post(client, address) }); err != nil {
		return 0, 0, err
	}
	rate = float64(n) / time.Since(start).Seconds()
	if bare {
		return rate, 0, nil
	}
	p99, err = pacedPushes(client, address, rate/2, n/4)
	return rate, p99, err
}

// pacedPushes sends at a rate whatever the answers take, and answers with the p99 in ms.
func pacedPushes(client *fasthttp.Client, address string, rate float64, n int) (float64, error) {
	pushes := sealedPushes(n)
	took := make([]float64, n)
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range n {
		due := begin.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		time.Sleep(time.Until(due)) // the pace of strangers
		wg.Go(func() {
			if err := pushes[i].post(client, address); err != nil {
				failed.Store(&err)
			}
			took[i] = float64(time.Since(due).Microseconds()) / 1000
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return percentile(took, 0.99), nil
}

// A push is a request as WeChat makes it.
type push struct {
	query string
	body  []byte
}

func (p push) post(client *fasthttp.Client, address string) error {
	request, reply := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(reply)
	request.SetRequestURI("http://" + address + "/wechat/shop?" + p.query)
	request.Header.SetMethod(http.MethodPost)
	request.Header.SetContentType("text/xml")
	request.SetBodyRaw(p.body)
	if err := client.Do(request, reply); err != nil {
		return err
	}
	if reply.StatusCode() != http.StatusOK || string(reply.Body()) != callback.Success {
		return fmt.Errorf("the server answered %d %q", reply.StatusCode(), reply.Body())
	}
	return nil
}

var pushNumber atomic.Int64

// sealedPushes are n text messages, each of another user's.
func sealedPushes(n int) []push {
	key, err := base64.StdEncoding.DecodeString(callbackKey + "=")
	if err != nil {
		panic(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	all := make([]push, n)
	at := fmt.Sprint(time.Now().Unix())
	for i := range all {
		number := pushNumber.Add(1)
		body := fmt.Sprintf("<xml><ToUserName><![CDATA[gh_123456789abc]]></ToUserName><FromUserName><![CDATA[oBENCH%022d]]></FromUserName>"+
			"<CreateTime>%s</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[请问什么时候发货？]]></Content><MsgId>%d</MsgId></xml>", number, at, number)
		plain := append([]byte("0123456789abcdef"), binary.BigEndian.AppendUint32(nil, uint32(len(body)))...)
		plain = append(append(plain, body...), callbackApp...)
		pad := aes.BlockSize*2 - len(plain)%(aes.BlockSize*2)
		plain = append(plain, bytes.Repeat([]byte{byte(pad)}, pad)...)
		cipher.NewCBCEncrypter(block, key[:aes.BlockSize]).CryptBlocks(plain, plain)
		sealed, nonce := base64.StdEncoding.EncodeToString(plain), fmt.Sprint(number)
		all[i] = push{
			query: fmt.Sprintf("signature=%s&timestamp=%s&nonce=%s&openid=oBENCH&encrypt_type=aes&msg_signature=%s",
				signed(at, nonce), at, nonce, signed(at, nonce, sealed)),
			body: []byte("<xml><ToUserName><![CDATA[gh_123456789abc]]></ToUserName><Encrypt><![CDATA[" + sealed + "]]></Encrypt></xml>"),
		}
	}
	return all
}

func signed(parts ...string) string {
	parts = append(parts, callbackToken)
	slices.Sort(parts)
	sum := sha1.Sum([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

// runServer is Hongyan's server, just as cmd/server runs it.
func runServer(ctx context.Context, f childFlags) error {
	c, err := config.Load(f.Config, os.LookupEnv)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	return app.Serve(ctx, c, app.ServeOptions{Log: log, Listener: l, Ready: func(address string) { fmt.Println(address) }})
}

// forgetful records nothing.
type forgetful struct{}

func (forgetful) Record(context.Context, callback.Entry) (bool, error) { return false, nil }

// runBareServer only verifies, decrypts and answers.
func runBareServer(ctx context.Context, _ childFlags) error {
	door, err := callback.New(callback.Config{AppID: callbackApp, Tokens: []string{callbackToken}, AESKeys: []string{callbackKey}})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/wechat/{account}", callback.NewHandler([]callback.Endpoint{{Name: "shop", AppID: callbackApp, Door: door}}, forgetful{},
		callback.HandlerOptions{Log: slog.New(slog.DiscardHandler)}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	fmt.Println(l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

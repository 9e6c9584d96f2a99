package wechat

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A recorder is a Transport that keeps the last call and gives a set answer.
type recorder struct {
	call   Call
	status int
	body   string
}

func (r *recorder) Do(_ context.Context, c Call) (Reply, bool, error) {
	if c.Stream != nil {
		body, err := io.ReadAll(c.Stream)
		if err != nil {
			return Reply{}, true, err
		}
		c.Body = body
	}
	c.Body = bytes.Clone(c.Body) // which is the client's again when Do returns
	r.call = c
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return Reply{Status: r.status, Body: []byte(r.body)}, true, nil
}

func recording(body string) (*Client, *recorder) {
	r := &recorder{body: body}
	return New(Config{BaseURL: "https://api.weixin.qq.com/", Transport: r}), r
}

func TestSends(t *testing.T) {
	ctx := t.Context()
	for _, c := range []struct {
		name       string
		send       func(*Client) Result
		path, body string
	}{
		{
			"template", func(c *Client) Result {
				return c.SendTemplate(ctx, canaryToken, "oUser", "0123", []byte(`{"template_id":"T","data":{"thing1":{"value":"<你好>"}}}`))
			}, PathTemplate, `{"touser":"oUser","client_msg_id":"0123","template_id":"T","data":{"thing1":{"value":"<你好>"}}}`,
		},
		{
			"template without an id of ours", func(c *Client) Result {
				return c.SendTemplate(ctx, canaryToken, "oUser", "", []byte(`{"template_id":"T"}`))
			}, PathTemplate, `{"touser":"oUser","template_id":"T"}`,
		},
		{
			"subscription notice", func(c *Client) Result {
				return c.SendSubscribe(ctx, canaryToken, "oUser", []byte(`{"template_id":"T"}`))
			}, PathSubscribe, `{"touser":"oUser","template_id":"T"}`,
		},
		{
			"customer service, white space around", func(c *Client) Result {
				return c.SendCustom(ctx, canaryToken, "oUser", []byte(" {\n\"msgtype\":\"text\"} "))
			}, PathCustom, `{"touser":"oUser","msgtype":"text"}`,
		},
		{
			"an empty object", func(c *Client) Result { return c.SendCustom(ctx, canaryToken, "oUser", []byte(`{ }`)) },
			PathCustom, `{"touser":"oUser"}`,
		},
		{
			"an openid that would break out", func(c *Client) Result {
				return c.SendCustom(ctx, canaryToken, "o\",\"x\":\"\\\n", []byte(`{}`))
			}, PathCustom, `{"touser":"o\",\"x\":\"\\\n"}`,
		},
		{
			"mass to a list", func(c *Client) Result {
				return c.SendMass(ctx, canaryToken, []message.OpenID{"o1", "o2"}, "ff", []byte(`{"msgtype":"text","text":{"content":"x"}}`))
			}, PathMassSend, `{"touser":["o1","o2"],"clientmsgid":"ff","msgtype":"text","text":{"content":"x"}}`,
		},
		{
			"mass by filter", func(c *Client) Result {
				return c.SendMass(ctx, canaryToken, nil, "ff", []byte(`{"filter":{"is_to_all":true},"msgtype":"text"}`))
			}, PathMassSendAll, `{"clientmsgid":"ff","filter":{"is_to_all":true},"msgtype":"text"}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, r := recording(`{"errcode":0,"errmsg":"ok"}`)
			if got := c.send(client); got.Class != Sent || got.Err != nil {
				t.Fatalf("got %v, %v", got.Class, got.Err)
			}
			if r.call.Path != c.path || string(r.call.Body) != c.body {
				t.Errorf("got  %s %s\nwant %s %s", r.call.Path, r.call.Body, c.path, c.body)
			}
		})
	}
}

func TestABodyThatIsNoObjectIsNotSent(t *testing.T) {
	for _, body := range []string{"", "[]", `"x"`, "{", "}", "x{}"} {
		client, r := recording(`{"errcode":0}`)
		if got := client.SendCustom(t.Context(), canaryToken, "oUser", []byte(body)); got.Class != NotSent || got.Err == nil || r.call.Path != "" {
			t.Errorf("%q: got %v, %v, call %v", body, got.Class, got.Err, r.call)
		}
	}
}

func FuzzSplice(f *testing.F) {
	f.Add(`{"msgtype":"text"}`, "oUser", "00")
	f.Add(`{}`, `"`, "\xff")
	f.Fuzz(func(t *testing.T, body, to, id string) {
		var fields map[string]json.RawMessage
		if json.Unmarshal([]byte(body), &fields) != nil || fields == nil {
			return
		}
		spliced := splice(nil, []byte(body), message.OpenID(to), "client_msg_id", id)
		var got map[string]json.RawMessage
		if err := json.Unmarshal(spliced, &got); err != nil {
			t.Fatalf("%s: %v", spliced, err)
		}
		for name, value := range map[string]string{"touser": to, "client_msg_id": id} {
			if _, own := fields[name]; own || value == "" {
				continue
			}
			var text string
			if err := json.Unmarshal(got[name], &text); err != nil || text != string([]rune(value)) {
				t.Fatalf("%s: %s is %s, want %q", spliced, name, got[name], value)
			}
		}
	})
}

func TestWhatAnErrcodeMakesOfASend(t *testing.T) {
	template := func(c *Client) Result { return c.SendTemplate(t.Context(), canaryToken, "o", "00", []byte(`{"a":1}`)) }
	mini := func(c *Client) Result {
		return c.SendTemplate(t.Context(), canaryToken, "o", "00", []byte(`{"miniprogram":{"appid":"wx2"}}`))
	}
	mass := func(c *Client) Result { return c.SendMass(t.Context(), canaryToken, nil, "00", []byte(`{"a":1}`)) }
	for _, c := range []struct {
		name  string
		send  func(*Client) Result
		reply string
		class Class
		msgID int64
		means Disposition
	}{
		{"a template is sent", template, `{"errcode":0,"errmsg":"ok","msgid":1988810812324364291}`, Sent, 1988810812324364291, None},
		{"a mass send is submitted", mass, `{"errcode":0,"errmsg":"send job submission success","msg_id":34182,"msg_data_id":9}`, Sent, 34182, None},
		{"45065 was submitted before, and names the job", mass, `{"errcode":45065,"errmsg":"clientmsgid exist","msg_id":34182}`, Sent, 34182, Accepted},
		{"45066 waits a minute", mass, `{"errcode":45066,"errmsg":"same clientmsgid retry too fast"}`, NotSent, 0, Wait},
		{"89504 of a mass send waits for the administrator", mass, `{"errcode":89504,"errmsg":"waiting"}`, Sent, 0, Wait},
		{"89504 of a template is a refusal", template, `{"errcode":89504,"errmsg":"waiting"}`, NotSent, 0, Wait},
		{"40241 is a refusal until the caller knows better", template, `{"errcode":40241,"errmsg":"The message is duplicate in 60 seconds"}`, NotSent, 0, Wait},
		{"40013 blames the account", template, `{"errcode":40013,"errmsg":"invalid appid"}`, NotSent, 0, Account},
		{"40013 blames the mini program where there is one", mini, `{"errcode":40013,"errmsg":"invalid appid"}`, NotSent, 0, Request},
		{"40001 asks for a token", template, `{"errcode":40001,"errmsg":"invalid credential rid: 1-2-3"}`, NotSent, 0, TokenRefresh},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, _ := recording(c.reply)
			r := c.send(client)
			if r.Class != c.class || r.MsgID != c.msgID || !r.Connected {
				t.Errorf("got %v, id %d, connected %v", r.Class, r.MsgID, r.Connected)
			}
			if e := r.Error(); c.means == None && e != nil || c.means != None && (e == nil || e.Disposition() != c.means) {
				t.Errorf("got %v, want %v", r.Err, c.means)
			}
		})
	}
	t.Run("-1 is ambiguous for the strict", func(t *testing.T) {
		client, _ := recording(`{"errcode":-1,"errmsg":"system error"}`)
		client.minusOneAmbiguous = true
		if r := template(client); r.Class != Ambiguous || r.Error() == nil {
			t.Errorf("got %v, %v", r.Class, r.Err)
		}
	})
}

func TestErrorNamesAPICodeAndRID(t *testing.T) {
	client, _ := recording(`{"errcode":45015,"errmsg":"response out of time limit rid: 5f2a1b3c-12345678-0a0b0c0d"}`)
	r := client.SendCustom(t.Context(), canaryToken, "o", []byte(`{}`))
	want := "/cgi-bin/message/custom/send: 45015 response out of time limit (rid 5f2a1b3c-12345678-0a0b0c0d)"
	if r.Err == nil || r.Err.Error() != want {
		t.Errorf("got %v, want %s", r.Err, want)
	}
}

func TestBaseURLsThatAreNone(t *testing.T) {
	for _, base := range []string{"", "api.weixin.qq.com", "ftp://host", "https://user:pass@host", "https://host?x=1"} {
		t.Run(base, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			New(Config{BaseURL: base})
		})
	}
}

func TestPathOfEveryKind(t *testing.T) {
	for _, k := range message.Kinds() {
		if !strings.HasPrefix(PathOf(k), "/cgi-bin/") {
			t.Errorf("%s has no API", k)
		}
	}
}

func BenchmarkSendTemplate(b *testing.B) {
	client, _ := recording(`{"errcode":0,"errmsg":"ok","msgid":1988810812324364291}`)
	body := fmt.Appendf(nil, `{"template_id":"T","data":{"thing1":{"value":"%s"}}}`, strings.Repeat("字", 100))
	b.ReportAllocs()
	for b.Loop() {
		if r := client.SendTemplate(b.Context(), canaryToken, "oABCDEFGHIJKLMNOPQRSTUVWXYZ", "0198c0de000070008000000000000001", body); r.Class != Sent {
			b.Fatal(r.Err)
		}
	}
}

package wechattest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

func Example() {
	sim := wechattest.New(wechattest.Options{})
	defer sim.Close()
	shop := sim.MustAddAccount(wechattest.Settings{
		AppID: "wx0000000000000001", Secret: "s",
		Templates: []wechattest.Template{{ID: "tpl-hello", Keys: []string{"thing1"}}},
	})
	shop.AddFollowers("oAlice")
	server := httptest.NewServer(sim)
	defer server.Close()

	// The answer to the second call is lost, though the message was accepted.
	sim.MustInject(wechattest.Fault{Kind: wechattest.Drop, When: wechattest.After, API: "template/send", Skip: 1, Next: 1})
	for i := range 2 {
		body := fmt.Sprintf(`{"touser":"oAlice","template_id":"tpl-hello","client_msg_id":"id-%d","data":{"thing1":{"value":"hi"}}}`, i)
		resp, err := http.Post(server.URL+wechattest.PathTemplate+"?access_token="+shop.Token(), "application/json", strings.NewReader(body))
		if err != nil {
			fmt.Println("no answer")
			continue
		}
		answer, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		fmt.Printf("%.26s…\n", answer)
	}
	for _, a := range sim.AllAccepts() {
		fmt.Println("accepted", a.ClientID, "to", a.To)
	}
	fmt.Println("arrived:", shop.Calls("template/send").Arrived)
	// Output:
	// {"errcode":0,"errmsg":"ok"…
	// no answer
	// accepted id-0 to oAlice
	// accepted id-1 to oAlice
	// arrived: 2
}

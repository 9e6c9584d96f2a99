package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func TestAudiencesArePacked(t *testing.T) {
	h := startAPI(t)
	key := h.key("shop", "shop:*:*")
	for name, pack := range packs {
		for kind, text := range map[string]string{csvType: "openid,name\noA,甲\noB,乙\n", linesType: `{"openid":"oA","name":"甲"}` + "\n" + `{"openid":"oB","name":"乙"}` + "\n"} {
			var made struct{ ID string }
			h.want(201, key, "POST", "/v1/campaigns", strings.Replace(customCampaign, "greeting", name+kind, 1), &made)
			var packed bytes.Buffer
			w := pack(&packed)
			_, _ = io.WriteString(w, text)
			_ = w.Close()
			for _, sent := range []string{kind, "application/octet-stream"} {
				status, _, got := h.do(key, "POST", "/v1/campaigns/"+made.ID+"/audience?restart=true", sent, packed.String())
				if status != 200 || !strings.Contains(got, `"recipients":2`) {
					t.Errorf("%s as %s, %s: %d %s", kind, sent, name, status, got)
				}
			}
		}
	}
}

// A long upload takes bounded memory; one that breaks off goes on where it was, and nobody is there twice.
func TestAnUploadThatBreaksOffGoesOn(t *testing.T) {
	h := startAPI(t)
	key := h.key("shop", "shop:*:*")
	var made struct{ ID string }
	h.want(201, key, "POST", "/v1/campaigns", customCampaign, &made)
	const n = 300_000
	padding := strings.Repeat("x", 200) // some 60 MB in all
	file := func(upTo int) (io.Reader, *io.PipeWriter) {
		out, in := io.Pipe()
		go func() {
			var block bytes.Buffer
			block.WriteString("openid,note\n")
			for i := range upTo {
				fmt.Fprintf(&block, "oLONG%06d,%s\n", i, padding)
				if block.Len() > 1<<20 {
					if _, err := in.Write(block.Bytes()); err != nil {
						return
					}
					block.Reset()
				}
			}
			_, _ = in.Write(block.Bytes())
			if upTo == n {
				_ = in.Close()
			}
		}()
		return out, in
	}
	post := func(query string, body io.Reader) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", h.url+"/v1/campaigns/"+made.ID+"/audience?name=long.csv"+query, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		r.Header.Set("Content-Type", csvType)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(text)
	}
	half, line := file(n * 2 / 3)
	cut := make(chan int, 1)
	go func() { status, _ := post("", half); cut <- status }()
	total := func() int {
		return h.number(`SELECT coalesce(max(total), 0)::int FROM audience WHERE campaign = $1`, made.ID)
	}
	h.eventually("import whose blocks are committed", func() bool { return total() >= 50_000 })
	_ = line.CloseWithError(errors.New("the line is cut"))
	if status := <-cut; status == 200 {
		t.Fatal("an upload that was cut is taken for whole")
	}
	if status, _, text := h.do(key, "POST", "/v1/campaigns/"+made.ID+"/start", "", ""); status != 409 || !strings.Contains(text, "not imported whole") {
		t.Errorf("start: %d %s", status, text)
	}
	var peak uint64
	ended := make(chan struct{})
	var status int
	var text string
	go func() {
		defer close(ended)
		// The first may be writing its last block still: 409, of which a client that is writing may see only the end of its
		// connection.
		for moved := true; moved; moved = status == 409 || status == 0 && t.Context().Err() == nil {
			whole, _ := file(n)
			status, text = post("&resume=true", whole)
		}
	}()
	for watching, tick := true, time.Tick(50*time.Millisecond); watching; {
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		peak = max(peak, now.HeapAlloc)
		select {
		case <-ended:
			watching = false
		case <-tick:
		}
	}
	if status != 200 || !strings.Contains(text, `"recipients":300000,"duplicates":0,"refused":0`) {
		t.Fatalf("resumed: %d %s\n%s", status, text, h.stderr)
	}
	if peak > 256<<20 {
		t.Errorf("the heap was up to %d MiB", peak>>20)
	}
	t.Logf("heap at most %d MiB", peak>>20)
	if got := h.number(`SELECT count(DISTINCT openid)::int FROM recipient`); got != n {
		t.Errorf("%d recipients, want %d", got, n)
	}
}

package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"

	"github.com/hongyan-dispatch/hongyan/message"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func templateMessage(n int) *message.Message {
	return &message.Message{
		ID: message.NewID(now), Account: "shop", Kind: message.Template, Lane: message.Bulk,
		To:   message.OpenID(fmt.Sprintf("oABCDEFGHIJKLMNOPQRSTUV%05d", n)),
		Body: json.RawMessage(`{"template_id":"ngqIpbwh8bUfcSsECmogfXcV14J0tQlEpBO27izEYtY","data":{"thing1":{"value":"您的订单已发货"},"time2":{"value":"2026-11-22 10:00"}}}`),
	}
}

func templateMessages(n int) []*message.Message {
	msgs := make([]*message.Message, n)
	for i := range msgs {
		msgs[i] = templateMessage(i)
	}
	return msgs
}

func parcelOf(msgs ...*message.Message) *message.Parcel {
	first := msgs[0]
	return &message.Parcel{ID: message.NewID(now), Account: first.Account, Kind: first.Kind, Lane: first.Lane, Messages: msgs}
}

// fullMessage has every field set.
func fullMessage() *message.Message {
	m := templateMessage(1)
	m.Key = "order-1001-paid"
	m.List = []message.OpenID{"oA", "oB"}
	m.NotBefore = now.Add(time.Hour)
	m.ExpiresAt = now.Add(24 * time.Hour).Add(123 * time.Microsecond)
	m.Parent = message.NewID(now)
	m.Labels = map[string]string{"order": "1001", "地区": "华东", "": ""}
	m.Fallback = &message.Message{
		ID: message.NewID(now), Kind: message.Custom, Lane: message.Urgent, Key: "fb",
		Body: json.RawMessage(`{"msgtype":"text","text":{"content":"hi"}}`), Labels: map[string]string{"a": "b"},
	}
	return m
}

func massMessage(n int) *message.Message {
	m := &message.Message{
		ID: message.NewID(now), Account: "shop", Kind: message.Mass, Lane: message.Normal,
		Body: json.RawMessage(`{"msgtype":"text","text":{"content":"hi"}}`),
	}
	for i := range n {
		m.List = append(m.List, message.OpenID(fmt.Sprintf("oABCDEFGHIJKLMNOPQRSTUV%05d", i)))
	}
	return m
}

func TestParcelsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	light := fullMessage()
	light.Fallback.ID, light.Fallback.Lane = message.ID{}, ""
	for name, p := range map[string]*message.Parcel{
		"one message":            parcelOf(templateMessage(1)),
		"a hundred":              parcelOf(templateMessages(100)...),
		"every field":            parcelOf(fullMessage()),
		"fallback without id":    parcelOf(light, templateMessage(2)),
		"a list of ten thousand": parcelOf(massMessage(10_000)),
	} {
		t.Run(name, func(t *testing.T) {
			task, err := Encode(p)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(task)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p, got); diff != "" {
				t.Errorf("decoded parcel (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOneParcelHasOnePayload(t *testing.T) {
	t.Parallel()
	p := parcelOf(fullMessage())
	first, err := Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // maps are walked in another order each time
		again, _ := Encode(p)
		if !bytes.Equal(first.Payload(), again.Payload()) {
			t.Fatal("the same parcel was encoded differently")
		}
	}
}

func TestSizesAreBounds(t *testing.T) {
	t.Parallel()
	for _, m := range []*message.Message{templateMessage(1), fullMessage(), massMessage(3)} {
		payload, err := encode(parcelOf(m))
		if err != nil {
			t.Fatal(err)
		}
		if bound := parcelBytes(m.Account) + messageBytes(m); len(payload) > bound {
			t.Errorf("payload of %d bytes, bound %d", len(payload), bound)
		}
	}
}

func TestEncodeRefusesWhatDecodeWouldRefuse(t *testing.T) {
	t.Parallel()
	with := func(change func(*message.Parcel)) *message.Parcel {
		p := parcelOf(fullMessage(), fullMessage())
		change(p)
		return p
	}
	for name, p := range map[string]*message.Parcel{
		"no id":              with(func(p *message.Parcel) { p.ID = message.ID{} }),
		"no messages":        with(func(p *message.Parcel) { p.Messages = nil }),
		"101 messages":       parcelOf(templateMessages(101)...),
		"unknown kind":       with(func(p *message.Parcel) { p.Kind = "telegram" }),
		"no lane":            with(func(p *message.Parcel) { p.Lane = "" }),
		"another account":    with(func(p *message.Parcel) { p.Messages[1].Account = "other" }),
		"message without id": with(func(p *message.Parcel) { p.Messages[1].ID = message.ID{} }),
		"body no object":     with(func(p *message.Parcel) { p.Messages[1].Body = json.RawMessage(`[1]`) }),
		"NUL in key":         with(func(p *message.Parcel) { p.Messages[1].Key = "a\x00b" }),
		"no UTF-8":           with(func(p *message.Parcel) { p.Messages[1].To = "o\xff" }),
		"year 10000":         with(func(p *message.Parcel) { p.Messages[1].ExpiresAt = maxTime.AddDate(1, 0, 0) }),
		"empty openid":       with(func(p *message.Parcel) { p.Messages[1].List[0] = "" }),
		"fallback twice":     with(func(p *message.Parcel) { p.Messages[1].Fallback.Fallback = templateMessage(1) }),
		"fallback no kind":   with(func(p *message.Parcel) { p.Messages[1].Fallback.Kind = "" }),
		"17 labels": with(func(p *message.Parcel) {
			for i := range 17 {
				p.Messages[1].Labels[fmt.Sprint(i)] = "x"
			}
		}),
		"two messages over 64 KiB": with(func(p *message.Parcel) {
			p.Messages[0].Body = json.RawMessage(`{"a":"` + strings.Repeat("x", maxParcelBytes) + `"}`)
		}),
	} {
		if _, err := Encode(p); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

func TestDecodeRejects(t *testing.T) {
	t.Parallel()
	good, err := encode(parcelOf(fullMessage()))
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		checkRejected(t, fmt.Sprintf("first %d bytes", n), good[:n])
	}
	checkRejected(t, "a byte too many", append(bytes.Clone(good), 0))
	checkRejected(t, "version 2", append([]byte{2}, good[1:]...))
	checkRejected(t, "more than fits", make([]byte, maxTaskBytes+1))
	for at := range good { // whatever a flipped byte makes of it, nothing may break
		for _, x := range []byte{0x01, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[at] ^= x
			_, _ = decode(bad)
		}
	}
	if _, err := Decode(asynq.NewTask(TypeChunk, good)); !isRejected(err) {
		t.Errorf("another type: %v, want a rejection", err)
	}
}

func isRejected(err error) bool {
	_, ok := errors.AsType[*Rejected](err)
	return ok
}

func checkRejected(t *testing.T, name string, payload []byte) {
	t.Helper()
	if _, err := decode(payload); !isRejected(err) {
		t.Errorf("%s: %v, want a rejection", name, err)
	}
}

func TestDecodeAllocatesNothingForHostileLengths(t *testing.T) {
	header := append([]byte{version}, bytes.Repeat([]byte{7}, 16)...)
	header = append(header, 0, 4, 2) // account "", mass, normal
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}
	one := append(append(bytes.Clone(header), 1), bytes.Repeat([]byte{7}, 16)...) // one message, its id
	for name, payload := range map[string][]byte{
		"messages": append(bytes.Clone(header), huge...),
		"to":       append(append(bytes.Clone(one), hasTo), huge...),
		"list":     append(append(bytes.Clone(one), hasList), huge...),
		"labels":   append(append(bytes.Clone(one), hasLabels), huge...),
		"body":     append(append(bytes.Clone(one), 0), huge...),
	} {
		payload = append(payload, make([]byte, 64)...)
		checkRejected(t, name, payload)
		if got := allocated(func() { _, _ = decode(payload) }); got > 4<<10 {
			t.Errorf("%s: %d bytes allocated for a payload of %d", name, got, len(payload))
		}
	}
}

// allocated is how many bytes f allocates: the least of some runs, as what else the process does is counted with each.
func allocated(f func()) uint64 {
	least := uint64(math.MaxUint64)
	for range 100 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

func TestBodiesDoNotReachIntoEachOther(t *testing.T) {
	t.Parallel()
	task, err := Encode(parcelOf(templateMessages(2)...))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Decode(task)
	if err != nil {
		t.Fatal(err)
	}
	second := string(p.Messages[1].Body)
	_ = append(p.Messages[0].Body, "overwritten by an append to its neighbour's body"...)
	if got := string(p.Messages[1].Body); got != second {
		t.Errorf("body = %s, want %s", got, second)
	}
}

func TestCheckKnowsWhichIDsTheLedgerTakes(t *testing.T) {
	t.Parallel()
	const retention = 90 * 24 * time.Hour
	at := func(parcel, msg, fallback time.Time) *message.Parcel {
		m := fullMessage()
		m.ID, m.Fallback.ID = message.NewID(msg), message.NewID(fallback)
		p := parcelOf(m)
		p.ID = message.NewID(parcel)
		return p
	}
	early, late := now.Add(-retention-time.Second), now.Add(maxAhead+time.Second)
	for name, p := range map[string]*message.Parcel{
		"old parcel": at(early, now, now), "old message": at(now, early, now), "old fallback": at(now, now, early),
		"future parcel": at(late, now, now), "future message": at(now, late, now), "future fallback": at(now, now, late),
	} {
		if err := Check(p, now, retention); !isRejected(err) {
			t.Errorf("%s: %v, want a rejection", name, err)
		}
	}
	for name, p := range map[string]*message.Parcel{
		"now": at(now, now, now), "just young enough": at(now, early.Add(2*time.Second), now), "clock ahead": at(now, late.Add(-2*time.Second), now),
	} {
		if err := Check(p, now, retention); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, p := range []*message.Parcel{
		parcelOf(templateMessage(1)), parcelOf(fullMessage(), templateMessage(2)), parcelOf(massMessage(3)),
	} {
		payload, err := encode(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
		f.Add(payload[:len(payload)/2])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		p, err := decode(payload)
		if err != nil {
			if !isRejected(err) {
				t.Fatalf("error %v is no rejection", err)
			}
			return
		}
		again, err := encode(p)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		q, err := decode(again)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v", err)
		}
		if diff := cmp.Diff(p, q); diff != "" {
			t.Fatalf("second decoding (-first +second):\n%s", diff)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	p := parcelOf(templateMessages(100)...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := encode(p); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/msg")
}

func BenchmarkDecode(b *testing.B) {
	payload, err := encode(parcelOf(templateMessages(100)...))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		if _, err := decode(payload); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/msg")
}

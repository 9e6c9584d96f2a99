package api

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// Whatever is posted: an answer of the contract, nothing accepted unless it says so, and no more than was asked for.
func FuzzPostMessages(f *testing.F) {
	b := setup(f, Options{})
	for _, body := range []string{
		good, "[" + good + "]", "[" + good + "," + good + "]", good + "\n" + good, "", "[]", "[,]", "[[", "{", "[{}", "[}", "]", `"`, `["\`, `[{"a":"]"}]`,
		strings.Replace(good, "template", "mass", 1), `{"account":"shop","kind":"mass","to":["oA","oB"],"mass":{"msgtype":"text","text":{"content":"x"}}}`,
		`{"account":"shop","kind":"custom","to":"oA","custom":{"msgtype":"text","text":{"content":"x"}},"fallback":{"kind":"template","template":{"template_id":"t","data":{"thing1":{"value":"x"}}}}}`,
		"\xef\xbb\xbf" + good, good + "\x00", strings.Repeat("[", 10_000), "\x1f\x8b\x08", "null", "7", "[null]", strings.Replace(good, "oA", "\xff", 1),
		`{"account":"shop","account":"shop"}`, strings.Replace(good, `"to"`, `"not_before":"9999-99-99T00:00:00Z","to"`, 1),
	} {
		f.Add([]byte(body), false)
		f.Add([]byte(body), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, asLines bool) {
		before := b.accepted
		kind := typeJSON
		if asLines {
			kind = typeLines
		}
		status, text := b.post(t, "/v1/messages", kind, strings.NewReader(string(body)))
		took := b.accepted - before
		b.givenBack(t)
		switch status {
		case 202:
			var one accepted
			var many struct{ Messages []accepted }
			if err := json.Unmarshal([]byte(text), &one); err != nil {
				t.Fatalf("answer %s: %v", text, err)
			}
			_ = json.Unmarshal([]byte(text), &many) // the same text
			if want := max(1, len(many.Messages)); took != want || asLines {
				t.Errorf("%d accepted, the answer tells of %d", took, want)
			}
			if !json.Valid(body) {
				t.Error("what is no JSON was accepted")
			}
		case 200:
			results := linesIn(text)
			var sum lineSummary
			if err := json.Unmarshal([]byte(results[len(results)-1]), &sum); err != nil || !asLines || sum.Accepted != took || sum.Lines != len(results)-1 {
				t.Errorf("%d accepted, the answer ends %s", took, results[len(results)-1])
			}
		default:
			var p problem
			if err := json.Unmarshal([]byte(text), &p); err != nil || p.Status != status || took != 0 {
				t.Errorf("%d accepted, answer %d %s", took, status, text)
			}
			if !slices.Contains([]int{400, 403, 413}, status) {
				t.Errorf("answer %d %s", status, text)
			}
		}
	})
}

// givenBack waits until the memory of the request is free again, which is so a moment after its answer.
func (b *bundle) givenBack(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.handler.memory.Acquire(ctx, defaultMemory); err != nil {
		t.Fatalf("memory is not given back: %v", err)
	}
	b.handler.memory.Release(defaultMemory)
}

// A list is taken apart as encoding/json does it.
func FuzzElements(f *testing.F) {
	for _, body := range []string{`[]`, `[1]`, `[{"a":[1,2]},"],["]`, `[[],[[]]]`, ` [ 1 , 2 ] `, `["\\","\""]`, `[1]]`, `[1`, `[1}`, `[{]`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := elements(body, MaxArray)
		var want []json.RawMessage
		if !isList(body) || json.Unmarshal(body, &want) != nil || len(want) == 0 || len(want) > MaxArray {
			return // what is no JSON, the elements' parser refuses
		}
		if err != nil || len(got) != len(want) {
			t.Fatalf("%q: %d elements, %v; want %d", body, len(got), err, len(want))
		}
		for i := range got {
			if strings.TrimSpace(string(got[i])) != strings.TrimSpace(string(want[i])) {
				t.Errorf("%q: element %d is %q, want %q", body, i, got[i], want[i])
			}
		}
	})
}

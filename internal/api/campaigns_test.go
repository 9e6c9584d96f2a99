package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

// exporting are campaigns of which one is exported.
type exporting struct {
	Campaigns
	export func(context.Context, io.Writer) error
}

func (exporting) Campaign(context.Context, message.ID) (client.Campaign, error) {
	return client.Campaign{Account: "shop", Kind: message.Template}, nil
}

func (e exporting) Export(ctx context.Context, _ message.ID, w io.Writer) error {
	return e.export(ctx, w)
}

// Nobody takes a part of an export for the whole: its connection ends without the answer's end.
func TestATornExport(t *testing.T) {
	row := strings.Repeat("x", 200) + "\n"
	for name, c := range map[string]struct {
		rows  int
		whole bool
	}{"after some rows": {10_000, false}, "of all rows": {10_000, true}} {
		b := setup(t, Options{Campaigns: exporting{export: func(_ context.Context, w io.Writer) error {
			for range c.rows {
				if _, err := io.WriteString(w, row); err != nil {
					return err
				}
			}
			if c.whole {
				return nil
			}
			return errAway
		}}})
		r, err := http.NewRequest(http.MethodGet, b.url+"/v1/campaigns/0198c0de-0000-7000-8000-000000000001/outcomes", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+b.key)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if torn := errors.Is(err, io.ErrUnexpectedEOF); res.StatusCode != 200 || torn == c.whole || c.whole && len(text) != c.rows*len(row) {
			t.Errorf("%s: %d, %d bytes, %v", name, res.StatusCode, len(text), err)
		}
	}
	b := setup(t, Options{Campaigns: exporting{export: func(context.Context, io.Writer) error { return errAway }}})
	if status, _ := b.get(t, "/v1/campaigns/0198c0de-0000-7000-8000-000000000001/outcomes"); status != http.StatusServiceUnavailable {
		t.Errorf("before the first row: %d", status)
	}
}

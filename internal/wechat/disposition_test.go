package wechat

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
)

var words = map[string]Disposition{
	"success": None, "TOKEN": TokenRefresh, "BACKOFF": Backoff, "QUOTA": QuotaReset, "WAIT": Wait,
	"RCPT": Recipient, "REQ": Request, "ACCT": Account, "DUP": Accepted,
}

func TestEveryDocumentedCodeHasItsDisposition(t *testing.T) {
	f, err := os.Open("testdata/dispositions.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	documented := map[int]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var code int
		var word string
		if _, err := fmt.Sscan(lines.Text(), &code, &word); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		documented[code] = true
		if got, want := DispositionOf(PathTemplate, code), words[word]; got != want {
			t.Errorf("%d: got %v, want %v", code, got, want)
		}
	}
	for _, r := range refusals {
		for code := r.from; code <= r.to; code++ {
			if !documented[code] {
				t.Errorf("%d stands in the table and in no document", code)
			}
		}
	}
	if len(documented) < 300 {
		t.Errorf("only %d codes documented", len(documented))
	}
}

func TestRefusalsAreInOrderAndDisjoint(t *testing.T) {
	for i, r := range refusals {
		if r.from > r.to || i > 0 && r.from <= refusals[i-1].to {
			t.Errorf("row %d-%d is out of order", r.from, r.to)
		}
		if r.means == Wait && r.wait == 0 {
			t.Errorf("%d: a wait of what length?", r.from)
		}
	}
}

func TestDispositionsThatDependOnTheCall(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want Disposition
	}{
		{"40001 on a message call asks for a new token", DispositionOf(PathCustom, 40001), TokenRefresh},
		{"40001 on the stable token call is a wrong secret", DispositionOf(PathStableToken, 40001), Account},
		{"40001 on the legacy token call is a wrong secret", DispositionOf(PathToken, 40001), Account},
		{"an unlisted code is unknown", DispositionOf(PathCustom, 12345), UnknownCode},
		{"40013 means the account", (&Error{API: PathTemplate, Code: 40013}).Disposition(), Account},
		{"40013 with a mini program means the request", (&Error{API: PathTemplate, Code: 40013, miniprogram: true}).Disposition(), Request},
		{"40241 asks for a minute", (&Error{API: PathTemplate, Code: 40241}).Disposition(), Wait},
		{"40241 in doubt was taken", (&Error{API: PathTemplate, Code: 40241}).DispositionInDoubt(), Accepted},
		{"others in doubt stay what they are", (&Error{API: PathTemplate, Code: 40037}).DispositionInDoubt(), Request},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.got != c.want {
				t.Errorf("got %v, want %v", c.got, c.want)
			}
		})
	}
}

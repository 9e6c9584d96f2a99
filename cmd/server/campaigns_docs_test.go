package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestDocumentedCampaignRuns runs what docs/campaigns.md shows of campaigns over HTTP, as it stands there, against a server
// and a worker.
func TestDocumentedCampaignRuns(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"sh", "curl", "sed"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("NOT run: %s is not on this machine", program)
		}
	}
	h := startSimulated(t)
	page, err := os.ReadFile("../../docs/campaigns.md")
	if err != nil {
		t.Fatal(err)
	}
	key := h.key("crm", "shop:template:enqueue", "shop:template:read", "shop:template:replay")
	outcomes := t.TempDir() + "/outcomes.csv"
	var told strings.Builder
	for _, b := range docsBlock.FindAllSubmatch(page, -1) {
		if string(b[1]) != "sh curl" {
			continue
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", strings.ReplaceAll(string(b[2]), "/tmp/outcomes.csv", outcomes))
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "HONGYAN_URL="+h.url, "HONGYAN_API_KEY="+key)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, b[2], out)
		}
		told.Write(out)
	}
	for _, want := range []string{
		`"recipients":10,"duplicates":1,`, `"fits":true,"recipients":10,"good":10,`, `"timezone":"Asia/Shanghai","needs":10,`,
		`"tests":[{"to":"oTester00000000000000000000001","id":"`, `"state":"paused"}`, `"state":"running"}`, `"state":"cancelled"}`, `{"campaigns":[`,
	} {
		if !strings.Contains(told.String(), want) {
			t.Errorf("nothing says %s in\n%s", want, told.String())
		}
	}
	if text, err := os.ReadFile(outcomes); err != nil || !strings.HasPrefix(string(text), "firing,n,openid,id,status,") {
		t.Errorf("outcomes %q, %v", text, err)
	}
}

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hongyan-dispatch/hongyan/internal/audience"
	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
)

// campaignFile is the campaign among the examples; it names its audience's file.
const campaignFile = "campaign.yaml"

// campaignFiles are a campaign as its files say: the spec, as the demo runs it, and the rows of which it makes its own.
type campaignFiles struct {
	spec     *campaign.Spec
	text     []byte // the spec
	path     string // of the spec
	audience string // of the rows
	columns  []string
	rows     []audience.Row
}

// readCampaign reads the spec and the audience that it names, by the rules of `enqueue campaign create`.
func readCampaign(folder string) (*campaignFiles, error) {
	f := &campaignFiles{path: filepath.Join(folder, campaignFile)}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, badInput("%v", err)
	}
	if f.spec, err = campaign.ParseSpec(text); err != nil {
		return nil, badInput("%s: %v", f.path, err)
	}
	if f.spec.Account != shop || f.spec.Kind != message.Template || f.spec.Audience.File == "" {
		return nil, badInput("%s: the demo wants a campaign of template messages from %s, with audience: {file: NAME}", f.path, shop)
	}
	rows := filepath.Join(folder, f.spec.Audience.File)
	if f.text, err = adapted(text); err == nil {
		f.spec, err = campaign.ParseSpec(f.text)
	}
	if err != nil {
		return nil, badInput("%s: %v", f.path, err)
	}
	return f, f.readAudience(rows)
}

// adapted is a spec as the demo wants it: under a name that leaves the spec's own to whoever tries it afterwards, at a
// pace that the demo has time for, at any hour, without a halt of its own, and with an audience that comes later.
func adapted(text []byte) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	root := document.Content[0] // the spec was good
	var kept []*yaml.Node
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		switch key.Value {
		case "quiet_hours", "closed_days", "schedule", "canary", "audience", "pace":
			continue
		case "name":
			value.Value = "demo-" + value.Value
		}
		kept = append(kept, key, value)
	}
	root.Content = kept
	again, err := yaml.Marshal(&document)
	return fmt.Appendf(again, "pace: {per_second: %d}\n", campaignPerSecond), err
}

func (f *campaignFiles) readAudience(path string) error {
	f.audience = path
	file, err := os.Open(path)
	if err != nil {
		return badInput("%v", err)
	}
	defer file.Close()
	r, err := audience.Open(path, file, audience.Options{})
	if err != nil {
		return badInput("%v", err)
	}
	defer r.Close()
	f.columns = r.Columns()
	for _, name := range f.spec.Columns() {
		if !slices.Contains(f.columns, name) {
			return badInput("%s: the texts of %s ask for a column %s; it has openid, %s", path, f.path, name, strings.Join(f.columns, ", "))
		}
	}
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return badInput("%s: %v", path, err)
		}
		f.rows = append(f.rows, row)
	}
	if len(f.rows) == 0 {
		return badInput("%s: nobody is in it", path)
	}
	return nil
}

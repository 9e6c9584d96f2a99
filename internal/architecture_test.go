// Package internal_test keeps the floors of the house: imports point down, one way.
package internal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hongyan-dispatch/hongyan/"

// The floors, from the cellar up. A room may know only rooms of lower floors, and of those only the ones
// that its row names.
const (
	ground   = iota // words and plain data; aside: config and servers for mains and tests
	ideas           // one rule of WeChat or of the queue each
	adapters        // stores
	heart           // one message from the queue to WeChat; what follows, what was left behind; what producers may do
	desk            // tells people how things stand
	doors           // how the world comes in and hears back
	wiring          // builds a worker out of the rooms, for whoever runs one; knows all of them
	mains           // run what was built, do nothing else
)

// A room is a package's place: its floor, and what it may import of ours.
type room struct {
	floor int
	may   []string
}

// rooms is the whole house. A package that is not in it fails the test: give it a row, and a sentence in
// docs/architecture.md.
var rooms = map[string]room{
	"message":        {ground, nil},
	"outcome":        {ground, nil},
	"sql":            {ground, nil},
	"sql/migrations": {ground, nil},

	"internal/clock":      {ground, nil}, // the time that all processes agree on
	"internal/config":     {ground, nil}, // settings reach the other rooms as plain arguments
	"internal/wechattest": {ground, nil}, // shares no code with internal/wechat, or the tests prove nothing
	"internal/devstack":   {ground, nil},
	"internal/lines":      {ground, nil},
	"internal/fault":      {ground, nil}, // nothing of it is in a program without the tag chaos

	"internal/window":    {ideas, []string{"message"}},
	"internal/ratelimit": {ideas, []string{"message", "outcome"}},
	"internal/mass":      {ideas, []string{"message"}},
	"internal/gate":      {ideas, []string{"internal/clock", "message", "outcome"}},
	"internal/wechat":    {ideas, []string{"message", "internal/fault"}},
	"internal/tasks":     {ideas, []string{"message"}}, // no handlers, so that a producer links no pipeline
	"internal/campaign":  {ideas, []string{"message"}},
	"internal/audience":  {ideas, []string{"message"}},
	"internal/telemetry": {ideas, []string{"internal/clock"}}, // traces are told by several processes, and go by one clock

	"internal/postgres": {adapters, []string{"internal/clock", "message", "outcome", "internal/campaign", "internal/mass", "internal/fault", "sql", "sql/migrations"}},
	"internal/token":    {adapters, []string{"message", "internal/wechat"}},

	"internal/pipeline":  {heart, []string{"internal/clock", "message", "outcome", "internal/wechat", "internal/fault"}},
	"internal/feed":      {heart, []string{"internal/clock", "message", "outcome", "internal/tasks", "internal/campaign", "internal/gate"}},
	"internal/reconcile": {heart, []string{"internal/clock", "message", "outcome", "internal/tasks"}},

	"client": {heart, []string{"internal/clock", "message", "outcome", "internal/campaign", "internal/audience", "internal/mass", "internal/window", "internal/tasks", "internal/postgres", "internal/fault"}},

	"internal/report": {desk, []string{"internal/clock", "message", "outcome", "client", "internal/window", "internal/ratelimit", "internal/wechat", "internal/tasks", "internal/postgres"}},

	"internal/worker":    {doors, []string{"internal/clock", "message", "outcome", "internal/tasks", "internal/campaign", "internal/pipeline", "internal/fault"}},
	"internal/api":       {doors, []string{"internal/clock", "message", "outcome", "client", "internal/lines", "internal/campaign", "internal/report"}},
	"internal/callback":  {doors, []string{"internal/clock", "message", "outcome"}},
	"internal/dashboard": {doors, []string{"outcome", "internal/campaign"}},
	"internal/webhook":   {doors, []string{"internal/clock", "outcome"}},

	"internal/app": {wiring, nil},

	"cmd/worker":    {mains, nil},
	"cmd/server":    {mains, nil},
	"cmd/enqueue":   {mains, nil},
	"cmd/wechatsim": {mains, nil},
	"cmd/demo":      {mains, nil},
	"bench":         {mains, nil},
	"chaos":         {mains, nil},
}

// badDeps are things that a package must not link, however indirectly, and why.
var badDeps = []struct {
	room   string
	not    []string
	reason string
}{
	{
		"internal/pipeline",
		[]string{"github.com/redis/go-redis/", "github.com/jackc/pgx/", "github.com/hibiken/asynq"},
		"the pipeline knows no store and no queue",
	},
	{"cmd/worker", forTests, "production binaries link nothing that is for tests"},
	{"cmd/server", forTests, "production binaries link nothing that is for tests"},
	{"cmd/enqueue", forTests, "production binaries link nothing that is for tests"},
	{"internal/app", forTests, "production binaries link nothing that is for tests"},
	{"message", thirdParties, "the public words of the house drag nothing in"},
	{"outcome", thirdParties, "the public words of the house drag nothing in"},
}

var (
	forTests     = []string{module + "internal/devstack", module + "internal/wechattest", "github.com/alicebob/miniredis"}
	thirdParties = []string{"github.com/", "golang.org/", "go.uber.org/", "google.golang.org/", "go.yaml.in/"}
)

// A linked package, as go list tells of it.
type linked struct {
	ImportPath string
	Imports    []string // without those of its tests, which may know more
	Deps       []string
}

func (p linked) name() string { return strings.TrimPrefix(p.ImportPath, module) }

// house lists every package of the module.
func house(t *testing.T) []linked {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps", "../...")
	out, err := list.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("%v: %s", err, exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	var all []linked
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p linked
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if p.name() != "internal" { // this test
			all = append(all, p)
		}
	}
}

// breaches lists what the imports of a package do against the table.
func breaches(p linked) []string {
	r, known := rooms[p.name()]
	if !known {
		return []string{p.name() + " has no row in the table of rooms"}
	}
	var found []string
	for _, imported := range p.Imports {
		name, ours := strings.CutPrefix(imported, module)
		if !ours {
			continue
		}
		other, known := rooms[name]
		switch {
		case !known:
			found = append(found, fmt.Sprintf("%s imports %s, which has no row in the table of rooms", p.name(), name))
		case other.floor >= r.floor:
			found = append(found, fmt.Sprintf("%s imports %s, which is not below it", p.name(), name))
		case r.floor < wiring && !slices.Contains(r.may, name):
			found = append(found, fmt.Sprintf("%s imports %s; it may import %v", p.name(), name, r.may))
		}
	}
	return found
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range house(t) {
		for _, breach := range breaches(p) {
			t.Error(breach)
		}
	}
}

func TestNothingBadIsLinked(t *testing.T) {
	for _, p := range house(t) {
		for _, bad := range badDeps {
			if p.name() != bad.room {
				continue
			}
			for _, dep := range p.Deps {
				if slices.ContainsFunc(bad.not, func(prefix string) bool { return isUnder(dep, prefix) }) {
					t.Errorf("%s links %s: %s", bad.room, dep, bad.reason)
				}
			}
		}
	}
}

// TestOneRoomTraces keeps OpenTelemetry behind one door: the other rooms offer hooks.
func TestOneRoomTraces(t *testing.T) {
	for _, p := range house(t) {
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, "go.opentelemetry.io/") && p.name() != "internal/telemetry" {
				t.Errorf("%s imports %s, which is for internal/telemetry alone", p.name(), imported)
			}
		}
	}
}

// isUnder says whether a package stands under a prefix; those of our own module are exempt unless named.
func isUnder(dep, prefix string) bool {
	return strings.HasPrefix(dep, prefix) && (!strings.HasPrefix(dep, module) || strings.HasPrefix(prefix, module))
}

func TestTableItselfPointsDown(t *testing.T) {
	for name, r := range rooms {
		for _, other := range r.may {
			if o, known := rooms[other]; !known || o.floor >= r.floor {
				t.Errorf("%s may import %s, which is not below it", name, other)
			}
		}
	}
}

func TestBreachesAreSeen(t *testing.T) {
	for _, c := range []struct {
		name, imports string
		want          int
	}{
		{"internal/window", "message", 0},
		{"internal/window", "outcome", 1},         // below it, but not its business
		{"internal/window", "internal/worker", 1}, // looks up
		{"internal/window", "internal/mass", 1},   // looks sideways
		{"internal/util", "message", 1},           // no such room
		{"client", "internal/util", 1},
		{"cmd/worker", "internal/pipeline", 0},
		{"cmd/worker", "cmd/demo", 1},
	} {
		if got := breaches(linked{ImportPath: module + c.name, Imports: []string{"fmt", module + c.imports}}); len(got) != c.want {
			t.Errorf("%s importing %s: got %q, want %d breaches", c.name, c.imports, got, c.want)
		}
	}
	if !isUnder("github.com/redis/go-redis/v9", "github.com/redis/go-redis/") || isUnder(module+"message", "github.com/") ||
		!isUnder(module+"internal/devstack", module+"internal/devstack") {
		t.Error("isUnder is wrong")
	}
}

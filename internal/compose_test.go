package internal_test

import (
	"bytes"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/hongyan-dispatch/hongyan/internal/config"
)

// A composeFile is the part of the Compose specification that docker-compose.yml uses; any other key is
// taken for a slip of the pen.
type composeFile struct {
	Name     string             `yaml:"name"`
	Services map[string]service `yaml:"services"`
	Volumes  map[string]any     `yaml:"volumes"`
	Common   service            `yaml:"x-hongyan"`
}

type service struct {
	Image       string            `yaml:"image"`
	Build       string            `yaml:"build"`
	Profiles    []string          `yaml:"profiles"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	EnvFile     []struct {
		Path     string `yaml:"path"`
		Required bool   `yaml:"required"`
	} `yaml:"env_file"`
	Volumes     []string `yaml:"volumes"`
	NetworkMode string   `yaml:"network_mode"`
	DependsOn   map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	Healthcheck *struct {
		Test     []string `yaml:"test"`
		Interval string   `yaml:"interval"`
		Timeout  string   `yaml:"timeout"`
		Retries  int      `yaml:"retries"`
	} `yaml:"healthcheck"`
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	SecurityOpt     []string `yaml:"security_opt"`
	Init            bool     `yaml:"init"`
	Restart         string   `yaml:"restart"`
	StopGracePeriod string   `yaml:"stop_grace_period"`
	Ports           []string `yaml:"ports"` // of the shared network alone: two workers cannot have one
}

// ours says whether the service runs our own image.
func (s service) ours() bool { return s.Build != "" }

// environment are the service's variables as Compose would set them on a machine that sets none.
func (s service) environment() config.Env {
	return func(name string) (string, bool) {
		value, ok := s.Environment[name]
		return interpolate(value), ok
	}
}

// mounts are the service's bind mounts: path in the container → path in the repository.
func (s service) mounts() map[string]string {
	found := map[string]string{}
	for _, v := range s.Volumes {
		source, rest, _ := strings.Cut(interpolate(v), ":")
		target, _, _ := strings.Cut(rest, ":")
		if strings.HasPrefix(source, ".") {
			found[target] = source
		}
	}
	return found
}

var interpolated = regexp.MustCompile(`\$\{([A-Z_]+)(?::-([^}]*))?\}`)

func interpolate(text string) string { return interpolated.ReplaceAllString(text, "$2") }

func readCompose(t *testing.T) composeFile {
	t.Helper()
	text, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	var c composeFile
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestComposeServicesFitTogether(t *testing.T) {
	c := readCompose(t)
	conditions := []string{"service_started", "service_healthy", "service_completed_successfully"}
	for name, s := range c.Services {
		if s.Image == "" || !strings.Contains(s.Image, ":") {
			t.Errorf("%s: the image %q has no tag", name, s.Image)
		}
		for other, how := range s.DependsOn {
			o, known := c.Services[other]
			switch {
			case !known:
				t.Errorf("%s depends on %s, which does not exist", name, other)
			case !slices.Contains(conditions, how.Condition):
				t.Errorf("%s depends on %s: unknown condition %q", name, other, how.Condition)
			case how.Condition == "service_healthy" && o.Healthcheck == nil:
				t.Errorf("%s waits for the health of %s, which has no healthcheck", name, other)
			case len(o.Profiles) > 0 && !slices.Equal(o.Profiles, s.Profiles):
				t.Errorf("%s depends on %s, which its profiles do not start", name, other)
			}
		}
		if host, ok := strings.CutPrefix(s.NetworkMode, "service:"); ok {
			if _, known := s.DependsOn[host]; !known {
				t.Errorf("%s shares the network of %s but does not depend on it", name, host)
			}
		} else if s.NetworkMode != "" {
			t.Errorf("%s: network_mode %q", name, s.NetworkMode)
		}
		for _, v := range s.Volumes {
			if source, _, _ := strings.Cut(interpolate(v), ":"); !strings.HasPrefix(source, ".") {
				if _, known := c.Volumes[source]; !known {
					t.Errorf("%s: the volume %s is not declared", name, source)
				}
			}
		}
		if s.ours() && (!s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"})) {
			t.Errorf("%s may write to its image or keeps capabilities", name)
		}
	}
}

func TestComposeKeepsTheQueue(t *testing.T) {
	command := strings.Join(readCompose(t).Services["redis"].Command, " ")
	for _, setting := range []string{"--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction"} {
		if !strings.Contains(command, setting) {
			t.Errorf("redis runs %q, without %s", command, setting)
		}
	}
}

// The decoder knows no container_name, so what remains is that nothing else is one of a kind.
func TestComposeWorkerScales(t *testing.T) {
	w := readCompose(t).Services["worker"]
	if len(w.Profiles) > 0 || len(w.Command) != 1 || len(w.Ports) > 0 {
		t.Errorf("worker: profiles %v, command %v", w.Profiles, w.Command)
	}
	c := composeConfig(t)
	if c.Worker.MetricsListen != "" || c.Worker.Name != "" {
		t.Errorf("workers that share a file share the address %q and the name %q", c.Worker.MetricsListen, c.Worker.Name)
	}
}

// composeConfig is the configuration that a worker of docker-compose.yml reads.
func composeConfig(t *testing.T) *config.Config {
	t.Helper()
	w := readCompose(t).Services["worker"]
	inside := config.Path("", w.environment())
	file, mounted := w.mounts()[inside]
	if !mounted {
		t.Fatalf("%s=%s is not mounted; mounts: %v", config.EnvFile, inside, w.mounts())
	}
	c, err := config.Load(filepath.Join("..", file), w.environment(), config.NeedRedis, config.NeedPostgres, config.NeedAccounts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestComposeSimulatorIsWhatWorkersCall(t *testing.T) {
	sim := readCompose(t).Services["wechatsim"]
	at := slices.Index(sim.Command, "--listen")
	if at < 0 {
		t.Fatalf("wechatsim runs %v", sim.Command)
	}
	var scenario struct {
		Accounts []struct{ AppID, Secret, Type string }
	}
	text, err := os.ReadFile("../deploy/wechatsim.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &scenario); err != nil {
		t.Fatal(err)
	}
	known := map[string]string{}
	for _, a := range scenario.Accounts {
		known[a.AppID] = a.Secret + " " + a.Type
	}
	for _, a := range composeConfig(t).Accounts {
		if want := "http://" + sim.Command[at+1]; a.BaseURL != want {
			t.Errorf("%s calls %s, but the simulator listens on %s", a.Name, a.BaseURL, want)
		}
		if known[a.AppID] != a.Secret.Reveal()+" "+a.Type {
			t.Errorf("the simulator does not know %s with its secret and type", a.AppID)
		}
	}
}

func TestComposeServerIsReached(t *testing.T) {
	c := readCompose(t)
	host, port, err := net.SplitHostPort(composeConfig(t).Server.Listen)
	if err != nil || host != "0.0.0.0" {
		t.Errorf("the server listens on %s (%v), which no published port reaches", host, err)
	}
	network := strings.TrimPrefix(c.Services["server"].NetworkMode, "service:")
	if ports := c.Services[network].Ports; len(ports) != 1 || !strings.HasSuffix(ports[0], ":"+port) {
		t.Errorf("the server listens on port %s; published are %v", port, ports)
	}
	text, err := os.ReadFile("../deploy/wechatsim.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if called := "http://127.0.0.1:" + port + "/wechat/shop"; !strings.Contains(string(text), called) {
		t.Errorf("the simulator does not call %s back", called)
	}
}

func TestComposeNamesWhatExists(t *testing.T) {
	variables := []string{config.EnvFile, config.EnvRedisURL, config.EnvDatabaseURL}
	for name, s := range readCompose(t).Services {
		if !s.ours() {
			continue
		}
		if s.Build != "." {
			t.Errorf("%s is built from %q, which holds no Dockerfile", name, s.Build)
		}
		for variable := range maps.Keys(s.Environment) {
			if !slices.Contains(variables, variable) {
				t.Errorf("%s sets %s, which nothing reads; known: %v", name, variable, variables)
			}
		}
		for target, source := range s.mounts() {
			if _, err := os.Stat(filepath.Join("..", source)); err != nil {
				t.Errorf("%s mounts %s to %s: %v", name, source, target, err)
			}
		}
		for _, argument := range s.Command {
			if strings.HasPrefix(argument, "/") && s.mounts()[argument] == "" {
				t.Errorf("%s is given %s, which is not mounted", name, argument)
			}
		}
		t.Run(name, func(t *testing.T) { checkCommand(t, s.Command) })
	}
}

var (
	copied  = regexp.MustCompile(`(?m)^COPY (--from=(\w+) )?(.+) \S+$`)
	stage   = regexp.MustCompile(`(?m)^FROM .* AS (\w+)$`)
	builds  = regexp.MustCompile(`go build .* (\./\S+)`)
	started = regexp.MustCompile(`(?m)^CMD \["(\w+)"\]$`)
)

func TestDockerfileNamesWhatExists(t *testing.T) {
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	file := string(text)
	stages := map[string]bool{}
	for _, m := range stage.FindAllStringSubmatch(file, -1) {
		stages[m[1]] = true
	}
	for _, m := range copied.FindAllStringSubmatch(file, -1) {
		if m[1] != "" {
			if !stages[m[2]] {
				t.Errorf("%s: there is no stage %s", m[0], m[2])
			}
			continue
		}
		for source := range strings.FieldsSeq(m[3]) {
			if _, err := os.Stat(filepath.Join("..", source)); err != nil {
				t.Errorf("%s: %v", m[0], err)
			}
		}
	}
	if m := builds.FindStringSubmatch(file); m == nil || m[1] != "./cmd/..." {
		t.Errorf("the image is built from %v, want ./cmd/...", m)
	}
	if !strings.Contains(file, "\nUSER 65532:65532\n") {
		t.Error("the image runs as root")
	}
	if m := started.FindStringSubmatch(file); m == nil {
		t.Error("no CMD")
	} else {
		checkCommand(t, m[1:])
	}
}

// Without .git an image's programs do not know their version unless it is linked in: heartbeats, metrics and `worker check`
// tell old from new by it.
func TestImagesKnowTheirVersion(t *testing.T) {
	flag := regexp.MustCompile(`-X (\S+)=\$VERSION`).FindStringSubmatch(read(t, "../Dockerfile"))
	if flag == nil {
		t.Fatal("the Dockerfile links no version in")
	}
	for _, name := range []string{"worker", "server"} {
		program := filepath.Join(t.TempDir(), name)
		run(t, "go", "build", "-ldflags", "-X "+flag[1]+"=v9.9.9", "-o", program, filepath.Join("..", "cmd", name))
		if got := strings.TrimSpace(run(t, program, "--version")); got != "v9.9.9" {
			t.Errorf("%s --version says %q", name, got)
		}
	}
}

func TestDockerignoreLeavesTheCode(t *testing.T) {
	text, err := os.ReadFile("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range house(t) {
		top, _, _ := strings.Cut(p.name(), "/")
		for pattern := range strings.FieldsSeq(string(text)) {
			if hidden, err := filepath.Match(pattern, top); hidden || err != nil {
				t.Errorf(".dockerignore: %s hides %s (%v)", pattern, p.name(), err)
			}
		}
	}
}

// unwritten are commands that these files name ahead of their code. The test fails once one of them
// exists, so that the list cannot outlive its reason.
var unwritten []string

// checkCommand builds the program that a command line starts, and asks its own help whether it knows the
// subcommands and the flags.
func checkCommand(t *testing.T, line []string) {
	t.Helper()
	main := filepath.Join("..", "cmd", line[0])
	sources, _ := filepath.Glob(filepath.Join(main, "*.go"))
	if planned := slices.Contains(unwritten, line[0]); planned != (len(sources) == 0) {
		t.Errorf("%s: has %d files, but stands in the list of unwritten commands: %v", main, len(sources), planned)
	} else if planned {
		return
	}
	program := filepath.Join(t.TempDir(), line[0])
	run(t, "go", "build", "-o", program, main)

	subcommand, flags := splitLine(line[1:])
	help := run(t, program, append(slices.Clone(subcommand), "--help")...)
	if usage := strings.Join(line[:1+len(subcommand)], " "); !strings.Contains(help, usage) {
		t.Errorf("no %q in the help of %v:\n%s", usage, line, help)
	}
	for _, flag := range flags {
		if !regexp.MustCompile(regexp.QuoteMeta(flag) + `\b`).MatchString(help) {
			t.Errorf("no %s in the help of %v:\n%s", flag, line, help)
		}
	}
}

// splitLine tells the subcommand, which comes first, from the flags; the flags' values are left out.
func splitLine(words []string) (subcommand, flags []string) {
	for _, w := range words {
		switch {
		case strings.HasPrefix(w, "--"):
			flags = append(flags, w)
		case len(flags) == 0:
			subcommand = append(subcommand, w)
		}
	}
	return subcommand, flags
}

// run returns what a program writes, on whichever of its outputs.
func run(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, arguments, err, out)
	}
	return string(out)
}

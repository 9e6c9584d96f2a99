package internal_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/hongyan-dispatch/hongyan/internal/config"
)

// A manifest is the part of a Kubernetes object that names something of ours. What else it says, deploy/check examines.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string `yaml:"stringData"`
	Spec     struct {
		Template struct {
			Spec struct {
				Containers []container
				Volumes    []struct {
					Name   string
					Secret struct {
						SecretName string `yaml:"secretName"`
					}
				}
			}
		}
	}
}

type container struct {
	Args  []string
	Env   []struct{ Name, Value string }
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	LivenessProbe  *probe `yaml:"livenessProbe"`
	ReadinessProbe *probe `yaml:"readinessProbe"`
	VolumeMounts   []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

const manifests = "../deploy/kubernetes"

func readManifests(t *testing.T, file string) (all []manifest) {
	t.Helper()
	text, err := os.Open(filepath.Join(manifests, file))
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	for d := yaml.NewDecoder(text); ; {
		var m manifest
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, m)
	}
}

// kubernetesConfig is the configuration of the manifests, read where the example's secrets are mounted.
func kubernetesConfig(t *testing.T) *config.Config {
	t.Helper()
	mounted := t.TempDir()
	env := map[string]string{}
	for _, s := range readManifests(t, "secrets.example.yaml") {
		for key, value := range s.Data {
			switch key {
			case "redis-url":
				env[config.EnvRedisURL] = value
			case "database-url":
				env[config.EnvDatabaseURL] = value
			default:
				if err := os.WriteFile(filepath.Join(mounted, key), []byte(value), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	text := strings.ReplaceAll(read(t, filepath.Join(manifests, "hongyan.yaml")), "/run/secrets/hongyan", mounted)
	file := filepath.Join(mounted, "hongyan.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	lookup := func(name string) (string, bool) { value, ok := env[name]; return value, ok }
	c, err := config.Load(file, lookup, config.NeedRedis, config.NeedPostgres, config.NeedAccounts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestManifestsNameWhatExists(t *testing.T) {
	c := kubernetesConfig(t)
	listens := map[string]string{"metrics": c.Worker.MetricsListen, "http": c.Server.Listen}
	variables := []string{config.EnvFile, config.EnvRedisURL, config.EnvDatabaseURL}
	seen := 0
	for _, file := range []string{"worker.yaml", "server.yaml", "migrate.yaml"} {
		for _, m := range readManifests(t, file) {
			volumes := map[string]string{}
			for _, v := range m.Spec.Template.Spec.Volumes {
				volumes[v.Name] = v.Secret.SecretName
			}
			for _, c := range m.Spec.Template.Spec.Containers {
				seen++
				t.Run(m.Metadata.Name, func(t *testing.T) {
					checkCommand(t, c.Args)
					checkContainer(t, c, listens, variables, volumes)
				})
			}
		}
	}
	if seen != 3 {
		t.Errorf("%d containers, want worker, server and migrate", seen)
	}
}

func checkContainer(t *testing.T, c container, listens map[string]string, variables []string, volumes map[string]string) {
	t.Helper()
	mounts := map[string]string{}
	for _, m := range c.VolumeMounts {
		mounts[m.MountPath] = m.Name
	}
	for _, e := range c.Env {
		if !slices.Contains(variables, e.Name) {
			t.Errorf("it sets %s, which nothing reads; known: %v", e.Name, variables)
		}
		if e.Name == config.EnvFile && (mounts[filepath.Dir(e.Value)] != "config" || filepath.Base(e.Value) != "hongyan.yaml") {
			t.Errorf("no configuration is mounted at %s", e.Value)
		}
	}
	if len(mounts) > 0 && volumes[mounts["/run/secrets/hongyan"]] == "" {
		t.Errorf("no secret is mounted where the configuration looks for it: %v", mounts)
	}
	for _, p := range c.Ports {
		host, port, err := net.SplitHostPort(listens[p.Name])
		if err != nil || host != "0.0.0.0" || port != strconv.Itoa(p.ContainerPort) {
			t.Errorf("port %s is %d, and the configuration listens on %q", p.Name, p.ContainerPort, listens[p.Name])
		}
	}
	for _, p := range []*probe{c.LivenessProbe, c.ReadinessProbe} {
		if p != nil && (listens[p.HTTPGet.Port] == "" || !strings.Contains("/healthz /readyz", p.HTTPGet.Path)) {
			t.Errorf("probe %+v", p.HTTPGet)
		}
	}
}

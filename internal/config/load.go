package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The variables of the environment that Hongyan itself reads.
const (
	EnvFile        = "HONGYAN_CONFIG"       // names the file where no flag does
	EnvRedisURL    = "HONGYAN_REDIS_URL"    // goes before redis.url
	EnvDatabaseURL = "HONGYAN_DATABASE_URL" // goes before postgres.url
)

// Path is the file to load: the flag's, else the one HONGYAN_CONFIG names, else none ("").
func Path(flag string, env Env) string {
	if flag != "" {
		return flag
	}
	path, _ := env(EnvFile)
	return path
}

// A Need is a part of the configuration that a command cannot do without.
type Need string

// The needs. A producer needs Redis, migrations need Postgres, a worker needs all.
const (
	NeedRedis    Need = "redis.url"
	NeedPostgres Need = "postgres.url"
	NeedAccounts Need = "accounts"
)

// Load reads the file at path, lays the environment over it, fills in defaults and checks the whole.
// Without a path there is only the environment. Whatever is wrong comes back as one [*Error].
func Load(path string, env Env, needs ...Need) (*Config, error) {
	d := &decoder{
		file: path, env: env,
		override: overrides(env), lines: map[string]int{}, spoiled: map[string]bool{},
	}
	c := Default()
	if path != "" {
		if err := d.read(path, c); err != nil {
			return nil, asError([]Finding{{File: path, Rule: err.Error()}})
		}
	}
	d.secretFiles(c)
	d.applyOverrides(c)
	(&checker{decoder: d}).config(c, needs)
	if err := asError(d.found); err != nil {
		return nil, err
	}
	return c, nil
}

// read decodes the file into c; an error means that it is no YAML at all.
func (d *decoder) read(path string, c *Config) error {
	text, err := os.ReadFile(path)
	if pathErr := (*os.PathError)(nil); errors.As(err, &pathErr) {
		return fmt.Errorf("cannot be read: %w", pathErr.Err)
	} else if err != nil {
		return err
	}
	documents := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	if err := documents.Decode(&document); errors.Is(err, io.EOF) {
		return nil // nothing but comments
	} else if err != nil {
		return noYAML(err)
	}
	if endless(&document, map[*yaml.Node]bool{}) {
		return errors.New("an anchor's value contains itself")
	}
	d.value(document.Content[0], reflect.ValueOf(c).Elem(), "", "")
	if err := documents.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("a second YAML document begins in the file; want one")
	}
	return nil
}

// noYAML is the parser's error, with a remedy where its words hide the usual cause.
func noYAML(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.Contains(text, "cannot start any token") {
		text += " (YAML indents with spaces, not with tabs, and quotes values that begin with @, ` or %)"
	}
	return errors.New(text)
}

// overrides are the values that the environment puts before the file's. An empty variable is none:
// docker compose passes what is not set as empty.
func overrides(env Env) map[string]override {
	found := map[string]override{}
	for path, name := range map[string]string{"redis.url": EnvRedisURL, "postgres.url": EnvDatabaseURL} {
		if value, _ := env(name); value != "" {
			found[path] = override{name, value}
		}
	}
	return found
}

func (d *decoder) applyOverrides(c *Config) {
	if o, ok := d.override["redis.url"]; ok {
		c.Redis.URL = NewSecret(o.value)
	}
	if o, ok := d.override["postgres.url"]; ok {
		c.Postgres.URL = NewSecret(o.value)
	}
}

// secretFiles reads what the *_file keys name.
func (d *decoder) secretFiles(c *Config) {
	d.secretFile("redis.url", &c.Redis.URL, c.Redis.URLFile)
	d.secretFile("postgres.url", &c.Postgres.URL, c.Postgres.URLFile)
	d.secretFile("campaigns.database", &c.Campaigns.Database, c.Campaigns.DatabaseFile)
	for i := range c.Accounts {
		a, at := &c.Accounts[i], fmt.Sprintf("accounts[%d]", i)
		d.secretFile(at+".secret", &a.Secret, a.SecretFile)
		d.secretFile(at+".webhook.secret", &a.Webhook.Secret, a.Webhook.SecretFile)
		d.secretFile(at+".callback.token", &a.Callback.Token, a.Callback.TokenFile)
		d.secretFile(at+".callback.aes_key", &a.Callback.AESKey, a.Callback.AESKeyFile)
		d.secretFile(at+".callback.token_previous", &a.Callback.TokenPrevious, a.Callback.TokenPreviousFile)
		d.secretFile(at+".callback.aes_key_previous", &a.Callback.AESKeyPrevious, a.Callback.AESKeyPreviousFile)
	}
}

// secretFile puts the text of the file under path + "_file" into secret. A relative name starts at the
// configuration's own directory; white space around the text is cut off.
func (d *decoder) secretFile(path string, secret *Secret, file string) {
	at := path + "_file"
	if _, overridden := d.override[path]; overridden || file == "" {
		return
	}
	if !secret.IsZero() {
		d.add(at, "the secret is given here and under "+path, "keep one")
		return
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(d.file), file)
	}
	text, err := os.ReadFile(file)
	switch text := strings.TrimSpace(string(text)); {
	case err != nil:
		d.spoiled[path] = true
		d.add(at, err.Error(), "")
	case text == "":
		d.spoiled[path] = true
		d.add(at, fmt.Sprintf("the file %s is empty", file), "")
	default:
		*secret = NewSecret(text)
	}
}

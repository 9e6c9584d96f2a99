package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A documented key is one row of the tables of docs/configuration.md.
type documented struct{ kind, def string }

var tableRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| ([^|]+) \\| [^|]+ \\|$")

func readTables(t *testing.T, path string) map[string]documented {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]documented{}
	for _, m := range tableRow.FindAllStringSubmatch(string(text), -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("%s: %s stands there twice", path, m[1])
		}
		rows[m[1]] = documented{m[2], m[3]}
	}
	return rows
}

// keys lists each key of the configuration as the documentation should name it.
func keys() map[string]documented {
	service, subscription := Default(), Default()
	service.Accounts = []Account{DefaultAccount(ServiceAccount)}
	subscription.Accounts = []Account{DefaultAccount(SubscriptionAccount)}
	for _, c := range []*Config{service, subscription} {
		c.Accounts[0].Type = "" // required, so without a default
	}
	all := map[string]documented{}
	describe(all, "", reflect.ValueOf(*service), reflect.ValueOf(*subscription), "")
	return all
}

func describe(all map[string]documented, path string, a, b reflect.Value, oneOf string) {
	_, secret := a.Interface().(Secret)
	switch {
	case secret:
		all[path] = documented{"text, secret", "–"}
	case a.Kind() == reflect.Struct:
		for f := range a.Type().Fields() {
			describe(all, join(path, f.Tag.Get("yaml")), a.FieldByIndex(f.Index), b.FieldByIndex(f.Index), f.Tag.Get("oneof"))
		}
	case a.Kind() == reflect.Slice && a.Type().Elem().Kind() == reflect.Struct && a.Len() == 0:
		empty := reflect.Zero(a.Type().Elem())
		describe(all, path+"[]", empty, empty, "")
	case a.Kind() == reflect.Slice && a.Type().Elem().Kind() == reflect.Struct:
		describe(all, path+"[]", a.Index(0), b.Index(0), "")
	default:
		def := quoted(a)
		if quoted(b) != def {
			def += " (service), " + quoted(b) + " (subscription)"
		}
		all[path] = documented{kindName(a, oneOf), def}
	}
}

func quoted(v reflect.Value) string {
	if v.Kind() == reflect.Slice {
		var items []string
		for i := range v.Len() {
			items = append(items, quoted(v.Index(i)))
		}
		return strings.Join(items, ", ")
	}
	if v.Kind() == reflect.String && v.Len() == 0 {
		return "–"
	}
	return fmt.Sprintf("`%v`", v.Interface())
}

func kindName(v reflect.Value, oneOf string) string {
	switch v.Interface().(type) {
	case time.Duration:
		return "duration"
	case []time.Duration:
		return "list of durations"
	}
	switch v.Kind() {
	case reflect.String:
		if oneOf != "" {
			return "`" + strings.ReplaceAll(oneOf, ",", "`, `") + "`"
		}
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "number"
	}
	return "whole number"
}

func TestDocumentationNamesEveryKey(t *testing.T) {
	want := keys()
	english := readTables(t, "../../docs/configuration.md")
	chinese := readTables(t, "../../docs/zh/configuration.md")
	for path, key := range want {
		if english[path] != key {
			t.Errorf("docs/configuration.md: %s: got %q, want %q", path, english[path], key)
		}
		if _, ok := chinese[path]; !ok {
			t.Errorf("docs/zh/configuration.md: %s is missing", path)
		}
	}
	for path := range english {
		if _, ok := want[path]; !ok {
			t.Errorf("docs/configuration.md: there is no key %s", path)
		}
	}
	for path, row := range chinese {
		if _, ok := want[path]; !ok {
			t.Errorf("docs/zh/configuration.md: there is no key %s", path)
		}
		if values := regexp.MustCompile("`[^`]*`"); strings.Join(values.FindAllString(row.def, -1), " ") !=
			strings.Join(values.FindAllString(english[path].def, -1), " ") {
			t.Errorf("docs/zh/configuration.md: %s: got default %s, want %s", path, row.def, english[path].def)
		}
	}
}

func TestDefaultsBreakNoRule(t *testing.T) {
	for _, accountType := range []string{ServiceAccount, SubscriptionAccount} {
		load(t, strings.Replace(shop, "service", accountType, 1), environment())
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A contract is openapi.json, whose schemas are JSON Schema as OpenAPI 3.1 has it. Each exchange of the tests is held
// against it.
type contract struct {
	schemas    *jsonschema.Compiler
	operations []described
	compiling  sync.Mutex // the compiler is for one at a time

	mu     sync.Mutex
	driven map[string]bool // operation and status
}

// A described operation is one of the contract.
type described struct {
	id, method string
	path       *regexp.Regexp
	pointer    string
	operation  map[string]any
}

const contractFile = "../../internal/api/openapi.json"

var theContract = sync.OnceValue(func() *contract {
	text, err := os.ReadFile(contractFile)
	if err != nil {
		panic(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		panic(err)
	}
	c := &contract{schemas: jsonschema.NewCompiler(), driven: map[string]bool{}}
	c.schemas.DefaultDraft(jsonschema.Draft2020)
	c.schemas.AssertFormat()
	if err := c.schemas.AddResource("openapi.json", doc); err != nil {
		panic(err)
	}
	parameter := regexp.MustCompile(`\{[a-z]+\}`)
	for path, methods := range doc.(map[string]any)["paths"].(map[string]any) {
		for method, operation := range methods.(map[string]any) {
			o := operation.(map[string]any)
			c.operations = append(c.operations, described{
				id: o["operationId"].(string), method: strings.ToUpper(method),
				path:      regexp.MustCompile("^" + parameter.ReplaceAllString(path, "[^/]+") + "$"),
				pointer:   "/paths/" + strings.ReplaceAll(path, "/", "~1") + "/" + method,
				operation: o,
			})
		}
	}
	return c
})

func (c *contract) find(method, path string) (described, bool) {
	for _, o := range c.operations {
		if o.method == method && o.path.MatchString(path) {
			return o, true
		}
	}
	return described{}, false
}

// check validates a value against the schema of the contract under a pointer.
func (c *contract) check(pointer string, text []byte) error {
	c.compiling.Lock()
	schema, err := c.schemas.Compile("openapi.json#" + pointer)
	c.compiling.Unlock()
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// exchange holds a request and its answer against the contract. A request that is answered with success must follow it
// too.
func (c *contract) exchange(t testing.TB, method, path, sentType string, sent []byte, status int, header http.Header, got []byte) {
	t.Helper()
	o, known := c.find(method, path)
	if !known {
		if status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
			t.Errorf("%s %s answered %d and is not in the contract", method, path, status)
		}
		return
	}
	c.mu.Lock()
	c.driven[fmt.Sprintf("%s %d", o.id, status)] = true
	c.mu.Unlock()
	response, told := o.operation["responses"].(map[string]any)[fmt.Sprint(status)].(map[string]any)
	if !told {
		t.Errorf("%s answered %d, which the contract does not know: %s", o.id, status, got)
		return
	}
	pointer := fmt.Sprintf("%s/responses/%d", o.pointer, status)
	if ref, shared := response["$ref"].(string); shared {
		pointer = strings.TrimPrefix(ref, "#")
	}
	kind, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	at := pointer + "/content/" + strings.ReplaceAll(kind, "/", "~1") + "/schema"
	if kind == "text/csv" {
		if _, told := response["content"].(map[string]any)[kind]; !told {
			t.Errorf("%s answered with %s, which the contract does not know", o.id, kind)
		}
		return
	}
	for _, text := range parts(kind, got) {
		if err := c.check(at, text); err != nil {
			t.Errorf("%s answered %d with %s, against the contract: %v", o.id, status, text, err)
		}
	}
	if status < 300 && len(sent) > 0 && (sentType == jsonType || sentType == linesType && kind == linesType) {
		at := o.pointer + "/requestBody/content/" + strings.ReplaceAll(sentType, "/", "~1") + "/schema"
		if kind == "application/x-ndjson" {
			return // some of its lines are meant to be bad
		}
		if err := c.check(at, sent); err != nil {
			t.Errorf("%s took %s, against the contract: %v", o.id, sent, err)
		}
	}
}

func parts(kind string, text []byte) [][]byte {
	if kind != "application/x-ndjson" {
		return [][]byte{text}
	}
	var all [][]byte
	for line := range bytes.Lines(text) {
		all = append(all, line)
	}
	return all
}

// Every schema of the contract compiles, and every reference leads somewhere.
func TestTheContractIsWhole(t *testing.T) {
	c := theContract()
	text, err := os.ReadFile(contractFile)
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		OpenAPI    string
		Components struct{ Schemas, Responses map[string]any }
	}
	if err := json.Unmarshal(text, &spec); err != nil || !strings.HasPrefix(spec.OpenAPI, "3.1.") {
		t.Fatalf("version %q: %v", spec.OpenAPI, err)
	}
	for name := range spec.Components.Schemas {
		c.compiling.Lock()
		_, err := c.schemas.Compile("openapi.json#/components/schemas/" + name)
		c.compiling.Unlock()
		if err != nil {
			t.Error(err)
		}
	}
	for _, m := range regexp.MustCompile(`"#/components/responses/([A-Za-z]+)"`).FindAllStringSubmatch(string(text), -1) {
		if spec.Components.Responses[m[1]] == nil {
			t.Errorf("no response %s", m[1])
		}
	}
}

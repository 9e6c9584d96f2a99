package api

import (
	"bytes"
	_ "embed" // the contract and its page
	"encoding/json"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
)

var (
	//go:embed openapi.json
	contract []byte
	//go:embed docs.html
	pageSource string
	//go:embed docs.css
	style []byte
)

// Documentation puts the contract at /openapi.json and a page to read at /docs. The page loads nothing but its own style.
func Documentation(mux *http.ServeMux) {
	page := renderPage(contract)
	for path, file := range map[string]struct {
		kind string
		text []byte
	}{
		"GET /openapi.json":   {"application/json", contract},
		"GET /docs":           {"text/html; charset=utf-8", page},
		"GET /docs/style.css": {"text/css; charset=utf-8", style},
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Content-Type", file.kind)
			h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Referrer-Policy", "no-referrer")
			_, _ = w.Write(file.text) // whoever reads asks again
		})
	}
}

// The parts of the contract that the page shows.
type (
	contractFile struct {
		Info struct {
			Title       string `json:"title"`
			Summary     string `json:"summary"`
			Description string `json:"description"`
		} `json:"info"`
		Tags []struct {
			Name string `json:"name"`
		} `json:"tags"`
		Paths      map[string]map[string]operation `json:"paths"`
		Components struct {
			Responses map[string]response `json:"responses"`
			Schemas   map[string]schema   `json:"schemas"`
		} `json:"components"`
	}
	operation struct {
		ID          string              `json:"operationId"`
		Tags        []string            `json:"tags"`
		Summary     string              `json:"summary"`
		Description string              `json:"description"`
		Parameters  []parameter         `json:"parameters"`
		RequestBody *response           `json:"requestBody"`
		Responses   map[string]response `json:"responses"`
	}
	parameter struct {
		Name        string `json:"name"`
		In          string `json:"in"`
		Required    bool   `json:"required"`
		Description string `json:"description"`
	}
	response struct {
		Ref         string `json:"$ref"`
		Description string `json:"description"`
		Content     map[string]struct {
			Schema schema `json:"schema"`
		} `json:"content"`
	}
	schema struct {
		Ref         string            `json:"$ref"`
		Type        string            `json:"type"`
		Format      string            `json:"format"`
		Description string            `json:"description"`
		Enum        []string          `json:"enum"`
		Required    []string          `json:"required"`
		Properties  map[string]schema `json:"properties"`
		Items       *schema           `json:"items"`
		OneOf       []schema          `json:"oneOf"`
	}
)

// A shownOperation is one operation of the page.
type shownOperation struct {
	operation
	Method, Path string
	Answers      []shownAnswer
	Bodies       []shownBody
}

type shownAnswer struct {
	Status, Description string
	Bodies              []shownBody
}

type shownBody struct{ Type, Schema string }

type shownSchema struct {
	Name, Description string
	Fields            []shownField
}

type shownField struct {
	Name, Type, Description string
	Required                bool
}

// problems explains the types of problem, by the last part of their URI.
var problems = [][2]string{
	{"malformed", "The request cannot be read at all. Nothing was accepted."},
	{"invalid", "Fields break rules: errors names each one, the rule, and what was there. Nothing was accepted; mend them."},
	{"no-key", "No live key was sent."},
	{"forbidden", "The key does not allow this."},
	{"not-found", "There is no such thing, or the key is not for its account."},
	{"method", "The path knows another method, which Allow names."},
	{"slow", "The body did not come in time."},
	{"conflict", "The key was used before by another message, or the thing is in another state already."},
	{"state", "The campaign is not in a state for this."},
	{"not-ready", "The campaign lacks something for its start: detail says what."},
	{"audience-there", "The campaign has an audience, or a part of one: say resume=true or restart=true."},
	{"other-audience", "The import began with another file."},
	{"nothing-to-retry", "No recipient of the last firing failed so."},
	{"too-large", "The body is larger than a message, or a list of them, may be."},
	{"media-type", "The body is of a type that this path does not read; remedy names those that it does."},
	{"too-many", "Wait as long as Retry-After says."},
	{"unavailable", "A store is down. Nothing was accepted; make the same request again."},
	{"in-doubt", "A store went down in the very moment of the commit. Make the same request again: with keys nothing is accepted twice."},
}

func renderPage(spec []byte) []byte {
	var c contractFile
	if err := json.Unmarshal(spec, &c); err != nil {
		panic("api: openapi.json is no JSON: " + err.Error())
	}
	byTag := map[string][]shownOperation{}
	for _, path := range slices.Sorted(maps.Keys(c.Paths)) {
		for _, method := range slices.Backward(slices.Sorted(maps.Keys(c.Paths[path]))) { // post before get
			byTag[c.Paths[path][method].Tags[0]] = append(byTag[c.Paths[path][method].Tags[0]], c.show(method, path))
		}
	}
	type group struct {
		Name       string
		Operations []shownOperation
	}
	page := struct {
		contractFile
		Groups   []group
		Schemas  []shownSchema
		Problems [][2]string
	}{contractFile: c, Problems: problems}
	for _, t := range c.Tags {
		page.Groups = append(page.Groups, group{t.Name, byTag[t.Name]})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Components.Schemas)) {
		page.Schemas = append(page.Schemas, c.Components.Schemas[name].show(name))
	}
	var out bytes.Buffer
	if err := template.Must(template.New("docs").Parse(pageSource)).Execute(&out, page); err != nil {
		panic("api: the page cannot be written: " + err.Error())
	}
	return out.Bytes()
}

func (c *contractFile) show(method, path string) shownOperation {
	o := shownOperation{operation: c.Paths[path][method], Method: strings.ToUpper(method), Path: path}
	if o.RequestBody != nil {
		o.Bodies = o.RequestBody.bodies()
	}
	for _, status := range slices.Sorted(maps.Keys(o.Responses)) {
		r := o.Responses[status]
		if name := lastPart(r.Ref); name != "" {
			r = c.Components.Responses[name]
		}
		o.Answers = append(o.Answers, shownAnswer{status, r.Description, r.bodies()})
	}
	return o
}

func (r response) bodies() []shownBody {
	var all []shownBody
	for _, kind := range slices.Sorted(maps.Keys(r.Content)) {
		all = append(all, shownBody{kind, r.Content[kind].Schema.name()})
	}
	return all
}

func lastPart(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// name is the schema in a few words.
func (s schema) name() string {
	switch {
	case s.Ref != "":
		return lastPart(s.Ref)
	case len(s.OneOf) > 0:
		var names []string
		for _, one := range s.OneOf {
			names = append(names, one.name())
		}
		return strings.Join(names, " or ")
	case s.Items != nil:
		return "list of " + s.Items.name()
	case len(s.Enum) > 0:
		return strings.Join(s.Enum, ", ")
	case s.Format != "":
		return s.Format
	}
	return s.Type
}

func (s schema) show(name string) shownSchema {
	shown := shownSchema{Name: name, Description: s.Description}
	for _, field := range slices.Sorted(maps.Keys(s.Properties)) {
		of := s.Properties[field]
		shown.Fields = append(shown.Fields, shownField{field, of.name(), of.Description, slices.Contains(s.Required, field)})
	}
	return shown
}

package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// mayName are the fields in which the API's contract has whole openids.
var mayName = []string{"recipient", "openid", "to"}

// A reply is what the HTTP API answers, or its server tells otherwise.
type reply struct {
	where   string
	text    []byte
	nobody  bool // no openid may stand in it
	ofPaths bool // it is JSON, in which only some fields name users
}

// replies reads what the HTTP API says of the scenario's messages and accounts, from a server of its own where none runs.
func (r *rig) replies(ctx context.Context) ([]reply, error) {
	serving := r.crew.serving()
	if len(serving) == 0 {
		s, err := r.serve(ctx, "")
		if err != nil {
			return nil, err
		}
		serving = append(serving, s)
	}
	key, err := r.apiKey(ctx)
	if err != nil {
		return nil, err
	}
	paths, err := r.paths(ctx)
	if err != nil {
		return nil, err
	}
	var all []reply
	base := "http://" + serving[0].address
	for _, path := range paths {
		text, err := ask(ctx, base+path, key)
		if err != nil {
			return nil, err
		}
		all = append(all, reply{where: "the API's reply to " + wholeOpenID.ReplaceAllString(path, "(an openid)"), text: text, ofPaths: !strings.HasSuffix(path, ".csv") && !strings.HasSuffix(path, "/outcomes")})
	}
	for _, s := range serving {
		text, err := fetch(ctx, s.metrics)
		if err != nil {
			return nil, fmt.Errorf("metrics of %s: %w", s.name, err)
		}
		all = append(all, reply{where: "the metrics of " + s.name, text: text, nobody: true})
	}
	for _, s := range r.crew.servers {
		text, err := s.said()
		if err != nil {
			return nil, err
		}
		all = append(all, reply{where: "the log of " + s.name, text: []byte(text), nobody: true})
	}
	return all, nil
}

// paths are what is asked of the API: a message of each state, kind and reason, with its explanation, and all that it
// says of the account.
func (r *rig) paths(ctx context.Context) ([]string, error) {
	paths := []string{"/v1/accounts/" + account + "/quota", "/v1/accounts/" + account + "/gates", "/v1/accounts/" + account + "/approvals", "/v1/campaigns"}
	for _, id := range r.campaigns {
		paths = append(paths, "/v1/campaigns/"+id.String(), "/v1/campaigns/"+id.String()+"/outcomes")
	}
	rows, err := r.db.Query(ctx, `
		WITH one AS (SELECT DISTINCT ON (kind, state, reason) id, recipient FROM message)
		SELECT one.id::text, coalesce(b.recipient, one.recipient), coalesce(b.key, '') FROM one LEFT JOIN message_body b USING (id)`)
	if err != nil {
		return nil, err
	}
	var id, user, key string
	_, err = pgx.ForEachRow(rows, []any{&id, &user, &key}, func() error {
		paths = append(paths, "/v1/messages/"+id+"?explain=true")
		if key != "" {
			paths = append(paths, "/v1/messages?explain=true&account="+account+"&key="+key)
		}
		if wholeOpenID.MatchString(user) {
			paths = append(paths, "/v1/accounts/"+account+"/window/"+user)
		}
		return nil
	})
	return paths, err
}

// ask reads a reply of the API. A refusal is one as well.
func ask(ctx context.Context, url, key string) ([]byte, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Authorization", "Bearer "+key)
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 500 {
		err = fmt.Errorf("%s: %s: %s", url, res.Status, text)
	}
	return text, err
}

// strangers are the openids that stand where the contract has none.
func (p reply) strangers() (n int, err error) {
	switch {
	case p.nobody:
		return len(wholeOpenID.FindAll(p.text, -1)), nil
	case p.ofPaths:
		var whole any
		if err := json.Unmarshal(p.text, &whole); err != nil {
			return 0, fmt.Errorf("%s is no JSON: %w", p.where, err)
		}
		return strangersIn(whole, ""), nil
	}
	rows := csv.NewReader(bytes.NewReader(p.text))
	var head []string
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("%s is no CSV: %w", p.where, err)
		}
		if head == nil {
			head = row
			continue
		}
		for i, field := range row {
			if !slices.Contains(mayName, head[i]) && wholeOpenID.MatchString(field) {
				n++
			}
		}
	}
}

func strangersIn(value any, field string) (n int) {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			n += strangersIn(inner, name)
		}
	case []any:
		for _, inner := range v {
			n += strangersIn(inner, field)
		}
	case string:
		if !slices.Contains(mayName, field) {
			n = len(wholeOpenID.FindAllString(v, -1))
		}
	}
	return n
}

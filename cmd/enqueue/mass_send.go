package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

type massSendCommand struct {
	envelope
	Openids string `help:"To the openids of this file, one per line; - is standard input." placeholder:"FILE"`
	Tag     int64  `help:"To the users with this tag." placeholder:"ID"`
	All     bool   `help:"To everybody."`
	massContent
	Yes bool `help:"Do not ask."`
}

func (*massSendCommand) Help() string {
	return `A list needs a verified service account (认证服务号) and at least 2 openids; one over 10,000 becomes several messages.
On a terminal the command asks before it sends; a mass message cannot be taken back.

Examples:

  enqueue mass send --account shop --openids vip.txt --text 今晚八点上新 --key vip-1201
  enqueue mass send --account club --tag 2 --mpnews MEDIA_ID --send-ignore-reprint
  enqueue mass send --account club --all --image MEDIA_ID --not-before 2026-12-01T09:00:00+08:00 --yes`
}

// Run enqueues the message.
func (c *massSendCommand) Run(ctx context.Context, s *session) error {
	list, err := c.list(s)
	if err != nil {
		return err
	}
	body, err := c.body(s)
	if err != nil {
		return err
	}
	m, err := c.message(message.Mass, body, time.Now())
	if err != nil {
		return err
	}
	m.List = list
	if err := c.confirm(s, m); err != nil {
		return err
	}
	return s.enqueue(ctx, m)
}

func (c *massSendCommand) body(s *session) ([]byte, error) {
	fields, err := c.fields(s)
	if err != nil {
		return nil, err
	}
	if c.All || c.Tag != 0 {
		if fields["filter"] != nil {
			return nil, refuse("the body has a filter: leave out --tag and --all")
		}
		filter := map[string]any{"is_to_all": c.All}
		if c.Tag != 0 {
			filter["tag_id"] = c.Tag
		}
		fields["filter"] = filter
	}
	return marshal(fields)
}

// list reads the recipients, if they are a list.
func (c *massSendCommand) list(s *session) ([]message.OpenID, error) {
	var given []string
	for _, f := range []struct {
		flag string
		is   bool
	}{{"--openids", c.Openids != ""}, {"--tag", c.Tag != 0}, {"--all", c.All}} {
		if f.is {
			given = append(given, f.flag)
		}
	}
	switch {
	case len(given) > 1:
		return nil, refuse("%s: give one of them", strings.Join(given, " and "))
	case len(given) == 0 && c.Body == "":
		return nil, refuse("want one of --openids, --tag, --all")
	case c.Openids == "":
		return nil, nil
	}
	return s.openids(c.Openids)
}

// maxLine bounds a line of a list of openids; they have up to 64 bytes.
const maxLine = 256

// openids reads a list, one per line; empty lines do not matter.
func (s *session) openids(name string) ([]message.OpenID, error) {
	f, err := s.open("--openids", name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []message.OpenID
	lines := map[message.OpenID]int{}
	scanner := bufio.NewScanner(f)
	scanner.Buffer(make([]byte, maxLine), maxLine)
	n := 0
	for scanner.Scan() {
		n++
		openid := message.OpenID(bytes.TrimSpace(scanner.Bytes()))
		if openid == "" {
			continue
		}
		if err := openid.Check(); err != nil {
			return nil, refuse("--openids: %s:%d: %w", name, n, err)
		}
		if first, twice := lines[openid]; twice {
			return nil, refuse("--openids: %s:%d: the same openid as in line %d", name, n, first)
		}
		lines[openid] = n
		list = append(list, openid)
	}
	switch err := scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, refuse("--openids: %s:%d: longer than %d bytes; want one openid per line", name, n+1, maxLine)
	case err != nil:
		return nil, fmt.Errorf("--openids: %s: %w", name, err)
	case list == nil:
		return nil, refuse("--openids: %s: no openid in it", name)
	}
	return list, nil
}

// confirm asks a person to type whom the message will reach.
func (c *massSendCommand) confirm(s *session, m message.Message) error {
	if err := m.Validate(time.Now()); err != nil && m.Account != "" {
		return err // before anybody is asked
	}
	if c.Yes || !isTerminal(s.stdin) {
		return nil
	}
	whom, word := "everybody", "all"
	switch {
	case m.List != nil:
		word = strconv.Itoa(len(m.List))
		whom = word + " users"
	case m.Recipient() != "all":
		whom, word = "the users of "+m.Recipient(), strings.TrimPrefix(m.Recipient(), "tag:")
	}
	if _, err := fmt.Fprintf(s.stderr, "This goes to %s, and cannot be taken back. Type %s to send it: ", whom, word); err != nil {
		return err
	}
	answer, err := bufio.NewReader(s.stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != word {
		return errors.New("not sent")
	}
	return nil
}

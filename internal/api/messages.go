package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// accepted is the answer about one message.
type accepted struct {
	ID         message.ID   `json:"id"`
	Duplicate  bool         `json:"duplicate"` // the key was used before by the same message: this is its id
	Durability string       `json:"durability"`
	Parts      []message.ID `json:"parts,omitempty"` // of a mass list over 10,000
}

// inPostgres is the only durability that the API knows.
const inPostgres = "postgres"

func acceptedOf(r Receipt) accepted { return accepted{r.ID, r.Duplicate, inPostgres, r.Parts} }

// headerKey is another way to give a message's key.
const headerKey = "Idempotency-Key"

func (h *Handler) postMessages(c *call) error {
	media, err := c.mediaType()
	if err == nil && media == typeLines {
		return h.postLines(c)
	}
	if paid := c.pay(1); paid != nil {
		return paid
	}
	if err != nil {
		return err
	}
	body, err := h.read(c, maxBody, "send many messages as JSON Lines ("+typeLines+"), in which their number is not bounded")
	if err != nil {
		return err
	}
	if isList(body) {
		return h.postArray(c, body)
	}
	return h.postOne(c, body)
}

// postOne takes one message.
func (h *Handler) postOne(c *call, body []byte) error {
	m, err := message.Parse(body)
	if err != nil {
		return unparsed(err)
	}
	if err := c.keyFromHeader(m); err != nil {
		return err
	}
	m.Defaults(false)
	if err := h.admit(c, []*message.Message{m}, func(_ int, found message.Invalid) message.Invalid { return found }); err != nil {
		return err
	}
	if m.Kind == message.Mass && h.options.Accounts.WantsApproval(m.Account) {
		return h.ask(c, *m)
	}
	r := h.options.Enqueuer.Enqueue(c.ctx(), *m)
	if r.Err != nil {
		return refused(r.Err)
	}
	h.audit.later(c.entry("enqueue", m.Account, r.ID.String(), string(m.Kind), 1))
	c.w.Header().Set("Location", "/v1/messages/"+r.ID.String())
	write(c.w, http.StatusAccepted, acceptedOf(r))
	return nil
}

// postArray takes all of its messages, or none.
func (h *Handler) postArray(c *call, body []byte) error {
	if c.r.Header.Get(headerKey) != "" {
		return malformed(headerKey+" is for one message", "give each message of the list its own key")
	}
	list, err := elements(body, MaxArray)
	if err != nil {
		return unparsed(err)
	}
	if err := c.pay(len(list) - 1); err != nil { // the first came with the request
		return err
	}
	messages, found := make([]*message.Message, len(list)), message.Invalid(nil)
	for i, text := range list {
		m, err := message.Parse(text)
		if bad, ok := errors.AsType[message.Invalid](err); ok {
			found = append(found, within(i, bad)...)
		} else if m.Defaults(true); m.Kind == message.Mass && len(m.List) > massCall {
			found = append(found, message.FieldError{Path: fmt.Sprintf("[%d].to", i), Rule: "a list over 10,000 openids comes alone", Got: strconv.Itoa(len(m.List))})
		}
		messages[i] = m
	}
	if found != nil {
		return invalid(few(found))
	}
	if err := h.admit(c, messages, within); err != nil {
		return err
	}
	values := make([]message.Message, len(messages))
	for i, m := range messages {
		if m.Kind == message.Mass && h.options.Accounts.WantsApproval(m.Account) {
			return invalid(message.Invalid{{Path: fmt.Sprintf("[%d].kind", i), Rule: wantsApproval}})
		}
		values[i] = *m
	}
	receipts := h.options.Enqueuer.EnqueueAll(c.ctx(), values)
	if p := notAll(receipts); p != nil {
		return p
	}
	answer := struct {
		Messages []accepted `json:"messages"`
	}{make([]accepted, len(receipts))}
	counts := tally{}
	for i, r := range receipts {
		answer.Messages[i] = acceptedOf(r)
		counts.add(messages[i].Account, r.ID)
	}
	counts.audit(h, c, "enqueue")
	write(c.w, http.StatusAccepted, answer)
	return nil
}

const (
	massCall      = 10_000 // openids of one call of WeChat's
	wantsApproval = "a mass message of this account wants a second key's approval: post it alone"
	manyFindings  = 100
)

// few bounds what an answer says is wrong.
func few(found message.Invalid) message.Invalid {
	if len(found) <= manyFindings {
		return found
	}
	more := len(found) - manyFindings
	return append(found[:manyFindings:manyFindings], message.FieldError{Rule: fmt.Sprintf("and %d more findings", more)})
}

// keyFromHeader takes the message's key from the header, if it is there.
func (c *call) keyFromHeader(m *message.Message) error {
	switch key := c.r.Header.Get(headerKey); {
	case len(c.r.Header.Values(headerKey)) > 1:
		return malformed(headerKey+" stands there more than once", "give a message one key")
	case key == "":
	case m.Key != "" && m.Key != key:
		return invalid(message.Invalid{{Path: "key", Rule: "differs from the header " + headerKey + "; give one of them"}})
	default:
		m.Key = key
	}
	return nil
}

// admit asks of parsed messages whether they follow the rules, whether the key may post them, and whether there is room for
// them. It gives their accounts the names that the ledger uses.
func (h *Handler) admit(c *call, messages []*message.Message, place func(int, message.Invalid) message.Invalid) error {
	var found, foreign message.Invalid
	for i, m := range messages {
		if bad := h.forbids(c.key, m); bad != nil {
			foreign = append(foreign, place(i, bad)...)
		} else if err := m.Validate(c.now); err != nil {
			bad, _ := errors.AsType[message.Invalid](err)
			found = append(found, place(i, bad)...)
		}
	}
	switch {
	case foreign != nil:
		p := forbidden(few(foreign).Error())
		p.Errors = few(foreign)
		return p
	case found != nil:
		return invalid(few(found))
	}
	for _, m := range messages {
		if full, after := h.options.Backlog(m.Account, m.Kind, m.Lane); full {
			return tooMany(fmt.Sprintf("too many %s messages of %s wait already", m.Kind, m.Account), after)
		}
	}
	return nil
}

// forbids says what the key does not allow. An account that is not the key's is as one that there is not.
func (h *Handler) forbids(k *holder, m *message.Message) message.Invalid {
	if m.Account == "" {
		return nil // its own finding
	}
	name, known := h.options.Accounts.Name(m.Account)
	if !known || !k.knows(name) {
		return message.Invalid{{Path: "account", Rule: "want an account that this key is for", Got: quote(m.Account)}}
	}
	m.Account = name
	switch {
	case !k.May(name, m.Kind, Enqueue):
		return message.Invalid{{Path: "kind", Rule: fmt.Sprintf("the key may not enqueue %s messages for %s", m.Kind, name)}}
	case m.Fallback != nil && !k.May(name, m.Fallback.Kind, Enqueue):
		return message.Invalid{{Path: "fallback.kind", Rule: fmt.Sprintf("the key may not enqueue %s messages for %s", m.Fallback.Kind, name)}}
	}
	return nil
}

// unparsed is the problem of a body that is no message.
func unparsed(err error) error {
	found, ok := errors.AsType[message.Invalid](err)
	if !ok {
		return malformed(err.Error(), "")
	}
	if len(found) == 1 && found[0].Path == "" && strings.HasSuffix(found[0].Got, " bytes") { // of message.Parse
		return tooLarge(found.Error(), "put long texts into material, and longer mass lists into several messages")
	}
	return invalid(few(found))
}

// refused is the problem of a message that was not accepted.
func refused(err error) error {
	if found, ok := errors.AsType[message.Invalid](err); ok {
		return invalid(found)
	}
	if errors.Is(err, ErrConflict) {
		return keyTaken(message.Invalid{{Path: "key", Rule: keyRule}})
	}
	return err
}

const keyRule = "used before by another message; use a new key for a new message"

func keyTaken(found message.Invalid) *problem {
	p := conflict(found.Error(), "use a new key for a new message; nothing was accepted")
	p.Errors = found
	return p
}

// notAll is the problem of an array of which one message is refused, if one is.
func notAll(receipts []Receipt) error {
	var found, taken message.Invalid
	for i, r := range receipts {
		bad, isInvalid := errors.AsType[message.Invalid](r.Err)
		switch {
		case r.Err == nil, errors.Is(r.Err, ErrNotAll):
		case isInvalid:
			found = append(found, within(i, bad)...)
		case errors.Is(r.Err, ErrConflict):
			taken = append(taken, message.FieldError{Path: fmt.Sprintf("[%d].key", i), Rule: keyRule})
		default:
			return r.Err
		}
	}
	switch {
	case found != nil:
		return invalid(few(found))
	case taken != nil:
		return keyTaken(few(taken))
	}
	return nil
}

// A tally counts what a request did, by account, for the audit.
type tally map[string]*struct {
	n     int
	first message.ID
}

func (t tally) add(account string, id message.ID) {
	if t[account] == nil {
		t[account] = &struct {
			n     int
			first message.ID
		}{0, id}
	}
	t[account].n++
}

func (t tally) audit(h *Handler, c *call, action string) {
	for account, counted := range t {
		target := ""
		if !counted.first.IsZero() {
			target = counted.first.String()
		}
		h.audit.later(c.entry(action, account, target, "", counted.n))
	}
}

// messageView is a message as the API tells of it: WeChat's msgid has more digits than JavaScript's numbers.
type messageView struct {
	report.Message
	MsgID string `json:"wechat_msgid,omitempty"`
}

// explainedView is the same, with why it is so.
type explainedView struct {
	messageView
	Why     string         `json:"why"`
	HeldBy  []string       `json:"held_by,omitempty"`
	Until   time.Time      `json:"until,omitzero"`
	Checks  []report.Check `json:"checks,omitempty"`
	Instead message.ID     `json:"fallback_id,omitzero"`
}

func viewOf(m report.Message) messageView {
	v := messageView{Message: m}
	if m.MsgID != 0 {
		v.MsgID = strconv.FormatInt(m.MsgID, 10)
	}
	return v
}

func (h *Handler) getMessage(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	return h.tell(c, id)
}

func (h *Handler) findMessage(c *call) error {
	account, key := c.r.FormValue("account"), c.r.FormValue("key")
	if account == "" || key == "" {
		return malformed("account and key are required", "ask such as /v1/messages?account=shop&key=order-1001-paid")
	}
	name, known := h.options.Accounts.Name(account)
	if !known || !c.key.knows(name) {
		return ErrNotFound
	}
	id, err := h.options.Ledger.Find(c.ctx(), name, key)
	if err != nil {
		return err
	}
	return h.tell(c, id)
}

// tell answers with a message that the key may read; of others nobody learns that they exist.
func (h *Handler) tell(c *call, id message.ID) error {
	m, err := h.visible(c, id)
	if err != nil {
		return err
	}
	switch c.r.FormValue("explain") {
	case "", "false":
		write(c.w, http.StatusOK, viewOf(m))
		return nil
	case "true":
	default:
		return malformed("explain: want true or false", "")
	}
	e, err := h.options.Ledger.Explain(c.ctx(), id)
	if err != nil {
		return err
	}
	write(c.w, http.StatusOK, explainedView{viewOf(e.Message), e.Why, e.HeldBy, e.Until, e.Checks, e.Instead})
	return nil
}

// visible is a message that the key may read.
func (h *Handler) visible(c *call, id message.ID) (report.Message, error) {
	m, err := h.options.Ledger.Message(c.ctx(), id)
	if err == nil && !c.key.May(m.Account, m.Kind, Read) {
		err = ErrNotFound
	}
	return m, err
}

func (h *Handler) cancelMessage(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	m, err := h.options.Ledger.Message(c.ctx(), id)
	switch {
	case err != nil:
		return err
	case c.key.May(m.Account, m.Kind, Enqueue):
	case c.key.May(m.Account, m.Kind, Read):
		return forbidden(fmt.Sprintf("the key may read %s messages of %s, and not cancel them", m.Kind, m.Account))
	default:
		return ErrNotFound
	}
	if err := h.audit.now(c.ctx(), c.entry("cancel", m.Account, id.String(), "", 1)); err != nil {
		return err
	}
	status, err := h.options.Ledger.Cancel(context.WithoutCancel(c.ctx()), id)
	if err != nil {
		return err
	}
	if status != outcome.Cancelled {
		return conflict(fmt.Sprintf("the message is %s, and stays so", status), "only what is accepted or parked can be cancelled")
	}
	write(c.w, http.StatusOK, struct {
		ID     message.ID     `json:"id"`
		Status outcome.Status `json:"status"`
	}{id, status})
	return nil
}

// id is the one in the path.
func (c *call) id() (message.ID, error) {
	id, err := message.ParseID(c.r.PathValue("id"))
	if err != nil {
		return id, malformed(err.Error(), "")
	}
	return id, nil
}

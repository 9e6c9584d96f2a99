package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/hongyan-dispatch/hongyan/internal/lines"
	"github.com/hongyan-dispatch/hongyan/message"
)

// postEvents notes what users did. It may be posted in any order and more than once.
func (h *Handler) postEvents(c *call) error {
	media, err := c.mediaType()
	if err == nil && media == typeLines {
		return h.stream(c, maxEvent, "event", func(ctx context.Context, b *lines.Slab) []lineResult { return h.noteLines(ctx, c, b) })
	}
	if paid := c.pay(1); paid != nil {
		return paid
	}
	if err != nil {
		return err
	}
	body, err := h.read(c, maxEvents, "send many events as JSON Lines ("+typeLines+")")
	if err != nil {
		return err
	}
	list := [][]byte{body}
	place := func(_ int, found message.Invalid) message.Invalid { return found }
	if isList(body) {
		place = within
		if list, err = elements(body, MaxArray); err != nil {
			return unparsed(err)
		}
		if err := c.pay(len(list) - 1); err != nil { // the first came with the request
			return err
		}
	}
	events, found, foreign := make([]Event, len(list)), message.Invalid(nil), message.Invalid(nil)
	for i, text := range list {
		e, err := h.options.Events.Parse(text)
		if bad, ok := errors.AsType[message.Invalid](err); ok {
			found = append(found, place(i, bad)...)
		} else if bad := h.forbidsEvent(c.key, &e); bad != nil {
			foreign = append(foreign, place(i, bad)...)
		}
		events[i] = e
	}
	switch {
	case found != nil:
		return invalid(few(found))
	case foreign != nil:
		p := forbidden(few(foreign).Error())
		p.Errors = few(foreign)
		return p
	}
	counts := tally{}
	for _, e := range events { // each may be noted twice: where one fails, all are posted again
		if err := h.options.Events.Event(c.ctx(), e); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		counts.add(e.Account, message.ID{})
	}
	counts.audit(h, c, "event")
	write(c.w, http.StatusOK, struct {
		Events int `json:"events"`
	}{len(events)})
	return nil
}

// forbidsEvent: who tells of users' actions opens the windows of customer-service messages.
func (h *Handler) forbidsEvent(k *holder, e *Event) message.Invalid {
	name, known := h.options.Accounts.Name(e.Account)
	if !known || !k.knows(name) {
		return message.Invalid{{Path: "account", Rule: "want an account that this key is for", Got: quote(e.Account)}}
	}
	if !k.May(name, message.Custom, Enqueue) {
		return message.Invalid{{Path: "account", Rule: "the key may not enqueue custom messages for " + name + ", whose windows events open"}}
	}
	e.Account = name
	return nil
}

func (h *Handler) noteLines(ctx context.Context, c *call, b *lines.Slab) []lineResult {
	results := make([]lineResult, len(b.Lines))
	for i, l := range b.Lines {
		r := &results[i]
		if l.TooLong {
			r.refuse(tooLarge(fmt.Sprintf("longer than %d KiB", maxEvent>>10), ""))
			continue
		}
		e, err := h.options.Events.Parse(b.At(l))
		if err != nil {
			r.refuse(unparsed(err))
			continue
		}
		if bad := h.forbidsEvent(c.key, &e); bad != nil {
			p := forbidden(bad.Error())
			p.Errors = bad
			r.refuse(p)
			continue
		}
		if err := h.options.Events.Event(ctx, e); err != nil {
			for rest := i; rest < len(results); rest++ { // the store is away, and would be for each of them
				results[rest].refuse(err)
			}
			return results
		}
		r.Status, r.account = http.StatusAccepted, e.Account
	}
	return results
}

package api

import (
	"errors"
	"net/http"

	"github.com/hongyan-dispatch/hongyan/message"
)

// pending is the answer about a mass message that waits for a second key.
type pending struct {
	ApprovalID message.ID `json:"approval_id"`
	Status     string     `json:"status"`
	Duplicate  bool       `json:"duplicate"`
	Durability string     `json:"durability"`
}

// ask has a mass message wait for a second key.
func (h *Handler) ask(c *call, m message.Message) error {
	a, duplicate, err := h.options.Approvals.Ask(c.ctx(), m, c.key.Name)
	if err != nil {
		return refused(err)
	}
	h.audit.later(c.entry("ask approval", m.Account, a.ID.String(), a.Recipient, 1))
	c.w.Header().Set("Location", "/v1/approvals/"+a.ID.String())
	write(c.w, http.StatusAccepted, pending{a.ID, a.Status, duplicate, inPostgres})
	return nil
}

// approval is the one in the path, if the key may read it.
func (h *Handler) approval(c *call) (Approval, error) {
	id, err := c.id()
	if err != nil {
		return Approval{}, err
	}
	a, err := h.options.Approvals.Approval(c.ctx(), id)
	if err == nil && !c.key.May(a.Account, message.Mass, Read) && !c.key.May(a.Account, message.Mass, Admin) {
		err = ErrNotFound
	}
	return a, err
}

func (h *Handler) getApproval(c *call) error {
	a, err := h.approval(c)
	if err != nil {
		return err
	}
	write(c.w, http.StatusOK, a)
	return nil
}

func (h *Handler) getApprovals(c *call) error {
	account, err := h.account(c)
	if err != nil {
		return err
	}
	if !c.key.May(account, message.Mass, Read) && !c.key.May(account, message.Mass, Admin) {
		return forbidden("the key may not read of mass messages of " + account)
	}
	waiting, err := h.options.Approvals.Waiting(c.ctx(), account)
	if err != nil {
		return err
	}
	write(c.w, http.StatusOK, struct {
		Account   string     `json:"account"`
		Approvals []Approval `json:"approvals"`
	}{account, waiting})
	return nil
}

func (h *Handler) approve(c *call) error {
	return h.decide(c, "approve", func(a Approval, _ string) (Approval, error) {
		return h.options.Approvals.Approve(c.ctx(), a, c.key.Name)
	})
}

func (h *Handler) refuse(c *call) error {
	return h.decide(c, "refuse", func(a Approval, note string) (Approval, error) {
		return h.options.Approvals.Refuse(c.ctx(), a, c.key.Name, note)
	})
}

// decide has somebody else than who asked decide on an approval.
func (h *Handler) decide(c *call, action string, how func(a Approval, note string) (Approval, error)) error {
	a, err := h.approval(c)
	if err != nil {
		return err
	}
	if !c.key.May(a.Account, message.Mass, Admin) {
		return forbidden("the key may not decide on mass messages of " + a.Account)
	}
	if action == "approve" && a.AskedBy == c.key.Name {
		return forbidden("the holder of the key that posted the message cannot approve it: somebody else must")
	}
	var wanted struct {
		Note string `json:"note"`
	}
	if err := h.readSmall(c, &wanted); err != nil {
		return err
	}
	if len(wanted.Note) > 500 {
		return invalid(message.Invalid{{Path: "note", Rule: "at most 500 bytes"}})
	}
	if err := h.audit.now(c.ctx(), c.entry(action, a.Account, a.ID.String(), wanted.Note, 1)); err != nil {
		return err
	}
	a, err = how(a, wanted.Note)
	if errors.Is(err, ErrDecided) {
		return conflict(err.Error(), "see its status at /v1/approvals/"+a.ID.String())
	}
	if err != nil {
		return refused(err)
	}
	write(c.w, http.StatusOK, a)
	return nil
}

package api

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/message"
)

// account is the one in the path, by its configured name. One that the key has nothing to do with is not there.
func (h *Handler) account(c *call) (string, error) {
	name, known := h.options.Accounts.Name(c.r.PathValue("account"))
	if !known || !c.key.knows(name) {
		return "", notFound("no account of that name is known to this key")
	}
	return name, nil
}

func (h *Handler) getQuota(c *call) error {
	account, err := h.account(c)
	if err != nil {
		return err
	}
	kinds := c.key.kindsFor(account, Read)
	if len(kinds) == 0 {
		return forbidden("the key may not read of " + account)
	}
	quotas, err := h.options.Accounts.Quotas(c.ctx(), account)
	if err != nil {
		return err
	}
	quotas = slices.DeleteFunc(quotas, func(q Quota) bool { return !slices.Contains(kinds, q.Kind) })
	write(c.w, http.StatusOK, struct {
		Account string  `json:"account"`
		Quotas  []Quota `json:"quotas"`
	}{account, quotas})
	return nil
}

func (h *Handler) getGates(c *call) error {
	account, err := h.account(c)
	if err != nil {
		return err
	}
	kinds := c.key.kindsFor(account, Read)
	if len(kinds) == 0 {
		return forbidden("the key may not read of " + account)
	}
	gates, err := h.options.Accounts.Gates(c.ctx(), account)
	if err != nil {
		return err
	}
	views := make([]gateView, 0, len(gates))
	for _, g := range gates {
		v := gateOf(g)
		if kind := message.Kind(v.API); slices.Contains(message.Kinds(), kind) && !slices.Contains(kinds, kind) {
			continue
		}
		views = append(views, v)
	}
	write(c.w, http.StatusOK, struct {
		Account string     `json:"account"`
		Gates   []gateView `json:"gates"` // those that are not open
	}{account, views})
	return nil
}

// gateView names the API as people do.
type gateView struct {
	report.Gate
	API   string    `json:"api"`
	Until time.Time `json:"until,omitzero"` // none: until it is opened, or WeChat accepts the account again
}

func gateOf(g report.Gate) gateView {
	v := gateView{Gate: g, API: report.APIName(g.API), Until: g.Until}
	if g.Until.Equal(report.ByHand) {
		v.Until = time.Time{}
	}
	return v
}

// gate is the one in the path, which the key may open and close.
func (h *Handler) gate(c *call) (account, api string, err error) {
	if account, err = h.account(c); err != nil {
		return "", "", err
	}
	name := c.r.PathValue("api")
	kinds := message.Kinds()
	allowed := name == report.WholeAccount && c.key.mayAll(account, Admin) ||
		slices.Contains(kinds, message.Kind(name)) && c.key.May(account, message.Kind(name), Admin)
	api, err = report.ParseAPI(name)
	switch {
	case err != nil || strings.HasPrefix(name, "/"):
		return "", "", notFound("there is no such gate; want template, subscribe, custom, mass, all")
	case !allowed:
		return "", "", forbidden("the key may not open and close this gate of " + account)
	}
	return account, api, nil
}

func (h *Handler) openGate(c *call) error {
	account, api, err := h.gate(c)
	if err != nil {
		return err
	}
	if err := h.audit.now(c.ctx(), c.entry("gate open", account, report.APIName(api), "", 0)); err != nil {
		return err
	}
	changed, due, err := h.options.Accounts.OpenGate(c.ctx(), account, api)
	if err != nil {
		return err
	}
	write(c.w, http.StatusOK, struct {
		Account string `json:"account"`
		API     string `json:"api"`
		State   string `json:"state"`
		Changed bool   `json:"changed"`
		Due     int64  `json:"due"` // messages that waited and go now
	}{account, report.APIName(api), "open", changed, due})
	return nil
}

func (h *Handler) closeGate(c *call) error {
	account, api, err := h.gate(c)
	if err != nil {
		return err
	}
	var wanted struct {
		Until  time.Time `json:"until"`
		Reason string    `json:"reason"`
	}
	if err := h.readSmall(c, &wanted); err != nil {
		return err
	}
	switch {
	case wanted.Until.IsZero():
		wanted.Until = report.ByHand
	case !wanted.Until.After(c.now) || wanted.Until.After(report.ByHand):
		return invalid(message.Invalid{{Path: "until", Rule: "must be in the future, and before the year 9999", Got: wanted.Until.Format(time.RFC3339)}})
	}
	if wanted.Reason == "" {
		wanted.Reason = "by API"
	}
	if len(wanted.Reason) > 500 {
		return invalid(message.Invalid{{Path: "reason", Rule: "at most 500 bytes"}})
	}
	if err := h.audit.now(c.ctx(), c.entry("gate close", account, report.APIName(api), wanted.Reason, 0)); err != nil {
		return err
	}
	g, err := h.options.Accounts.CloseGate(c.ctx(), account, api, wanted.Reason, wanted.Until)
	if err != nil {
		return err
	}
	write(c.w, http.StatusOK, gateOf(g))
	return nil
}

func (h *Handler) getWindow(c *call) error {
	account, err := h.account(c)
	if err != nil {
		return err
	}
	if !c.key.May(account, message.Custom, Read) {
		return forbidden("the key may not read of custom messages of " + account)
	}
	user := message.OpenID(c.r.PathValue("openid"))
	if err := user.Check(); err != nil {
		found, _ := errors.AsType[message.Invalid](err)
		for i := range found {
			found[i].Path = "openid"
		}
		return invalid(found)
	}
	w, err := h.options.Accounts.Window(c.ctx(), account, user)
	if err != nil {
		return err
	}
	write(c.w, http.StatusOK, w)
	return nil
}

// readSmall reads a small object of our own, strictly; no body is an empty object.
func (h *Handler) readSmall(c *call, into any) error { return h.readObject(c, maxSmallBody, into) }

func (h *Handler) readObject(c *call, limit int64, into any) error {
	if c.r.ContentLength == 0 {
		return nil
	}
	if media, err := c.mediaType(); err != nil || media != typeJSON {
		return unsupported("Content-Type "+quote(c.r.Header.Get("Content-Type")), "send Content-Type: "+typeJSON)
	}
	body, err := h.read(c, limit, "")
	if err != nil || len(bytes.TrimSpace(body)) == 0 {
		return err
	}
	if err := decodeObject(body, into); err != nil {
		return refused(err)
	}
	return nil
}

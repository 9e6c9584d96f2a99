package api

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/message"
)

// Bounds of a check.
const (
	checkMemory = 8 << 20
	maxSamples  = 100
	maxTesters  = 20
)

// checkCampaign renders every message. It sends nothing, but to testers that the body names, for whom it takes the scope
// of sending.
func (h *Handler) checkCampaign(c *call) error {
	found, err := h.campaign(c, Read)
	if err != nil {
		return err
	}
	o := report.CheckOptions{Samples: 5}
	if err := h.readSmall(c, &o); err != nil {
		return err
	}
	if err := h.checkOptions(c, found, o); err != nil {
		return err
	}
	if err := h.hold(c, checkMemory); err != nil { // and so bounds how many there are at a time
		return err
	}
	if len(o.TestTo) > 0 {
		if err := h.audit.now(c.ctx(), c.entry("campaign test", found.Account, found.ID.String(), "", len(o.TestTo))); err != nil {
			return err
		}
	}
	k, err := h.options.Campaigns.Check(c.ctx(), found, o)
	_ = c.rc.SetWriteDeadline(time.Now().Add(h.options.Patience)) // it may have taken long
	if err != nil {
		return standing(err)
	}
	write(c.w, http.StatusOK, k)
	return nil
}

func (h *Handler) checkOptions(c *call, found client.Campaign, o report.CheckOptions) error {
	var wrong message.Invalid
	if o.Samples < 1 || o.Samples > maxSamples {
		wrong = append(wrong, message.FieldError{Path: "samples", Rule: fmt.Sprintf("want 1 to %d", maxSamples), Got: fmt.Sprint(o.Samples)})
	}
	if len(o.TestTo) > maxTesters {
		wrong = append(wrong, message.FieldError{Path: "test_to", Rule: fmt.Sprintf("at most %d testers", maxTesters), Got: fmt.Sprint(len(o.TestTo))})
	}
	for i, to := range o.TestTo {
		bad, _ := errors.AsType[message.Invalid](to.Check())
		for _, f := range bad {
			f.Path = fmt.Sprintf("test_to[%d]", i)
			wrong = append(wrong, f)
		}
	}
	switch {
	case wrong != nil:
		return invalid(few(wrong))
	case len(o.TestTo) > 0 && !c.key.May(found.Account, found.Kind, Enqueue):
		return forbidden(fmt.Sprintf("the key may check %s campaigns of %s, and not send test messages", found.Kind, found.Account))
	}
	return nil
}

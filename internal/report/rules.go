package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// The checks, in the order in which the message meets them: the first that holds is the answer. Each says false where
// it has nothing to say about this message.

func worker(f facts) (Check, bool) {
	c := Check{Name: "worker"}
	switch seen := f.around.WorkerSeen; {
	case seen.IsZero():
		c.Holds, c.Text = true, "no worker has ever run on this database; start one"
	case f.around.Now.Sub(seen) >= postgres.SilentAfter:
		c.Holds, c.Text = true, fmt.Sprintf("no worker lives: the last one was heard of at %s; start one", Clock(seen))
	case f.foreign:
		c.Text = fmt.Sprintf("a worker lives; account %s is not in this configuration, and one whose configuration lacks it too ends the message as failed: invalid",
			f.status.Message.Account)
	default:
		return Check{}, false
	}
	return c, true
}

func expiry(f facts) (Check, bool) {
	at := f.status.Message.ExpiresAt
	if at.IsZero() {
		return Check{}, false
	}
	if !at.After(f.around.Now) {
		return Check{Name: "expiry", Text: fmt.Sprintf("its time was over at %s: it ends as expired at its turn", Clock(at))}, true
	}
	return Check{Name: "expiry", Text: "it ends as expired if it has not gone by " + Clock(at)}, true
}

func suppression(f facts) (Check, bool) {
	if f.around.Refusal == nil || f.status.State == outcome.Sending {
		return Check{}, false
	}
	return Check{Name: "suppression", Text: refusal(f) + ": it ends as skipped: suppressed at its turn"}, true
}

func refusal(f facts) string {
	r := f.around.Refusal
	text := "the user refuses all messages of the account since " + Clock(r.Since)
	if r.TemplateID != "" {
		text = fmt.Sprintf("the user refuses template %s since %s", r.TemplateID, Clock(r.Since))
	}
	if r.ErrCode != 0 {
		text += fmt.Sprintf(" (%d)", r.ErrCode)
	}
	return text
}

func gates(f facts) (Check, bool) {
	if len(f.gates) == 0 || f.status.State == outcome.Sending {
		return Check{}, false
	}
	c := Check{Name: "gate", Holds: true}
	var texts []string
	var opens []time.Time
	for _, g := range f.gates {
		text := fmt.Sprintf("the gate of %s %s is %s since %s, %s", g.Account, APIName(g.API), g.State, Clock(g.Since), strings.TrimSpace(g.Reason+" "+g.Detail))
		if g.ErrCode != 0 {
			text += fmt.Sprintf(" (%d)", g.ErrCode)
		}
		switch {
		case g.State == postgres.GateBroken:
			opens = append(opens, time.Time{})
			text += "; it is tried once a minute, and opens when WeChat accepts the account again"
		case g.Until.Equal(ByHand):
			opens = append(opens, time.Time{})
			text += fmt.Sprintf("; until somebody runs enqueue gate open %s %s", g.Account, APIName(g.API))
		default:
			opens = append(opens, g.Until)
			text += "; until " + Clock(g.Until)
		}
		texts = append(texts, text)
	}
	c.Until = last(opens)
	c.Text = strings.Join(texts, "; ")
	return c, true
}

// last is when all of them are over; zero where one ends nobody knows when.
func last(ends []time.Time) time.Time {
	if len(ends) == 0 || slices.ContainsFunc(ends, time.Time.IsZero) {
		return time.Time{}
	}
	return slices.MaxFunc(ends, time.Time.Compare)
}

// parkedFor says what a message waited for when it was last parked.
var parkedFor = map[outcome.Reason]string{
	outcome.NotBefore:  "its producer wants it not earlier (not_before)",
	outcome.QuietHours: "its campaign sends nothing in these hours (quiet_hours)",
	outcome.Quota:      "the day's calls were used up when it was its turn",
	outcome.Pace:       "it could not go within 2 s when it was its turn",
	outcome.Gate:       "its gate was shut when it was its turn",
}

func schedule(f facts) (Check, bool) {
	if f.status.State != outcome.Parked || !f.status.Due.After(f.around.Now) {
		return Check{}, false
	}
	why, known := parkedFor[f.status.Reason]
	if !known {
		why = string(f.status.Reason)
	}
	if f.status.Reason == outcome.Backoff {
		why = fmt.Sprintf("attempt %d failed and may be repeated", f.status.Attempts)
	}
	if words := lastWords(f); words != "" {
		why += ", " + words
	}
	return Check{Name: "schedule", Holds: true, Until: f.status.Due, Text: fmt.Sprintf("%s; it is tried at %s", why, Clock(f.status.Due))}, true
}

func parts(f facts) (Check, bool) {
	n := f.around.PartsBefore
	return Check{Name: "parts", Holds: true, Text: fmt.Sprintf("%d earlier parts of its list have not ended, and parts go one after another", n)}, n > 0
}

func turn(f facts) (Check, bool) {
	if f.status.State != outcome.Parked || f.status.Due.After(f.around.Now) {
		return Check{}, false
	}
	before := fmt.Sprint(f.around.Before)
	if f.around.Before == postgres.ManyBefore {
		before += " or more"
	}
	m := f.status.Message
	return Check{Name: "turn", Holds: f.around.Before > 0, Text: fmt.Sprintf("due since %s; %s %s messages of %s go before it, at the account's pace",
		Clock(f.status.Due), before, m.Kind, m.Account)}, true
}

func queue(f facts) (Check, bool) {
	if f.status.State != outcome.Accepted || f.sight == nil {
		return Check{}, false
	}
	c := Check{Name: "queue", Holds: true}
	switch s := f.sight; {
	case s.State == "pending":
		c.Text = fmt.Sprintf("its parcel waits for a worker; %d parcels are in the queue", s.Queued)
	case s.State == "active":
		c.Holds, c.Text = false, "a worker has its parcel in hand"
	case !s.Next.IsZero():
		c.Until, c.Text = s.Next, "its parcel came back, because its fate could not be written or its worker stopped, and goes on at "+Clock(s.Next)
	case !f.around.Queued.IsZero():
		c.Text = fmt.Sprintf("its parcel stands in the outbox since %s and in no queue; a worker puts it back within a minute or two", Clock(f.around.Queued))
	default:
		c.Text = "its parcel is in no queue and not in the outbox; if that stays so for minutes, cancel the message and enqueue it again"
	}
	return c, true
}

func claim(f facts) (Check, bool) {
	if f.status.State != outcome.Sending {
		return Check{}, false
	}
	c := Check{Name: "claim", Holds: true}
	if !f.around.PodSeen.IsZero() && f.around.Now.Sub(f.around.PodSeen) < postgres.SilentAfter {
		c.Text = fmt.Sprintf("worker %s claimed it at %s; its call to WeChat is on its way, or its outcome is being written", f.around.Pod, Clock(f.status.Intent))
		return c, true
	}
	ends := "ends as unknown, or goes again where the account's policy says so"
	if f.status.Message.Kind.HasClientID() {
		ends = "is sent again under the id by which WeChat knows repetitions"
	}
	c.Text = fmt.Sprintf("worker %s claimed it at %s and was last heard of at %s; within a minute of another worker's life the message %s",
		f.around.Pod, Clock(f.status.Intent), Clock(f.around.PodSeen), ends)
	return c, true
}

// windowCheck holds nothing: a closed window ends the message at its turn.
func windowCheck(f facts) (Check, bool) {
	if f.window == nil || f.status.State == outcome.Sending {
		return Check{}, false
	}
	ends := "it ends as skipped at its turn"
	if f.status.Message.Fallback != nil {
		ends = "its fallback goes instead at its turn"
	}
	text := ""
	switch f.window.State {
	case window.Open:
		text = "the user may be answered until " + Clock(f.window.Until)
	case window.Used:
		text = "the answers that the user's actions allow are used up: unless the user acts, " + ends
	case window.UnknownUser:
		text = "no action of the user's is known: unless the user acts, " + ends
		if f.account.TryUnknown {
			text = "no action of the user's is known; it is tried where the account's first 48 hours are not over"
		}
	default:
		text = "the user may not be answered now: unless the user acts, " + ends
	}
	return Check{Name: "window", Text: text}, true
}

func quotaCheck(f facts) (Check, bool) {
	if f.usage == nil || f.status.State == outcome.Sending {
		return Check{}, false
	}
	u := f.usage
	left := u.Left
	if f.status.Message.Lane != message.Urgent && f.status.Message.Kind != message.Mass {
		left = max(0, left-int64(float64(u.Limit)*f.account.UrgentDay))
	}
	c := Check{Name: "quota", Text: fmt.Sprintf("%d of the day's %d calls are left to its lane, %d in the hands of workers; %s a second", left, u.Limit, u.Leased, Rate(u.PacePerSecond))}
	if !u.Known && u.Used == 0 {
		c.Text = "nothing is counted yet today"
	} else if left == 0 && u.Leased == 0 {
		c.Holds, c.Until = true, message.NextDay(f.around.Now)
		c.Text = fmt.Sprintf("none of the day's %d calls is left to its lane (%d used); the next day begins at %s", u.Limit, u.Used, Clock(c.Until))
	}
	return c, true
}

func redisCheck(f facts) (Check, bool) {
	asked := strings.HasPrefix(f.noRedis, "not asked")
	return Check{Name: "redis", Holds: !asked && f.noRedis != "", Text: f.noRedis}, f.noRedis != ""
}

// endedFor says what each reason of an ended message means, and what to do.
var endedFor = map[outcome.Reason]string{
	outcome.WindowClosed:     "the user did not act lately, so that no customer-service message may go to them; no call was made",
	outcome.WindowUsed:       "the answers that the user's actions allow were used up; no call was made",
	outcome.MassCap:          "the mass sends of the day or month were used up, or too few users of the list had one left; enqueue mass status lists who was left out",
	outcome.FrequencyCap:     "this user gets enough messages of the account; no call was made",
	outcome.Suppressed:       "the user refuses the account's messages, or this template; an event of theirs lifts that",
	outcome.Duplicate:        "its key was used by an earlier, equal message",
	outcome.ReasonExpired:    "its time was over before it could go",
	outcome.ReasonCancelled:  "its producer or an operator took it back",
	outcome.RefusedRecipient: "WeChat refuses to send to this user",
	outcome.RefusedRequest:   "WeChat refuses what it says; mend it and enqueue it as a new message",
	outcome.RefusedAccount:   "WeChat refuses the account; see enqueue gates and worker check",
	outcome.KeyConflict:      "its key was used by another message; a new message wants a new key",
	outcome.RetriesExhausted: "its attempts ran out",
	outcome.Invalid:          "no worker can send it; is the account in the workers' configuration?",
	outcome.Poison:           "worker after worker died with it in hand; their logs say how",
	outcome.InDoubt:          "a call left and its answer was lost: nobody can know whether the user has it",
}

// ended says why a message ended as it did.
func ended(f facts) string {
	st := f.status
	if st.State == outcome.Sent {
		text := fmt.Sprintf("The message is sent: WeChat accepted it at %s", Clock(st.Finished))
		if st.MsgID != 0 {
			text += fmt.Sprintf(" as %d", st.MsgID)
		}
		if n := len(st.Receipts); n > 0 {
			return text + "; " + Receipt(st.Receipts[n-1]).String() + "."
		}
		return text + "; WeChat has reported nothing of its delivery."
	}
	text := fmt.Sprintf("The message is %s: %s", st.State, endedFor[st.Reason])
	switch {
	case st.Reason != outcome.InDoubt:
	case st.Message.Kind == message.Custom:
		text += ", and WeChat sends no receipt for messages of its kind"
	default:
		text += "; a receipt may still tell"
	}
	if words := lastWords(f); words != "" {
		text += "; " + words
	}
	switch holder := f.around.KeyHolder; {
	case (st.Reason == outcome.Duplicate || st.Reason == outcome.KeyConflict) && !holder.IsZero() && holder != st.Message.ID:
		text += fmt.Sprintf("; see enqueue explain %s", holder)
	case st.Reason == outcome.Suppressed && f.around.Refusal != nil:
		text += "; " + refusal(f)
	}
	if id := f.around.Instead; !id.IsZero() {
		text += fmt.Sprintf("; its fallback %s goes instead", id)
	}
	if id := st.ReplayedAs; !id.IsZero() {
		text += fmt.Sprintf("; it was replayed, and %s goes in its stead", id)
	}
	return text + "."
}

// lastWords are WeChat's, or those of whatever went wrong, as the last step of the timeline kept them.
func lastWords(f facts) string {
	n := len(f.status.Timeline)
	if n == 0 {
		return ""
	}
	step := f.status.Timeline[n-1]
	switch {
	case step.ErrCode != 0:
		return strings.TrimSpace(fmt.Sprintf("WeChat answered %d %s", step.ErrCode, step.ErrMsg))
	case step.ErrMsg != "":
		return step.ErrMsg
	}
	return step.Note
}

package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// unable are WeChat's refusals of a recipient for good, of which a campaign has some.
var unable = []int{40003, 43004, 43101}

// campaign compares the campaign's export with the simulator's log and counts.
func (e evidence) campaign(v *verdict) {
	t := e.Tour
	if t == nil {
		return
	}
	v.check(fmt.Sprintf("campaign: the import took each openid once, and dropped %d duplicates, %d broken rows and %d users who want no messages, as they stood in the file",
		t.crowd.duplicates, len(t.crowd.refused), len(t.crowd.suppressed)), t.dropped())
	v.check(fmt.Sprintf("campaign: each of its %d recipients has exactly one outcome in the export, and nobody else has one",
		len(t.crowd.recipients)), t.complete())
	v.check("campaign: the export counts as many sent, and as many refused by each code, as the simulator", t.tally(e.sendsOf(t)))
	v.check(fmt.Sprintf("campaign: while it was paused nothing was sent, and its pace of %d a second was kept", campaignPerSecond),
		t.course(e.sendsOf(t)))
}

// sendsOf are the sends that the simulator accepted of the campaign's recipients, by the ids in the export.
func (e evidence) sendsOf(t *tour) []wechattest.Accept {
	ids := map[string]bool{}
	for _, r := range t.rows {
		ids[r.ID.Hex()] = true
	}
	var found []wechattest.Accept
	for _, a := range e.Accepts {
		if ids[a.ClientID] {
			found = append(found, a)
		}
	}
	return found
}

// dropped compares what the import told with what the file held.
func (t *tour) dropped() (found []string) {
	a := t.imported
	for _, n := range []struct {
		what      string
		got, want int
	}{
		{"recipients", a.Recipients, len(t.crowd.recipients)},
		{"duplicates", a.Duplicates, t.crowd.duplicates},
		{"broken rows", a.Refused, len(t.crowd.refused)},
		{"users who want no messages", a.Suppressed, len(t.crowd.suppressed)},
	} {
		if n.got != n.want {
			found = append(found, fmt.Sprintf("the import counted %d %s; the file has %d", n.got, n.what, n.want))
		}
	}
	told := map[int64]bool{}
	var refusers []message.OpenID
	for _, r := range t.rejects {
		if r.OpenID != "" {
			refusers = append(refusers, r.OpenID)
			continue
		}
		told[r.Line] = true
		if r.Reason == "" || !slices.Contains(t.crowd.refused, r.Line) {
			found = append(found, fmt.Sprintf("the import refused line %d (%q), with which nothing is wrong", r.Line, r.Reason))
		}
	}
	for _, line := range t.crowd.refused {
		if !told[line] {
			found = append(found, fmt.Sprintf("the import did not name the broken line %d", line))
		}
	}
	for _, user := range t.crowd.suppressed {
		if !slices.Contains(refusers, user) {
			found = append(found, fmt.Sprintf("the import did not name the user %s, who wants no messages", user.Short()))
		}
	}
	return found
}

// complete compares the export with the recipients.
func (t *tour) complete() (found []string) {
	times := map[string]int{}
	for _, r := range t.rows {
		times[r.To]++
		if !r.Status.Terminal() {
			found = append(found, fmt.Sprintf("%s of the campaign is not decided", r))
		}
	}
	for _, p := range t.crowd.recipients {
		if n := times[string(p.openid)]; n != 1 {
			found = append(found, fmt.Sprintf("the recipient %s has %d outcomes; want 1", p.openid.Short(), n))
		}
		delete(times, string(p.openid))
	}
	for openid, n := range times {
		found = append(found, fmt.Sprintf("%s, who is no recipient, has %d outcomes", message.OpenID(openid).Short(), n))
	}
	slices.Sort(found)
	return found
}

// tally compares the export's counts with the simulator's own.
func (t *tour) tally(sends []wechattest.Accept) (found []string) {
	sent, refused := 0, map[int]int64{}
	for _, r := range t.rows {
		switch {
		case r.Status == outcome.Sent:
			sent++
		case r.Status == outcome.Failed && r.ErrCode != 0:
			refused[r.ErrCode]++
		default:
			found = append(found, fmt.Sprintf("%s of the campaign, of which the simulator says nothing", r))
		}
	}
	if sent != len(sends) {
		found = append(found, fmt.Sprintf("the export says that %d were sent; the simulator accepted %d", sent, len(sends)))
	}
	users := map[string]int{}
	for _, a := range sends {
		if users[a.To]++; users[a.To] == 2 {
			found = append(found, fmt.Sprintf("the recipient %s got the campaign twice", message.OpenID(a.To).Short()))
		}
	}
	for code := range refused {
		if !slices.Contains(unable, code) {
			found = append(found, fmt.Sprintf("the export has %d refused by %d", refused[code], code))
		}
	}
	for _, code := range unable {
		if want := t.after[code] - t.before[code]; refused[code] != want {
			found = append(found, fmt.Sprintf("the export says that %d were refused by %d; the simulator refused %d", refused[code], code, want))
		}
	}
	return found
}

// course looks for sends while the campaign was paused, and counts them by the second.
func (t *tour) course(sends []wechattest.Accept) (found []string) {
	if n := t.duringPause(sends, stopsWithin); n > 0 {
		found = append(found, fmt.Sprintf("%d were sent more than %v after the pause and before the resumption", n, stopsWithin))
	}
	if most, limit := mostWithin(sends, time.Second), perSecondAtMost(campaignPerSecond); int64(most) > limit {
		found = append(found, fmt.Sprintf("%d of the campaign were sent within a second; want at most %d", most, limit))
	}
	return found
}

// duringPause counts the sends between the pause, or some time after it, and the resumption.
func (t *tour) duringPause(sends []wechattest.Accept, after time.Duration) (n int) {
	for _, a := range sends {
		if a.At.After(t.paused.Add(after)) && a.At.Before(t.resumed) {
			n++
		}
	}
	return n
}

// stopped is how long after the pause the last one was sent.
func (t *tour) stopped(sends []wechattest.Accept) (last time.Duration) {
	for _, a := range sends {
		if a.At.Before(t.resumed) {
			last = max(last, a.At.Sub(t.paused))
		}
	}
	return last
}

// mostWithin is the most sends in any span of time; they stand in the order in which they were accepted.
func mostWithin(sends []wechattest.Accept, span time.Duration) (most int) {
	first := 0
	for i, a := range sends {
		for a.At.Sub(sends[first].At) >= span {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

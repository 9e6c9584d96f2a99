package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// Evidence is what both sides say: ours, and the simulator, which shares no code with us.
type evidence struct {
	Produced map[message.ID]bool // ids that the producer was given
	Rows     []row
	Accepts  []wechattest.Accept // every send that the simulator took
	State    wechattest.State    // and what it counted
	Pushes   []wechattest.Push   // what it told our server
	Kicks    int                 // times that it made shop's token invalid
	Errand   *errand             // what went over HTTP; nil: nothing
	Tour     *tour               // the campaign; nil: none
}

// messages are all of them, the campaign's too.
func (e evidence) messages() []row {
	if e.Tour == nil {
		return e.Rows
	}
	return slices.Concat(e.Rows, e.Tour.rows)
}

// A verdict is the result of the check.
type verdict struct {
	Held        []string `json:"held"`        // what was checked and holds
	Differences []string `json:"differences"` // what does not
}

// verify compares the outcomes with the simulator's own log and counts.
func verify(e evidence) verdict {
	var v verdict
	v.check("every message that was enqueued stands in the ledger once, decided or parked", e.complete())
	v.check(fmt.Sprintf("each of the %d messages that are sent was accepted by the simulator exactly once, as it was enqueued",
		count(e.messages(), outcome.Sent)), e.sent())
	v.check("the simulator accepted nothing else", e.nothingElse())
	v.check("no day's quota, pace, window or mass cap was overrun in the simulator's own count", e.limits())
	v.check(fmt.Sprintf("of each of the %d receipts that were not lost the ledger says what WeChat said, and of no message more", e.arrived()), e.receipts())
	v.check("every callback that was not lost was acknowledged", e.acknowledged())
	v.check("one token for each account, and one more for each time that it was made invalid", e.tokens())
	e.http(&v)
	e.campaign(&v)
	return v
}

func (v *verdict) check(claim string, differences []string) {
	if len(differences) == 0 {
		v.Held = append(v.Held, claim)
	}
	v.Differences = append(v.Differences, differences...)
}

func count(rows []row, s outcome.Status) int {
	n := 0
	for _, r := range rows {
		if r.Status == s {
			n++
		}
	}
	return n
}

func (r row) String() string {
	s := fmt.Sprintf("%s message %s (%s", r.Kind, r.ID, r.Status)
	if r.Reason != "" {
		s += ": " + string(r.Reason)
	}
	return s + ")"
}

// complete looks for messages without an outcome, and outcomes without a message.
func (e evidence) complete() (found []string) {
	seen := map[message.ID]bool{}
	for _, r := range e.Rows {
		if seen[r.ID] {
			found = append(found, fmt.Sprintf("%s has two outcomes", r))
		}
		seen[r.ID] = true
		if !e.Produced[r.ID] && !e.Produced[r.Parent] {
			found = append(found, fmt.Sprintf("%s was never enqueued", r))
		}
		if !r.Status.Terminal() && r.Status != outcome.Parked {
			found = append(found, fmt.Sprintf("%s is not decided", r))
		}
	}
	for id := range e.Produced {
		if !seen[id] {
			found = append(found, fmt.Sprintf("message %s was enqueued and has no outcome", id))
		}
	}
	slices.Sort(found)
	return found
}

// A delivery identifies what the simulator accepted: by our id where WeChat takes one, else by account, API,
// recipient and content.
type delivery string

func deliveryOf(appID, api, clientID, to, content string) delivery {
	if clientID != "" {
		return delivery(clientID)
	}
	return delivery(strings.Join([]string{appID, api, to, content}, "\n"))
}

func (r row) delivery() delivery {
	clientID := ""
	if r.Kind.HasClientID() {
		clientID = r.ID.Hex()
	}
	return deliveryOf(appIDs[r.Account], apiOf(r), clientID, r.To, contentOf(r.Body))
}

func apiOf(r row) string {
	switch r.Kind {
	case message.Template:
		return wechattest.PathTemplate
	case message.Subscribe:
		return wechattest.PathSubscribe
	case message.Custom:
		return wechattest.PathCustom
	default:
		if strings.HasPrefix(r.To, "list:") {
			return wechattest.PathMassSend
		}
		return wechattest.PathMassSendAll
	}
}

// contentOf is a body without what the envelope gives it, in one form whatever the order of its members.
func contentOf(body string) string {
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	var members map[string]any
	if err := d.Decode(&members); err != nil {
		return "no JSON: " + body
	}
	for _, own := range []string{"touser", "client_msg_id", "clientmsgid"} {
		delete(members, own)
	}
	var out bytes.Buffer
	lines := json.NewEncoder(&out)
	lines.SetEscapeHTML(false)
	_ = lines.Encode(members)
	return out.String()
}

// sent compares each sent message with what was accepted of it.
func (e evidence) sent() (found []string) {
	accepts := map[delivery][]wechattest.Accept{}
	for _, a := range e.Accepts {
		k := deliveryOf(a.AppID, a.API, a.ClientID, a.To, contentOf(a.Body))
		accepts[k] = append(accepts[k], a)
	}
	wanted := map[delivery][]row{}
	for _, r := range e.messages() {
		wanted[r.delivery()] = append(wanted[r.delivery()], r)
	}
	for k, rows := range wanted {
		sent, unknown := count(rows, outcome.Sent), count(rows, outcome.Unknown)
		switch n := len(accepts[k]); {
		case n < sent:
			found = append(found, fmt.Sprintf("%s was accepted %d times; want %d", rows[0], n, sent))
		case n > sent+unknown:
			found = append(found, fmt.Sprintf("%s was accepted %d times; want at most %d", rows[0], n, sent+unknown))
		case len(rows) == 1 && n == 1:
			found = append(found, differs(rows[0], accepts[k][0])...)
		}
	}
	slices.Sort(found)
	return found
}

// differs compares one message with its one acceptance.
func differs(r row, a wechattest.Accept) (found []string) {
	if a.AppID != appIDs[r.Account] || a.API != apiOf(r) {
		found = append(found, fmt.Sprintf("%s went by %s of %s", r, a.API, a.AppID))
	}
	if r.Kind != message.Mass && a.To != r.To { // a list may be shorter than what was asked for
		found = append(found, fmt.Sprintf("%s went to another user", r))
	}
	if contentOf(a.Body) != contentOf(r.Body) {
		found = append(found, fmt.Sprintf("%s went with another content", r))
	}
	if id := strconv.FormatInt(a.MsgID, 10); r.Status == outcome.Sent && a.MsgID != 0 && r.MsgID != id {
		found = append(found, fmt.Sprintf("%s has msgid %s; the simulator gave %s", r, r.MsgID, id))
	}
	return found
}

// nothingElse looks for acceptances of what is neither sent nor unknown.
func (e evidence) nothingElse() (found []string) {
	known := map[delivery]bool{}
	for _, r := range e.messages() {
		if r.Status == outcome.Sent || r.Status == outcome.Unknown {
			known[r.delivery()] = true
		}
	}
	msgIDs := map[int64]bool{}
	for _, a := range e.Accepts {
		if !known[deliveryOf(a.AppID, a.API, a.ClientID, a.To, contentOf(a.Body))] {
			found = append(found, fmt.Sprintf("the simulator accepted no. %d (%s), of which no outcome tells", a.Seq, a.API))
		}
		if a.MsgID != 0 && msgIDs[a.MsgID] {
			found = append(found, fmt.Sprintf("the simulator gave msgid %d twice", a.MsgID))
		}
		msgIDs[a.MsgID] = true
	}
	return found
}

// The codes that say that a limit was overrun.
var overrun = map[int]string{45009: "the day's quota", 45011: "the pace", 45047: "the window's number", 45028: "a mass cap"}

// limits compares the simulator's counts with the limits.
func (e evidence) limits() (found []string) {
	for _, account := range e.State.Accounts {
		for api, calls := range account.APIs {
			for code, what := range overrun {
				if n := calls.Refused[code]; n > 0 {
					found = append(found, fmt.Sprintf("%s of %s: %d calls over %s (%d)", api, account.AppID, n, what, code))
				}
			}
			for day, n := range calls.ByDay {
				if calls.Limit.PerDay > 0 && n.Arrived > calls.Limit.PerDay {
					found = append(found, fmt.Sprintf("%s of %s: %d calls on %s; want at most %d", api, account.AppID, n.Arrived, day, calls.Limit.PerDay))
				}
				if account.Type == wechattest.Subscription && api == wechattest.PathMassSend && n.Accepted > massClubPerDay {
					found = append(found, fmt.Sprintf("%d mass sends of %s on %s; want at most %d", n.Accepted, account.AppID, day, massClubPerDay))
				}
			}
			found = append(found, overPace(account.AppID, api, calls.Calls)...)
		}
		if account.MassMost > massUserPerMonth && account.Type == wechattest.Service {
			found = append(found, fmt.Sprintf("a user of %s got %d mass messages this month; want at most %d", account.AppID, account.MassMost, massUserPerMonth))
		}
		closed := account.APIs[wechattest.PathCustom].Refused[45015]
		if left := int64(gone); account.AppID != appIDs[shop] && closed > 0 || closed > left {
			found = append(found, fmt.Sprintf("%d customer-service messages of %s outside the window (45015)", closed, account.AppID))
		}
	}
	slices.Sort(found)
	return found
}

// overPace: 60 times the pace in no 60 s, and in no second more than the pace and a burst, which is 250 ms of the
// pace and as much again for calls that arrive late.
func overPace(appID, api string, c wechattest.Calls) (found []string) {
	if !slices.Contains([]string{wechattest.PathTemplate, wechattest.PathSubscribe, wechattest.PathCustom, wechattest.PathMassSend}, api) {
		return nil
	}
	pace := perSecond(api)
	if limit := int64(60 * pace); c.Max60s > limit {
		found = append(found, fmt.Sprintf("%s of %s: %d calls within 60 s; want at most %d", api, appID, c.Max60s, limit))
	}
	if limit := perSecondAtMost(pace); c.Max1s > limit {
		found = append(found, fmt.Sprintf("%s of %s: %d calls within a second; want at most %d", api, appID, c.Max1s, limit))
	}
	return found
}

// perSecondAtMost is how many calls of a pace a second may see.
func perSecondAtMost(pace float64) int64 {
	const burst, late = 250 * time.Millisecond, 250 * time.Millisecond
	return int64(pace*(time.Second+burst+late).Seconds()) + 1
}

// tokens counts the calls for a token, and the calls that came with a strange one.
func (e evidence) tokens() (found []string) {
	for _, account := range e.State.Accounts {
		want := int64(1)
		if account.AppID == appIDs[shop] {
			want += int64(e.Kicks)
		}
		if n := account.APIs[wechattest.PathStableToken].Arrived; n != want {
			found = append(found, fmt.Sprintf("%s fetched its access token %d times; want %d", account.AppID, n, want))
		}
	}
	if n := e.State.UnknownCalls; n > 0 {
		found = append(found, fmt.Sprintf("%d calls came with a token that was never given out", n))
	}
	return found
}

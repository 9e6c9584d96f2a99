package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// What the ledger says of a message after its receipt.
const (
	delivered   = "delivered"
	undelivered = "undelivered"
)

// A receiptLine says what became of messages of one kind after WeChat had accepted them.
type receiptLine struct {
	Account     string       `json:"account"`
	Kind        message.Kind `json:"kind"`
	Delivered   int          `json:"delivered"`
	Undelivered int          `json:"undelivered"`
	NoneYet     int          `json:"none_yet"`
	Reasons     []string     `json:"reasons,omitempty"` // why they were not delivered
}

// receiptLines count the receipts of sent messages. Of customer-service messages WeChat sends none.
func receiptLines(rows []row) []receiptLine {
	var lines []receiptLine
	for _, r := range rows {
		if r.Status != outcome.Sent || r.Kind == message.Custom {
			continue
		}
		i := slices.IndexFunc(lines, func(l receiptLine) bool { return l.Account == r.Account && l.Kind == r.Kind })
		if i < 0 {
			i, lines = len(lines), append(lines, receiptLine{Account: r.Account, Kind: r.Kind})
		}
		switch word, reason, _ := strings.Cut(r.Receipt, ": "); word {
		case delivered:
			lines[i].Delivered++
		case undelivered:
			lines[i].Undelivered++
			if !slices.Contains(lines[i].Reasons, reason) {
				lines[i].Reasons = append(lines[i].Reasons, reason)
			}
		default:
			lines[i].NoneYet++
		}
	}
	slices.SortFunc(lines, func(a, b receiptLine) int {
		return cmp.Or(-strings.Compare(a.Account, b.Account), // shop first
			cmp.Compare(slices.Index(message.Kinds(), a.Kind), slices.Index(message.Kinds(), b.Kind)))
	})
	return lines
}

// A course says how receipts fared on their way.
type course struct {
	Made  int `json:"made"`
	Lost  int `json:"lost"`
	Twice int `json:"twice"`
	Early int `json:"early"` // before the API call was answered
}

func courseOf(pushes []wechattest.Push) (c course) {
	for _, p := range pushes {
		switch {
		case p.MsgID == 0:
			continue
		case p.Fate == wechattest.Lost:
			c.Lost++
		case p.Twice:
			c.Twice++
		}
		c.Made++
		if p.Early {
			c.Early++
		}
	}
	return c
}

func writeReceipts(b *strings.Builder, lines []receiptLine, c course) {
	b.WriteString("\nWhat WeChat told of them afterwards, through the callback (of customer-service messages it tells nothing):\n\n")
	rows := [][]string{{"", "kind", "delivered", "undelivered", "none (yet)", "why not"}}
	account := ""
	for _, l := range lines {
		cells := []string{
			l.Account + " " + chinese[l.Account], string(l.Kind) + " " + chinese[string(l.Kind)],
			fmt.Sprint(l.Delivered), fmt.Sprint(l.Undelivered), fmt.Sprint(l.NoneYet),
			strings.Join(l.Reasons, ", "),
		}
		if l.Account == account { // said once
			cells[0] = ""
		}
		account = l.Account
		rows = append(rows, cells)
	}
	align(b, rows, 2, 3, 4)
	fmt.Fprintf(b, "\nOf its %d receipts %d were lost on the way, %d came twice, %d before the call was answered, and many in another order.\n",
		c.Made, c.Lost, c.Twice, c.Early)
}

// A receiptKey finds what WeChat told of a message: msgids are an account's own.
type receiptKey struct{ appID, msgID string }

// told are the receipts that arrived.
func (e evidence) told() map[receiptKey]wechattest.Push {
	all := map[receiptKey]wechattest.Push{}
	for _, p := range e.Pushes {
		if p.MsgID != 0 && p.Fate == wechattest.Delivered {
			all[receiptKey{p.AppID, strconv.FormatInt(p.MsgID, 10)}] = p
		}
	}
	return all
}

func (e evidence) arrived() int { return len(e.told()) }

// receipts compares what the ledger says of each message with what WeChat told of it.
func (e evidence) receipts() (found []string) {
	told := e.told()
	for _, r := range e.messages() {
		key := receiptKey{appIDs[r.Account], r.MsgID}
		p, any := told[key]
		delete(told, key)
		want := ""
		switch {
		case any && (p.Status == "success" || p.Status == "send success"):
			want = delivered
		case any:
			want = undelivered
		}
		if word, _, _ := strings.Cut(r.Receipt, ":"); word != want {
			found = append(found, fmt.Sprintf("%s has the receipt %q; want %q", r, r.Receipt, want))
		}
	}
	for key := range told {
		found = append(found, fmt.Sprintf("the receipt for msgid %s of %s belongs to no message", key.msgID, key.appID))
	}
	slices.Sort(found)
	return found
}

// acknowledged looks for pushes that the server did not answer whatever the tries, or not well.
func (e evidence) acknowledged() (found []string) {
	for _, p := range e.Pushes {
		if p.Fate != wechattest.Delivered && p.Fate != wechattest.Lost || p.Shown == wechattest.OutOfOrder {
			found = append(found, fmt.Sprintf("push no. %d (%s) is %s after %d tries: %s", p.Seq, p.What, p.Fate, p.Tries, p.Problem))
		}
	}
	return found
}

// receiptTime is how long the last receipts are waited for after they were acknowledged.
const receiptTime = 2 * time.Minute

// receipts waits until the simulator has told everything, and the ledger knows it. What it does not know in time is
// for the check to say.
func (d *director) receipts(ctx context.Context) error {
	d.progress.say("all is decided; the last receipts are on their way")
	if err := d.sim.AwaitPushes(ctx); err != nil {
		return err
	}
	pushes := d.sim.Pushes(0)
	waiting, cancel := context.WithTimeout(ctx, receiptTime)
	defer cancel()
	err := until(waiting, "for the ledger to know the receipts", func(ctx context.Context) (bool, error) {
		if n, err := d.joined(ctx); err != nil || n < len(evidence{Pushes: pushes}.told()) {
			return false, err
		}
		rows, err := d.rows(ctx)
		if err == nil {
			err = d.export(ctx)
		}
		return err == nil && len(evidence{Rows: rows, Pushes: pushes, Tour: d.tour}.receipts()) == 0, err
	})
	if ctx.Err() == nil && waiting.Err() != nil {
		return d.export(ctx)
	}
	return err
}

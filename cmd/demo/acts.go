package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// The acts, by the label that their messages carry.
const (
	actBadTemplate = "a template that was deleted"
	actBlocked     = "to users who refuse messages"
	actLeft        = "to users who left"
	actUnknown     = "to openids of nobody"
	actKeyed       = "with a key"
	actMass        = "mass send"
	actMassAgain   = "mass send over the cap"
	actOrders      = "order paid"
	actOverHTTP    = "order paid, over HTTP"
	actHandedOver  = "handed over to Redis"
	actNotices     = "notice"
	actBlocks      = "to users who block us, unnoticed"
	actSwitchedOff = "notice that the user switched off"
	actUnfollowed  = "to users who unsubscribed"
	actUnasked     = "notice without permission"
	actTomorrow    = "for tomorrow"
	actCancelled   = "taken back"
	actTooLate     = "too late"
	actReplies     = "reply in the window"
	actChatty      = "more replies than the window allows"
	actSilent      = "reply without a window"
	actInstead     = "reply without a window, with a fallback"
	actGone        = "reply to users who left unnoticed"
	actUrgent      = "urgent"
	actSecond      = "second message to those who refuse"
	actDuplicate   = "the same key again"
	actConflict    = "the same key, another message"
)

// misfits are messages that cannot go: bad templates, users who refuse. Nothing else goes wrong meanwhile.
func (d *director) misfits(ctx context.Context) error {
	g := d.generator
	lines := g.examples.of(shop, message.Template, anyLine)
	d.blocked, d.left = d.followers(shop, 4), d.followers(shop, 4)
	if err := d.let(shop, d.blocked, wechattest.Refuse); err != nil {
		return err
	}
	if err := d.unnoticed(shop, d.left, wechattest.Unsubscribe); err != nil {
		return err
	}
	deleted := g.many(actBadTemplate, lines, 3, d.followers(shop, 3))
	for i := range deleted {
		deleted[i].Body = withTemplate(deleted[i].Body, "tpl-that-was-deleted")
	}
	d.keyed = g.many(actKeyed, lines, 3, d.followers(shop, 3))
	for i := range d.keyed {
		d.keyed[i].Key = fmt.Sprintf("demo-key-%d", i)
	}
	d.progress.say("messages that cannot go: a deleted template, users who block %s or have left it, openids of nobody", shop)
	err := d.enqueue(ctx, d.producer, slices.Concat(
		deleted, d.keyed,
		g.many(actBlocked, lines, 4, d.blocked),
		g.many(actLeft, lines, 4, d.left),
		g.many(actUnknown, lines, 2, g.users(2)),
		g.many(actUnasked, g.examples.of(shop, message.Subscribe, anyLine), unasked, d.followers(shop, unasked)),
	))
	if err != nil {
		return err
	}
	return d.decided(ctx, actBadTemplate, actBlocked, actLeft, actUnknown, actUnasked, actKeyed)
}

// farewells: what users do, and a receipt, end the sending to them; [director.again] tries.
func (d *director) farewells(ctx context.Context) error {
	g := d.generator
	lines, about := g.examples.of(shop, message.Template, anyLine), g.examples.of(shop, message.Subscribe, anyLine)
	users := d.followers(shop, 3)
	d.blocker = users[0]
	if err := d.let(shop, users[:1], wechattest.Block); err != nil {
		return err
	}
	off := g.message(actSwitchedOff, about, 0, users[1])
	d.at(shop).Permit(string(off.To), bodyOf(off.Body).TemplateID, 1)
	if err := d.at(shop).Do(string(off.To), wechattest.Deed{Action: wechattest.SwitchOff, Templates: []string{bodyOf(off.Body).TemplateID}}); err != nil {
		return err
	}
	if err := d.let(shop, users[2:], wechattest.Unsubscribe); err != nil {
		return err
	}
	d.progress.say("WeChat calls back: a user unsubscribes, one switches a notice off, one turns out to block %s (in the receipt)", shop)
	d.farewell = append(g.many(actUnfollowed, lines, 1, users[2:]), off) // for later: workers hear of it within a second
	if err := d.enqueue(ctx, d.producer, g.many(actBlocks, lines, 1, users[:1])); err != nil {
		return err
	}
	if err := d.decided(ctx, actBlocks); err != nil {
		return err
	}
	return d.sim.AwaitPushes(ctx)
}

// withTemplate is the body with another template's id.
func withTemplate(body json.RawMessage, id string) json.RawMessage {
	return bytes.Replace(body, []byte(`"`+bodyOf(body).TemplateID+`"`), []byte(`"`+id+`"`), 1)
}

// massSends: four to the same readers of shop, which are all that a user may get in a month, and club's one of the day.
func (d *director) massSends(ctx context.Context) error {
	g := d.generator
	d.readers = d.followers(shop, regulars)
	d.followers(club, 100)
	d.progress.say("mass sends: %s writes four times to the same %d readers, %s once to everyone", shop, regulars, club)
	return d.enqueue(ctx, d.producer, append(d.toReaders(actMass, 4, d.readers),
		g.message(actMass, g.examples.of(club, message.Mass, goesByFilter), 0, "")))
}

func (d *director) toReaders(act string, n int, readers []message.OpenID) []message.Message {
	all := d.generator.many(act, d.generator.examples.of(shop, message.Mass, goesToList), n, []message.OpenID{""})
	for i := range all {
		all[i].List = readers
	}
	return all
}

// bulk is what makes the queue long: orders at the account's pace, notices beyond the day's quota. The simulator
// answers "busy" now and then, and hangs up before and after it has taken a message.
func (d *director) bulk(ctx context.Context) error {
	g := d.generator
	lines := g.examples.of(shop, message.Template, anyLine)
	for _, account := range d.sim.Accounts() {
		if err := account.Change(func(s *wechattest.Settings) { s.Callback.Receipts = badDays }); err != nil {
			return err
		}
	}
	d.inject(
		wechattest.Fault{Kind: wechattest.Errcode, API: wechattest.PathTemplate, Every: 60, Next: 6},
		wechattest.Fault{Kind: wechattest.Drop, API: wechattest.PathTemplate, Skip: 100, Every: 150, Next: 2},
		wechattest.Fault{Kind: wechattest.Drop, When: wechattest.After, API: wechattest.PathTemplate, Skip: 120, Every: 150, Next: 2},
	)
	d.progress.say("%d order messages into the ledger, %d handed over to Redis alone; the simulator is busy (-1) and hangs up at times;\n"+
		"        receipts come late, twice, in another order, before the answer, or not at all",
		orders, handedOver)
	if err := d.enqueue(ctx, d.producer, g.many(actOrders, lines, orders, d.followers(shop, orders))); err != nil {
		return err
	}
	if err := d.enqueue(ctx, d.handsOver, g.many(actHandedOver, lines, handedOver, d.followers(shop, handedOver))); err != nil {
		return err
	}
	d.progress.say("%d subscription notices, with a day's quota of %d", notices, noticesPerDay)
	about := g.examples.of(shop, message.Subscribe, anyLine)
	all := g.many(actNotices, about, notices, d.followers(shop, notices))
	for _, m := range all {
		d.at(shop).Permit(string(m.To), bodyOf(m.Body).TemplateID, 1)
	}
	if err := d.enqueue(ctx, d.producer, all); err != nil {
		return err
	}
	return d.timed(ctx, lines)
}

// timed are messages with a time: for tomorrow, and for a moment that is over when its turn comes.
func (d *director) timed(ctx context.Context, lines []message.Message) error {
	g := d.generator
	tomorrow := message.NextDay(time.Now()).Add(9 * time.Hour)
	later := append(g.many(actTomorrow, lines, 8, d.followers(shop, 8)), g.many(actTooLate, lines, 4, d.followers(shop, 4))...)
	soon := time.Now().Add(3 * time.Second)
	for i := range later {
		later[i].NotBefore = tomorrow
		if later[i].Labels[actLabel] == actTooLate {
			later[i].NotBefore, later[i].ExpiresAt = soon, soon.Add(time.Millisecond)
		}
	}
	return d.enqueue(ctx, d.producer, later)
}

// conversations are customer-service messages inside and outside of the window.
func (d *director) conversations(ctx context.Context) error {
	g := d.generator
	plain := g.examples.of(shop, message.Custom, noFallback)
	instead := g.examples.of(shop, message.Custom, hasFallback)
	talkers, talkative, away := d.followers(shop, replies), d.followers(shop, chatty), d.followers(shop, gone)
	for _, users := range [][]message.OpenID{talkers, talkative, away} {
		if err := d.speak(shop, users); err != nil {
			return err
		}
	}
	if err := d.told(ctx); err != nil {
		return err
	}
	heal := d.inject(
		wechattest.Fault{Kind: wechattest.Errcode, API: wechattest.PathCustom, Every: 50, Next: 3},
		wechattest.Fault{Kind: wechattest.Drop, API: wechattest.PathCustom, Skip: 20, Every: 70, Next: 2},
		wechattest.Fault{Kind: wechattest.Drop, When: wechattest.After, API: wechattest.PathCustom, Skip: 40, Every: 70, Next: 2},
	)
	d.progress.say("%d customer-service messages to users who wrote lately; the simulator hangs up on four of them", replies)
	if err := d.enqueue(ctx, d.producer, g.many(actReplies, plain, replies, talkers)); err != nil {
		return err
	}
	if err := d.decided(ctx, actReplies); err != nil {
		return err
	}
	heal()

	if err := d.unnoticed(shop, away, wechattest.Unsubscribe); err != nil {
		return err
	}
	d.progress.say("%d to users who did not write, %d of them with a template as fallback; %d to each of %d users, of whom each may get 5",
		silent+silentInstead, silentInstead, answersEach, chatty)
	if err := d.enqueue(ctx, d.producer, slices.Concat(
		g.many(actChatty, plain, chatty*answersEach, talkative),
		g.many(actSilent, plain, silent, d.followers(shop, silent)),
		g.many(actInstead, instead, silentInstead, d.followers(shop, silentInstead)),
		g.many(actGone, instead, gone, away),
	)); err != nil {
		return err
	}
	return d.clubConversations(ctx)
}

func (d *director) clubConversations(ctx context.Context) error {
	g := d.generator
	lines := g.examples.of(club, message.Custom, noFallback)
	talkers := d.followers(club, clubReplies)
	if err := d.speak(club, talkers); err != nil {
		return err
	}
	if err := d.told(ctx); err != nil {
		return err
	}
	return d.enqueue(ctx, d.producer, append(
		g.many(actReplies, lines, clubReplies, talkers),
		g.many(actSilent, lines, clubSilent, d.followers(club, clubSilent))...))
}

// interruptions: somebody else refreshes the account's token, and urgent messages come in the midst of the campaign.
func (d *director) interruptions(ctx context.Context) error {
	d.progress.say("somebody else forces a new access token for %s: the one in use is refused from now on", shop)
	d.at(shop).KickTokens()
	d.kicks++
	d.progress.say("%d urgent messages, one by one, while the campaign waits for its pace", urgents)
	lines := d.generator.examples.of(shop, message.Template, anyLine)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for _, m := range d.generator.many(actUrgent, lines, urgents, d.followers(shop, urgents)) {
		m.Lane = message.Urgent
		r, err := d.producer.Enqueue(ctx, m)
		if err != nil {
			return err
		}
		if err := d.note(r); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// again: the keys, the users and the readers of before once more.
func (d *director) again(ctx context.Context) error {
	g := d.generator
	lines := g.examples.of(shop, message.Template, anyLine)
	if err := d.decided(ctx, actMass); err != nil {
		return err
	}
	d.progress.say("again: a fifth and a sixth mass send, a second of the day, used keys, users who refuse or have left")
	twice := slices.Clone(d.keyed)
	others := g.many(actConflict, lines, 2, []message.OpenID{d.keyed[0].To})
	for i := range twice {
		twice[i].Labels = map[string]string{actLabel: actDuplicate}
	}
	for i := range others {
		others[i].Key = d.keyed[0].Key
	}
	keyed := append(twice, others...)
	if err := d.enqueue(ctx, d.producer, slices.Clone(keyed)); err != nil { // the ledger knows the keys: told at once
		return err
	}
	if err := d.enqueue(ctx, d.handsOver, keyed); err != nil { // nobody can know: an outcome
		return err
	}
	second := slices.Concat(g.many(actSecond, lines, 4, d.blocked), g.many(actSecond, lines, 4, d.left), g.many(actSecond, lines, 1, []message.OpenID{d.blocker}))
	over := append(d.toReaders(actMassAgain, 1, append(slices.Clone(d.readers), d.followers(shop, newcomers)...)),
		d.toReaders(actMassAgain, 1, d.readers)...)
	over = append(over, g.message(actMassAgain, g.examples.of(club, message.Mass, goesByFilter), 1, ""))
	return d.enqueue(ctx, d.producer, slices.Concat(second, d.farewell, over))
}

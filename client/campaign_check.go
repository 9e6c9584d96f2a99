package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// CheckOptions say what a check compares a campaign with; what is not given is not compared.
type CheckOptions struct {
	Templates []Template     // those of the account, as WeChat lists them; nil: not known
	Limits    CampaignLimits // for the forecast
	Samples   int            // how many rendered messages are shown; 0: 5
	Testers   []message.OpenID
	Mass      *MassCaps // of kind mass
	// Answerable, of kind custom, says which of some users the account may answer now; nil: not counted. Where it fails
	// they are not counted either, and a note says so.
	Answerable func(ctx context.Context, users []message.OpenID) ([]bool, error)
}

// A Template is one that an account has in use.
type Template struct {
	ID      string
	Title   string
	Content string // with its keywords as {{thing1.DATA}}
}

// A CampaignCheck is what a check found.
type CampaignCheck struct {
	Campaign   Campaign
	Audience   AudienceState
	Problems   []Misfit // why it does not fit; none: it fits
	Notes      []string // what else there is to know
	Samples    []Sample
	Recipients int // whose messages were rendered: all of the audience
	Good       int // of these, those that may be sent
	AtCap      int // of these: users who have had as much as the frequency cap, or the cap of mass sends, allows
	Closed     int // of these, of kind custom: users whom the account may not answer now; -1: not counted
	Forecast   *CampaignForecast
	Mass       *MassForecast // of kind mass
	Tests      []Receipt     // of the test sends, by Testers
}

// Fits says whether nothing speaks against a start.
func (c CampaignCheck) Fits() bool { return len(c.Problems) == 0 }

// A Misfit is something that does not fit.
type Misfit struct {
	What  string  `json:"what"`
	Count int     `json:"count,omitempty"` // recipients whom it concerns; 0: it concerns all
	First []int32 `json:"first,omitempty"` // the numbers of the first of them
}

// A Sample is one recipient's message.
type Sample struct {
	N        int32           `json:"n"`
	OpenID   message.OpenID  `json:"openid,omitempty"`
	Body     json.RawMessage `json:"body"`
	Fallback json.RawMessage `json:"fallback,omitempty"` // its body
	Problems []string        `json:"problems,omitempty"`
}

// CheckCampaign renders every recipient's message, compares them with the rules and with the template's own definition,
// and says when the campaign would be done. It sends nothing but to the testers.
func (c *Client) CheckCampaign(ctx context.Context, idOrName string, o CheckOptions) (CampaignCheck, error) {
	row, err := c.campaign(ctx, idOrName)
	if err != nil {
		return CampaignCheck{}, err
	}
	audiences, err := c.ledger.Audiences(ctx, row.ID)
	if err != nil {
		return CampaignCheck{}, err
	}
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return CampaignCheck{}, err
	}
	k := &checking{client: c, row: row, o: o, now: now, problems: map[string]*Misfit{}, out: CampaignCheck{Campaign: campaignOf(row), Closed: -1}}
	k.start, k.samples = k.nextStart(), 5
	if o.Samples > 0 {
		k.samples = o.Samples
	}
	a := youngest(audiences)
	if a != nil {
		k.out.Audience = audienceState(*a)
	}
	if row.State == campaign.Draft && row.Spec.Schedule.Past(now) {
		k.problem(timePast(row.Spec).Error())
	}
	if err := k.audience(ctx, a); err != nil {
		return CampaignCheck{}, err
	}
	if fallback := k.out.Campaign.Fallback; fallback != "" && k.out.Closed > 0 {
		k.note(fmt.Sprintf("the fallbacks, up to %d, go by the quota of %s messages, which the forecast leaves out", k.out.Closed, fallback))
	}
	switch row.State {
	case campaign.Running, campaign.Paused, campaign.Throttled, campaign.Parked:
		p, err := c.CampaignProgress(ctx, row.ID.String())
		if err != nil {
			return CampaignCheck{}, err
		}
		if p.EndedAt.IsZero() {
			k.began, k.unsent = p.StartedAt, p.Total-p.Ended()
		}
	}
	k.out.Problems = append(k.out.Problems, k.sorted()...)
	k.forecast()
	k.test(ctx)
	return k.out, nil
}

// A checking is one check.
type checking struct {
	client   *Client
	row      postgres.Campaign
	o        CheckOptions
	now      time.Time
	start    time.Time // when it would fire
	samples  int
	left     int       // recipients whom a cap leaves out
	shut     int       // and those whom only the window does
	parts    int       // messages of a mass send
	began    time.Time // the firing that is on its way; zero: none is
	unsent   int       // of it: messages that have not ended
	problems map[string]*Misfit
	out      CampaignCheck
	tests    []message.Message
}

// checkBlock is how many recipients are read at a time.
const checkBlock = 5000

// audience goes through the recipients.
func (k *checking) audience(ctx context.Context, a *postgres.Audience) error {
	spec := k.row.Spec
	if spec.Kind == message.Mass {
		return k.mass(ctx, a)
	}
	if spec.Audience.Pulled() && (a == nil || a.State != "ready") {
		k.note("the workers fetch its audience at each firing; import it once to see samples and counts: enqueue campaign import")
		return k.example()
	}
	if err := ready(spec, a); err != nil && !spec.Audience.Pulled() {
		k.problem(err.Error())
		return nil
	}
	composer, err := campaign.NewComposer(spec, k.now, 0, a.Columns)
	if err != nil {
		k.problem(err.Error())
		return nil
	}
	if spec.Kind == message.Custom {
		k.note("users whose customer-service window is closed are skipped" + map[bool]string{true: ", or get the fallback"}[len(spec.Fallback) > 0])
	}
	defs := k.templates()
	for after := int32(0); ; {
		block, err := k.client.ledger.Recipients(ctx, a.ID, after, checkBlock)
		if err != nil || len(block) == 0 {
			return err
		}
		var arena []byte
		for _, r := range block {
			var m *message.Message
			m, arena, err = composer.Message(arena[:0], r.N, r.OpenID, r.Vars)
			k.recipient(r, m, err, defs)
		}
		after = block[len(block)-1].N
		if err := k.leftOut(ctx, block); err != nil {
			return err
		}
	}
}

// example judges the one message that everybody gets, where the texts ask for no columns, and nobody is known yet.
func (k *checking) example() error {
	if len(k.row.Spec.Columns()) > 0 {
		return nil
	}
	composer, err := campaign.NewComposer(k.row.Spec, k.now, 0, nil)
	if err != nil {
		k.problem(err.Error())
		return nil
	}
	m, _, err := composer.Message(nil, 1, "o", nil)
	found := k.mistakes(m, err, k.templates())
	for _, text := range found {
		k.problem(text)
	}
	k.out.Samples = append(k.out.Samples, sampleOf(1, "", m, found))
	return nil
}

// definitions are the templates that a campaign's messages and their fallbacks go by; nil: there is none, or it is not
// known.
type definitions struct{ body, fallback *campaign.Template }

func (k *checking) templates() (d definitions) {
	spec := k.row.Spec
	d.body = k.template("template_id", spec.Kind, spec.Body)
	if len(spec.Fallback) > 0 {
		var fallback struct {
			Kind     message.Kind    `json:"kind"`
			Template json.RawMessage `json:"template"`
		}
		if json.Unmarshal(spec.Fallback, &fallback) == nil {
			d.fallback = k.template("fallback.template_id", fallback.Kind, fallback.Template)
		}
	}
	return d
}

// template is the definition that one body goes by.
func (k *checking) template(path string, kind message.Kind, text json.RawMessage) *campaign.Template {
	var body struct {
		TemplateID string `json:"template_id"`
	}
	if kind == message.Subscribe {
		k.note("a notice's fields are held against the rules of their kinds; its template's own keywords are not compared, which a test send shows")
	}
	if k.o.Templates == nil || kind != message.Template || json.Unmarshal(text, &body) != nil {
		return nil
	}
	for _, t := range k.o.Templates {
		if t.ID == body.TemplateID {
			return &campaign.Template{Title: t.Title, Content: t.Content}
		}
	}
	k.problem(fmt.Sprintf("%s: the account has no template %s; it has %d others", path, body.TemplateID, len(k.o.Templates)))
	return nil
}

// recipient judges one recipient's message. A definition is held against the samples, and the rules of values, which
// differ from one to another, against each.
func (k *checking) recipient(r postgres.Recipient, m *message.Message, err error, defs definitions) {
	k.out.Recipients++
	shown := len(k.out.Samples) < k.samples
	if !shown {
		defs = definitions{}
	}
	found := k.mistakes(m, err, defs)
	if shown {
		k.out.Samples = append(k.out.Samples, sampleOf(r.N, r.OpenID, m, found))
	}
	if err == nil && len(k.tests) < len(k.o.Testers) {
		test := *m
		test.ID, test.Firing, test.N, test.Lane, test.To = message.ID{}, 0, 0, message.Normal, k.o.Testers[len(k.tests)]
		test.Body = slices.Clone(m.Body)
		k.tests = append(k.tests, test)
	}
	for _, text := range found {
		k.count(text, r.N)
	}
	if len(found) == 0 {
		k.out.Good++
	}
}

func sampleOf(n int32, to message.OpenID, m *message.Message, found []string) Sample {
	s := Sample{N: n, OpenID: to, Body: slices.Clone(m.Body), Problems: found}
	if m.Fallback != nil {
		s.Fallback = m.Fallback.Body
	}
	return s
}

// mistakes are what is wrong with a message: err, of its composition, or what the rules and the templates' definitions say.
func (k *checking) mistakes(m *message.Message, err error, defs definitions) (found []string) {
	if err != nil {
		return []string{err.Error()}
	}
	var invalid message.Invalid
	if errors.As(k.client.rules.Validate(m, time.Time{}), &invalid) {
		for _, f := range invalid {
			found = append(found, f.Path+": "+f.Rule)
		}
	}
	if defs.body != nil {
		found = lint(found, "", *defs.body, m)
	}
	if defs.fallback != nil && m.Fallback != nil {
		found = lint(found, "fallback: ", *defs.fallback, m.Fallback)
	}
	return found
}

// lint adds what a template's definition says of a message, and the rules have not said.
func lint(found []string, of string, def campaign.Template, m *message.Message) []string {
	for _, text := range campaign.Lint(def, m) {
		if !slices.ContainsFunc(found, func(f string) bool { return sameField(f, text) }) {
			found = append(found, of+text)
		}
	}
	return found
}

// sameField says whether a finding of a message's rule is about the keyword that the template's lint names.
func sameField(finding, lint string) bool {
	keyword, _, _ := strings.Cut(lint, ":")
	return strings.Contains(finding, "."+keyword+".value:")
}

// shownOf is how many recipients of a problem are named.
const shownOf = 5

func (k *checking) count(text string, n int32) {
	p := k.problems[text]
	if p == nil {
		const most = 100 // kinds of problem
		if len(k.problems) >= most {
			return
		}
		p = &Misfit{What: text}
		k.problems[text] = p
	}
	p.Count++
	if len(p.First) < shownOf {
		p.First = append(p.First, n)
	}
}

func (k *checking) problem(text string) {
	k.out.Problems = append(k.out.Problems, Misfit{What: text})
}
func (k *checking) note(text string) { k.out.Notes = append(k.out.Notes, text) }

// sorted are the recipients' problems, the most frequent first.
func (k *checking) sorted() []Misfit {
	list := []Misfit{}
	for _, text := range slices.Sorted(maps.Keys(k.problems)) {
		list = append(list, *k.problems[text])
	}
	slices.SortStableFunc(list, func(a, b Misfit) int { return b.Count - a.Count })
	return list
}

// leftOut counts users of a block to whom no message will go: who have had enough, and who may not be answered.
func (k *checking) leftOut(ctx context.Context, block []postgres.Recipient) error {
	users := make([]message.OpenID, len(block))
	for i, r := range block {
		users[i] = r.OpenID
	}
	enough, err := k.atCap(ctx, users)
	if err != nil {
		return err
	}
	k.out.AtCap += len(enough)
	k.left += len(enough)
	if k.row.Kind != message.Custom || k.o.Answerable == nil {
		return nil
	}
	answerable, err := k.o.Answerable(ctx, users)
	if err != nil && ctx.Err() == nil { // the check is worth something without it
		k.o.Answerable, k.out.Closed, k.shut = nil, -1, 0
		k.note("whose window is closed was not counted: " + err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	k.out.Closed = max(0, k.out.Closed)
	for i, may := range answerable {
		if !may {
			k.out.Closed++
			if !enough[users[i]] {
				k.shut++
			}
		}
	}
	return nil
}

// atCap are those of some users who have had as much as the frequency cap allows.
func (k *checking) atCap(ctx context.Context, users []message.OpenID) (map[message.OpenID]bool, error) {
	limit := k.row.Spec.Cap
	if limit.Messages == 0 {
		return nil, nil
	}
	sends, err := k.client.ledger.CampaignSends(ctx, k.row.Account, users, limit.Since(k.start), false)
	if err != nil {
		return nil, err
	}
	had, enough := map[message.OpenID]int{}, map[message.OpenID]bool{}
	for _, s := range sends {
		if had[s.To]++; had[s.To] == limit.Messages {
			enough[s.To] = true
		}
	}
	return enough, nil
}

// test sends the testers a message each, of the first recipients' values.
func (k *checking) test(ctx context.Context) {
	if len(k.tests) == 0 {
		if len(k.o.Testers) > 0 && k.row.Kind != message.Mass {
			k.problem("there is no message to test with")
		}
		return
	}
	for n := len(k.tests); n < len(k.o.Testers); n++ { // more testers than recipients
		again := k.tests[n%len(k.tests)]
		again.To = k.o.Testers[n]
		k.tests = append(k.tests, again)
	}
	k.out.Tests = k.client.EnqueueBatch(ctx, k.tests)
}

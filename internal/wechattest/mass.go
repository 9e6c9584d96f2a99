package wechattest

import (
	"fmt"
	"strconv"
)

// sendMass is POST /cgi-bin/message/mass/send: to a list of openids, for verified service accounts.
func sendMass(c *call) *refusal {
	m, bad := c.readMass(badMassMsgType)
	if bad != nil {
		return bad
	}
	list := elements(field(c.body, "touser"))
	switch {
	case list == nil:
		return refuse(badOpenIDList)
	case len(list) < c.set.Mass.MinList:
		return refuse(tooFewOpenIDs)
	case c.set.Mass.MaxList >= 0 && len(list) > c.set.Mass.MaxList:
		return refuse(tooManyOpenIDs)
	}
	seen := make(map[string]bool, len(list))
	for _, raw := range list {
		if raw[0] != '"' || len(raw) == 2 {
			return refuse(badOpenIDList)
		}
		seen[string(text(raw))] = true
	}
	m.to = "list:" + strconv.Itoa(len(list))
	m.digest = contentHash([]byte(m.kind), m.content, field(c.body, "touser"))
	return c.submit(&m, func(a *Account) []*user {
		users := make([]*user, 0, len(seen))
		for openid := range seen {
			if u := a.users[openid]; u != nil {
				users = append(users, u)
			} else if c.set.AnyOpenID {
				users = append(users, a.user(openid))
			}
		}
		return users
	})
}

// sendMassToAll is POST /cgi-bin/message/mass/sendall: to everyone, or to a tag.
func sendMassToAll(c *call) *refusal {
	m, bad := c.readMass(badMsgType)
	if bad != nil {
		return bad
	}
	filter := field(c.body, "filter")
	m.toAll = string(field(filter, "is_to_all")) == "true"
	tag, ok := number(field(filter, "tag_id"))
	switch {
	case m.toAll:
		m.to = "all"
	case !ok || !c.set.hasTag(tag):
		return refuse(badTagID)
	default:
		m.to = "tag:" + strconv.FormatInt(tag, 10)
	}
	if c.set.Type == Test {
		return refuse(noMassQuota)
	}
	m.digest = contentHash([]byte(m.kind), m.content, []byte(m.to))
	return c.submit(&m, func(a *Account) []*user {
		var users []*user
		for _, u := range a.order {
			if m.toAll || u.has(tag) {
				users = append(users, u)
			}
		}
		return users
	})
}

// A massMessage is the body of a mass send.
type massMessage struct {
	kind     string
	content  []byte
	clientID string
	to       string
	toAll    bool
	digest   uint64 // of range and content: stands in for a clientmsgid
}

// massKinds are the message types and the member that their object needs.
var massKinds = map[string]string{
	"mpnews": "media_id", "text": "content", "voice": "media_id", "image": "media_ids", "mpvideo": "media_id",
}

func (c *call) readMass(badKind int) (massMessage, *refusal) {
	m := massMessage{kind: string(text(field(c.body, "msgtype"))), clientID: string(text(field(c.body, "clientmsgid")))}
	needed, ok := massKinds[m.kind]
	switch {
	case m.kind == "wxcard":
		return m, refuse(cardsWithdrawn)
	case !ok:
		return m, refuse(badKind)
	}
	m.content = field(c.body, m.kind)
	if m.kind == "image" {
		if images := field(c.body, "images"); images != nil {
			m.content = images
		} else {
			needed = "media_id" // the older form with one image
		}
	}
	value := field(m.content, needed)
	if len(value) == 0 || string(value) == `""` || string(value) == "[]" {
		return m, refuse(missing(m.kind, "media_id"))
	}
	ids := elements(value)
	if needed == "media_id" {
		ids = [][]byte{value}
	}
	for _, id := range ids {
		if !c.hasMedia(string(text(id))) {
			return m, refuse(badMediaID)
		}
	}
	if len(m.clientID) > clientMsgIDBytes {
		return m, refuse(clientMsgIDTooLong)
	}
	return m, nil
}

func (s *settings) hasTag(id int64) bool {
	for _, t := range s.Tags {
		if t.ID == id {
			return true
		}
	}
	return false
}

func (u *user) has(tag int64) bool {
	for _, t := range u.tags {
		if t == tag {
			return true
		}
	}
	return false
}

// submit judges clientmsgid, pace, caps and protection, and takes the send.
func (c *call) submit(m *massMessage, users func(*Account) []*user) *refusal {
	a := c.account
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.mass
	s.turn(c.now)
	key := m.clientID
	if key == "" {
		key = "digest " + strconv.FormatUint(m.digest, 16)
	}
	if bad := c.repeated(s.byClient[key]); bad != nil {
		return bad
	}
	if gap := c.set.Mass.ChunkGap; gap > 0 && c.ep.path == PathMassSend {
		if c.now.Sub(s.lastList) < gap {
			return refuse(massTooFast)
		}
		s.lastList = c.now
	}
	if !s.hasQuota(c.set, m.toAll, c.now) {
		return refuse(noMassQuota)
	}
	n := c.sim.ids.Add(1)
	j := &job{
		id: 3_000_000_000 + n, kind: m.kind, to: m.to, clientID: m.clientID, at: c.now, toAll: m.toAll,
		content: contentHash([]byte(m.kind), m.content), users: users(a), waits: c.set.Mass.Protected && m.toAll,
		judged: c.set.Mass.Verdict,
	}
	if m.kind == "mpnews" {
		j.dataID = 2_247_000_000 + n
	}
	s.jobs[j.id], s.byClient[key] = j, j
	if j.waits {
		return c.waits(enteredConfirmation, j)
	}
	s.deliver(j, c.set, c.now)
	a.logMass(j, c.ep, c.now, c.body)
	early := c.set.callback != nil && c.sim.chance(c.set.callback.Receipts.Early)
	if first := a.massReceipt(j, c.set, c.now, j.verdict(), early); early {
		c.early = first
	}
	c.out = fmt.Appendf(c.out, `{"errcode":0,"errmsg":"send job submission success","msg_id":%d`, j.id)
	if j.dataID != 0 {
		c.out = fmt.Appendf(c.out, `,"msg_data_id":%d`, j.dataID)
	}
	c.out = append(c.out, '}')
	return nil
}

// repeated answers a clientmsgid that was there in the last 24 hours.
func (c *call) repeated(first *job) *refusal {
	switch {
	case first == nil, c.now.Sub(first.at) >= clientMsgIDMemory:
		return nil
	case first.waits && c.now.Sub(first.at) < administratorTime:
		return c.waits(inApproval, first)
	case c.now.Sub(first.at) < c.set.Mass.RetryGap:
		return refuse(clientMsgIDTooFast)
	default:
		bad := refuse(clientMsgIDExists)
		bad.extra = fmt.Sprintf(`,"msg_id":%d`, first.id)
		return bad
	}
}

func (c *call) waits(code int, j *job) *refusal {
	bad := refuse(code)
	if !c.set.Mass.ProtectedSilent {
		bad.extra = fmt.Sprintf(`,"msg_id":%d`, j.id)
	}
	return bad
}

// previewMass is POST /cgi-bin/message/mass/preview: to one user, by openid or by WeChat id, which wins.
func previewMass(c *call) *refusal {
	m, bad := c.readMass(badMsgType)
	if bad != nil {
		return bad
	}
	openid := text(field(c.body, "touser"))
	a := c.account
	if name := string(text(field(c.body, "towxname"))); name != "" {
		found, ok := c.set.WxNames[name]
		if !ok {
			return refuse(badWxName)
		}
		a.mu.Lock()
		a.mass.turn(c.now)
		a.mass.previews++
		over := a.mass.previews > previewsByName
		a.mu.Unlock()
		if over {
			return refuse(dayQuotaReached)
		}
		openid = []byte(found)
	}
	if bad := c.mayReceive(openid, true); bad != nil {
		return bad
	}
	c.accepted(openid, nil, contentHash([]byte(m.kind), m.content), 1, 0, 0)
	c.out = append(c.out, `{"errcode":0,"errmsg":"preview success"}`...)
	return nil
}

// deleteMass is POST /cgi-bin/message/mass/delete: articles and videos that were sent.
func deleteMass(c *call) *refusal {
	j, unlock := c.job()
	defer unlock()
	if j == nil || j.kind != "mpnews" && j.kind != "mpvideo" || j.status(c.set, c.now) != "SEND_SUCCESS" {
		return refuse(badMassMsgID)
	}
	j.deleted = true
	c.ok()
	return nil
}

// getMass is POST /cgi-bin/message/mass/get.
func getMass(c *call) *refusal {
	j, unlock := c.job()
	defer unlock()
	if j == nil {
		return refuse(badMassMsgID)
	}
	c.out = fmt.Appendf(c.out, `{"msg_id":%d,"msg_status":"%s"}`, j.id, j.status(c.set, c.now))
	return nil
}

// job is the job that the body names; the account stays locked until unlock.
func (c *call) job() (j *job, unlock func()) {
	id, _ := number(field(c.body, "msg_id"))
	c.account.mu.Lock()
	return c.account.mass.jobs[id], c.account.mu.Unlock
}

// realSpeeds are the speeds 0 to 4, in units of 10,000 a minute.
var realSpeeds = []int{80, 60, 45, 30, 10}

// getSpeed is POST /cgi-bin/message/mass/speed/get.
func getSpeed(c *call) *refusal {
	a := c.account
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mass.turn(c.now)
	c.out = fmt.Appendf(c.out, `{"speed":%d,"realspeed":%d}`, a.mass.speed, realSpeeds[a.mass.speed])
	return nil
}

// setSpeed is POST /cgi-bin/message/mass/speed/set.
func setSpeed(c *call) *refusal {
	raw := field(c.body, "speed")
	if len(raw) == 0 {
		return refuse(speedMissing)
	}
	speed, ok := number(raw)
	if !ok || speed < 0 || speed >= int64(len(realSpeeds)) {
		return refuse(speedOutOfRange)
	}
	a := c.account
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mass.turn(c.now)
	a.mass.speed = speed
	c.ok()
	return nil
}

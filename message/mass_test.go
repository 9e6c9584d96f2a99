package message

import (
	"encoding/json"
	"fmt"
	"testing"
)

func TestMassBody(t *testing.T) {
	filter := func(filter string) string {
		return `{"filter":` + filter + `,"msgtype":"text","text":{"content":"x"}}`
	}
	checkBodies(t, Mass, []bodyCase{
		{"text to a list", `{"msgtype":"text","text":{"content":"x"}}`, ""},
		{"mpnews", `{"msgtype":"mpnews","mpnews":{"media_id":"m"},"send_ignore_reprint":1}`, ""},
		{"voice", `{"msgtype":"voice","voice":{"media_id":"m"}}`, ""},
		{"images", `{"msgtype":"image","images":{"media_ids":["a","b"],"recommend":"r","title":"t","need_open_comment":1,"only_fans_can_comment":0}}`, ""},
		{"the older form of an image", `{"msgtype":"image","image":{"media_id":"m"}}`, ""},
		{"mpvideo", `{"msgtype":"mpvideo","mpvideo":{"media_id":"m","title":"t"}}`, ""},
		{"wxcard", `{"msgtype":"wxcard","wxcard":{"card_id":"c"}}`, ""},
		{"to everybody", filter(`{"is_to_all":true}`), ""},
		{"to a tag", filter(`{"is_to_all":false,"tag_id":2}`), ""},
		{"to a tag written as text", filter(`{"tag_id":"2"}`), ""},
		{"everybody and a tag", filter(`{"is_to_all":true,"tag_id":2}`), "mass.filter: either is_to_all or tag_id, not both"},
		{"nobody", filter(`{"is_to_all":false}`), "mass.filter: want is_to_all: true, or a tag_id"},
		{"an empty filter", filter(`{}`), "mass.filter: want is_to_all: true, or a tag_id"},
		{"a tag that is no number", filter(`{"tag_id":"vip"}`), `mass.filter.tag_id: want the number of a tag (got "vip")`},
		{"a tag below zero", filter(`{"tag_id":-1}`), `mass.filter.tag_id: want the number of a tag (got "-1")`},
		{"is_to_all is true or false", filter(`{"is_to_all":1}`), "mass.filter.is_to_all: want true or false (got a number)"},
		{"another filter", filter(`{"is_to_all":true,"group_id":2}`), "mass.filter.group_id: unknown field; want is_to_all, tag_id"},
		{"video is called mpvideo", `{"msgtype":"video","mpvideo":{"media_id":"m"}}`, "mass.msgtype: want one of mpnews, text, voice, image, mpvideo, wxcard"},
		{"an image in two forms", `{"msgtype":"image","images":{"media_ids":["a"]},"image":{"media_id":"m"}}`, "mass.images: given in two forms"},
		{"no image", `{"msgtype":"image"}`, "mass.images: required: msgtype is image"},
		{"no media", `{"msgtype":"image","images":{"media_ids":[]}}`, "mass.images.media_ids: must not be empty"},
		{"send_ignore_reprint is 0 or 1", `{"msgtype":"mpnews","mpnews":{"media_id":"m"},"send_ignore_reprint":2}`, `mass.send_ignore_reprint: want 0 or 1 (got "2")`},
		{"towxname is for previews", `{"msgtype":"text","text":{"content":"x"},"towxname":"w"}`, "mass.towxname: leave it out: a preview is asked for by command"},
		{"touser is the message's to", `{"msgtype":"text","text":{"content":"x"},"touser":["oA","oB"]}`, "mass.touser: leave it out"},
	})
}

func TestMassRecipients(t *testing.T) {
	const body = `{"msgtype":"text","text":{"content":"x"}}`
	const toAll = `{"filter":{"is_to_all":true},"msgtype":"text","text":{"content":"x"}}`
	many := make([]OpenID, 20_000)
	for i := range many {
		many[i] = OpenID(fmt.Sprint("o", i))
	}
	for _, tt := range []struct {
		claim, body string
		to          OpenID
		list        []OpenID
		want        string
	}{
		{"two openids", body, "", []OpenID{"oA", "oB"}, ""},
		{"more openids than one call takes", body, "", many, ""},
		{"one openid is too few", body, "", []OpenID{"oA"}, "to: at least 2 openids (got 1)"},
		{"an empty list", body, "", []OpenID{}, "to: at least 2 openids (got 0)"},
		{"neither list nor filter", body, "", nil, "to: required: a list of openids, or a filter in the body"},
		{"a list and a filter", toAll, "", []OpenID{"oA", "oB"}, "to: either a list or mass.filter, not both"},
		{"a single recipient", body, "oA", nil, "to: want a list of openids for mass (got a string)"},
		{"the same openid twice", body, "", []OpenID{"oA", "oB", "oA"}, "to[2]: the same openid as to[0]"},
		{"an openid out of shape", body, "", []OpenID{"oA", "o B"}, "to[1]: an openid has only letters"},
		{"an empty openid", body, "", []OpenID{"oA", ""}, "to[1]: an openid has 1 to 64 characters (got 0)"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			m := &Message{Account: "shop", Kind: Mass, To: tt.to, List: tt.list, Body: json.RawMessage(tt.body)}
			wantError(t, m.Validate(noon), tt.want)
		})
	}
	t.Run("an installation may allow fewer", func(t *testing.T) {
		m := &Message{Account: "shop", Kind: Mass, List: many, Body: json.RawMessage(body)}
		wantError(t, Rules{MaxList: 10_000}.Validate(m, noon), "to: at most 10000 openids (got 20000)")
	})
}

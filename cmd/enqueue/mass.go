package main

import (
	"encoding/json"

	"github.com/hongyan-dispatch/hongyan/message"
)

type massCommands struct {
	Send    massSendCommand    `cmd:"" help:"Enqueue a mass message to a list, a tag or everybody."`
	Status  massStatusCommand  `cmd:"" help:"Say how far a mass message is, and whom it left out."`
	Preview massPreviewCommand `cmd:"" help:"Show a mass message to one user beforehand."`
	Delete  massDeleteCommand  `cmd:"" help:"Delete articles or a video that were sent to the masses."`
	Speed   massSpeedCommand   `cmd:"" help:"Show or set how fast WeChat sends mass messages."`
}

// massContent is what a mass message shows.
type massContent struct {
	Text              string `help:"A text." placeholder:"TEXT"`
	Image             string `help:"An image, by its media_id." placeholder:"MEDIA_ID"`
	Mpnews            string `help:"Articles (图文), by the draft's media_id." placeholder:"MEDIA_ID"`
	Voice             string `help:"A voice, by its media_id." placeholder:"MEDIA_ID"`
	Mpvideo           string `help:"A video, by its media_id." placeholder:"MEDIA_ID"`
	Msgtype           string `help:"Any of WeChat's types; --body then holds the object of that type." placeholder:"TYPE"`
	Body              string `help:"WeChat's own JSON without touser; - is standard input." placeholder:"FILE"`
	SendIgnoreReprint bool   `help:"Send articles on where WeChat judges them to be reprints."`
}

// fields are the members of WeChat's JSON.
func (c massContent) fields(s *session) (map[string]any, error) {
	typ, object, err := choice{
		text: c.Text, msgtype: c.Msgtype, body: c.Body,
		media: map[string]string{"image": c.Image, "mpnews": c.Mpnews, "voice": c.Voice, "mpvideo": c.Mpvideo},
	}.content(s)
	if err != nil {
		return nil, err
	}
	fields := map[string]any{}
	switch {
	case typ == "":
		if err := json.Unmarshal(object, &fields); err != nil {
			return nil, refuse("--body: %s: want an object", c.Body)
		}
	case c.Image != "":
		fields["msgtype"], fields["images"] = "image", map[string][]string{"media_ids": {c.Image}}
	default:
		fields["msgtype"], fields[typ] = typ, object
	}
	if c.SendIgnoreReprint {
		fields["send_ignore_reprint"] = 1
	}
	return fields, nil
}

// parseMassID reads the id of a message of ours, or WeChat's msg_id.
func parseMassID(arg string) (id message.ID, msgID int64, err error) {
	if id, err = message.ParseID(arg); err == nil {
		return id, 0, nil
	}
	if err := json.Unmarshal([]byte(arg), &msgID); err != nil || msgID <= 0 {
		return id, 0, refuse("%q: want a message's id, or WeChat's msg_id", arg)
	}
	return id, msgID, nil
}

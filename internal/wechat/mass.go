package wechat

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A MassPreview is to whom a mass message is shown beforehand: to one of the two. WeChat allows 100
// previews a day by WeChat id.
type MassPreview struct {
	To       message.OpenID
	WeChatID string // towxname: what the user calls his WeChat id
}

// MassPreview shows a mass message to one user. body is that of the mass send; its filter is left out,
// and of several images the first is shown, because the preview takes one. The msg_id is 0 if WeChat
// gives none.
//
// WeChat: /doc/service/guide/product/message/Batch_Sends.html (预览).
func (c *Client) MassPreview(ctx context.Context, tok Token, p MassPreview, body []byte) (msgID int64, err error) {
	fields, err := previewFields(body)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", PathMassPreview, err)
	}
	name, value := "touser", string(p.To)
	if p.WeChatID != "" {
		name, value = "towxname", p.WeChatID
	}
	fields[name], _ = json.Marshal(value)
	var out struct {
		MsgID integer `json:"msg_id"`
	}
	err = c.post(ctx, tok, PathMassPreview, fields, &out)
	return int64(out.MsgID), err
}

func previewFields(body []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return nil, errNoObject
	}
	for _, name := range []string{"filter", "touser", "towxname", "clientmsgid", "send_ignore_reprint"} {
		delete(fields, name)
	}
	var images struct {
		MediaIDs []string `json:"media_ids"`
	}
	if raw, ok := fields["images"]; ok && json.Unmarshal(raw, &images) == nil && len(images.MediaIDs) > 0 {
		delete(fields, "images")
		fields["image"], _ = json.Marshal(map[string]string{"media_id": images.MediaIDs[0]})
	}
	return fields, nil
}

// MassDelete deletes a mass send of articles or video after it was sent; article 0 deletes all of its
// articles, n the n-th.
//
// WeChat: /doc/service/guide/product/message/Batch_Sends.html (删除群发).
func (c *Client) MassDelete(ctx context.Context, tok Token, msgID int64, article int) error {
	return c.post(ctx, tok, PathMassDelete, map[string]int64{"msg_id": msgID, "article_idx": int64(article)}, nil)
}

// The states that WeChat gives a mass send.
const (
	MassSending = "SENDING"
	MassSuccess = "SEND_SUCCESS"
	MassFailed  = "SEND_FAIL"
	MassDeleted = "DELETE"
)

// MassStatus asks how far a mass send is: one of the states above. There are no counts; those come by
// the event MASSSENDJOBFINISH.
//
// WeChat: /doc/service/guide/product/message/Batch_Sends.html (查询群发消息发送状态).
func (c *Client) MassStatus(ctx context.Context, tok Token, msgID int64) (string, error) {
	var out struct {
		Status string `json:"msg_status"`
	}
	err := c.post(ctx, tok, PathMassGet, map[string]string{"msg_id": fmt.Sprint(msgID)}, &out)
	return out.Status, err
}

// A MassSpeed is how fast WeChat sends an account's mass messages.
type MassSpeed struct {
	Level int // 0 fastest (800,000 a minute) to 4 slowest (100,000)
	Real  int // what WeChat gives as realspeed
}

// MassSpeed asks for the speed.
//
// WeChat: /doc/service/guide/product/message/Batch_Sends.html (控制群发速度).
func (c *Client) MassSpeed(ctx context.Context, tok Token) (MassSpeed, error) {
	var out struct {
		Level integer `json:"speed"`
		Real  integer `json:"realspeed"`
	}
	err := c.postRaw(ctx, tok, PathMassSpeedGet, []byte("{}"), &out)
	return MassSpeed{Level: int(out.Level), Real: int(out.Real)}, err
}

// SetMassSpeed sets the level: 0 to 4 mean 800,000, 600,000, 450,000, 300,000 and 100,000 a minute.
//
// WeChat: /doc/service/guide/product/message/Batch_Sends.html (控制群发速度).
func (c *Client) SetMassSpeed(ctx context.Context, tok Token, level int) error {
	return c.post(ctx, tok, PathMassSpeedSet, map[string]int{"speed": level}, nil)
}

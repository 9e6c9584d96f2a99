package main

import (
	"context"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
)

type massDeleteCommand struct {
	ID      string `arg:"" help:"The message's id, or WeChat's msg_id."`
	Account string `help:"For a msg_id: the account." placeholder:"NAME"`
	Article int    `help:"Only the n-th article." placeholder:"N"`
}

func (*massDeleteCommand) Help() string {
	return `WeChat deletes articles and videos only; the cards stay in the users' chats, without content.

Example:

  enqueue mass delete 0198c0de-0000-7000-8000-000000000001`
}

// Run deletes the message at WeChat.
func (c *massDeleteCommand) Run(ctx context.Context, s *session) error {
	if c.Article < 0 {
		return refuse("--article: want 1 for the first article, or nothing for all")
	}
	st, err := s.massStatus(ctx, c.ID, c.Account)
	if err != nil {
		return err
	}
	if st.MsgID == 0 {
		return fmt.Errorf("%s: WeChat has not got it (%s); to stop it use enqueue cancel", st.ID, st.Status)
	}
	caller, _, err := s.caller(st.Account)
	if err != nil {
		return err
	}
	defer caller.Close()
	if err := caller.call(ctx, func(t wechat.Token) error { return caller.wechat.MassDelete(ctx, t, st.MsgID, c.Article) }); err != nil {
		return err
	}
	return s.print(map[string]any{"msg_id": st.MsgID, "deleted": true}, "deleted msg_id %d", st.MsgID)
}

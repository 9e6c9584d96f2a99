package postgres

import (
	"context"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/message"
)

// pulledWhole is the cursor of a list that was pulled to its end. No openid has a space in it.
const pulledWhole = " "

// Pull adds a list that comes in pages, from where the audience's cursor stands. Each page is one transaction; told is
// called behind it.
func (i *Import) Pull(ctx context.Context, page func(ctx context.Context, cursor string) ([]message.OpenID, string, error), told func(Audience)) error {
	for i.Audience.Cursor != pulledWhole {
		users, next, err := page(ctx, i.Audience.Cursor)
		if err != nil {
			return fmt.Errorf("pull %s: %w", i.Audience.Source, err)
		}
		if next == "" || len(users) == 0 || next == i.Audience.Cursor {
			next = pulledWhole
		}
		block := make([]Newcomer, len(users))
		for n, user := range users {
			block[n] = Newcomer{Line: i.Audience.Lines + int64(n) + 1, OpenID: user}
		}
		if _, err := i.Add(ctx, block, func(a *Audience) { a.Lines, a.Cursor = a.Lines+int64(len(users)), next }); err != nil {
			return err
		}
		if told != nil {
			told(i.Audience)
		}
	}
	return nil
}

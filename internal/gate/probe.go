package gate

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// ProbeAccounts asks once a minute, over all pods, whether WeChat accepts an account again whose gate is
// broken, and opens it if so. It returns when the context ends.
func (b *Board) ProbeAccounts(ctx context.Context, ask func(ctx context.Context, account string) error, failed func(error)) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, g := range b.All() {
			if g.State != Broken || g.API != "" {
				continue
			}
			mine, err := b.store.ClaimProbe(ctx, g.Account, "", ProbeEvery)
			if err == nil && mine && ask(ctx, g.Account) == nil {
				err = b.Open(ctx, g.Account, "")
			}
			if err != nil && ctx.Err() == nil {
				failed(err)
			}
		}
	}
}

// Admit answers how the releaser may treat one API of an account: freely, not at all, or with a single message
// as a probe, once a minute over all pods.
func (b *Board) Admit(ctx context.Context, account, api string, now time.Time) (Admission, error) {
	g, open, err := b.Look(ctx, account, api, message.ID{}, now)
	switch {
	case err != nil:
		return Nothing, err
	case open:
		return Freely, nil
	case g.State != Broken || g.API == "":
		return Nothing, nil
	}
	mine, err := b.store.ClaimProbe(ctx, account, api, ProbeEvery)
	if err != nil || !mine {
		return Nothing, err
	}
	return OneProbe, nil
}

// An Admission is what the releaser may release behind a gate.
type Admission byte

// The admissions.
const (
	Nothing Admission = iota
	OneProbe
	Freely
)

// LetPass names the message that passes the broken gate as its probe.
func (b *Board) LetPass(ctx context.Context, account, api string, id message.ID) error {
	g, shut := b.mirror.Load().shut[key{account, api}]
	if !shut {
		return nil
	}
	g.Probe = id
	if err := b.store.SetGate(ctx, g); err != nil {
		return err
	}
	b.note(func(shut map[key]Gate) { shut[key{account, api}] = g })
	return nil
}

package tasks

import (
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Pack puts messages into new parcels: at most 100 messages and 64 KiB of one account, kind and lane in
// each, a heavier message alone. Within an account, kind and lane messages keep their order; parcels
// stand in the order of their first messages.
func Pack(msgs []*message.Message, now time.Time) []*message.Parcel {
	type label struct {
		account string
		kind    message.Kind
		lane    message.Lane
	}
	type open struct {
		parcel *message.Parcel
		bytes  int
	}
	var parcels []*message.Parcel
	filling := map[label]*open{}
	for _, m := range msgs {
		l := label{m.Account, m.Kind, m.Lane}
		size := messageBytes(m)
		o := filling[l]
		if o == nil || len(o.parcel.Messages) == message.MaxParcel || o.bytes+size > maxParcelBytes {
			o = &open{
				parcel: &message.Parcel{ID: message.NewID(now), Account: m.Account, Kind: m.Kind, Lane: m.Lane},
				bytes:  parcelBytes(m.Account),
			}
			filling[l] = o
			parcels = append(parcels, o.parcel)
		}
		o.parcel.Messages = append(o.parcel.Messages, m)
		o.bytes += size
	}
	return parcels
}

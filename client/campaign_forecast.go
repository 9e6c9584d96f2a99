package client

import (
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
)

// CampaignLimits are the limits of the account that a campaign must fit into.
type CampaignLimits struct {
	LeftToday int64   // of today's quota
	PerDay    int64   // the quota of each later day; 0: no limit is known
	Reserve   int64   // of a day's quota, kept for urgent messages
	PerSecond float64 // its pace for campaigns; 0: none
}

// A CampaignForecast is what becomes of the quota if the campaign starts now, or at the next time of its schedule, and
// nothing else is sent. Its days are WeChat's, and all its times are Beijing's.
type CampaignForecast struct {
	Timezone  string        `json:"timezone"`       // of the days and times: Asia/Shanghai
	Start     time.Time     `json:"start,omitzero"` // zero: now
	Needs     int64         `json:"needs"`          // calls: one for each message
	LeftToday int64         `json:"left_today"`
	PerDay    int64         `json:"per_day"` // what each later day has; 0: none
	Reserve   int64         `json:"reserve"`
	Today     bool          `json:"today"`         // all of it goes today, in Beijing
	Done      time.Time     `json:"done,omitzero"` // when the last one goes; zero: not within a year
	Days      []ForecastDay `json:"days"`
}

// A ForecastDay is what goes on one of WeChat's days.
type ForecastDay struct {
	Day      time.Time `json:"day"` // the Beijing midnight at which it begins
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Messages int64     `json:"messages"`
}

// forecast says when it would be done.
func (k *checking) forecast() {
	l := k.o.Limits
	if k.row.Kind == message.Mass {
		k.massForecast()
		return
	}
	if k.out.Recipients == 0 || l == (CampaignLimits{}) || k.row.State.Ended() {
		return
	}
	needs, began := k.out.Recipients-k.left-k.shut, k.start
	if !k.began.IsZero() {
		needs, began = k.unsent, k.began
		k.note(fmt.Sprintf("it is %s: the forecast is of the %d messages that have not ended", k.row.State, needs))
	}
	f := k.foretell(campaign.Load{
		Messages: int64(needs), Left: l.LeftToday, PerDay: l.PerDay, Reserve: l.Reserve, PerSecond: l.PerSecond,
		Pace: k.row.Spec.Pace, Calendar: k.row.Spec.Calendar,
	}, k.start)
	expires := k.row.Spec.Expires
	switch {
	case f.Done.IsZero():
		k.problem("with this quota, pace and calendar it is not done within a year")
	case expires > 0 && f.Done.After(began.Add(expires)):
		k.problem(fmt.Sprintf("it would be done at %s, and its messages expire %v after its start", f.Done.Format(time.RFC3339), expires))
	case !f.Today && len(f.Days) > 1:
		k.note(fmt.Sprintf("it goes on over %d days", len(f.Days)))
	}
}

// nextStart is when the campaign fires next: now, where it is started by hand or on its way, or by its schedule.
func (k *checking) nextStart() time.Time {
	switch k.row.State {
	case campaign.Draft:
		if at := k.row.Spec.Schedule.Next(k.now); !at.IsZero() {
			return at
		}
	case campaign.Scheduled:
		if k.row.NextTick.After(k.now) {
			return k.row.NextTick
		}
	}
	return k.now
}

// foretell is the forecast of a load that starts at the given time. A later day has its quota whole.
func (k *checking) foretell(load campaign.Load, start time.Time) *CampaignForecast {
	day := message.Beijing(start)
	today := message.Day(start).Equal(message.Day(k.now))
	f := &CampaignForecast{
		Timezone: day.Location().String(), Needs: load.Messages, LeftToday: load.Left, PerDay: load.PerDay, Reserve: load.Reserve,
	}
	if start.After(k.now) {
		f.Start = day
	}
	if !today {
		load.Left = load.PerDay
	}
	o := campaign.Forecast(load, start)
	f.Today, f.Done = o.Today && today, o.Done
	for _, d := range o.Days {
		f.Days = append(f.Days, ForecastDay(d))
	}
	k.out.Forecast = f
	return f
}

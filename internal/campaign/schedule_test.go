package campaign

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		name, cron, zone, after string
		want                    []string
	}{
		{"Mondays at ten", "0 10 * * 1", "", "2026-11-28T12:00:00+08:00", []string{"2026-11-30T10:00:00+08:00", "2026-12-07T10:00:00+08:00"}},
		{"a tick is not its own next", "0 10 * * 1", "", "2026-11-30T10:00:00+08:00", []string{"2026-12-07T10:00:00+08:00"}},
		{"but comes behind the second before", "0 10 * * 1", "", "2026-11-30T09:59:59.999+08:00", []string{"2026-11-30T10:00:00+08:00"}},
		{"names of days", "30 9 * * mon-wed,SUN", "", "2026-11-28T00:00:00Z", []string{"2026-11-29T09:30:00+08:00", "2026-11-30T09:30:00+08:00", "2026-12-01T09:30:00+08:00", "2026-12-02T09:30:00+08:00", "2026-12-06T09:30:00+08:00"}},
		{"the 31st", "0 0 31 * *", "", "2026-08-31T00:00:00+08:00", []string{"2026-10-31T00:00:00+08:00", "2026-12-31T00:00:00+08:00", "2027-01-31T00:00:00+08:00", "2027-03-31T00:00:00+08:00"}},
		{"the last day of a month", "0 0 L * *", "", "2027-01-31T12:00:00+08:00", []string{"2027-02-28T00:00:00+08:00", "2027-03-31T00:00:00+08:00"}},
		{"29 February", "15 8 29 2 *", "", "2027-01-01T00:00:00Z", []string{"2028-02-29T08:15:00+08:00", "2032-02-29T08:15:00+08:00"}},
		{"over a century's end", "15 8 29 2 *", "UTC", "2096-03-01T00:00:00Z", []string{"2104-02-29T08:15:00Z"}},
		{"the 13th or a Friday", "0 12 13 * 5", "", "2026-12-01T00:00:00Z", []string{"2026-12-04T12:00:00+08:00", "2026-12-11T12:00:00+08:00", "2026-12-13T12:00:00+08:00", "2026-12-18T12:00:00+08:00"}},
		{"every quarter of some hours", "*/15 9-10 * * *", "", "2026-12-01T10:20:00+08:00", []string{"2026-12-01T10:30:00+08:00", "2026-12-01T10:45:00+08:00", "2026-12-02T09:00:00+08:00"}},
		{"the last minute of a year", "59 23 31 12 *", "", "2026-12-31T23:58:59+08:00", []string{"2026-12-31T23:59:00+08:00", "2027-12-31T23:59:00+08:00"}},
		{"clocks are put forward over it", "30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", []string{"2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"}},
		{"one tick at the change, not one a minute", "*/10 2 * * *", "America/New_York", "2026-03-08T06:59:00Z", []string{"2026-03-08T07:00:00Z", "2026-03-09T06:00:00Z"}},
		{"clocks are put back over it", "30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", []string{"2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"}},
		{"asked in the second time", "*/30 * * * *", "America/New_York", "2026-11-01T06:10:00Z", []string{"2026-11-01T07:00:00Z", "2026-11-01T07:30:00Z"}},
		{"clocks are changed by half an hour", "15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00:00Z", []string{"2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"}},
		{"an odd zone", "0 10 * * *", "Asia/Kathmandu", "2026-12-01T00:00:00Z", []string{"2026-12-01T04:15:00Z", "2026-12-02T04:15:00Z"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Schedule{Cron: c.cron, Timezone: c.zone}
			if err := checkCron(c.cron); err != nil {
				t.Fatal(err)
			}
			at := moment(t, c.after)
			for _, want := range c.want {
				got := s.Next(at)
				if !got.Equal(moment(t, want)) {
					t.Fatalf("behind %v comes %v, want %s", at, got, want)
				}
				at = got
			}
		})
	}
}

func moment(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestBadCrons(t *testing.T) {
	for _, cron := range []string{
		"", "0 10 * *", "0 0 10 * * 1", "0 10 * * 1 2027", "@daily", "60 10 * * *", "0 24 * * *", "0 0 0 * *", "0 0 * 13 *", "0 0 * * 8",
		"0 0 30 2 *", "a b c d e", "*/0 * * * *", "5-1 * * * *",
	} {
		if err := checkCron(cron); err == nil {
			t.Errorf("%q passes", cron)
		}
	}
}

// A field of a cron expression, as text and as what it holds.
type field struct {
	text string
	any  bool // begins with *
	in   [60]bool
}

func fields(low, high int) *rapid.Generator[field] {
	return rapid.Custom(func(t *rapid.T) (f field) {
		span := func(from, to, step int) {
			for i := from; i <= to; i += step {
				f.in[i] = true
			}
		}
		switch rapid.IntRange(0, 4).Draw(t, "form") {
		case 0:
			f.text, f.any = "*", true
			span(low, high, 1)
		case 1:
			step := rapid.IntRange(1, 20).Draw(t, "step")
			f.text, f.any = fmt.Sprintf("*/%d", step), true
			span(low, high, step)
		case 2:
			from := rapid.IntRange(low, high).Draw(t, "from")
			to := rapid.IntRange(from, high).Draw(t, "to")
			f.text = fmt.Sprintf("%d-%d", from, to)
			span(from, to, 1)
		default:
			var words []string
			for range rapid.IntRange(1, 3).Draw(t, "values") {
				v := rapid.IntRange(low, high).Draw(t, "value")
				words = append(words, strconv.Itoa(v))
				f.in[v] = true
			}
			f.text = strings.Join(words, ",")
		}
		return f
	})
}

func TestTicksAreThoseOfEveryCron(t *testing.T) {
	zones := []string{"", "UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"}
	rapid.Check(t, func(t *rapid.T) {
		minute, hour := fields(0, 59).Draw(t, "minute"), fields(0, 23).Draw(t, "hour")
		day, month, weekday := fields(1, 31).Draw(t, "day"), fields(1, 12).Draw(t, "month"), fields(0, 6).Draw(t, "weekday")
		s := Schedule{
			Cron:     strings.Join([]string{minute.text, hour.text, day.text, month.text, weekday.text}, " "),
			Timezone: rapid.SampledFrom(zones).Draw(t, "zone"),
		}
		after := time.Unix(rapid.Int64Range(1_780_000_000, 1_850_000_000).Draw(t, "after"), 0)
		is := func(w wall) bool {
			d, wd := day.in[w.Day()], weekday.in[int(w.Weekday())]
			if both := d && wd; day.any || weekday.any {
				d = both
			} else {
				d = d || wd
			}
			return minute.in[w.Minute()] && hour.in[w.Hour()] && month.in[int(w.Month())] && d
		}
		// Every minute of the zone's clock is asked, from a day before: clocks may have been put back. What comes in ten years
		// or never is not judged.
		loc := zoneOf(s.Timezone)
		from := onWall(after, loc).Truncate(time.Minute).AddDate(0, 0, -1)
		for w := from; w.Before(from.AddDate(10, 0, 0)); w = w.Add(time.Minute) {
			if w.Hour() == 0 && w.Minute() == 0 && !month.in[int(w.Month())] {
				w = time.Date(w.Year(), w.Month()+1, 1, 0, -1, 0, 0, time.UTC)
				continue
			}
			if !is(w) || !instant(w, loc).After(after) {
				continue
			}
			if got, want := s.Next(after), instant(w, loc); !got.Equal(want) {
				t.Fatalf("%q in %q behind %v: %v, want %v", s.Cron, s.Timezone, after, got, want)
			}
			return
		}
	})
}

func TestInstantsOfAClock(t *testing.T) {
	for _, zone := range []string{"America/New_York", "Australia/Lord_Howe", "Europe/Berlin", "Asia/Shanghai", "Pacific/Apia", "Africa/Casablanca"} {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		from := time.Date(2011, 12, 20, 0, 0, 0, 0, loc)
		for at := from; at.Before(from.AddDate(1, 0, 0)); {
			checkInstants(t, at, loc) // a day, and two around each change
			_, change := at.ZoneBounds()
			if change.IsZero() {
				break
			}
			checkInstants(t, change.Add(-24*time.Hour), loc)
			at = change
		}
	}
}

// checkInstants goes through the minutes of two days. Each shows something on the wall, whose instant is the first at which
// it is shown; what is never shown has the change's.
func checkInstants(t *testing.T, from time.Time, loc *time.Location) {
	shown := map[wall]bool{}
	end := from.Add(48 * time.Hour)
	for at := from; at.Before(end); at = at.Add(time.Minute) {
		w := onWall(at, loc)
		if shown[w] {
			continue
		}
		shown[w] = true
		if got := instant(w, loc); !got.Equal(at) && !got.Before(from) {
			t.Fatalf("%s shows %v at %v, want %v", loc, w, got, at)
		}
	}
	for w := onWall(from, loc); w.Before(onWall(end, loc)); w = w.Add(time.Minute) {
		if shown[w] {
			continue
		}
		at := instant(w, loc)
		if before, behind := onWall(at.Add(-time.Minute), loc), onWall(at, loc); !before.Before(w) || !behind.After(w) {
			t.Fatalf("%s leaves %v out; its instant is %v, between %v and %v", loc, w, at, before, behind)
		}
	}
}

func TestCatchUp(t *testing.T) {
	daily := Schedule{Cron: "0 10 * * *"}
	last := moment(t, "2026-11-01T12:00:00+08:00")
	day := func(d, h, m int) time.Time { return time.Date(2026, 11, d, h, m, 0, 0, zoneOf("")) }
	for _, c := range []struct {
		name    string
		catchUp string
		now     time.Time
		want    []time.Time
	}{
		{"nothing is due", "", day(2, 9, 59), nil},
		{"in time", "", day(2, 10, 0), []time.Time{day(2, 10, 0)}},
		{"once is the default", "", day(5, 9, 0), []time.Time{day(4, 10, 0)}},
		{"once", CatchUpOnce, day(5, 9, 0), []time.Time{day(4, 10, 0)}},
		{"all", CatchUpAll, day(5, 9, 0), []time.Time{day(2, 10, 0), day(3, 10, 0), day(4, 10, 0)}},
		{"skip", CatchUpSkip, day(5, 9, 0), nil},
		{"skip, when workers change", CatchUpSkip, day(5, 10, 5), []time.Time{day(5, 10, 0)}},
		{"skip, and the last is in time", CatchUpSkip, day(5, 10, 1), []time.Time{day(5, 10, 0)}},
		{"skip, too late", CatchUpSkip, day(5, 10, 6), nil},
	} {
		s := daily
		s.CatchUp = c.catchUp
		if got := s.Due(last, c.now); !slices.EqualFunc(got, c.want, time.Time.Equal) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
	daily.CatchUp = CatchUpAll
	if got := daily.Due(last, last.AddDate(1, 0, 0)); len(got) != maxCatchUp || !got[len(got)-1].Equal(moment(t, "2027-11-01T10:00:00+08:00")) {
		t.Errorf("a year of ticks: %d, the last %v", len(got), got[len(got)-1])
	}
	minutely := Schedule{Cron: "* * * * *"}
	if got := minutely.Due(time.Time{}, last); len(got) != 1 || !got[0].Equal(last) {
		t.Errorf("all minutes of all time: %v", got)
	}
	once := Schedule{At: last}
	if got := once.Due(last.Add(-time.Hour), last.AddDate(0, 0, 9)); !slices.EqualFunc(got, []time.Time{last}, time.Time.Equal) {
		t.Errorf("a single tick, missed: %v", got)
	}
	if got := once.Due(last, last.AddDate(0, 0, 9)); got != nil || !once.Next(last).IsZero() {
		t.Errorf("a single tick comes twice: %v", got)
	}
}

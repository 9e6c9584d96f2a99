package wechattest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Latency is how long an answer takes after the decision: between Min and Max, more often near Min,
// and now and then Stall. What is known of WeChat's: 60–350 ms with rare stalls of 5 s.
type Latency struct {
	Min, Max time.Duration
	Stall    time.Duration
	Chance   float64 // of a stall
}

// ParseLatency reads "20ms", "60ms-350ms" or "60ms-350ms,5s@0.001".
func ParseLatency(s string) (Latency, error) {
	var l Latency
	span, stall, stalls := strings.Cut(s, ",")
	low, high, ranged := strings.Cut(span, "-")
	var err error
	if l.Min, err = time.ParseDuration(low); err != nil {
		return Latency{}, noLatency(s)
	}
	l.Max = l.Min
	if ranged {
		if l.Max, err = time.ParseDuration(high); err != nil {
			return Latency{}, noLatency(s)
		}
	}
	if stalls {
		took, chance, _ := strings.Cut(stall, "@")
		if l.Stall, err = time.ParseDuration(took); err != nil {
			return Latency{}, noLatency(s)
		}
		if l.Chance, err = strconv.ParseFloat(chance, 64); err != nil || l.Chance < 0 || l.Chance > 1 {
			return Latency{}, fmt.Errorf("latency %q: a stall is written 5s@0.001, with a chance from 0 to 1", s)
		}
	}
	if l.Min < 0 || l.Max < l.Min || l.Stall < 0 {
		return Latency{}, fmt.Errorf("latency %q: must not be negative, and the second time not below the first", s)
	}
	return l, nil
}

func noLatency(s string) error {
	return fmt.Errorf("latency %q: want a time or two, such as 20ms, 60ms-350ms, or 60ms-350ms,5s@0.001 with rare stalls", s)
}

// String is the form that [ParseLatency] reads.
func (l Latency) String() string {
	s := l.Min.String()
	if l.Max > l.Min {
		s += "-" + l.Max.String()
	}
	if l.Chance > 0 {
		s += fmt.Sprintf(",%s@%g", l.Stall, l.Chance)
	}
	return s
}

// UnmarshalText lets a latency stand in flags and scenarios.
func (l *Latency) UnmarshalText(b []byte) error {
	parsed, err := ParseLatency(string(b))
	if err == nil {
		*l = parsed
	}
	return err
}

// draw is the latency of one call; the logarithm of it is spread evenly.
func (l *Latency) draw(s *Sim) time.Duration {
	if l.Max <= l.Min && l.Chance == 0 {
		return l.Min
	}
	s.randMu.Lock()
	stall, at := s.rand.Float64(), s.rand.Float64()
	s.randMu.Unlock()
	if stall < l.Chance {
		return l.Stall
	}
	if l.Max <= l.Min {
		return l.Min
	}
	low := float64(max(l.Min, time.Microsecond))
	return time.Duration(low * math.Pow(float64(l.Max)/low, at))
}

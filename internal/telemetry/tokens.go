package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Token is how an account's access token stands in this process.
type Token struct {
	Account string
	Age     time.Duration // negative: not known
	Left    time.Duration // 0: there is none
}

// tokens exports them as they are when Prometheus asks.
type tokens struct {
	ask atomic.Pointer[func() []Token]
}

var (
	tokenAge  = describe("token_age_seconds", "Age of the access token that this process uses.", "account")
	tokenLeft = describe("token_left_seconds", "How long it lasts; 0: the process has none.", "account")
)

func (t *tokens) Describe(to chan<- *prometheus.Desc) { to <- tokenAge; to <- tokenLeft }

func (t *tokens) Collect(to chan<- prometheus.Metric) {
	ask := t.ask.Load()
	if ask == nil {
		return
	}
	for _, one := range (*ask)() {
		to <- prometheus.MustNewConstMetric(tokenLeft, prometheus.GaugeValue, one.Left.Seconds(), one.Account)
		if one.Age >= 0 {
			to <- prometheus.MustNewConstMetric(tokenAge, prometheus.GaugeValue, one.Age.Seconds(), one.Account)
		}
	}
}

package config

import "time"

// Default is the configuration of an empty file. WeChat's numbers are those of its pages
// (developers.weixin.qq.com, read 2026-11-22); an account may have been given others.
func Default() *Config {
	return &Config{
		Server:    Server{Listen: "127.0.0.1:8080", MaxParallel: 512, MaxBacklog: 1_000_000, Linger: 5 * time.Second},
		Worker:    Worker{Senders: 64},
		Retention: Retention{Messages: 30 * 24 * time.Hour, Keys: 24 * time.Hour},
		Log:       Log{Level: "info", Format: "text"},
		Telemetry: Telemetry{Traces: Traces{Ratio: 0.01}},
	}
}

// DefaultAccount is the configuration of an account of a type that says nothing more.
func DefaultAccount(accountType string) Account {
	return Account{
		Type:     accountType,
		BaseURL:  "https://api.weixin.qq.com",
		Callback: Callback{Mode: "encrypted", ForwardTimeout: 3500 * time.Millisecond},
		Limits: Limits{
			// developers.weixin.qq.com/doc/service/guide/dev/api/limit.html and, for template messages,
			// …/guide/product/template_message/Template_Message_Interface.html. WeChat publishes no pace.
			Template:  APILimit{PerDay: 100_000, PerSecond: 100},
			Custom:    APILimit{PerDay: 500_000, PerSecond: 100},
			Subscribe: APILimit{PerDay: 100_000, PerSecond: 100},
			Mass:      defaultMass(accountType),
		},
		Reserve: Reserve{UrgentDay: 0.10, UrgentPace: 0.20, Margin: 0.01},
		// developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken: the platform renews 5
		// minutes early, and both tokens work during them.
		Token: Token{Mode: "stable", RefreshMargin: 270 * time.Second, ForcedPerDay: 10, ForcedGap: 30 * time.Second},
		// developers.weixin.qq.com/doc/service/api/customer/message/api_sendcustommessage. What a payment
		// opens is told differently by WeChat's own pages, so it opens nothing unless the file says so.
		Window: Window{
			Unknown: "closed",
			Message: Allowance{Messages: 5, For: 48 * time.Hour, Margin: time.Minute},
			Menu:    Allowance{Messages: 3, For: time.Minute, Margin: 10 * time.Second},
			Follow:  Allowance{Messages: 3, For: time.Minute, Margin: 10 * time.Second},
			Scan:    Allowance{Messages: 3, For: time.Minute, Margin: 10 * time.Second},
			Pay:     Allowance{Messages: 0, For: 48 * time.Hour, Margin: time.Minute},
		},
		Policy: Policy{
			CustomAmbiguous:       Unknown,
			SubscribeAmbiguous:    Unknown,
			ResendYoungerThan:     30 * time.Second,
			TemplateAmbiguousLate: Unknown,
			MinusOne:              "not_sent",
			RetryAfter:            []time.Duration{time.Second, 10 * time.Second, time.Minute, 10 * time.Minute},
			UnknownCodeAttempts:   2,
		},
	}
}

// defaultMass: developers.weixin.qq.com/doc/service/guide/product/message/Batch_Sends.html.
func defaultMass(accountType string) MassLimit {
	m := MassLimit{
		CallsPerDay: 100, CallsPerMinute: 60,
		PerDay: NoCap, UserPerMonth: 4, AllPerDay: 1, AllPerMonth: 4,
		Mode: "enforce",
	}
	if accountType == SubscriptionAccount {
		m.PerDay, m.UserPerMonth, m.AllPerDay, m.AllPerMonth = 1, NoCap, NoCap, NoCap
	}
	return m
}

package config

import "time"

// Config is the whole configuration, defaults filled in.
type Config struct {
	Redis     Redis     `yaml:"redis"`
	Postgres  Postgres  `yaml:"postgres"`
	Server    Server    `yaml:"server"`
	Worker    Worker    `yaml:"worker"`
	Accounts  []Account `yaml:"accounts"`
	Campaigns Campaigns `yaml:"campaigns"`
	Retention Retention `yaml:"retention"`
	Log       Log       `yaml:"log"`
	Telemetry Telemetry `yaml:"telemetry"`
}

// Account finds an account by its name or its appid.
func (c *Config) Account(nameOrAppID string) (*Account, bool) {
	for i := range c.Accounts {
		if a := &c.Accounts[i]; a.Name == nameOrAppID || a.AppID == nameOrAppID {
			return a, true
		}
	}
	return nil, false
}

// Redis says where the queue and the shared counters are.
type Redis struct {
	URL     Secret `yaml:"url"` // redis://, rediss://, redis-cluster:// or redis-sentinel://
	URLFile string `yaml:"url_file"`
}

// Postgres says where the ledger is.
type Postgres struct {
	URL     Secret `yaml:"url"`
	URLFile string `yaml:"url_file"`
}

// Campaigns says where audiences are that a query gives.
type Campaigns struct {
	Database     Secret `yaml:"database"` // the URL of a Postgres; empty: campaigns take no audience by a query
	DatabaseFile string `yaml:"database_file"`
}

// Server configures the HTTP server.
type Server struct {
	Listen      string `yaml:"listen"`
	MaxParallel int    `yaml:"max_parallel"` // requests to the callback at one time
	MaxBacklog  int64  `yaml:"max_backlog"`  // messages of an account's kind that may wait before the API takes no more
	// Linger is for how long a server that is to stop goes on to serve while /readyz says no. One that nobody asks does not.
	Linger time.Duration `yaml:"linger"`
}

// Worker configures a worker process.
type Worker struct {
	MetricsListen string `yaml:"metrics_listen"` // empty: none
	Senders       int    `yaml:"senders"`        // calls to WeChat at one time
	Name          string `yaml:"name"`           // empty: the host's name
}

// Retention says how long rows are kept.
type Retention struct {
	Messages time.Duration `yaml:"messages"`
	Keys     time.Duration `yaml:"keys"` // producers' idempotency keys
}

// Log configures what a command writes about its work.
type Log struct {
	Level  string `yaml:"level" oneof:"debug,info,warn,error"`
	Format string `yaml:"format" oneof:"text,json"`
}

// Telemetry says what is told beside logs and metrics.
type Telemetry struct {
	Traces Traces `yaml:"traces"`
}

// Traces says where traces of messages go.
type Traces struct {
	Endpoint string  `yaml:"endpoint"` // of a collector that speaks OTLP over HTTP; empty: none
	Ratio    float64 `yaml:"ratio"`    // the share of messages, from 0 to 1
}

// The types of account.
const (
	ServiceAccount      = "service"      // 服务号
	SubscriptionAccount = "subscription" // 订阅号
)

// An Account is one Official Account that messages are sent for.
type Account struct {
	Name       string   `yaml:"name"` // the alias that producers use; the appid works too
	AppID      string   `yaml:"appid"`
	Secret     Secret   `yaml:"secret"`
	SecretFile string   `yaml:"secret_file"`
	Type       string   `yaml:"type" oneof:"service,subscription"`
	BaseURL    string   `yaml:"base_url"` // without a slash at its end
	Callback   Callback `yaml:"callback"`
	Limits     Limits   `yaml:"limits"`
	Reserve    Reserve  `yaml:"reserve"`
	Token      Token    `yaml:"token"`
	Window     Window   `yaml:"window"`
	Policy     Policy   `yaml:"policy"`
	Webhook    Webhook  `yaml:"webhook"`
}

// Webhook is where an account's outcomes and receipts are told; an empty URL means nowhere.
type Webhook struct {
	URL        string `yaml:"url"`
	Secret     Secret `yaml:"secret"`
	SecretFile string `yaml:"secret_file"`
	OpenID     bool   `yaml:"openid"` // the recipient stands in what is told
}

// Callback is what WeChat's console and we agreed on for its pushes; an empty Token means none.
type Callback struct {
	Token      Secret `yaml:"token"`
	TokenFile  string `yaml:"token_file"`
	AESKey     Secret `yaml:"aes_key"`
	AESKeyFile string `yaml:"aes_key_file"`

	// The ones before, while the console is being changed.
	TokenPrevious      Secret `yaml:"token_previous"`
	TokenPreviousFile  string `yaml:"token_previous_file"`
	AESKeyPrevious     Secret `yaml:"aes_key_previous"`
	AESKeyPreviousFile string `yaml:"aes_key_previous_file"`

	Mode           string        `yaml:"mode" oneof:"plain,compatible,encrypted"`
	ForwardURL     string        `yaml:"forward_url"`
	ForwardTimeout time.Duration `yaml:"forward_timeout"`
	Replies        []Reply       `yaml:"replies"`
}

// A Reply is what users are told at once (被动回复): to a message that is the keyword, or to an event; to any message where
// neither is given. It holds exactly one of the bodies.
type Reply struct {
	Keyword  string `yaml:"keyword"`
	Contains bool   `yaml:"contains"` // the message holds the keyword; else it is the keyword
	Event    string `yaml:"event" oneof:"follow,scan,menu"`
	Key      string `yaml:"key"` // of the menu's item, or the QR code's scene

	Text     string         `yaml:"text"`
	Image    string         `yaml:"image"` // media_id
	Voice    string         `yaml:"voice"` // media_id
	Video    VideoReply     `yaml:"video"`
	Music    MusicReply     `yaml:"music"`
	News     []ArticleReply `yaml:"news"`
	Transfer TransferReply  `yaml:"transfer"`
}

// VideoReply replies with a film.
type VideoReply struct {
	MediaID     string `yaml:"media_id"`
	Title       string `yaml:"title"`
	Description string `yaml:"description"`
}

// MusicReply replies with a link to music.
type MusicReply struct {
	ThumbMediaID string `yaml:"thumb_media_id"`
	Title        string `yaml:"title"`
	Description  string `yaml:"description"`
	URL          string `yaml:"url"`
	HQURL        string `yaml:"hq_url"`
}

// An ArticleReply is a card.
type ArticleReply struct {
	Title       string `yaml:"title"`
	Description string `yaml:"description"`
	PicURL      string `yaml:"pic_url"`
	URL         string `yaml:"url"`
}

// TransferReply hands the conversation to human customer service.
type TransferReply struct {
	Enabled   bool   `yaml:"enabled"`
	KfAccount string `yaml:"kf_account"` // empty: anybody
}

// Limits are WeChat's limits of an account, by kind of message.
type Limits struct {
	Template  APILimit  `yaml:"template"`
	Custom    APILimit  `yaml:"custom"`
	Subscribe APILimit  `yaml:"subscribe"`
	Mass      MassLimit `yaml:"mass"`
}

// APILimit is the daily quota and the pace of one API; 0 allows nothing.
type APILimit struct {
	PerDay    int64   `yaml:"per_day"`
	PerSecond float64 `yaml:"per_second"`
}

// MassLimit holds the limits of the mass-send calls and the caps of what they reach. A cap of
// [NoCap] does not exist.
type MassLimit struct {
	CallsPerDay    int64  `yaml:"calls_per_day"`
	CallsPerMinute int64  `yaml:"calls_per_minute"`
	PerDay         int64  `yaml:"per_day"`        // sends of the account in a day
	UserPerMonth   int64  `yaml:"user_per_month"` // sends that reach one user in a calendar month
	AllPerDay      int64  `yaml:"all_per_day"`    // sends to everyone in a day
	AllPerMonth    int64  `yaml:"all_per_month"`  // sends to everyone in a calendar month
	Mode           string `yaml:"mode" oneof:"enforce,observe"`
}

// NoCap says that a cap does not exist.
const NoCap = -1

// Reserve holds the shares of a limit that are kept back, each from 0 to 1.
type Reserve struct {
	UrgentDay  float64 `yaml:"urgent_day"`
	UrgentPace float64 `yaml:"urgent_pace"`
	Margin     float64 `yaml:"margin"`
}

// Token says how the access token is had.
type Token struct {
	Mode          string        `yaml:"mode" oneof:"stable,legacy"`
	RefreshMargin time.Duration `yaml:"refresh_margin"`
	ForcedPerDay  int           `yaml:"forced_per_day"`
	ForcedGap     time.Duration `yaml:"forced_gap"`
}

// Window holds the customer-service window's rules.
type Window struct {
	Unknown string    `yaml:"unknown" oneof:"closed,try"`
	Message Allowance `yaml:"message"`
	Menu    Allowance `yaml:"menu"`
	Follow  Allowance `yaml:"follow"`
	Scan    Allowance `yaml:"scan"`
	Pay     Allowance `yaml:"pay"`
}

// An Allowance is what one action of a user allows.
type Allowance struct {
	Messages int           `yaml:"messages"` // 0: nothing; [NoCap]: any number
	For      time.Duration `yaml:"for"`
	Margin   time.Duration `yaml:"margin"` // the window counts as over this much earlier
}

// Values of [Policy].
const (
	Unknown         = "unknown"           // nobody knows: the outcome is unknown
	Resend          = "resend"            // send again, at the risk of a duplicate
	ResendIfYounger = "resend_if_younger" // as Resend, but only shortly after the first attempt
)

// Policy decides where WeChat leaves us in doubt, and how refusals are repeated.
type Policy struct {
	CustomAmbiguous       string          `yaml:"custom_ambiguous" oneof:"unknown,resend,resend_if_younger"`
	SubscribeAmbiguous    string          `yaml:"subscribe_ambiguous" oneof:"unknown,resend,resend_if_younger"`
	ResendYoungerThan     time.Duration   `yaml:"resend_younger_than"`
	TemplateAmbiguousLate string          `yaml:"template_ambiguous_late" oneof:"unknown,resend"`
	MinusOne              string          `yaml:"minus_one" oneof:"not_sent,ambiguous"`
	RetryAfter            []time.Duration `yaml:"retry_after"`           // waits between attempts after a back-off code
	UnknownCodeAttempts   int             `yaml:"unknown_code_attempts"` // after a code that no table knows
	MassApproval          bool            `yaml:"mass_approval"`         // mass sends over the API wait for a second key
}

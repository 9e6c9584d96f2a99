package message

// AppID is WeChat's name of an Official Account, such as wx0000000000000001.
type AppID string

// OpenID is WeChat's name of one user for one account.
type OpenID string

// Short is the OpenID for logs: its first and last two characters.
func (o OpenID) Short() string {
	if len(o) <= 4 {
		return "…"
	}
	return string(o[:2]) + "…" + string(o[len(o)-2:])
}

// A Kind says by which of WeChat's APIs a message goes.
type Kind string

// The four kinds.
const (
	Template  Kind = "template"  // 模板消息, POST /cgi-bin/message/template/send
	Subscribe Kind = "subscribe" // 订阅通知, POST /cgi-bin/message/subscribe/bizsend
	Custom    Kind = "custom"    // 客服消息, POST /cgi-bin/message/custom/send
	Mass      Kind = "mass"      // 群发, POST /cgi-bin/message/mass/send and sendall
)

// Kinds lists every kind, in the order of documentation.
func Kinds() []Kind { return []Kind{Template, Subscribe, Custom, Mass} }

// HasClientID says whether WeChat takes an anti-duplicate id of ours with this kind, so that the same
// message may be sent again while nobody knows whether it left.
func (k Kind) HasClientID() bool { return k == Template || k == Mass }

// A Lane orders messages where tokens are given out: urgent first, bulk last.
type Lane string

// The lanes.
const (
	Urgent Lane = "urgent"
	Normal Lane = "normal"
	Bulk   Lane = "bulk"
)

// Lanes lists every lane, most urgent first.
func Lanes() []Lane { return []Lane{Urgent, Normal, Bulk} }

// AccountType tells the two kinds of Official Account apart; their mass-send caps differ.
type AccountType string

// The account types.
const (
	ServiceAccount      AccountType = "service"      // 服务号
	SubscriptionAccount AccountType = "subscription" // 订阅号
)

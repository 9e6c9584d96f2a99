package wechat

import (
	"sort"
	"time"
)

// A Disposition says what an errcode means for us.
type Disposition byte

// The dispositions.
const (
	None         Disposition = iota // errcode 0
	TokenRefresh                    // refresh the token, repeat once
	Backoff                         // WeChat is busy: repeat with back-off
	QuotaReset                      // the day's (or month's) quota is used up
	Wait                            // a short limit: wait Error.RetryAfter
	Recipient                       // never again for this recipient
	Request                         // never again with this content
	Account                         // the account or this API of it is out of order: break the gate
	Accepted                        // WeChat has it already
	UnknownCode                     // in no list: repeat like Backoff, but at most twice
)

// String names the disposition, in words fit for a label.
func (d Disposition) String() string {
	return [...]string{
		"none", "refresh_token", "backoff", "quota_reset", "wait", "refused_recipient", "refused_request",
		"refused_account", "accepted", "unknown_code",
	}[d]
}

// The codes that someone treats by number. No other package may name one.
const (
	CodeBusy              = -1
	CodeCredential        = 40001 // on a token call: the appsecret is wrong
	CodeAppID             = 40013
	CodeAppSecret         = 40125 // the appsecret is wrong
	CodeIPNotWhitelisted  = 40164
	CodeDuplicateIn60s    = 40241 // undocumented, seen 2025-02; see Error.DispositionInDoubt
	CodeMassFast          = 42010 // lists sent side by side: the account's mass sends rest for minutes
	CodeRequireSubscribe  = 43004 // suppresses the recipient
	CodeUserRefuses       = 43101 // suppresses the recipient, for the template
	CodeDailyQuota        = 45009 // quota/get decides between a minute and the day
	CodeMinuteQuota       = 45011
	CodeWindowClosed      = 45015 // corrects our ledger of the window
	CodeNoMassQuota       = 45028
	CodeWindowUsed        = 45047 // corrects our ledger of the window
	CodeClientMsgIDExists = 45065 // the answer holds the msg_id of the first
	CodeClientMsgIDFast   = 45066 // in a minute, 45065 will tell
	CodeUnauthorized      = 48001 // this API of the account
	CodeUnsubscribed      = 50005 // suppresses the recipient
	CodeAdminApproving    = 89504 // mass: submitted, the administrator is asked; do not send again
	CodeAdminConfirming   = 89505 // the same
)

// DispositionOf says what an errcode of an API means. Two codes need more than the number:
// [Error.Disposition] knows of mini programs (40013), [Error.DispositionInDoubt] of 40241.
func DispositionOf(api string, code int) Disposition {
	r := find(code)
	switch {
	case code == 0:
		return None
	case r == nil:
		return UnknownCode
	case code == CodeCredential && (api == PathToken || api == PathStableToken):
		return Account // the appsecret is wrong
	}
	return r.means
}

// find is a binary search: a storm of refusals passes here.
func find(code int) *refusal {
	i := sort.Search(len(refusals), func(i int) bool { return refusals[i].to >= code })
	if i < len(refusals) && refusals[i].from <= code {
		return &refusals[i]
	}
	return nil
}

type refusal struct {
	from, to int
	means    Disposition
	wait     time.Duration // before it makes sense to try again, where the code tells
}

// month stands for "not before next month" where a code does not say when.
const month = 30 * 24 * time.Hour

// refusals is everything WeChat is known to answer, by code. Sources: the list of return codes
// (全局返回码), /doc/oplatform/developers/troubleshooting, and the pages of the calls; read 2026-11-22.
// The order is by code: find depends on it.
var refusals = []refusal{
	{CodeBusy, CodeBusy, Backoff, 0},
	{40001, 40001, TokenRefresh, 0},                     // invalid credential
	{40002, 40002, Request, 0},                          // grant_type
	{40003, 40003, Recipient, 0},                        // invalid openid
	{40004, 40009, Request, 0},                          // media and message types, sizes, media_id
	{40013, 40013, Account, 0},                          // invalid appid
	{40014, 40014, TokenRefresh, 0},                     // invalid access_token
	{40016, 40027, Request, 0},                          // menu
	{40031, 40037, Request, 0},                          // openid list, \u escapes, parameters, template_id
	{40039, 40039, Request, 0},                          // url length
	{40052, 40053, Request, 0},                          // QR code
	{40059, 40060, Request, 0},                          // mass delete
	{40062, 40062, Request, 0},                          // title
	{40066, 40066, Request, 0},                          // API path
	{40097, 40097, Request, 0},                          // arguments
	{40102, 40102, Request, 0},                          // industry
	{CodeAppSecret, CodeAppSecret, Account, 0},          // invalid appsecret
	{40130, 40130, Request, 0},                          // fewer than two openids
	{40132, 40132, Request, 0},                          // WeChat id
	{40138, 40138, Request, 0},                          // template emphasis word
	{40152, 40152, Request, 0},                          // tag_id
	{40155, 40155, Request, 0},                          // link
	{40164, 40164, Account, 0},                          // IP not in whitelist
	{40165, 40165, Request, 0},                          // pagepath
	{40200, 40200, Account, 0},                          // account type
	{40215, 40215, Request, 0},                          // image count
	{40241, 40241, Wait, time.Minute},                   // duplicate in 60 seconds
	{40243, 40243, Account, 0},                          // appsecret frozen
	{40246, 40247, Request, 0},                          // adding templates
	{40249, 40249, Request, 0},                          // marketing content
	{41001, 41002, Request, 0},                          // token or appid missing: our bug
	{41004, 41006, Request, 0},                          // secret, media missing
	{41009, 41009, Request, 0},                          // openid missing
	{41028, 41030, Request, 0},                          // form_id, page path
	{41040, 41040, Request, 0},                          // originality
	{42001, 42001, TokenRefresh, 0},                     // access_token expired
	{42002, 42002, Account, 0},                          // refresh_token expired
	{42006, 42006, TokenRefresh, 0},                     // component_access_token expired
	{42007, 42007, Account, 0},                          // authorisation gone
	{CodeMassFast, CodeMassFast, Wait, 3 * time.Minute}, // masssend fast: one part at a time
	{43001, 43003, Request, 0},                          // GET, POST, HTTPS
	{43004, 43006, Recipient, 0},                        // require subscribe, friend, not blocked
	{43019, 43019, Recipient, 0},                        // the account has blocked the user
	{43100, 43100, Wait, month},                         // industry changed too often
	{43101, 43101, Recipient, 0},                        // user refuses
	{43102, 43102, Request, 0},                          // template type
	{43104, 43104, Account, 0},                          // permission
	{43106, 43106, Account, 0},                          // punished
	{43116, 43116, Request, 0},                          // this template is restricted; the account's others are not
	{43117, 43117, Wait, 10 * time.Minute},              // too frequent to this openid
	{44001, 44006, Request, 0},                          // something is empty
	{44007, 44007, Accepted, 0},                         // repeated msg id
	{45000, 45008, Request, 0},                          // something is too long
	{45009, 45009, QuotaReset, 0},                       // daily quota, but ask quota/get
	{45010, 45010, Request, 0},                          // menus
	{45011, 45011, Wait, time.Minute},                   // minute quota
	{45012, 45014, Request, 0},                          // sizes of templates and messages
	{45015, 45015, Recipient, 0},                        // window closed
	{45019, 45019, Request, 0},                          // too many openids
	{45024, 45024, Request, 0},                          // template count
	{45026, 45027, Request, 0},                          // templates and industries
	{45028, 45028, QuotaReset, 0},                       // no mass quota
	{45035, 45035, Account, 0},                          // IP not in whitelist
	{45040, 45040, QuotaReset, 0},                       // monthly quota
	{45047, 45047, Recipient, 0},                        // window used up
	{45050, 45052, Request, 0},                          // types, template link
	{45056, 45056, Request, 0},                          // tag count
	{45058, 45059, Request, 0},                          // tags
	{45061, 45061, Wait, time.Minute},                   // update too frequent
	{45062, 45062, Account, 0},                          // took adverts: no mass API
	{45064, 45064, Request, 0},                          // unbound mini program
	{45065, 45065, Accepted, 0},                         // clientmsgid exists
	{45066, 45066, Wait, time.Minute},                   // same clientmsgid too fast
	{45067, 45067, Request, 0},                          // clientmsgid too long
	{45072, 45072, Request, 0},                          // typing command
	{45080, 45080, Recipient, 0},                        // typing: no exchange in 30 s
	{45081, 45081, Accepted, 0},                         // already typing
	{45083, 45084, Request, 0},                          // mass speed
	{45085, 45085, Backoff, 0},                          // speed server
	{45087, 45087, Account, 0},                          // customer-service messages blocked
	{45093, 45093, QuotaReset, 0},                       // no quota
	{45094, 45094, Account, 0},                          // punished
	{45098, 45099, Request, 0},                          // msgmenu
	{45102, 45102, Wait, time.Hour},                     // API temporarily blocked
	{45103, 45103, Account, 0},                          // API unsupported
	{45109, 45109, Account, 0},                          // API unsupported
	{45113, 45113, Request, 0},                          // cards
	{45157, 45159, Request, 0},                          // tags
	{45162, 45162, Request, 0},                          // mass msgtype
	{45166, 45166, Request, 0},                          // article content
	{45168, 45168, Request, 0},                          // keyword in blacklist
	{45169, 45169, Backoff, 0},                          // concurrent tagging
	{45171, 45171, Backoff, 0},                          // some openids failed
	{45501, 45501, Account, 0},                          // blocked by the supervisor
	{46001, 46003, Request, 0},                          // no such thing
	{46004, 46004, Recipient, 0},                        // no such user
	{46101, 46101, Request, 0},                          // old subscription API
	{47001, 47003, Request, 0},                          // JSON, template arguments
	{48001, 48001, Account, 0},                          // api unauthorized
	{48002, 48002, Recipient, 0},                        // user has messages off
	{48003, 48004, Account, 0},                          // agreement, api forbidden
	{48005, 48006, Request, 0},                          // material in use; no clear_quota left
	{48008, 48009, Account, 0},                          // no permission; API expired
	{48010, 48011, Request, 0},                          // material; disabled template
	{48012, 48012, TokenRefresh, 0},                     // invalid token
	{48013, 48014, Request, 0},                          // video
	{48021, 48022, Request, 0},                          // draft, video
	{49001, 49001, Account, 0},                          // appid of the token
	{49003, 49003, Recipient, 0},                        // foreign openid
	{50001, 50001, Account, 0},                          // not authorised
	{50002, 50002, Recipient, 0},                        // two readings; several in a row mean the account
	{50003, 50004, Account, 0},                          // punished
	{50005, 50005, Recipient, 0},                        // unsubscribed
	{53500, 53500, Account, 0},                          // publish banned
	{53501, 53501, Wait, time.Minute},                   // publish too frequent
	{53502, 53502, Request, 0},                          // publish id
	{53600, 53600, Request, 0},                          // article id
	{61003, 61004, Account, 0},                          // component: authorisation, IP
	{61005, 61006, Backoff, 10 * time.Minute},           // component ticket: comes every 10 minutes
	{61007, 61007, Account, 0},                          // component: API
	{61014, 61015, Request, 0},                          // wrong kind of token
	{61023, 61023, Account, 0},                          // component: refresh token
	{61450, 61450, Backoff, 0},                          // customer-service system
	{61451, 61457, Request, 0},                          // customer-service accounts
	{61500, 61501, Request, 0},                          // datacube dates
	{61503, 61503, Backoff, time.Hour},                  // datacube not ready
	{62751, 62751, Recipient, 0},                        // blacklist
	{65301, 65317, Request, 0},                          // conditional menu
	{65400, 65400, Account, 0},                          // customer service not enabled
	{65401, 65417, Request, 0},                          // customer-service sessions and records
	{70000, 70000, Recipient, 0},                        // minors
	{76001, 76004, Request, 0},                          // rid
	{76021, 76022, Request, 0},                          // quota: cgi_path
	{87009, 87009, Request, 0},                          // signature
	{87014, 87014, Request, 0},                          // risky content
	{88000, 88010, Request, 0},                          // comments
	{89501, 89503, Account, 5 * time.Minute},            // the administrator must confirm
	{89504, 89505, Wait, 30 * time.Minute},              // the administrator is asked
	{89506, 89506, Account, 24 * time.Hour},             // the administrator refused this IP
	{89507, 89507, Account, time.Hour},                  // the administrator refused this IP
	{200011, 200011, Account, 0},                        // account banned
	{200012, 200022, Request, 0},                        // subscription templates
	{9001001, 9001036, Request, 0},                      // devices
	{9500001, 9500002, Request, 0},                      // mass delete, mass send
	{268487001, 268487002, Backoff, 0},                  // platform busy
	{268488001, 268488001, Backoff, 0},                  // sendall, without text
}

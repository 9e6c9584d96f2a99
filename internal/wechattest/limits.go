package wechattest

// The paths of the APIs.
const (
	PathToken        = "/cgi-bin/token"
	PathStableToken  = "/cgi-bin/stable_token"
	PathTemplate     = "/cgi-bin/message/template/send"
	PathTemplates    = "/cgi-bin/template/get_all_private_template"
	PathSubscribe    = "/cgi-bin/message/subscribe/bizsend"
	PathCustom       = "/cgi-bin/message/custom/send"
	PathTyping       = "/cgi-bin/message/custom/typing"
	PathMassSend     = "/cgi-bin/message/mass/send"
	PathMassSendAll  = "/cgi-bin/message/mass/sendall"
	PathMassPreview  = "/cgi-bin/message/mass/preview"
	PathMassDelete   = "/cgi-bin/message/mass/delete"
	PathMassGet      = "/cgi-bin/message/mass/get"
	PathMassSpeed    = "/cgi-bin/message/mass/speed/get"
	PathMassSetSpeed = "/cgi-bin/message/mass/speed/set"
	PathMediaUpload  = "/cgi-bin/media/upload"
	PathQuota        = "/cgi-bin/openapi/quota/get"
	PathClearQuota   = "/cgi-bin/clear_quota"
	PathRID          = "/cgi-bin/openapi/rid/get"
	PathUsers        = "/cgi-bin/user/get"
	PathTagUsers     = "/cgi-bin/user/tag/get"
	PathTags         = "/cgi-bin/tags/get"
	PathDomainIP     = "/cgi-bin/get_api_domain_ip"
	PathCallbackIP   = "/cgi-bin/getcallbackip"
)

// DefaultLimits are the limits of a new account (/doc/service/guide/dev/api/limit.html; template: the
// template guide; 60 mass requests a minute: the 群发 guide; stable_token: its page). WeChat publishes no
// short-term limit of the other APIs, so there is none.
func DefaultLimits(t Type) map[string]Limit {
	if t == Test {
		return map[string]Limit{
			PathToken:       {PerDay: 200},
			PathStableToken: {PerDay: 500_000, PerMinute: 10_000},
			PathTemplate:    {PerDay: 100_000},
			PathSubscribe:   {PerDay: 100_000},
			PathCustom:      {PerDay: 50_000},
			PathMassSend:    {PerDay: 100, PerMinute: 60},
			PathMediaUpload: {PerDay: 500},
			PathUsers:       {PerDay: 100},
		}
	}
	return map[string]Limit{
		PathToken:       {PerDay: 2000},
		PathStableToken: {PerDay: 500_000, PerMinute: 10_000},
		PathTemplate:    {PerDay: 100_000},
		PathSubscribe:   {PerDay: 100_000},
		PathCustom:      {PerDay: 500_000},
		PathMassSend:    {PerDay: 100, PerMinute: 60},
		PathMassDelete:  {PerDay: 10},
		PathMediaUpload: {PerDay: 100_000},
		PathUsers:       {PerDay: 500},
	}
}

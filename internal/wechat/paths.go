package wechat

import "github.com/hongyan-dispatch/hongyan/message"

// The paths of the calls. They are also the names of the APIs in errors, gates and quotas.
const (
	PathToken        = "/cgi-bin/token"
	PathStableToken  = "/cgi-bin/stable_token"
	PathTemplate     = "/cgi-bin/message/template/send"
	PathSubscribe    = "/cgi-bin/message/subscribe/bizsend"
	PathCustom       = "/cgi-bin/message/custom/send"
	PathMassSend     = "/cgi-bin/message/mass/send"    // to a list of openids
	PathMassSendAll  = "/cgi-bin/message/mass/sendall" // to a tag, or to all
	PathMassPreview  = "/cgi-bin/message/mass/preview"
	PathMassDelete   = "/cgi-bin/message/mass/delete"
	PathMassGet      = "/cgi-bin/message/mass/get"
	PathMassSpeedGet = "/cgi-bin/message/mass/speed/get"
	PathMassSpeedSet = "/cgi-bin/message/mass/speed/set"
	PathMediaUpload  = "/cgi-bin/media/upload"
	PathQuotaGet     = "/cgi-bin/openapi/quota/get"
	PathTemplates    = "/cgi-bin/template/get_all_private_template"
	PathUsers        = "/cgi-bin/user/get"
	PathTagUsers     = "/cgi-bin/user/tag/get"
)

// PathOf is the API whose quota and gate the messages of a kind share. WeChat counts the two calls of
// kind mass as one (高级群发接口, 100 a day: /doc/service/guide/dev/api/limit.html); of the two, sendall
// names it, because every kind of account may call that one. It panics for a kind that is none.
func PathOf(k message.Kind) string {
	switch k {
	case message.Template:
		return PathTemplate
	case message.Subscribe:
		return PathSubscribe
	case message.Custom:
		return PathCustom
	case message.Mass:
		return PathMassSendAll
	}
	panic("wechat: no API for kind " + string(k))
}

// isMass says whether the API takes a clientmsgid and may keep a job for the administrator.
func isMass(api string) bool { return api == PathMassSend || api == PathMassSendAll }

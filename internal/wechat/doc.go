// Package wechat is a thin client of WeChat's Official Account API (公众号/服务号). It makes one HTTP
// request per call, never repeats one by itself, and says of each send which of three things happened:
// it surely did not leave ([NotSent]), WeChat took it ([Sent]), or nobody can know ([Ambiguous]).
//
// What WeChat's error codes mean for us stands in one table, disposition.go. Access tokens and secrets
// are of type [Secret]; the token meets the URL only inside the [Transport], so that no error, log or
// trace above it can hold one.
//
// Facts about the platform were read on 2026-11-22; each call names its page on
// developers.weixin.qq.com. All calls go to Config.BaseURL, carry the access token in the query string,
// and are answered with status 200 and a JSON object whose errcode decides.
package wechat

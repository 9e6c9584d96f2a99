// Package token keeps one access token per account, shared by all pods and refreshed by one of them.
//
// WeChat's rule (developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken and
// …/api_getaccesstoken, read 2026-11-22):
//
//	call          answer                                                  limits
//	stable_token  the same token until 5 minutes before its end; then     10,000 a minute, 500,000 a day
//	              a new one, while both work
//	  by force    a new token; the old one dies at once                   20 a day, 30 s apart
//	token         a new token; the old one works for 5 minutes more       2,000 a day
//
// Pods that ask stable_token cannot take each other's token away; that is why it is the default, and why a
// lost lock does no harm. The fence (a generation per token, checked in the same step as the write) matters for
// the older call, and is kept for both.
//
// # Storage
//
// Per account and appsecret: the token, sealed under a key derived from the appsecret, with its
// generation; a lock of 10 s; WeChat's last refusal; a count of forced refreshes. All keys expire. Times are
// counted by Redis: a pod's clock measures only how long something took.
//
// Most calls of [Source.Token] read memory alone: Redis is asked once a second per account.
package token

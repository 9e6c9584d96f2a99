// Package ratelimit keeps an account's calls inside WeChat's API quotas, over any number of pods: so many
// calls a day, so many a moment, urgent messages first.
//
// WeChat's rule (read 2026-11-22):
//
//	limit        answer beyond it  how much                      page, developers.weixin.qq.com/doc/service/guide/dev/api/
//	a day        45009             by API: template 100,000,     API_Call_Limits (counters are "generally within 1 %")
//	                               custom 500,000, mass 100, …
//	a minute     45011             unpublished; rate_limit of    the same, and openapi/quota/get
//	                               openapi/quota/get shows it
//
// The one fact a newcomer needs: a call needs two things, a day token and a pace slot, and both are given out
// by one Lua call per block of messages. A day token is a right to one call on one Beijing day; those that a
// pod holds are leased to it and count against the limit until they are spent or given back (ledger.go). A
// slot is an instant: the call goes out at it or at most [slotLate] after it, never before (gcra.go).
// [Quota.Take] gives both to whoever waits in the most urgent lane, at the instant of the slot.
//
// The Lua scripts decide; gcra.go and ledger.go are the same rules in Go, the reference they are tested
// against.
package ratelimit

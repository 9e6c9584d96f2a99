// Package window answers: may this user be answered now, and how often? WeChat lets an account send
// customer-service messages (客服消息) only after the user did something, a few per action and for a short time.
//
// # WeChat's rule
//
// developers.weixin.qq.com/doc/service/guide/product/kf/intro.html and
// developers.weixin.qq.com/doc/service/api/customer/message/api_sendcustommessage, read 2026-11-22:
//
//	user's action                                          answers  valid for  trigger
//	sends a message 用户发送消息                                 5   48 hours   message
//	clicks a menu 点击自定义菜单 (click, scancode_push,           3   1 minute   menu
//	  scancode_waitmsg), or an item of a msgmenu
//	follows 关注                                                 3   1 minute   follow
//	scans a QR code 扫描二维码                                   3   1 minute   scan
//	pays 支付成功: the pages disagree, disabled by default        –   –          pay
//	unsubscribes                                                 closes everything
//
// A menu click is no message and does not open the 48 hours. Following by a QR code is one action, with 3
// answers and not 6: it is reported as follow alone. Too many answers are refused with 45047, late ones
// and those to users who left with 45015.
//
// # Our rule
//
// WeChat says nothing about how the allowances of several actions combine for Official Accounts (for mini programs it
// says that they do not add up). We let them stand side by side; where WeChat counts less it answers 45047, which costs
// one call, whereas counting too little would lose answers that it allows.
//
//	what                   counts
//	an action's allowance  from the action's CreateTime, less a margin (60 s of 48 h, 10 s of 1 min) at its end
//	the same action again  resets its allowance, never adds to it; an older one changes nothing
//	several actions        each has its own allowance; an answer may go while any has room
//	an answer              takes from the allowance that expires first: at each look it is charged to the first to
//	                       expire of those that were open when it went and had room. So an action that we hear
//	                       of late is charged with its answers. One whose action's place was taken by a later
//	                       action of the kind is never charged to a longer allowance: five menu clicks
//	                       with an answer each leave all 5 answers of the message before them
//	45015, 45047           no action up to then, and 2 s more for clocks that differ, opens anything: one call, no loop
//	unsubscribe            no action up to then opens anything
//	a slot                 is held for 120 s and lapses by itself unless confirmed; only what WeChat took,
//	                       or may have taken, is confirmed
//
// The record of a user is the latest time of each action, of unsubscribing and of each refusal, and the set of
// our answers. Order and repetition do not matter to a maximum and a union, so events may come twice, late and
// in any order. For the same reason a lost Redis is rebuilt user by user: [Verdict].Lost says that it is needed, and
// [Ledger.Restore] adds each last action and, once, the answers sent since.
//
// # Storage
//
// One Redis hash per user, hongyan:window:{appid}:<hash of the openid>, that lives as long as the longest allowance
// since its last action. A user costs 210 bytes of Redis' memory after an action, 370 with five answers besides
// (Redis 7.0, all overhead included). The rule is plain Go (record.go); the scripts do the same inside Redis, where it
// must be one step, and are tested against it.
package window

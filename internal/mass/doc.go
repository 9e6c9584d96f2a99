// Package mass holds the rules of mass sends (群发): how often an account and a user may get one, by Beijing's calendar,
// and how a long list of users is cut. Pure rules: the counts live in Postgres, where reserving them and claiming the
// message are one transaction.
//
// # WeChat's rule
//
// developers.weixin.qq.com/doc/service/guide/product/message/Batch_Sends.html and
// developers.weixin.qq.com/doc/service/api/notify/message/api_masssend, read 2026-11-22:
//
//	account                     cap                                                          beyond it
//	订阅号 subscription account   1 call per day, to everyone or to one tag                     45028
//	服务号 service account        a user receives 4 per calendar month (自然月), from API and    that user gets nothing,
//	                              console together                                              no error is told
//	                              1 per day and 4 per month to everyone                          45028
//	both                        a list has 2 to 10,000 users; only 服务号 send to lists          40130
//	                              100 calls per day, 60 per minute (package ratelimit)           45009, 45011
//
// The pages name no time zone; all that is known points to Beijing.
//
// # Our rule
//
// The day and the month of a send are those of the moment its cap is reserved; they stand with the reservation, and a
// refund uses them and never the clock. Near midnight, where our day and WeChat's may differ, a send waits
// ([NearBoundary]). The sends to everyone of a month count for each user. A list leaves out the users at their cap
// ([Verdict.Room]); with fewer than [MinList] left there is no call. Who has a tag we do not know: a send to a tag is
// refused once everyone who has it must be at the cap, and does not count for the users of lists.
//
// Users are counted by [Hash], not by openid: at 10 million users two share a count with odds of 3 in a million.
package mass

// Package wechattest simulates the WeChat Official Account API: an [http.Handler] with its own clock
// that tests, the demo, benchmarks and fault runs use in WeChat's place.
//
// It is a witness. Every send that it accepts it writes into a log before it decides whether to answer,
// to garble or to drop, and it counts every arrival by itself. It is written from the platform's
// documentation only and imports nothing of Hongyan, so that an agreement of the two means something.
//
// The order in which a call is judged is the list named order (order.go): path, method, token, address,
// permission, short-term quota, the day's quota, injected fault, body; then, by endpoint, recipient,
// content, and the endpoint's own rules. The documentation gives the codes but not their order where a
// call is wrong in two ways; this order is ours.
//
// | rule                         | default                               | page (developers.weixin.qq.com, read 2026-11-22) |
// |------------------------------|---------------------------------------|--------------------------------------------------|
// | stable token                 | 7200 s, renewed in the last 5 minutes | /doc/service/api/base/api_getstableaccesstoken   |
// | legacy token                 | old one lives on for 5 minutes        | /doc/service/api/base/api_getaccesstoken         |
// | template messages            | 100,000 a day                         | /doc/service/api/notify/template/                |
// | client_msg_id                | one message in 10 minutes             | /doc/service/api/notify/template/                |
// | customer-service window      | message 5/48 h; menu, follow, scan 3/1 min | /doc/service/api/customer/message/          |
// | mass send                    | 订阅号 1 a day; 服务号 4 a month to a user | /doc/service/guide/product/message/Batch_Sends.html |
// | callbacks                    | 3 tries of 5 s, signed, encrypted     | /doc/service/guide/dev/push/                     |
// | receipts                     | one for each template, notice and mass send | as above                                    |
// | daily quotas                 | per API, Beijing day                  | /doc/service/guide/dev/api/limit.html            |
//
// Where the platform's behaviour is unknown, a field of [Settings] selects it.
package wechattest

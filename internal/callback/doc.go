// Package callback understands what WeChat pushes to the account's server: messages of users, events, and
// receipts. It is the pure half of the door: it is given a request's query and body and says what they mean; it
// serves no HTTP and keeps nothing.
//
// # WeChat's rule
//
// developers.weixin.qq.com/doc/oplatform/developers/dev/push/ and
// developers.weixin.qq.com/doc/service/guide/product/message/Receiving_standard_messages.html, read 2026-11-22:
//
//	signature      sha1 of token, timestamp and nonce, sorted and joined: says nothing about the body
//	msg_signature  the same with the encrypted body as fourth part
//	mode           body                                       what we take from it
//	plain 明文       plain nodes                                the nodes: whoever once saw a valid URL can forge them
//	compatible 兼容  plain nodes and Encrypt                    Encrypt where there is one, else the nodes
//	encrypted 安全   ToUserName and Encrypt                     Encrypt, or a refusal
//	answer         within 5 seconds, else the push is repeated, three times in all
//
// The one fact a newcomer needs: only [Delivery.Sealed] pushes are surely WeChat's. [Door.Open] turns a request into
// a [Delivery], [Push.Meaning] says what it changes, [Delivery.Answer] writes a reply in the request's own form.
//
// What a push means is keyed and timed ([Meaning].Key, [Meaning].At), so that pushes may come twice, late and in any
// order: whoever keeps the latest of each kind ends with the same state.
package callback

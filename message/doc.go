// Package message says what is sent, to whom and for which account: the words that every other
// room of Hongyan shares. It does no I/O and knows no queue, store or clock.
//
// A [Message] is one JSON object in the house's format: the envelope (account, kind, to, key, lane,
// times, labels) is ours; the object under the kind's name is WeChat's own JSON for that call, without
// touser. [Parse] reads it strictly, [Message.Defaults] fills in what was left open, and [Message.Validate]
// refuses at the producer's door what WeChat would refuse a minute later, every finding at once. Where
// WeChat's documentation leaves a doubt, the message passes: WeChat's own answer is the last word.
package message

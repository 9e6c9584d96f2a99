// Package webhook tells producers what became of their messages: a signed POST for each outcome and each receipt, by the
// standard of standardwebhooks.com, with the headers
//
//	webhook-id         the same in every try: whoever has seen it has seen the event
//	webhook-timestamp  of this try, in seconds
//	webhook-signature  v1, and HMAC-SHA256 of id.timestamp.body under the endpoint's secret, in base64
//
// The one fact to know: an event is told at least once, and events may come in any order. What fails is tried again for a
// day, more and more seldom; an endpoint that took nothing for a day is disabled, with the reason, until a person enables
// it. Each account's endpoint has a line of its own: a slow one holds up no other.
package webhook

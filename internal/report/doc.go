// Package report says to people, whether they ask by command or over HTTP, how things stand: what became of a message
// and why, what holds it, how an account's quotas and gates are. It reads, and changes nothing but the gates that it is
// told to open.
package report

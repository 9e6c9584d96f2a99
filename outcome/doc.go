// Package outcome says what became of a message: a status, a reason from a closed list, and WeChat's own
// words where WeChat spoke. Plain data, no I/O.
package outcome

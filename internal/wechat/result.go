package wechat

import "time"

// A Class says whether a send reached WeChat. The whole promise of "no duplicates" hangs on it.
type Class byte

// The three classes. The zero Class is the careful one.
const (
	Ambiguous Class = iota // a connection was had and no whole answer came back: nobody can know
	NotSent                // surely not sent: no connection was had, or WeChat refused
	Sent                   // WeChat took it, now or by an earlier attempt
)

// String names the class.
func (c Class) String() string {
	switch c {
	case NotSent:
		return "not sent"
	case Sent:
		return "sent"
	default:
		return "ambiguous"
	}
}

// A Result is what came of one send. Decide by Class, not by Err: a mass send that WeChat already had
// (45065) or that waits for the administrator (89504, 89505) is Sent and keeps its [*Error].
type Result struct {
	Class     Class
	Err       error // nil for errcode 0; [*Error], or a transport error without a URL
	MsgID     int64 // msgid of a template message, msg_id of a mass send; 0 if WeChat gave none
	DataID    int64 // msg_data_id of a mass send of articles
	Connected bool  // a connection was had: the call may have counted towards the quota
	Elapsed   time.Duration
	Date      time.Time // WeChat's clock, to the second; zero if there was no answer
}

// Error is WeChat's refusal, nil if it did not answer with an errcode.
func (r Result) Error() *Error {
	e, _ := r.Err.(*Error) //nolint:errorlint // set here, never wrapped
	return e
}

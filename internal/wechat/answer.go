package wechat

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// An answer is what every reply of WeChat may hold beside its own fields.
type answer struct {
	Code    integer `json:"errcode"` // missing in many good replies: 0
	Msg     string  `json:"errmsg"`
	MsgID   integer `json:"msgid"`  // of a template message
	JobID   integer `json:"msg_id"` // of a mass send
	DataID  integer `json:"msg_data_id"`
	spoken  bool    // it held one of these fields at all
	hasCode bool
}

var errNoAnswer = errors.New("the answer is not WeChat's JSON")

// parseAnswer reads a whole answer. Most are flat, of these five fields and without escapes, and are
// read in one pass without reflection; anything else is left to encoding/json.
func parseAnswer(body []byte) (answer, error) {
	if a, ok := parseFlat(body); ok {
		return a, nil
	}
	var a answer
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return answer{}, errNoAnswer
	}
	for name, to := range map[string]any{
		"errcode": &a.Code, "errmsg": &a.Msg, "msgid": &a.MsgID, "msg_id": &a.JobID, "msg_data_id": &a.DataID,
	} {
		value, ok := fields[name]
		if !ok || string(value) == "null" {
			continue
		}
		if err := json.Unmarshal(value, to); err != nil {
			return answer{}, fmt.Errorf("%s: %w", name, errNoAnswer)
		}
		a.spoken = true
		a.hasCode = a.hasCode || name == "errcode"
	}
	return a, nil
}

// parseFlat reads {"name":value,…} of our five fields; ok is false for anything it does not know.
func parseFlat(b []byte) (a answer, ok bool) {
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return a, false
	}
	for i++; ; i++ {
		var name, value []byte
		if name, i, ok = plainString(b, space(b, i)); !ok {
			return a, false
		}
		if i = space(b, i); i >= len(b) || b[i] != ':' {
			return a, false
		}
		if value, i, ok = scalar(b, space(b, i+1)); !ok || !a.set(name, value) {
			return a, false
		}
		if i = space(b, i); i >= len(b) || b[i] != ',' {
			break
		}
	}
	return a, i < len(b) && b[i] == '}' && space(b, i+1) == len(b)
}

func (a *answer) set(name, value []byte) bool {
	var to *integer
	switch string(name) {
	case "errmsg":
		if len(value) < 2 || value[0] != '"' {
			return false
		}
		a.Msg, a.spoken = string(value[1:len(value)-1]), true
		return true
	case "errcode":
		to, a.hasCode = &a.Code, true
	case "msgid":
		to = &a.MsgID
	case "msg_id":
		to = &a.JobID
	case "msg_data_id":
		to = &a.DataID
	default:
		return false
	}
	a.spoken = true
	return to.parse(value)
}

// scalar reads an integer, or a string with its quotes.
func scalar(b []byte, i int) (value []byte, next int, ok bool) {
	if i < len(b) && b[i] == '"' {
		_, next, ok = plainString(b, i)
		return b[i:next], next, ok
	}
	start := i
	for i < len(b) && (b[i] == '-' || '0' <= b[i] && b[i] <= '9') {
		i++
	}
	return b[start:i], i, i > start
}

// plainString reads a string that needs no unquoting: printable ASCII without escapes.
func plainString(b []byte, i int) (s []byte, next int, ok bool) {
	if i >= len(b) || b[i] != '"' {
		return nil, i, false
	}
	start := i + 1
	for i = start; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return b[start:i], i + 1, true
		case c < ' ' || c == '\\' || c >= 0x7f:
			return nil, i, false
		}
	}
	return nil, i, false
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// An integer is a JSON number, or a string of digits: WeChat writes its ids both ways. They pass 2^53,
// so that a float64 would not hold them.
type integer int64

// UnmarshalJSON reads 12 or "12"; null is 0.
func (n *integer) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = 0
		return nil
	}
	if !n.parse(b) {
		return fmt.Errorf("%q is no integer", b)
	}
	return nil
}

func (n *integer) parse(b []byte) bool {
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		b = b[1 : len(b)-1]
	} else if d := digits(b); len(d) > 1 && d[0] == '0' {
		return false // 01 is not JSON
	}
	v, err := strconv.ParseInt(string(b), 10, 64)
	*n = integer(v)
	return err == nil && b[0] != '+'
}

func digits(b []byte) []byte {
	if len(b) > 0 && b[0] == '-' {
		return b[1:]
	}
	return b
}

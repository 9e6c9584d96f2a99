package campaign

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	"github.com/rivo/uniseg"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Texts of a campaign are Go templates with columns and the functions of this file, and without loops, variables and
// templates of templates: each says something in bounded time. The value stands last, so that functions may be joined:
// {{.name | trim | default "朋友" | truncate 20}}.
//
//	{{.name}}                      the column's value
//	{{column "order no"}}          likewise, where the name is none that may stand behind a dot
//	{{default "朋友" .name}}       the value, or this text where it is empty or white space
//	{{truncate 20 .name}}          at most so many characters, as WeChat counts them; what is cut off becomes …
//	{{trim .name}}                 without white space around it
//	{{upper .code}} {{lower .code}}
//	{{replace "-" "" .code}}       each of the one by the other
//	{{date "yyyy年MM月dd日 HH:mm" .at}}  a time such as 2026-11-22, 2026-11-22 15:01, RFC 3339, or seconds since 1970
//	{{money .price}}               a number with two decimals: 1234.5 is 1234.50
//	{{fen .price}}                 likewise of hundredths: 3980 is 39.80
//	{{if eq .level "gold" "diamond"}}…{{else if gt .points 100}}…{{else}}…{{end}}
//	                               an empty value is false; eq and ne compare as text, gt ge lt le as numbers;
//	                               and, or, not
type functions struct {
	loc  *time.Location
	list map[string]function
}

// A function is what a template may call.
type function struct {
	call any
	args []shape // the last one may come any number of times, where more is set
	more bool
	says shape
}

// A shape is what an expression is, before any value is known.
type shape int

const (
	anything shape = iota // a text, a number or true or false
	words                 // a text
	number                // a number that is written down
	layout                // how a date is written; written down
)

func newFunctions(timezone string) functions {
	f := functions{loc: zoneOf(timezone)}
	f.list = map[string]function{
		"column":   {args: []shape{words}, says: words},
		"default":  {call: orElse, args: []shape{words, words}, says: words},
		"truncate": {call: truncate, args: []shape{number, words}, says: words},
		"trim":     {call: strings.TrimSpace, args: []shape{words}, says: words},
		"upper":    {call: strings.ToUpper, args: []shape{words}, says: words},
		"lower":    {call: strings.ToLower, args: []shape{words}, says: words},
		"replace":  {call: replace, args: []shape{words, words, words}, says: words},
		"date":     {call: f.date, args: []shape{layout, words}, says: words},
		"money":    {call: money, args: []shape{words}, says: words},
		"fen":      {call: fen, args: []shape{words}, says: words},
		"eq":       {call: same, args: []shape{anything, anything}, more: true},
		"ne":       {call: func(a, b any) bool { return textOf(a) != textOf(b) }, args: []shape{anything, anything}},
		"gt":       {call: compare(func(n int) bool { return n > 0 }), args: []shape{anything, anything}},
		"ge":       {call: compare(func(n int) bool { return n >= 0 }), args: []shape{anything, anything}},
		"lt":       {call: compare(func(n int) bool { return n < 0 }), args: []shape{anything, anything}},
		"le":       {call: compare(func(n int) bool { return n <= 0 }), args: []shape{anything, anything}},
		"and":      {args: []shape{anything}, more: true}, // these are the template's own
		"or":       {args: []shape{anything}, more: true},
		"not":      {args: []shape{anything}},
	}
	return f
}

// names are those that the parser may know.
func (f functions) names() map[string]any {
	known := map[string]any{}
	for name := range f.list {
		known[name] = true
	}
	return known
}

// calls are those that the template gets from us.
func (f functions) calls() template.FuncMap {
	calls := template.FuncMap{}
	for name, fn := range f.list {
		if fn.call != nil {
			calls[name] = fn.call
		}
	}
	return calls
}

// A valueError says that a value cannot be what a function wants; it does not repeat the value.
type valueError string

func (e valueError) Error() string { return string(e) }

func orElse(otherwise, value string) string {
	if strings.TrimSpace(value) == "" {
		return otherwise
	}
	return value
}

// truncate cuts between what a reader takes for characters, whose parts WeChat counts.
func truncate(limit int, text string) string {
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	kept, room := 0, limit-1
	state := -1
	for rest := text; rest != ""; {
		var cluster string
		cluster, rest, _, state = uniseg.FirstGraphemeClusterInString(rest, state)
		if room -= utf8.RuneCountInString(cluster); room < 0 {
			break
		}
		kept += len(cluster)
	}
	return text[:kept] + "…"
}

func replace(from, to, text string) (string, error) {
	if from == "" {
		return text, nil
	}
	if len(text)+strings.Count(text, from)*(len(to)-len(from)) > message.MaxBytes {
		return "", errTooLong
	}
	return strings.ReplaceAll(text, from, to), nil
}

var errTooLong = valueError(fmt.Sprintf("more than a message may hold, which is %d KiB", message.MaxBytes>>10))

// layouts turns what operators write into Go's way.
var layouts = strings.NewReplacer("yyyy", "2006", "MM", "01", "dd", "02", "HH", "15", "mm", "04", "ss", "05", "M", "1", "d", "2")

// checkLayout makes sure that a layout says something, and nothing that Go alone understands.
func checkLayout(text string) error {
	if strings.ContainsAny(text, "0123456789") || layouts.Replace(text) == text {
		return fmt.Errorf(`date: want a layout of yyyy MM dd HH mm ss, such as "yyyy年MM月dd日"`)
	}
	return nil
}

// forms are the ways in which a time may be written, without a zone.
var forms = []string{
	time.DateOnly, "2006-01-02 15:04", time.DateTime, "2006-01-02T15:04:05", "2006/1/2", "2006/1/2 15:04", "2006/1/2 15:04:05",
	"20060102", "2006年1月2日", "2006年1月2日 15:04",
}

func (f functions) date(layout, text string) (string, error) {
	text = strings.TrimSpace(text)
	t, err := time.Parse(time.RFC3339, text)
	for _, form := range forms {
		if err == nil {
			break
		}
		t, err = time.ParseInLocation(form, text, f.loc)
	}
	if err != nil && len(text) >= 9 && len(text) <= 11 {
		var seconds int64
		if _, failed := fmt.Sscanf(text, "%d\n", &seconds); failed == nil {
			t, err = time.Unix(seconds, 0), nil
		}
	}
	if err != nil {
		return "", valueError("date: the value is none; want one such as 2026-11-22, 2026-11-22 15:01 or 2026-11-22T15:01:00+08:00")
	}
	return t.In(f.loc).Format(layouts.Replace(layout)), nil
}

func money(text string) (string, error) { return decimals("money", text, 1) }
func fen(text string) (string, error)   { return decimals("fen", text, 100) }

func decimals(name, text string, parts int64) (string, error) {
	n, err := numberOf(strings.TrimSpace(text))
	if err != nil {
		return "", valueError(name + ": the value is no number such as 1234.5")
	}
	return n.Quo(n, big.NewRat(parts, 1)).FloatString(2), nil
}

// maxDigits bounds a number that is reckoned with.
const maxDigits = 32

var errNumber = errors.New("no number")

// numberOf reads digits, with a sign and decimals or not.
func numberOf(text string) (*big.Rat, error) {
	digits := strings.TrimPrefix(text, "-")
	whole, decimals, point := strings.Cut(digits, ".")
	if len(digits) > maxDigits || !allDigits(whole) || point && !allDigits(decimals) {
		return nil, errNumber
	}
	n, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, errNumber
	}
	return n, nil
}

func allDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

func same(a any, b ...any) bool {
	for _, other := range b {
		if textOf(a) == textOf(other) {
			return true
		}
	}
	return false
}

func textOf(v any) string { return fmt.Sprint(v) }

// compare compares as numbers.
func compare(is func(int) bool) any {
	return func(a, b any) (bool, error) {
		x, errX := numberOf(strings.TrimSpace(textOf(a)))
		y, errY := numberOf(strings.TrimSpace(textOf(b)))
		if cmp.Or(errX, errY) != nil {
			return false, valueError("a comparison wants numbers such as 100 or 39.80")
		}
		return is(x.Cmp(y)), nil
	}
}

// fits says whether n arguments are a function's.
func (fn function) fits(n int) bool { return n == len(fn.args) || fn.more && n > len(fn.args) }

// arg is what argument i must be.
func (fn function) arg(i int) shape { return fn.args[min(i, len(fn.args)-1)] }

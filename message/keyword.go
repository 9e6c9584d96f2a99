package message

import (
	"bytes"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"
)

// A valueRule judges what is written into a keyword: the broken rule, and what was there instead.
type valueRule func(value []byte) (broken, got string)

// keywordRule finds the rule of a category template's keyword (类目模板), which its prefix tells: thing1, amount2.
// Keywords of the old industry templates (first, keyword1, remark) have none.
//
//	thing             at most 20 characters
//	number            at most 32 digits, decimals allowed
//	letter            at most 32 characters
//	symbol            at most 5 characters
//	character_string  at most 32 characters, no Chinese
//	time              24-hour clock, with a date or not, or two joined by ~
//	date              year, month, day, with a clock or not, or two joined by ~
//	amount            at most one currency sign, 10 digits, decimals, 元
//	phone_number      at most 17 characters
//	car_number        at most 8 characters
//	name              at most 10 Chinese characters or 20 letters
//	phrase            at most 5 characters
//	const             one of a list that the template fixes; not known here
//
// Where the table leaves a doubt we let the value pass: WeChat's own answer (47003) has the last word.
// https://developers.weixin.qq.com/doc/service/api/notify/template/api_sendtemplatemessage.md (read 2026-11-22)
func keywordRule(key []byte) valueRule {
	prefix := key
	for len(prefix) > 0 && isDigit(prefix[len(prefix)-1]) {
		prefix = prefix[:len(prefix)-1]
	}
	if len(prefix) == len(key) {
		return nil
	}
	switch string(prefix) {
	case "thing":
		return atMost20
	case "number":
		return validNumber
	case "letter":
		return atMost32
	case "symbol", "phrase":
		return atMost5
	case "character_string":
		return validCharacterString
	case "time":
		return validTime
	case "date":
		return validDate
	case "amount":
		return validAmount
	case "phone_number":
		return atMost17
	case "car_number":
		return atMost8
	case "name":
		return validName
	case "const":
		return func([]byte) (broken, got string) { return "", "" }
	}
	return nil
}

func atMost(limit int, value []byte) (broken, got string) {
	if len(value) <= limit { // bytes, so fewer characters
		return "", ""
	}
	if n := characters(value); n > limit {
		return fmt.Sprintf("at most %d characters", limit), fmt.Sprint(n)
	}
	return "", ""
}

func atMost5(value []byte) (broken, got string)  { return atMost(5, value) }
func atMost8(value []byte) (broken, got string)  { return atMost(8, value) }
func atMost17(value []byte) (broken, got string) { return atMost(17, value) }
func atMost20(value []byte) (broken, got string) { return atMost(20, value) }
func atMost32(value []byte) (broken, got string) { return atMost(32, value) }

func validNumber(value []byte) (broken, got string) {
	whole, decimals, ok := decimal(bytes.TrimPrefix(value, []byte("-")))
	switch {
	case !ok:
		return "want digits, with decimals or not", ""
	case whole+decimals > 32:
		return "at most 32 digits", fmt.Sprint(whole + decimals)
	}
	return "", ""
}

// decimal counts the digits of a number such as 39 or 39.80.
func decimal(text []byte) (whole, decimals int, ok bool) {
	head, tail, point := bytes.Cut(text, []byte("."))
	if !allDigits(head) || (point && !allDigits(tail)) {
		return 0, 0, false
	}
	return len(head), len(tail), true
}

func allDigits(text []byte) bool {
	for _, c := range text {
		if !isDigit(c) {
			return false
		}
	}
	return len(text) > 0
}

func validCharacterString(value []byte) (broken, got string) {
	if hasChinese(value) {
		return "no Chinese characters", ""
	}
	return atMost32(value)
}

func hasChinese(text []byte) bool { return bytes.ContainsFunc(text, isChinese) }

func isChinese(r rune) bool { return r >= utf8.RuneSelf && unicode.Is(unicode.Han, r) }

// validName counts a Chinese character as two letters, which holds for pure names of both kinds and is
// mild with mixed ones.
func validName(value []byte) (broken, got string) {
	width := 0
	for _, r := range string(value) {
		width++
		if isChinese(r) {
			width++
		}
	}
	if width > 20 {
		return "at most 10 Chinese characters or 20 letters", fmt.Sprint(characters(value))
	}
	return "", ""
}

func validAmount(value []byte) (broken, got string) {
	rest := bytes.TrimSuffix(value, []byte("元"))
	if sign, n := utf8.DecodeRune(rest); unicode.Is(unicode.Sc, sign) {
		rest = rest[n:]
	}
	whole, _, ok := decimal(rest)
	switch {
	case !ok:
		return "want an amount such as 39.80, ¥39.80 or 39.80元", ""
	case whole > 10:
		return "at most 10 digits", fmt.Sprint(whole)
	}
	return "", ""
}

func validTime(value []byte) (broken, got string) {
	if !eachOfRange(value, isTime) {
		return "want a 24-hour time such as 15:01 or 2026-11-22 15:01, or two joined by ~", ""
	}
	return "", ""
}

func validDate(value []byte) (broken, got string) {
	if !eachOfRange(value, isDate) {
		return "want a date such as 2026-11-22 or 2026年11月22日, or two joined by ~", ""
	}
	return "", ""
}

// eachOfRange judges one point of time, or the two of a range; the second may be a clock alone.
func eachOfRange(value []byte, is func([]byte) bool) bool {
	from, to, isRange := bytes.Cut(value, []byte("~"))
	if !is(bytes.TrimSpace(from)) {
		return false
	}
	to = bytes.TrimSpace(to)
	return !isRange || is(to) || isClock(to)
}

// isTime: a clock, with what looks like a date before it or not.
func isTime(text []byte) bool {
	clock := len(text)
	for clock > 0 && (isDigit(text[clock-1]) || text[clock-1] == ':') {
		clock--
	}
	before := bytes.TrimSpace(text[:clock])
	return isClock(text[clock:]) && len(bytes.Trim(before, "0123456789-/. 年月日")) == 0
}

// isClock: h:mm or h:mm:ss.
func isClock(text []byte) bool {
	hour, rest, _ := bytes.Cut(text, []byte(":"))
	minute, second, hasSecond := bytes.Cut(rest, []byte(":"))
	h, ok := smallNumber(hour)
	return ok && len(hour) <= 2 && h <= 24 && isSixtieth(minute) && (!hasSecond || isSixtieth(second))
}

func isSixtieth(text []byte) bool {
	n, ok := smallNumber(text)
	return ok && len(text) == 2 && n < 60
}

// isDate: year, month and day that exist, with a clock behind them or not.
func isDate(text []byte) bool {
	for _, marks := range [...][3]string{{"-", "-", ""}, {"年", "月", "日"}, {"/", "/", ""}, {".", ".", ""}} {
		year, rest, ok := bytes.Cut(text, []byte(marks[0]))
		if !ok || len(year) != 4 {
			continue
		}
		month, rest, ok := bytes.Cut(rest, []byte(marks[1]))
		if !ok {
			return false
		}
		n := 0
		for n < len(rest) && n < 2 && isDigit(rest[n]) {
			n++
		}
		day := rest[:n]
		rest = bytes.TrimSpace(bytes.TrimPrefix(rest[n:], []byte(marks[2])))
		return isDay(year, month, day) && (len(rest) == 0 || isClock(rest))
	}
	return false
}

func isDay(year, month, day []byte) bool {
	y, okYear := smallNumber(year)
	m, okMonth := smallNumber(month)
	d, okDay := smallNumber(day)
	if !okYear || !okMonth || !okDay {
		return false
	}
	t := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
	return t.Year() == y && int(t.Month()) == m && t.Day() == d
}

// smallNumber reads one to four digits.
func smallNumber(text []byte) (n int, ok bool) {
	if len(text) > 4 || !allDigits(text) {
		return 0, false
	}
	for _, c := range text {
		n = n*10 + int(c-'0')
	}
	return n, true
}

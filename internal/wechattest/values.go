package wechattest

import (
	"bytes"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// valueRules are what the keywords of category templates may hold, by the letters of the keyword
// (/doc/service/api/notify/template/api_sendtemplatemessage, the same for subscription notifications).
// Keywords of old industry templates (first, keyword1, remark) have no rule.
var valueRules = map[string]func(string) bool{
	"thing":            atMost(20),
	"number":           isNumber,
	"letter":           both(atMost(32), every(isLetter)),
	"symbol":           both(atMost(5), every(isSymbol)),
	"character_string": both(atMost(32), every(isVisibleASCII)),
	"time":             isTime,
	"date":             isDate,
	"amount":           isAmount,
	"phone_number":     both(atMost(17), every(isPhone)),
	"car_number":       atMost(8),
	"name":             isName,
	"phrase":           both(atMost(5), every(isHan)),
}

func validValue(key string, value []byte, consts []string) bool {
	kind := strings.TrimRight(key, "0123456789")
	if kind == key { // without a number it is no keyword of a category
		return true
	}
	if kind == "const" {
		return len(consts) == 0 || slices.Contains(consts, string(value))
	}
	rule := valueRules[kind]
	return rule == nil || rule(string(bytes.TrimSpace(value)))
}

func atMost(n int) func(string) bool {
	return func(s string) bool { return len(s) <= n || utf8.RuneCountInString(s) <= n }
}

func every(is func(rune) bool) func(string) bool {
	return func(s string) bool { return strings.IndexFunc(s, func(r rune) bool { return !is(r) }) < 0 }
}

func both(a, b func(string) bool) func(string) bool {
	return func(s string) bool { return a(s) && b(s) }
}

func isLetter(r rune) bool       { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
func isDigit(r rune) bool        { return r >= '0' && r <= '9' }
func isVisibleASCII(r rune) bool { return r >= ' ' && r <= '~' }
func isHan(r rune) bool          { return unicode.Is(unicode.Han, r) }
func isPhone(r rune) bool        { return isDigit(r) || strings.ContainsRune("+-() ", r) }
func isSymbol(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsSpace(r)
}

// isNumber: up to 32 digits, decimals allowed.
func isNumber(s string) bool {
	whole, decimals, point := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	digits := every(isDigit)
	return len(s) <= 32 && whole != "" && digits(whole) && (!point || decimals != "" && digits(decimals))
}

// isAmount: one currency sign, up to 10 digits, decimals, a trailing 元.
func isAmount(s string) bool {
	for _, sign := range []string{"¥", "￥", "$", "€", "£"} {
		if rest, ok := strings.CutPrefix(s, sign); ok {
			s = rest
			break
		}
	}
	s = strings.TrimSuffix(s, "元")
	whole, _, _ := strings.Cut(s, ".")
	return len(whole) <= 10 && !strings.HasPrefix(s, "-") && isNumber(s)
}

// isName: up to 10 Chinese characters, or up to 20 letters.
func isName(s string) bool {
	if strings.ContainsFunc(s, isHan) {
		return utf8.RuneCountInString(s) <= 10
	}
	return utf8.RuneCountInString(s) <= 20
}

// isTime: 24-hour form with an optional date before it; ranges are joined with ~.
func isTime(s string) bool {
	return ranged(s, func(s string) bool {
		s = strings.TrimSpace(s)
		if rest, ok := cutDate(s); ok {
			s = strings.TrimLeft(rest, " T")
		}
		rest, ok := cutClock(s)
		return ok && rest == ""
	})
}

// isDate: year, month and day, with an optional time of day; ranges are joined with ~.
func isDate(s string) bool {
	return ranged(s, func(s string) bool {
		rest, ok := cutDate(strings.TrimSpace(s))
		if !ok {
			return false
		}
		if rest = strings.TrimLeft(rest, " T"); rest != "" {
			rest, ok = cutClock(rest)
		}
		return ok && rest == ""
	})
}

func ranged(s string, is func(string) bool) bool {
	from, to, two := strings.Cut(s, "~")
	return is(from) && (!two || is(to))
}

// cutDate takes 2026-11-22, 2026/11/22, 2026.11.22 or 2026年11月22日 from the front.
func cutDate(s string) (rest string, ok bool) {
	_, s, ok = cutNumber(s, 4, 4, 9999)
	if !ok {
		return "", false
	}
	for _, separators := range [][2]string{{"-", "-"}, {"/", "/"}, {".", "."}, {"年", "月"}} {
		rest, ok := strings.CutPrefix(s, separators[0])
		if !ok {
			continue
		}
		month, rest, ok := cutNumber(rest, 1, 2, 12)
		if !ok || month == 0 {
			return "", false
		}
		if rest, ok = strings.CutPrefix(rest, separators[1]); !ok {
			return "", false
		}
		date, rest, ok := cutNumber(rest, 1, 2, 31)
		if !ok || date == 0 {
			return "", false
		}
		return strings.TrimPrefix(rest, "日"), true
	}
	return "", false
}

// cutClock takes 15:04, 15:04:05 or 15时04分 from the front.
func cutClock(s string) (rest string, ok bool) {
	if _, s, ok = cutNumber(s, 1, 2, 24); !ok {
		return "", false
	}
	if after, ok := strings.CutPrefix(s, "时"); ok {
		if _, s, ok = cutNumber(after, 1, 2, 59); !ok {
			return after, true
		}
		return strings.TrimPrefix(s, "分"), true
	}
	if s, ok = strings.CutPrefix(s, ":"); !ok {
		return "", false
	}
	if _, s, ok = cutNumber(s, 2, 2, 59); !ok {
		return "", false
	}
	if after, ok := strings.CutPrefix(s, ":"); ok {
		_, s, ok = cutNumber(after, 2, 2, 60)
		return s, ok
	}
	return s, true
}

// cutNumber takes a number of low to high digits, not above limit, from the front.
func cutNumber(s string, low, high, limit int) (n int, rest string, ok bool) {
	i := 0
	for i < len(s) && i < high && isDigit(rune(s[i])) {
		n = n*10 + int(s[i]-'0')
		i++
	}
	return n, s[i:], i >= low && n <= limit
}

// cutAny cuts s around the first of the characters.
func cutAny(s, chars string) (before, after string, found bool) {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

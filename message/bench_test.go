package message

import (
	"testing"
	"time"
)

// A template message of 400 bytes, as a shop sends it.
const templateLine = `{"account":"shop","kind":"template","to":"oABCdefGHIjklMNOpqrSTUvwxYZ0","key":"order-1001-paid",` +
	`"template":{"template_id":"Xv3Q9m2pLrT8sKfWzYb1NcHdJgEuAoVi7x5R","url":"https://shop.example.com/o/1001",` +
	`"data":{"character_string1":{"value":"20261122-1001"},"amount2":{"value":"¥39.80"},` +
	`"thing3":{"value":"明前龙井茶叶礼盒"},"time4":{"value":"2026-11-22 10:00:00"}}},"labels":{"order":"1001"}}`

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func BenchmarkParse(b *testing.B) {
	line := []byte(templateLine)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(line); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseAndValidate(b *testing.B) {
	line := []byte(templateLine)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		m, err := Parse(line)
		if err != nil {
			b.Fatal(err)
		}
		m.Defaults(true)
		if err := m.Validate(noon); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	m, err := Parse([]byte(templateLine))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Hash()
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	m, err := Parse([]byte(templateLine))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = m.AppendJSON(buf[:0])
	}
}

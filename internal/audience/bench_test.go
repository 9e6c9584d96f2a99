package audience

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func BenchmarkCSV(b *testing.B) {
	benchmark(b, "openid,name,city\n", func(i int) string {
		return fmt.Sprintf("oABCdefGHIjklMNOpqrSTU%06d,陈小姐%d,上海市浦东新区\n", i, i)
	})
}

func BenchmarkQuotedCSV(b *testing.B) {
	benchmark(b, "openid,name,city\n", func(i int) string {
		return fmt.Sprintf("oABCdefGHIjklMNOpqrSTU%06d,\"陈小姐, %d\",\"上海市\"\n", i, i)
	})
}

func BenchmarkJSONLines(b *testing.B) {
	benchmark(b, "", func(i int) string {
		return fmt.Sprintf(`{"openid":"oABCdefGHIjklMNOpqrSTU%06d","name":"陈小姐","city":"上海市浦东新区"}`+"\n", i)
	})
}

// benchmark reads files of 100,000 rows.
func benchmark(b *testing.B, head string, row func(i int) string) {
	const rows = 100_000
	var text strings.Builder
	text.WriteString(head)
	for i := range rows {
		text.WriteString(row(i))
	}
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		r, err := Open("-", strings.NewReader(text.String()), Options{})
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for ; ; n++ {
			if _, err := r.Next(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
		if n != rows {
			b.Fatalf("%d rows, want %d", n, rows)
		}
	}
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
}

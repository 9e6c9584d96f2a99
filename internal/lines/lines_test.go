package lines

import (
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// endless is a line that has no end in sight.
type endless struct{ left int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), e.left)
	for i := range p[:n] {
		p[i] = 'x'
	}
	e.left -= n
	return int(n), nil
}

func TestALineWithoutEndIsRefusedInLittleMemory(t *testing.T) {
	const length = 256 << 20
	text := io.MultiReader(strings.NewReader("{\"n\":1}\n"), &endless{length}, strings.NewReader("\n{\"n\":2}\n"))
	r, err := NewReader(text, 4<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	var got []Line
	var b Slab
	for err == nil {
		err = r.fill(&b)
		got = append(got, b.Lines...)
	}
	if err != io.EOF || len(got) != 3 || got[0].TooLong || !got[1].TooLong || got[2].TooLong || got[2].Number != 3 {
		t.Fatalf("got %v and %+v, want the second of three too long", err, got)
	}
	if n := got[1].to - got[1].from; n != shownBytes || cap(b.text) > 16<<20 {
		t.Errorf("%d bytes are kept of it in %d, want %d", n, cap(b.text), shownBytes)
	}
}

func TestLinesAreCutAnywhere(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var want []string
		var text strings.Builder
		for range random.IntN(50) {
			l := strings.Repeat("y", random.IntN(40))
			want = append(want, l)
			text.WriteString(l + []string{"\n", "\r\n"}[random.IntN(2)])
		}
		r, err := NewReader(&pieces{strings.NewReader(text.String()), random}, 30, 1)
		if err != nil {
			t.Fatal(err)
		}
		var b Slab
		n := 0
		for err == nil {
			err = r.fill(&b)
			for _, l := range b.Lines {
				got := strings.TrimRight(string(b.At(l)), "\r\n")
				if want := want[l.Number-1]; got != want && !l.TooLong || l.TooLong != (len(want) > 30) {
					t.Fatalf("line %d: %q, too long %v; want %q", l.Number, got, l.TooLong, want)
				}
				n++
			}
		}
		for _, l := range want {
			if l != "" {
				n--
			}
		}
		if n != 0 {
			t.Fatalf("%d lines too many", n)
		}
	}
}

// pieces reads a few bytes at a time.
type pieces struct {
	r      io.Reader
	random *rand.Rand
}

func (p *pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), 1+p.random.IntN(20))]) }

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/hongyan-dispatch/hongyan/internal/lines"
)

// A bar shows progress to a person. The nil bar shows nothing.
type bar struct{ bar *progressbar.ProgressBar }

// newBar is a bar on stderr, if that is a terminal. It knows how long a regular file is.
func newBar(stderr io.Writer, file io.Reader, name string) *bar {
	if !isTerminal(stderr) {
		return nil
	}
	size := int64(-1)
	if f, ok := file.(*os.File); ok && lines.IsRegular(f) {
		if info, err := f.Stat(); err == nil {
			size = info.Size()
		}
	}
	return &bar{progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(stderr),
		progressbar.OptionSetDescription(name),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(),
	)}
}

// at shows how many bytes of the file are done, and how many lines were accepted.
func (b *bar) at(offset int64, accepted int) {
	if b == nil {
		return
	}
	b.bar.Describe(fmt.Sprintf("%d accepted", accepted))
	_ = b.bar.Set64(offset) // a bar that cannot be drawn is no trouble
}

func (b *bar) clear() {
	if b != nil {
		_ = b.bar.Clear()
	}
}

package main

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/hongyan-dispatch/hongyan/client"
)

// A verdict is what became of one line.
type verdict struct {
	duplicate bool
	err       error // nil: accepted
}

// refused says whether the line itself is to blame, and not a store.
func (v verdict) refused() bool {
	return v.err != nil && !errors.Is(v.err, errStore) &&
		!errors.Is(v.err, client.ErrUnavailable) && !errors.Is(v.err, client.ErrInDoubt)
}

// errStore is wrapped by errors of a store, after which there is no use in going on.
var errStore = errors.New("a store does not answer")

// A stream takes a file of lines through work, many slabs at once, and reports them in the order of the file.
type stream struct {
	lines   *lineReader
	workers int
	work    func(ctx context.Context, b *slab) []verdict // one for each line
	report  func(b *slab, verdicts []verdict) error
	ended   bool // the file came to its end
}

// A done slab waits for its turn to be reported.
type done struct {
	slab     *slab
	verdicts []verdict
}

// run ends with the file, at the first failure, or when ctx ends; what is under way then is brought to its end. The
// error is the reader's or the report's.
func (s *stream) run(ctx context.Context) error {
	stopping, stop := context.WithCancel(ctx)
	defer stop()
	todo, finished := make(chan *slab), make(chan done)
	free := make(chan *slab, 2*s.workers) // all the slabs there are: reading waits for reporting
	for range cap(free) {
		free <- &slab{}
	}
	readErr := make(chan error, 1)
	go func() { // nobody waits for the reader: it may hang on a terminal or a pipe
		readErr <- s.read(stopping, free, todo)
		close(todo)
	}()

	var workers sync.WaitGroup
	for range s.workers {
		workers.Go(func() {
			for b := range each(stopping, todo) {
				verdicts := s.work(context.WithoutCancel(ctx), b)
				for _, v := range verdicts {
					if v.err != nil && !v.refused() {
						stop()
					}
				}
				finished <- done{b, verdicts}
			}
		})
	}
	go func() {
		workers.Wait()
		close(finished)
	}()
	if err := s.inOrder(finished, free, stop); err != nil {
		return err
	}
	select {
	case err := <-readErr:
		s.ended = errors.Is(err, io.EOF)
		if s.ended || errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	default:
		return nil // it was left behind
	}
}

// read fills slabs until the end of the file, which is io.EOF.
func (s *stream) read(ctx context.Context, free <-chan *slab, todo chan<- *slab) error {
	for n := 0; ; n++ {
		var b *slab
		select {
		case b = <-free:
		case <-ctx.Done():
			return context.Canceled
		}
		b.number = n
		err := s.lines.fill(b)
		select {
		case todo <- b:
		case <-ctx.Done():
			return context.Canceled
		}
		if err != nil {
			return err
		}
	}
}

// each yields slabs until there are no more, or ctx ends.
func each(ctx context.Context, todo <-chan *slab) func(func(*slab) bool) {
	return func(yield func(*slab) bool) {
		for {
			select {
			case <-ctx.Done():
				return
			case b, ok := <-todo:
				if !ok || !yield(b) {
					return
				}
			}
		}
	}
}

// inOrder reports finished slabs in the order of the file. After an error it only waits for the workers.
func (s *stream) inOrder(finished <-chan done, free chan<- *slab, stop func()) (err error) {
	early := map[int]done{}
	next := 0
	for d := range finished {
		early[d.slab.number] = d
		for {
			d, ok := early[next]
			if !ok {
				break
			}
			delete(early, next)
			next++
			if err == nil {
				if err = s.report(d.slab, d.verdicts); err != nil {
					stop()
				}
			}
			free <- d.slab
		}
	}
	return err
}

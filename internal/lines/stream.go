package lines

import (
	"context"
	"errors"
	"io"
	"sync"
)

// A Stream takes lines through work, many slabs at once, and reports them in their order. V is what becomes of a line.
type Stream[V any] struct {
	Lines   *Reader
	Workers int
	Work    func(ctx context.Context, b *Slab) []V // one for each line
	Stops   func(V) bool                           // after such a verdict nothing more is begun
	Report  func(b *Slab, verdicts []V) error
	Bytes   int  // bounds the text in hand, or else to one slab; 0: as much as the slabs hold
	Ended   bool // after Run: the stream came to its end
}

// A done slab waits for its turn to be reported.
type done[V any] struct {
	slab     *Slab
	verdicts []V
}

// Run ends with the stream, at the first verdict that stops it, or when ctx ends; what is under way then is brought to
// its end. The error is the reader's or the report's.
func (s *Stream[V]) Run(ctx context.Context) error {
	stopping, stop := context.WithCancel(ctx)
	defer stop()
	todo, finished := make(chan *Slab), make(chan done[V])
	free := make(chan *Slab, 2*s.Workers) // all the slabs there are: reading waits for reporting
	for range cap(free) {
		free <- &Slab{}
	}
	readErr := make(chan error, 1)
	go func() { // nobody waits for the reader: it may hang on a terminal or a pipe
		readErr <- s.read(stopping, free, todo)
		close(todo)
	}()

	var workers sync.WaitGroup
	for range s.Workers {
		workers.Go(func() {
			for b := range each(stopping, todo) {
				verdicts := s.Work(context.WithoutCancel(ctx), b)
				for _, v := range verdicts {
					if s.Stops(v) {
						stop()
					}
				}
				finished <- done[V]{b, verdicts}
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
		s.Ended = errors.Is(err, io.EOF)
		if s.Ended || errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	default:
		return nil // it was left behind
	}
}

// read fills slabs until the end of the stream, which is io.EOF.
func (s *Stream[V]) read(ctx context.Context, free <-chan *Slab, todo chan<- *Slab) error {
	var idle []*Slab // came back
	held := 0        // bytes of those that did not
	for n := 0; ; n++ {
		for len(idle) == 0 || s.Bytes > 0 && held > 0 && held+slabBytes+s.Lines.limit > s.Bytes {
			select {
			case b := <-free:
				held -= b.held
				b.held = 0
				idle = append(idle, b)
			case <-ctx.Done():
				return context.Canceled
			}
		}
		b := idle[len(idle)-1]
		idle = idle[:len(idle)-1]
		b.number = n
		err := s.Lines.fill(b)
		b.held = cap(b.text)
		held += b.held
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
func each(ctx context.Context, todo <-chan *Slab) func(func(*Slab) bool) {
	return func(yield func(*Slab) bool) {
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

// inOrder reports finished slabs in the order of the stream. After an error it only waits for the workers.
func (s *Stream[V]) inOrder(finished <-chan done[V], free chan<- *Slab, stop func()) (err error) {
	early := map[int]done[V]{}
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
				if err = s.Report(d.slab, d.verdicts); err != nil {
					stop()
				}
			}
			free <- d.slab
		}
	}
	return err
}

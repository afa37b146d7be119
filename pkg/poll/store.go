package poll

// store is a fixed number of records: polling allocates nothing, and a writer
// that stands still cannot make it use more memory. Any goroutine may take
// and put.
type store[T any] chan *T

func newStore[T any](n int) store[T] {
	s := make(store[T], n)
	records := make([]T, n)
	for i := range records {
		s <- &records[i]
	}
	return s
}

// take is a record, or nil if all are out.
func (s store[T]) take() *T {
	select {
	case r := <-s:
		return r
	default:
		return nil
	}
}

// wait is a record as soon as there is one, or nil once gone is closed.
func (s store[T]) wait(gone <-chan struct{}) *T {
	select {
	case r := <-s:
		return r
	case <-gone:
		return nil
	}
}

func (s store[T]) put(r *T) { s <- r }

package transformer

// Speed is what a GPU does at best, as measured on it.
type Speed struct {
	Copy   float64 // bytes read and written in copying from memory to memory, B/s
	Matmul float64 // operations of a product of large matrices of 16 bit numbers, 1/s
}

// Speed measures the model's GPU, in about a tenth of a second. It takes 1 GiB
// of memory meanwhile; where there is none, the error has cuda.ErrOutOfMemory.
func (m *Model) Speed() (s Speed, err error) {
	err = m.machine.Do(func() error {
		s, err = m.machine.measure()
		return err
	})
	return s, err
}

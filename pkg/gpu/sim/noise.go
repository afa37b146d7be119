package sim

import "math"

// dice give each question about a GPU one answer, however often and in
// whatever order the questions are asked: chance is a function of the seed, the
// GPU, what it is for, and an index in time.
type dice uint64

// What chance is for.
const (
	forDriver = iota
	forInstant
	forAverage
	forFloor
	forSampleError
	forDriverError
	forCounterError
	forGPMError
	forStall
	forStallTime
	forCounterCall
	forWindow
	forPhase
	forUUID
	forProcessError
)

func newDice(seed uint64, gpu int) dice { return dice(mix(mix(seed) + uint64(gpu))) }

// mix is the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (d dice) bits(what, index int64) uint64 {
	return mix(mix(uint64(d)+uint64(what)) ^ uint64(index))
}

// uniform is a number from 0 to 1, exclusive.
func (d dice) uniform(what, index int64) float64 {
	return float64(d.bits(what, index)>>11) / (1 << 53)
}

// normal is a number of mean 0 and standard deviation 1, within ±3.5: the sum
// of four uniform ones.
func (d dice) normal(what, index int64) float64 {
	b := d.bits(what, index)
	sum := 0.0
	for shift := 0; shift < 64; shift += 16 {
		sum += float64(b>>shift&0xffff) / 0xffff
	}
	return (sum - 2) * math.Sqrt(3)
}

// hit says whether something of that probability happens.
func (d dice) hit(what, index int64, probability float64) bool {
	return probability > 0 && d.uniform(what, index) < probability
}

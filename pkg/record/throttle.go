package record

// Throttles are the nvmlClocksEventReason bits of [Sample].ThrottleReasons that
// slow a GPU down, with their names. Idle (0x1), application clocks (0x2), sync
// boost (0x10) and display clocks (0x100) are settings, not throttling.
var Throttles = [...]struct {
	Bit  uint64
	Name string
}{
	{0x4, "software power cap"},
	{0x8, "hardware slowdown"},
	{0x20, "software thermal slowdown"},
	{0x40, "hardware thermal slowdown"},
	{0x80, "power brake"},
}

// Throttling names what slows a GPU down among the bits.
func Throttling(bits uint64) []string {
	var names []string
	for _, t := range Throttles {
		if bits&t.Bit != 0 {
			names = append(names, t.Name)
		}
	}
	return names
}

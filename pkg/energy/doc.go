// Package energy turns power readings into the joules of events, and says how
// far each number can be trusted.
//
// An [Attributor] joins a trace with events in one pass and constant memory.
// For each GPU and channel it draws the energy as a curve over time; an event's
// energy is the difference of the curve at its two ends, and what is known of
// the readings between them decides its quality and tier ([Rules]).
//
// The methods differ in which channel draws the curve and how its edges are
// taken. TR122 is the report's own arithmetic, for reprocessing its archives:
// the trapezoid over the samples inside the event, with nothing at its edges.
// The others interpolate at the edges. None of them models the sensor's lag or
// window: an averaged channel is integrated as it reads.
package energy

// Package energy turns power readings into the joules of events, and says how
// far each number can be trusted.
//
// An [Attributor] joins a trace with events in one pass and constant memory.
//
// By [Auto] the power round the edges of events is found that explains the
// readings of all channels, each by how it follows the power (package sensor).
// An event's energy has a 95 % interval, and its tier follows from that. Single
// events that tell little are drawn towards their kind. It is the only method
// that knows of a sensor's delay and window, and finds the joules of events that
// are over before a sensor shows them.
//
// The other methods draw the energy of one channel as a curve over time; an
// event's energy is the difference of the curve at its two ends, and the spacing
// of the readings between them decides its quality and tier ([Rules]). TR122 is
// the report's own arithmetic, for reprocessing its archives: the trapezoid over
// the samples inside the event, with nothing at its edges. The others
// interpolate at the edges; an averaged channel is integrated as it reads.
package energy

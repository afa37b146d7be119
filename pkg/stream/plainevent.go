package stream

import "joulepipe/pkg/record"

// A plainEvent is the shape of lines of events, as a plain is of samples: an event
// is read from one straight into the batch.
type plainEvent struct {
	names  *forms
	places []eventPlace
	tail   fixed // with the end of line
}

// eventPlace is a value of an event, and the text before it. One of the three
// functions says where it goes.
type eventPlace struct {
	text  fixed
	name  func(*record.Event) *string
	time  func(*record.Event) *int64
	count func(*record.Event) *record.Opt[int64]
	own   bool // the name of this event alone
	last  widths
}

// eventPlaces are the fields that a plainEvent may have.
var eventPlaces = map[string]eventPlace{
	"event_id":      {name: func(e *record.Event) *string { return &e.ID }, own: true},
	"phase":         {name: func(e *record.Event) *string { return &e.Phase }},
	"request_id":    {name: func(e *record.Event) *string { return &e.RequestID }},
	"model":         {name: func(e *record.Event) *string { return &e.Model }},
	"t_start_ns":    {time: func(e *record.Event) *int64 { return &e.StartNS }},
	"t_end_ns":      {time: func(e *record.Event) *int64 { return &e.EndNS }},
	"batch_size":    {count: func(e *record.Event) *record.Opt[int64] { return &e.BatchSize }},
	"input_tokens":  {count: func(e *record.Event) *record.Opt[int64] { return &e.InputTokens }},
	"output_tokens": {count: func(e *record.Event) *record.Opt[int64] { return &e.OutputTokens }},
}

// newPlainEvent is the shape of an event's line; nil if there is none. The pairs
// are its members, end the bytes that it ended with.
func newPlainEvent(names *forms, line []byte, pairs []pair, end string) lineShape {
	s := &plainEvent{names: names}
	tail, seen, ok := outline(line, pairs, end, func(p *pair, text fixed) (own, ok bool) {
		place, ok := eventPlaces[string(p.name)]
		place.text = text
		s.places = append(s.places, place)
		return true, ok
	})
	if !ok || !seen["t_start_ns"] || !seen["t_end_ns"] {
		return nil
	}
	s.tail = tail
	return s
}

func (s *plainEvent) read(b []byte, p, end int, to *filling) (next int, lines int64) {
	for p < end {
		e := to.event()
		q := s.event(e, b, p)
		if q < 0 {
			to.events--
			break
		}
		to.Others = append(to.Others, e)
		to.lines = append(to.lines, 0) // nobody asks for that of an event
		to.count(Run{N: 1})
		p = q
		lines++
	}
	return p, lines
}

// event reads the line at b[p:] and says where the next begins, negative where it is
// of another shape or no sound event.
func (s *plainEvent) event(e *record.Event, b []byte, p int) int {
	*e = record.Event{}
	for i := range s.places {
		at := &s.places[i]
		if !at.text.at(b, p) {
			return -1
		}
		p += len(at.text.text)
		switch {
		case at.time != nil:
			*at.time(e), p = wholeAt(b, p, &at.last)
		case at.count != nil:
			n := at.count(e)
			n.OK = true
			n.V, p = wholeAt(b, p, &at.last)
		default:
			var name []byte
			if name, p = scanString(b, p); p < 0 {
				return -1
			}
			if at.own {
				*at.name(e) = string(name)
			} else {
				*at.name(e) = s.names.intern(name)
			}
		}
		if p < 0 {
			return -1
		}
	}
	if !s.tail.at(b, p) || !goesOn(e.StartNS, e.EndNS) {
		return -1
	}
	return p + len(s.tail.text)
}

// Package replay streams an archived trace again, as it came when it was
// polled or faster. Nothing is measured anew: every record keeps its stamps,
// the header and the end among them, so that what reads the stream comes to the
// results that it came to then.
package replay

import (
	"context"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// flushAfter is the longest time that a record waits in the writer's buffer.
const flushAfter = int64(200 * time.Millisecond)

// Play hands the records of r on to w in their order. Speed 1 keeps the pace at
// which they were recorded, 2 halves the time, and 0 does not wait at all. A
// record is due when as much time has passed since the first record after the
// last header as their stamps lie apart; one with an earlier stamp than those
// before it (the driver's power buffer is read late) goes on at once.
//
// Play ends with the reader's error, the writer's, or ctx's.
func Play(ctx context.Context, r stream.Reader, c clock.Clock, speed float64, w stream.Writer) error {
	var first, started int64 // the stamp of the first record, and when it was played
	anchored := false
	flushed := c.Now()
	for r.Scan() {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec := r.Record()
		if rec.Kind() == record.KindHeader {
			anchored = false // another run, perhaps of another boot
		}
		if at, ok := rec.When(); ok && speed > 0 {
			if !anchored {
				anchored, first, started = true, at, c.Now()
			}
			due := started + int64(float64(at-first)/speed)
			if due > c.Now() {
				if due-flushed > flushAfter {
					if err := w.Flush(); err != nil {
						return err
					}
					flushed = c.Now()
				}
				if err := clock.Sleep(ctx, c, due); err != nil {
					return err
				}
			}
		}
		if err := w.Write(rec); err != nil {
			return err
		}
	}
	return r.Err()
}

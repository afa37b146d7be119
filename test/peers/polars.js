// usage: polars.js TRACE EVENTS OUTPUT
//
// The energy of each event by polars: a running sum of the trapezoids, looked up
// by two as-of joins. Lazy, on the streaming engine, which is the faster here.
const pl = require("nodejs-polars");
const [, , trace, events, output] = process.argv;

const samples = trace.endsWith(".parquet") ? pl.scanParquet(trace)
  : trace.endsWith(".csv") ? pl.scanCSV(trace)
  : pl.scanJson(trace);
const t = pl.col("t_ns");
const w = pl.col("power_w");
const piece = w.plus(w.shift(1)).div(2).mul(t.minus(t.shift(1)).div(1e9));
const curve = samples.select(t, piece.fillNull(0).cumSum().alias("joules"));

pl.scanJson(events)
  .joinAsof(curve.select(t, t.alias("first"), pl.col("joules").alias("before")),
    { leftOn: "t_start_ns", rightOn: "t_ns", strategy: "forward" })
  .sort("t_end_ns")
  .joinAsof(curve.select(t, t.alias("last"), pl.col("joules").alias("after")),
    { leftOn: "t_end_ns", rightOn: "t_ns", strategy: "backward" })
  .select("event_id", pl.when(pl.col("first").lt(pl.col("last")))
    .then(pl.col("after").minus(pl.col("before"))).otherwise(pl.lit(null)).alias("energy_joules"))
  .collectSync({ engine: "streaming" })
  .writeJSON(output, { format: "lines" });

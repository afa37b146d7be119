// usage: tables.js DIR
//
// Writes DIR/trace.parquet and DIR/trace.arrow, the same table as DIR/trace.csv,
// both by polars with its defaults, in row groups and batches of 2^17 samples.
const pl = require("nodejs-polars");
const dir = process.argv[2];

pl.scanCSV(`${dir}/trace.csv`).sinkParquet(`${dir}/trace.parquet`, { rowGroupSize: 1 << 17 }).collectSync();
pl.readParquet(`${dir}/trace.parquet`).writeIPCStream(`${dir}/trace.arrow`);

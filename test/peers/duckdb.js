// usage: duckdb.js TRACE EVENTS OUTPUT
//
// The energy of each event by DuckDB: a running sum of the trapezoids in the
// order of the file, which streams, looked up by two as-of joins.
const { DuckDBInstance } = require("@duckdb/node-api");
const [, , trace, events, output] = process.argv;

const json = (file, columns) => `read_json('${file}', format = 'newline_delimited', columns = ${columns})`;
const columns = "{t_ns: 'BIGINT', power_w: 'DOUBLE', temp_c: 'BIGINT'}";
const samples = trace.endsWith(".parquet") ? `read_parquet('${trace}')`
  : trace.endsWith(".csv") ? `read_csv('${trace}', header = true, columns = ${columns})`
  : json(trace, columns);

async function main() {
  const db = await (await DuckDBInstance.create()).connect();
  // The file of events is taken for some 40 rows, and below 64 the plan has a
  // nested loop over all pairs (EXPLAIN shows it), which does not end in minutes.
  await db.run("SET asof_loop_join_threshold = 0");
  await db.run(`
    COPY (
      WITH pieces AS (
        SELECT t_ns, (power_w + lag(power_w) OVER ()) / 2 * ((t_ns - lag(t_ns) OVER ()) / 1e9) AS joules
        FROM ${samples}
      ), curve AS MATERIALIZED (
        SELECT t_ns, coalesce(sum(joules) OVER (ROWS UNBOUNDED PRECEDING), 0) AS joules FROM pieces
      )
      SELECT event_id, CASE WHEN first.t_ns < last.t_ns THEN last.joules - first.joules END AS energy_joules
      FROM ${json(events, "{event_id: 'VARCHAR', t_start_ns: 'BIGINT', t_end_ns: 'BIGINT'}")}
      ASOF LEFT JOIN curve AS first ON t_start_ns <= first.t_ns
      ASOF LEFT JOIN curve AS last ON t_end_ns >= last.t_ns
    ) TO '${output}' (FORMAT json)`);
}

main();

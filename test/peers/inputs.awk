# usage: awk -v dir=DIR -v samples=N -v events=N -f inputs.awk
#
# Writes the inputs of the comparison into DIR:
#
#   trace.csv, trace.ndjson    t_ns, power_w and temp_c, N samples 100 ms apart
#   events.csv, events.ndjson  event_id, phase, t_start_ns and t_end_ns
#   channels.ndjson            N records as nvpoll writes them: in a second 50
#                              of the driver's buffer, 10 samples, 1 counter
#   channels.events.ndjson     as many events over that
#
# Events come in the order of their starts and last from 0.2 to 1.4 of the time
# between two starts, so that a third of them overlap the next. One in a thousand
# is too short to have two samples, and has no energy.

function seconds(i) { return i / 10 + (i * 7919) % 90000 / 1e9 }

function event(i, gap,  from, to) {
  from = i * gap * 1e9 + 3e7
  to = from + (i % 1000 == 7 ? 5e7 : (0.2 + (i * 37 % 120) / 100) * gap * 1e9)
  return sprintf("%s\"event_id\":\"e%d\",\"phase\":\"%s\",\"t_start_ns\":%.0f,\"t_end_ns\":%.0f}", kind, i, i % 2 ? "decode" : "prefill", from, to)
}

function power(s) { return 300 + 100 * sin(s / 4) }
function energy(s) { return 300 * s + 400 * (1 - cos(s / 4)) } # joules since 0

BEGIN {
  csv = dir "/trace.csv"
  ndjson = dir "/trace.ndjson"
  print "t_ns,power_w,temp_c" >csv
  for (i = 0; i < samples; i++) {
    t = sprintf("%.0f", seconds(i) * 1e9)
    w = sprintf("%.3f", power(seconds(i)))
    c = 50 + i % 9
    print t "," w "," c >csv
    print "{\"t_ns\":" t ",\"power_w\":" w ",\"temp_c\":" c "}" >ndjson
  }

  csv = dir "/events.csv"
  ndjson = dir "/events.ndjson"
  kind = "{"
  print "event_id,phase,t_start_ns,t_end_ns" >csv
  for (i = 0; i < events; i++) {
    line = event(i, samples / events / 10)
    print line >ndjson
    gsub(/[{}"]|[a-z_]+":/, "", line)
    print line >csv
  }

  out = dir "/channels.ndjson"
  print "{\"record\":\"header\",\"schema\":\"joulepipe/1\",\"tool\":\"nvpoll\",\"t_ns\":0,\"unix_ns\":0,\"period_ns\":100000000,\"gpus\":[{\"gpu\":0,\"name\":\"NVIDIA H200\"}]}" >out
  count = 0
  for (k = 0; count < samples; k++) { # every 20 ms
    s = k / 50
    printf "{\"record\":\"power\",\"t_ns\":%.0f,\"gpu\":0,\"power_w\":%.3f}\n", s * 1e9, power(s) >out
    count++
    if (k % 5 == 0) {
      averaged = s < 1 ? power(s) : energy(s) - energy(s - 1)
      printf "{\"record\":\"sample\",\"t_ns\":%.0f,\"gpu\":0,\"tick\":%d,\"power_w\":%.3f,\"power_instant_w\":%.3f,\"power_average_w\":%.3f,\"temp_c\":%d,\"read_ok\":true}\n", s * 1e9 + 50000, k / 5, averaged, power(s), averaged, 50 + k % 9 >out
      count++
    }
    if (k % 50 == 0) {
      printf "{\"record\":\"counter\",\"t_before_ns\":%.0f,\"t_ns\":%.0f,\"gpu\":0,\"energy_mj\":%.0f}\n", s * 1e9 + 60000, s * 1e9 + 90000, energy(s) * 1000 >out
      count++
    }
  }
  printf "{\"record\":\"end\",\"records\":%d}\n", count >out

  ndjson = dir "/channels.events.ndjson"
  kind = "{\"record\":\"event\","
  for (i = 0; i < events; i++) print event(i, s / events) >ndjson
}

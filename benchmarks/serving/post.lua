-- Posts the lines of a file, one after the other, and prints what came of it as a line of JSON.
local requests, last = {}, 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    table.insert(requests, wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, line))
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary, latency)
  local seconds, errors = summary.duration / 1e6, summary.errors
  print(string.format(
    '{"requests": %d, "rps": %.3f, "p50_ms": %.4f, "p99_ms": %.4f, "refused": %d, "broken": %d}',
    summary.requests, summary.requests / seconds, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end

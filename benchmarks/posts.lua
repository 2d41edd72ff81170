-- The wrk script of benchmarks/load.py: sends each body of a file once, in turn, and prints one line of JSON at the end.
-- Arguments after `--`: path, bearer token, file of bodies (one per line). It needs one thread.

local bodies, head = {}, ""
local sent = 0

function init(arguments)
  head = "POST " .. arguments[1] .. " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" ..
    "Authorization: Bearer " .. arguments[2] .. "\r\nContent-Length: "
  for body in io.lines(arguments[3]) do bodies[#bodies + 1] = body end
end

function request()
  sent = sent + 1
  local body = bodies[(sent - 1) % #bodies + 1]
  return head .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"waits":{"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f}}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end

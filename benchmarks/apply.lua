-- The wrk script of benchmarks/load.py: sends each application for a new user, and prints one line of JSON at the end.
-- Arguments after `--`: path, prefix of the user ids, file of bearer tokens (one per line; a single one serves all users).
-- With several bearers the user ids are the line numbers, which are the tokens' subjects, and the users repeat in turn.

local bearers, heads = {}, {}
local path, prefix
local sent, threads = 0, 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init(arguments)
  path, prefix = arguments[1], arguments[2]
  if number > 1 then prefix = prefix .. number .. "-" end
  for bearer in io.lines(arguments[3]) do bearers[#bearers + 1] = bearer end
  for number, bearer in ipairs(bearers) do
    heads[number] = "POST " .. path .. " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" ..
      "Authorization: Bearer " .. bearer .. "\r\nContent-Length: "
  end
end

function request()
  sent = sent + 1
  local line = (sent - 1) % #heads + 1
  local body = '{"user_id":"' .. (#heads > 1 and line or prefix .. sent) .. '"}'
  return heads[line] .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"waits":{"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f}}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end

-- wrk script: POSTs chat completions, one body per line of a file in turn, and prints what happened as one JSON line.
--   wrk ... -s post.lua URL -- BODIES_FILE KEY
local requests, turn = {}, 0

function init(args)
  local headers = { ["content-type"] = "application/json", ["authorization"] = "Bearer " .. args[2] }
  for body in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\nwrk-result {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"not_ok":%d,"socket_errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end

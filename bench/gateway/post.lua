-- For wrk: a chat completion, again and again. Arguments: headers as `name=value`. What was measured is printed as one
-- JSON object on the last line.
wrk.method = "POST"
wrk.body = '{"model":"bench","max_tokens":64,"messages":[{"role":"user","content":"A short question, as long as such questions are?"}]}'
wrk.headers["Content-Type"] = "application/json"

function init(args)
  for _, argument in ipairs(args) do
    local name, value = argument:match("^([^=]+)=(.*)$")
    wrk.headers[name] = value
  end
end

function done(summary, latency, requests)
  local wrong = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d,"wrong":%d}\n', summary.requests, summary.duration / 1e6,
    latency:percentile(50), latency:percentile(99),
    wrong.connect + wrong.read + wrong.write + wrong.status + wrong.timeout))
end

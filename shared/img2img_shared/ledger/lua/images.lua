-- The state of images start, start + 1, ... of a job: {state, attempt, worker or reason}.
local tenant, id, start, count = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local job = owned(tenant, id)
if not job then return false end
local last = math.min(start + count, job.n) - 1
if last < start then return {} end
local indexes = {}
for index = start, last do indexes[#indexes + 1] = index end
local running = redis.call('HMGET', job_key(id, 'running'), unpack(indexes))
local failed = redis.call('HMGET', job_key(id, 'failed'), unpack(indexes))
local attempts = redis.call('HMGET', job_key(id, 'attempts'), unpack(indexes))
local first = math.floor(start / 8)
local bits = redis.call('GETRANGE', job_key(id, 'done'), first, math.floor(last / 8))
local answers = {}
for i, index in ipairs(indexes) do
  local byte = string.byte(bits, math.floor(index / 8) - first + 1) or 0
  local done = bit.band(byte, bit.rshift(128, index % 8)) ~= 0
  local attempt = tonumber(attempts[i] or '0')
  if done then
    answers[i] = {'done', math.max(attempt, 1), ''}
  elseif running[i] then
    local current, worker = string.match(running[i], '^(%d+) (.*)$')
    answers[i] = {'running', tonumber(current), worker}
  elseif failed[i] then
    answers[i] = {'failed', attempt, failed[i]}
  else
    answers[i] = {job.cancelled and 'cancelled' or 'pending', attempt, ''}
  end
end
return answers

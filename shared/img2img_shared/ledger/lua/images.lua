-- The state of images start, start + 1, ... of a job: {state, attempt, worker or reason}.
local tenant, job, start, count = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if not owned(tenant, job) then return false end
local c = counts(job)
local last = math.min(start + count, c.n) - 1
if last < start then return {} end
local indexes = {}
for index = start, last do indexes[#indexes + 1] = index end
local running = redis.call('HMGET', job_key(job, 'running'), unpack(indexes))
local failed = redis.call('HMGET', job_key(job, 'failed'), unpack(indexes))
local attempts = redis.call('HMGET', job_key(job, 'attempts'), unpack(indexes))
local first = math.floor(start / 8)
local bits = redis.call('GETRANGE', job_key(job, 'done'), first, math.floor(last / 8))
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
    answers[i] = {c.cancelled and 'cancelled' or 'pending', attempt, ''}
  end
end
return answers
